#!/usr/bin/env bash
# Type-checks the runner with the whole graph and Metal for iPhones, on Linux, without a Mac and without Apple's SDK.
#
#   metal.sh                 type check for a device
#   metal.sh build           makes the release static library instead (Mach-O, arm64) and tells its size; this checks more, since
#                            generic code is looked at when it is generated
#   IOS_TARGETS="aarch64-apple-ios aarch64-apple-ios-sim" metal.sh       the simulator, too
#
# It needs a compiler whose standard library comes as source. On Debian: apt-get update, apt-get install rustc-web rust-web-src (1.96;
# older ones do not know the language); elsewhere `rustup toolchain install nightly --component rust-src`, and
# IOS_RUSTC=$(rustup +nightly which rustc). Nothing is linked, so that symbols and frameworks are seen on a Mac only.
set -euo pipefail
cd "$(dirname "$0")/../.."

rustc=${IOS_RUSTC:-/usr/bin/rustc}
source=$("$rustc" --print sysroot 2>/dev/null || true)/lib/rustlib/src/rust/library
if [ ! -f "$source/Cargo.lock" ]; then
    echo "metal.sh: $rustc is missing, or has no source of its standard library:" >&2
    echo "metal.sh: apt-get update && apt-get install rustc-web rust-web-src, or set IOS_RUSTC" >&2
    exit 77
fi
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
version=$("$rustc" --version | cut -d ' ' -f 2)
if [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" != "$oldest" ]; then
    echo "metal.sh: $rustc is $version, and $oldest is the oldest that will do: apt-get update, and install it anew" >&2
    exit 77
fi

# A folder of its own: artefacts of another compiler must not get among those of the usual one.
export RUSTC=$rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=${IOS_TARGET_DIR:-$PWD/target/ios-check}
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 IPHONEOS_DEPLOYMENT_TARGET=18.0
unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

for target in ${IOS_TARGETS:-aarch64-apple-ios}; do
    common=(--locked -Zbuild-std=std,panic_abort --target "$target" -p sora-ios-runner --lib --features metal)
    if [ "${1:-check}" = build ]; then
        echo "== release static library for $target with $("$rustc" --version)"
        cargo rustc --release "${common[@]}" --crate-type staticlib
        ios-runner/check/size.sh "$CARGO_TARGET_DIR/$target/release/libsora_ios_runner.a"
    else
        echo "== check for $target with $("$rustc" --version)"
        cargo check "${common[@]}"
    fi
done
