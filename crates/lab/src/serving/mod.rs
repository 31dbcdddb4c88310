//! Loads on servers of language models: from what is asked to records.

mod asks;
mod drive;
mod options;
mod selftest;
mod writer;

pub use asks::{AskBodies, AskedFailure};
pub use drive::{Driven, LoadSource, TenantLoad, drive};
pub use options::{LoadOptionError, LoadOptions, Planned, VocabularyChoice, parse_slo, parse_time};
pub use selftest::{Check, self_test};
