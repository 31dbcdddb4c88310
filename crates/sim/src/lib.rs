//! The simulated GPU: discrete events over the model, virtual time in ns, deterministic by seed.
//!
//! Blocks are really placed, with residency limits, waves, the leftover policy, most-room order and priorities
//! ([`floor`]); how fast they run comes from `cotenant_model::solve` for exactly the blocks that are resident.
//! Contexts share the SMs at the same time (streams, MPS, green contexts) or in time slices (processes).
//!
//! ```
//! use cotenant_model::{builtin, demand::{Demand, KernelLoad, LaunchShape}};
//! use cotenant_sim::{Gpu, Scenario, Stream, Work};
//! # use cotenant_units::Bytes;
//! let gpu = Gpu::new(&builtin("h100-sxm5-80gb").ok_or("no such card")?, 7);
//! let shape = LaunchShape { blocks: 132, threads: 1024, registers: 16, shared_bytes: Bytes(0) };
//! let demand = Demand { sleep_ns: 1000.0, issue: 4.0, ..Demand::default() };
//! let sleep = Work::Kernel(KernelLoad { shape, iterations: 1000, demand });
//! let pair = Scenario::new(vec![Stream::new(sleep), Stream::new(sleep)]);
//! let done = gpu.run(&pair)?;
//! let span = done.streams[0].launches[0];
//! assert!((span.end_ns - span.start_ns).abs_diff(1_000_000) < 20_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod engine;
pub mod error;
pub mod floor;
mod noise;
pub mod partition;
mod rates;
pub mod recorded;
pub mod scenario;
pub mod smset;
mod stream;

pub use error::SimError;
pub use recorded::{Recorded, Replay};
pub use scenario::{
    BlockSpan, Direction, Mode, Outcome, Pacing, PacingStep, Request, Scenario, Span, Stream, StreamResult,
    Work,
};
pub use smset::SmSet;

use cotenant_model::{DeviceCard, Machine};
use std::sync::{Arc, Mutex};

/// Default standard deviation of the length of a launch, as a share of it.
pub const DEFAULT_NOISE: f64 = 0.003;

/// A simulated GPU.
#[derive(Debug, Clone)]
pub struct Gpu {
    machine: Machine,
    seed: u64,
    noise: f64,
    /// Rates that its runs found; clones share it. It changes how long a run takes and nothing else.
    memory: Arc<Mutex<rates::Memory>>,
}

impl Gpu {
    /// The GPU that a card describes. Runs with the same seed and scenario give the same times.
    pub fn new(card: &DeviceCard, seed: u64) -> Gpu {
        Gpu { machine: Machine::new(card), seed, noise: DEFAULT_NOISE, memory: Arc::default() }
    }

    /// The same with another standard deviation of the length of a launch, as a share (0: none).
    pub fn with_noise(self, noise: f64) -> Gpu {
        Gpu { noise: noise.clamp(0.0, 0.2), ..self }
    }

    /// The same with another seed: another repeat of the same experiment.
    pub fn with_seed(self, seed: u64) -> Gpu {
        Gpu { seed, ..self }
    }

    /// The machine that the card describes, gaps filled.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Runs a scenario from virtual time 0 until every stream has its launches.
    ///
    /// # Errors
    /// If the scenario asks for something impossible, or would need more events than its limit.
    pub fn run(&self, scenario: &Scenario) -> Result<Outcome, SimError> {
        scenario.check(&self.machine)?;
        engine::run(&self.machine, scenario, self.seed, self.noise, &self.memory)
    }
}
