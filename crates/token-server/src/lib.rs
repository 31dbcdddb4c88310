//! A server that speaks OpenAI's API over HTTP/1.1 and emits tokens at times that are told beforehand.
//!
//! It stands in for an LLM server where there is no GPU, and it knows the truth that a client's measurements are
//! checked against: it writes down when each request arrived and when its content was sent ([`Truth`]), on a clock
//! that other processes of the machine share. Every answer says that it is simulated.
//!
//! **One thread, one loop.** Sockets do not block; `epoll` waits for them and for the next token that is due, with the
//! kernel's finest timer slack. Schedules are absolute: a token that was late does not delay those after it.
//!
//! **Tokens.** A word of a prompt (a run of characters other than ASCII white space) is one token; so is an id in a list. An
//! answer consists of words such as ` t123`, each a token, and always has exactly `max_tokens` (16 when absent) of
//! them; `stop`, `ignore_eos` and sampling parameters change nothing.
//!
//! **Paths.** `POST /v1/chat/completions`, `POST /v1/completions`, `GET /v1/models`, `/health`, `/version`,
//! `/metrics` (the names that vLLM uses), `/truth` (JSON lines of [`Truth`] since the last call), `/stats`.
//!
//! **Clients that leave.** A connection whose client closed it, or only its sending half, while an answer is under way
//! counts as gone: the answer ends and its record says `aborted`.
//!
//! ```
//! use cotenant_token_server::{Options, spawn};
//! let server = spawn(Options::default())?;
//! assert!(server.url().starts_with("http://127.0.0.1:"));
//! server.stop();
//! # Ok::<(), cotenant_token_server::ServerError>(())
//! ```

mod answer;
mod body;
mod connection;
mod context;
mod engine;
mod error;
mod http;
mod options;
mod output;
mod pace;
mod routes;
mod server;
mod shared;
mod truth;
mod wire;

pub use engine::{Emitted, Engine, LinearStep, Step, StepTime};
pub use error::ServerError;
pub use options::{Batching, Fault, Options, Pace, RoleChunk, Shape, Usage};
pub use server::{Handle, spawn};
pub use shared::{SEATS, SharedGpu};
pub use truth::{Truth, now_ns};
