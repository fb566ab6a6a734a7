#!/usr/bin/env bash
# Type-checks the runner with the whole graph and Metal for iPhones, on Linux, without a Mac and without Apple's SDK.
#
#   metal.sh                 type check for a device
#   metal.sh build           also makes the release static library (Mach-O, arm64) and tells its size
#   IOS_TARGETS="aarch64-apple-ios aarch64-apple-ios-sim" metal.sh       the simulator, too
#
# It needs a compiler whose standard library comes as source. On Debian: apt-get install rustc-web rust-web-src; elsewhere
# `rustup toolchain install nightly --component rust-src`, and IOS_RUSTC=$(rustup +nightly which rustc).
# Nothing is linked, so that symbols and frameworks are seen on a Mac only.
set -euo pipefail
cd "$(dirname "$0")/../.."

rustc=${IOS_RUSTC:-/usr/bin/rustc}
source=$("$rustc" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library
if [ ! -f "$source/Cargo.lock" ]; then
    echo "metal.sh: $rustc has no source of its standard library: apt-get install rustc-web rust-web-src" >&2
    exit 2
fi

# A folder of its own: artefacts of another compiler must not get among those of the usual one.
export RUSTC=$rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=${IOS_TARGET_DIR:-$PWD/target/ios-check}
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 IPHONEOS_DEPLOYMENT_TARGET=18.0
unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

for target in ${IOS_TARGETS:-aarch64-apple-ios}; do
    common=(--locked -Zbuild-std=std,panic_abort --target "$target" -p sora-ios-runner --lib --features metal)
    echo "== check for $target with $("$rustc" --version)"
    cargo check "${common[@]}"
    if [ "${1:-check}" = build ]; then
        echo "== release static library for $target"
        cargo rustc --release "${common[@]}" --crate-type staticlib
        library=$CARGO_TARGET_DIR/$target/release/libsora_ios_runner.a
        ios-runner/check/size.sh "$library"
    fi
done
