//! Requests to servers: one line of `requests.jsonl` each.

mod series;

pub use series::{Level, LevelOf, LevelVerdict, SearchRecord, SeriesManifest, SeriesPoint, SeriesSummary};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lateness of sending from which on the numbers are the client's, ms (99th percentile of an open loop).
pub const LATE_MS: f64 = 1.0;
/// Share of a core of the client's thread from which on they are.
pub const SATURATED: f64 = 0.9;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// It reached its limit.
    Length,
    /// The model or a stop word ended it.
    Stop,
    /// Anything else: tool calls, a content filter, an abort.
    Other,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// No connection: refused, unreachable.
    Connect,
    /// An answer other than 200.
    Status,
    /// A redirect, which is not followed: the load would go elsewhere than said.
    Redirect,
    /// The connection was reset or could not be written to.
    Reset,
    /// The server closed before the answer was complete.
    ClosedEarly,
    /// What came is no HTTP, no event stream or no JSON.
    Garbage,
    /// The server reported an error in the middle of the stream.
    ErrorEvent,
    /// An answer without any content.
    Empty,
    /// An answer larger than is accepted.
    TooLarge,
    /// Nothing, or not all, within the time limit.
    Timeout,
    /// Given up because the phase was over.
    Cancelled,
}

impl FailureKind {
    /// Its name, as in the artifacts.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::Connect => "connect",
            FailureKind::Status => "status",
            FailureKind::Redirect => "redirect",
            FailureKind::Reset => "reset",
            FailureKind::ClosedEarly => "closed-early",
            FailureKind::Garbage => "garbage",
            FailureKind::ErrorEvent => "error-event",
            FailureKind::Empty => "empty",
            FailureKind::TooLarge => "too-large",
            FailureKind::Timeout => "timeout",
            FailureKind::Cancelled => "cancelled",
        }
    }
}

/// A failure with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Kind, for counting.
    pub kind: FailureKind,
    /// What the server or the system said, at most [`Failure::LONGEST`] characters. No request header is in it.
    pub detail: String,
}

impl Failure {
    /// Characters of a detail.
    pub const LONGEST: usize = 300;

    /// A failure; the detail is cut.
    pub fn new(kind: FailureKind, detail: impl AsRef<str>) -> Failure {
        let detail = detail.as_ref();
        Failure { kind, detail: detail.chars().take(Self::LONGEST).collect() }
    }
}

/// One request from its intended time to its end. Times are ns since the start of the phase, stamped right after the
/// read that brought what they are of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RequestRecord {
    /// Number among the tenant's requests, from 0.
    pub index: u64,
    /// What the source calls it: class of a mix, turn of a session.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tag: u32,
    /// Session that it is a turn of, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// Which of the load's `models` it asked, from 0; absent: the load's `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<u16>,
    /// When it should have been sent.
    pub intended_ns: u64,
    /// Just before its first byte was written; `None` if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_ns: Option<u64>,
    /// First byte of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ns: Option<u64>,
    /// First event of the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_chunk_ns: Option<u64>,
    /// First content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_content_ns: Option<u64>,
    /// Last content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_content_ns: Option<u64>,
    /// End of the answer, or when it was given up.
    pub end_ns: u64,
    /// Events with content.
    pub chunks: u32,
    /// Tokens of the prompt, as the server counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Of those, tokens that the server had in its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
    /// Tokens of the answer: as the server counts, or the number of chunks where it does not say.
    pub output_tokens: u32,
    /// `output_tokens` is the number of chunks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_chunks: bool,
    /// Tokens asked for.
    pub max_tokens: u32,
    /// Status of the answer; 0 without one.
    pub status: u16,
    /// Why the answer ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// Why the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// It had to wait for one of the tenant's places in flight.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub capped: bool,
    /// It was sent on a new connection; the time that took to open is part of `sent`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connected: bool,
    /// The server had closed the idle connection, and it was sent again on a new one; `sent_ns` is of the second time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resent: bool,
}

fn is_zero(v: &u32) -> bool {
    *v == 0
}

fn is_zero_ns(v: &u64) -> bool {
    *v == 0
}

impl RequestRecord {
    /// Whether it came back whole.
    pub fn ok(&self) -> bool {
        self.failure.is_none()
    }

    /// How late it was sent, ns; `None` if it never was.
    pub fn lateness_ns(&self) -> Option<u64> {
        self.sent_ns.map(|s| s.saturating_sub(self.intended_ns))
    }
}

/// A line of `requests.jsonl`: a request and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RequestLine {
    /// Trial of an experiment; empty for a load of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trial: String,
    /// Attempt at the trial, from 1; 0 for a load of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Repeat, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeat: u32,
    /// Phase: `solo` or `shared`; empty for a load of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Tenant; empty for a load of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// The request.
    #[serde(flatten)]
    pub record: RequestRecord,
    /// When each event with content came, ns, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks_ns: Vec<u64>,
}

/// What a server said of itself during a phase (`/metrics`, asked every quarter of a second); `None`: it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerSaid {
    /// Answers to that question.
    pub answers: u32,
    /// Requests in its batch: mean.
    pub running_mean: Option<f64>,
    /// The same: most.
    pub running_max: Option<f64>,
    /// Requests that wait for a place in it: mean.
    pub waiting_mean: Option<f64>,
    /// The same: most.
    pub waiting_max: Option<f64>,
    /// Part of the KV cache in use, 0 to 1: most.
    pub kv_usage_max: Option<f64>,
    /// Requests that lost their place to others.
    pub preemptions: Option<f64>,
    /// Tokens that it generated, by its own count.
    pub generation_tokens: Option<f64>,
    /// Time that a request waited for its place in the batch, mean over the requests of the phase, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_time_ms: Option<f64>,
}

/// What a server tenant did in a phase of an experiment. Lists have one entry for each request that came back whole, in
/// the order of `spans_ns`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServedPhase {
    /// Requests of the phase.
    pub requests: u32,
    /// Those that failed, by kind.
    pub failed: std::collections::BTreeMap<String, u32>,
    /// Requests had intended times of their own.
    pub open: bool,
    /// Stretch in which all tenants were active and each server was under its whole load, ns since the phase's first
    /// start: requests that started in it count, and rates are over it.
    pub window_ns: (u64, u64),
    /// Time to first content, ns: from the intended time in an open loop, else from sent.
    pub ttft_ns: Vec<u64>,
    /// Time per output token after the first, ns; 0 where there was but one.
    pub tpot_ns: Vec<u64>,
    /// Limits on them, where some were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// Output tokens of each.
    pub tokens: Vec<u32>,
    /// How late each was sent, ns.
    pub late_ns: Vec<u64>,
    /// Prompt tokens of all, as the server counts.
    pub prompt_tokens: u64,
    /// Answers whose tokens are counted by chunks, since the server did not count.
    pub by_chunks: u32,
    /// Answers that ended before the tokens asked for.
    pub short: u32,
    /// What was asked, in words.
    pub asks: String,
    /// When, in words.
    pub arrivals: String,
    /// CPU time of the client, ns.
    pub client_cpu_ns: u64,
    /// Largest share of a core that the client's thread used in any half second.
    pub client_busiest: f64,
    /// Most requests in flight.
    pub peak_in_flight: u32,
    /// Gaps between chunks: sketches by second.
    pub gaps: serde_json::Value,
    /// What the server said of itself meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<ServerSaid>,
}

/// A value over requests, with the interval over blocks of time; `None` where there is nothing to take it from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranged {
    /// The value.
    pub value: f64,
    /// 95 % interval, low.
    pub low: f64,
    /// 95 % interval, high.
    pub high: f64,
}

/// How one time of all counted requests is distributed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Observations.
    pub n: u64,
    /// Mean, ms.
    pub mean: Ranged,
    /// Median, ms.
    pub p50: Ranged,
    /// 90th percentile, ms.
    pub p90: Ranged,
    /// 95th percentile, ms.
    pub p95: Ranged,
    /// 99th percentile, ms.
    pub p99: Ranged,
    /// 99.9th percentile, ms.
    pub p999: Ranged,
    /// Largest, ms.
    pub max: f64,
}

/// A limit on a time of a request, ms.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Slo {
    /// Time to first token, from the intended time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Time per output token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_ms: Option<f64>,
    /// End to end, from the intended time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ms: Option<f64>,
}

/// How many requests kept the limits. Failed ones did not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goodput {
    /// The limits.
    pub slo: Slo,
    /// Requests of the window that kept all of them.
    pub good: u64,
    /// Of so many.
    pub of: u64,
    /// Their share, with the interval over blocks of time.
    pub share: Ranged,
    /// Good requests per second: their share of those offered.
    pub per_s: f64,
}

/// Which part of a phase counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// From here on, ns since the start of the phase.
    pub from_ns: u64,
    /// Before here.
    pub to_ns: u64,
    /// How it was chosen.
    pub how: String,
}

/// What a load on one server gave: `load` of `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadSummary {
    /// What counts. Requests count by their intended time, tokens by when they came.
    pub window: Window,
    /// Requests of the whole phase.
    pub requests: u64,
    /// Of them, outside of the window.
    pub outside: u64,
    /// Requests of the window that came back whole.
    pub ok: u64,
    /// Those that did not, by kind.
    pub failed: std::collections::BTreeMap<String, u64>,
    /// Requests of the window that waited for a place in flight.
    pub capped: u64,
    /// Whose idle connection the server had closed, so that they were sent again.
    pub resent: u64,
    /// Whose tokens are counted by chunks, since the server did not count.
    pub by_chunks: u64,
    /// Whose answer ended before the tokens asked for.
    pub short: u64,
    /// Intended requests per second over the window.
    pub offered_per_s: f64,
    /// Requests per second that came back whole within the window.
    pub completed_per_s: f64,
    /// Mean number of requests in flight.
    pub in_flight: f64,
    /// Output tokens per second.
    pub output_tokens_per_s: Ranged,
    /// Output and prompt tokens per second (of the prompts of requests that began to answer in the window).
    pub total_tokens_per_s: f64,
    /// Mean tokens of a prompt, of a whole request.
    pub prompt_tokens: Option<f64>,
    /// Mean tokens of an answer.
    pub output_tokens: Option<f64>,
    /// Requests are too many for their times to be held one by one: mean, largest and counts are exact, quantiles are known to half a
    /// bucket of 0.54 % width.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bucketed: bool,
    /// Times by name: `ttft`, `ttft_sent`, `first_chunk`, `tpot`, `itl`, `itl_token`, `e2e`, `e2e_sent`, `normalised`, `lateness`;
    /// what each is stands in `docs/serving.md`.
    pub times: std::collections::BTreeMap<String, Spread>,
    /// Share of requests that kept the limits, where some were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput: Option<Goodput>,
    /// The same by class of requests, where there are several; of the first 32 of [`LoadManifest::classes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassSummary>,
    /// How the client itself did.
    pub client: ClientRecord,
}

/// What the requests of one class gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassSummary {
    /// Its name.
    pub name: String,
    /// Requests of the window.
    pub requests: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// `ttft`, `tpot` and `e2e` of those that came back whole.
    pub times: std::collections::BTreeMap<String, Spread>,
}

/// How the client that made the load did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientRecord {
    /// CPU time for 1,000 requests, s.
    pub cpu_s_per_1000: f64,
    /// CPU time over the length of the phase: 1 is one core.
    pub cpu_share: f64,
    /// Largest share of one core that the thread that takes the stamps used in any half second.
    pub busiest: f64,
    /// Most requests in flight.
    pub peak_in_flight: u32,
    /// What says that the numbers are the client's and not the server's; empty: nothing.
    pub limits: Vec<String>,
}

/// `load.json`: what a load of its own asked of which server. Written first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadManifest {
    /// Format version.
    pub format: u32,
    /// Server, without anything secret.
    pub url: String,
    /// Kind of server.
    pub preset: String,
    /// Model asked for.
    pub model: String,
    /// Models and adapters that single requests ask instead, by [`RequestRecord::model`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Names of the classes that single requests belong to, by [`RequestRecord::tag`]: those of a mix or of a file of prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Version that the server tells.
    pub server_version: Option<String>,
    /// The server says that its tokens are simulated.
    pub simulated: bool,
    /// Endpoint: `chat` or `completions`.
    pub api: String,
    /// Streamed answers.
    pub stream: bool,
    /// What is asked, in words.
    pub asks: String,
    /// When, in words.
    pub arrivals: String,
    /// Requests have intended times of their own.
    pub open: bool,
    /// Seed of asks and arrivals.
    pub seed: u64,
    /// Most requests (of an open loop of sessions: sessions) that were asked for; absent where only time ends the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// How long requests were to be sent, s; absent where only their number ends the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Files that arrivals and prompts were made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<LoadFile>,
    /// Requests at the start that do not count.
    pub warmup: u64,
    /// The start-up is looked for and left out.
    pub steady: bool,
    /// Limits for goodput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// Most requests in flight.
    pub in_flight: u32,
    /// Time limit of a request, s.
    pub timeout_s: f64,
    /// What else stands in each body.
    pub body: serde_json::Map<String, serde_json::Value>,
    /// What arrivals differ in from what was asked; empty: nothing beyond chance.
    pub departures: Vec<String>,
    /// Which load of a series it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Where it comes from.
    pub provenance: crate::format::Provenance,
}

/// A file that a load was made of: enough to know it again, and not where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadFile {
    /// Option that named it, such as `--trace`.
    pub option: String,
    /// Its name without the folder.
    pub name: String,
    /// SHA-256 of what it holds, 64 hex digits.
    pub sha256: String,
}

/// `client.json`: how the driving went. Written last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientOutcome {
    /// Format version.
    pub format: u32,
    /// Length of the phase, ns.
    pub wall_ns: u64,
    /// CPU time of the process while it drove, ns: stamps, parsing, and writing of records.
    pub cpu_ns: u64,
    /// Largest share of a core in any half second.
    pub busiest: f64,
    /// Most requests in flight.
    pub peak_in_flight: u32,
    /// Time in which it sent and read nothing, since records could not be written as fast as they came, ns.
    #[serde(default, skip_serializing_if = "is_zero_ns")]
    pub writer_wait_ns: u64,
    /// It was interrupted.
    pub interrupted: bool,
    /// Start, ns of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
}
