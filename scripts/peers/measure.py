"""Measures load generators one after the other against our token server: `scripts/peers.sh run` calls this. Standard library only.

    measure.py PEERS SERVERS OUT [--rounds N] [--short] [--scenario unpaced|paced] [--only NAME,…] [--cores 0,1] [--single-writes]

What a tool did is judged by the server, which writes down each request's arrival, tokens and end: the rate is that of the middle 80 %
of the requests by their end, so that neither start-up nor stragglers count, whatever a tool says of itself. Tools take turns within a
round, in an order that moves on from round to round, since the speed of a virtual machine drifts by more than tools differ.
"""
import argparse
import csv
import json
import os
import pathlib
import platform
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from processes import adopt_orphans, kill_all, machine_cpu_s, read_stat, start, watch
from tools import MODEL, TOKENS, TOOLS, Ask, Places, environment, version

CONCURRENCIES = (64, 256)
PACE_MS = (40, 10)  # TTFT, time between tokens
PACED_EACH = 40  # requests of each stream
TINY = 64  # requests of the run that shows what a start costs
TIMEOUT_S = 420
TIMED_S = 8  # of a tool that takes a time, unpaced

PEERS_COLUMNS = [
    "tool", "concurrency", "round", "turn", "status", "requests", "completed", "req_per_s", "req_per_s_whole", "req_per_s_said",
    "in_flight", "cpu_s", "startup_cpu_s", "cpu_s_per_1000", "cpu_s_per_1000_loaded", "peak_rss_mb", "peak_pss_mb", "processes",
    "wall_s", "first_request_s", "server_cpu_s", "other_cpu_s", "steal_s",
]
TRUTH_COLUMNS = [
    "tool", "concurrency", "round", "turn", "status", "requests", "completed", "req_per_s", "in_flight", "cpu_s_per_1000_loaded",
    *(f"{what}_{of}" for what in ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "tpot_p99_ms") for of in ("said", "true")),
    "itl_mean_ms_said", "itl_p99_ms_said",
]


class Server:
    """Our token server on a free port."""

    def __init__(self, places, options, log):
        self.process = start([places.cotenant, "token-server", "--port", 0, "--model", MODEL, *options], stdout=subprocess.PIPE, stderr=log)
        self.url = self.process.stdout.readline().decode().strip()
        if not self.url.startswith("http://127.0.0.1:"):
            raise RuntimeError(f"the token server said {self.url!r} instead of its address")
        self.get("/health")

    @property
    def pid(self):
        return self.process.pid

    def get(self, path):
        # Without a proxy, whatever the environment says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=60) as answer:
            return answer.read()

    def cpu_s(self):
        return read_stat(self.pid)[1]

    def truth(self):
        """Requests that were answered to the end, with as many tokens as every tool is told to ask for: not the probes of some."""
        # An answer's end is written down after its last byte is out.
        time.sleep(0.1)
        rows = [json.loads(line) for line in self.get("/truth").splitlines()]
        dropped = json.loads(self.get("/stats"))["truth_dropped"]
        if dropped:
            raise RuntimeError(f"the token server had no room for {dropped} records")
        return [r for r in rows if r["status"] == 200 and not r["aborted"] and r["output_tokens"] == TOKENS]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def p99(values):
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def judged(truth):
    """What the server saw in the middle 80 % of the requests: the rate, and how many requests it had at a time (few, where a client is
    slow to send or to read). A request counts by its part in that window: a paced server answers in waves, and counting ends would
    count a wave too many."""
    ends = sorted(r["end_ns"] for r in truth)
    a, b = ends[len(ends) // 10], ends[len(ends) - 1 - len(ends) // 10]
    held = [(max(0, min(r["end_ns"], b) - max(r["arrival_ns"], a)), r["end_ns"] - r["arrival_ns"]) for r in truth]
    done = sum(inside / max(whole, 1) for inside, whole in held)
    first = min(r["arrival_ns"] for r in truth)
    return {
        "first_ns": first,
        "window": (a, b),
        "in_window": done,
        "req_per_s": 1e9 * done / (b - a),
        "req_per_s_whole": 1e9 * len(ends) / (ends[-1] - first),
        "in_flight": sum(inside for inside, _ in held) / (b - a),
    }


def true_times(truth):
    ttft = [(r["first_token_ns"] - r["arrival_ns"]) / 1e6 for r in truth]
    tpot = [(r["last_token_ns"] - r["first_token_ns"]) / 1e6 / (r["output_tokens"] - 1) for r in truth]
    return {"ttft_mean": statistics.fmean(ttft), "ttft_p99": p99(ttft), "tpot_mean": statistics.fmean(tpot), "tpot_p99": p99(tpot)}


class Measure:
    def __init__(self, args, places, tools):
        self.args, self.places, self.tools = args, places, tools
        self.revision = None
        self.failed = 0
        (args.out / "logs").mkdir(parents=True, exist_ok=True)

    def run(self, tool, concurrency, requests, options, name, seconds=1):
        """One run of a tool: what it used, what the server saw of it, what it says, and how it went."""
        work = pathlib.Path(tempfile.mkdtemp(prefix="peers-"))
        log = self.args.out / "logs" / f"{name}.log"
        try:
            with open(log, "wb") as out:
                server = Server(self.places, options, out)
                try:
                    ask = Ask(server.url, concurrency, requests, seconds, work, self.places)
                    before, steal, own = *machine_cpu_s(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
                    watched = watch(tool.command(ask), server.pid, TIMEOUT_S, env=environment(tool, work), cwd=work, stdout=out, stderr=out)
                    after, steal_after = machine_cpu_s()
                    own = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - own
                    served = server.cpu_s()
                    truth = server.truth()
                finally:
                    server.stop()
            status = "ok"
            if watched.timed_out:
                status = f"killed after {TIMEOUT_S} s"
            elif watched.code != 0:
                status = f"exit code {watched.code}"
            elif not tool.timed and len(truth) != requests:
                status = f"{len(truth)} of {requests} requests"
            said = {}
            try:
                said = tool.report(work)
            except (OSError, KeyError, IndexError, ValueError, TypeError) as e:
                status = f"{status}; no report: {type(e).__name__} {e}" if status != "ok" else f"no report: {type(e).__name__} {e}"
            self.revision = said.get("revision", self.revision)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        row = {
            "tool": tool.name, "concurrency": concurrency, "status": status, "requests": None if tool.timed else requests, "completed": len(truth),
            "req_per_s_said": said.get("req_per_s"), "cpu_s": watched.cpu_s, "peak_rss_mb": watched.peak_rss / 1e6,
            "peak_pss_mb": watched.peak_pss / 1e6 or None, "processes": watched.most_processes,
            "wall_s": (watched.end_ns - watched.start_ns) / 1e9, "server_cpu_s": served, "steal_s": steal_after - steal,
            "other_cpu_s": max(0.0, after - before - watched.cpu_s - served - own),
        }
        if len(truth) >= 10:
            seen = judged(truth)
            a, b = seen["window"]
            row |= {k: seen[k] for k in ("req_per_s", "req_per_s_whole", "in_flight")}
            row["cpu_s_per_1000_loaded"] = 1e3 * (watched.cpu_until(b) - watched.cpu_until(a)) / seen["in_window"]
            row["first_request_s"] = (seen["first_ns"] - watched.start_ns) / 1e9
        if status != "ok":
            self.failed += 1
            tail = log.read_text(errors="replace").splitlines()[-5:]
            print(f"{name}: {status}", *tail, sep="\n    ", file=sys.stderr)
        return row, said, truth

    def say(self, row, done, of):
        print(
            f"[{done}/{of}] {row['tool']}, {row['concurrency']} at a time, round {row['round']}: {row.get('req_per_s') or 0:,.0f} requests/s, "
            f"{row.get('cpu_s_per_1000_loaded') or 0:.3f} CPU-s for 1,000, {row['wall_s']:.0f} s; {row['status']}",
            flush=True,
        )

    def turns(self, tools):
        """Every tool at every concurrency, in rounds: (round, turn, concurrency, tool)."""
        for r in range(self.args.rounds):
            turn = 0
            for c in CONCURRENCIES if r % 2 == 0 else CONCURRENCIES[::-1]:
                for i in range(len(tools)):
                    turn += 1
                    yield r + 1, turn, c, tools[(i + r) % len(tools)]

    def unpaced(self, rows, starts):
        options = ["--single-writes"] if self.args.single_writes else []
        of = self.args.rounds * len(CONCURRENCIES) * len(self.tools)
        tiny = {}
        for done, (r, turn, c, tool) in enumerate(self.turns(self.tools), 1):
            if (r, tool.name) not in tiny and not tool.timed:
                # Imports, tokenizer, worker processes and the writing of a report, which come once, however many requests follow.
                row, _, _ = self.run(tool, TINY, TINY, options, f"start-{tool.name}-{r}")
                tiny[r, tool.name] = row["cpu_s"]
                starts({**row, "round": r, "turn": turn})
            requests = max(tool.requests // 10, 10 * c) if self.args.short else tool.requests
            seconds = 2 if self.args.short else TIMED_S
            row, _, _ = self.run(tool, c, requests, options, f"unpaced-{tool.name}-{c}-{r}", seconds)
            row |= {"round": r, "turn": turn, "startup_cpu_s": tiny.get((r, tool.name))}
            if not tool.timed and row["completed"] > TINY:
                # May be below zero in a short run, where a start differs by more than the requests take.
                row["cpu_s_per_1000"] = 1e3 * (row["cpu_s"] - tiny[r, tool.name]) / (row["completed"] - TINY)
            rows(row)
            self.say(row, done, of)

    def paced(self, rows):
        tools = [t for t in self.tools if t.parses]
        of = self.args.rounds * len(CONCURRENCIES) * len(tools)
        each = PACED_EACH // 4 if self.args.short else PACED_EACH
        options = ["--ttft", f"{PACE_MS[0]}ms", "--itl", f"{PACE_MS[1]}ms"]
        for done, (r, turn, c, tool) in enumerate(self.turns(tools), 1):
            seconds = round(each * (PACE_MS[0] + PACE_MS[1] * (TOKENS - 1)) / 1e3)
            row, said, truth = self.run(tool, c, each * c, options, f"paced-{tool.name}-{c}-{r}", seconds)
            row |= {"round": r, "turn": turn}
            true = true_times(truth) if len(truth) >= 10 else {}
            for key in ("ttft_mean", "ttft_p99", "tpot_mean", "tpot_p99"):
                row[f"{key}_ms_said"], row[f"{key}_ms_true"] = said.get(key), true.get(key)
            row["itl_mean_ms_said"], row["itl_p99_ms_said"] = said.get("itl_mean"), said.get("itl_p99")
            rows(row)
            self.say(row, done, of)


def writer(path, columns):
    """Adds rows to a table, each at once on disk: an interrupted measurement keeps what it has."""
    file = open(path, "w", newline="")
    table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()

    def add(row):
        table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        file.flush()

    return add


def random_read_ns():
    """Time of a look-up in a list that no cache holds. Tools that keep much in memory depend on it, small ones do not, and on virtual
    machines it differs by times from hour to hour; so it is written down with the numbers."""
    values = list(map(float, range(3_000_000)))
    places = random.Random(1).choices(range(len(values)), k=300_000)
    began = time.process_time()
    for at in places:
        values[at]
    return round((time.process_time() - began) / len(places) * 1e9)


def machine(cores):
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) * 1024
    system = platform.freedesktop_os_release().get("PRETTY_NAME") if hasattr(platform, "freedesktop_os_release") else None
    return {
        "cpu": cpu, "cores": os.cpu_count(), "cores_used": cores, "memory_gb": round(memory / 1e9, 1), "os": system,
        "kernel": platform.release(), "load_average_before": os.getloadavg()[0], "random_read_ns": random_read_ns(),
    }


def versions(measure, left_out, cores):
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(cores),
        "tools": {t.name: version(t, measure.places) for t in measure.tools},
        "left_out": left_out,
        "asked": {
            "output_tokens": TOKENS, "concurrency": CONCURRENCIES, "rounds": measure.args.rounds, "short": measure.args.short,
            "single_writes": measure.args.single_writes, "pace_ms": dict(zip(("ttft", "itl"), PACE_MS)),
            "requests_unpaced": {t.name: t.requests for t in measure.tools if not t.timed}, "seconds_unpaced": TIMED_S, "requests_paced_each_stream": PACED_EACH,
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("peers", type=pathlib.Path)
    parser.add_argument("servers", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="few requests: to see that everything works, not to measure")
    parser.add_argument("--scenario", choices=("unpaced", "paced"), help="only this one")
    parser.add_argument("--only", help="only these tools, by name")
    parser.add_argument("--cores", help="cores for tools and server; the first two where none are given")
    parser.add_argument("--single-writes", action="store_true", help="the unpaced server sends each token in a write of its own")
    args = parser.parse_args()
    args.out = args.out.resolve()
    exe = pathlib.Path(os.environ.get("COTENANT_EXE", "target/release/cotenant")).resolve()
    places = Places(args.peers.resolve(), args.servers.resolve(), exe)
    left_out = {}
    try:
        for line in (places.peers / "left-out").read_text().splitlines():
            name, _, why = line.partition(": ")
            left_out[name] = why
    except FileNotFoundError:
        pass
    tools = []
    for tool in TOOLS:
        if args.only and tool.name not in args.only.split(","):
            continue
        if tool.program(places).exists():
            tools.append(tool)
        else:
            left_out.setdefault(tool.name, "is not installed")
    if not tools:
        sys.exit("peers: nothing to measure: run `peers.sh install`, or mind the names of --only")
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    # Everything that is started from here on stays on these two cores, as the tools share them with the server.
    cores = [int(c) for c in args.cores.split(",")] if args.cores else sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    measure = Measure(args, places, tools)
    about = versions(measure, left_out, cores)
    began = time.monotonic()
    try:
        if args.scenario != "paced":
            measure.unpaced(writer(args.out / "peers.csv", PEERS_COLUMNS), writer(args.out / "starts.csv", PEERS_COLUMNS))
        if args.scenario != "unpaced":
            measure.paced(writer(args.out / "truth.csv", TRUTH_COLUMNS))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        kill_all(set())
        if "cotenant" in about["tools"] and measure.revision:
            about["tools"]["cotenant"]["revision"] = measure.revision
        about["took_s"], about["failed"] = round(time.monotonic() - began), measure.failed
        (args.out / "versions.json").write_text(json.dumps(about, indent=2) + "\n")
    sys.exit(1 if measure.failed else 0)


if __name__ == "__main__":
    main()
