//! The micro-kernels: their CUDA sources' generated PTX, and for each its parameters, units and analytic demand.
//! This crate launches nothing.
//!
//! `docs/kernels.md` says how the kernels are built, what each measures, and which numbers are assumptions.

mod demand;
mod error;
mod params;
mod ptx;
mod registry;
mod resolve;
mod types;

pub use error::Error;
pub use ptx::{Resources, ptx, ptx_sha256, resources};
pub use registry::{find, registry};
pub use resolve::resolve;
pub use types::{Kernel, Launch, Module, Param, Resolved};
