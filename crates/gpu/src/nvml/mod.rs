//! The GPU's state as NVML tells it: clocks, power, energy, temperature, throttle reasons, utilisation, memory, the
//! counters of GPM, MIG instances. Reads only; nothing here changes a setting.

mod gpm;
mod monitor;
mod sampler;

pub use gpm::{Gpm, GpmGap, GpmSnapshot};
pub use monitor::{Inventory, MigInstance, Monitor, Reading};
pub use sampler::{ProcessMemory, Sampler};
