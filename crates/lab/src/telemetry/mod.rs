//! The GPU's state beside everything that runs: one thread reads NVML, phases take the means of their time.
//!
//! `docs/telemetry.md` says what each value is, how old it is when it is read, and what the thread costs.

mod energy;
mod lag;
mod log;
mod pace;
mod row;
mod thread;

pub use thread::Telemetry;
