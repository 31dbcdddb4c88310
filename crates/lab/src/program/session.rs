//! A trial whose tenants are programs that nobody but the host runs: on the CPU, or on servers that stand for others.

use super::troupe::{Order, Part, Troupe};
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
    /// Finds or starts the programs of a trial, of which `parts` are the tenants, and sets them up.
    ///
    /// # Errors
    /// As [`Troupe::set_up`]; no program is then left.
    pub fn open(
        troupe: &'s mut Troupe,
        trial: &TrialPlan,
        parts: &[Part<'_>],
        layout: Layout,
        watchdog: Duration,
    ) -> Result<ProgramSession<'s>, TrialError> {
        let opened = troupe.cast(parts).and_then(|handles| {
            troupe.clear_spare();
            troupe.set_up(parts, &handles, watchdog)?;
            troupe.pin(&handles, trial.pin)?;
            Ok(handles)
        });
        match opened {
            Ok(handles) => {
                let schedules = vec![Vec::new(); trial.tenants.len()];
                let trial = trial.clone();
                Ok(ProgramSession { troupe, trial, handles, schedules, repeat: 0, layout, watchdog })
            }
            Err(e) => {
                troupe.clear();
                Err(e)
            }
        }
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
        let one = |(i, t): (usize, &cotenant_spec::plan::TenantPlan)| Grant {
            tenant: t.name.clone(),
            asked_sms: None,
            given_sms: None,
            percentage: self.layout.process_of(i).and_then(|p| p.percentage),
            priority: None,
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
