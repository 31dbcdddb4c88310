//! Arrivals and traces from the outside.

mod arrivals;
mod servegen;
mod shape;
mod traces;
