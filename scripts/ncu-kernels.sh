#!/usr/bin/env bash
# Looks at every kernel under Nsight Compute and compares the counters with the stated demand.
#
#   scripts/ncu-kernels.sh OUT [--only TEXT]... [--dram-peak BYTES_PER_S]
#
# Run it on the GPU host, from the repository root. It needs ncu with permission to read counters, python3, and the
# cotenant binary (COTENANT, default target/release/cotenant). It writes OUT/kernels.md, OUT/counters.csv,
# OUT/demand.csv and, in OUT/raw/, ncu's own output per case. Clocks are left as they are (--clock-control none).
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,8p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
exec python3 "$here/ncu_check.py" --cases "$here/ncu-cases.json" --out "$out" \
    --cotenant "${COTENANT:-target/release/cotenant}" --ncu "${NCU:-ncu}" "$@"
