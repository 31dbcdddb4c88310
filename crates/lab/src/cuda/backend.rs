//! The backend over real workers.

use super::process::Worker;
use super::protocol::{Command, LaunchCosts, Meeting, Reply, TenantSetup};
use super::session::CudaSession;
use crate::backend::{Backend, Phase, Session, TelemetryFacts, TracedRun, TrialError};
use crate::probe::bench::{self, Load};
use crate::program::{Part, Troupe};
use crate::sharing::{self, Layout, ProcessPlan};
use crate::telemetry::Telemetry;
use cotenant_gpu::driver::{self, DeviceInfo};
use cotenant_gpu::mps::Daemon;
use cotenant_gpu::nvml::{MigInstance, Monitor};
use cotenant_spec::plan::{DeviceSizes, KernelPlan, Plan, Protocol, Sharing, TenantPlan, TrialPlan, Work};
use cotenant_store::format::{DeviceRecord, Grant};
use cotenant_units::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

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
    uuid: String,
    pub(super) meeting: Meeting,
    daemon: Option<Daemon>,
    pub(super) workers: Vec<Worker>,
    pub(super) troupe: Troupe,
    pub(super) telemetry: Option<Telemetry>,
    scratch: PathBuf,
    pub(super) watchdog: Duration,
    gpm_age_ns: Option<u64>,
    pub(super) interrupted: Arc<AtomicBool>,
}

/// Where a tenant of a process of the layout lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// Index of the worker and place in it.
    Worker(usize, usize),
    /// Handle of a program.
    Program(u64),
}

/// How long the memory of ended processes may be told as in use.
const FREED: Duration = Duration::from_secs(10);
/// Share of the device's memory beyond which processes of earlier trials are not kept: the next trial needs room.
const KEEP_BELOW: f64 = 0.6;

/// Clients end before their daemon: one that is told to quit while it has clients waits for them, forces its server to
/// stop, and was seen to hang over it.
impl Drop for CudaBackend {
    fn drop(&mut self) {
        self.start_over();
    }
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
            uuid: info.uuid,
            meeting,
            daemon: None,
            workers: Vec::new(),
            troupe: Troupe::new(std::env::temp_dir(), interrupted.clone()),
            telemetry,
            scratch: std::env::temp_dir(),
            watchdog: crate::backend::WATCHDOG,
            gpm_age_ns: None,
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
            self.end_all(); // contexts outside MPS would be time-sliced against the server's
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

    /// Ends every process of tenants.
    fn end_all(&mut self) {
        self.workers.clear();
        self.troupe.clear();
    }

    /// After a failure nothing is kept: a process may be dead or its context spoilt, and a fault of one MPS client ends
    /// the server for all. The next trial starts afresh.
    pub(super) fn start_over(&mut self) {
        self.end_all();
        self.daemon = None;
    }

    fn start_workers(&mut self, envs: &[Vec<(String, String)>]) -> Result<(), TrialError> {
        let mut spare = std::mem::take(&mut self.workers);
        for env in envs {
            let w = self.worker_for(env, &mut spare)?;
            self.workers.push(w);
        }
        Ok(()) // `spare` ends the workers that this trial has no use for
    }

    /// Processes for a layout: where each tenant of each process lives.
    fn start(&mut self, trial: &TrialPlan, layout: &Layout) -> Result<Vec<Vec<Seat>>, TrialError> {
        if !layout.processes.iter().any(|p| p.mps) && self.daemon.is_some() {
            self.end_all();
            self.daemon = None;
        }
        let is_program = |p: &ProcessPlan| p.tenants.first().is_some_and(|&t| trial.tenants[t].is_program());
        let (mut kernel_envs, mut parts) = (Vec::new(), Vec::new());
        for p in &layout.processes {
            let mut env = self.env_for(p)?;
            if is_program(p) {
                let tenant = p.tenants[0];
                if p.mig.is_none() {
                    let server = trial.tenants[tenant].server().is_some();
                    let device = if server { self.device_number() } else { self.uuid.clone() };
                    env.push(("CUDA_VISIBLE_DEVICES".into(), device));
                }
                parts.push(Part { tenant, plan: &trial.tenants[tenant], env });
            } else {
                kernel_envs.push(env);
            }
        }
        self.start_workers(&kernel_envs)?;
        self.check_memory_shares(trial)?;
        let handles = self.troupe.cast(&parts)?;
        // A server holds its share of the memory whether it is asked or not, and the servers to come are checked against the whole card.
        let crowded = || self.memory_in_use().is_none_or(|share| share > KEEP_BELOW);
        if self.troupe.spare_serves() || self.troupe.spare() > 0 && crowded() {
            self.troupe.clear_spare();
        }
        self.troupe.set_up(&parts, &handles, self.watchdog)?;
        self.troupe.pin(&handles, trial.pin)?;
        let (mut worker, mut handles) = (0, handles.into_iter());
        Ok(layout
            .processes
            .iter()
            .map(|p| {
                if is_program(p) {
                    return handles.next().map(Seat::Program).into_iter().collect();
                }
                worker += 1;
                (0..p.tenants.len()).map(|k| Seat::Worker(worker - 1, k)).collect()
            })
            .collect())
    }

    /// Whether the shares of memory of a trial's servers fit on the card, or on the instances that they run on.
    fn check_memory_shares(&self, trial: &TrialPlan) -> Result<(), TrialError> {
        let begun = Instant::now();
        // Servers that are kept from trial to trial hold what they have been given already.
        let fresh = self.troupe.is_empty();
        for pool in crate::serving::memory_pools(trial) {
            loop {
                let (total, in_use) = match pool.instance {
                    Some(uuid) => instance_memory(uuid),
                    None => {
                        let total = self.sizes.dram.0;
                        let share = if fresh { self.memory_in_use().unwrap_or(0.0) } else { 0.0 };
                        (total, (share * total as f64) as u64)
                    }
                };
                let in_use = if fresh { in_use } else { 0 };
                match pool.check(total, in_use) {
                    Ok(()) => break,
                    // What ended a moment ago may still be told as in use.
                    Err(_) if in_use > 0 && begun.elapsed() < FREED => {
                        std::thread::sleep(Duration::from_millis(200));
                    }
                    Err(e) => return Err(TrialError::Failed(e)),
                }
            }
        }
        Ok(())
    }

    /// How a server is told which GPU is its: by number, since some read nothing else.
    fn device_number(&self) -> String {
        let index = self.options.index as usize;
        let outer = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
        let named = outer.split(',').map(str::trim).filter(|s| !s.is_empty()).nth(index);
        named.map_or_else(|| index.to_string(), str::to_owned)
    }

    /// Keeps the GPU busy for known stretches, to learn how late its counters come. A few seconds a run.
    fn align_telemetry(&mut self) -> Result<Option<u64>, TrialError> {
        // Stretches and pauses of lengths that no period fits: another shift cannot look the same.
        const PULSES_MS: [(f64, u64); 5] =
            [(330.0, 370), (260.0, 410), (390.0, 290), (280.0, 450), (350.0, 400)];
        let spin = Load {
            kernel: "spin",
            blocks: self.sizes.sms,
            threads: 128,
            params: vec![("ns", 1e5)],
            work: Work::Iterations(10),
            launches: 1,
        };
        let trial = bench::trial(Sharing::Solo, Protocol::Fixed, &[spin])?;
        let mut busy = Vec::new();
        {
            let mut s = self.open_session(&trial, 0)?;
            s.anchored = true;
            s.set_iterations(0, 10)?;
            s.run(Phase::Solo(0))?; // loads code
            std::thread::sleep(Duration::from_millis(300));
            for (ms, pause) in PULSES_MS {
                s.set_iterations(0, (ms * 10.0) as u64)?;
                let run = s.run(Phase::Solo(0))?;
                busy.extend(run.tenants.iter().flat_map(|t| t.spans.iter().copied()));
                std::thread::sleep(Duration::from_millis(pause));
            }
        }
        self.workers.clear();
        Ok(self.telemetry.as_ref().and_then(|t| t.align(&busy)))
    }

    /// Share of the device's memory that is in use, 0..1.
    fn memory_in_use(&self) -> Option<f64> {
        let state = self.telemetry.as_ref()?.between(Instant::now(), Instant::now())?;
        Some(state.memory_used_bytes? as f64 / self.sizes.dram.0.max(1) as f64)
    }

    fn open_session(&mut self, trial: &TrialPlan, setup: u32) -> Result<CudaSession<'_>, TrialError> {
        if let Some(why) = trial.unmet(&self.sizes) {
            return Err(TrialError::Unavailable(why));
        }
        check_mig(&trial.sharing)?;
        let layout = sharing::mode(&trial.sharing).layout(trial);
        let opened = self.start(trial, &layout).and_then(|seats| {
            let grants = self.set_up(trial, &layout, &seats, setup)?;
            Ok((seats, grants))
        });
        match opened {
            Ok((seats, grants)) => Ok(CudaSession::new(self, trial, layout, seats, grants)),
            Err(e) => {
                self.start_over();
                Err(e)
            }
        }
    }

    fn set_up(
        &mut self,
        trial: &TrialPlan,
        layout: &Layout,
        seats: &[Vec<Seat>],
        setup: u32,
    ) -> Result<Vec<Grant>, TrialError> {
        let of_worker = |seats: &[Seat]| match seats.first() {
            Some(Seat::Worker(w, _)) => Some(*w),
            _ => None,
        };
        for (p, seats) in layout.processes.iter().zip(seats) {
            let Some(w) = of_worker(seats) else { continue };
            let tenants = p
                .tenants
                .iter()
                .enumerate()
                .filter_map(|(k, &t)| Some((k, &trial.tenants[t], trial.tenants[t].kernel()?)))
                .map(|(k, plan, kernel)| {
                    let priority = p.priority.get(k).copied().unwrap_or(0);
                    self.tenant_setup(plan, kernel, priority)
                })
                .collect();
            let device = if p.mig.is_some() { 0 } else { self.options.index };
            let green_sms = p.green_sms.clone();
            self.workers[w].send(&Command::Setup { device, tenants, green_sms, setup })?;
        }
        let mut grants: Vec<Option<Grant>> = vec![None; trial.tenants.len()];
        for (p, seats) in layout.processes.iter().zip(seats) {
            let (sms, priorities) = match (of_worker(seats), seats.first()) {
                (Some(w), _) => match self.workers[w].answer(&self.interrupted)? {
                    Reply::Ready { sms, priorities } => (sms, priorities),
                    _ => return Err(TrialError::Failed("a worker answered set-up out of turn".into())),
                },
                (None, Some(Seat::Program(handle))) => {
                    let told = self.troupe.facts(*handle).into_iter().find(|f| f.0 == "sms");
                    (told.and_then(|f| f.1.as_u64()).map(|n| n as u32).into_iter().collect(), Vec::new())
                }
                _ => (Vec::new(), Vec::new()),
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

    fn tenant_setup(&self, plan: &TenantPlan, k: &KernelPlan, priority: i32) -> TenantSetup {
        TenantSetup {
            kernel: k.kernel.kernel.to_owned(),
            blocks: k.kernel.shape.blocks,
            threads: k.kernel.shape.threads,
            params: k.kernel.params.clone(),
            launches: k.launches,
            gap_ns: plan.load.gap.0,
            request: k.request,
            priority,
            carveout_percent: carveout_percent(k.carveout, self.shared_per_sm),
            trace: self.options.trace,
        }
    }
}

/// Percent of the largest carve-out, as the driver takes it (rounded down, since the driver rounds up to the next
/// size it has); none where the driver chooses.
fn carveout_percent(carveout: Bytes, shared_per_sm: Bytes) -> Option<i32> {
    (carveout.0 > 0 && shared_per_sm.0 > 0).then(|| (carveout.0 * 100 / shared_per_sm.0).clamp(1, 100) as i32)
}

/// All MIG instances of this machine.
fn mig_instances() -> Result<Vec<MigInstance>, cotenant_gpu::Error> {
    let monitor = Monitor::load()?;
    let inventories = (0..monitor.count().unwrap_or(0)).filter_map(|i| monitor.inventory(i).ok());
    Ok(inventories.flat_map(|i| i.mig_instances).collect())
}

/// Memory of an instance and what of it is in use, bytes; 0 where NVML does not tell.
fn instance_memory(uuid: &str) -> (u64, u64) {
    let found = mig_instances().unwrap_or_default().into_iter().find(|i| i.uuid == uuid);
    found.map_or((0, 0), |i| (i.memory.unwrap_or(0), i.memory_used.unwrap_or(0)))
}

fn check_mig(sharing: &Sharing) -> Result<(), TrialError> {
    let Sharing::Mig { instances } = sharing else { return Ok(()) };
    let known = mig_instances().map_err(|e| TrialError::Unavailable(e.to_string()))?;
    let known: Vec<String> = known.into_iter().map(|m| m.uuid).collect();
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
            let done = s.run_traced_blocks()?;
            Ok(done.into_iter().map(|d| d.trace).collect())
        })();
        self.options.trace = false;
        result
    }

    fn launch_costs(&mut self) -> Result<LaunchCosts, TrialError> {
        let env = self.env_for(&ProcessPlan::default())?;
        self.start_workers(&[env])?;
        let Some(w) = self.workers.first_mut() else {
            return Err(TrialError::Failed("no worker could be started".into()));
        };
        match w.ask(&Command::LaunchCosts { device: self.options.index }, &self.interrupted)? {
            Reply::Costs(c) => Ok(c),
            _ => Err(TrialError::Failed("a worker answered out of turn".into())),
        }
    }

    fn set_watchdog(&mut self, limit: Duration) {
        self.watchdog = limit;
    }

    fn set_traces(&mut self, folder: &std::path::Path) {
        self.troupe.set_traces(folder);
    }

    fn expect(&mut self, plan: &Plan) {
        self.troupe.expect(plan);
        let programs = plan.trials.iter().any(TrialPlan::has_programs);
        if programs && self.telemetry.as_ref().is_some_and(|t| t.gpm().is_ok()) {
            self.gpm_age_ns = self.align_telemetry().ok().flatten();
        }
    }

    fn telemetry_facts(&self) -> TelemetryFacts {
        let Some(t) = &self.telemetry else {
            return TelemetryFacts { gap: Some("NVML cannot be loaded".into()), ..TelemetryFacts::default() };
        };
        let gap = t.gpm().err().map(|e| e.to_string());
        TelemetryFacts { cpu_share: Some(t.cost()), gpm_age_ns: self.gpm_age_ns, gap }
    }

    fn set_logs(&mut self, folder: &std::path::Path) {
        self.troupe.set_logs(folder);
    }

    fn drain_telemetry(&mut self) -> Vec<String> {
        self.telemetry.as_mut().map(Telemetry::drain).unwrap_or_default()
    }
}
