//! The model: profiles and a device card in, directed slowdowns out. No I/O, no clock, no GPU.
//!
//! * [`demand`]: what a kernel asks of any machine.
//! * [`card`]: what one machine offers, measured or from its data sheet.
//! * [`residency`]: how many blocks fit on an SM, which limit binds, waves and tails.
//! * [`law`]: one file for each contention law, pure functions.
//! * [`mod@solve`]: the joint fixed point of all laws for a set of kernels that are resident together.

pub mod builtin;
pub mod card;
mod check;
pub mod curve;
pub mod demand;
pub mod law;
pub mod machine;
pub mod residency;
pub mod solve;

pub use builtin::{builtin, builtin_names};
pub use card::DeviceCard;
pub use machine::Machine;
pub use solve::{Bound, Rate, Rates, Resident, solve};
