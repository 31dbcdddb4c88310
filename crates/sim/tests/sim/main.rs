//! The simulated GPU against measurements, and its invariants.

mod common;
mod models;
mod reference;
mod scheduling;
