#!/usr/bin/env bash
# Runs every built-in experiment on a GPU and keeps what is worth keeping: record.sh OUT [DEVICE]
# OUT/NAME/ gets the run folder of each experiment without telemetry and page (`cotenant report` makes the page
# again). With a device sim:CARD the same for the simulated GPU.
set -euo pipefail
out=${1:?usage: scripts/record.sh OUT [DEVICE]}
device=${2:-cuda:0}
cotenant=${COTENANT:-target/release/cotenant}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
failed=0
for name in $("$cotenant" experiments --json | sed -n 's/.*"name": "\([^"]*\)".*/\1/p'); do
    begun=$(date +%s)
    "$cotenant" run "$name" --device "$device" --out "$work/$name" --quiet >"$work/$name.log" 2>&1 || {
        echo "$name: exit code $?"
        tail -n 3 "$work/$name.log"
        failed=1
    }
    echo "$name: $(($(date +%s) - begun)) s"
    run=$(find "$work/$name" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | head -n 1)
    [ -n "$run" ] || continue
    rm -rf "${out:?}/$name"
    cp -r "$run" "$out/$name"
    rm -f "$out/$name/report.html" "$out/$name/telemetry.csv"
done
exit "$failed"
