//! The client of the load generator: sends requests to servers that speak the OpenAI API when they are due, and
//! stamps what comes back as its bytes arrive.
//!
//! One thread drives the requests of all tenants on one clock: an event loop on the kernel's `epoll` over plain
//! sockets, whose bytes bear the time at which the kernel got them. [`Source`]s say what is sent and when; each request ends as one
//! [`RequestRecord`](cotenant_store::serving::RequestRecord), whatever happened to it. Must not know CUDA, experiments or statistics.
//!
//! Where each time begins and ends:
//!
//! | | from | to |
//! |---|---|---|
//! | intended | the start of the phase | when the request should have been sent |
//! | sent | | just before its first byte is written |
//! | first byte | | the arrival of the first byte of the answer |
//! | first chunk | | the arrival that completed the first event, content or not |
//! | first content | | the arrival that completed the first event with text, reasoning or a tool's arguments |
//! | last content | | the same of the last such event |
//! | end | | the arrival that completed the answer, or when it was given up |

mod arrivals;
mod body;
mod channel;
mod clock;
mod conn;
mod delta;
mod engine;
mod error;
mod http;
mod poll;
mod source;
mod sse;
mod target;

pub use body::{Api, Asked, BodyOptions, BodyWriter};
pub use clock::{Clock, process_cpu_ns, thread_cpu_ns};
pub use cotenant_servers::http::Url;
pub use delta::{Delta, NotJson, Usage, skim};
pub use engine::{Engine, Options, Outcome, Tenant};
pub use error::ServeError;
pub use source::{AFTER_FAILURE_NS, Bodies, Closed, Due, Open, Request, Source, Written};
pub use target::Target;
