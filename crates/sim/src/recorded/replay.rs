//! A recorded time line as a stream of the simulator.

use super::demand::{calibrated, demand, divide};
use super::format::Recorded;
use super::pace::{self, Pace};
use crate::scenario::{Pacing, PacingStep, Stream, Work};
use crate::{Gpu, SimError};
use cotenant_model::DeviceCard;
use cotenant_model::demand::KernelLoad;
use cotenant_model::residency::ShapeError;
use cotenant_units::Bytes;

/// A time line, ready to be run any number of times.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// One launch per step.
    pub pattern: Vec<Work>,
    /// The host's side.
    pub pace: Pace,
    pacing: Pacing,
    memory: Bytes,
}

impl Replay {
    /// Prepares a time line for a GPU.
    ///
    /// # Errors
    /// If a kernel does not fit on the card's SMs, or a recorded demand is no demand.
    pub fn new(r: &Recorded, card: &DeviceCard, gpu: &Gpu) -> Result<Replay, SimError> {
        let shape = |source: ShapeError| SimError::Shape { stream: 0, source };
        let pace = pace::fit(r);
        let draws = divide(r, card.spec.dram_gbs);
        let mut count = vec![0u64; r.kernels.len()];
        let mut total = vec![0u64; r.kernels.len()];
        for s in &r.steps {
            count[s.kernel as usize] += 1;
            total[s.kernel as usize] += s.duration_ns;
        }
        // One demand for each kernel, at its mean duration; its launches differ in the number of turns.
        let mut loads: Vec<Option<(KernelLoad, f64)>> = Vec::with_capacity(r.kernels.len());
        for (i, k) in r.kernels.iter().enumerate() {
            if count[i] == 0 {
                loads.push(None);
                continue;
            }
            let mean = (total[i] as f64 / count[i] as f64 * pace.device_factor).max(1.0);
            let d = match k.demand {
                Some(d) => d,
                None => demand(gpu.machine(), &k.shape(), k.class, mean, draws[i]).map_err(shape)?,
            };
            loads.push(Some((calibrated(gpu, k.shape(), d, mean)?, mean)));
        }
        let mut pattern = Vec::with_capacity(r.steps.len());
        for s in &r.steps {
            let Some((load, mean)) = loads.get(s.kernel as usize).copied().flatten() else { continue };
            let share = s.duration_ns as f64 * pace.device_factor / mean;
            let turns = (load.iterations as f64 * share).round() as u64;
            pattern.push(Work::Kernel(KernelLoad { iterations: turns.max(1), ..load }));
        }
        let steps = pace
            .host_ns
            .iter()
            .zip(&pace.lag_ns)
            .zip(0u32..)
            .map(|((&host_ns, &lag_ns), i)| PacingStep { host_ns, lag_ns, reads: r.host_reads.contains(&i) })
            .collect();
        let middle = r.wall_spread_ns[4].max(1) as f64;
        let spread = super::SPREAD_SHARES
            .iter()
            .zip(&r.wall_spread_ns)
            .map(|(&share, &ns)| (share, ns as f64 / middle))
            .collect();
        let pacing = Pacing {
            steps,
            tail_host_ns: pace.tail_host_ns,
            sync_ns: pace.sync_ns,
            between_ns: r.between_ns as f64,
            spread,
        };
        Ok(Replay { pattern, pace, pacing, memory: Bytes(r.memory_bytes) })
    }

    /// A stream of so many iterations; context, priority and SMs are for the caller to set.
    pub fn stream(&self, iterations: u64) -> Stream {
        let steps = self.pattern.len() as u64;
        Stream {
            context: 0,
            priority: 0,
            sms: None,
            pattern: self.pattern.clone(),
            launches: iterations.saturating_mul(steps),
            launch_ns: None,
            sync_every: steps,
            gap_ns: 0.0,
            start_ns: 0.0,
            after: None,
            memory: self.memory,
            pacing: Some(self.pacing.clone()),
            arrivals_ns: Vec::new(),
        }
    }
}
