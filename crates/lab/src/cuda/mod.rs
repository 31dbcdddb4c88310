//! The real GPU: workers, their meeting page, the MPS daemon, telemetry.

mod backend;
mod once;
mod process;
pub mod protocol;
mod session;
mod tenant;
mod worker;

pub use backend::{CudaBackend, Options};
pub use once::launch_once;
pub use worker::serve;
