//! The simulated GPU as a backend: what it is, which trials it can run, and where tenants' blocks go.

use super::model::{Model, Models};
use super::servers::{Seats, has_servers, parts, stand_ins};
use super::session::{Part, SimSession};
use crate::backend::{Backend, Session, TrialError, WATCHDOG};
use crate::program::{ProgramSession, Troupe};
use crate::sharing::{self, Layout};
use cotenant_model::DeviceCard;
use cotenant_sim::{Gpu, SmSet, partition};
use cotenant_spec::plan::{DeviceSizes, Plan, Protocol, Sharing, TrialPlan, Workload};
use cotenant_store::format::DeviceRecord;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A simulated GPU.
#[derive(Debug)]
pub struct SimBackend {
    pub(super) card: DeviceCard,
    pub(super) gpu: Gpu,
    record: DeviceRecord,
    sizes: DeviceSizes,
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) seed: u64,
    pub(super) phases: u64,
    pub(super) now: u64,
    models: Models,
    /// Servers, which run in real time.
    troupe: Troupe,
    seats: Option<Seats>,
    watchdog: Duration,
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
        SimBackend {
            card,
            gpu,
            record,
            sizes,
            troupe: Troupe::new(std::env::temp_dir(), interrupted.clone()),
            seats: None,
            watchdog: WATCHDOG,
            interrupted,
            seed: 1,
            phases: 0,
            now: 0,
            models: Models::default(),
        }
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

    fn set_watchdog(&mut self, limit: Duration) {
        self.watchdog = limit;
    }

    fn expect(&mut self, plan: &Plan) {
        self.troupe.expect(plan);
    }

    fn set_logs(&mut self, folder: &Path) {
        self.troupe.set_logs(folder);
    }

    fn open<'s>(&'s mut self, trial: &TrialPlan, setup: u32) -> Result<Box<dyn Session + 's>, TrialError> {
        if let Some(why) = trial.unmet(&self.sizes) {
            return Err(TrialError::Unavailable(why));
        }
        if matches!(trial.sharing, Sharing::Mig { .. }) {
            return Err(TrialError::Unavailable("the simulated GPU has no MIG instances".into()));
        }
        if has_servers(trial) {
            return self.open_servers(trial);
        }
        self.troupe.clear();
        let mut parts = Vec::with_capacity(trial.tenants.len());
        for t in &trial.tenants {
            parts.push(match &t.workload {
                Workload::Kernel(k) => Part::Kernel(Box::new(k.clone())),
                Workload::Torch(m) => Part::Model(self.model(&t.name, &m.setup)?),
                Workload::Server(_) | Workload::Command(_) => {
                    return Err(TrialError::Unavailable(format!(
                        "tenant {} is a program of yours, and the simulated GPU runs only kernels and recorded models",
                        t.name
                    )));
                }
            });
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
            parts,
            schedules: vec![Vec::new(); trial.tenants.len()],
            iterations: vec![1; trial.tenants.len()],
            layout,
            places,
            steady: trial.protocol == Protocol::Steady,
        }))
    }
}

impl SimBackend {
    fn open_servers(&mut self, trial: &TrialPlan) -> Result<Box<dyn Session + '_>, TrialError> {
        let layout = sharing::mode(&trial.sharing).layout(trial);
        let seats = match self.seats.take() {
            Some(seats) => seats,
            None => Seats::new()?,
        };
        let seats = self.seats.insert(seats);
        let trial = stand_ins(&self.card, seats, trial, &layout)?;
        let parts = parts(&trial, &layout);
        let session = ProgramSession::open(&mut self.troupe, &trial, &parts, layout, self.watchdog)?;
        Ok(Box::new(session))
    }

    fn model(
        &mut self,
        tenant: &str,
        setup: &cotenant_spec::plan::ModelSetup,
    ) -> Result<Arc<Model>, TrialError> {
        self.models.get(&self.card, &self.gpu, tenant, setup)
    }
}

/// Where a tenant's blocks go.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub context: u32,
    pub priority: i32,
    pub sms: Option<SmSet>,
    pub grant: Given,
}

/// What a tenant asked for and was given.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub asked: Option<u32>,
    pub given: u32,
    pub percentage: Option<f64>,
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
