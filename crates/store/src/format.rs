//! The formats of a run folder. Every file carries `format`, an integer that grows when a reader of the old
//! version would misread the new one; unknown fields are ignored on reading.

use cotenant_units::{Bytes, Nanos};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the run folder's formats.
pub const FORMAT: u32 = 1;

/// `manifest.json`: what ran on what. Written once, first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Format version.
    pub format: u32,
    /// Experiment name.
    pub name: String,
    /// Headline of the experiment.
    pub title: String,
    /// What it shows and why.
    pub summary: String,
    /// Paper section, empty if beyond the paper.
    pub section: String,
    /// Result of a simulated GPU, not of a real one.
    pub simulated: bool,
    /// The device.
    pub device: DeviceRecord,
    /// Sharing, tenants and order of the trials.
    pub trials: Vec<TrialRecord>,
    /// Figures to draw.
    pub figures: Vec<FigureRecord>,
    /// Stopping rule.
    pub stopping: StoppingRecord,
    /// Where it comes from.
    pub provenance: Provenance,
    /// The experiment file as it was read.
    pub spec_text: String,
    /// `--set` overrides, in order.
    pub overrides: Vec<String>,
}

/// The device a run used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRecord {
    /// Name given by the driver, or the card's name.
    pub name: String,
    /// `cuda:0`, `sim:h100-sxm5-80gb`.
    pub selector: String,
    /// First 16 hex digits of the SHA-256 of the GPU's UUID (`None` for a simulated GPU).
    pub uuid_hash: Option<String>,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// L2 capacity, bytes.
    pub l2_bytes: Bytes,
    /// Unified L1 and shared memory of one SM, bytes.
    pub l1_bytes: Bytes,
    /// Device memory, bytes.
    pub memory_bytes: Bytes,
    /// Compute capability, `9.0`.
    pub capability: String,
    /// Driver version, `None` for a simulated GPU.
    pub driver: Option<String>,
    /// CUDA version the driver supports, `13.0`.
    pub cuda: Option<String>,
    /// Highest SM clock, MHz.
    pub max_sm_clock_mhz: f64,
    /// Highest memory clock, MHz.
    pub max_memory_clock_mhz: f64,
    /// Device card and its version, for a simulated GPU.
    pub card: Option<String>,
}

/// Provenance (method rule 10).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// Version of the binary.
    pub version: String,
    /// Git revision it was built from, with `-dirty` where so; `unknown` outside a checkout.
    pub git_revision: String,
    /// SHA-256 of the kernel PTX, hex.
    pub ptx_sha256: String,
    /// Seed.
    pub seed: u64,
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// Operating system and kernel release.
    pub os: String,
    /// Host CPU model and number of cores.
    pub cpu: String,
}

/// One trial as planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialRecord {
    /// Unique in the run.
    pub id: String,
    /// Series in the figure.
    pub series: String,
    /// Position on the x axis.
    pub x: Option<f64>,
    /// Sweep variables.
    pub vars: BTreeMap<String, f64>,
    /// Sharing mode with its numbers, as in the spec: `{"mode": "mps", "percentage": [50, 50], …}`.
    pub sharing: serde_json::Value,
    /// `fixed` or `steady`.
    pub protocol: String,
    /// `same-share` or `whole-gpu`.
    pub baseline: String,
    /// Tenants.
    pub tenants: Vec<TenantRecord>,
    /// Values to compare with.
    pub references: Vec<ReferenceRecord>,
    /// Launch- or process-bound.
    pub host_bound: bool,
}

/// One tenant as planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TenantRecord {
    /// Name.
    pub name: String,
    /// Kernel name.
    pub kernel: String,
    /// Blocks in the grid.
    pub blocks: u32,
    /// Threads per block.
    pub threads: u32,
    /// Launches per phase.
    pub launches: u32,
    /// Launches per request.
    pub request: u32,
    /// Kernel parameters after defaults.
    pub params: BTreeMap<String, f64>,
}

/// See `cotenant_spec::plan::Reference`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceRecord {
    /// Source.
    pub source: String,
    /// Metric.
    pub metric: String,
    /// Value.
    pub value: f64,
}

/// See `cotenant_spec::plan::FigureSpec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigureRecord {
    /// `bars` or `line`.
    pub kind: String,
    /// Metric drawn.
    pub metric: String,
    /// x label with unit.
    pub x_label: String,
    /// y label with unit.
    pub y_label: String,
    /// Logarithmic x axis.
    pub log_x: bool,
}

/// See `cotenant_spec::plan::Stopping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoppingRecord {
    /// Fewest repeats.
    pub min_repeats: u32,
    /// Most repeats.
    pub max_repeats: u32,
    /// Target half width of the 95 % interval of the median, as a share of it.
    pub precision: f64,
    /// Budget of one trial.
    pub budget_ns: Nanos,
    /// Warm-up repeats.
    pub warmup: u32,
    /// Independent set-ups that the repeats are spread over.
    #[serde(default = "one")]
    pub setups: u32,
}

fn one() -> u32 {
    1
}

/// `repeats.jsonl`: one line per repeat, appended and flushed to disk as it ends. A torn last line is not a
/// record. A trial that is run again after an interruption has a higher `attempt`; only the highest counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RepeatRecord {
    /// Format version.
    pub format: u32,
    /// Trial id.
    pub trial: String,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Repeat, from 0.
    pub repeat: u32,
    /// Set-up it ran in, from 0: each has its memory at other addresses.
    #[serde(default)]
    pub setup: u32,
    /// Phases in the order they ran.
    pub phases: Vec<PhaseRecord>,
    /// The repeat saw a clock drop or a throttle reason (which, in words); it stays in the statistics unless
    /// the trial has enough clean ones.
    pub marked: Vec<String>,
}

/// One phase of a repeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRecord {
    /// `solo`, `sequential` or `shared`.
    pub phase: String,
    /// First start to last end over all tenants, ns.
    pub makespan_ns: Nanos,
    /// Share of the shared time in which all tenants really ran, 0..1 (shared phases only).
    pub overlap: Option<f64>,
    /// Tenants that ran in it.
    pub tenants: Vec<PhaseTenant>,
    /// GPU state beside it.
    pub state: Option<GpuState>,
}

/// One tenant in one phase. Times are on the device clock of the run (`%globaltimer` or simulated).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTenant {
    /// Tenant name.
    pub name: String,
    /// Mean time of one counted launch (fixed protocol: first start to last end, divided by launches), ns.
    pub time_ns: f64,
    /// First launch's first block started, ns since the phase's first start.
    pub start_ns: Nanos,
    /// Last launch's last block ended, ns since the phase's first start.
    pub end_ns: Nanos,
    /// Launches done, and of these counted (steady protocol: those fully shared).
    pub launches: u32,
    /// See `launches`.
    pub counted: u32,
    /// Start and end of each launch, ns since the phase's first start; at most 256 kept, evenly thinned.
    pub spans_ns: Vec<(u64, u64)>,
    /// Latency of each request on the host clock, ns (request tenants only).
    pub requests_ns: Vec<u64>,
    /// Mean SM clock while block 0 ran, MHz, from cycle and time stamps in the kernel.
    pub sm_clock_mhz: Option<f64>,
}

/// GPU state sampled during a phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuState {
    /// SM clock, MHz.
    pub sm_clock_mhz: Option<f64>,
    /// Memory clock, MHz.
    pub memory_clock_mhz: Option<f64>,
    /// Power, W.
    pub power_w: Option<f64>,
    /// Temperature, °C.
    pub temperature_c: Option<f64>,
    /// Active throttle reasons other than idle, in NVML's words.
    pub throttle: Vec<String>,
    /// "GPU utilisation" as `nvidia-smi` prints it, percent.
    pub utilization_pct: Option<f64>,
}

/// `outcomes.jsonl`: one line per trial that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeRecord {
    /// Format version.
    pub format: u32,
    /// Trial id.
    pub trial: String,
    /// Attempt that ended.
    pub attempt: u32,
    /// `done`, `failed` or `skipped`.
    pub status: String,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
    /// `precision`, `budget` or `max-repeats`.
    pub stopped_by: Option<String>,
    /// Iterations per launch of each tenant, after calibration.
    pub iterations: Vec<u64>,
    /// What each tenant was granted.
    pub grants: Vec<Grant>,
}

/// What the sharing mode gave a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// Tenant.
    pub tenant: String,
    /// SMs asked for, if any were.
    pub asked_sms: Option<u32>,
    /// SMs that the tenant's context sees.
    pub given_sms: Option<u32>,
    /// MPS percentage asked for.
    pub percentage: Option<f64>,
    /// Priority in force.
    pub priority: Option<i32>,
}

/// `warnings.jsonl`: typed, with advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WarningRecord {
    /// Format version.
    pub format: u32,
    /// Trial, or `None` for the whole run.
    pub trial: Option<String>,
    /// Kind, kebab-case: `low-overlap`, `time-sliced`, `imprecise`, `clock-drop`, `throttled`, `grant-differs`,
    /// `unavailable`.
    pub kind: String,
    /// What was seen, with numbers.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

/// `summary.json`: statistics, derived from the files above alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Format version.
    pub format: u32,
    /// Experiment.
    pub name: String,
    /// Simulated GPU.
    pub simulated: bool,
    /// One per trial, in plan order.
    pub trials: Vec<TrialSummary>,
}

/// Statistics of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialSummary {
    /// Trial id.
    pub trial: String,
    /// `done`, `failed`, `skipped` or `unfinished`.
    pub status: String,
    /// Repeats that count.
    pub repeats: u32,
    /// Repeats left out (marked), with enough clean ones left.
    pub left_out: u32,
    /// Median overlap of the shared phases.
    pub overlap: Option<f64>,
    /// Metrics by name: `speedup` (sequential over shared makespan), `ratio` (its inverse), `slowdown`
    /// (mean over tenants), `slowdown.T`, `solo_ms.T`, `shared_ms.T`, `p50_ms.T`, `p99_ms.T`,
    /// `solo_p99_ms.T`, `sm_clock_mhz`, `bandwidth_gbs.T` where known.
    pub metrics: BTreeMap<String, Estimate>,
    /// Verdict on each `slowdown.T`: `faster`, `slower`, `same`, `ambiguous`.
    pub verdicts: BTreeMap<String, String>,
}

/// A median with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Median over repeats (ratios: of the per-repeat ratios).
    pub value: f64,
    /// 95 % interval, low.
    pub low: f64,
    /// 95 % interval, high.
    pub high: f64,
    /// Observations.
    pub n: u32,
}
