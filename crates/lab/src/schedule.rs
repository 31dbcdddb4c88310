//! From a tenant's load to the arrivals of one repeat.

use crate::backend::TrialError;
use cotenant_load::{Arrivals, Process, Profile, Trace, Until, stream_seed};
use cotenant_spec::plan::{self, ArrivalProcess, Rate, TenantPlan};

/// Offsets of the arrivals of a tenant's requests in one repeat, ns from the start of a phase, ascending.
///
/// `capacity`: requests per second that a relative rate refers to. Every repeat and every tenant has a stream of its
/// own, made from the experiment's seed; a trace is the same in every repeat.
///
/// # Errors
/// The trace cannot be read, has too few arrivals or no rate to stretch; the capacity was not measured.
pub fn offsets(
    arrivals: &plan::Arrivals,
    tenant: &TenantPlan,
    capacity: Option<f64>,
    seed: u64,
    repeat: u32,
) -> Result<Vec<u64>, TrialError> {
    let fail = |what: String| TrialError::Failed(format!("tenant {}: {what}", tenant.name));
    let rate_per_s = match arrivals.rate {
        Rate::PerSecond(r) => Some(r),
        Rate::OfCapacity(share) => {
            let alone = capacity.filter(|c| *c > 0.0);
            Some(share * alone.ok_or_else(|| fail("what it does alone could not be measured".into()))?)
        }
        Rate::AsRecorded => None,
    };
    let until = Until::Count(tenant.load.iterations as usize);
    let process = match &arrivals.process {
        ArrivalProcess::Constant => Process::Constant,
        ArrivalProcess::Poisson => Process::Poisson,
        ArrivalProcess::Gamma { cv } => Process::Gamma { cv: *cv },
        ArrivalProcess::Trace { path } => {
            let text =
                std::fs::read_to_string(path).map_err(|e| fail(format!("read the trace {path}: {e}")))?;
            let trace = Trace::parse(&text).map_err(|e| fail(format!("{path}: {e}")))?;
            let trace = match rate_per_s {
                Some(r) => trace.at_rate(r).map_err(|e| fail(format!("{path}: {e}")))?,
                None => trace,
            };
            return trace.offsets(until).map_err(|e| fail(format!("{path}: {e}")));
        }
    };
    let rate_per_s = rate_per_s.ok_or_else(|| fail("its arrivals have no rate".into()))?;
    let seed = stream_seed(seed, &tenant.name, u64::from(repeat));
    Arrivals { process, profile: Profile::Flat, rate_per_s, seed }
        .offsets(until)
        .map_err(|e| fail(e.to_string()))
}
