//! Single kernels in this process: one launch for `ncu`, and what launching costs.

use super::protocol::{LaunchCosts, Meeting, TenantSetup};
use super::tenant::{Home, Images, Tenant};
use cotenant_gpu::context::{Args, Context, DeviceBuffer, Image};
use cotenant_gpu::graph::Graph;
use cotenant_gpu::{Error, Result};
use cotenant_units::Bytes;
use std::collections::BTreeMap;
use std::time::Instant;

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
        carveout_percent: None,
        trace: false,
    };
    let mut tenant = Tenant::new(&setup, Home::Primary(context), &mut Images::default(), index)?;
    tenant.set_iterations(iterations);
    let meeting = Meeting::create().map_err(|source| Error::Io { path: "shared memory".into(), source })?;
    meeting.reset();
    let requests = tenant.run(&meeting, 1, false)?;
    let done = tenant.collect(0, requests)?;
    let span = done.spans.first().copied().unwrap_or_default();
    Ok((span.1 - span.0, done.clocks_mhz.first().copied()))
}

/// Kernels per timed batch of launches: few enough to stay under the launch queue's depth of about a thousand.
const BATCH: usize = 256;
/// Batches, of which the median counts.
const BATCHES: usize = 15;

/// Times the ways to launch an empty kernel on GPU `index`.
///
/// # Errors
/// The driver's.
pub fn launch_costs(index: u32) -> Result<LaunchCosts> {
    let context = Context::primary(index)?;
    let stream = context.stream(0)?;
    let none = BTreeMap::new();
    let resolved = cotenant_kernels::resolve("empty", 1, 32, &none)
        .map_err(|e| Error::Tenant { kernel: "empty".into(), reason: e.to_string() })?;
    let image = Image::load(cotenant_kernels::ptx(resolved.module))?;
    let kernel = image.kernel(&resolved.entry, Bytes(0), index)?;
    let stamps = DeviceBuffer::filled(Bytes((BATCH * 48) as u64), 0xff)?;
    let args =
        |i: usize| Args { stamp: stamps.address() + (i * 48) as u64, iterations: 1, ..Args::default() };
    let timed = |wait: bool, work: &dyn Fn() -> Result<()>| -> Result<f64> {
        let mut each = Vec::with_capacity(BATCHES);
        for _ in 0..=BATCHES {
            stream.synchronize()?;
            let begun = Instant::now();
            work()?;
            if wait {
                stream.synchronize()?;
            }
            each.push(begun.elapsed().as_nanos() as f64 / BATCH as f64);
        }
        Ok(cotenant_stats::median(&each[1..]).unwrap_or_default()) // the first warms up
    };
    let plain_ns = timed(false, &|| (0..BATCH).try_for_each(|i| kernel.launch(&stream, 1, 32, args(i))))?;
    let ex_ns = timed(false, &|| (0..BATCH).try_for_each(|i| kernel.launch_ex(&stream, 1, 32, args(i))))?;
    let graph =
        Graph::capture(&stream, || (0..BATCH).try_for_each(|i| kernel.launch(&stream, 1, 32, args(i))))?;
    let graph_ns = timed(true, &|| graph.launch(&stream))?;
    // Gaps on the device: only a graph queues kernels faster than they run, so only there the host is out.
    stream.fill(&stamps, 0, (BATCH * 48) as u64, 0xff)?;
    graph.launch(&stream)?;
    stream.synchronize()?;
    let mut words = vec![0u64; BATCH * 6];
    stamps.read_words(0, &mut words)?;
    let spans: Vec<(u64, u64)> = words.chunks_exact(6).map(|w| (w[0], !w[1])).collect();
    let gaps: Vec<f64> = spans.windows(2).map(|w| w[1].0.saturating_sub(w[0].1) as f64).collect();
    let lengths: Vec<f64> = spans.iter().map(|(s, e)| e.saturating_sub(*s) as f64).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64; // the timer is coarser than either
    Ok(LaunchCosts { plain_ns, ex_ns, graph_ns, gap_ns: mean(&gaps), empty_ns: mean(&lengths) })
}
