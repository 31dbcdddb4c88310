//! Loads on servers of language models: from what is asked to records.

mod asks;
mod calibrate;
mod client;
mod drive;
mod engine;
mod levels;
mod options;
mod plan;
mod running;
mod selftest;
mod sessions;
mod tenant;
mod watch;
mod writer;

pub use asks::{AskedFailure, Models};
pub use client::Clients;
pub use drive::{Control, Driven, LoadSource, Prepared, TenantLoad, drive, prepare};
pub use engine::{EngineModel, EngineSharing, EngineSpec, EngineStep};
pub use levels::{Found, Levels, parse_levels, search, verdict};
pub use options::{LoadOptionError, LoadOptions, Planned, VocabularyChoice, parse_slo, parse_time};
pub use plan::{MemoryPool, check, load_options, memory_pools, memory_shares};
pub use selftest::{Check, self_test};
pub use tenant::{SERVER_URL, Served, ServedClient, TenantSetup, serve};
pub use watch::{SERVER_METRICS_HEADER, ServerMoment};
