//! A backend runs trials; everything above it is the same code for a real and a simulated GPU.

use crate::cuda::protocol::LaunchCosts;
use crate::program::HostTime;
use cotenant_spec::plan::{DeviceSizes, Plan, TrialPlan};
use cotenant_store::format::{DeviceRecord, GpuState, Grant};

/// The watchdog's limit where nobody states one.
pub const WATCHDOG: std::time::Duration = std::time::Duration::from_secs(120);

/// Why a trial did not produce its numbers. The run goes on with the next trial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// This machine cannot do it; the trial is skipped with a warning.
    #[error("{0}")]
    Unavailable(String),
    /// It should have worked and did not.
    #[error("{0}")]
    Failed(String),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// One part of a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One tenant alone (its index in the trial).
    Solo(usize),
    /// All, one after the other.
    Sequential,
    /// All together.
    Shared,
}

impl Phase {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Solo(_) => "solo",
            Phase::Sequential => "sequential",
            Phase::Shared => "shared",
        }
    }
}

/// What one tenant did in a phase. Times are absolute, on the run's device clock.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TenantRun {
    /// Index in the trial.
    pub tenant: usize,
    /// Start and end of every launch, ns.
    pub spans: Vec<(u64, u64)>,
    /// Latency of every request on the host clock, ns.
    pub requests: Vec<u64>,
    /// SM clock while block 0 of each launch ran, MHz.
    pub clocks_mhz: Vec<f64>,
    /// Models and programs: time between CUDA events around each iteration, ns (0: not told).
    pub events: Vec<u64>,
    /// Models and programs: tokens over all iterations.
    pub tokens: u64,
    /// Kernel clock, one per iteration (traced phases).
    pub device: Vec<DeviceTime>,
    /// Models and programs: what it took of the host's CPUs, where that is told.
    pub host: Option<HostTime>,
    /// Servers: request by request.
    pub served: Option<Box<crate::serving::Served>>,
}

/// What the kernels of one iteration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceTime {
    /// Sum over its kernels, ns.
    pub sum_ns: u64,
    /// Time in which at least one ran, ns.
    pub union_ns: u64,
    /// Kernels.
    pub kernels: u32,
}

/// What a phase gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PhaseRun {
    /// One per tenant that ran.
    pub tenants: Vec<TenantRun>,
    /// GPU state beside it.
    pub state: Option<GpuState>,
}

/// Tenants set up under a sharing mode, ready for phases. Dropping it frees everything.
pub trait Session {
    /// What each tenant was granted.
    fn grants(&self) -> Vec<Grant>;
    /// Sets how many turns of its loop each launch of a tenant makes.
    fn set_iterations(&mut self, tenant: usize, iterations: u64) -> Result<(), TrialError>;
    /// When the requests of an open-loop tenant arrive in the next phases: offsets from the phase's start, ns,
    /// ascending. Empty: a closed loop.
    fn set_schedule(&mut self, _tenant: usize, _offsets: &[u64]) -> Result<(), TrialError> {
        Ok(())
    }
    /// Which repeat comes next, from 0.
    fn set_repeat(&mut self, _repeat: u32) {}
    /// Runs a phase to its end.
    fn run(&mut self, phase: Phase) -> Result<PhaseRun, TrialError>;
    /// Runs a phase with the kernel clock on; `None` where this session has none.
    fn run_traced(&mut self, _phase: Phase) -> Result<Option<PhaseRun>, TrialError> {
        Ok(None)
    }
    /// GPU state between two moments on the clock of the spans, if it is told.
    fn state_between(&self, _from: u64, _to: u64) -> Option<GpuState> {
        None
    }
    /// What each model or program told of itself: `(tenant, key, value)`.
    fn facts(&self) -> Vec<(usize, String, serde_json::Value)> {
        Vec::new()
    }
}

/// Where blocks ran: one list of `(sm, start ns, end ns)` per tenant.
pub type TracedRun = Vec<Vec<(u64, u64, u64)>>;

/// What is known of the telemetry beside the trials.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TelemetryFacts {
    /// CPU time of its thread over wall time so far.
    pub cpu_share: Option<f64>,
    /// How late GPM's windows come, ns, as measured in this run.
    pub gpm_age_ns: Option<u64>,
    /// Why GPM's values are absent, if they are.
    pub gap: Option<String>,
}

/// Something that can run trials.
pub trait Backend {
    /// The device, for the manifest.
    fn device(&self) -> &DeviceRecord;
    /// The device's sizes, for expressions in specs.
    fn sizes(&self) -> &DeviceSizes;
    /// Whether results are simulated.
    fn simulated(&self) -> bool;
    /// Seed of everything random in the backend (a real GPU has nothing such).
    fn set_seed(&mut self, _seed: u64) {}
    /// Sets a trial up; each `setup`, counted from 0, has its memory at other addresses.
    ///
    /// # Errors
    /// [`TrialError::Unavailable`] where the machine lacks the mode; [`TrialError::Failed`] otherwise.
    fn open<'s>(&'s mut self, trial: &TrialPlan, setup: u32) -> Result<Box<dyn Session + 's>, TrialError>;
    /// Runs a trial's shared phase once, with so many turns per tenant, and tells where and when each block ran.
    ///
    /// # Errors
    /// [`TrialError::Unavailable`] where the backend cannot tell.
    fn traced(&mut self, _trial: &TrialPlan, _iterations: &[u64]) -> Result<TracedRun, TrialError> {
        Err(TrialError::Unavailable("this backend does not trace blocks".into()))
    }
    /// What launching costs.
    ///
    /// # Errors
    /// [`TrialError::Unavailable`] where the backend cannot tell.
    fn launch_costs(&mut self) -> Result<LaunchCosts, TrialError> {
        Err(TrialError::Unavailable("launching has no cost of its own here".into()))
    }
    /// What is known of the telemetry beside the trials.
    fn telemetry_facts(&self) -> TelemetryFacts {
        TelemetryFacts::default()
    }
    /// A model or program of which nothing is heard for so long is hung.
    fn set_watchdog(&mut self, _limit: std::time::Duration) {}
    /// Announces the trials that will be opened, for a backend that can prepare.
    fn expect(&mut self, _plan: &Plan) {}
    /// Where logs of tenants go.
    fn set_logs(&mut self, _folder: &std::path::Path) {}
    /// Keep the kernel time lines of traced phases in this folder.
    fn set_traces(&mut self, _folder: &std::path::Path) {}
    /// Rows of telemetry since the last call, as CSV lines of [`TELEMETRY_HEADER`].
    fn drain_telemetry(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Header of `telemetry.csv`. `t_s` is seconds since the backend was opened; an empty cell is "not told". Every
/// column is explained in `docs/telemetry.md`.
pub const TELEMETRY_HEADER: &str = "t_s,sm_clock_mhz,memory_clock_mhz,power_w,temperature_c,utilization_pct,memory_used_bytes,throttle,\
     monotonic_ns,power_instant_w,energy_j,process_memory_bytes,graphics_pct,sm_active_pct,sm_occupancy_pct,dram_pct,\
     tensor_pct,tensor_hmma_pct,tensor_imma_pct,tensor_dfma_pct,fp64_pct,fp32_pct,fp16_pct,integer_pct,gpm_from_ns,\
     gpm_to_ns";
