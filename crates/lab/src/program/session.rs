//! A trial whose tenants are programs that nobody but the host runs: on the CPU, or on servers that stand for others.

use super::troupe::{Order, Troupe};
use crate::backend::{Phase, PhaseRun, Session, TenantRun, TrialError};
use crate::overlap;
use crate::sharing::Layout;
use cotenant_spec::plan::{Protocol, TrialPlan};
use cotenant_store::format::Grant;
use std::time::Duration;

/// A trial of programs alone.
#[derive(Debug)]
pub struct ProgramSession<'s> {
    troupe: &'s mut Troupe,
    trial: TrialPlan,
    handles: Vec<u64>,
    schedules: Vec<Vec<u64>>,
    repeat: u32,
    layout: Layout,
    watchdog: Duration,
}

impl<'s> ProgramSession<'s> {
    /// A session of a trial whose programs are set up.
    pub fn new(
        troupe: &'s mut Troupe,
        trial: &TrialPlan,
        handles: Vec<u64>,
        layout: Layout,
        watchdog: Duration,
    ) -> ProgramSession<'s> {
        let schedules = vec![Vec::new(); trial.tenants.len()];
        ProgramSession { troupe, trial: trial.clone(), handles, schedules, repeat: 0, layout, watchdog }
    }

    fn run_together(&mut self, who: &[usize], shared: bool) -> Result<Vec<TenantRun>, TrialError> {
        let orders: Vec<Order<'_>> = who
            .iter()
            .map(|&tenant| Order {
                tenant,
                handle: self.handles[tenant],
                plan: &self.trial.tenants[tenant],
                arrivals: &self.schedules[tenant],
                repeat: self.repeat,
            })
            .collect();
        let until_stop = shared && self.trial.protocol == Protocol::Steady;
        let ran = self.troupe.run(&orders, until_stop, self.watchdog, &mut || Ok(()), None);
        if ran.is_err() {
            self.troupe.clear();
        }
        ran
    }
}

impl Session for ProgramSession<'_> {
    fn grants(&self) -> Vec<Grant> {
        let one = |(i, t): (usize, &cotenant_spec::plan::TenantPlan)| {
            let process = self.layout.processes.iter().find(|p| !p.baseline && p.tenants.contains(&i));
            Grant {
                tenant: t.name.clone(),
                asked_sms: None,
                given_sms: None,
                percentage: process.and_then(|p| p.percentage),
                priority: None,
            }
        };
        self.trial.tenants.iter().enumerate().map(one).collect()
    }

    fn set_iterations(&mut self, _tenant: usize, _iterations: u64) -> Result<(), TrialError> {
        Ok(())
    }

    fn set_schedule(&mut self, tenant: usize, offsets: &[u64]) -> Result<(), TrialError> {
        if let Some(s) = self.schedules.get_mut(tenant) {
            *s = offsets.to_vec();
        }
        Ok(())
    }

    fn set_repeat(&mut self, repeat: u32) {
        self.repeat = repeat;
    }

    fn run(&mut self, phase: Phase) -> Result<PhaseRun, TrialError> {
        let all: Vec<usize> = (0..self.trial.tenants.len()).collect();
        let mut tenants = match phase {
            Phase::Solo(t) => self.run_together(&[t], false)?,
            Phase::Shared if self.layout.shared_phase => self.run_together(&all, true)?,
            _ => {
                let mut out = Vec::new();
                for t in all {
                    out.extend(self.run_together(&[t], false)?);
                }
                out
            }
        };
        tenants.sort_by_key(|t| t.tenant);
        debug_assert!(tenants.iter().all(|t| overlap::extent(&t.spans).is_some()));
        Ok(PhaseRun { tenants, state: None })
    }

    fn facts(&self) -> Vec<(usize, String, serde_json::Value)> {
        let of = |(t, h): (usize, &u64)| {
            self.troupe.facts(*h).into_iter().map(move |(k, v)| (t, k, v)).collect::<Vec<_>>()
        };
        self.handles.iter().enumerate().flat_map(of).collect()
    }
}
