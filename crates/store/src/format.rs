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
    /// Models and programs had cores of their own on the host.
    #[serde(default)]
    pub pin: bool,
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
    /// `kernel`, `torch` or `command`.
    #[serde(default = "kernel_kind")]
    pub kind: String,
    /// Label that tables group by, for example `encoder`; empty: none.
    #[serde(default)]
    pub role: String,
    /// Models and programs: what was asked for (model, dtype, batch, …; or argv). Kernel fields are then empty.
    #[serde(default)]
    pub workload: serde_json::Value,
    /// Requests per phase (a request is an iteration, or `request` launches), and their shape.
    #[serde(default)]
    pub load: LoadRecord,
}

fn kernel_kind() -> String {
    "kernel".into()
}

/// When a tenant's requests start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LoadRecord {
    /// Requests per phase.
    pub iterations: u32,
    /// Requests before each phase that do not count.
    pub warmup: u32,
    /// Closed loop: pause after each request, ns.
    pub gap_ns: Nanos,
    /// Open loop: process and rate as in the spec; `null`: closed loop.
    pub arrivals: serde_json::Value,
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
    /// `bars`; `line`; `kde` (densities of iteration times, one curve per tenant and phase), `ecdf` (times of servers' requests), `iterations` (time of
    /// each iteration over the phase, with its parts), `matrix` (directed slowdown of every pair), `telemetry` (GPU
    /// counters under the time line).
    pub kind: String,
    /// Metric drawn.
    pub metric: String,
    /// x label with unit.
    pub x_label: String,
    /// y label with unit.
    pub y_label: String,
    /// Logarithmic x axis.
    pub log_x: bool,
    /// Trials it is drawn of, by id, with `*` for any part; empty: all.
    #[serde(default)]
    pub trials: Vec<String>,
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
    /// How often the phases ran once more, after the last repeat, with the kernel clock on.
    #[serde(default)]
    pub traced: u32,
    /// A tenant of which nothing is heard for this long is hung.
    #[serde(default)]
    pub watchdog_ns: Nanos,
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
    /// `solo`, `sequential` or `shared`; `solo-traced` and `shared-traced` with the kernel clock on.
    pub phase: String,
    /// First start to last end over all tenants, ns.
    pub makespan_ns: Nanos,
    /// Share of the shared time in which all tenants really ran, 0..1 (shared phases only).
    pub overlap: Option<f64>,
    /// Tenants that ran in it.
    pub tenants: Vec<PhaseTenant>,
    /// GPU state beside it.
    pub state: Option<GpuState>,
    /// The phase's first start on the host's monotonic clock, ns: the zero of its relative times, in the clock of
    /// `telemetry.csv` (`monotonic_ns`). Models and programs; `None` where the two clocks are not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_ns: Option<u64>,
    /// Models and programs: latest less earliest start of a tenant's first request, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_spread_ns: Option<u64>,
    /// Parts of a shared phase by who was active, in time order (models and programs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PhasePart>,
}

/// A stretch of a phase in which the same number of tenants was active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhasePart {
    /// `all`, `some` or `one`: tenants between their first start and last end.
    pub active: String,
    /// Start, ns since the phase's first start.
    pub from_ns: Nanos,
    /// End, ns since the phase's first start.
    pub to_ns: Nanos,
    /// GPU state in it.
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
    /// Start and end of each launch, ns since the phase's first start; at most 256 kept, evenly thinned. Models and
    /// programs: of each iteration on the host's clock (wall time), all kept.
    pub spans_ns: Vec<(u64, u64)>,
    /// Latency of each request on the host clock, ns (request tenants, models and programs): from its start to its
    /// end; under an open loop from its intended arrival.
    pub requests_ns: Vec<u64>,
    /// Mean SM clock while block 0 ran, MHz, from cycle and time stamps in the kernel.
    pub sm_clock_mhz: Option<f64>,
    /// Models and programs: index of the first counted iteration in `spans_ns`; `counted` follow each other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counted_from: u32,
    /// Models and programs: time between two CUDA events around each iteration, ns (0: not told).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_ns: Vec<u64>,
    /// Traced phases: sum of the device time of the kernels of each iteration, ns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_ns: Vec<u64>,
    /// Traced phases: time of each iteration in which at least one of its kernels ran, ns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub busy_ns: Vec<u64>,
    /// Traced phases: kernels of each iteration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<u32>,
    /// Models and programs: tokens over all iterations of the phase.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub tokens: u64,
    /// Models and programs: CPU time of all its threads in the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<Nanos>,
    /// Models and programs: time its threads were ready to run and waited for a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_wait_ns: Option<Nanos>,
    /// Servers: what is told of requests only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Box<crate::serving::ServedPhase>>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_zero_u64(n: &u64) -> bool {
    *n == 0
}

/// GPU state during a phase, or a part of one. Means are weighted by time; a value that NVML does not tell, or did not
/// tell in that time, is `null`. What each value is, and how old: `docs/telemetry.md`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuState {
    /// SM clock, MHz.
    pub sm_clock_mhz: Option<f64>,
    /// Memory clock, MHz.
    pub memory_clock_mhz: Option<f64>,
    /// Power, W: of the moment where the GPU tells it, else the driver's average over the last second.
    pub power_w: Option<f64>,
    /// Temperature, °C.
    pub temperature_c: Option<f64>,
    /// Active throttle reasons other than idle, in NVML's words.
    pub throttle: Vec<String>,
    /// "GPU utilisation" as `nvidia-smi` prints it, percent.
    pub utilization_pct: Option<f64>,
    /// Energy, J: power over the time, scaled to the GPU's energy counter where that was read over 5 s or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// Most device memory in use, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// Most device memory of each process, bytes, by process id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub process_memory_bytes: BTreeMap<u32, u64>,
    /// Time in which any engine of the GPU was busy, percent (GPM). Only from stretches of a second or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphics_pct: Option<f64>,
    /// Time in which an SM had at least one warp, mean over SMs, percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm_active_pct: Option<f64>,
    /// Warps resident, of the most that fit, mean over SMs and time, percent (GPM): "compute warps in flight".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm_occupancy_pct: Option<f64>,
    /// Bandwidth of device memory in use, percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dram_pct: Option<f64>,
    /// Cycles in which the tensor cores worked, percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_pct: Option<f64>,
    /// The same for 16-bit floating point (HMMA), percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_hmma_pct: Option<f64>,
    /// The same for integers (IMMA), percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_imma_pct: Option<f64>,
    /// The same for 64-bit floating point (DFMA), percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_dfma_pct: Option<f64>,
    /// FP64 pipe, percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp64_pct: Option<f64>,
    /// FP32 pipe, percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp32_pct: Option<f64>,
    /// FP16 pipe, percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp16_pct: Option<f64>,
    /// Integer pipe, percent (GPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integer_pct: Option<f64>,
    /// Share of the time that the GPM values tell of which lies in this phase, 0..1. The GPU counts in windows of
    /// 100 ms; well below 1 the values tell as much of what ran before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpm_share: Option<f64>,
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
    /// Models and programs: what each told of itself (parameters, weights, versions, memory), by tenant.
    #[serde(default)]
    pub facts: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    /// Requests per second that each open-loop tenant did alone in a closed loop, by tenant.
    #[serde(default)]
    pub capacity_per_s: BTreeMap<String, f64>,
    /// Where the trial's time went.
    #[serde(default)]
    pub timing: Option<TimingRecord>,
}

/// Where a trial's time went, ns of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TimingRecord {
    /// Waiting for tenants: processes, loading, set-up.
    pub setup_ns: Nanos,
    /// Waiting for tenants: warm-up and phases.
    pub phases_ns: Nanos,
    /// All else: the run's own.
    pub own_ns: Nanos,
    /// CPU time of the run's process (all its threads) during the phases.
    pub phases_cpu_ns: Nanos,
    /// CPU time of the telemetry's thread over wall time, since the run began.
    #[serde(default)]
    pub telemetry_cpu_share: Option<f64>,
    /// How late GPM's windows come, ns, as measured when the run began; `null`: 50 ms is assumed.
    #[serde(default)]
    pub gpm_age_ns: Option<u64>,
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
    /// Kind, kebab-case: `low-overlap`, `time-sliced`, `imprecise`, `clock-drop`, `clock-differs`, `throttled`,
    /// `grant-differs`, `unavailable`.
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
    /// Servers under different sharing regimes at the same total load, each against each that stands before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regimes: Vec<RegimePair>,
}

/// One metric of servers under two sharing regimes. Their repeats are not paired: another regime wants other processes, so regimes do
/// not take turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegimePair {
    /// The load that both had: the x of both trials.
    pub x: f64,
    /// Trial of the regime that is compared with.
    pub a: String,
    /// Trial of the regime that is compared.
    pub b: String,
    /// Metric, of all servers together.
    pub metric: String,
    /// `b` over `a`; the interval is the quotient of both intervals.
    pub ratio: Estimate,
    /// Mann and Whitney's test of the values of all repeats; adjusted by Holm over the run.
    pub mann_whitney: TestResult,
    /// `faster`, `slower`, `same` or `ambiguous`.
    pub verdict: String,
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
    /// Metrics by name, with the tenant after a dot where they are of one: `speedup` (sequential over shared
    /// makespan), `slowdown`, `slowdown.T`, `solo_ms.T`, `p99_ms.T`, …; the whole list with definitions is in
    /// `docs/statistics.md`.
    pub metrics: BTreeMap<String, Estimate>,
    /// Verdict on each `slowdown.T`: `faster`, `slower`, `same`, `ambiguous`.
    pub verdicts: BTreeMap<String, String>,
    /// Models and programs: how long iterations took, by tenant, phase and clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<Distribution>,
    /// Models and programs: each tenant shared against solo, and tenants of the same workload against each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<PairTest>,
    /// Models and programs: the shared phases by who was active (`all`, `some`, `one`), over all repeats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartSummary>,
}

/// How long the counted iterations of one tenant took in one kind of phase, by one clock, over all repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Tenant.
    pub tenant: String,
    /// `solo`, `shared`, `solo-traced` or `shared-traced`.
    pub phase: String,
    /// `wall` (start to end), `latency` (open loop: from the intended arrival), `event` (CUDA events), `kernel` (sum of
    /// the kernels' device times) or `busy` (time in which at least one kernel ran).
    pub clock: String,
    /// Iterations.
    pub n: u32,
    /// Repeats that they come from.
    pub repeats: u32,
    /// Mean, ms. Intervals are bootstrapped over whole repeats; `n` is the number of iterations.
    pub mean_ms: Estimate,
    /// Standard deviation (n - 1), ms.
    pub std_ms: Estimate,
    /// Shortest, ms.
    pub min_ms: f64,
    /// Longest, ms.
    pub max_ms: f64,
    /// Median, ms.
    pub p50_ms: Estimate,
    /// 90th percentile, ms.
    pub p90_ms: Estimate,
    /// 95th percentile, ms.
    pub p95_ms: Estimate,
    /// 99th percentile, ms.
    pub p99_ms: Estimate,
    /// Autocorrelation of successive iterations, -1..1.
    pub lag1: f64,
    /// Number of independent iterations that would fix the mean as well.
    pub effective_n: f64,
}

/// One comparison of two sets of iteration times: of `a` against `b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairTest {
    /// `shared-solo`: tenant `a` shared against the same tenant alone. `tenants`: tenant `a` against tenant `b`, of the
    /// same workload, both in the shared phase.
    pub kind: String,
    /// Tenant.
    pub a: String,
    /// Tenant; that of `a` for `shared-solo`.
    pub b: String,
    /// `wall`, `latency` or `event`.
    pub clock: String,
    /// Median over repeats of the median of `a` over the median of `b` in the same repeat.
    pub ratio: Estimate,
    /// Wilcoxon's signed-rank test of the medians of each repeat, `a` and `b` paired; adjusted by Holm over the run.
    pub paired: TestResult,
    /// One value per repeat, its median: independent observations, and what the verdict rests on.
    pub by_repeat: LevelTests,
    /// Every iteration. They depend on each other (see `lag1` of the distributions), so these p-values are too small.
    pub by_iteration: LevelTests,
    /// Verdict on `ratio`: `faster`, `slower`, `same` or `ambiguous`.
    pub verdict: String,
}

/// Tests of two independent samples, and how far they lie apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LevelTests {
    /// Observations of `a`.
    pub n_a: u32,
    /// Observations of `b`.
    pub n_b: u32,
    /// Hodges–Lehmann shift of `a` over `b`, ms, with the interval that inverts the Mann–Whitney test; `n` is the
    /// sum of both sizes.
    pub shift_ms: Estimate,
    /// Confidence level of that interval: 0.95, or less where there are too few observations.
    pub shift_level: f64,
    /// The shift over the median of `b`.
    pub shift_relative: f64,
    /// P(a > b) + ½ P(a = b) for a random pair: 0.5 where neither tends to be longer.
    pub superiority: f64,
    /// Welch's t test; `None` with fewer than two observations on a side.
    pub welch: Option<TestResult>,
    /// Mann–Whitney U test; the statistic is U of `a`.
    pub mann_whitney: TestResult,
    /// Kolmogorov–Smirnov test; the statistic is D.
    pub kolmogorov_smirnov: TestResult,
}

/// A two-sided test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestResult {
    /// The statistic.
    pub statistic: f64,
    /// p-value.
    pub p: f64,
    /// p-value after Holm's correction over the same test of all comparisons of the run.
    pub adjusted_p: f64,
}

/// The stretches of the shared phases in which the same number of tenants was active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartSummary {
    /// `all`, `some` or `one`.
    pub active: String,
    /// Its share of the shared phases' time, 0..1.
    pub share: f64,
    /// Latency of the iterations that lie wholly in it, median, ms, by tenant.
    pub p50_ms: BTreeMap<String, Estimate>,
    /// GPU state in it by name (`sm_clock_mhz`, `dram_pct`, …): mean over its time in a repeat, median over repeats.
    pub state: BTreeMap<String, Estimate>,
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
