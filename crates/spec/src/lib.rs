//! From an experiment file to trials.

pub mod plan;
