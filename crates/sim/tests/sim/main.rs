//! The simulated GPU against measurements, and its invariants.

mod common;
mod reference;
mod scheduling;
