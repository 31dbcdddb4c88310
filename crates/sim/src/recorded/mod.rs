//! Recorded kernel time lines: what one iteration of a model ran on a real GPU, and how the simulator runs it again.
//!
//! [`align`] makes the median iteration of many, [`Recorded`] is the file that holds it (`devices/timelines/`),
//! [`class`] and [`demand`] say what its kernels ask of the machine, [`pace`] when the host submits them, and
//! [`Replay`] puts all of that together into a stream. Why and how well: `docs/design/simulated-models.md`.

pub mod align;
mod builtin;
pub mod class;
pub mod demand;
mod files;
mod format;
pub mod pace;
mod replay;

pub use builtin::{builtin, builtin_names};
pub use format::{
    FORMAT, Measured, Provenance, Recorded, RecordedError, RecordedKernel, SPREAD_SHARES, Step, Workload,
};
pub use replay::Replay;
