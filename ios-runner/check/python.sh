#!/usr/bin/env bash
# Drives the runner from Python, as an app would from Swift: builds the library, writes the bindings, runs the tests.
#
# Needs Python 3.9 or later, and nothing beside it. Arguments are handed to unittest: `-k cancel`, say.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
place=$target/ios-runner/python
library=libsora_ios_runner.so
if [ "$(uname)" = Darwin ]; then library=libsora_ios_runner.dylib; fi

# The whole workspace, so that dependencies have the features that tests build them with, and are there already.
cargo build --locked --workspace --features sora-ios-runner/bindgen-cli
mkdir -p "$place"
"$target/debug/uniffi-bindgen" generate "$target/debug/$library" \
    --language python --no-format --out-dir "$place"
# In place of the old file, not into it: somebody may still run that.
install -m 755 "$target/debug/$library" "$place/"
PYTHONPATH=$place python3 -W error::RuntimeWarning -m unittest discover -s ios-runner/tests/python -v "$@"
