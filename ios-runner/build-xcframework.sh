#!/usr/bin/env bash
# Makes what the Swift package is built on, on a Mac: build/SoraRunnerFFI.xcframework for phones and the simulator, and the bindings
# in SoraKit/Sources/SoraKit/Generated.
#
# Needs Xcode 16 or later and rustup. RUST_VERSION picks another compiler than the pinned one.
set -euo pipefail
cd "$(dirname "$0")/.."

rust=${RUST_VERSION:-1.95.0}
# candle's Metal backend uses a class of iOS 18 without asking.
export IPHONEOS_DEPLOYMENT_TARGET=18.0
targets=(aarch64-apple-ios aarch64-apple-ios-sim)
out=ios-runner/build
generated=ios-runner/SoraKit/Sources/SoraKit/Generated

rustup toolchain install "$rust" --profile minimal --target "$(IFS=,; echo "${targets[*]}")"
cargo="rustup run $rust cargo"

rm -rf "$out"
mkdir -p "$out/headers/sora_ios_runnerFFI"
arguments=()
for target in "${targets[@]}"; do
    $cargo rustc --locked --release -p sora-ios-runner --lib --crate-type staticlib --features metal --target "$target"
    library=target/$target/release/libsora_ios_runner.a
    ios-runner/check/size.sh "$library"
    arguments+=(-library "$library" -headers "$out/headers")
done

# The bindings describe the library's surface, which is the same on every machine, so that of this one is read.
$cargo build --locked -p sora-ios-runner --features bindgen-cli
$cargo run --locked -p sora-ios-runner --features bindgen-cli --bin uniffi-bindgen -- \
    generate target/debug/libsora_ios_runner.dylib --config ios-runner/bindings.toml --language swift --no-format --out-dir "$out/bindings"
cp "$out/bindings/sora_ios_runner.swift" "$generated/"
# In a folder of its own, so that module maps of several frameworks do not meet.
cp "$out/bindings/sora_ios_runnerFFI.h" "$out/headers/sora_ios_runnerFFI/"
cp "$out/bindings/sora_ios_runnerFFI.modulemap" "$out/headers/sora_ios_runnerFFI/module.modulemap"

xcodebuild -create-xcframework "${arguments[@]}" -output "$out/SoraRunnerFFI.xcframework"
echo "made $out/SoraRunnerFFI.xcframework"
