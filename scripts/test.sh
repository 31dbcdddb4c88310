#!/usr/bin/env bash
# Passes all tests on a machine without a GPU, and installs what they need and it lacks: rustfmt and clippy, cargo-nextest,
# cargo-deny, Python with pip, Chromium (for the report page) and, into .ctk/, the pinned CUDA compiler wheels (for the
# kernels' PTX). Packages of the system need apt-get and root or sudo; without these, what cannot be tested is said
# at the end.
#
#   scripts/test.sh                everything
#   scripts/test.sh --no-install   fail rather than install
set -euo pipefail
cd "$(dirname "$0")/.."

install=1
case "${1:-}" in
"") ;;
--no-install) install=0 ;;
*)
    sed -n '2,9p' "$0" >&2
    exit 2
    ;;
esac

notes=()
note() {
    notes+=("$1")
    echo "test.sh: $1" >&2
}
need() { # what is missing, how to get it
    echo "test.sh: $1 is missing" >&2
    if [ "$install" = 0 ]; then
        echo "test.sh: get it with: $2" >&2
        exit 1
    fi
    echo "test.sh: $2" >&2
}
has() { command -v "$1" >/dev/null 2>&1; }

fresh_lists=0
apt_install() { # packages; false where this machine cannot
    has apt-get || return 1
    local root=()
    if [ "$(id -u)" != 0 ]; then
        has sudo || return 1
        root=(sudo)
    fi
    if [ "$fresh_lists" = 0 ]; then
        "${root[@]}" apt-get update -qq || return 1
        fresh_lists=1
    fi
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Tools that only run the tests need no optimisation, which would take most of the time of a first run.
cargo_tool() { # name, version
    need "$1" "cargo install $1 --version $2 --locked --debug"
    cargo install "$1" --version "$2" --locked --debug --quiet
}

has cargo || { echo "test.sh: cargo is missing; install Rust (https://rustup.rs)" >&2; exit 1; }
for part in rustfmt clippy; do
    if ! cargo "${part/rust/}" --version >/dev/null 2>&1; then
        need "$part" "rustup component add $part"
        rustup component add "$part"
    fi
done
cargo nextest --version >/dev/null 2>&1 || cargo_tool cargo-nextest 0.9.143
cargo deny --version >/dev/null 2>&1 || cargo_tool cargo-deny 0.20.2
if ! { has python3 && python3 -m pip --version >/dev/null 2>&1; }; then
    need "Python 3 with pip" "apt-get install python3 python3-pip"
    apt_install python3 python3-pip || note "not tested: programs as tenants, the kernels' PTX, the counters' script (Python 3 with pip could not be installed)"
fi
if [ -z "${CHROMIUM:-}" ] && ! has chromium && ! has chromium-browser && ! has google-chrome; then
    need Chromium "apt-get install chromium"
    apt_install chromium || note "not tested: the report in a browser (Chromium could not be installed)"
fi

began=$SECONDS
step() {
    echo
    echo "== $* ($((SECONDS - began)) s)"
}
step format
cargo fmt --all --check
step lints
cargo clippy --workspace --all-targets --quiet -- -D warnings
step tests
cargo nextest run --workspace --no-fail-fast
step doc tests
cargo test --workspace --doc --quiet
step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
step schemas
cargo xtask schemas --check
step "pages of results" # made from the recorded runs, sentences that no longer hold fail
cargo xtask results --check
cargo xtask findings --check
step dependencies
cargo deny --log-level error check bans licenses sources
if cargo deny --log-level off fetch db >/dev/null 2>&1; then
    cargo deny --log-level error check advisories
else
    note "not tested: known vulnerabilities of dependencies (the advisory database could not be fetched)"
fi
if has python3; then
    step "counters' script"
    python3 -m unittest discover --start-directory scripts
    step "tenants in Python" # what needs torch is skipped where it is absent
    python3 -m unittest discover --start-directory tenants/tests
    if [ "$(uname -sm)" = "Linux x86_64" ] && python3 -m pip --version >/dev/null 2>&1; then
        step kernels
        cargo xtask kernels --check
    else
        note "not tested: the kernels' PTX (the pinned compiler needs Linux on x86-64, and pip)"
    fi
fi

echo
[ ${#notes[@]} = 0 ] || printf 'test.sh: %s\n' "${notes[@]}"
echo "all tests passed ($((SECONDS - began)) s)"
