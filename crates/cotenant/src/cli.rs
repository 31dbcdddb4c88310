//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Measure, explain and predict what workloads that share one GPU do to each other.
#[derive(Debug, Parser)]
#[command(name = "cotenant", version, about, long_about = None, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run an experiment: prints its table, writes a run folder and a report
    Run(RunArgs),
    /// Put a load on a server of language models that is running, and say what it did
    Load(Box<LoadArgs>),
    /// Serve made-up tokens at given times over the API of language models: a server to try loads on
    TokenServer(TokenServerArgs),
    /// Say what this machine has and lacks for each sharing mode and each measurement
    Doctor(JsonArg),
    /// Measure this GPU's device card
    Probe(ProbeArgs),
    /// Make tables, figures and report again from stored runs
    Report(ReportArgs),
    /// Compare two runs, or a run with the reference values it carries, trial by trial
    Compare(CompareArgs),
    /// List the built-in experiments
    Experiments(JsonArg),
    /// List the built-in kernels with their parameters and demand
    Kernels(JsonArg),
    /// List the built-in models
    Models(JsonArg),
    /// List the device cards for the simulated GPU
    Cards(JsonArg),
    /// Print the Python module that makes a program a tenant measured by iteration
    Helper,
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    Man {
        /// Folder, made if absent
        folder: PathBuf,
    },
    /// A tenant process of a run
    #[command(hide = true)]
    Worker {
        /// Descriptor of the meeting page
        meeting: i32,
    },
    /// A server tenant of a run
    #[command(hide = true)]
    ServerTenant,
    /// Launch one kernel once, for ncu
    #[command(hide = true)]
    KernelOnce(KernelOnceArgs),
}

/// `--json` alone.
#[derive(Debug, Args)]
pub struct JsonArg {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Experiment file, or the name of a built-in one (`cotenant experiments`)
    #[arg(required_unless_present = "resume")]
    pub experiment: Option<String>,
    /// `auto`, `cuda:N`, `sim:CARD`, or `host` for programs without a GPU
    #[arg(long, default_value = "auto", env = "COTENANT_DEVICE")]
    pub device: String,
    /// Override a value of the experiment: `measure.budget="5s"`, `tenants.copy.threads=512`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Run only trials with this id (`*` matches any part); may be given several times
    #[arg(long, value_name = "TRIAL")]
    pub only: Vec<String>,
    /// Keep the kernel time lines of models and programs in the run folder, under `traces/`
    #[arg(long)]
    pub keep_traces: bool,
    /// Continue this run folder
    #[arg(long, value_name = "RUN", conflicts_with_all = ["experiment", "set", "only", "out"])]
    pub resume: Option<PathBuf>,
    /// Folder for run folders
    #[arg(long, default_value = "runs")]
    pub out: PathBuf,
    /// Join the MPS daemon that already serves this environment instead of starting one
    #[arg(long)]
    pub join_mps: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// No progress bar and no live lines
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// `auto`, `cuda:N` or `sim:CARD`
    #[arg(long, default_value = "auto", env = "COTENANT_DEVICE")]
    pub device: String,
    /// Card to write; the report page goes beside it with `.html`
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print the card as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Print the summaries as JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folder, or the folder of a load or of several
    pub a: PathBuf,
    /// Folder of the same kind to compare with; absent with `--reference`
    #[arg(required_unless_present = "reference")]
    pub b: Option<PathBuf>,
    /// Compare with the reference values that the experiment carries
    #[arg(long, conflicts_with = "b")]
    pub reference: bool,
    /// Only references whose source contains this
    #[arg(long, requires = "reference")]
    pub source: Option<String>,
    /// Exit with code 8 if some relative difference is above this many percent
    #[arg(long, value_name = "PERCENT")]
    pub fail_above: Option<f64>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `kernel-once`.
#[derive(Debug, Args)]
pub struct KernelOnceArgs {
    /// Kernel
    pub kernel: String,
    /// Blocks in the grid
    #[arg(long, default_value_t = 1)]
    pub blocks: u32,
    /// Threads per block
    #[arg(long, default_value_t = 128)]
    pub threads: u32,
    /// Turns of the loop
    #[arg(long, default_value_t = 1)]
    pub iterations: u64,
    /// Parameter, `name=value`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// CUDA index
    #[arg(long, default_value_t = 0)]
    pub device: u32,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Server, such as http://127.0.0.1:8000
    #[arg(required_unless_present = "self_test")]
    pub url: Option<String>,
    /// Measure a server that knows what it did, and put what is reported beside that (about 45 s)
    #[arg(long)]
    pub self_test: bool,
    /// Kind of server: vllm, sglang, llama-cpp, tgi, transformers-serve, mistral-rs, token-server or generic
    #[arg(long, default_value = "generic")]
    pub preset: String,
    /// Model or adapter to ask for; the first that the server lists where none is given
    #[arg(long)]
    pub model: Option<String>,
    /// Models and adapters that requests (or sessions) are drawn for, by weight: base=2,adapter=1
    #[arg(long, value_name = "NAME=WEIGHT,...")]
    pub models: Option<String>,
    /// Use /v1/completions instead of /v1/chat/completions
    #[arg(long)]
    pub completions: bool,
    /// Ask for whole answers instead of streams
    #[arg(long)]
    pub no_stream: bool,
    /// Let answers end before the tokens asked for (else `ignore_eos` is sent, where the server knows it)
    #[arg(long)]
    pub may_end: bool,
    /// Closed loop: so many users, each with one request at a time; several, such as 8,16,32, for a load at each; or a
    /// range, such as 1..64, in which the most users are looked for that keep the --slo
    #[arg(long, value_name = "USERS")]
    pub concurrency: Option<String>,
    /// Pause of a user between requests
    #[arg(long, value_name = "TIME")]
    pub think: Option<String>,
    /// Sessions of so many turns (4, uniform(2,6), …), each of which carries what was said before; --rate and --requests of
    /// an open loop are then of sessions
    #[arg(long, value_name = "LENGTH")]
    pub turns: Option<String>,
    /// Seconds between an answer and the next turn: 2.5, uniform(1,3), exponential(5), lognormal(4,0.8)
    #[arg(long, value_name = "SECONDS", requires = "turns")]
    pub turn_think: Option<String>,
    /// Open loop: requests per second; with --trace, what the trace is stretched to; several or a range as --concurrency
    #[arg(long, value_name = "PER_S")]
    pub rate: Option<String>,
    /// Share of requests that must keep the --slo, in a range
    #[arg(long, value_name = "SHARE", default_value = "95%")]
    pub attain: String,
    /// How near to each other the highest load that does and the lowest that does not must come, in a range
    #[arg(long, value_name = "SHARE", default_value = "5%")]
    pub within: String,
    /// Most loads at a level of a range for which one load does not decide
    #[arg(long, value_name = "LOADS", default_value_t = 3)]
    pub repeats: u32,
    /// How arrivals of an open loop follow each other: poisson (default), constant, gamma(CV), weibull(CV)
    #[arg(long, value_name = "PROCESS")]
    pub arrivals: Option<String>,
    /// How the rate changes: on-off(5s,15s), on-off(5s,15s,random), ramp(0,2,60s), step(30s,2)
    #[arg(long)]
    pub profile: Option<String>,
    /// Replay a trace: Azure LLM, Mooncake, BurstGPT, CSV or JSON lines of our own; or draw requests at the rates of a client of
    /// ServeGen
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Replay every N-th request of the trace, from the I-th on; --rate is then that of the part
    #[arg(long, value_name = "I/N", requires = "trace")]
    pub trace_part: Option<String>,
    /// Stretch the drawn or recorded times so that they come at exactly --rate (with --requests)
    #[arg(long, requires = "rate")]
    pub exact_rate: bool,
    /// Number of requests (1,000 where neither this nor --duration is given)
    #[arg(long)]
    pub requests: Option<u64>,
    /// Send for so long
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// Requests at the start that do not count
    #[arg(long, default_value_t = 0)]
    pub warmup: u64,
    /// Count from the first request on instead of looking for the steady part
    #[arg(long)]
    pub whole: bool,
    /// Tokens of a prompt: 512, uniform(100,200), normal(512,64), lognormal(400,0.8), … (512)
    #[arg(long, value_name = "LENGTH")]
    pub prompt_tokens: Option<String>,
    /// Tokens of an answer, likewise (128)
    #[arg(long, value_name = "LENGTH")]
    pub output_tokens: Option<String>,
    /// Classes of prompts by weight: short=2,medium=1,long=1
    #[arg(long)]
    pub mix: Option<String>,
    /// Prefixes that prompts share, COUNT:TOKENS:SHARE
    #[arg(long)]
    pub prefix: Option<String>,
    /// Prompts from JSON lines
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Make prompts of exact length with this tokenizer.json
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Make prompts of `words` (t0 t1 …, a token each for dummy tokenizers) or of `plain` ones
    #[arg(long)]
    pub vocabulary: Option<String>,
    /// Another field of each request, such as temperature=0.7; may be given several times
    #[arg(long, value_name = "KEY=JSON")]
    pub body: Vec<String>,
    /// Limits that goodput counts: ttft=200ms,tpot=50ms,e2e=10s
    #[arg(long)]
    pub slo: Option<String>,
    /// Most requests in flight in an open loop (10,000)
    #[arg(long, value_name = "REQUESTS")]
    pub max_in_flight: Option<u32>,
    /// Time limit of a request
    #[arg(long, value_name = "TIME", default_value = "600s")]
    pub timeout: String,
    /// Seed of prompts and arrivals
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep the time of every chunk in requests.jsonl
    #[arg(long)]
    pub chunks: bool,
    /// Environment variable that holds the API key
    #[arg(long, value_name = "NAME")]
    pub api_key_env: Option<String>,
    /// Folder for run folders
    #[arg(long, default_value = "runs")]
    pub out: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `token-server`.
#[derive(Debug, Args)]
pub struct TokenServerArgs {
    /// Port on 127.0.0.1; 0: a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Name that the model is served under
    #[arg(long, default_value = "simulated")]
    pub model: String,
    /// Time from a request to its first token; without it and --itl tokens come as fast as they can
    #[arg(long, value_name = "TIME")]
    pub ttft: Option<String>,
    /// Time between tokens
    #[arg(long, value_name = "TIME")]
    pub itl: Option<String>,
    /// Send each token in a write of its own, also where several are due at once
    #[arg(long)]
    pub single_writes: bool,
    /// Most requests that are answered at the same time
    #[arg(long, value_name = "REQUESTS")]
    pub running: Option<u32>,
    /// Tokens in one chunk
    #[arg(long, default_value_t = 1, value_name = "TOKENS")]
    pub tokens_per_chunk: u32,
    /// When a chat has a chunk with the role and no text: as soon as the request has come, right before the first text, or
    /// never
    #[arg(long, value_enum, default_value_t = RoleArg::WithFirst, value_name = "WHEN")]
    pub role_chunk: RoleArg,
    /// Tell why an answer ended in a chunk of its own and not with the last text
    #[arg(long)]
    pub finish_chunk: bool,
    /// Wait between the last text and the end of an answer
    #[arg(long, value_name = "TIME")]
    pub tail: Option<String>,
    /// Pause within each answer: AFTER_TOKENS:TIME, such as 10:400ms; with --ttft or --itl what follows is so much later
    #[arg(long, value_name = "AFTER_TOKENS:TIME")]
    pub stall: Option<String>,
    /// Write down here what was really done, a JSON object for each request as it ends; /truth then has nothing
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Stand still: START:LENGTH, such as 5s:3s
    #[arg(long, value_name = "START:LENGTH")]
    pub freeze: Option<String>,
    /// Further name that is served, as an adapter is; may be given several times
    #[arg(long = "adapter", value_name = "NAME")]
    pub adapters: Vec<String>,
    /// Most tokens of a prompt and its answer
    #[arg(long, value_name = "TOKENS")]
    pub max_model_len: Option<u32>,
    /// Environment variable with the key that requests must bring
    #[arg(long, value_name = "NAME")]
    pub api_key_env: Option<String>,
    /// Pace as an engine on the simulated GPU, as JSON
    #[arg(long, hide = true, value_name = "JSON", conflicts_with_all = ["ttft", "itl", "running"])]
    pub engine: Option<String>,
}

/// When a chat of the token server has a chunk with the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// As soon as the request has come.
    Early,
    /// Right before the first text.
    WithFirst,
    /// Never.
    None,
}
