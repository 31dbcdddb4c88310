//! GPU state of a phase as names and numbers.

use cotenant_store::format::GpuState;

/// Energy of a phase, joules.
pub fn energy_j(state: &GpuState) -> Option<f64> {
    numbers(state).into_iter().find(|(name, _)| name == "energy_j").map(|(_, v)| v)
}

/// All that is a level rather than a sum, by the name of its field: clocks, power, shares in percent.
pub fn gauges(state: &GpuState) -> Vec<(String, f64)> {
    numbers(state).into_iter().filter(|(name, _)| name != "energy_j").collect()
}

/// A performance counter of the GPU (a share of its capacity), as opposed to clocks, power, and the utilisation that
/// `nvidia-smi` prints.
pub fn is_counter(name: &str) -> bool {
    name.ends_with("_pct") && name != "utilization_pct"
}

/// Every number of a state by the name of its field.
fn numbers(state: &GpuState) -> Vec<(String, f64)> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(state) else { return Vec::new() };
    fields.into_iter().filter_map(|(name, v)| Some((name, v.as_f64()?))).collect()
}
