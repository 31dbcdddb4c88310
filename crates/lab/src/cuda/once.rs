//! One launch of one kernel in this process, for `ncu`.

use super::protocol::{Meeting, TenantSetup};
use super::tenant::{Home, Images, Tenant};
use cotenant_gpu::context::Context;
use cotenant_gpu::{Error, Result};
use std::collections::BTreeMap;

/// Launches a kernel once on GPU `index` and returns its duration in ns and the SM clock in MHz, if it ran long
/// enough to tell.
///
/// # Errors
/// An unknown kernel or parameter, or the driver's.
pub fn launch_once(
    kernel: &str,
    blocks: u32,
    threads: u32,
    params: &BTreeMap<String, f64>,
    iterations: u64,
    index: u32,
) -> Result<(u64, Option<f64>)> {
    let context = Context::primary(index)?;
    let setup = TenantSetup {
        kernel: kernel.into(),
        blocks,
        threads,
        params: params.clone(),
        launches: 1,
        gap_ns: 0,
        request: 1,
        priority: 0,
        trace: false,
    };
    let mut tenant = Tenant::new(&setup, Home::Primary(context), &mut Images::default(), index)?;
    tenant.set_iterations(iterations);
    let meeting =
        Meeting::create().map_err(|source| Error::Io { path: "shared memory".into(), source })?;
    meeting.reset();
    let requests = tenant.run(&meeting, 1, false)?;
    let done = tenant.collect(0, requests)?;
    let span = done.spans.first().copied().unwrap_or_default();
    Ok((span.1 - span.0, done.clocks_mhz.first().copied()))
}
