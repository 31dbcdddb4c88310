//! From a tenant's load to the arrivals of one repeat.
use crate::backend::TrialError;
use cotenant_spec::plan::{Arrivals, TenantPlan};
pub fn offsets(
    _a: &Arrivals,
    _t: &TenantPlan,
    _c: Option<f64>,
    _s: u64,
    _r: u32,
) -> Result<Vec<u64>, TrialError> {
    Err(TrialError::Failed("TEMPORARY".into()))
}
