//! Validation of a device card: each field with what would be right.

use crate::card::{CardError, DeviceCard, MAX_SMS};
use crate::curve::Curve;

fn wrong(field: &str, reason: impl Into<String>) -> CardError {
    CardError::Value { field: field.to_owned(), reason: reason.into() }
}

fn positive(field: &str, v: f64) -> Result<(), CardError> {
    if v.is_finite() && v > 0.0 {
        Ok(())
    } else {
        Err(wrong(field, format!("is {v}; it must be above zero")))
    }
}

fn within(field: &str, v: f64, low: f64, high: f64) -> Result<(), CardError> {
    if (low..=high).contains(&v) {
        Ok(())
    } else {
        Err(wrong(field, format!("is {v}; it must be between {low} and {high}")))
    }
}

fn curve(field: &str, c: Option<&Curve>, high: f64) -> Result<(), CardError> {
    let Some(c) = c else { return Ok(()) };
    if let Some(fault) = c.fault() {
        return Err(wrong(field, fault));
    }
    match c.0.iter().find(|p| p.1 > high) {
        Some(p) => {
            Err(wrong(field, format!("has the value {} at {}; the highest possible is {high}", p.1, p.0)))
        }
        None => Ok(()),
    }
}

/// Checks all values of a card; the format number is checked by the caller.
pub(crate) fn card(c: &DeviceCard) -> Result<(), CardError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if c.name.is_empty() || !c.name.bytes().all(fits) {
        return Err(wrong("name", format!("is {:?}; use lower-case letters, digits and hyphens", c.name)));
    }
    spec(c)?;
    measured(c)
}

fn spec(c: &DeviceCard) -> Result<(), CardError> {
    let s = &c.spec;
    if s.sms == 0 || s.sms > MAX_SMS {
        return Err(wrong("spec.sms", format!("is {}; it must be between 1 and {MAX_SMS}", s.sms)));
    }
    for (field, v) in [
        ("spec.clock_mhz_max", s.clock_mhz_max),
        ("spec.issue_per_cycle", s.issue_per_cycle),
        ("spec.l1_bytes_per_cycle", s.l1_bytes_per_cycle),
        ("spec.l2_bytes_per_cycle", s.l2_bytes_per_cycle),
        ("spec.dram_gbs", s.dram_gbs),
        ("spec.host_link_gbs", s.host_link_gbs),
        ("spec.pipes.fma", s.pipes.fma),
        ("spec.pipes.fp64", s.pipes.fp64),
        ("spec.pipes.alu", s.pipes.alu),
        ("spec.pipes.fp16", s.pipes.fp16),
        ("spec.pipes.xu", s.pipes.xu),
        ("spec.pipes.tensor", s.pipes.tensor),
        ("spec.pipes.lsu", s.pipes.lsu),
    ] {
        positive(field, v)?;
    }
    for (field, v) in [
        ("spec.max_threads_per_sm", u64::from(s.max_threads_per_sm)),
        ("spec.max_warps_per_sm", u64::from(s.max_warps_per_sm)),
        ("spec.max_blocks_per_sm", u64::from(s.max_blocks_per_sm)),
        ("spec.max_threads_per_block", u64::from(s.max_threads_per_block)),
        ("spec.registers_per_sm", u64::from(s.registers_per_sm)),
        ("spec.register_portion", u64::from(s.register_portion)),
        ("spec.shared_bytes_per_sm", s.shared_bytes_per_sm.0),
        ("spec.shared_bytes_per_block", s.shared_bytes_per_block.0),
        ("spec.shared_portion", s.shared_portion.0),
        ("spec.l1_bytes", s.l1_bytes.0),
        ("spec.l2_bytes", s.l2_bytes.0),
        ("spec.memory_bytes", s.memory_bytes.0),
        ("spec.sm_granularity", u64::from(s.sm_granularity)),
    ] {
        if v == 0 {
            return Err(wrong(field, "is 0; it must be above zero"));
        }
    }
    if s.shared_bytes_per_sm.0 > u64::from(u32::MAX) || s.shared_bytes_per_sm > s.l1_bytes {
        return Err(wrong("spec.shared_bytes_per_sm", "exceeds the unified L1 of which it is a part"));
    }
    Ok(())
}

fn measured(c: &DeviceCard) -> Result<(), CardError> {
    let x = &c.ceilings;
    let k = &c.knees;
    let l = &c.launch;
    for (field, v) in [
        ("ceilings.dram_read_gbs", x.dram_read_gbs),
        ("ceilings.dram_copy_gbs", x.dram_copy_gbs),
        ("ceilings.dram_write_gbs", x.dram_write_gbs),
        ("ceilings.l2_read_gbs", x.l2_read_gbs),
        ("ceilings.l2_copy_gbs", x.l2_copy_gbs),
        ("ceilings.l2_atomics_per_ns", x.l2_atomics_per_ns),
        ("ceilings.shared_bytes_per_cycle", x.shared_bytes_per_cycle),
        ("ceilings.tensor_tflops", x.tensor_tflops),
        ("ceilings.issue_ipc", x.issue_ipc),
        ("ceilings.host_to_device_gbs", x.host_to_device_gbs),
        ("ceilings.device_to_host_gbs", x.device_to_host_gbs),
        ("latency.l1_ns", c.latency.l1_ns),
        ("latency.l2_ns", c.latency.l2_ns),
        ("latency.dram_ns", c.latency.dram_ns),
        ("launch.plain_ns", l.plain_ns),
        ("launch.ex_ns", l.ex_ns),
        ("launch.graph_ns", l.graph_ns),
        ("launch.gap_ns", l.gap_ns),
        ("launch.empty_ns", l.empty_ns),
        ("sharing.time_slice_ns", c.sharing.time_slice_ns),
        ("clock.sustained_mhz", c.clock.sustained_mhz),
    ] {
        if let Some(v) = v {
            positive(field, v)?;
        }
    }
    for (field, v, low, high) in [
        ("ceilings.fp64_pipe_pct", x.fp64_pipe_pct, 1.0, 100.0),
        ("ceilings.fma_pipe_pct", x.fma_pipe_pct, 1.0, 100.0),
        ("knees.issue", k.issue, 1.0, 1000.0),
        ("knees.pipes", k.pipes, 1.0, 1000.0),
        ("knees.l1", k.l1, 1.0, 1000.0),
        ("knees.l2_port", k.l2_port, 1.0, 1000.0),
        ("issue.hog_share", c.issue.hog_share, 0.0, 1.0),
        ("issue.wait_factor", c.issue.wait_factor, 0.0, 100.0),
        ("contention.issue_collision", c.contention.issue_collision, 0.0, 100.0),
        ("contention.fma_collision", c.contention.fma_collision, 0.0, 100.0),
        ("contention.pipe_first_share", c.contention.pipe_first_share, 0.5, 1.0),
        ("contention.l1_first_share", c.contention.l1_first_share, 0.5, 1.0),
        ("contention.l1_scatter", c.contention.l1_scatter, 0.0, 100.0),
        ("contention.tensor_mma_share", c.contention.tensor_mma_share, 0.01, 1.0),
        ("contention.duplex_share", c.contention.duplex_share, 0.5, 1.0),
        ("contention.atomics_inflight", c.contention.atomics_inflight, 1.0, 1e6),
        ("contention.model_overlap", c.contention.model_overlap, 0.0, 1.0),
        ("sharing.switch_ns", c.sharing.switch_ns, 0.0, 1e9),
        ("placement.block_start_ns", c.placement.block_start_ns, 0.0, 1e6),
        ("placement.block_spread", c.placement.block_spread, 0.0, 0.25),
    ] {
        if let Some(v) = v {
            within(field, v, low, high)?;
        }
    }
    curve("loaded_latency.dram", c.loaded_latency.dram.as_ref(), f64::MAX)?;
    curve("loaded_latency.l2", c.loaded_latency.l2.as_ref(), f64::MAX)?;
    curve("capacity.l2_alone", c.capacity.l2_alone.as_ref(), 1.0)?;
    curve("capacity.l2_shared", c.capacity.l2_shared.as_ref(), 1.0)?;
    curve("capacity.l1_alone", c.capacity.l1_alone.as_ref(), 1.0)?;
    curve("capacity.l1_shared", c.capacity.l1_shared.as_ref(), 1.0)?;
    let (sms, f) = (c.spec.sms, "sharing.mps_percentage_sms");
    for &(pct, n) in &c.sharing.mps_percentage_sms {
        if !(pct > 0.0 && pct <= 100.0) || n == 0 || n > sms {
            return Err(wrong(
                f,
                format!("has ({pct}, {n}); percentages are above 0 up to 100, SMs 1 to {sms}"),
            ));
        }
    }
    for &(asked, given) in &c.sharing.green_asked_given {
        if asked == 0 || given < asked || given > sms {
            let what = format!("has ({asked}, {given}); what is given covers what is asked, up to {sms} SMs");
            return Err(wrong("sharing.green_asked_given", what));
        }
    }
    for (load, mhz) in &c.clock.under_load_mhz {
        positive(&format!("clock.under_load_mhz.{load}"), *mhz)?;
    }
    Ok(())
}
