#!/usr/bin/env bash
# Runs built-in experiments on a GPU and keeps what is worth keeping: record.sh OUT [DEVICE [NAME...]]
# OUT/NAME/ gets the run folder of each experiment (of all, where none is named) without telemetry, traces, logs and
# page (`cotenant report` makes the page again). Telemetry stays where a figure is drawn of it. With a device sim:CARD
# the same for the simulated GPU. With XTASK=PATH, a built xtask, kernel time lines of the models that have traced
# phases alone go to OUT/timelines/NAME/, apart, since experiments share models.
set -euo pipefail
out=${1:?usage: scripts/record.sh OUT [DEVICE [NAME...]]}
device=${2:-cuda:0}
shift $(($# < 2 ? $# : 2))
cotenant=${COTENANT:-target/release/cotenant}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
failed=0
names=${*:-$("$cotenant" experiments --json | sed -n 's/.*"name": "\([^"]*\)".*/\1/p')}
for name in $names; do
    begun=$(date +%s)
    "$cotenant" run "$name" --device "$device" --out "$work/$name" --quiet ${XTASK:+--keep-traces} \
        >"$work/$name.log" 2>&1 || {
        echo "$name: exit code $?"
        tail -n 3 "$work/$name.log"
        failed=1
    }
    echo "$name: $(($(date +%s) - begun)) s"
    run=$(find "$work/$name" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | head -n 1)
    [ -n "$run" ] || continue
    # Not every experiment has models alone with the kernel clock: what is lacking is said and no failure.
    [ -z "${XTASK:-}" ] || "$XTASK" timelines "$run" --out "$out/timelines/$name" || true
    rm -rf "${out:?}/$name"
    cp -r "$run" "$out/$name"
    rm -rf "$out/$name/report.html" "$out/$name/metrics.csv" "$out/$name/logs" "$out/$name/traces"
    ls "$out/$name/figures" 2>/dev/null | grep -q telemetry || rm -f "$out/$name/telemetry.csv"
done
exit "$failed"
