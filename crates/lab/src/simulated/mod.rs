//! The simulated GPU as a backend: the same trials, layouts and phases, in virtual time.
//!
//! Every phase is one scenario. The clock goes on from phase to phase, and each phase has a seed of its own made
//! from the run's, so that repeats differ by the simulator's noise and a run with the same seed is the same run.
//! Kernel tenants run from their demand, models from recorded time lines ([`cotenant_sim::recorded`]).

mod backend;
mod model;
mod servers;
mod session;

pub use backend::SimBackend;

#[cfg(test)]
mod tests;
