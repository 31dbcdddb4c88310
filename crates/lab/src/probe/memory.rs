//! Latencies, latency under load, and how much of a cache two tenants really have.

use super::bench::{Load, group, solo, whole};
use super::source;
use crate::backend::{Backend, TrialError};
use cotenant_model::DeviceCard;
use cotenant_model::curve::Curve;
use cotenant_spec::plan::{Protocol, Sharing};

fn streams() -> Sharing {
    Sharing::Streams { priority: Vec::new() }
}

/// Dependent accesses of one warp over buffers that fit L1, L2 and neither.
pub fn latency(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let l2 = b.sizes().l2.0 as f64;
    let l1 = b.sizes().l1.0 as f64;
    let at = |b: &mut dyn Backend, bytes: f64, bypass: f64, ms: f64| -> Result<f64, TrialError> {
        let params = [("bytes", whole(bytes)), ("bypass_l1", bypass)];
        Ok(solo(b, &Load::lasting("chase", 1, 32, &params, ms))?.turn_ns / chase_steps()?)
    };
    card.latency.l1_ns = Some(at(b, l1 / 8.0, 0.0, 2.0)?);
    card.latency.l2_ns = Some(at(b, l2 / 8.0, 1.0, 8.0)?);
    // Long enough to touch several times what L2 holds, or every launch would find the lines of the last one.
    let ms = if b.simulated() { 2.0 } else { 400.0 };
    card.latency.dram_ns = Some(at(b, l2 * 64.0, 1.0, ms)?);
    card.latency.source = source(b, "pointer chase of one warp, median of 4 launches");
    Ok(())
}

/// Dependent loads per turn of the chase: its load bytes are one word per step.
fn chase_steps() -> Result<f64, TrialError> {
    let r = cotenant_kernels::resolve("chase", 1, 32, &Default::default())
        .map_err(|e| TrialError::Failed(e.to_string()))?;
    Ok(r.demand.pipes.lsu.max(1.0))
}

/// A chase beside a copy (device memory) or a resident copy (L2) of rising size.
pub fn loaded(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let sms = b.sizes().sms;
    let l2 = b.sizes().l2.0 as f64;
    let steps = chase_steps()?;
    let mut curve =
        |kernel: &'static str, load_bytes: f64, chase_bytes: f64| -> Result<Option<Curve>, TrialError> {
            let mut points: Vec<(f64, f64)> = Vec::new();
            for share in [0.03, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0] {
                // One SM is left to the chase where there is room for it.
                let blocks = ((f64::from(sms) * share) as u32).clamp(1, sms * 2 - 2);
                let chase = Load::lasting("chase", 1, 32, &[("bytes", chase_bytes)], 1.5).launches(3);
                let load = Load::lasting(kernel, blocks, 1024, &[("bytes", load_bytes)], 1.5).launches(3);
                let g = group(b, streams(), Protocol::Steady, &[chase, load])?;
                let gbs = 2.0 * load_bytes / g.together_ns[1];
                let ns = g.together_ns[0] / steps;
                if points.last().is_none_or(|p| gbs > p.0 * 1.01) {
                    points.push((gbs, ns.max(points.last().map_or(0.0, |p| p.1))));
                }
            }
            Ok(sound(Curve(points)))
        };
    let far = 1024.0 * f64::from(1 << 20);
    card.loaded_latency.dram = curve("copy", far, l2 * 8.0)?;
    card.loaded_latency.l2 = curve("l2-copy", whole(l2 / 10.0), whole(l2 / 10.0))?;
    card.loaded_latency.source =
        source(b, "pointer chase of one warp beside a copy on a rising number of blocks, steady protocol");
    Ok(())
}

/// The curve, if it is one.
fn sound(c: Curve) -> Option<Curve> {
    c.fault().is_none().then_some(c)
}

/// Share of misses against footprint, from times: where it fits and where it does not are the two ends.
fn miss_curve(points: &[(f64, f64)]) -> Option<Curve> {
    let fits = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let exceeds = points.last()?.1;
    if exceeds <= fits * 1.05 {
        return None;
    }
    let mut high = 0.0f64;
    let shares = points
        .iter()
        .map(|&(bytes, t)| {
            high = high.max(((t - fits) / (exceeds - fits)).clamp(0.0, 1.0)); // never falls with the footprint
            (bytes, high)
        })
        .collect();
    sound(Curve(shares))
}

/// Copies of rising size on half of the SMs, alone and two together.
pub fn l2_capacity(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let half = b.sizes().sms / 2;
    let l2 = b.sizes().l2.0 as f64;
    let (mut alone, mut shared) = (Vec::new(), Vec::new());
    for part in [0.08, 0.16, 0.24, 0.32, 0.36, 0.4, 0.45, 0.5, 0.56, 0.64, 0.8, 1.28] {
        let bytes = whole(part * l2);
        let one = Load::lasting("copy-paper", half, 1024, &[("bytes", bytes)], 2.0);
        let g = group(b, streams(), Protocol::Fixed, &[one.clone(), one])?;
        alone.push((2.0 * bytes, g.alone_ns[0] / bytes));
        shared.push((4.0 * bytes, (g.together_ns[0] + g.together_ns[1]) / 2.0 / bytes));
    }
    card.capacity.l2_alone = miss_curve(&alone);
    card.capacity.l2_shared = miss_curve(&shared);
    card.capacity.source = source(b, "time per byte of copies of rising size, alone and two together");
    Ok(())
}

/// Per-block copies of rising size, one block of two warps per SM, alone and two together.
pub fn l1_capacity(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let sms = b.sizes().sms;
    let l1 = b.sizes().l1.0 as f64;
    let (mut alone, mut shared) = (Vec::new(), Vec::new());
    for part in [0.0625, 0.125, 0.1875, 0.21, 0.25, 0.3125, 0.375, 0.42, 0.5, 0.625, 0.75, 1.0] {
        let bytes = ((part * l1) / 4096.0).round() * 4096.0;
        let one = Load::lasting("l1-copy", sms, 64, &[("bytes", bytes)], 2.0);
        let g = group(b, streams(), Protocol::Fixed, &[one.clone(), one])?;
        alone.push((2.0 * bytes, g.alone_ns[0] / bytes));
        shared.push((4.0 * bytes, (g.together_ns[0] + g.together_ns[1]) / 2.0 / bytes));
    }
    card.capacity.l1_alone = miss_curve(&alone);
    card.capacity.l1_shared = miss_curve(&shared);
    Ok(())
}
