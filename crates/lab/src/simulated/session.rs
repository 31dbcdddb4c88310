//! Tenants of one trial on the simulated GPU: from phases to scenarios, and from their outcome to records.

use super::backend::{Place, SimBackend};
use super::model::Model;
use crate::backend::{DeviceTime, Phase, PhaseRun, Session, TenantRun, TrialError};
use crate::sharing::Layout;
use cotenant_kernels::Launch;
use cotenant_model::demand::KernelLoad;
use cotenant_sim::{Direction, Mode, Scenario, Span, Stream, StreamResult, Work};
use cotenant_spec::plan::{KernelPlan, TenantPlan};
use cotenant_store::format::Grant;
use cotenant_units::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Virtual time between two phases, ns: what host and device need to come to rest.
const PAUSE_NS: u64 = 100_000;

/// What a tenant runs.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// A kernel of the registry.
    Kernel(Box<KernelPlan>),
    /// A recorded model.
    Model(Arc<Model>),
}

/// Tenants set up.
pub(super) struct SimSession<'s> {
    pub backend: &'s mut SimBackend,
    pub tenants: Vec<TenantPlan>,
    pub parts: Vec<Part>,
    /// Arrivals of open loops, ns from the start of a phase; empty: a closed loop.
    pub schedules: Vec<Vec<u64>>,
    pub iterations: Vec<u64>,
    pub layout: Layout,
    pub places: Vec<Place>,
    pub steady: bool,
}

impl SimSession<'_> {
    /// One tenant's stream. `alone`: on the whole GPU where the trial's baseline says so.
    fn stream(&self, tenant: usize, alone: bool) -> Stream {
        let (load, place) = (&self.tenants[tenant].load, &self.places[tenant]);
        let whole = alone && self.layout.processes.iter().any(|p| p.baseline);
        let mut s = match &self.parts[tenant] {
            Part::Kernel(k) => self.kernel_stream(tenant, k),
            Part::Model(m) => m.replay.stream(u64::from(load.iterations)),
        };
        s.context = place.context;
        s.priority = place.priority;
        s.sms = if whole { None } else { place.sms };
        s.gap_ns = load.gap.0 as f64;
        let arrivals = &self.schedules[tenant];
        if !arrivals.is_empty() {
            s.launches = s.sync_every.saturating_mul(arrivals.len() as u64);
            s.arrivals_ns = arrivals.iter().map(|&a| a as f64).collect();
        }
        s
    }

    fn kernel_stream(&self, tenant: usize, plan: &KernelPlan) -> Stream {
        let n = self.iterations[tenant];
        let r = &plan.kernel;
        let kernel = |iterations| Work::Kernel(KernelLoad { shape: r.shape, iterations, demand: r.demand });
        let copies = |direction| Work::Copy { direction, bytes: r.bytes.0, count: n };
        let work = match r.launch {
            Launch::Kernel => kernel(n),
            // Each product is a kernel of its own.
            Launch::Gemm => kernel(1),
            Launch::EmptyLaunches => Work::Empty { count: n },
            Launch::CopyToDevice => copies(Direction::ToDevice),
            Launch::CopyToHost => copies(Direction::ToHost),
        };
        let per_launch = self.per_launch(tenant, plan);
        let by_request = self.tenants[tenant].by_request();
        Stream {
            launches: u64::from(plan.launches) * per_launch,
            sync_every: if by_request { u64::from(plan.request.max(1)) * per_launch } else { 0 },
            memory: Bytes(r.buffer_a.0.saturating_add(r.buffer_b.0)),
            ..Stream::new(work)
        }
    }

    /// Launches of the simulator for one launch of the plan.
    fn per_launch(&self, tenant: usize, plan: &KernelPlan) -> u64 {
        match plan.kernel.launch {
            Launch::Gemm => self.iterations[tenant].max(1),
            _ => 1,
        }
    }

    /// What a tenant's stream did, as its worker would have told it; times from `base`.
    fn told(&self, tenant: usize, result: &StreamResult, base: u64, traced: bool) -> TenantRun {
        let by_request = |r: &StreamResult| -> Vec<u64> {
            r.requests.iter().map(|r| r.end_ns.saturating_sub(r.arrival_ns)).collect()
        };
        match &self.parts[tenant] {
            Part::Kernel(plan) => {
                let per = self.per_launch(tenant, plan) as usize;
                let clock = &self.backend.card;
                TenantRun {
                    tenant,
                    spans: merged(&result.launches, per)
                        .map(|(start, end)| (base + start, base + end))
                        .collect(),
                    requests: by_request(result),
                    clocks_mhz: vec![clock.clock.sustained_mhz.unwrap_or(clock.spec.clock_mhz_max)],
                    ..TenantRun::default()
                }
            }
            Part::Model(m) => {
                let n = result.requests.len();
                let outside = m.outside_events_ns();
                let told = m.recorded.event_ns > 0;
                let per = m.replay.pattern.len();
                TenantRun {
                    tenant,
                    spans: result.requests.iter().map(|r| (base + r.begin_ns, base + r.end_ns)).collect(),
                    requests: by_request(result),
                    events: result
                        .requests
                        .iter()
                        .map(|r| if told { (r.end_ns - r.begin_ns).saturating_sub(outside) } else { 0 })
                        .collect(),
                    tokens: m.recorded.tokens_per_iteration * n as u64,
                    device: if traced {
                        result.launches.chunks_exact(per).take(n).map(device_time).collect()
                    } else {
                        Vec::new()
                    },
                    ..TenantRun::default()
                }
            }
        }
    }

    fn phase(&mut self, phase: Phase, traced: bool) -> Result<PhaseRun, TrialError> {
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
        let tenants: Vec<TenantRun> =
            who.iter().zip(&outcome.streams).map(|(&t, r)| self.told(t, r, base, traced)).collect();
        let end = tenants.iter().filter_map(|t| t.spans.last()).map(|s| s.1).max().unwrap_or(base);
        self.backend.now = end.max(base) + PAUSE_NS;
        Ok(PhaseRun { tenants, state: None })
    }
}

/// Launches of the simulator back to launches of the plan: first start to last end of each `per`.
fn merged(spans: &[Span], per: usize) -> impl Iterator<Item = (u64, u64)> {
    spans.chunks_exact(per.max(1)).filter_map(|c| Some((c.first()?.start_ns, c.last()?.end_ns)))
}

/// What the kernels of one iteration did. Its launches are in one stream: none overlaps another.
fn device_time(launches: &[Span]) -> DeviceTime {
    let sum_ns = launches.iter().map(|s| s.end_ns.saturating_sub(s.start_ns)).sum();
    DeviceTime { sum_ns, union_ns: sum_ns, kernels: launches.len() as u32 }
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

    fn set_schedule(&mut self, tenant: usize, offsets: &[u64]) -> Result<(), TrialError> {
        if let Some(s) = self.schedules.get_mut(tenant) {
            *s = offsets.to_vec();
        }
        Ok(())
    }

    fn run(&mut self, phase: Phase) -> Result<PhaseRun, TrialError> {
        self.phase(phase, false)
    }

    fn run_traced(&mut self, phase: Phase) -> Result<Option<PhaseRun>, TrialError> {
        self.phase(phase, true).map(Some)
    }

    fn facts(&self) -> Vec<(usize, String, serde_json::Value)> {
        let mut out = Vec::new();
        for (i, p) in self.parts.iter().enumerate() {
            let Part::Model(m) = p else { continue };
            let r = &m.recorded;
            out.push((i, "time_line".into(), r.workload.file_stem().into()));
            out.push((
                i,
                "recorded_from".into(),
                format!("{}, {}", r.provenance.run, r.provenance.started).into(),
            ));
            out.push((i, "recorded_iterations".into(), r.iterations.into()));
            out.push((i, "host_factor".into(), m.replay.pace.host_factor.into()));
            out.push((i, "device_factor".into(), m.replay.pace.device_factor.into()));
        }
        out
    }
}
