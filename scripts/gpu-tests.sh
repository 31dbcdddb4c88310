#!/usr/bin/env bash
# Runs the tests that need a real GPU (they are #[ignore]d elsewhere) from test binaries that were built before,
# since a GPU host need not have cargo.
#
#   scripts/gpu-tests.sh build DIR            where cargo is: builds cotenant and the test binaries, stripped, into DIR
#   scripts/gpu-tests.sh run DIR [FILTER]…    where the GPU is: runs them (those whose name contains a FILTER), one at
#                                             a time; the last line says how many passed
#
# The binaries need the C library of the machine that builds them or a newer one.
set -euo pipefail
usage() { echo "usage: scripts/gpu-tests.sh build DIR | run DIR [FILTER]..." >&2; exit 2; }
[ $# -ge 2 ] || usage
what=$1 dir=$2
shift 2
tests="conformance gpu_faults gpu_models"

case $what in
build)
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    cd "$(dirname "$0")/.."
    cargo build --release --package cotenant
    target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    strip -o "$dir/cotenant" "$target/release/cotenant"
    # shellcheck disable=SC2046  # one --test for each name
    built=$(cargo test --release --package cotenant $(printf -- '--test %s ' $tests) --no-run \
        --message-format json-render-diagnostics)
    for t in $tests; do
        bin=$(sed -n 's/.*"executable":"\([^"]*\/'"$t"'-[0-9a-f]*\)".*/\1/p' <<<"$built" | tail -n 1)
        [ -x "$bin" ] || { echo "gpu-tests.sh: cargo named no binary for the test \"$t\"" >&2; exit 1; }
        strip -o "$dir/$t" "$bin"
    done
    mkdir -p "$dir/tenants"
    cp -r tenants/*.py tenants/*.json tenants/tests "$dir/tenants/"
    ls -l "$dir"
    ;;
run)
    dir=$(cd "$dir" && pwd)
    [ -x "$dir/cotenant" ] || { echo "gpu-tests.sh: no binaries in $dir; build them first" >&2; exit 1; }
    export COTENANT_WORKER_EXE="$dir/cotenant"
    # The tests make MPS daemons and folders of their own; what this shell has set must not reach them.
    unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY CUDA_MPS_ACTIVE_THREAD_PERCENTAGE COTENANT_DEVICE
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    failed=0
    for t in $tests; do
        echo "== $t"
        "$dir/$t" --ignored --test-threads=1 "$@" 2>&1 | tee -a "$log" || failed=1
    done
    passed=$(grep -c '^test .* \.\.\. ok$' "$log" || true)
    not=$(sed -n 's/^test result: .*; \([0-9]*\) failed;.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
    [ "$not" = 0 ] || failed=1
    [ "$((passed + not))" != 0 ] || { echo "gpu-tests.sh: no test has such a name" >&2; failed=1; }
    left=$(pgrep -a -f 'cotenant-mps-|[c]otenant worker' || true)
    [ -z "$left" ] || { echo "gpu-tests.sh: processes are left: $left" >&2; failed=1; }
    echo "GPU tests: $passed passed, $not failed, in $SECONDS s"
    exit "$failed"
    ;;
*) usage ;;
esac
