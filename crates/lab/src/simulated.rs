//! The simulated GPU as a backend: the same trials, layouts and phases, in virtual time.
//!
//! Every phase is one scenario. The clock goes on from phase to phase, and each phase has a seed of its own made
//! from the run's, so that repeats differ by the simulator's noise and a run with the same seed is the same run.

use crate::backend::{Backend, Phase, PhaseRun, Session, TenantRun, TrialError};
use crate::sharing::{self, Layout};
use cotenant_kernels::Launch;
use cotenant_model::DeviceCard;
use cotenant_model::demand::KernelLoad;
use cotenant_sim::{Direction, Gpu, Mode, Scenario, SmSet, Span, Stream, Work, partition};
use cotenant_spec::plan::{DeviceSizes, KernelPlan, Protocol, Sharing, TenantPlan, TrialPlan};
use cotenant_store::format::{DeviceRecord, Grant};
use cotenant_units::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Virtual time between two phases, ns: what host and device need to come to rest.
const PAUSE_NS: u64 = 100_000;

/// A simulated GPU.
#[derive(Debug)]
pub struct SimBackend {
    card: DeviceCard,
    gpu: Gpu,
    record: DeviceRecord,
    sizes: DeviceSizes,
    interrupted: Arc<AtomicBool>,
    seed: u64,
    phases: u64,
    now: u64,
}

impl SimBackend {
    /// The GPU that a card describes.
    pub fn new(card: DeviceCard, interrupted: Arc<AtomicBool>) -> SimBackend {
        let s = &card.spec;
        let record = DeviceRecord {
            name: card.device.clone(),
            selector: format!("sim:{}", card.name),
            uuid_hash: None,
            sms: s.sms,
            l2_bytes: s.l2_bytes,
            l1_bytes: s.l1_bytes,
            memory_bytes: s.memory_bytes,
            capability: format!("{}.{}", s.capability.0, s.capability.1),
            driver: None,
            cuda: None,
            max_sm_clock_mhz: s.clock_mhz_max,
            max_memory_clock_mhz: 0.0,
            card: Some(format!(
                "{}, {}",
                card.name,
                card.provenance.first().map_or("no provenance", String::as_str)
            )),
        };
        let sizes = DeviceSizes {
            name: card.device.clone(),
            sms: s.sms,
            l2: s.l2_bytes,
            l1: s.l1_bytes,
            dram: s.memory_bytes,
            smem: s.shared_bytes_per_block,
            max_threads: s.max_threads_per_block,
            sm_granularity: s.sm_granularity,
            capability: s.capability,
        };
        let gpu = Gpu::new(&card, 1);
        SimBackend { card, gpu, record, sizes, interrupted, seed: 1, phases: 0, now: 0 }
    }
}

impl Backend for SimBackend {
    fn device(&self) -> &DeviceRecord {
        &self.record
    }

    fn sizes(&self) -> &DeviceSizes {
        &self.sizes
    }

    fn simulated(&self) -> bool {
        true
    }

    fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    fn open<'s>(&'s mut self, trial: &TrialPlan, setup: u32) -> Result<Box<dyn Session + 's>, TrialError> {
        if let Some(why) = trial.unmet(&self.sizes) {
            return Err(TrialError::Unavailable(why));
        }
        if matches!(trial.sharing, Sharing::Mig { .. }) {
            return Err(TrialError::Unavailable("the simulated GPU has no MIG instances".into()));
        }
        if let Some(t) = trial.tenants.iter().find(|t| t.is_program()) {
            return Err(TrialError::Unavailable(format!(
                "the simulated GPU has no recorded time line of tenant {}",
                t.name
            )));
        }
        let layout = sharing::mode(&trial.sharing).layout(trial);
        let places = places(&self.card, trial, &layout)?;
        // A trial's noise must not depend on which trials ran before it, or `--only` would change numbers.
        let name = trial.id.bytes().chain(setup.to_le_bytes());
        self.phases =
            name.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Ok(Box::new(SimSession {
            backend: self,
            tenants: trial.tenants.clone(),
            kernels: trial.tenants.iter().filter_map(|t| t.kernel().cloned()).collect(),
            iterations: vec![1; trial.tenants.len()],
            layout,
            places,
            steady: trial.protocol == Protocol::Steady,
        }))
    }
}

/// Where a tenant's blocks go.
#[derive(Debug, Clone, Default)]
struct Place {
    context: u32,
    priority: i32,
    sms: Option<SmSet>,
    grant: Given,
}

#[derive(Debug, Clone, Default)]
struct Given {
    asked: Option<u32>,
    given: u32,
    percentage: Option<f64>,
}

fn places(card: &DeviceCard, trial: &TrialPlan, layout: &Layout) -> Result<Vec<Place>, TrialError> {
    let fail = |e: cotenant_sim::SimError| TrialError::Failed(format!("failed to {e}"));
    let mut out = vec![Place::default(); trial.tenants.len()];
    let percentages: Vec<(usize, f64)> = layout
        .processes
        .iter()
        .filter(|p| p.mps && !p.baseline)
        .filter_map(|p| Some((*p.tenants.first()?, p.percentage.unwrap_or(100.0))))
        .collect();
    let sets = partition::mps(card, &percentages.iter().map(|p| p.1).collect::<Vec<_>>()).map_err(fail)?;
    for (context, p) in layout.processes.iter().enumerate().filter(|(_, p)| !p.baseline) {
        let greens = if p.green_sms.is_empty() {
            Vec::new()
        } else {
            partition::green(card, &p.green_sms).map_err(fail)?
        };
        for (k, &t) in p.tenants.iter().enumerate() {
            let mps = percentages.iter().position(|(i, _)| *i == t).and_then(|i| sets.get(i)).copied();
            let sms = greens.get(k).copied().or(mps);
            out[t] = Place {
                context: context as u32,
                priority: p.client_priority.map(|c| c as i32).or(p.priority.get(k).copied()).unwrap_or(0),
                sms,
                grant: Given {
                    asked: p.green_sms.get(k).copied(),
                    given: sms.map_or(card.spec.sms, |s| s.len()),
                    percentage: p.percentage,
                },
            };
        }
    }
    Ok(out)
}

struct SimSession<'s> {
    backend: &'s mut SimBackend,
    tenants: Vec<TenantPlan>,
    kernels: Vec<KernelPlan>,
    iterations: Vec<u64>,
    layout: Layout,
    places: Vec<Place>,
    steady: bool,
}

impl SimSession<'_> {
    /// One tenant's stream. `alone`: on the whole GPU where the trial's baseline says so.
    fn stream(&self, tenant: usize, alone: bool) -> Stream {
        let (plan, load) = (&self.kernels[tenant], &self.tenants[tenant].load);
        let place = &self.places[tenant];
        let whole = alone && self.layout.processes.iter().any(|p| p.baseline);
        let n = self.iterations[tenant];
        let r = &plan.kernel;
        let kernel = |iterations| Work::Kernel(KernelLoad { shape: r.shape, iterations, demand: r.demand });
        let (work, per_launch) = match r.launch {
            Launch::Kernel => (kernel(n), 1),
            // Each product is a kernel of its own.
            Launch::Gemm => (kernel(1), n),
            Launch::EmptyLaunches => (Work::Empty { count: n }, 1),
            Launch::CopyToDevice => {
                (Work::Copy { direction: Direction::ToDevice, bytes: r.bytes.0, count: n }, 1)
            }
            Launch::CopyToHost => {
                (Work::Copy { direction: Direction::ToHost, bytes: r.bytes.0, count: n }, 1)
            }
        };
        let requests = plan.request > 1 || load.gap.0 > 0;
        Stream {
            context: place.context,
            priority: place.priority,
            sms: if whole { None } else { place.sms },
            launches: u64::from(plan.launches) * per_launch,
            sync_every: if requests { u64::from(plan.request) * per_launch } else { 0 },
            gap_ns: load.gap.0 as f64,
            memory: Bytes(r.buffer_a.0.saturating_add(r.buffer_b.0)),
            ..Stream::new(work)
        }
    }

    /// Launches of the simulator back to launches of the plan.
    fn merged(&self, tenant: usize, spans: &[Span]) -> Vec<Span> {
        let per = match self.kernels[tenant].kernel.launch {
            Launch::Gemm => self.iterations[tenant].max(1) as usize,
            _ => 1,
        };
        spans
            .chunks_exact(per)
            .filter_map(|c| {
                Some(Span {
                    submit_ns: c.first()?.submit_ns,
                    start_ns: c.first()?.start_ns,
                    end_ns: c.last()?.end_ns,
                })
            })
            .collect()
    }
}

impl Session for SimSession<'_> {
    fn grants(&self) -> Vec<Grant> {
        self.tenants
            .iter()
            .zip(&self.places)
            .map(|(t, p)| Grant {
                tenant: t.name.clone(),
                asked_sms: p.grant.asked,
                given_sms: Some(p.grant.given),
                percentage: p.grant.percentage,
                priority: Some(p.priority),
            })
            .collect()
    }

    fn set_iterations(&mut self, tenant: usize, iterations: u64) -> Result<(), TrialError> {
        if let Some(n) = self.iterations.get_mut(tenant) {
            *n = iterations.max(1);
        }
        Ok(())
    }

    fn run(&mut self, phase: Phase) -> Result<PhaseRun, TrialError> {
        if self.backend.interrupted.load(Ordering::Relaxed) {
            return Err(TrialError::Interrupted);
        }
        let all: Vec<usize> = (0..self.tenants.len()).collect();
        let (who, alone) = match phase {
            Phase::Solo(t) => (vec![t], true),
            _ => (all, false),
        };
        let mut streams: Vec<Stream> = who.iter().map(|&t| self.stream(t, alone)).collect();
        let mut scenario = Scenario::new(Vec::new());
        if phase == Phase::Sequential {
            for (i, s) in streams.iter_mut().enumerate().skip(1) {
                s.after = Some(i - 1);
            }
        }
        if phase == Phase::Shared {
            scenario.steady = self.steady;
            if self.layout.time_sliced {
                scenario.mode = Mode::TimeSliced;
            }
        }
        scenario.streams = streams;
        let b = &mut *self.backend;
        b.phases = b.phases.wrapping_add(1);
        // SplitMix64's increment keeps the seeds of consecutive phases far apart.
        let seed = b.seed ^ b.phases.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let outcome = b
            .gpu
            .clone()
            .with_seed(seed)
            .run(&scenario)
            .map_err(|e| TrialError::Failed(format!("failed to {e}")))?;
        let base = b.now;
        let clock = b.card.clock.sustained_mhz.unwrap_or(b.card.spec.clock_mhz_max);
        let mut end = base;
        let mut tenants = Vec::with_capacity(who.len());
        for (&tenant, result) in who.iter().zip(&outcome.streams) {
            let spans = self.merged(tenant, &result.launches);
            let plan = &self.kernels[tenant];
            let requests = if self.tenants[tenant].by_request() {
                spans
                    .chunks_exact(plan.request.max(1) as usize)
                    .filter_map(|c| Some(c.last()?.end_ns.saturating_sub(c.first()?.submit_ns)))
                    .collect()
            } else {
                Vec::new()
            };
            end = end.max(base + spans.last().map_or(0, |s| s.end_ns));
            tenants.push(TenantRun {
                tenant,
                spans: spans.iter().map(|s| (base + s.start_ns, base + s.end_ns)).collect(),
                requests,
                clocks_mhz: vec![clock],
                ..TenantRun::default()
            });
        }
        self.backend.now = end + PAUSE_NS;
        Ok(PhaseRun { tenants, state: None })
    }
}
