#!/usr/bin/env bash
# Passes all tests on a machine without a GPU, and installs what they need: cargo-nextest, cargo-deny,
# Chromium (for the report page) and, into .ctk/, the pinned CUDA compiler wheels (for the kernels' PTX).
#
#   scripts/test.sh            everything
#   scripts/test.sh --no-install   fail rather than install
set -euo pipefail
cd "$(dirname "$0")/.."
install=1
[ "${1:-}" = "--no-install" ] && install=0

need() { # what, how to install it
    echo "test.sh: $1 is missing" >&2
    [ "$install" = 1 ] || { echo "test.sh: install it with: $2" >&2; exit 1; }
}
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

cargo nextest --version >/dev/null 2>&1 || { need cargo-nextest "cargo install cargo-nextest --locked"; cargo install cargo-nextest --locked; }
cargo deny --version >/dev/null 2>&1 || { need cargo-deny "cargo install cargo-deny --locked"; cargo install cargo-deny --version 0.20.2 --locked; }
if ! command -v chromium >/dev/null 2>&1 && ! command -v chromium-browser >/dev/null 2>&1 && ! command -v google-chrome >/dev/null 2>&1; then
    need chromium "apt-get install chromium"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
fi
command -v python3 >/dev/null 2>&1 || { need python3 "apt-get install python3 python3-pip"; as_root apt-get install -y -qq python3 python3-pip; }

step() { echo; echo "== $*"; }
step format;      cargo fmt --all --check
step lints;       cargo clippy --workspace --all-targets --quiet -- -D warnings
step tests;       cargo nextest run --workspace --no-fail-fast
step doc tests;   cargo test --workspace --doc --quiet
step dependencies; cargo deny --log-level error check
step kernels;     cargo xtask kernels --check
step schemas;     cargo xtask schemas --check
echo
echo "all tests passed"
