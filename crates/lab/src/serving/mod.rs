//! Loads on servers of language models: from what is asked to records.

mod asks;
mod drive;
mod writer;

pub use asks::{AskBodies, AskedFailure};
pub use drive::{Driven, LoadSource, TenantLoad, drive};
