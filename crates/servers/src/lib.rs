//! Servers of language models as processes: start one of several kinds, wait until it really answers, watch it, and
//! end it with everything that it has started.
//!
//! - [`Preset`] and [`Dialect`]: what kinds there are, how each is started and which requests each understands.
//! - [`ServerSpec`]: one server, as a user describes it.
//! - [`Server`]: one that this process has started. [`External`]: one that somebody else has; it is asked, never ended.
//! - [`check_shares`]: whether the shares of GPU memory of several servers fit on one card.
//! - [`metrics`]: what a server says about its own queue and cache.
//!
//! This crate knows nothing of experiments, and links no GPU library.

mod endpoint;
mod error;
mod family;
pub mod http;
mod mask;
mod memory;
pub mod metrics;
mod output;
mod port;
mod preset;
mod process;
mod server;
mod spec;
mod starter;
mod template;
pub mod tls;

pub use endpoint::Endpoint;
pub use error::{Exit, ServerError};
pub use mask::Mask;
pub use memory::{MemoryError, check_shares};
pub use metrics::ServerState;
pub use preset::{Dialect, Preset, UnknownPreset};
pub use process::MPS_CLIENT;
pub use server::{External, HOST, Ready, Server, Stopped, StoppedHow};
pub use spec::ServerSpec;
pub use template::{TemplateError, Values, expand};
