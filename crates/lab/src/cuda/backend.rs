//! The backend over real workers.

use super::process::Worker;
use super::protocol::{Command, LaunchCosts, Meeting, Reply, TenantDone, TenantSetup};
use crate::backend::{Backend, Phase, PhaseRun, Session, TenantRun, TracedRun, TrialError};
use crate::sharing::{self, Layout, ProcessPlan};
use crate::telemetry::Telemetry;
use cotenant_gpu::driver::{self, DeviceInfo};
use cotenant_gpu::mps::Daemon;
use cotenant_gpu::nvml::Monitor;
use cotenant_spec::plan::{DeviceSizes, Protocol, Sharing, TrialPlan};
use cotenant_store::format::{DeviceRecord, Grant};
use cotenant_units::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Set for workers that must not find an MPS daemon: a pipe folder where none can be.
const PIPE_ENV: &str = "CUDA_MPS_PIPE_DIRECTORY";

/// How to open a GPU.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// CUDA index.
    pub index: u32,
    /// Join the MPS daemon that already serves this environment instead of starting one.
    pub join_mps: bool,
    /// Record where each block ran.
    pub trace: bool,
}

/// A real GPU.
#[derive(Debug)]
pub struct CudaBackend {
    options: Options,
    record: DeviceRecord,
    sizes: DeviceSizes,
    shared_per_sm: Bytes,
    meeting: Meeting,
    daemon: Option<Daemon>,
    workers: Vec<Worker>,
    telemetry: Option<Telemetry>,
    scratch: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl CudaBackend {
    /// Opens GPU `options.index`. No context is made in this process; workers make their own.
    ///
    /// # Errors
    /// No driver or device, or no shared memory.
    pub fn open(options: Options, interrupted: Arc<AtomicBool>) -> Result<CudaBackend, cotenant_gpu::Error> {
        let info = driver::device_info(options.index)?;
        let (major, minor) = driver::cuda_version()?;
        let monitor = Monitor::load().ok();
        let nvml_index = monitor.as_ref().and_then(|m| m.index_of(&info.uuid));
        let inventory = monitor.as_ref().zip(nvml_index).and_then(|(m, i)| m.inventory(i).ok());
        let record = DeviceRecord {
            name: info.name.clone(),
            selector: format!("cuda:{}", info.index),
            uuid_hash: Some(crate::provenance::short_hash(info.uuid.as_bytes())),
            sms: info.sms.0,
            l2_bytes: info.l2,
            l1_bytes: info.l1,
            memory_bytes: info.memory,
            capability: format!("{}.{}", info.capability.0, info.capability.1),
            driver: monitor.as_ref().and_then(|m| m.driver_version().ok()),
            cuda: Some(format!("{major}.{minor}")),
            max_sm_clock_mhz: inventory
                .as_ref()
                .and_then(|i| i.max_sm_clock_mhz)
                .map_or(f64::from(info.clock_khz) / 1e3, f64::from),
            max_memory_clock_mhz: inventory
                .as_ref()
                .and_then(|i| i.max_memory_clock_mhz)
                .map_or(f64::from(info.memory_clock_khz) / 1e3, f64::from),
            card: None,
        };
        let telemetry = monitor.zip(nvml_index).map(|(m, i)| Telemetry::start(m, i));
        let meeting = Meeting::create()
            .map_err(|source| cotenant_gpu::Error::Io { path: "shared memory".into(), source })?;
        Ok(CudaBackend {
            sizes: sizes(&info),
            shared_per_sm: info.shared_per_sm,
            options,
            record,
            meeting,
            daemon: None,
            workers: Vec::new(),
            telemetry,
            scratch: std::env::temp_dir(),
            interrupted,
        })
    }

    /// The MPS daemon's client environment, starting the daemon where needed.
    fn mps_env(&mut self) -> Result<Vec<(String, String)>, TrialError> {
        if self.options.join_mps {
            let dir = cotenant_gpu::mps::running_daemon().ok_or_else(|| {
                TrialError::Unavailable(
                    "--join-mps was given and no MPS daemon answers in this environment".into(),
                )
            })?;
            return Ok(vec![(PIPE_ENV.into(), dir.to_string_lossy().into_owned())]);
        }
        if self.daemon.is_none() {
            self.workers.clear(); // contexts outside MPS would be time-sliced against the server's
            let d = Daemon::start(&self.scratch).map_err(|e| TrialError::Unavailable(e.to_string()))?;
            self.daemon = Some(d);
        }
        Ok(self.daemon.as_ref().map(Daemon::client_env).unwrap_or_default())
    }

    fn env_for(&mut self, p: &ProcessPlan) -> Result<Vec<(String, String)>, TrialError> {
        let mut env = if p.mps {
            self.mps_env()?
        } else {
            let nowhere = self.scratch.join(format!("cotenant-no-mps-{}", std::process::id()));
            vec![(PIPE_ENV.into(), nowhere.to_string_lossy().into_owned())]
        };
        if let Some(uuid) = &p.mig {
            env.push(("CUDA_VISIBLE_DEVICES".into(), uuid.clone()));
        }
        env.extend(p.env.iter().cloned());
        Ok(env)
    }

    /// Takes a worker with this environment from the last trial, or starts one.
    fn worker_for(
        &mut self,
        env: &[(String, String)],
        spare: &mut Vec<Worker>,
    ) -> Result<Worker, TrialError> {
        let key = format!("{env:?}");
        match spare.iter().position(|w| w.key == key) {
            Some(i) => Ok(spare.swap_remove(i)),
            None => Worker::start(env, &self.meeting, key),
        }
    }

    fn start_workers(&mut self, layout: &Layout) -> Result<(), TrialError> {
        if !layout.processes.iter().any(|p| p.mps) && self.daemon.is_some() {
            self.workers.clear();
            self.daemon = None;
        }
        let envs = layout.processes.iter().map(|p| self.env_for(p)).collect::<Result<Vec<_>, _>>()?;
        let mut spare = std::mem::take(&mut self.workers);
        for env in &envs {
            let w = self.worker_for(env, &mut spare)?;
            self.workers.push(w);
        }
        Ok(()) // `spare` ends the workers that this trial has no use for
    }

    fn open_session(&mut self, trial: &TrialPlan, setup: u32) -> Result<CudaSession<'_>, TrialError> {
        if let Some(why) = trial.unmet(&self.sizes) {
            return Err(TrialError::Unavailable(why));
        }
        check_mig(&trial.sharing)?;
        let layout = sharing::mode(&trial.sharing).layout(trial);
        let opened = self.start_workers(&layout).and_then(|()| self.set_up(trial, &layout, setup));
        match opened {
            Ok(grants) => {
                Ok(CudaSession { backend: self, layout, grants, steady: trial.protocol == Protocol::Steady })
            }
            Err(e) => {
                self.workers.clear(); // whatever state they are in, the next trial starts afresh
                Err(e)
            }
        }
    }

    fn set_up(&mut self, trial: &TrialPlan, layout: &Layout, setup: u32) -> Result<Vec<Grant>, TrialError> {
        for (w, p) in self.workers.iter_mut().zip(&layout.processes) {
            let tenants = p.tenants.iter().enumerate().map(|(k, &t)| {
                let plan = &trial.tenants[t];
                TenantSetup {
                    kernel: plan.kernel.kernel.to_owned(),
                    blocks: plan.kernel.shape.blocks,
                    threads: plan.kernel.shape.threads,
                    params: plan.kernel.params.clone(),
                    launches: plan.launches,
                    gap_ns: plan.gap.0,
                    request: plan.request,
                    priority: p.priority.get(k).copied().unwrap_or(0),
                    carveout_percent: carveout_percent(plan.carveout, self.shared_per_sm),
                    trace: self.options.trace,
                }
            });
            let device = if p.mig.is_some() { 0 } else { self.options.index };
            let green_sms = p.green_sms.clone();
            w.send(&Command::Setup { device, tenants: tenants.collect(), green_sms, setup })?;
        }
        let mut grants: Vec<Option<Grant>> = vec![None; trial.tenants.len()];
        for (w, p) in self.workers.iter_mut().zip(&layout.processes) {
            let Reply::Ready { sms, priorities } = w.answer(&self.interrupted)? else {
                return Err(TrialError::Failed("a worker answered set-up out of turn".into()));
            };
            if p.baseline {
                continue;
            }
            for (k, &t) in p.tenants.iter().enumerate() {
                grants[t] = Some(Grant {
                    tenant: trial.tenants[t].name.clone(),
                    asked_sms: p.green_sms.get(k).copied(),
                    given_sms: sms.get(k).copied(),
                    percentage: p.percentage,
                    priority: p.client_priority.map(|c| c as i32).or(priorities.get(k).copied()),
                });
            }
        }
        Ok(grants.into_iter().flatten().collect())
    }
}

/// Percent of the largest carve-out, as the driver takes it (rounded down, since the driver rounds up to the next
/// size it has); none where the driver chooses.
fn carveout_percent(carveout: Bytes, shared_per_sm: Bytes) -> Option<i32> {
    (carveout.0 > 0 && shared_per_sm.0 > 0).then(|| (carveout.0 * 100 / shared_per_sm.0).clamp(1, 100) as i32)
}

fn check_mig(sharing: &Sharing) -> Result<(), TrialError> {
    let Sharing::Mig { instances } = sharing else { return Ok(()) };
    let monitor = Monitor::load().map_err(|e| TrialError::Unavailable(e.to_string()))?;
    let mut known = Vec::new();
    for i in 0..monitor.count().unwrap_or(0) {
        if let Ok(inv) = monitor.inventory(i) {
            known.extend(inv.mig_instances.into_iter().map(|m| m.uuid));
        }
    }
    for i in instances {
        if !known.contains(i) {
            let list = if known.is_empty() { "none exists".to_owned() } else { known.join(", ") };
            return Err(TrialError::Unavailable(format!(
                "there is no MIG instance {i} ({list}); cotenant uses instances and never creates any"
            )));
        }
    }
    Ok(())
}

fn sizes(info: &DeviceInfo) -> DeviceSizes {
    DeviceSizes {
        name: info.name.clone(),
        sms: info.sms.0,
        l2: info.l2,
        l1: info.l1,
        dram: info.memory,
        smem: info.shared_per_block,
        max_threads: info.threads_per_block,
        sm_granularity: if info.capability.0 >= 9 { 8 } else { 2 },
        capability: info.capability,
    }
}

impl Backend for CudaBackend {
    fn device(&self) -> &DeviceRecord {
        &self.record
    }

    fn sizes(&self) -> &DeviceSizes {
        &self.sizes
    }

    fn simulated(&self) -> bool {
        false
    }

    fn open<'s>(&'s mut self, trial: &TrialPlan, setup: u32) -> Result<Box<dyn Session + 's>, TrialError> {
        Ok(Box::new(self.open_session(trial, setup)?))
    }

    fn traced(&mut self, trial: &TrialPlan, iterations: &[u64]) -> Result<TracedRun, TrialError> {
        self.options.trace = true;
        let result = (|| {
            let mut s = self.open_session(trial, 0)?;
            for (i, n) in iterations.iter().enumerate() {
                s.set_iterations(i, *n)?;
            }
            let who: Vec<usize> = (0..trial.tenants.len()).collect();
            let mut done = s.run_together(&who, false)?;
            done.sort_by_key(|d| d.tenant);
            Ok(done.into_iter().map(|d| d.trace).collect())
        })();
        self.options.trace = false;
        result
    }

    fn launch_costs(&mut self) -> Result<LaunchCosts, TrialError> {
        self.start_workers(&Layout { processes: vec![ProcessPlan::default()], ..Layout::default() })?;
        let Some(w) = self.workers.first_mut() else {
            return Err(TrialError::Failed("no worker could be started".into()));
        };
        match w.ask(&Command::LaunchCosts { device: self.options.index }, &self.interrupted)? {
            Reply::Costs(c) => Ok(c),
            _ => Err(TrialError::Failed("a worker answered out of turn".into())),
        }
    }

    fn drain_telemetry(&mut self) -> Vec<String> {
        self.telemetry.as_mut().map(Telemetry::drain).unwrap_or_default()
    }
}

struct CudaSession<'s> {
    backend: &'s mut CudaBackend,
    layout: Layout,
    grants: Vec<Grant>,
    steady: bool,
}

impl CudaSession<'_> {
    /// The process, and the place in it, where a tenant does its solo phase (`solo`) or its shared one.
    fn place(&self, tenant: usize, solo: bool) -> Option<(usize, usize)> {
        let find = |baseline: bool| {
            self.layout
                .processes
                .iter()
                .enumerate()
                .filter(|(_, p)| p.baseline == baseline)
                .find_map(|(w, p)| p.tenants.iter().position(|&t| t == tenant).map(|k| (w, k)))
        };
        if solo { find(true).or_else(|| find(false)) } else { find(false) }
    }

    fn run_together(&mut self, who: &[usize], solo: bool) -> Result<Vec<TenantDone>, TrialError> {
        let places: Vec<_> = who.iter().filter_map(|&t| Some((t, self.place(t, solo)?))).collect();
        let participants = places.len() as u32;
        let b = &mut *self.backend;
        b.meeting.reset();
        let mut asked = Vec::new();
        for w in 0..b.workers.len() {
            let local: Vec<usize> =
                places.iter().filter(|(_, (pw, _))| *pw == w).map(|(_, (_, k))| *k).collect();
            if !local.is_empty() {
                let steady = self.steady && !solo;
                b.workers[w].send(&Command::Run { who: local, participants, sequential: false, steady })?;
                asked.push(w);
            }
        }
        let mut out = Vec::new();
        let mut failure = None;
        for w in asked {
            match b.workers[w].answer(&b.interrupted) {
                Ok(Reply::Done(done)) => {
                    let to_trial = |d: TenantDone| {
                        let tenant = places.iter().find(|(_, p)| *p == (w, d.tenant)).map(|(t, _)| *t)?;
                        Some(TenantDone { tenant, ..d })
                    };
                    out.extend(done.into_iter().filter_map(to_trial));
                }
                Ok(_) => {
                    failure = failure.or(Some(TrialError::Failed("a worker answered out of turn".into())))
                }
                Err(e) => {
                    // One tenant is gone: nobody else may wait for it.
                    b.meeting.abort();
                    failure = failure.or(Some(e));
                }
            }
        }
        match failure {
            None => Ok(out),
            Some(e) => {
                b.workers.clear();
                Err(e)
            }
        }
    }

    /// Asks one worker. After a failure none is kept: it may be dead or its context spoilt, and the next trial must
    /// not get it.
    fn ask(&mut self, worker: usize, command: &Command) -> Result<Reply, TrialError> {
        let b = &mut *self.backend;
        let answer = match b.workers.get_mut(worker) {
            Some(w) => w.ask(command, &b.interrupted),
            None => Err(TrialError::Failed("the trial's processes ended after an earlier failure".into())),
        };
        if answer.is_err() {
            b.workers.clear();
        }
        answer
    }

    fn run_sequential(&mut self) -> Result<Vec<TenantDone>, TrialError> {
        let n = self.grants.len();
        let shared: Vec<_> = (0..n).filter_map(|t| self.place(t, false)).collect();
        let one = shared.iter().all(|(w, _)| Some(*w) == shared.first().map(|s| s.0));
        if !one || shared.is_empty() {
            let mut out = Vec::new();
            for t in 0..n {
                out.extend(self.run_together(&[t], false)?);
            }
            return Ok(out);
        }
        let who = shared.iter().map(|s| s.1).collect();
        let command = Command::Run { who, participants: 1, sequential: true, steady: false };
        match self.ask(shared[0].0, &command)? {
            Reply::Done(done) => Ok(done),
            _ => Err(TrialError::Failed("a worker answered out of turn".into())),
        }
    }
}

impl Session for CudaSession<'_> {
    fn grants(&self) -> Vec<Grant> {
        self.grants.clone()
    }

    fn set_iterations(&mut self, tenant: usize, iterations: u64) -> Result<(), TrialError> {
        for solo in [true, false] {
            if let Some((w, k)) = self.place(tenant, solo) {
                self.ask(w, &Command::Iterations { tenant: k, n: iterations })?;
            }
        }
        Ok(())
    }

    fn run(&mut self, phase: Phase) -> Result<PhaseRun, TrialError> {
        let begun = Instant::now();
        let done = match phase {
            Phase::Solo(t) => self.run_together(&[t], true)?,
            Phase::Shared => self.run_together(&(0..self.grants.len()).collect::<Vec<_>>(), false)?,
            Phase::Sequential => self.run_sequential()?,
        };
        let state = self.backend.telemetry.as_ref().and_then(|t| t.between(begun, Instant::now()));
        let mut tenants: Vec<TenantRun> = done
            .into_iter()
            .map(|d| TenantRun {
                tenant: d.tenant,
                spans: d.spans,
                requests: d.requests,
                clocks_mhz: d.clocks_mhz,
            })
            .collect();
        tenants.sort_by_key(|t| t.tenant);
        Ok(PhaseRun { tenants, state })
    }
}
