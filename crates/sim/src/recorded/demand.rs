//! What the kernels of a time line ask of the machine, estimated from what was measured of the whole model.
//!
//! **Known exactly** of each kernel: shape, registers and shared memory (so where its blocks fit) and duration
//! alone. **Measured** of the whole model: device memory traffic and activity of the tensor pipe, as means over
//! wall time. **Assumed**: how these two divide among kernels (the weights of [`share`], by class and duration),
//! and which part of a kernel's time waits for memory ([`Share::waits`]). Traffic that hits in L2 is not known and
//! is left out. The sums over an iteration equal what was measured, up to the ceilings of one kernel.
//!
//! A block is a loop of [`TURNS`] turns. A turn lasts a [`TURNS`]th of the block's time alone: a part of it waits for
//! device memory, the rest is its own chain of instructions, and the tensor pipe is busy for the kernel's share. The
//! simulator finds the exact number of turns by running the kernel alone ([`calibrated`]).

use super::class::Class;
use super::format::Recorded;
use crate::scenario::{Scenario, Stream, Work};
use crate::{Gpu, SimError};
use cotenant_model::Machine;
use cotenant_model::demand::{Demand, KernelLoad, LaunchShape, Pipes};
use cotenant_model::machine::Station;
use cotenant_model::residency::{ShapeError, residency};
use cotenant_units::Sms;

/// Turns of a block's loop.
pub const TURNS: u64 = 1024;
/// Most of the bandwidth of device memory, and of the tensor pipe, that one kernel is given.
const MOST: f64 = 0.9;
/// Shortest block, ns: a kernel that is only launch overhead still runs for a moment.
const SHORTEST_NS: f64 = 200.0;

/// What a class is taken to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Weight of one ns of it in the model's device memory traffic.
    pub dram: f64,
    /// Weight of one ns of it in the model's tensor activity.
    pub tensor: f64,
    /// Part of its time that waits for device memory, where all of it is drawn from there.
    pub waits: f64,
    /// Issue slots that it uses on its SMs, 0..1.
    pub issue: f64,
}

/// The assumptions, by class.
pub const fn share(class: Class) -> Share {
    match class {
        Class::Gemm => Share { dram: 1.0, tensor: 1.0, waits: 0.5, issue: 0.15 },
        Class::Attention => Share { dram: 0.5, tensor: 0.5, waits: 0.3, issue: 0.35 },
        Class::Elementwise => Share { dram: 1.5, tensor: 0.0, waits: 0.9, issue: 0.25 },
        Class::Reduction => Share { dram: 1.5, tensor: 0.0, waits: 0.7, issue: 0.3 },
        Class::Copy => Share { dram: 1.5, tensor: 0.0, waits: 0.9, issue: 0.2 },
        Class::Other => Share { dram: 1.0, tensor: 0.0, waits: 0.5, issue: 0.2 },
    }
}

/// What one kernel draws alone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Draw {
    /// Device memory, GB/s.
    pub dram_gbs: f64,
    /// Tensor pipe, share of the whole GPU's, 0..1.
    pub tensor: f64,
}

/// Divides the measured totals of an iteration among its kernels; in the order of [`Recorded::kernels`].
///
/// Each kernel gets in proportion to weight × time; what a ceiling holds back goes to the others, as far as there
/// are any that use the resource.
pub fn divide(r: &Recorded, dram_peak_gbs: f64) -> Vec<Draw> {
    let mut time = vec![0.0; r.kernels.len()];
    for s in &r.steps {
        time[s.kernel as usize] += s.duration_ns as f64;
    }
    let wall = r.wall_ns as f64;
    let part = |pct: Option<f64>| pct.unwrap_or(0.0) / 100.0 * wall;
    let weights = |f: fn(&Share) -> f64| r.kernels.iter().map(|k| f(&share(k.class))).collect::<Vec<f64>>();
    let dram = levels(&time, &weights(|s| s.dram), part(r.measured.dram_pct));
    let tensor = levels(&time, &weights(|s| s.tensor), part(r.measured.tensor_pct));
    dram.iter().zip(&tensor).map(|(d, &tensor)| Draw { dram_gbs: d * dram_peak_gbs, tensor }).collect()
}

/// Levels `x_i = min(MOST, c · w_i)` with `Σ t_i · x_i = total`, or all of them at their bound where that is less.
fn levels(time: &[f64], weights: &[f64], total: f64) -> Vec<f64> {
    let sum = |c: f64| time.iter().zip(weights).map(|(t, w)| t * (c * w).min(MOST)).sum::<f64>();
    let least = weights.iter().copied().filter(|w| *w > 0.0).fold(f64::INFINITY, f64::min);
    if !least.is_finite() || total <= 0.0 {
        return vec![0.0; weights.len()];
    }
    let (mut lo, mut hi) = (0.0, MOST / least);
    for _ in 0..60 {
        let mid = 0.5 * (lo + hi);
        if sum(mid) < total { lo = mid } else { hi = mid }
    }
    weights.iter().map(|w| (hi * w).min(MOST)).collect()
}

/// Demand of one warp in one turn, for a kernel of this shape that lasts `duration_ns` alone and draws that much.
///
/// # Errors
/// If no SM can hold a block of that shape.
pub fn demand(
    m: &Machine,
    shape: &LaunchShape,
    class: Class,
    duration_ns: f64,
    draw: Draw,
) -> Result<Demand, ShapeError> {
    let res = residency(&m.spec, shape, Sms(m.spec.sms))?;
    let block_ns = (duration_ns / f64::from(res.waves) - m.block_start_ns).max(SHORTEST_NS);
    let turn_ns = block_ns / TURNS as f64;
    let all = f64::from(m.spec.sms);
    let wave = f64::from(res.blocks_per_sm) * all;
    // Blocks that run at the same time, on average over the waves, and the SMs that have any.
    let resident = f64::from(shape.blocks) / f64::from(res.waves);
    let used = resident.min(all);
    let warps = f64::from(shape.warps());
    let a = share(class);
    // Bytes of a warp and turn, so that all resident warps together draw the kernel's bandwidth.
    let bytes = draw.dram_gbs * turn_ns / (resident * warps);
    let inflight = if bytes > 0.0 {
        let loaded = m.dram.latency(m.dram.equivalent(draw.dram_gbs, 0.0).min(0.98 * m.dram.copy_gbs()));
        // A kernel that draws little waits little; at half of the bandwidth its class's part is reached.
        let waits = a.waits * (draw.dram_gbs / (0.5 * m.dram.read_gbs())).min(1.0);
        bytes * loaded / (waits.max(1e-3) * turn_ns)
    } else {
        0.0
    };
    let waiting = if bytes > 0.0 { bytes / inflight * m.dram.latency(draw.dram_gbs) } else { 0.0 };
    let chain_ns = (turn_ns - waiting).max(0.0);
    let on_sm = warps * (resident / used);
    // A full station serves `capacity · ghz` units per ns; `u` of that over the turn, divided by the warps.
    let units = |station: Station, u: f64| u * m.capacity[station as usize] * m.ghz * turn_ns / on_sm;
    let tensor = (draw.tensor * all / used).min(MOST.max(draw.tensor));
    debug_assert!(resident <= wave + 1.0);
    Ok(Demand {
        issue: units(Station::Issue, a.issue * (resident / wave).max(0.25)),
        pipes: Pipes { tensor: units(Station::Tensor, tensor), ..Pipes::default() },
        chain_cycles: chain_ns * m.ghz,
        load_bytes: bytes,
        inflight_bytes: inflight,
        // A stream of data that is not used again: it misses L2.
        footprint_bytes: if bytes > 0.0 { 4.0 * m.spec.l2_bytes.0 as f64 } else { 0.0 },
        ..Demand::default()
    })
}

/// The load of a kernel that lasts `duration_ns` alone on the whole GPU: the number of turns is found by running it.
///
/// # Errors
/// As [`Gpu::run`].
pub fn calibrated(
    gpu: &Gpu,
    shape: LaunchShape,
    demand: Demand,
    duration_ns: f64,
) -> Result<KernelLoad, SimError> {
    let quiet = gpu.clone().with_noise(0.0);
    let mut load = KernelLoad { shape, iterations: TURNS, demand };
    // Time is all but proportional to turns, so two steps are plenty.
    for _ in 0..2 {
        let stream = Stream { launch_ns: Some(0.0), ..Stream::new(Work::Kernel(load)) };
        let out = quiet.run(&Scenario::new(vec![stream]))?;
        let Some(span) = out.streams.first().and_then(|s| s.launches.first()) else { break };
        let took = span.end_ns.saturating_sub(span.start_ns).max(1) as f64;
        load.iterations = ((load.iterations as f64 * duration_ns / took).round() as u64).max(1);
    }
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::sample;
    use super::*;
    use cotenant_units::Bytes;
    use proptest::prelude::*;

    fn gpu() -> Gpu {
        Gpu::new(&cotenant_model::builtin("h100-sxm5-80gb").expect("built in"), 1)
    }

    #[test]
    fn the_sums_are_what_was_measured() {
        let mut r = sample(40, 30);
        (r.measured.dram_pct, r.measured.tensor_pct) = (Some(12.0), Some(9.0));
        let draws = divide(&r, 3352.0);
        let (mut dram, mut tensor) = (0.0, 0.0);
        for s in &r.steps {
            let d = draws[s.kernel as usize];
            dram += s.duration_ns as f64 * d.dram_gbs;
            tensor += s.duration_ns as f64 * d.tensor;
        }
        let wall = r.wall_ns as f64;
        assert!((dram / wall / 3352.0 - 0.12).abs() < 1e-6, "{}", dram / wall / 3352.0);
        assert!((tensor / wall - 0.09).abs() < 1e-6);
        // Elementwise kernels have no tensor work, and half again the traffic of a product in the same time.
        assert_eq!(draws[1].tensor, 0.0);
        assert!((draws[1].dram_gbs / draws[0].dram_gbs - 1.5).abs() < 1e-6);
    }

    #[test]
    fn no_kernel_gets_more_than_there_is() {
        let mut r = sample(40, 30);
        (r.measured.dram_pct, r.measured.tensor_pct) = (Some(99.0), Some(99.0));
        assert!(divide(&r, 3352.0).iter().all(|d| d.tensor <= MOST && d.dram_gbs <= MOST * 3352.0));
        (r.measured.dram_pct, r.measured.tensor_pct) = (None, None);
        assert!(divide(&r, 3352.0).iter().all(|d| *d == Draw::default()));
    }

    #[test]
    fn a_kernel_draws_what_it_was_given() {
        let g = gpu();
        let shape = LaunchShape { blocks: 2112, threads: 128, registers: 32, shared_bytes: Bytes(0) };
        let draw = Draw { dram_gbs: 1500.0, tensor: 0.0 };
        let d = demand(g.machine(), &shape, Class::Elementwise, 50_000.0, draw).expect("fits");
        let l = calibrated(&g, shape, d, 50_000.0).expect("runs");
        let bytes = d.load_bytes * l.iterations as f64 * f64::from(shape.blocks * shape.warps());
        assert!((bytes / 50_000.0 / 1500.0 - 1.0).abs() < 0.1, "{} GB/s", bytes / 50_000.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn alone_every_kernel_lasts_as_recorded(blocks in 1u32..20_000, warps in 1u32..=12, us in 2.0f64..400.0,
                dram in 0.0f64..2500.0, tensor in 0.0f64..0.9, shared in 0u64..200_000) {
            let g = gpu();
            let shape = LaunchShape { blocks, threads: warps * 32, registers: 64, shared_bytes: Bytes(shared) };
            let draw = Draw { dram_gbs: dram, tensor };
            let ns = us * 1e3;
            let d = demand(g.machine(), &shape, Class::Gemm, ns, draw).expect("fits");
            let load = calibrated(&g, shape, d, ns).expect("runs");
            let s = Stream { launch_ns: Some(0.0), ..Stream::new(Work::Kernel(load)) };
            let out = g.clone().with_noise(0.0).run(&Scenario::new(vec![s])).expect("runs");
            let span = out.streams[0].launches[0];
            let took = (span.end_ns - span.start_ns) as f64;
            // Many waves of less than the shortest block cannot be as short as asked.
            let waves = f64::from(residency(&g.machine().spec, &shape, Sms(132)).expect("fits").waves);
            prop_assert!((took / ns - 1.0).abs() < 0.01 || took - ns < waves * 3.0, "{took} for {ns}");
        }
    }
}
