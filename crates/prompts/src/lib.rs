//! What is asked of a server of language models: prompts from files, made up, from traces, and sessions of several
//! turns.
//!
//! Pure: no clock, no files, no threads. The ask with a given index depends on the description and the seed alone, so
//! the same seed gives the same asks on every machine and a longer run begins with the shorter one.
//!
//! ```
//! use cotenant_prompts::{Asks, Form, Prompt, Synthetic, Words};
//! use std::sync::Arc;
//! let mut asks = Asks::synthetic(Synthetic {
//!     prompt: "lognormal(400,0.8,16,4096)".parse()?,
//!     output: "128".parse()?,
//!     prefix: None,
//!     replay: None,
//!     vocabulary: Arc::new(Words::new(0, 32_000)?),
//!     form: Form::Text,
//!     seed: 7,
//! })?;
//! let ask = asks.get()?;
//! let Prompt::Text(text) = &ask.prompt else { unreachable!() };
//! assert_eq!(text.split(' ').count(), ask.target_prompt_tokens.unwrap_or(0) as usize);
//! assert_eq!(ask.max_tokens, 128);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ask;
mod asks;
mod call;
mod error;
mod file;
mod file_error;
mod length;
mod mix;
mod plain;
mod prefix;
mod replay;
mod seconds;
mod seed;
mod session;
mod synthetic;
#[cfg(feature = "tokenizer")]
mod tokenizer;
mod vocabulary;

pub use ask::{Ask, Form, Message, Prompt, Role, SessionPart};
pub use asks::Asks;
pub use error::{DistributionError, PromptError};
pub use file::{Entry, Order, PromptFile};
pub use file_error::FileError;
pub use length::{Length, MOST_TOKENS};
pub use mix::{Class, Mix};
pub use plain::{Calibration, Plain};
pub use prefix::{Choice, Prefix};
pub use replay::Replay;
pub use seconds::Seconds;
pub use session::Sessions;
pub use synthetic::Synthetic;
#[cfg(feature = "tokenizer")]
pub use tokenizer::Tokenizer;
pub use vocabulary::{Vocabulary, Words};
