//! Prompts from the outside.

mod asks;
mod distributions;
mod file;
mod sessions;
#[cfg(feature = "tokenizer")]
mod tokenizer;
mod vocabulary;
