"""Prints what `scripts/peers.sh run` measured as Markdown tables: median of the rounds, with least and most behind it.

    table.py OUT
"""
import csv
import json
import math
import pathlib
import statistics
import sys


def rows(path):
    """Runs that went well; those that did not are in the file, and are counted."""
    try:
        with open(path, newline="") as file:
            all_rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return [], 0
    good = [r for r in all_rows if r["status"] == "ok"]
    return good, len(all_rows) - len(good)


def number(value, digits=3):
    """Three significant digits and no power of ten: 20,700, 0.051, 8.3."""
    if value == 0:
        return "0"

    def behind(x):
        return digits - 1 - math.floor(math.log10(abs(x)))

    # Rounding may bring another digit in front: 9.996 is 10.0.
    value = round(value, behind(value))
    return f"{value:,.{max(0, behind(value))}f}".replace("-", "−")


def cell(group, column):
    values = sorted(float(r[column]) for r in group if r[column])
    if not values:
        return ""
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(values[0])} to {number(values[-1])})"


def table(head, lines):
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def by_tool(data):
    """(concurrency, [(tool, its rows)]), tools in the order in which they first ran."""
    for c in sorted({int(r["concurrency"]) for r in data}):
        here = [r for r in data if int(r["concurrency"]) == c]
        yield c, [(t, [r for r in here if r["tool"] == t]) for t in dict.fromkeys(r["tool"] for r in data)]


def show(out):
    about = json.loads((out / "versions.json").read_text())
    names = {t: f"{t} {v['version']}" for t, v in about["tools"].items()}
    m = about["machine"]
    print(f"{m['cpu']}, cores {', '.join(map(str, m['cores_used']))} of {m['cores']}, {m['os']}, kernel {m['kernel']}; {about['started']}.")
    for tool, why in about["left_out"].items():
        print(f"Left out: {tool}: {why}.")
    for tool, v in about["tools"].items():
        if "python" in v:
            print(f"{tool} runs on Python {v['python']}, which takes {number(v['python_loop_s'])} s for a loop of ours.")
    print()
    data, bad = rows(out / "peers.csv")
    columns = {
        "requests/s": "req_per_s",
        "by its own report": "req_per_s_said",
        "CPU-s for 1,000, less start-up": "cpu_s_per_1000",
        "the same, under load": "cpu_s_per_1000_loaded",
        "start-up, CPU-s": "startup_cpu_s",
        "peak RSS, MB": "peak_rss_mb",
        "CPU of others, s": "other_cpu_s",
    }
    for c, tools in by_tool(data):
        print(f"**{c} at a time, unpaced**\n")
        table(["tool", *columns], [[names.get(t, t), *(cell(g, k) for k in columns.values())] for t, g in tools if g])
    paced, bad_paced = rows(out / "truth.csv")
    # An unpaced server answers at once, so only here does it see how many requests a tool really holds open.
    head = ["tool", "requests/s", "held open", "TTFT mean", "true", "TTFT p99", "true", "TPOT mean", "true", "TPOT p99", "true", "ITL p99"]
    keys = ["req_per_s", "in_flight"]
    keys += [f"{what}_ms_{of}" for what in ("ttft_mean", "ttft_p99", "tpot_mean", "tpot_p99") for of in ("said", "true")] + ["itl_p99_ms_said"]
    for c, tools in by_tool(paced):
        pace = about["asked"]["pace_ms"]
        print(f"**{c} at a time, first token after {pace['ttft']} ms, then one every {pace['itl']} ms** (ms)\n")
        table(head, [[names.get(t, t), *(cell(g, k) for k in keys)] for t, g in tools if g])
    if bad + bad_paced:
        print(f"{bad + bad_paced} runs failed and are not in the tables; their status is in the files.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    show(pathlib.Path(sys.argv[1]))
