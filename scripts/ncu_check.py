#!/usr/bin/env python3
"""Compares Nsight Compute's counters of each kernel with the demand that the registry states.

Reads scripts/ncu-cases.json, runs `ncu … cotenant kernel-once …` once per case, and writes

    OUT/NN.csv        what ncu printed for case NN
    OUT/counters.csv  one row per case: all counters and derived figures
    OUT/demand.csv    one row per case and quantity: stated, measured, ratio, verdict
    OUT/kernels.md    a table to read

Standard library only. With --reuse, reads OUT/NN.csv again instead of running anything.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys

PIPES = ("fma", "fp64", "alu", "fp16", "xu", "lsu")
EXECUTED = "sm__inst_executed.sum"
TIME = "gpu__time_duration.sum"
CYCLES = "sm__cycles_active.sum"
WAVEFRONTS = "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"
LOADED = "l1tex__t_bytes_pipe_lsu_mem_global_op_ld.sum"
STORED = "l1tex__t_bytes_pipe_lsu_mem_global_op_st.sum"
REDUCTIONS = "sm__sass_inst_executed_op_global_red.sum"
METRICS = [
    TIME,
    CYCLES,
    EXECUTED,
    "sm__inst_issued.avg.per_cycle_active",
    "sm__inst_executed.avg.per_cycle_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    *(f"sm__inst_executed_pipe_{p}.sum" for p in PIPES),
    *(f"sm__inst_executed_pipe_{p}.avg.pct_of_peak_sustained_active" for p in PIPES),
    *(f"sm__pipe_{p}_cycles_active.avg.pct_of_peak_sustained_active" for p in ("fma", "fmaheavy", "fp64", "alu", "xu")),
    "sm__inst_executed_pipe_uniform.sum",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_tensor_op_hmma.sum",
    "sm__inst_executed_pipe_tensor_op_gmma.sum",
    "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_op_gmma_cycles_active.avg.pct_of_peak_sustained_active",
    "l1tex__t_sector_hit_rate.pct",
    "lts__t_sector_hit_rate.pct",
    LOADED,
    STORED,
    REDUCTIONS,
    WAVEFRONTS,
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "lts__t_sectors_op_read.sum",
    "lts__t_sectors_op_write.sum",
    "lts__t_sectors_op_red.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "launch__registers_per_thread",
]
# Per-warp instructions below which prologue and stamps, which are not part of a turn, would dominate.
FEWEST = 500.0
# Dense bf16 peak per SM and cycle; the share is taken at the highest clock of the product sheet.
TENSOR_PEAK = 989.4e12
FLOP_PER_UNIT = 2 * 16 * 8 * 16


def number(text):
    """A counter as ncu prints it (`1,234.5`, `n/a`), or None."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def parse_raw_page(text, entry):
    """Counters of the last launch of `entry` in `ncu --csv --page raw` output: header, units, rows."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise ValueError("no table in ncu's output")
    rows = list(csv.reader(lines[start:]))
    header, body = rows[0], rows[2:]
    name = header.index("Kernel Name")
    mine = [r for r in body if len(r) == len(header) and r[name].split("(")[0] == entry]
    if not mine:
        raise ValueError(f"no launch of {entry} in ncu's output")
    pairs = zip(header, mine[-1])
    return {key: value for key, value in ((k, number(v)) for k, v in pairs) if value is not None}


def warps(case):
    shape = case["resolved"]["shape"]
    return shape["blocks"] * -(-shape["threads"] // 32)


def stated(case):
    """Totals over the launch, by counter, that the demand promises."""
    demand, turns = case["resolved"]["demand"], case["iterations"] * warps(case)
    totals = {EXECUTED: demand["issue"] * turns}
    for pipe in PIPES:
        # Packed fp16 is counted on the FMA pipe of some chips; the sum of both is compared.
        if pipe not in ("fma", "fp16"):
            totals[f"sm__inst_executed_pipe_{pipe}.sum"] = demand["pipes"][pipe] * turns
    totals["fma+fp16"] = (demand["pipes"]["fma"] + demand["pipes"]["fp16"]) * turns
    # Dependent loads are of 8 bytes but cost a 32-byte sector, which is what the demand states.
    totals[LOADED] = demand["load_bytes"] * turns
    totals[STORED] = demand["store_bytes"] * turns
    totals[WAVEFRONTS] = demand["smem_wavefronts"] * turns
    totals[REDUCTIONS] = demand["l2_atomics"] * turns
    if case["resolved"]["kernel"] == "tensor-wgmma":
        # The tensor core's own reads of shared memory do not pass the load-store unit.
        totals[WAVEFRONTS] = 0.0
    return totals


def measured(counters, key):
    if key == "fma+fp16":
        parts = [counters.get(f"sm__inst_executed_pipe_{p}.sum") for p in ("fma", "fp16")]
        return None if parts[0] is None else parts[0] + (parts[1] or 0.0)
    return counters.get(key)


def compare(case, counters, tolerance):
    """Rows (quantity, stated, measured, ratio, verdict); quantities too small to tell are left out."""
    totals, rows = stated(case), []
    floor = max(0.02 * totals[EXECUTED], FEWEST * warps(case))
    for key, want in totals.items():
        got = measured(counters, key)
        if got is None:
            if want > 0:
                rows.append((key, want, None, None, "not counted"))
            continue
        small = want < floor if "bytes" not in key else want < 1e6
        if small:
            continue
        ratio = got / want
        rows.append((key, want, got, ratio, "as stated" if abs(ratio - 1) <= tolerance else "DIFFERS"))
    return rows


def derive(case, counters, dram_peak):
    """Figures that the ceilings are stated in."""
    demand, turns = case["resolved"]["demand"], case["iterations"] * warps(case)
    seconds = counters.get(TIME, 0.0) * 1e-9
    out = {"ms": seconds * 1e3, "ipc": counters.get("sm__inst_issued.avg.per_cycle_active")}
    for pipe in PIPES:
        out[f"{pipe}_pct"] = counters.get(f"sm__inst_executed_pipe_{pipe}.avg.pct_of_peak_sustained_active")
    cycles = counters.get(CYCLES)
    moved = (demand["load_bytes"] + demand["store_bytes"]) * turns
    if seconds > 0:
        out["gbps"] = moved / seconds * 1e-9
        out["dram_share"] = moved / seconds / dram_peak
        out["tensor_share"] = demand["pipes"]["tensor"] * turns * FLOP_PER_UNIT / seconds / TENSOR_PEAK
    if cycles:
        out["smem_share"] = counters.get(WAVEFRONTS, 0.0) / cycles
    return {k: v for k, v in out.items() if v is not None}


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def known_metrics(ncu, wanted):
    """Of `wanted`, those whose base name this ncu and chip have, and those they lack."""
    listing = run([ncu, "--query-metrics"])
    bases = {line.split()[0] for line in listing.stdout.splitlines() if line.strip()}
    if not any(b.startswith("sm__") for b in bases):
        raise SystemExit(f"failed to list ncu's metrics: {listing.stderr.strip() or listing.stdout.strip()}")
    have = [m for m in wanted if m.startswith("launch__") or m.split(".")[0] in bases]
    return have, [m for m in wanted if m not in have]


def profile(args, metrics, case, path):
    r = case["resolved"]
    command = [args.ncu, "--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base"]
    command += ["--kernel-name", r["entry"], "--metrics", ",".join(metrics), "--log-file", str(path)]
    command += [args.cotenant, "kernel-once", r["kernel"], "--blocks", str(r["shape"]["blocks"])]
    command += ["--threads", str(r["shape"]["threads"]), "--iterations", str(case["iterations"])]
    for key, value in case["set"]:
        command += ["--set", f"{key}={value:.0f}"]
    done = run(command)
    if done.returncode != 0:
        raise ValueError(f"{' '.join(command[-8:])}: exit {done.returncode}: {(done.stdout + done.stderr).strip()}")


def cell(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--cotenant", default="target/release/cotenant")
    parser.add_argument("--ncu", default="ncu")
    parser.add_argument("--only", action="append", default=[], help="only cases whose label contains this")
    parser.add_argument("--reuse", action="store_true", help="read ncu's output of an earlier run")
    parser.add_argument("--tolerance", type=float, default=0.03, help="relative difference still `as stated`")
    parser.add_argument("--dram-peak", type=float, default=3.35e12, help="bytes/s of the product sheet")
    args = parser.parse_args()
    cases = json.loads(args.cases.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    metrics, lacking = (METRICS, []) if args.reuse else known_metrics(args.ncu, METRICS)
    for metric in lacking:
        print(f"note: this ncu lacks {metric}", file=sys.stderr)

    table, long_rows, failures = [], [], []
    for index, case in enumerate(cases):
        if args.only and not any(text in case["label"] for text in args.only):
            continue
        path = args.out / f"{index:02}.csv"
        try:
            if not args.reuse:
                profile(args, metrics, case, path)
            counters = parse_raw_page(path.read_text(), case["resolved"]["entry"])
        except (OSError, ValueError) as e:
            failures.append(f"{case['label']}: {e}")
            print(f"failed: {failures[-1]}", file=sys.stderr)
            continue
        rows = compare(case, counters, args.tolerance)
        figures = derive(case, counters, args.dram_peak)
        table.append((case, counters, figures, rows))
        long_rows += [(case["label"], *row) for row in rows]
        print(f"{case['label']}: IPC {cell(figures.get('ipc'), 2)}", file=sys.stderr)

    write_tables(args.out, table, long_rows, failures)
    wrong = [r for r in long_rows if r[5] == "DIFFERS"]
    print(f"{len(table)} cases, {len(wrong)} quantities differ, {len(failures)} failed")
    return 1 if failures or wrong else 0


def write_tables(out, table, long_rows, failures):
    with open(out / "demand.csv", "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["case", "quantity", "stated", "measured", "ratio", "verdict"])
        writer.writerows(long_rows)
    names = sorted({k for _, counters, _, _ in table for k in counters if "__" in k})
    derived = sorted({k for _, _, figures, _ in table for k in figures})
    with open(out / "counters.csv", "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["case", *derived, *names])
        for case, counters, figures, _ in table:
            writer.writerow([case["label"], *(figures.get(k, "") for k in derived), *(counters.get(k, "") for k in names)])
    lines = [
        "| case | ms | IPC | busiest pipe | L1 hit % | L2 hit % | GB/s | instructions | demand | ceiling |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, counters, figures, rows in table:
        busiest = max(PIPES, key=lambda p: figures.get(f"{p}_pct", 0.0))
        differing = [f"{r[0]} {r[3]:.3f}×" for r in rows if r[4] == "DIFFERS"]
        ratio = next((r[3] for r in rows if r[0] == EXECUTED), None)
        ceiling = "–"
        if case["ceiling"]:
            key, least = case["ceiling"]
            got = figures.get(key)
            reached = "not measured" if got is None else ("reached" if got >= least else "MISSED")
            ceiling = f"{key} {cell(got, 3)} of {least}: {reached}"
        lines.append(
            f"| {case['label']} | {cell(figures.get('ms'), 3)} | {cell(figures.get('ipc'), 2)} "
            f"| {busiest} {cell(figures.get(busiest + '_pct'))} % | {cell(counters.get('l1tex__t_sector_hit_rate.pct'))} "
            f"| {cell(counters.get('lts__t_sector_hit_rate.pct'))} | {cell(figures.get('gbps'), 0)} "
            f"| {cell(ratio, 3)}× | {'; '.join(differing) or 'as stated'} | {ceiling} |"
        )
    if failures:
        lines += ["", "Failed:", "", *(f"- {f}" for f in failures)]
    (out / "kernels.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
