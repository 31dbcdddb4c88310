//! GPU state of a phase as names and numbers.

use cotenant_store::format::GpuState;

type Pick = fn(&GpuState) -> Option<f64>;

/// Shares of the GPU's capacity from its performance counters (GPM), by the name of their field.
const COUNTERS: [(&str, Pick); 12] = [
    ("graphics_pct", |s| s.graphics_pct),
    ("sm_active_pct", |s| s.sm_active_pct),
    ("sm_occupancy_pct", |s| s.sm_occupancy_pct),
    ("dram_pct", |s| s.dram_pct),
    ("tensor_pct", |s| s.tensor_pct),
    ("tensor_hmma_pct", |s| s.tensor_hmma_pct),
    ("tensor_imma_pct", |s| s.tensor_imma_pct),
    ("tensor_dfma_pct", |s| s.tensor_dfma_pct),
    ("fp64_pct", |s| s.fp64_pct),
    ("fp32_pct", |s| s.fp32_pct),
    ("fp16_pct", |s| s.fp16_pct),
    ("integer_pct", |s| s.integer_pct),
];

/// The rest of what is a level rather than a sum.
const LEVELS: [(&str, Pick); 5] = [
    ("sm_clock_mhz", |s| s.sm_clock_mhz),
    ("memory_clock_mhz", |s| s.memory_clock_mhz),
    ("power_w", |s| s.power_w),
    ("temperature_c", |s| s.temperature_c),
    ("utilization_pct", |s| s.utilization_pct),
];

/// Smallest share of a counter's window that has to lie in the phase: below it, what ran before and after shows as
/// much.
const WITHIN: f64 = 0.7;

/// Energy of a phase, joules.
pub fn energy_j(state: &GpuState) -> Option<f64> {
    state.energy_j.filter(|j| j.is_finite() && *j > 0.0)
}

/// Performance counters that are of this phase (see `GpuState::gpm_share`), by the name of their field, percent.
pub fn counters(state: &GpuState) -> Vec<(&'static str, f64)> {
    if state.gpm_share.is_some_and(|share| share < WITHIN) {
        return Vec::new();
    }
    pick(state, &COUNTERS)
}

/// SM clock and power, of the whole phase whatever the counters say.
pub fn clock_and_power(state: &GpuState) -> Vec<(&'static str, f64)> {
    pick(state, &[("sm_clock_mhz", |s| s.sm_clock_mhz), ("power_w", |s| s.power_w)])
}

/// [`counters`], and clocks, power, temperature and utilisation.
pub fn gauges(state: &GpuState) -> Vec<(&'static str, f64)> {
    let mut out = counters(state);
    out.extend(pick(state, &LEVELS));
    out
}

fn pick(state: &GpuState, from: &[(&'static str, Pick)]) -> Vec<(&'static str, f64)> {
    let known = from.iter().filter_map(|(name, of)| Some((*name, of(state)?)));
    known.filter(|(_, v)| v.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_other_phases_are_left_out() {
        let mut s = GpuState { dram_pct: Some(18.0), power_w: Some(300.0), ..GpuState::default() };
        assert_eq!(gauges(&s), [("dram_pct", 18.0), ("power_w", 300.0)]);
        s.gpm_share = Some(0.95);
        assert_eq!(counters(&s), [("dram_pct", 18.0)]);
        s.gpm_share = Some(0.3);
        assert_eq!(gauges(&s), [("power_w", 300.0)]);
        s.energy_j = Some(f64::NAN);
        assert_eq!(energy_j(&s), None);
    }
}
