//! The highest rates that the micro-kernels reach, and who wins where one is full.

use super::bench::{Load, group, solo, whole};
use super::source;
use crate::backend::{Backend, TrialError};
use cotenant_model::DeviceCard;
use cotenant_spec::plan::{Protocol, Sharing, Work};

/// bytes / ns is GB/s.
fn gbs(bytes: f64, ns: f64) -> Option<f64> {
    let v = bytes / ns;
    v.is_finite().then_some(v)
}

/// Device memory, L2, shared memory, pipes, issue slots, the host link.
pub fn measure(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let sms = b.sizes().sms;
    let sm = f64::from(sms);
    let l2 = b.sizes().l2.0 as f64;
    let c = &mut card.ceilings;
    let far = whole((b.sizes().dram.0 as f64 / 16.0).min((1u64 << 31) as f64));
    for (kernel, slot, times) in [
        ("read", &mut c.dram_read_gbs, 1.0),
        ("write", &mut c.dram_write_gbs, 1.0),
        ("copy", &mut c.dram_copy_gbs, 2.0),
    ] {
        // A grid that stays on the SMs, and one whose blocks each move one piece and go: neither is best for all.
        let stays = Load::lasting(kernel, sms * 2, 1024, &[("bytes", far)], 8.0);
        let goes = Load {
            kernel,
            // Large pieces: with small ones the blocks' time stamps would crowd the bus.
            blocks: (far / (16.0 * 1024.0 * 2.0)) as u32,
            threads: 1024,
            params: vec![("bytes", far), ("unroll", 2.0)],
            work: Work::Iterations(1), // a second turn would find its piece in cache
            launches: 6,
        };
        let turn_ns = solo(b, &stays)?.turn_ns.min(solo(b, &goes)?.turn_ns);
        *slot = gbs(far * times, turn_ns);
    }
    // A sixth of L2 stays resident even where each half of L2 keeps a copy of what the other half owns.
    let near = whole(l2 / 6.0);
    let s = solo(
        b,
        &Load::lasting("read", sms * 2, 1024, &[("bytes", near), ("bypass_l1", 1.0), ("unroll", 2.0)], 5.0),
    )?;
    c.l2_read_gbs = gbs(near, s.turn_ns);
    let s = solo(b, &Load::lasting("l2-copy", sms * 2, 512, &[("bytes", whole(l2 / 8.0))], 5.0))?;
    c.l2_copy_gbs = gbs(whole(l2 / 8.0) * 2.0, s.turn_ns);

    let clocks = &mut card.clock.under_load_mhz;
    let mut per_sm = |b: &mut dyn Backend, l: Load| -> Result<(f64, f64), TrialError> {
        let r = cotenant_kernels::resolve(
            l.kernel,
            l.blocks,
            l.threads,
            &l.params.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        )
        .map_err(|e| TrialError::Failed(e.to_string()))?;
        let s = solo(b, &l)?;
        let mhz = s.clock_mhz.unwrap_or(b.device().max_sm_clock_mhz);
        let warps = f64::from(r.shape.warps()) * f64::from(l.blocks) / sm;
        clocks.retain(|(k, _)| k != l.kernel);
        clocks.push((l.kernel.to_owned(), mhz));
        // Turns of one warp per cycle, times the warps of an SM.
        Ok((warps / (s.turn_ns * mhz / 1e3), s.turn_ns))
    };
    let demand = |kernel: &str, threads: u32, params: &[(&str, f64)]| {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        cotenant_kernels::resolve(kernel, sms, threads, &params)
            .map(|r| r.demand)
            .map_err(|e| TrialError::Failed(e.to_string()))
    };
    let spec = card.spec;
    let (turns, _) = per_sm(b, Load::lasting("fp32-fma", sms, 1024, &[("ilp", 4.0), ("body", 256.0)], 5.0))?;
    let d = demand("fp32-fma", 1024, &[("ilp", 4.0), ("body", 256.0)])?;
    c.fma_pipe_pct = Some(filled(turns * d.pipes.fma / spec.pipes.fma));
    let (turns, _) = per_sm(b, Load::lasting("fp32-mul", sms, 1024, &[("ilp", 4.0)], 5.0))?;
    c.issue_ipc = Some(turns * demand("fp32-mul", 1024, &[("ilp", 4.0)])?.issue);
    let (turns, _) = per_sm(b, Load::lasting("fp64-fma", sms, 512, &[("ilp", 4.0)], 5.0))?;
    c.fp64_pipe_pct =
        Some(filled(turns * demand("fp64-fma", 512, &[("ilp", 4.0)])?.pipes.fp64 / spec.pipes.fp64));
    let (turns, _) = per_sm(b, Load::lasting("smem", sms, 1024, &[("conflicts", 1.0)], 5.0))?;
    c.shared_bytes_per_cycle =
        Some(turns * demand("smem", 1024, &[("conflicts", 1.0)])?.smem_wavefronts * 128.0);
    let tensor = if spec.capability == (9, 0) { ("tensor-wgmma", 256) } else { ("tensor-mma", 512) };
    let (_, ns) = per_sm(b, Load::lasting(tensor.0, sms, tensor.1, &[], 8.0))?;
    let d = demand(tensor.0, tensor.1, &[])?;
    let flop = d.pipes.tensor * 2.0 * 16.0 * 8.0 * 16.0 * f64::from(tensor.1 / 32) * sm;
    c.tensor_tflops = Some(flop / ns / 1e3);
    let (_, ns) = per_sm(b, Load::lasting("atomics", sms, 256, &[], 4.0))?;
    let d = demand("atomics", 256, &[])?;
    c.l2_atomics_per_ns = Some(d.l2_atomics * 8.0 * sm / ns);
    let chunk = (64u64 << 20) as f64;
    if !b.simulated() {
        let s = solo(b, &Load::lasting("h2d", 1, 1, &[("bytes", chunk)], 10.0))?;
        c.host_to_device_gbs = gbs(chunk, s.turn_ns);
        let s = solo(b, &Load::lasting("d2h", 1, 1, &[("bytes", chunk)], 10.0))?;
        c.device_to_host_gbs = gbs(chunk, s.turn_ns);
    }
    c.source = source(b, "one kernel alone, median of 4 launches of 4 to 10 ms");
    card.clock.source = source(b, "cycles over time between stamps of block 0");
    let clocks: Vec<f64> = card.clock.under_load_mhz.iter().map(|(_, m)| *m).collect();
    card.clock.sustained_mhz = cotenant_stats::median(&clocks).ok();
    Ok(())
}

/// Percent of a pipe's rate. Time stamps and clocks are good to some tenths of a percent: what they put that little
/// above full is full. More than that is a mistake, and the card's check refuses it.
fn filled(share: f64) -> f64 {
    if share < 1.01 { 100.0 * share.min(1.0) } else { 100.0 * share }
}

/// Who wins at a full issue slot: a copy beside always-ready multiplies.
pub fn issue(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let sms = b.sizes().sms;
    let far = whole((b.sizes().dram.0 as f64 / 16.0).min((1u64 << 31) as f64));
    let copy = Load::lasting("copy-paper", sms, 1024, &[("bytes", far)], 6.0).launches(4);
    let streams = || Sharing::Streams { priority: Vec::new() };
    // At three quarters of the slots: what waiting for a slot costs an instruction of the copy.
    let hog = |threads| Load::lasting("fp32-mul", sms, threads, &[("ilp", 4.0)], 6.0).launches(4);
    let full = group(b, streams(), Protocol::Steady, &[copy.clone(), hog(256)])?;
    let copy_slowdown = full.together_ns[0] / full.alone_ns[0];
    let hog_slowdown = full.together_ns[1] / full.alone_ns[1];
    let params = [("bytes".to_owned(), far)].into_iter().collect();
    let d = cotenant_kernels::resolve("copy-paper", sms, 1024, &params)
        .map_err(|e| TrialError::Failed(e.to_string()))?
        .demand;
    let mhz = card.clock.sustained_mhz.unwrap_or(b.device().max_sm_clock_mhz);
    let copy_ipc = d.issue * 32.0 / (full.alone_ns[0] * mhz / 1e3);
    // What the copy still gets of the slots is the hog's share short of all. (The hog's own slowdown is noise at 1.)
    let share = 1.0 - (copy_ipc / (card.spec.issue_per_cycle * copy_slowdown)).clamp(0.0, 1.0);
    card.issue.hog_share = Some(share);
    card.issue.source = source(
        b,
        &format!(
            "copy-paper beside fp32-mul (ILP 4, 8 warps per SM): copy {copy_slowdown:.2} times as long, multiply {hog_slowdown:.2}"
        ),
    );
    Ok(())
}
