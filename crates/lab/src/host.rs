//! This machine without its GPU as a backend: models on the CPU and programs, alone and as processes. It is what
//! experiments with programs are tried out on, and what tests run, since all else is the same code.

use crate::backend::{Backend, Session, TrialError, WATCHDOG};
use crate::program::{Part, ProgramSession, Troupe};
use crate::provenance;
use crate::sharing;
use cotenant_spec::plan::{DeviceSizes, Plan, Sharing, TrialPlan, Workload};
use cotenant_store::format::DeviceRecord;
use cotenant_units::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The host.
#[derive(Debug)]
pub struct HostBackend {
    record: DeviceRecord,
    sizes: DeviceSizes,
    troupe: Troupe,
    watchdog: Duration,
}

impl HostBackend {
    /// This machine.
    pub fn new(interrupted: Arc<AtomicBool>) -> HostBackend {
        let (cpu, cores) = provenance::cpu();
        let name = format!("{cpu} (host, no GPU)");
        let record = DeviceRecord {
            name: name.clone(),
            selector: "host".into(),
            uuid_hash: None,
            sms: 0,
            l2_bytes: Bytes(0),
            l1_bytes: Bytes(0),
            memory_bytes: Bytes(0),
            capability: "none".into(),
            driver: None,
            cuda: None,
            max_sm_clock_mhz: 0.0,
            max_memory_clock_mhz: 0.0,
            card: None,
        };
        // Sizes that expressions may name; a host has cores and no SMs.
        let sizes = DeviceSizes {
            name,
            sms: cores,
            l2: Bytes::mib(1),
            l1: Bytes::kib(32),
            dram: Bytes::gib(1),
            smem: Bytes::kib(16),
            max_threads: 1024,
            sm_granularity: 1,
            capability: (0, 0),
        };
        let troupe = Troupe::new(std::env::temp_dir(), interrupted);
        HostBackend { record, sizes, troupe, watchdog: WATCHDOG }
    }
}

impl Backend for HostBackend {
    fn device(&self) -> &DeviceRecord {
        &self.record
    }

    fn sizes(&self) -> &DeviceSizes {
        &self.sizes
    }

    fn simulated(&self) -> bool {
        false
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

    fn open<'s>(&'s mut self, trial: &TrialPlan, _setup: u32) -> Result<Box<dyn Session + 's>, TrialError> {
        if !matches!(trial.sharing, Sharing::Solo | Sharing::Sequential | Sharing::Processes) {
            return Err(TrialError::Unavailable(format!(
                "{} shares a GPU, and the device `host` has none",
                trial.sharing.name()
            )));
        }
        for t in &trial.tenants {
            let why = match &t.workload {
                Workload::Kernel(_) => "is a kernel",
                Workload::Torch(m) if m.setup.device == "cuda" => "is a model for `cuda`",
                _ => continue,
            };
            return Err(TrialError::Unavailable(format!(
                "tenant {} {why}, and the device `host` has no GPU",
                t.name
            )));
        }
        let layout = sharing::mode(&trial.sharing).layout(trial);
        let parts: Vec<Part<'_>> = trial
            .tenants
            .iter()
            .enumerate()
            .map(|(tenant, plan)| Part {
                tenant,
                plan,
                env: vec![("CUDA_VISIBLE_DEVICES".into(), String::new())],
            })
            .collect();
        let session = ProgramSession::open(&mut self.troupe, trial, &parts, layout, self.watchdog)?;
        Ok(Box::new(session))
    }
}
