//! What a server is asked to be.

use crate::engine::{LinearStep, StepTime};
use crate::error::ServerError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A server's settings. [`Options::default`] is a server without pacing or faults that answers like vLLM.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Name of the model that is served.
    pub model: String,
    /// Further names that are served, as adapters (LoRA) are.
    pub adapters: Vec<String>,
    /// When tokens come.
    pub pace: Pace,
    /// How answers are cut into events and writes.
    pub shape: Shape,
    /// What goes wrong on purpose. For each request the first fault that applies is taken.
    pub faults: Vec<Fault>,
    /// Most tokens of a prompt and its answer together; a request for more gets status 400.
    pub max_model_len: u32,
    /// Seed of the words of the answers: the same seed gives the n-th request the same text.
    pub seed: u64,
    /// When set, requests below `/v1/` without `Authorization: Bearer KEY` get status 401.
    pub api_key: Option<String>,
    /// `/health` answers 503 until this long after the start.
    pub ready_after: Duration,
    /// With [`Pace::Fixed`]: how many requests produce tokens at a time. Others wait, first come first served, and
    /// their time to the first token starts when their turn comes.
    pub running_limit: Option<u32>,
    /// Whether the time of each event is kept in [`Truth::chunk_ns`](crate::Truth::chunk_ns).
    pub keep_chunks: bool,
    /// Most [`Truth`](crate::Truth) records kept until they are fetched; further ones are counted as dropped.
    pub truth_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            port: 0,
            model: "simulated".to_owned(),
            adapters: Vec::new(),
            pace: Pace::Unpaced,
            shape: Shape::default(),
            faults: Vec::new(),
            max_model_len: 131_072,
            seed: 1,
            api_key: None,
            ready_after: Duration::ZERO,
            running_limit: None,
            keep_chunks: false,
            truth_limit: 1_000_000,
        }
    }
}

/// When the tokens of an answer come.
#[derive(Debug, Clone)]
pub enum Pace {
    /// As fast as the server can.
    Unpaced,
    /// At fixed times: token `i` (from 0) at arrival + `ttft` + `i` · `itl`, whatever else is going on.
    Fixed {
        /// From the arrival of the request to its first token.
        ttft: Duration,
        /// Between two tokens.
        itl: Duration,
    },
    /// By a model of continuous batching: requests share iterations.
    Batched(Batching),
}

/// A model of an engine with continuous batching, chunked prefill and paged KV memory; see [`Engine`](crate::Engine).
#[derive(Clone)]
pub struct Batching {
    /// Most sequences in a batch.
    pub max_running: u32,
    /// Blocks of KV memory.
    pub kv_blocks: u32,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Most tokens computed in an iteration. Decoding sequences take one each, prompts share the rest.
    pub max_batched_tokens: u32,
    /// How long an iteration takes.
    pub step: Arc<dyn StepTime>,
}

impl Default for Batching {
    /// 256 sequences, 8192 blocks of 16 tokens, 2048 tokens an iteration of about 10 ms.
    fn default() -> Self {
        Batching {
            max_running: 256,
            kv_blocks: 8192,
            block_tokens: 16,
            max_batched_tokens: 2048,
            step: Arc::new(LinearStep {
                base_ns: 9_000_000.0,
                per_prefill_token_ns: 20_000.0,
                per_sequence_ns: 20_000.0,
                per_context_token_ns: 20.0,
            }),
        }
    }
}

impl fmt::Debug for Batching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batching")
            .field("max_running", &self.max_running)
            .field("kv_blocks", &self.kv_blocks)
            .field("block_tokens", &self.block_tokens)
            .field("max_batched_tokens", &self.max_batched_tokens)
            .finish_non_exhaustive()
    }
}

/// How the stream of an answer looks. Only `tail` and `stall` matter for answers that are not streamed.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The event of chat answers that names the role.
    pub role_chunk: RoleChunk,
    /// Whether `finish_reason` comes in an event of its own with an empty delta; else it is in the last content event.
    pub finish_chunk: bool,
    /// Wait between the last content and what follows it.
    pub tail: Duration,
    /// Tokens in a content event; the event comes when its last token is due. At least 1.
    pub tokens_per_chunk: u32,
    /// Whether events that are due together leave in one `write()`; else each gets its own.
    pub coalesce: bool,
    /// Whether `data: [DONE]` ends the stream.
    pub done: bool,
    /// Whether the stream tells the numbers of tokens.
    pub usage: Usage,
    /// Whether the usage is in the event with `finish_reason`; else it gets an event with no choices.
    pub usage_in_finish: bool,
    /// At token `.0` (from 0) the answer stops for `.1`; with [`Pace::Fixed`] all later tokens come that much later.
    pub stall: Option<(u32, Duration)>,
    /// Cuts the stream into `write()`s of at most this many bytes.
    pub write_bytes: Option<usize>,
    /// Pads each event with JSON to at least this many bytes; 0 for none.
    pub pad_bytes: usize,
    /// Puts a comment (`: ping`) before each event.
    pub comments: bool,
    /// Ends lines of events with CR LF instead of LF.
    pub crlf: bool,
}

impl Default for Shape {
    /// As vLLM streams.
    fn default() -> Self {
        Shape {
            role_chunk: RoleChunk::WithFirst,
            finish_chunk: false,
            tail: Duration::ZERO,
            tokens_per_chunk: 1,
            coalesce: true,
            done: true,
            usage: Usage::WhenAsked,
            usage_in_finish: false,
            stall: None,
            write_bytes: None,
            pad_bytes: 0,
            comments: false,
            crlf: false,
        }
    }
}

/// When a chat stream has an event with the role and empty content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleChunk {
    /// Never.
    None,
    /// Right before the first content.
    WithFirst,
    /// As soon as the request has arrived: a client that takes it for the first token measures too short a time.
    Early,
}

/// When a stream tells the numbers of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// In every stream.
    Always,
    /// When the request has `stream_options.include_usage`.
    WhenAsked,
    /// In none, even when asked.
    Never,
}

/// Something that goes wrong on purpose. `every` = n hits the requests for tokens whose number (from 1) n divides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with an error status.
    Status {
        /// The status, 300 to 599.
        code: u16,
        /// Which requests.
        every: u32,
        /// Value of a `Retry-After` header, seconds.
        retry_after: Option<u32>,
    },
    /// Answers 200 with bytes that are neither SSE nor JSON.
    Garbage {
        /// Which requests.
        every: u32,
    },
    /// Closes the connection in the middle of the first content.
    HalfJson {
        /// Which requests.
        every: u32,
    },
    /// Closes the connection between two events.
    CloseEarly {
        /// Which requests.
        every: u32,
        /// After this many tokens; at the latest after the last.
        after_tokens: u32,
    },
    /// Sends an event with an error in place of the next token, and ends the stream in an orderly way.
    ErrorEvent {
        /// Which requests.
        every: u32,
        /// After this many tokens; at the latest after the last.
        after_tokens: u32,
    },
    /// Never answers and keeps the connection open.
    NoAnswer {
        /// Which requests.
        every: u32,
    },
    /// Answers with status 307.
    Redirect {
        /// Which requests.
        every: u32,
        /// Value of the `Location` header.
        to: String,
    },
    /// The whole server does nothing for a while; arrivals wait in the kernel.
    Freeze {
        /// Since the start of the server.
        at: Duration,
        /// For how long.
        length: Duration,
    },
}

impl Fault {
    /// Which requests are hit; `None` for faults of the whole server.
    fn every(&self) -> Option<u32> {
        match self {
            Fault::Status { every, .. }
            | Fault::Garbage { every }
            | Fault::HalfJson { every }
            | Fault::CloseEarly { every, .. }
            | Fault::ErrorEvent { every, .. }
            | Fault::NoAnswer { every }
            | Fault::Redirect { every, .. } => Some(*every),
            Fault::Freeze { .. } => None,
        }
    }

    /// Whether request number `id` is hit.
    pub(crate) fn hits(&self, id: u64) -> bool {
        self.every().is_some_and(|n| id.checked_rem(u64::from(n)) == Some(0))
    }
}

impl Options {
    /// Checks what the types do not.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        let wrong = |field, value: String, rule| Err(ServerError::Option { field, value, rule });
        if self.model.is_empty() || self.adapters.iter().any(String::is_empty) {
            return wrong("model", "empty".to_owned(), "a name");
        }
        if self.max_model_len < 2 {
            return wrong("max_model_len", self.max_model_len.to_string(), "at least 2");
        }
        if self.running_limit == Some(0) {
            return wrong("running_limit", "0".to_owned(), "at least 1, or none");
        }
        if self.shape.tokens_per_chunk == 0 {
            return wrong("shape.tokens_per_chunk", "0".to_owned(), "at least 1");
        }
        if self.shape.write_bytes == Some(0) {
            return wrong("shape.write_bytes", "0".to_owned(), "at least 1, or none");
        }
        if let Pace::Batched(b) = &self.pace {
            for (field, n) in [
                ("pace.max_running", b.max_running),
                ("pace.kv_blocks", b.kv_blocks),
                ("pace.block_tokens", b.block_tokens),
                ("pace.max_batched_tokens", b.max_batched_tokens),
            ] {
                if n == 0 {
                    return wrong(field, "0".to_owned(), "at least 1");
                }
            }
        }
        for fault in &self.faults {
            match fault {
                f if f.every() == Some(0) => return wrong("faults.every", "0".to_owned(), "at least 1"),
                Fault::Status { code, .. } if !(300..600).contains(code) => {
                    return wrong("faults.code", code.to_string(), "a status from 300 to 599");
                }
                Fault::Redirect { to, .. }
                    if to.is_empty() || to.bytes().any(|b| !(33..127).contains(&b)) =>
                {
                    return wrong("faults.to", format!("{to:?}"), "an address of printable ASCII characters");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(options: Options) -> Option<&'static str> {
        match options.check() {
            Err(ServerError::Option { field, .. }) => Some(field),
            _ => None,
        }
    }

    #[test]
    fn impossible_options_are_named() {
        let base = Options::default;
        let shape = |s: Shape| Options { shape: s, ..base() };
        let fault = |f: Fault| Options { faults: vec![f], ..base() };
        assert_eq!(field(base()), None);
        assert_eq!(field(Options { model: String::new(), ..base() }), Some("model"));
        assert_eq!(field(Options { max_model_len: 1, ..base() }), Some("max_model_len"));
        assert_eq!(field(Options { running_limit: Some(0), ..base() }), Some("running_limit"));
        assert_eq!(
            field(shape(Shape { tokens_per_chunk: 0, ..Shape::default() })),
            Some("shape.tokens_per_chunk")
        );
        assert_eq!(
            field(shape(Shape { write_bytes: Some(0), ..Shape::default() })),
            Some("shape.write_bytes")
        );
        let batched = Pace::Batched(Batching { kv_blocks: 0, ..Batching::default() });
        assert_eq!(field(Options { pace: batched, ..base() }), Some("pace.kv_blocks"));
        assert_eq!(field(fault(Fault::NoAnswer { every: 0 })), Some("faults.every"));
        assert_eq!(
            field(fault(Fault::Status { code: 200, every: 1, retry_after: None })),
            Some("faults.code")
        );
        assert_eq!(
            field(fault(Fault::Redirect { every: 1, to: "http://a/\r\nx: y".to_owned() })),
            Some("faults.to")
        );
    }

    #[test]
    fn a_fault_hits_every_nth_request() {
        let fault = Fault::Garbage { every: 3 };
        assert_eq!((1..=9).filter(|&id| fault.hits(id)).collect::<Vec<_>>(), [3, 6, 9]);
        assert!(!Fault::Freeze { at: Duration::ZERO, length: Duration::ZERO }.hits(1));
    }
}
