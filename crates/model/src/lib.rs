//! The model: profiles and a device card in, directed slowdowns out. No I/O, no clock, no GPU.

pub mod demand;
