//! The simulated GPU against measurements, and its invariants.

mod models;
mod common;
mod reference;
mod scheduling;
