#!/usr/bin/env python3
"""Checks the injected library on a GPU and measures what it costs; prints JSON.

    inject-check.py --library libcotenant_inject.so --tool trace [--models distilgpt2,llama-3.2-3b]
                    [--checks cost,complete,mps,profiler,start,toggle] [--rounds 5] [--iterations 100]

`trace` is the example of crates/timeline. Needs PyTorch with CUDA and transformers; models have random weights.

cost      wall time of an iteration in conditions that alternate: a process without the library (none); one with it
          before it was ever on (never; for graphs: detached before), with recording on, off, and detached. Eager and as a
          CUDA graph.
complete  kernels and kernel time of an iteration against torch.profiler in a process of its own, and whether
          kernels lie within their iteration.
mps       two clients of an MPS daemon, both recorded while both run.
profiler  torch.profiler in an injected process: who gives way, and what is said.
start     recording from the first launch on.
toggle    on and off many times a second under running work; the program must live and recorded iterations be whole.

Each check but `cost` says whether it is `ok`; the exit status is 1 when one is not. The library is built with the binary
(target/inject/release/libcotenant_inject.so).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = {
    "distilgpt2": ("GPT2Config", dict(n_layer=6, n_head=12, n_embd=768, vocab_size=50257)),
    "llama-3.2-3b": (
        "LlamaConfig",
        dict(
            hidden_size=3072,
            intermediate_size=8192,
            num_hidden_layers=28,
            num_attention_heads=24,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=128256,
            tie_word_embeddings=True,
        ),
    ),
}


def worker(model_name):
    """Reads `run eager|graph N`, `profile eager|graph N`, `exit`; answers each with one line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch
    import transformers

    torch.manual_seed(1)
    config_class, sizes = SHAPES[model_name]
    config = getattr(transformers, config_class)(use_cache=False, **sizes)
    torch.set_default_dtype(torch.float16)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    torch.set_default_dtype(torch.float32)
    tokens = torch.randint(0, config.vocab_size, (8, 128), device="cuda")
    forwards = {}

    def eager():
        return model(tokens)

    def prepare(kind):
        if kind in forwards:
            return forwards[kind]
        with torch.inference_mode():
            for _ in range(10):
                eager()
            torch.cuda.synchronize()
            if kind == "eager":
                forwards[kind] = eager
            else:
                side = torch.cuda.Stream()
                with torch.cuda.stream(side):
                    for _ in range(3):
                        eager()
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    eager()
                forwards[kind] = graph.replay
        return forwards[kind]

    def run(kind, count):
        forward = prepare(kind)
        spans = []
        with torch.inference_mode():
            for _ in range(5):
                forward()
            torch.cuda.synchronize()
            for _ in range(count):
                start = time.monotonic_ns()
                forward()
                torch.cuda.synchronize()
                spans.append((start, time.monotonic_ns()))
        return spans

    def profile(kind, count):
        run(kind, 5)
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as recording:
            run(kind, count)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            recording.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        kernels = [event["dur"] for event in events if event.get("cat") == "kernel"]
        return {"kernels": len(kernels) / (count + 5), "kernel_us": sum(kernels) / (count + 5)}

    def answer(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    torch.cuda.synchronize()
    answer({"pid": os.getpid()})
    for line in sys.stdin:
        verb, *rest = line.split()
        if verb == "exit":
            break
        try:
            answer({"run": run, "profile": profile}[verb](rest[0], int(rest[1])))
        except Exception as error:  # the parent reports it
            answer({"error": f"{type(error).__name__}: {error}"})


class Worker:
    def __init__(self, options, model, folder=None, environment=None):
        settings = dict(os.environ, **(environment or {}))
        if folder:
            settings |= {"CUDA_INJECTION64_PATH": str(options.library), "COTENANT_TRACE": str(folder)}
        self.log = tempfile.TemporaryFile("w+")
        self.tool = options.tool
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", model],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=settings,
        )  # fmt: skip
        self.folder = folder
        self.trace = None

    def ready(self):
        hello = self.read()
        if self.folder:
            self.trace = Path(self.folder) / f"{hello['pid']}.trace"
        return self

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended:\n{self.stderr()}")
        return json.loads(line)

    def send(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def ask(self, *words):
        self.send(*words)
        return self.read()

    def control(self, verb, text=None):
        done = subprocess.run([self.tool, verb, self.trace], input=text, capture_output=True, text=True)
        return json.loads(done.stdout or json.dumps({"error": done.stderr}))

    def busy(self, spans):
        return self.control("busy", "\n".join(f"{start} {end}" for start, end in spans))

    def stderr(self):
        self.log.seek(0)
        return self.log.read()[-3000:]

    def close(self):
        if self.process.poll() is None:
            self.send("exit")
        self.process.wait(timeout=60)
        return self.control("state") if self.trace else None


def median_ms(spans):
    if isinstance(spans, dict):
        raise RuntimeError(spans["error"])
    return statistics.median(end - start for start, end in spans) / 1e6


def summary(medians, none, never):
    middle = statistics.median(medians)
    return {
        "p50_ms": round(middle, 4),
        "spread_ms": [round(min(medians), 4), round(max(medians), 4)],
        "over_none_pct": round((middle / none - 1) * 100, 2),
        "over_never_pct": round((middle / never - 1) * 100, 2),
    }


def check_cost(options, model, folder):
    plain, injected = (Worker(options, model), Worker(options, model, folder))
    plain.ready(), injected.ready()
    kinds = ("eager", "graph")
    medians = {kind: {"none": [], "never": [], "on": [], "off": [], "detached": []} for kind in kinds}
    switches = {kind: [] for kind in kinds}

    def measure(kind, name, worker):
        medians[kind][name].append(median_ms(worker.ask("run", kind, options.iterations)))

    for kind in kinds:
        for worker in (plain, injected):
            worker.ask("run", kind, 30)
        for _ in range(options.rounds):
            measure(kind, "none", plain)
            measure(kind, "never", injected)
        # A process that has been recorded while it ran graphs cannot be detached.
        detach = [("detach", "detached")] if kind == "eager" else []
        for _ in range(options.rounds):
            measure(kind, "none", plain)
            took = []
            for verb, condition in [("on", "on"), ("off", "off"), *detach]:
                switched = injected.control(verb)
                if "error" in switched:
                    return {"error": switched["error"], "stderr": injected.stderr()}
                took.append(round(switched["took_ms"], 2))
                measure(kind, condition, injected)
            switches[kind].append(took)
    out = {}
    for kind in kinds:
        base = statistics.median(medians[kind]["none"])
        never = statistics.median(medians[kind]["never"])
        out[kind] = {name: summary(values, base, never) for name, values in medians[kind].items() if values}
        out[kind]["switches_ms"] = switches[kind]
    plain.close()
    out["end"] = injected.close()
    out["stderr"] = [line for line in injected.stderr().splitlines() if "cotenant" in line]
    return out


def check_complete(options, model, folder):
    reference, injected = Worker(options, model), Worker(options, model, folder)
    reference.ready(), injected.ready()
    out = {}
    for kind in ("eager", "graph"):
        expected = reference.ask("profile", kind, 20)
        injected.ask("run", kind, 30)
        injected.control("on")
        spans = injected.ask("run", kind, options.iterations)
        injected.control("flush")
        busy = injected.busy(spans)
        # It leaves the process again, unless graphs ran.
        stays = injected.control("detach")["attached"]
        sums = [time["kernels"][1] for time in busy["iterations"]]
        recorded = busy["recorded"][-1]
        out[kind] = {
            "profiler": expected,
            "kernels": sorted({time["kernels"][0] for time in busy["iterations"]}),
            "kernel_us_p50": statistics.median(sums) / 1e3,
            "kernel_us_mean": statistics.mean(sums) / 1e3,
            "union_us_p50": statistics.median(time["kernels"][2] for time in busy["iterations"]) / 1e3,
            "wall_us_p50": median_ms(spans) * 1e3,
            "late_ns_max": max(time["late_ns"] for time in busy["iterations"]),
            "outside": busy["outside"],
            "cupti_stays": stays,
            "covered": recorded[0] <= spans[0][0] and spans[-1][1] <= recorded[1],
        }
        row = out[kind]
        row["over_profiler_pct"] = round((row["kernel_us_mean"] / expected["kernel_us"] - 1) * 100, 2)
        good = row["kernels"] == [expected["kernels"]] and abs(row["over_profiler_pct"]) <= 2
        out["ok"] = out.get("ok", True) and good and row["covered"] and row["late_ns_max"] == 0
        out["ok"] = out["ok"] and stays == (kind == "graph")
    out["kernels_by_name"] = {k: v for k, v in injected.control("kernels").items() if k != "kernels"}
    reference.close()
    out["end"] = injected.close()
    return out


def check_mps(options, model, folder):
    with tempfile.TemporaryDirectory(prefix="mps-") as private:
        settings = {"CUDA_MPS_PIPE_DIRECTORY": f"{private}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{private}/log"}
        for path in settings.values():
            os.mkdir(path)
        daemon = subprocess.Popen(["nvidia-cuda-mps-control", "-f"], env=dict(os.environ, **settings))
        time.sleep(1)
        try:
            workers = [Worker(options, model, folder, settings) for _ in range(2)]
            for worker in workers:
                worker.ready().ask("run", "eager", 20)
            out = {"switched": [worker.control("on") for worker in workers]}
            alone = [worker.ask("run", "eager", options.iterations) for worker in workers]
            for worker in workers:
                worker.send("run", "eager", 4 * options.iterations)
            together = [worker.read() for worker in workers]
            begin, end = (pick(spans[side][side] for spans in together) for pick, side in ((max, 0), (min, -1)))
            out["clients"] = []
            for worker, lone, beside in zip(workers, alone, together):
                worker.control("off")
                beside = [span for span in beside if begin <= span[0] and span[1] <= end]
                row = {}
                for name, spans in (("alone", lone), ("together", beside)):
                    times = worker.busy(spans)["iterations"]
                    row[name] = {
                        "iterations": len(spans),
                        "kernels": sorted({time["kernels"][0] for time in times}),
                        "kernel_us_p50": statistics.median(time["kernels"][1] for time in times) / 1e3,
                        "wall_us_p50": median_ms(spans) * 1e3,
                        "late_ns_max": max(time["late_ns"] for time in times),
                    }
                row["end"] = worker.close()
                out["clients"].append(row)
            out["ok"] = all(
                row[name]["iterations"] > 0 and len(row[name]["kernels"]) == 1
                for row in out["clients"]
                for name in ("alone", "together")
            )
            return out
        finally:
            subprocess.run(["nvidia-cuda-mps-control"], input="quit -t 5\n", text=True, env=dict(os.environ, **settings))
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()


def kernels_of(worker, kind="eager"):
    spans = worker.ask("run", kind, 20)
    worker.control("flush")
    return sorted({time["kernels"][0] for time in worker.busy(spans)["iterations"]})


def check_profiler(options, model, folder):
    out = {}
    first = Worker(options, model, folder).ready()
    first.ask("run", "eager", 10)
    first.control("on")
    out["kernels_before"] = kernels_of(first)
    first.control("off")
    out["profiler_after_off"] = first.ask("profile", "eager", 10)
    out["on_after_profiler"] = first.control("on")
    out["detach_after_profiler"] = first.control("detach")
    out["profiler_again"] = first.ask("profile", "eager", 10)
    first.close()
    second = Worker(options, model, folder).ready()
    second.ask("run", "eager", 10)
    second.control("on")
    out["profiler_while_on"] = second.ask("profile", "eager", 10)
    out["kernels_after_profiler"] = kernels_of(second)
    out["detached"] = second.control("detach")
    out["profiler_after_detach"] = second.ask("profile", "eager", 10)
    second.close()
    kernels = out["kernels_before"]
    out["ok"] = (
        len(kernels) == 1
        and [out["profiler_after_off"]["kernels"]] == kernels
        and "another client" in out["on_after_profiler"].get("error", "")
        and out["kernels_after_profiler"] == kernels
    )
    interesting = ("cotenant", "CUPTI", "cupti", "subscriber")
    out["stderr"] = [line for line in second.stderr().splitlines() if any(word in line for word in interesting)][:10]
    return out


def check_start(options, model, folder):
    worker = Worker(options, model, folder, {"COTENANT_TRACE_START": "on"}).ready()
    out = {"state": worker.control("flush"), "eager": kernels_of(worker), "graph": kernels_of(worker, "graph")}
    out["end"] = worker.close()
    out["ok"] = out["state"]["kernels"] > 0 and len(out["eager"]) == 1 and len(out["graph"]) == 1
    return out


def check_toggle(options, model, folder):
    worker = Worker(options, model, folder).ready()
    out = {}
    for kind in ("eager", "graph"):
        worker.ask("run", kind, 10)
        worker.send("run", kind, 8 * options.iterations)
        switched, deadline = 0, time.monotonic() + 3
        while time.monotonic() < deadline:
            for verb in ("on", "off"):
                answer = worker.control(verb)
                if "error" in answer:
                    return {"error": answer, "stderr": worker.stderr()}
                switched += 1
                time.sleep(0.03)
        spans = worker.read()
        busy = worker.busy(spans)
        whole = [
            time["kernels"][0]
            for span, time in zip(spans, busy["iterations"])
            if any(on[0] <= span[0] and span[1] <= on[1] for on in busy["recorded"])
        ]
        out[kind] = {"switched": switched, "iterations_recorded": len(whole), "kernels": sorted(set(whole))}
        out["ok"] = out.get("ok", True) and len(out[kind]["kernels"]) == 1
    out["end"] = worker.close()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--library", type=Path, help="libcotenant_inject.so")
    parser.add_argument("--tool", type=Path, help="the example `trace` of crates/timeline")
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--checks", default="cost,complete,mps,profiler,start,toggle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=100)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker)
    if not (options.library and options.tool):
        parser.error("--library and --tool are needed")
    checks = {
        "cost": check_cost,
        "complete": check_complete,
        "mps": check_mps,
        "profiler": check_profiler,
        "start": check_start,
        "toggle": check_toggle,
    }
    bad = False
    options.library, options.tool = options.library.resolve(), options.tool.resolve()
    for model in options.models.split(","):
        for name in options.checks.split(","):
            if name not in ("cost", "complete") and model != options.models.split(",")[0]:
                continue
            begin = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="trace-") as folder:
                try:
                    result = checks[name](options, model, folder)
                except Exception as error:  # one check must not keep the others from running
                    result = {"error": f"{type(error).__name__}: {error}"}
            bad |= "error" in result or not result.get("ok", True)
            result["took_s"] = round(time.monotonic() - begin, 1)
            print(json.dumps({"model": model, "check": name, "result": result}), flush=True)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
