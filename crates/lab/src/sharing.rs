//! The sharing modes: how each one spreads the tenants of a trial over processes and contexts. One trait; both
//! backends and the conformance suite go through it.

use cotenant_spec::plan::{Baseline, Sharing, TrialPlan};

/// One process that a mode needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProcessPlan {
    /// Tenants in it (indices in the trial).
    pub tenants: Vec<usize>,
    /// Client of the run's MPS daemon.
    pub mps: bool,
    /// Environment beside what the daemon needs.
    pub env: Vec<(String, String)>,
    /// MIG instance that the process sees.
    pub mig: Option<String>,
    /// SMs of each tenant's green context; empty: the whole context for all.
    pub green_sms: Vec<u32>,
    /// Stream priority of each tenant.
    pub priority: Vec<i32>,
    /// Share of SMs, percent (for the record and the simulator; the environment enforces it).
    pub percentage: Option<f64>,
    /// MPS client priority (0 high, 1 low).
    pub client_priority: Option<u32>,
    /// Holds a second copy of its tenant, alone on the whole GPU, for the baseline.
    pub baseline: bool,
}

/// Processes of a trial.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layout {
    /// The processes.
    pub processes: Vec<ProcessPlan>,
    /// The trial has a phase in which all run together.
    pub shared_phase: bool,
    /// Work of different processes alternates rather than overlaps.
    pub time_sliced: bool,
}

impl Layout {
    /// The process that a tenant runs in, beside others; not that of its baseline.
    pub fn process_of(&self, tenant: usize) -> Option<&ProcessPlan> {
        self.processes.iter().find(|p| !p.baseline && p.tenants.contains(&tenant))
    }
}

/// A way to share a GPU.
pub trait SharingMode {
    /// Where the trial's tenants go.
    fn layout(&self, trial: &TrialPlan) -> Layout;
}

struct Solo;
struct Sequential;
struct Streams<'a>(&'a [i32]);
struct Processes;
struct Mps<'a> {
    percentage: &'a [f64],
    priority: &'a [u32],
    pinned: &'a [cotenant_units::Bytes],
}
struct Green<'a> {
    sms: &'a [u32],
    priority: &'a [i32],
}
struct Mig<'a>(&'a [String]);

/// The implementation behind a spec's `sharing`.
pub fn mode(sharing: &Sharing) -> Box<dyn SharingMode + '_> {
    match sharing {
        Sharing::Solo => Box::new(Solo),
        Sharing::Sequential => Box::new(Sequential),
        Sharing::Streams { priority } => Box::new(Streams(priority)),
        Sharing::Processes => Box::new(Processes),
        Sharing::Mps { percentage, priority, pinned_memory } => {
            Box::new(Mps { percentage, priority, pinned: pinned_memory })
        }
        Sharing::Green { sms, priority } => Box::new(Green { sms, priority }),
        Sharing::Mig { instances } => Box::new(Mig(instances)),
    }
}

fn all(trial: &TrialPlan) -> Vec<usize> {
    (0..trial.tenants.len()).collect()
}

fn one_process(trial: &TrialPlan, priority: &[i32]) -> ProcessPlan {
    ProcessPlan { tenants: all(trial), priority: priority.to_vec(), ..ProcessPlan::default() }
}

/// All kernel tenants in one process, and each program in its own.
fn few_processes(trial: &TrialPlan) -> Vec<ProcessPlan> {
    let (programs, kernels): (Vec<usize>, Vec<usize>) =
        all(trial).into_iter().partition(|&t| trial.tenants[t].is_program());
    let together = (!kernels.is_empty()).then(|| ProcessPlan { tenants: kernels, ..ProcessPlan::default() });
    let apart = programs.into_iter().map(|t| ProcessPlan { tenants: vec![t], ..ProcessPlan::default() });
    together.into_iter().chain(apart).collect()
}

/// Adds, per tenant, a process in which it has the whole GPU, where the trial's baseline asks for that.
fn with_baseline(mut layout: Layout, trial: &TrialPlan, mps: bool) -> Layout {
    if trial.baseline == Baseline::WholeGpu {
        layout.processes.extend(all(trial).into_iter().map(|t| ProcessPlan {
            tenants: vec![t],
            mps,
            baseline: true,
            ..ProcessPlan::default()
        }));
    }
    layout
}

impl SharingMode for Solo {
    fn layout(&self, trial: &TrialPlan) -> Layout {
        Layout { processes: few_processes(trial), ..Layout::default() }
    }
}

impl SharingMode for Sequential {
    fn layout(&self, trial: &TrialPlan) -> Layout {
        Layout { processes: few_processes(trial), ..Layout::default() }
    }
}

impl SharingMode for Streams<'_> {
    fn layout(&self, trial: &TrialPlan) -> Layout {
        Layout { processes: vec![one_process(trial, self.0)], shared_phase: true, time_sliced: false }
    }
}

impl SharingMode for Processes {
    fn layout(&self, trial: &TrialPlan) -> Layout {
        let processes = all(trial)
            .into_iter()
            .map(|t| ProcessPlan { tenants: vec![t], ..ProcessPlan::default() })
            .collect();
        // Tenants that use another's server take turns in it and not on the GPU.
        let own = |t: &&cotenant_spec::plan::TenantPlan| t.server().is_none_or(|s| s.setup.of.is_none());
        let time_sliced = trial.tenants.len() < 2 || trial.tenants.iter().filter(own).count() > 1;
        Layout { processes, shared_phase: true, time_sliced }
    }
}

impl SharingMode for Mps<'_> {
    fn layout(&self, trial: &TrialPlan) -> Layout {
        let processes = all(trial)
            .into_iter()
            .map(|t| {
                let mut env = Vec::new();
                let percentage = self.percentage.get(t).copied();
                if let Some(p) = percentage {
                    env.push(("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE".to_owned(), p.to_string()));
                }
                let client_priority = self.priority.get(t).copied();
                if let Some(p) = client_priority {
                    env.push(("CUDA_MPS_CLIENT_PRIORITY".to_owned(), p.to_string()));
                }
                if let Some(limit) = self.pinned.get(t) {
                    env.push((
                        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT".to_owned(),
                        format!("0={}M", limit.0.div_ceil(1 << 20)),
                    ));
                }
                ProcessPlan {
                    tenants: vec![t],
                    mps: true,
                    env,
                    percentage,
                    client_priority,
                    ..ProcessPlan::default()
                }
            })
            .collect();
        with_baseline(Layout { processes, shared_phase: true, time_sliced: false }, trial, true)
    }
}

impl SharingMode for Green<'_> {
    fn layout(&self, trial: &TrialPlan) -> Layout {
        let mut p = one_process(trial, self.priority);
        p.green_sms = self.sms.to_vec();
        with_baseline(Layout { processes: vec![p], shared_phase: true, time_sliced: false }, trial, false)
    }
}

impl SharingMode for Mig<'_> {
    fn layout(&self, trial: &TrialPlan) -> Layout {
        let processes = all(trial)
            .into_iter()
            .map(|t| ProcessPlan { tenants: vec![t], mig: self.0.get(t).cloned(), ..ProcessPlan::default() })
            .collect();
        Layout { processes, shared_phase: true, time_sliced: false }
    }
}
