#!/usr/bin/env bash
# Runs the tests that need a real GPU (they are #[ignore]d elsewhere) from test binaries that were built before,
# since a GPU host need not have cargo.
#
#   scripts/gpu-tests.sh build DIR   where cargo is: builds the test binaries and cotenant into DIR
#   scripts/gpu-tests.sh run DIR     where the GPU is: runs them; the last line says how many passed
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${2:?usage: scripts/gpu-tests.sh build|run DIR}
case ${1:-} in
build)
    mkdir -p "$dir"
    cargo build --release --quiet
    cp target/release/cotenant "$dir/"
    for t in conformance gpu_faults; do
        bin=$(cargo test --release --package cotenant --test "$t" --no-run --message-format=json 2>/dev/null |
            sed -n 's/.*"executable":"\([^"]*'"$t"'-[^"]*\)".*/\1/p' | tail -n 1)
        cp "$bin" "$dir/$t"
    done
    ;;
run)
    export COTENANT_WORKER_EXE="$PWD/$dir/cotenant"
    for t in conformance gpu_faults; do
        "$dir/$t" --ignored --test-threads=1
    done
    ;;
*) echo "usage: scripts/gpu-tests.sh build|run DIR" >&2; exit 2 ;;
esac
