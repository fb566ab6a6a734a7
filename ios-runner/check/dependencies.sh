#!/usr/bin/env bash
# No C or C++ that needs Apple's SDK gets into the phone's dependency tree, and no web server, database or encoder does.
set -euo pipefail
cd "$(dirname "$0")/../.."

# What compiles C or C++ (or calls xcrun for it), and what a phone has no use for.
forbidden='aws-lc-rs|aws-lc-sys|bindgen|bzip2-sys|cc|cmake|cxx|libsqlite3-sys|libz-sys|lz4-sys|native-tls|nasm-rs|onig|onig_sys|openh264|openh264-sys2|openssl-sys|pkg-config|ring|rusqlite|rustls|zstd-sys|actix-files|actix-multipart|actix-web|actix-http|shiguredo_mp4|utoipa'

for target in aarch64-apple-ios aarch64-apple-ios-sim; do
    # Dependencies and what builds them, for the features that the app is built with.
    tree=$(cargo tree --locked -p sora-ios-runner --features metal --target "$target" --edges normal,build --prefix none)
    names=$(sed 's/ .*//' <<<"$tree" | sort -u)
    found=$(grep -Ex "$forbidden" <<<"$names" || true)
    if [ -n "$found" ]; then
        for name in $found; do
            echo "dependencies.sh: $name is in the tree for $target:" >&2
            cargo tree --locked -p sora-ios-runner --features metal --target "$target" --edges normal,build --invert "$name" >&2 || true
        done
        exit 1
    fi
    echo "$target: $(wc -l <<<"$names") crates, none of them forbidden"
done
