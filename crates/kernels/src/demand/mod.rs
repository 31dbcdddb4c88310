//! Demand of each kernel: what one warp does in one turn of the loop.

mod arith;
mod hold;
mod memory;
mod types;

pub(crate) use types::{Draft, Grid, draft};
