#!/usr/bin/env bash
# Swift without a Mac: a real Swift 6 compiler checks everything that needs no Apple framework, parses the rest, and builds a
# client that runs.
#
#   swift.sh check    type-checks bindings, the package's core, the app's logic, and their tests; parses views and what is Apple's
#   swift.sh client   also compiles the tests, and the client, against the runner's library, and runs them
#
# The compiler is `swiftc`, if there is one (swift.org has builds for most Linuxes). On Debian 12, `swift.sh install` unpacks Debian
# 13's into SWIFT_ROOT (2.5 GB), beside the system and without changing it; it runs there in a chroot, so as root, and on x86_64. Where
# there is none, where `install` could only install one that cannot run, and on a Mac, this ends with 77.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "$(uname)" = Darwin ]; then
    echo "swift.sh: a Mac has Apple's frameworks: run xcodebuild test there, as .github/workflows/ios.yml does" >&2
    exit 77
fi

root=${SWIFT_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/sora-swift}
target=${CARGO_TARGET_DIR:-target}
place=$target/ios-runner/swift
mode=${1:-check}

# Whether a compiler in a folder of its own could run: as root, who may mount, and make the devices that it reads. Its paths are
# those of x86_64.
could_run() {
    local probe code=0
    probe=$(mktemp -d)
    [ "$(uname -m)" = x86_64 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
        unshare -m true && mknod "$probe/null" c 1 3 || code=$?
    rm -rf "$probe"
    return "$code"
}

install_compiler() {
    local apt=$root.apt unpacked=$root.unpacked mirror
    trap 'rm -rf "$root.apt" "$root.unpacked"' EXIT
    rm -rf "$apt" "$unpacked"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    mkdir -p "$apt"/{etc/apt.conf.d,etc/preferences.d,etc/trusted.gpg.d,lists/partial,cache/archives/partial,state} "$unpacked"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror%/} trixie main" >"$apt/etc/sources.list"
    cat >"$apt/aptrc" <<X
Dir::Etc "$apt/etc"; Dir::Etc::sourcelist "$apt/etc/sources.list"; Dir::Etc::sourceparts "-";
Dir::State "$apt/state"; Dir::State::lists "$apt/lists"; Dir::State::status "/dev/null"; Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
X
    export APT_CONFIG=$apt/aptrc
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends --download-only swiftlang libc6-dev libstdc++-14-dev
    local link package
    for link in bin lib lib64 sbin; do
        mkdir -p "$unpacked/usr/$link"
        ln -s "usr/$link" "$unpacked/$link"
    done
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$unpacked" --keep-directory-symlink --exclude='./usr/share/doc'
    done
    # What is left of an installation that was interrupted, or of an older one.
    if mountpoint -q "$root/proc"; then umount "$root/proc"; fi
    rm -rf --one-file-system "$root"
    # Whoever finds the folder finds all of it.
    mv -T "$unpacked" "$root"
}

# Runs the compiler with paths below $place, which the chroot sees as /sora.
swift_compiler() {
    if command -v swiftc >/dev/null; then
        (cd "$place" && swiftc "$@")
    else
        in_root /usr/libexec/swift/bin/swiftc -working-directory /sora "$@"
    fi
}

# The unpacked system is not installed, so its loader is told where libraries are; the compiler finds itself by /proc.
in_root() {
    local swift=/usr/libexec/swift
    local libraries=/sora:$swift/lib/swift/linux:$swift/lib/swift/host:$swift/lib:/usr/lib/x86_64-linux-gnu
    mkdir -p "$root"/{sora,tmp,dev,proc}
    [ -e "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
    # Without it Foundation's UUIDs are all the same.
    [ -e "$root/dev/urandom" ] || mknod -m 666 "$root/dev/urandom" c 1 9
    mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
    env -i HOME=/tmp TMPDIR=/tmp "PATH=$swift/bin:/usr/bin:/bin:/usr/sbin" "LD_LIBRARY_PATH=$libraries" \
        chroot "$root" "$@"
}

installed() { command -v swiftc >/dev/null || [ -x "$root/usr/libexec/swift/bin/swiftc" ]; }

if [ "$mode" = install ]; then
    if installed; then exit; fi
    if ! could_run; then
        echo "swift.sh: a compiler in a folder of its own runs on Debian for x86_64 only, as root who may mount: install one from swift.org" >&2
        exit 77
    fi
    install_compiler
    exit
fi
if ! installed; then
    echo "swift.sh: no Swift compiler: install one from swift.org, or run swift.sh install" >&2
    exit 77
fi

if ! command -v swiftc >/dev/null; then place=$root/sora; fi
rm -rf "$place"
mkdir -p "$place"/{core,apple,logic,views,client,tests}
cargo build --locked --workspace --features sora-ios-runner/bindgen-cli
"$target/debug/uniffi-bindgen" generate "$target/debug/libsora_ios_runner.so" \
    --config ios-runner/bindings.toml --language swift --no-format --out-dir "$place"
mv "$place/sora_ios_runnerFFI.modulemap" "$place/module.modulemap"
cp "$target/debug/libsora_ios_runner.so" "$place/"
cp ios-runner/SoraKit/Sources/SoraKit/Core/*.swift "$place/core/"
cp ios-runner/SoraKit/Sources/SoraKit/Apple/*.swift "$place/apple/"
cp ios-runner/App/Sources/Logic/*.swift "$place/logic/"
cp ios-runner/App/Sources/Views/*.swift "$place/views/"
cp ios-runner/check/client/*.swift "$place/client/"
cp ios-runner/SoraKit/Tests/SoraKitTests/*.swift ios-runner/App/Tests/*.swift "$place/tests/"

# Files of the app import the package, which here is the same module.
sed -i -e '/^import SoraKit$/d' -e '/^@testable import \(SoraKit\|Sora\)$/d' "$place"/{logic,tests}/*.swift
names() { (cd "$place" && for folder in "$@"; do echo "$folder"/*.swift; done); }
here=.
if ! command -v swiftc >/dev/null; then here=/sora; fi
common=(-swift-version 6 -parse-as-library -module-name app -Xcc "-fmodule-map-file=$here/module.modulemap" -I "$here")
# The macros of tests are a plugin of the compiler's, which it finds by itself where it is installed.
testing=()
if ! command -v swiftc >/dev/null; then testing=(-plugin-path /usr/libexec/swift/lib/swift/host/plugins); fi

echo "== type check: bindings, core, logic"
swift_compiler "${common[@]}" -typecheck sora_ios_runner.swift $(names core logic)
echo "== parse: what needs Apple's frameworks"
swift_compiler -parse $(names apple views)
echo "== type check: tests"
swift_compiler "${common[@]}" "${testing[@]}" -typecheck sora_ios_runner.swift $(names core logic tests)

# Compiles files into a program with the runner's library, and runs it.
run_program() {
    local name=$1
    shift
    swift_compiler "${common[@]}" "$@" -L "$here" -lsora_ios_runner -o "$here/$name/program"
    if command -v swiftc >/dev/null; then
        LD_LIBRARY_PATH=$place "$place/$name/program"
    else
        in_root "/sora/$name/program"
    fi
}

if [ "$mode" = client ]; then
    echo "== tests"
    cat >"$place/tests/Main.swift" <<X
import Testing
@main struct Main { static func main() async { await Testing.__swiftPMEntryPoint() as Never } }
X
    # Observation of some releases refers to a symbol that no library has, and that it does not need.
    run_program tests "${testing[@]}" -Xlinker --allow-shlib-undefined \
        sora_ios_runner.swift $(names core logic tests) -lTesting
    echo "== a client"
    run_program client sora_ios_runner.swift $(names core client)
fi
echo "swift.sh: ok"
