//! What a spec becomes on a given device: a list of trials with every size a number.

use cotenant_kernels::{Module, Resolved};
use cotenant_units::{Bytes, Nanos};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The device sizes that expressions in a spec may name.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSizes {
    /// Device name, for error messages.
    pub name: String,
    /// `sms`: streaming multiprocessors.
    pub sms: u32,
    /// `l2`: L2 capacity.
    pub l2: Bytes,
    /// `l1`: unified L1 and shared memory of one SM.
    pub l1: Bytes,
    /// `dram`: device memory that can be allocated.
    pub dram: Bytes,
    /// `smem`: largest dynamic shared memory of one block.
    pub smem: Bytes,
    /// Largest number of threads of one block.
    pub max_threads: u32,
    /// Green contexts are granted in multiples of this many SMs.
    pub sm_granularity: u32,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
}

/// How the tenants of a trial share the GPU. One value per tenant where a list is given, in the trial's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Sharing {
    /// Each tenant alone; no shared phase.
    Solo,
    /// One after the other; no shared phase.
    Sequential,
    /// CUDA streams of one process; stream priority per tenant (lower number = higher priority).
    Streams {
        /// Stream priorities; empty: default for all.
        priority: Vec<i32>,
    },
    /// Processes without MPS: the driver time-slices.
    Processes,
    /// Processes under an MPS daemon of the run's own.
    Mps {
        /// `CUDA_MPS_ACTIVE_THREAD_PERCENTAGE` of each; empty: 100.
        percentage: Vec<f64>,
        /// `CUDA_MPS_CLIENT_PRIORITY` of each (0 high, 1 low); empty: 0.
        priority: Vec<u32>,
        /// `CUDA_MPS_PINNED_DEVICE_MEM_LIMIT` of each, bytes; empty: none.
        pinned_memory: Vec<Bytes>,
    },
    /// Green contexts of one process, each with its own SMs.
    Green {
        /// SMs asked for each; what was given stands in the record.
        sms: Vec<u32>,
        /// Stream priorities; empty: default for all.
        priority: Vec<i32>,
    },
    /// Existing MIG instances, by UUID; never created or destroyed.
    Mig {
        /// One instance UUID per tenant.
        instances: Vec<String>,
    },
}

impl Sharing {
    /// The mode's name as written in a spec.
    pub fn name(&self) -> &'static str {
        match self {
            Sharing::Solo => "solo",
            Sharing::Sequential => "sequential",
            Sharing::Streams { .. } => "streams",
            Sharing::Processes => "processes",
            Sharing::Mps { .. } => "mps",
            Sharing::Green { .. } => "green",
            Sharing::Mig { .. } => "mig",
        }
    }
}

/// How much work a tenant does in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// This many turns of the kernel's loop per launch.
    Iterations(u64),
    /// As many turns as make one launch last this long alone (calibrated before the first repeat).
    Duration(Nanos),
}

/// When a tenant's shared phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Everyone does its launches once; what is left of the longer one runs alone (the paper's protocol).
    Fixed,
    /// Everyone loops until the last has its launches; only launches during which every other tenant was
    /// active from start to end count.
    Steady,
}

/// What a tenant's shared time is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// Alone with the same share of the GPU (same percentage, same SMs).
    #[default]
    SameShare,
    /// Alone on the whole GPU.
    WholeGpu,
}

/// One tenant of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantPlan {
    /// Name, unique in the trial.
    pub name: String,
    /// Label that tables group by, for example `encoder`; empty: none.
    pub role: String,
    /// What it runs.
    pub workload: Workload,
    /// When it starts its requests, and how many.
    pub load: Load,
}

/// What a tenant runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Workload {
    /// A kernel of the registry, run by a worker of ours.
    Kernel(KernelPlan),
    /// A model, run by the Python worker that is shipped with the binary.
    Torch(TorchPlan),
    /// A program of the user's.
    Command(CommandPlan),
    /// A server of a language model, with the load on it.
    Server(Box<ServerPlan>),
}

/// A kernel with everything fixed.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelPlan {
    /// Kernel with parameters and shape fixed.
    pub kernel: Resolved,
    /// Work per launch.
    pub work: Work,
    /// Launches per phase (back to back on one stream); a multiple of `request`.
    pub launches: u32,
    /// Launches per request: a request is measured from before its first launch to after its last on the
    /// host clock (latency experiments). 1 for plain kernels.
    pub request: u32,
    /// Part of an SM's L1 set aside as shared memory while the kernel runs; zero: the driver chooses. Two kernels
    /// with different choices cannot share an SM: the one that comes later waits until the SM is empty.
    pub carveout: Bytes,
}

impl KernelPlan {
    /// One choice for all kernels that use no shared memory, so that they can share an SM: 32 KiB, which lets 32
    /// blocks (1 KiB each is the system's) reside. Kernels with shared memory keep the driver's choice.
    pub fn default_carveout(kernel: &Resolved) -> Bytes {
        if kernel.shape.shared_bytes.0 == 0 { Bytes::kib(32) } else { Bytes(0) }
    }
}

/// A model and how it is run: the `setup` line of the model worker (`docs/tenant-protocol.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSetup {
    /// Built-in architecture, path of a `config.json` or of a folder, or hub id.
    pub model: String,
    /// `random`, or path or hub id of real weights.
    pub weights: String,
    /// `fp16`, `bf16` or `fp32`.
    pub dtype: String,
    /// Sequences that run together.
    pub batch: u32,
    /// Tokens of each sequence; of the prompt in `decode`.
    pub sequence: u32,
    /// `forward`, `prefill` or `decode`.
    pub mode: String,
    /// `decode`: steps until the position returns to the end of the prompt.
    pub tokens: u32,
    /// Replay one captured graph per iteration.
    pub cuda_graph: bool,
    /// Through `torch.compile`.
    pub compile: bool,
    /// Attention implementation: `sdpa`, `eager`, …
    pub attention: String,
    /// `cuda` or `cpu`.
    pub device: String,
    /// Seed of weights and input.
    pub seed: u64,
}

/// A model tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct TorchPlan {
    /// What the worker is told.
    pub setup: ModelSetup,
    /// Python interpreter.
    pub python: String,
    /// Environment beside what the sharing mode needs.
    pub env: BTreeMap<String, String>,
}

/// A program of the user's.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandPlan {
    /// Program and arguments; never a shell line.
    pub argv: Vec<String>,
    /// Environment beside what the sharing mode needs.
    pub env: BTreeMap<String, String>,
    /// It does not speak the tenant protocol: one run of it, start to exit, is one iteration.
    pub opaque: bool,
}

/// A server tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerPlan {
    /// How it is started, or where it is.
    pub setup: ServerSetup,
    /// What is asked of it, and when.
    pub load: ServerLoad,
    /// Environment beside what the sharing mode needs.
    pub env: BTreeMap<String, String>,
    /// Seed of the experiment.
    pub seed: u64,
}

/// The table `server` of an experiment; what each key is stands in `docs/serving.md`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSetup {
    /// Kind of server.
    pub preset: String,
    /// Address of a server that someone else runs.
    pub url: Option<String>,
    /// Tenant of the trial whose server this one uses too.
    pub of: Option<String>,
    /// Model as the server takes it.
    pub model: Option<String>,
    /// Command line instead of the preset's.
    pub command: Option<Vec<String>>,
    /// Added to the end of the command line.
    pub args: Vec<String>,
    /// Name that requests use.
    pub served_name: Option<String>,
    /// Adapters: name and path.
    pub adapters: BTreeMap<String, String>,
    /// Part of the card's memory, in (0, 1].
    pub memory_share: Option<f64>,
    /// Most tokens of a request.
    pub max_model_len: Option<u32>,
    /// Type of weights.
    pub dtype: Option<String>,
    /// Device as the server names it.
    pub device: Option<String>,
    /// Environment variable with the key that requests must bring.
    pub api_key_env: Option<String>,
    /// Python interpreter.
    pub python: Option<String>,
    /// Time until it must be ready, ns.
    pub startup: Option<u64>,
    /// Start beside the trial's other servers.
    pub start_together: bool,
    /// Start anew for each trial.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

impl ServerSetup {
    /// Whether a server is started for this tenant, and no other's used.
    pub fn starts(&self) -> bool {
        self.url.is_none() && self.of.is_none()
    }
}

/// The table `load` of an experiment: what `cotenant load` takes as options (`docs/serving.md`). Times in ns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the option of that name")]
pub struct ServerLoad {
    pub concurrency: Option<u32>,
    pub think: Option<u64>,
    pub rate: Option<f64>,
    pub arrivals: Option<String>,
    pub profile: Option<String>,
    pub trace: Option<String>,
    pub trace_part: Option<String>,
    pub exact_rate: bool,
    pub turns: Option<String>,
    pub turn_think: Option<String>,
    pub models: Option<String>,
    pub requests: Option<u32>,
    pub duration: Option<u64>,
    pub warmup: Option<u32>,
    pub prompt_tokens: Option<String>,
    pub output_tokens: Option<String>,
    pub mix: Option<String>,
    pub prefix: Option<String>,
    pub prompts: Option<String>,
    pub vocabulary: Option<String>,
    pub tokenizer: Option<String>,
    pub model: Option<String>,
    pub completions: bool,
    pub stream: Option<bool>,
    pub may_end: bool,
    pub body: serde_json::Map<String, serde_json::Value>,
    pub in_flight: Option<u32>,
    pub timeout: Option<u64>,
    pub chunks: bool,
    pub slo: Option<String>,
}

/// When a tenant starts its requests (a request is an iteration of a model or program, or `request` launches of a
/// kernel).
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Requests per phase.
    pub iterations: u32,
    /// Requests before each phase that do not count (models and programs).
    pub warmup: u32,
    /// Closed loop: pause after each request (think time), host side.
    pub gap: Nanos,
    /// Open loop: when requests arrive. `None`: the next one starts when the last has ended.
    pub arrivals: Option<Arrivals>,
}

/// An open loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    /// Shape.
    pub process: ArrivalProcess,
    /// Mean rate.
    pub rate: Rate,
}

/// How arrivals follow each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "kebab-case")]
pub enum ArrivalProcess {
    /// Equal distances.
    Constant,
    /// Exponential distances.
    Poisson,
    /// Gamma-distributed distances with this coefficient of variation.
    Gamma {
        /// Standard deviation of the distance over its mean.
        cv: f64,
    },
    /// Arrivals of a trace file, stretched to the rate.
    Trace {
        /// Path of the file (`docs/experiments.md`, traces).
        path: String,
    },
}

/// A mean rate of requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// Requests per second.
    PerSecond(f64),
    /// Share of what the tenant does alone in a closed loop (measured at the start of the trial), 0..
    OfCapacity(f64),
    /// The trace's own.
    AsRecorded,
}

impl TenantPlan {
    /// Its kernel, if it is a kernel tenant.
    pub fn kernel(&self) -> Option<&KernelPlan> {
        match &self.workload {
            Workload::Kernel(k) => Some(k),
            _ => None,
        }
    }

    /// Its server, if it is a server tenant.
    pub fn server(&self) -> Option<&ServerPlan> {
        match &self.workload {
            Workload::Server(s) => Some(s),
            _ => None,
        }
    }

    /// A process of its own that is not our worker: a model or a user's program.
    pub fn is_program(&self) -> bool {
        !matches!(self.workload, Workload::Kernel(_))
    }

    /// Its latency is measured request by request on the host's clock.
    pub fn by_request(&self) -> bool {
        let several = self.kernel().is_some_and(|k| k.request > 1);
        several || self.load.gap.0 > 0 || self.load.arrivals.is_some()
    }

    /// `kernel`, `torch`, `command` or `server`.
    pub fn kind(&self) -> &'static str {
        match self.workload {
            Workload::Kernel(_) => "kernel",
            Workload::Torch(_) => "torch",
            Workload::Command(_) => "command",
            Workload::Server(_) => "server",
        }
    }
}

/// A value printed by a paper, or measured by someone else, for one metric of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reference {
    /// Where it comes from, for example `paper, H100 NVL`.
    pub source: String,
    /// Metric: `speedup`, `ratio`, `slowdown`, `slowdown.TENANT`, `solo_ms.TENANT`, `p99_ms.TENANT`.
    pub metric: String,
    /// The value.
    pub value: f64,
}

/// One cell of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialPlan {
    /// Unique in the run; letters, digits, `.`, `_`, `-`, `=`.
    pub id: String,
    /// Series this trial belongs to in the figure (one line or bar group).
    pub series: String,
    /// Position on the figure's x axis, if it has one.
    pub x: Option<f64>,
    /// Values of the sweep variables.
    pub vars: BTreeMap<String, f64>,
    /// Sharing mode with its numbers.
    pub sharing: Sharing,
    /// Tenants, in order.
    pub tenants: Vec<TenantPlan>,
    /// When a shared phase ends.
    pub protocol: Protocol,
    /// What slowdowns are relative to.
    pub baseline: Baseline,
    /// Also run the tenants back to back each repeat (for the speedup).
    pub sequential: bool,
    /// Values to compare with.
    pub references: Vec<Reference>,
    /// Launch- or process-bound: excluded from the simulator's accuracy figure.
    pub host_bound: bool,
    /// Each model or program gets cores of its own on the host.
    pub pin: bool,
}

/// When to stop repeating (method rule 5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stopping {
    /// Fewest repeats.
    pub min_repeats: u32,
    /// Most repeats.
    pub max_repeats: u32,
    /// Stop once the 95 % interval of the median of every phase is within this share of it.
    pub precision: f64,
    /// Wall-clock budget of one trial.
    pub budget_ns: Nanos,
    /// Unrecorded repeats first.
    pub warmup: u32,
    /// Independent set-ups that the repeats are spread over, each with memory at other addresses: what depends
    /// on where an array lies shows as spread and not as a false exact number.
    pub setups: u32,
    /// How often the phases run once more, after the last repeat, with the kernel clock on (models and programs).
    pub traced: u32,
    /// A model or program of which nothing is heard for this long is hung.
    pub watchdog_ns: Nanos,
}

/// How an experiment's figure looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigureSpec {
    /// `bars`, `line`, `kde`, `ecdf`, `iterations`, `matrix` or `telemetry`.
    pub kind: String,
    /// Metric drawn (see [`Reference::metric`]).
    pub metric: String,
    /// Axis labels with unit.
    pub x_label: String,
    /// See `x_label`.
    pub y_label: String,
    /// Logarithmic x axis.
    #[serde(default)]
    pub log_x: bool,
    /// Trials it is drawn of, by id, with `*` for any part; empty: all.
    #[serde(default)]
    pub trials: Vec<String>,
}

/// A spec resolved on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Short name (file stem, run folder).
    pub name: String,
    /// Headline.
    pub title: String,
    /// What it shows and why; one paragraph.
    pub summary: String,
    /// Paper section and figure or table, for example `4.2.2, Table 3`; empty if beyond the paper.
    pub section: String,
    /// Seed of everything random.
    pub seed: u64,
    /// When to stop.
    pub stopping: Stopping,
    /// Figures.
    pub figures: Vec<FigureSpec>,
    /// The trials.
    pub trials: Vec<TrialPlan>,
}

impl TrialPlan {
    /// Whether any tenant is a model or a program of the user's.
    pub fn has_programs(&self) -> bool {
        self.tenants.iter().any(TenantPlan::is_program)
    }

    /// Why this device cannot run the trial although its sizes fit, in words for a "skipped" record: a tenant
    /// whose kernel exists for another compute capability only. `None` if nothing is in the way.
    pub fn unmet(&self, device: &DeviceSizes) -> Option<String> {
        let (major, minor) = device.capability;
        self.tenants.iter().filter_map(|t| Some((t, &t.kernel()?.kernel))).find_map(|(t, kernel)| {
            let (fits, needs) = match kernel.module {
                Module::Portable => (major >= 8, "8.0 or newer"),
                Module::Sm90a => ((major, minor) == (9, 0), "9.0 exactly (Hopper)"),
            };
            let name = (&t.name, kernel.kernel, &device.name);
            (!fits).then(|| {
                format!(
                    "tenant {} runs {}, which needs compute capability {needs}, and {} has {major}.{minor}",
                    name.0, name.1, name.2
                )
            })
        })
    }
}
