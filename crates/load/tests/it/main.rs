//! Arrivals and traces from the outside.

mod arrivals;
mod traces;
