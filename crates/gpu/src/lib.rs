//! One GPU as the lab sees it: the driver, contexts, green contexts, streams, events, memory, kernels, the MPS
//! daemon, MIG discovery and NVML. All `unsafe` towards NVIDIA's libraries lives here; nothing here knows of
//! experiments.

pub mod context;
pub mod cublas;
pub mod driver;
pub mod error;
pub mod graph;
pub mod mps;
pub mod nvml;

pub use error::{Error, Result};

/// Whether a shared library of this name can be loaded here.
pub fn library_loads(name: &str) -> bool {
    // SAFETY: loading runs the library's initialisers; the callers name NVIDIA's libraries only.
    unsafe { libloading::Library::new(name) }.is_ok()
}
