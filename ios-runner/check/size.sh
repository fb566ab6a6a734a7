#!/usr/bin/env bash
# How large a static library is: as it is made, and without symbols that nobody outside needs, as it goes into an app before what nobody
# calls is left out.
set -euo pipefail
library=$1
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
tool=${STRIP:-$(command -v llvm-strip llvm-strip-19 llvm-strip-16 llvm-strip-14 2>/dev/null | head -n 1 || true)}
if [ -z "$tool" ] && [ "$(uname)" = Darwin ]; then tool=strip; fi
mebibytes() { echo "$(($(wc -c <"$1") * 10 / 1048576))" | sed 's/\(.\)$/.\1 MiB/'; }
echo "$(basename "$library"): $(mebibytes "$library") as made"
if [ -n "$tool" ]; then
    # A report, for which no build shall fail: not every version of the tool reads every object.
    if "$tool" -S -x -o "$stripped" "$library"; then
        echo "$(basename "$library"): $(mebibytes "$stripped") stripped"
    else
        echo "size.sh: $tool cannot strip it, so the stripped size is not known" >&2
    fi
else
    echo "size.sh: no llvm-strip here, so the stripped size is not known" >&2
fi
