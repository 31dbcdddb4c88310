#!/usr/bin/env python3
"""Compares Nsight Compute's counters of each kernel with the demand that the registry states.

Reads scripts/ncu-cases.json, runs `ncu … cotenant kernel-once …` once per case, and writes

    OUT/raw/CASE.csv  what ncu printed for a case
    OUT/counters.csv  one row per case: all counters and derived figures
    OUT/demand.csv    one row per case and quantity: stated, measured, ratio, verdict
    OUT/kernels.md    a table to read

Standard library only. With --reuse, reads OUT/raw/ again instead of running anything.
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
# Products of the tensor cores; the first counts those of the second too, and packed fp16 where that runs there.
HMMA = "sm__inst_executed_pipe_tensor_op_hmma.sum"
GMMA = "sm__inst_executed_pipe_tensor_op_gmma.sum"
# Sectors that SMs' loads looked up in L2. `lts__t_sector_hit_rate.pct` also counts the driver's and the profiler's
# own traffic, and puts hits of one replay over lookups of another, so that it can exceed 100.
L2_HITS = "lts__t_sectors_srcunit_tex_op_read_lookup_hit.sum"
L2_MISSES = "lts__t_sectors_srcunit_tex_op_read_lookup_miss.sum"
DRAM_READ = "dram__bytes_read.sum"
L1_HIT_PCT = "l1tex__t_sector_hit_rate.pct"
SECTOR = 32.0
# Share of its cycles in which a pipe was busy. fma is a heavy and a light half; packed fp16, integer multiply-add
# and VIADD use the heavy one only.
BUSY = {
    **{p: f"sm__inst_executed_pipe_{p}.avg.pct_of_peak_sustained_active" for p in PIPES},
    "fma-heavy": "sm__pipe_fmaheavy_cycles_active.avg.pct_of_peak_sustained_active",
    "tensor": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
}
METRICS = [
    TIME,
    CYCLES,
    EXECUTED,
    "sm__inst_issued.avg.per_cycle_active",
    "sm__inst_executed.avg.per_cycle_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    *(f"sm__inst_executed_pipe_{p}.sum" for p in PIPES),
    *BUSY.values(),
    *(f"sm__pipe_{p}_cycles_active.avg.pct_of_peak_sustained_active" for p in ("fma", "fp64", "alu", "xu")),
    "sm__inst_executed_pipe_uniform.sum",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    HMMA,
    GMMA,
    "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_op_gmma_cycles_active.avg.pct_of_peak_sustained_active",
    L1_HIT_PCT,
    "lts__t_sector_hit_rate.pct",
    L2_HITS,
    L2_MISSES,
    "lts__t_sectors_srcunit_tex_op_read.sum",
    "lts__t_sectors_srcunit_tex_lookup_hit.sum",
    "lts__t_sectors_srcunit_tex_lookup_miss.sum",
    "lts__t_sectors_srcunit_ltcfabric.sum",
    LOADED,
    STORED,
    REDUCTIONS,
    WAVEFRONTS,
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "lts__t_sectors_op_read.sum",
    "lts__t_sectors_op_write.sum",
    "lts__t_sectors_op_red.sum",
    DRAM_READ,
    "dram__bytes_write.sum",
    "launch__registers_per_thread",
]
# Per-warp instructions below which prologue and stamps, which are not part of a turn, would dominate.
FEWEST = 500.0
# Sectors below which stamps and the driver's own traffic dominate a hit rate.
FEWEST_SECTORS = 1e5
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
    """Totals over the launch, by counter or by name of a sum of counters, that the demand promises."""
    demand, turns = case["resolved"]["demand"], case["iterations"] * warps(case)
    pipes = demand["pipes"]
    totals = {EXECUTED: demand["issue"] * turns}
    for pipe in PIPES:
        if pipe not in ("fma", "fp16"):
            totals[f"sm__inst_executed_pipe_{pipe}.sum"] = pipes[pipe] * turns
    totals["fma+fp16"] = (pipes["fma"] + pipes["fp16"]) * turns
    totals["tensor"] = pipes["tensor"] * turns
    # Dependent loads are of 8 bytes but cost a 32-byte sector, which is what the demand states.
    totals[LOADED] = demand["load_bytes"] * turns
    totals[STORED] = demand["store_bytes"] * turns
    totals[WAVEFRONTS] = demand["smem_wavefronts"] * turns
    totals[REDUCTIONS] = demand["l2_atomics"] * turns
    return totals


def measured(case, counters, key):
    """What was counted for a key of `stated`, or None."""
    pipes = case["resolved"]["demand"]["pipes"]
    get = counters.get
    if key == "fma+fp16":
        fma = get("sm__inst_executed_pipe_fma.sum")
        # Chips without an fp16 pipe run packed fp16 as HFMA2 on the FMA pipe and, in turn with it, as HFMA2.MMA on the
        # tensor pipe. Elsewhere the latter is a move of a constant and no part of the demand.
        rest = get("sm__inst_executed_pipe_fp16.sum", 0.0) + (get(HMMA, 0.0) if pipes["fp16"] > 0 else 0.0)
        return None if fma is None else fma + rest
    if key == "tensor":
        if pipes["tensor"] == 0:
            return 0.0
        # A warp's quarter of m64n256k16 is 32 products m16n8k16.
        hmma, gmma = get(HMMA), get(GMMA, 0.0)
        return None if hmma is None else hmma - gmma + 32 * gmma
    return get(key)


def compare(case, counters, tolerance):
    """Rows (quantity, stated, measured, ratio, verdict).

    Quantities too small to tell are left out, unless they were stated small and counted large.
    """
    totals, rows = stated(case), []
    floor = max(0.02 * totals[EXECUTED], FEWEST * warps(case))
    for key, want in totals.items():
        got = measured(case, counters, key)
        if got is None:
            if want > 0:
                rows.append((key, want, None, None, "not counted"))
            continue
        small = floor if "bytes" not in key else 1e6
        if want < small:
            # Bytes are left out here: the register hog loads what it holds, once.
            if "bytes" not in key and got > want + 2 * small:
                rows.append((key, want, got, None if want == 0 else got / want, "DIFFERS"))
            continue
        ratio = got / want
        rows.append((key, want, got, ratio, "as stated" if abs(ratio - 1) <= tolerance else "DIFFERS"))
    return rows


def hit_rates(counters):
    """Hit rates (L1, L2) of global accesses in percent; None where too few sectors were looked up to tell."""
    loaded, stored = counters.get(LOADED, 0.0) / SECTOR, counters.get(STORED, 0.0) / SECTOR
    # One thread's chain is few sectors, but all of them are its own.
    l1 = counters.get(L1_HIT_PCT) if loaded + stored >= FEWEST_SECTORS / 10 else None
    hits, misses = counters.get(L2_HITS), counters.get(L2_MISSES)
    if hits is not None and misses is not None:
        return l1, 100 * hits / (hits + misses) if hits + misses >= FEWEST_SECTORS else None
    # Without those counters: the share of the sectors missed by L1 that DRAM did not have to supply. L1's hit rate
    # takes loads and stores together, so that this needs loads alone.
    dram = counters.get(DRAM_READ)
    if dram is None or l1 is None or stored > 0.01 * loaded:
        return l1, None
    missed = loaded * (1 - l1 / 100)
    return l1, max(0.0, 100 * (1 - dram / SECTOR / missed)) if missed >= FEWEST_SECTORS / 10 else None


def derive(case, counters, dram_peak):
    """Figures that the ceilings are stated in."""
    demand, turns = case["resolved"]["demand"], case["iterations"] * warps(case)
    seconds = counters.get(TIME, 0.0) * 1e-9
    out = {"ms": seconds * 1e3, "ipc": counters.get("sm__inst_issued.avg.per_cycle_active")}
    out["l1_hit_pct"], out["l2_hit_pct"] = hit_rates(counters)
    for pipe, metric in BUSY.items():
        out[f"{pipe}_pct"] = counters.get(metric)
    cycles = counters.get(CYCLES)
    moved = (demand["load_bytes"] + demand["store_bytes"]) * turns
    if seconds > 0:
        out["gbps"] = moved / seconds * 1e-9
        out["dram_share"] = moved / seconds / dram_peak
        out["tensor_share"] = demand["pipes"]["tensor"] * turns * FLOP_PER_UNIT / seconds / TENSOR_PEAK
    if cycles:
        out["smem_share"] = counters.get(WAVEFRONTS, 0.0) / cycles
        out["shared_pct"] = 100 * out["smem_share"]
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
    # ncu's own messages name processes and paths of the machine; errors are in them too, so they go only once there is
    # a table.
    lines = path.read_text().splitlines(keepends=True)
    if any(line.startswith('"ID"') for line in lines):
        path.write_text("".join(line for line in lines if not line.startswith("==")))


def file_name(case):
    """Name of a case's file in OUT/raw/: the label, without characters that file systems dislike."""
    return "".join(c if c.isalnum() or c in "=.-" else "_" for c in case["label"]) + ".csv"


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
    raw = args.out / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    metrics, lacking = (METRICS, []) if args.reuse else known_metrics(args.ncu, METRICS)
    for metric in lacking:
        print(f"note: this ncu lacks {metric}", file=sys.stderr)

    table, long_rows, failures = [], [], []
    for case in cases:
        if args.only and not any(text in case["label"] for text in args.only):
            continue
        path = raw / file_name(case)
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
        busiest = max((*BUSY, "shared"), key=lambda p: figures.get(f"{p}_pct", 0.0))
        differing = [f"{r[0]} {cell(r[3], 3)}×" for r in rows if r[4] == "DIFFERS"]
        ratio = next((r[3] for r in rows if r[0] == EXECUTED), None)
        ceiling = "–"
        if case["ceiling"]:
            key, least = case["ceiling"]
            got = figures.get(key)
            reached = "not measured" if got is None else ("reached" if got >= least else "MISSED")
            ceiling = f"{key} {cell(got, 3)} of {least}: {reached}"
        lines.append(
            f"| {case['label']} | {cell(figures.get('ms'), 3)} | {cell(figures.get('ipc'), 2)} "
            f"| {busiest} {cell(figures.get(busiest + '_pct'))} % | {cell(figures.get('l1_hit_pct'))} "
            f"| {cell(figures.get('l2_hit_pct'))} | {cell(figures.get('gbps'), 0)} "
            f"| {cell(ratio, 3)}× | {'; '.join(differing) or 'as stated'} | {ceiling} |"
        )
    if failures:
        lines += ["", "Failed:", "", *(f"- {f}" for f in failures)]
    (out / "kernels.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
