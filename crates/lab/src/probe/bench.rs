//! Short measurements for the probe: a kernel alone, or a few together, a handful of interleaved repeats.

use crate::backend::{Backend, Phase, PhaseRun, Session, TrialError};
use crate::overlap::launch_time;
use cotenant_spec::plan::{Baseline, KernelPlan, Protocol, Sharing, TenantPlan, TrialPlan, Work, Workload};
use cotenant_units::Nanos;
use std::collections::BTreeMap;

/// Repeats of each measurement after one that is not counted; their median counts.
const REPEATS: usize = 4;

/// A tenant in one line.
#[derive(Debug, Clone)]
pub struct Load {
    pub kernel: &'static str,
    pub blocks: u32,
    pub threads: u32,
    pub params: Vec<(&'static str, f64)>,
    pub work: Work,
    pub launches: u32,
}

impl Load {
    /// One launch of about `ms` milliseconds alone.
    pub fn lasting(
        kernel: &'static str,
        blocks: u32,
        threads: u32,
        params: &[(&'static str, f64)],
        ms: f64,
    ) -> Load {
        let work = Work::Duration(Nanos::from_secs(ms / 1e3));
        Load { kernel, blocks, threads, params: params.to_vec(), work, launches: 1 }
    }

    pub fn launches(mut self, n: u32) -> Load {
        self.launches = n;
        self
    }

    fn plan(&self, name: String) -> Result<TenantPlan, TrialError> {
        let params: BTreeMap<String, f64> = self.params.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let kernel = cotenant_kernels::resolve(self.kernel, self.blocks, self.threads, &params)
            .map_err(|e| TrialError::Failed(e.to_string()))?;
        let carveout = KernelPlan::default_carveout(&kernel);
        let (work, launches) = (self.work, self.launches);
        let workload = Workload::Kernel(KernelPlan { kernel, work, launches, request: 1, carveout });
        let load =
            cotenant_spec::plan::Load { iterations: launches, warmup: 0, gap: Nanos(0), arrivals: None };
        Ok(TenantPlan { name, role: String::new(), workload, load })
    }
}

/// The largest multiple of 64 KiB up to `bytes`: kernels want whole vectors for every thread.
pub fn whole(bytes: f64) -> f64 {
    ((bytes / 65536.0).floor() * 65536.0).max(4096.0)
}

/// A trial of these loads.
pub fn trial(sharing: Sharing, protocol: Protocol, loads: &[Load]) -> Result<TrialPlan, TrialError> {
    let tenants = loads.iter().enumerate().map(|(i, l)| l.plan(format!("t{i}"))).collect::<Result<_, _>>()?;
    Ok(TrialPlan {
        id: "probe".into(),
        series: String::new(),
        x: None,
        vars: BTreeMap::new(),
        sharing,
        tenants,
        protocol,
        baseline: Baseline::SameShare,
        sequential: false,
        references: Vec::new(),
        host_bound: false,
        pin: false,
    })
}

/// A kernel alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solo {
    /// Time of one turn of its loop, ns.
    pub turn_ns: f64,
    /// SM clock meanwhile, MHz, where the launch was long enough to tell.
    pub clock_mhz: Option<f64>,
}

/// Several kernels: each alone and all together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Turn of each alone, ns.
    pub alone_ns: Vec<f64>,
    /// Turn of each together, ns.
    pub together_ns: Vec<f64>,
    /// The last repeat's phases: alone in order, then together.
    pub last: Vec<PhaseRun>,
}

/// Finds how many turns make a launch as long as asked, as the stopping rule's calibration does, coarsely.
fn calibrate(session: &mut dyn Session, tenant: usize, work: Work) -> Result<u64, TrialError> {
    let target = match work {
        Work::Iterations(n) => {
            session.set_iterations(tenant, n)?;
            return Ok(n);
        }
        Work::Duration(d) => d.0 as f64,
    };
    session.set_iterations(tenant, 1)?;
    session.run(Phase::Solo(tenant))?; // loads code
    let mut n = 1.0f64;
    for _ in 0..10 {
        session.set_iterations(tenant, n as u64)?;
        let t = time(&session.run(Phase::Solo(tenant))?, Protocol::Fixed, 0)?;
        if t > target * 0.5 || n > 1e10 {
            n = (n * target / t).max(1.0).round();
            break;
        }
        n = (n * target / t).clamp(n * 2.0, n * 64.0).round();
    }
    session.set_iterations(tenant, n as u64)?;
    Ok(n as u64)
}

fn time(run: &PhaseRun, protocol: Protocol, which: usize) -> Result<f64, TrialError> {
    launch_time(protocol, &run.tenants, which)
        .map(|t| t.0)
        .ok_or_else(|| TrialError::Failed("a launch of the probe left no time that counts".into()))
}

fn median(v: &[f64]) -> f64 {
    cotenant_stats::median(v).unwrap_or(f64::NAN)
}

/// Measures one kernel alone.
pub fn solo(backend: &mut dyn Backend, load: &Load) -> Result<Solo, TrialError> {
    let t = trial(Sharing::Solo, Protocol::Fixed, std::slice::from_ref(load))?;
    let mut s = backend.open(&t, 0)?;
    let n = calibrate(&mut *s, 0, load.work)? as f64;
    let (mut times, mut clocks) = (Vec::new(), Vec::new());
    for i in 0..=REPEATS {
        let run = s.run(Phase::Solo(0))?;
        if i > 0 {
            times.push(time(&run, Protocol::Fixed, 0)?);
            clocks.extend(run.tenants.iter().flat_map(|t| &t.clocks_mhz));
        }
    }
    let clock_mhz = (!clocks.is_empty()).then(|| median(&clocks));
    Ok(Solo { turn_ns: median(&times) / n, clock_mhz })
}

/// Measures kernels alone and together, interleaved.
pub fn group(
    backend: &mut dyn Backend,
    sharing: Sharing,
    protocol: Protocol,
    loads: &[Load],
) -> Result<Group, TrialError> {
    let t = trial(sharing, protocol, loads)?;
    let mut s = backend.open(&t, 0)?;
    let turns = (0..loads.len())
        .map(|i| calibrate(&mut *s, i, loads[i].work).map(|n| n as f64))
        .collect::<Result<Vec<_>, _>>()?;
    let (mut alone, mut together) = (vec![Vec::new(); loads.len()], vec![Vec::new(); loads.len()]);
    let mut last = Vec::new();
    for repeat in 0..=REPEATS {
        last.clear();
        for (i, list) in alone.iter_mut().enumerate() {
            let run = s.run(Phase::Solo(i))?;
            if repeat > 0 {
                list.push(time(&run, Protocol::Fixed, 0)?);
            }
            last.push(run);
        }
        let run = s.run(Phase::Shared)?;
        if repeat > 0 {
            for (i, list) in together.iter_mut().enumerate() {
                list.push(time(&run, protocol, i)?);
            }
        }
        last.push(run);
    }
    let per_turn =
        |v: Vec<Vec<f64>>| v.iter().zip(&turns).map(|(times, n)| median(times) / n).collect::<Vec<_>>();
    Ok(Group { alone_ns: per_turn(alone), together_ns: per_turn(together), last })
}
