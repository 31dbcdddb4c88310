#!/usr/bin/env bash
# Measures `cotenant load` beside other load generators, one after the other, against one `cotenant token-server` on the same two cores.
#
#   scripts/peers.sh install DIR             installs the peers (3 GB), each into an environment of its own
#   scripts/peers.sh run DIR OUT [OPTION…]   measures them: OUT/peers.csv (speed), truth.csv (errors), versions.json; prints tables
#
# Options of `run`: --rounds N (3), --short (few requests, to see that all works), --scenario unpaced|paced, --only NAME,…,
# --cores 0,1, --single-writes. Other programs on the machine spoil the numbers; how much CPU they took stands in the last column.
#
# Environment: COTENANT_EXE, the binary (target/release/cotenant); COTENANT_REAL_SERVERS, where scripts/real-servers.sh put its
# servers (.ctk/real-servers), from which vLLM, the tokenizer and torch come; PEERS_PYTHON, a Python to prefer where its version fits; PEERS_BENCHMARKER, a copy of
# the source of inference-benchmarker where GitHub cannot be reached.
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,12p' "$0" >&2
    exit 2
}
# Folders are meant from where the script was called.
from_start() { case "$1" in /*) echo "$1" ;; *) echo "$start/$1" ;; esac; }
servers=$(from_start "${COTENANT_REAL_SERVERS:-$PWD/.ctk/real-servers}")
need_servers() {
    [ -x "$servers/venv/bin/vllm" ] && [ -f "$servers/models/tiny/tokenizer.json" ] ||
        { echo "peers.sh: no servers in $servers; scripts/real-servers.sh installs them" >&2; exit 1; }
}

oha=1.15.0
benchmarker=dfef39d56b3d697b735c90381e9d533b09d3b0c6

# find_python MINOR [or-newer]: prints a Python 3.MINOR with venv, or fails. Those of the distribution come first: they are built with
# profile and link-time optimisation and run a loop in half the time of one that was built without, as pyenv's usually are.
find_python() {
    local p
    for p in "${PEERS_PYTHON:-}" /usr/bin/python3 /usr/bin/python3.1[0-9] python3 python3.1{1,2,3,4} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[0-9]*/bin/python3; do
        if [ -n "$p" ] && "$p" -c "import sys, venv, ensurepip; m = sys.version_info[1]; sys.exit(m < $1 or '${2:-}' == '' and m > $1)" 2>/dev/null; then
            echo "$p"
            return
        fi
    done
    return 1
}

# uv brings a Python of its own where its downloads can be reached; those are built with optimisation.
uv_python() {
    export UV_PYTHON_INSTALL_DIR=$dir/uv/pythons
    python3 -m venv "$dir/uv" && "$dir/uv/bin/python" -m pip --disable-pip-version-check install --quiet --no-cache-dir uv==0.13.8 &&
        "$dir/uv/bin/uv" --quiet python install "$1" && "$dir/uv/bin/uv" python find --managed-python "$1"
}

purelib() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# venv NAME PYTHON: an environment with what scripts/peers/NAME.txt lists, unless it is there already.
venv() {
    local name=$1 python=$2 made_from
    made_from=$({ cat "scripts/peers/$name.txt"; "$python" -c 'import sys; print(sys.version, sys.prefix)'; echo "$servers"; } | sha256sum)
    [ "$(cat "$dir/$name/made-from" 2>/dev/null)" != "$made_from" ] || return 0
    echo "peers.sh: installing $name"
    rm -rf "${dir:?}/$name"
    "$python" -m venv "$dir/$name"
    # The list is all that is needed, and no more: nothing is resolved anew.
    "$dir/$name/bin/python" -m pip --disable-pip-version-check install --quiet --no-cache-dir --no-deps -r "scripts/peers/$name.txt"
    [ "$name" != guidellm ] || lend_torch
    echo "$made_from" >"$dir/$name/made-from"
}

# guidellm wants torch, whose wheel on the index brings 5 GB of CUDA with it; the real servers have it already. Links instead of a
# longer path, so that of theirs it sees nothing else.
lend_torch() {
    local theirs ours entry
    theirs=$(purelib "$servers/venv/bin/python")
    ours=$(purelib "$dir/guidellm/bin/python")
    for entry in "$theirs"/{torch,torchgen,functorch,triton,nvidia,cuda} "$theirs"/{torch,triton,nvidia_*,cuda_*}-*.dist-info; do
        [ ! -e "$entry" ] || ln -s "$entry" "$ours/"
    done
    "$dir/guidellm/bin/python" -c 'import torch'
}

install() {
    need_servers
    mkdir -p "$dir"
    : >"$dir/left-out"
    local python minor began=$SECONDS from
    # What the servers have compiled is for their version of Python, but another build of it may be faster.
    minor=$("$servers/venv/bin/python" -c 'import sys; print(sys.version_info[1])')
    python=$(find_python "$minor") || python=$servers/venv/bin/python
    venv guidellm "$python"
    rm -rf "$dir/vllm"
    "$python" -m venv --without-pip "$dir/vllm"
    purelib "$servers/venv/bin/python" >"$(purelib "$dir/vllm/bin/python")/servers.pth"
    venv aiperf "$(find_python 11 or-newer || echo "$python")"
    if python=$(find_python 12 or-newer || uv_python 3.12); then
        venv inference-perf "$python"
    else
        echo "peers.sh: no Python of 3.12 or newer: inference-perf is left out (PEERS_PYTHON names one)" >&2
        echo "inference-perf: it needs Python 3.12 or newer, and there was none" >>"$dir/left-out"
    fi
    if [ "$("$dir/oha/bin/oha" --version 2>/dev/null)" != "oha $oha" ]; then
        echo "peers.sh: installing oha"
        cargo install --quiet --locked --root "$dir/oha" --target-dir "$dir/oha-build" "oha@$oha"
        rm -rf "$dir/oha-build"
    fi
    # On no package registry: it is built from its repository, or from a copy of that.
    if [ "$(cat "$dir/inference-benchmarker/made-from" 2>/dev/null)" != "$benchmarker" ]; then
        echo "peers.sh: installing inference-benchmarker"
        from=(--git https://github.com/huggingface/inference-benchmarker --rev "$benchmarker")
        [ -z "${PEERS_BENCHMARKER:-}" ] || from=(--path "$(from_start "$PEERS_BENCHMARKER")")
        if GIT_SHA=$benchmarker cargo install --quiet "${from[@]}" --root "$dir/inference-benchmarker" --target-dir "$dir/benchmarker-build"; then
            echo "$benchmarker" >"$dir/inference-benchmarker/made-from"
        else
            echo "peers.sh: inference-benchmarker is left out (PEERS_BENCHMARKER names a folder with its source)" >&2
            echo "inference-benchmarker: it is built from its repository, which could not be reached" >>"$dir/left-out"
        fi
        rm -rf "$dir/benchmarker-build"
    fi
    echo "peers.sh: installed in $((SECONDS - began)) s"
}

run() {
    local measuring code=0
    COTENANT_EXE=$(from_start "${COTENANT_EXE:-$PWD/target/release/cotenant}")
    export COTENANT_EXE
    [ -x "$COTENANT_EXE" ] || { echo "peers.sh: no binary $COTENANT_EXE; cargo build --release makes it" >&2; exit 1; }
    need_servers
    # In the background, so that a signal to this script is heard at once; the program stops all that it started, and the kernel does
    # where the program itself is killed.
    python3 scripts/peers/measure.py "$dir" "$servers" "$@" &
    measuring=$!
    trap 'kill -TERM "$measuring" 2>/dev/null || true; wait "$measuring" 2>/dev/null || true' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    wait "$measuring" || code=$?
    trap - EXIT
    python3 scripts/peers/table.py "$1"
    exit "$code"
}

[ "$(uname -sm)" = "Linux x86_64" ] || { echo "peers.sh: Linux on x86-64 only" >&2; exit 1; }
[ $# -ge 2 ] || usage
verb=$1
dir=$(from_start "$2")
shift 2
case "$verb" in
install)
    [ $# -eq 0 ] || usage
    install
    ;;
run)
    [ $# -ge 1 ] || usage
    out=$(from_start "$1")
    shift
    run "$out" "$@"
    ;;
*) usage ;;
esac
