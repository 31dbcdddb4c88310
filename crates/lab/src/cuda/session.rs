//! Tenants of a trial on a real GPU, set up: phases over workers, programs, or both.

use super::backend::{CudaBackend, Seat};
use super::process::Worker;
use super::protocol::{Command, Reply, TenantDone};
use crate::backend::{Phase, PhaseRun, Session, TenantRun, TrialError};
use crate::program::{Kernels, Order, monotonic_ns};
use crate::sharing::Layout;
use cotenant_spec::plan::{Protocol, TrialPlan};
use cotenant_store::format::{GpuState, Grant};
use std::time::Instant;

/// See [`CudaBackend`].
pub(super) struct CudaSession<'s> {
    backend: &'s mut CudaBackend,
    trial: TrialPlan,
    layout: Layout,
    seats: Vec<Vec<Seat>>,
    grants: Vec<Grant>,
    schedules: Vec<Vec<u64>>,
    repeat: u32,
    steady: bool,
    /// Times of kernels are brought to CLOCK_MONOTONIC also where there are kernels only.
    pub(super) anchored: bool,
}

impl<'s> CudaSession<'s> {
    /// Takes over what the backend has set up.
    pub(super) fn new(
        backend: &'s mut CudaBackend,
        trial: &TrialPlan,
        layout: Layout,
        seats: Vec<Vec<Seat>>,
        grants: Vec<Grant>,
    ) -> CudaSession<'s> {
        CudaSession {
            backend,
            trial: trial.clone(),
            layout,
            seats,
            grants,
            schedules: vec![Vec::new(); trial.tenants.len()],
            repeat: 0,
            steady: trial.protocol == Protocol::Steady,
            anchored: false,
        }
    }

    /// Where a tenant does its solo phase (`solo`) or its shared one.
    fn seat(&self, tenant: usize, solo: bool) -> Option<Seat> {
        let find = |baseline: bool| {
            let processes = self.layout.processes.iter().zip(&self.seats);
            processes.filter(|(p, _)| p.baseline == baseline).find_map(|(p, seats)| {
                let k = p.tenants.iter().position(|&t| t == tenant)?;
                seats.get(k).copied()
            })
        };
        if solo { find(true).or_else(|| find(false)) } else { find(false) }
    }

    /// Runs these tenants at once.
    fn run_together(&mut self, who: &[usize], solo: bool) -> Result<Vec<TenantRun>, TrialError> {
        let (mut kernels, mut programs) = (Vec::new(), Vec::new());
        for &t in who {
            match self.seat(t, solo) {
                Some(Seat::Worker(w, k)) => kernels.push((t, (w, k))),
                Some(Seat::Program(handle)) => programs.push((t, handle)),
                None => {}
            }
        }
        let ran = if programs.is_empty() {
            self.run_kernels(&kernels, solo)
        } else {
            self.run_mixed(&kernels, &programs, solo)
        };
        if ran.is_err() {
            self.backend.meeting.abort();
            self.backend.start_over();
        }
        ran
    }

    /// Takes the workers' answers; all are heard even if one failed.
    fn answers(
        &mut self,
        asked: &[usize],
        kernels: &[(usize, (usize, usize))],
    ) -> Result<Vec<(TenantDone, Option<i64>)>, TrialError> {
        let b = &mut *self.backend;
        let (mut out, mut failure) = (Vec::new(), None);
        for &w in asked {
            match b.workers[w].answer(&b.interrupted) {
                Ok(Reply::Done { tenants, anchor_ns }) => {
                    let to_trial = |d: TenantDone| {
                        let tenant = kernels.iter().find(|(_, p)| *p == (w, d.tenant)).map(|(t, _)| *t)?;
                        Some((TenantDone { tenant, ..d }, anchor_ns))
                    };
                    out.extend(tenants.into_iter().filter_map(to_trial));
                }
                Ok(_) => {
                    failure = failure.or(Some(TrialError::Failed("a worker answered out of turn".into())));
                }
                Err(e) => {
                    // One tenant is gone: nobody else may wait for it.
                    b.meeting.abort();
                    failure = failure.or(Some(e));
                }
            }
        }
        failure.map_or(Ok(out), Err)
    }

    fn run_kernels(
        &mut self,
        kernels: &[(usize, (usize, usize))],
        solo: bool,
    ) -> Result<Vec<TenantRun>, TrialError> {
        self.backend.meeting.reset();
        let asked = send(
            &mut self.backend.workers,
            kernels,
            kernels.len() as u32,
            self.steady && !solo,
            self.anchored,
        )?;
        let done = self.answers(&asked, kernels)?;
        Ok(done.into_iter().map(|(d, anchor)| tenant_run(d, anchor.unwrap_or(0))).collect())
    }

    /// The block traces of a phase of kernel tenants.
    pub(super) fn run_traced_blocks(&mut self) -> Result<Vec<TenantDone>, TrialError> {
        let kernels: Vec<(usize, (usize, usize))> = (0..self.grants.len())
            .filter_map(|t| match self.seat(t, false) {
                Some(Seat::Worker(w, k)) => Some((t, (w, k))),
                _ => None,
            })
            .collect();
        self.backend.meeting.reset();
        let asked = send(&mut self.backend.workers, &kernels, kernels.len() as u32, false, false)?;
        let mut done: Vec<TenantDone> = self.answers(&asked, &kernels)?.into_iter().map(|d| d.0).collect();
        done.sort_by_key(|d| d.tenant);
        Ok(done)
    }

    /// Programs, and kernels beside them: the run stands at the meeting page for all programs. Times of kernels are
    /// brought to the programs' clock.
    fn run_mixed(
        &mut self,
        kernels: &[(usize, (usize, usize))],
        programs: &[(usize, u64)],
        solo: bool,
    ) -> Result<Vec<TenantRun>, TrialError> {
        let until_stop = self.steady && !solo;
        let participants = kernels.len() as u32 + 1;
        let mut asked = Vec::new();
        let repeat = self.repeat;
        let CudaSession { backend, trial, schedules, .. } = &mut *self;
        let orders: Vec<Order<'_>> = programs
            .iter()
            .map(|&(tenant, handle)| Order {
                tenant,
                handle,
                plan: &trial.tenants[tenant],
                arrivals: &schedules[tenant],
                repeat,
            })
            .collect();
        let CudaBackend { workers, troupe, meeting, watchdog, .. } = &mut **backend;
        let workers = std::cell::RefCell::new(workers);
        meeting.reset();
        let mut armed = || {
            asked = send(&mut workers.borrow_mut(), kernels, participants, until_stop, true)?;
            Ok(())
        };
        let mut lost = || workers.borrow_mut().iter_mut().any(Worker::has_ended);
        let beside =
            (!kernels.is_empty()).then_some(Kernels { meeting: &*meeting, participants, lost: &mut lost });
        let mut out = troupe.run(&orders, until_stop, *watchdog, &mut armed, beside)?;
        for (d, anchor) in self.answers(&asked, kernels)? {
            out.push(tenant_run(d, anchor.unwrap_or(0)));
        }
        Ok(out)
    }

    /// Asks one worker. After a failure none is kept.
    fn ask(&mut self, worker: usize, command: &Command) -> Result<Reply, TrialError> {
        let b = &mut *self.backend;
        let answer = match b.workers.get_mut(worker) {
            Some(w) => w.ask(command, &b.interrupted),
            None => Err(TrialError::Failed("the trial's processes ended after an earlier failure".into())),
        };
        if answer.is_err() {
            b.start_over();
        }
        answer
    }

    fn run_sequential(&mut self) -> Result<Vec<TenantRun>, TrialError> {
        let n = self.grants.len();
        let shared: Vec<Seat> = (0..n).filter_map(|t| self.seat(t, false)).collect();
        let places: Vec<(usize, usize)> = shared
            .iter()
            .filter_map(|s| match s {
                Seat::Worker(w, k) => Some((*w, *k)),
                Seat::Program(_) => None,
            })
            .collect();
        let one = places.len() == n && places.iter().all(|p| p.0 == places[0].0);
        if !one || places.is_empty() {
            let mut out = Vec::new();
            for t in 0..n {
                out.extend(self.run_together(&[t], false)?);
            }
            return Ok(out);
        }
        let who = places.iter().map(|s| s.1).collect();
        let command = Command::Run { who, participants: 1, sequential: true, steady: false, anchor: false };
        match self.ask(places[0].0, &command)? {
            Reply::Done { tenants, .. } => Ok(tenants.into_iter().map(|d| tenant_run(d, 0)).collect()),
            _ => Err(TrialError::Failed("a worker answered out of turn".into())),
        }
    }

    fn phase(&mut self, phase: Phase) -> Result<Vec<TenantRun>, TrialError> {
        let mut tenants = match phase {
            Phase::Solo(t) => self.run_together(&[t], true)?,
            Phase::Shared => self.run_together(&(0..self.grants.len()).collect::<Vec<_>>(), false)?,
            Phase::Sequential => self.run_sequential()?,
        };
        tenants.sort_by_key(|t| t.tenant);
        Ok(tenants)
    }
}

/// Sends kernel tenants to their meeting page; returns the workers that will answer.
fn send(
    workers: &mut [Worker],
    kernels: &[(usize, (usize, usize))],
    participants: u32,
    steady: bool,
    anchor: bool,
) -> Result<Vec<usize>, TrialError> {
    let mut asked = Vec::new();
    for (w, worker) in workers.iter_mut().enumerate() {
        let who: Vec<usize> = kernels.iter().filter(|(_, (of, _))| *of == w).map(|(_, (_, k))| *k).collect();
        if !who.is_empty() {
            worker.send(&Command::Run { who, participants, sequential: false, steady, anchor })?;
            asked.push(w);
        }
    }
    Ok(asked)
}

/// A worker's times, moved by `anchor` to the run's clock.
fn tenant_run(d: TenantDone, anchor: i64) -> TenantRun {
    let moved = |t: u64| t.saturating_add_signed(anchor);
    TenantRun {
        tenant: d.tenant,
        spans: d.spans.into_iter().map(|(s, e)| (moved(s), moved(e))).collect(),
        requests: d.requests,
        clocks_mhz: d.clocks_mhz,
        ..TenantRun::default()
    }
}

impl Session for CudaSession<'_> {
    fn grants(&self) -> Vec<Grant> {
        self.grants.clone()
    }

    fn set_iterations(&mut self, tenant: usize, iterations: u64) -> Result<(), TrialError> {
        for solo in [true, false] {
            if let Some(Seat::Worker(w, k)) = self.seat(tenant, solo) {
                self.ask(w, &Command::Iterations { tenant: k, n: iterations })?;
            }
        }
        Ok(())
    }

    fn set_schedule(&mut self, tenant: usize, offsets: &[u64]) -> Result<(), TrialError> {
        for solo in [true, false] {
            if let Some(Seat::Worker(w, k)) = self.seat(tenant, solo) {
                self.ask(w, &Command::Schedule { tenant: k, offsets: offsets.to_vec() })?;
            }
        }
        if let Some(s) = self.schedules.get_mut(tenant) {
            *s = offsets.to_vec();
        }
        Ok(())
    }

    fn set_repeat(&mut self, repeat: u32) {
        self.repeat = repeat;
    }

    fn run(&mut self, phase: Phase) -> Result<PhaseRun, TrialError> {
        let begun = Instant::now();
        let begun_ns = monotonic_ns();
        let tenants = self.phase(phase)?;
        let telemetry = self.backend.telemetry.as_ref();
        let programs = self.trial.has_programs();
        let state = telemetry.and_then(|t| match extent(&tenants).filter(|_| programs) {
            // Warm-up before the barrier is not part of the phase.
            Some((from, to)) if from >= begun_ns => t.between_ns(from, to),
            _ => t.between(begun, Instant::now()),
        });
        Ok(PhaseRun { tenants, state })
    }

    fn run_traced(&mut self, phase: Phase) -> Result<Option<PhaseRun>, TrialError> {
        let solo = matches!(phase, Phase::Solo(_));
        let who: Vec<usize> = match phase {
            Phase::Solo(t) => vec![t],
            _ => (0..self.grants.len()).collect(),
        };
        let handles: Vec<(usize, u64)> = who
            .iter()
            .filter_map(|&t| match self.seat(t, solo) {
                Some(Seat::Program(h)) => Some((t, h)),
                _ => None,
            })
            .collect();
        let ids: Vec<u64> = handles.iter().map(|h| h.1).collect();
        if !self.backend.troupe.trace(&ids, true) {
            return Ok(None);
        }
        let mut ran = self.run(phase)?;
        self.backend.troupe.trace(&ids, false);
        for run in &mut ran.tenants {
            if let Some((_, handle)) = handles.iter().find(|h| h.0 == run.tenant) {
                self.backend.troupe.read_trace(*handle, run);
            }
        }
        Ok(ran.tenants.iter().any(|t| !t.device.is_empty()).then_some(ran))
    }

    fn state_between(&self, from: u64, to: u64) -> Option<GpuState> {
        self.backend.telemetry.as_ref().and_then(|t| t.between_ns(from, to))
    }

    fn facts(&self) -> Vec<(usize, String, serde_json::Value)> {
        (0..self.grants.len())
            .filter_map(|t| match self.seat(t, false) {
                Some(Seat::Program(h)) => Some((t, h)),
                _ => None,
            })
            .flat_map(|(t, h)| self.backend.troupe.facts(h).into_iter().map(move |(k, v)| (t, k, v)))
            .collect()
    }
}

fn extent(tenants: &[TenantRun]) -> Option<(u64, u64)> {
    let from = tenants.iter().filter_map(|t| crate::overlap::extent(&t.spans)).map(|e| e.0).min()?;
    let to = tenants.iter().filter_map(|t| crate::overlap::extent(&t.spans)).map(|e| e.1).max()?;
    Some((from, to))
}
