//! The lab: spec to trials to samples. Tenants and their protocol, sharing modes, the stopping rule, telemetry.
//! Draws nothing.

pub mod backend;
mod clock;
pub mod cuda;
pub mod doctor;
mod history;
pub mod host;
pub mod measure;
pub mod overlap;
pub mod probe;
pub mod program;
pub mod provenance;
pub mod run;
mod schedule;
pub mod serving;
pub mod sharing;
pub mod simulated;
pub mod telemetry;
