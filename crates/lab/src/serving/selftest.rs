//! The generator against a server that knows what it did: how far what is reported lies from that.
//!
//! The problem: a load generator's own errors look like the server's. So the same code that measures servers measures
//! our token server, in this process and on one clock, and each number is put beside what the server wrote down when it
//! happened. What is checked are the traps in which generators are known to fail: a role chunk taken for the first
//! token, several tokens in a chunk, a wait after the last one, a pause within an answer, arrivals that are not what they
//! should be, and latency that leaves out the wait for a server that stood still.

use super::{LoadSource, Models, TenantLoad, drive};
use crate::backend::TrialError;
use cotenant_load::{Arrivals, Process, Profile, Until, shape, stream_seed};
use cotenant_prompts::{Asks, Form, Length, Synthetic, Words};
use cotenant_serve::BodyOptions;
use cotenant_store::serving::{RequestLine, RequestRecord};
use cotenant_token_server::{Fault, Options, Pace, RoleChunk, Shape, Truth, spawn};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Window in which arrivals are counted for their dispersion, ns: 50 arrivals of the rate here.
const COUNTED_NS: u64 = 100_000_000;

/// One number beside the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Scenario.
    pub scenario: &'static str,
    /// What is compared.
    pub what: String,
    /// What we say.
    pub ours: f64,
    /// What the server did, or what was asked for.
    pub truth: f64,
    /// How far apart they may be.
    pub within: f64,
    /// Unit of all three.
    pub unit: &'static str,
    /// They are as near as they must be.
    pub ok: bool,
}

impl Check {
    fn new(
        scenario: &'static str,
        what: impl Into<String>,
        ours: f64,
        truth: f64,
        within: f64,
        unit: &'static str,
    ) -> Check {
        Check { scenario, what: what.into(), ours, truth, within, unit, ok: (ours - truth).abs() <= within }
    }
}

/// A request with what the server knows of it.
struct Pair {
    record: RequestRecord,
    chunks: Vec<u64>,
    truth: Truth,
    /// Start of the phase on the server's clock, ns.
    start_ns: u64,
}

impl Pair {
    /// A time of the server, ns since the start of the phase.
    fn real(&self, ns: u64) -> f64 {
        ns as f64 - self.start_ns as f64
    }
}

fn failed(e: impl std::fmt::Display) -> TrialError {
    TrialError::Failed(e.to_string())
}

/// Drives a load on a server with these options and pairs each request with the truth.
fn run(
    options: Options,
    source: LoadSource,
    in_flight: u32,
    tokens: u32,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<Pair>, TrialError> {
    let server = spawn(Options { keep_chunks: true, ..options }).map_err(failed)?;
    let vocabulary = Arc::new(Words::new(0, 1000).map_err(failed)?);
    let (prompt, output) = (Length::Exact(20), Length::Exact(tokens));
    let synthetic =
        Synthetic { prompt, output, prefix: None, replay: None, vocabulary, form: Form::Chat, seed: 1 };
    let load = TenantLoad {
        line: RequestLine::default(),
        url: server.url(),
        headers: Vec::new(),
        body: BodyOptions::chat("simulated"),
        models: Models::default(),
        asks: Asks::synthetic(synthetic).map_err(failed)?,
        source,
        in_flight,
        timeout_ns: 60_000_000_000,
        chunks: true,
        control: None,
    };
    let path = std::env::temp_dir().join(format!("cotenant-self-test-{}.jsonl", std::process::id()));
    let file = std::fs::File::create(&path).map_err(failed)?;
    let driven = drive(vec![load], u64::MAX, file, interrupted);
    let text = std::fs::read_to_string(&path);
    let _ = std::fs::remove_file(&path);
    let driven = driven?;
    if driven.outcome.interrupted {
        return Err(TrialError::Interrupted);
    }
    // The server writes an answer's end down after its last byte is out.
    std::thread::sleep(Duration::from_millis(50));
    let mut truth: HashMap<String, Truth> =
        server.truth().into_iter().filter_map(|t| Some((t.request_id.clone()?, t))).collect();
    let mut out = Vec::new();
    for line in text.map_err(failed)?.lines() {
        let line: RequestLine = serde_json::from_str(line).map_err(failed)?;
        if let Some(f) = &line.record.failure {
            return Err(failed(format!(
                "a request of the self-test failed: {}: {}",
                f.kind.name(),
                f.detail
            )));
        }
        let id = format!("cotenant-{}", line.record.index);
        let truth = truth.remove(&id).ok_or_else(|| failed(format!("the server does not know {id}")))?;
        out.push(Pair { record: line.record, chunks: line.chunks_ns, truth, start_ns: driven.start_ns });
    }
    out.sort_by_key(|p| p.record.index);
    Ok(out)
}

fn percentile(values: impl Iterator<Item = f64>, p: f64) -> f64 {
    let mut v: Vec<f64> = values.collect();
    v.sort_unstable_by(f64::total_cmp);
    v.get(((v.len().max(1) - 1) as f64 * p).round() as usize).copied().unwrap_or(f64::NAN)
}

fn closed(users: u32, requests: u64) -> LoadSource {
    LoadSource::Closed { users, think_ns: 0, requests, until_ns: u64::MAX }
}

fn fixed(ttft_ms: u64, itl_ms: u64) -> Pace {
    Pace::Fixed { ttft: Duration::from_millis(ttft_ms), itl: Duration::from_millis(itl_ms) }
}

/// TTFT from sent, ms: ours and the server's.
fn ttft(p: &Pair) -> (f64, f64) {
    let ours = p.record.first_content_ns.unwrap_or(0) as f64 - p.record.sent_ns.unwrap_or(0) as f64;
    let truth = p.truth.first_token_ns.unwrap_or(0) as f64 - p.truth.arrival_ns as f64;
    (ours / 1e6, truth / 1e6)
}

/// TPOT, ms: ours and the server's.
fn tpot(p: &Pair) -> (f64, f64) {
    let n = f64::from(p.record.output_tokens.max(2) - 1);
    let ours = p.record.last_content_ns.unwrap_or(0) as f64 - p.record.first_content_ns.unwrap_or(0) as f64;
    let truth = p.truth.last_token_ns.unwrap_or(0) as f64 - p.truth.first_token_ns.unwrap_or(0) as f64;
    (ours / 1e6 / n, truth / 1e6 / n)
}

/// Distances between stamps, ns.
fn gaps(stamps: &[u64]) -> impl Iterator<Item = f64> {
    stamps.windows(2).map(|pair| pair[1] as f64 - pair[0] as f64)
}

/// Runs all scenarios; about 45 s.
///
/// # Errors
/// The server does not start, a request fails, or an interrupt.
pub fn self_test(interrupted: &dyn Fn() -> bool) -> Result<Vec<Check>, TrialError> {
    let mut checks = shapes(interrupted)?;
    checks.extend(streams(interrupted)?);
    checks.extend(stall(interrupted)?);
    checks.extend(arrivals(interrupted)?);
    checks.extend(freeze(interrupted)?);
    Ok(checks)
}

/// A stream with every trap in it.
fn shapes(interrupted: &dyn Fn() -> bool) -> Result<Vec<Check>, TrialError> {
    const NAME: &str = "early role chunk, 4 tokens a chunk, tail of 200 ms";
    let shape = Shape {
        role_chunk: RoleChunk::Early,
        finish_chunk: true,
        tail: Duration::from_millis(200),
        tokens_per_chunk: 4,
        ..Shape::default()
    };
    let pairs =
        run(Options { pace: fixed(50, 10), shape, ..Options::default() }, closed(4, 40), 4, 32, interrupted)?;
    let median = |f: fn(&Pair) -> (f64, f64)| {
        (percentile(pairs.iter().map(|p| f(p).0), 0.5), percentile(pairs.iter().map(|p| f(p).1), 0.5))
    };
    let ((t, t_true), (o, o_true)) = (median(ttft), median(tpot));
    let tokens: u32 = pairs.iter().map(|p| p.record.output_tokens).sum();
    let real: u32 = pairs.iter().map(|p| p.truth.output_tokens).sum();
    let tail = percentile(
        pairs.iter().map(|p| (p.record.end_ns - p.record.last_content_ns.unwrap_or(0)) as f64 / 1e6),
        0.5,
    );
    Ok(vec![
        Check::new(NAME, "TTFT, median", t, t_true, 0.5, "ms"),
        Check::new(NAME, "TPOT, median", o, o_true, 0.05, "ms"),
        Check::new(NAME, "output tokens", f64::from(tokens), f64::from(real), 0.0, "tokens"),
        Check::new(NAME, "end after last content, median", tail, 200.0, 1.0, "ms"),
    ])
}

/// Many streams at once.
fn streams(interrupted: &dyn Fn() -> bool) -> Result<Vec<Check>, TrialError> {
    const NAME: &str = "256 streams, a token every 10 ms";
    let users: Vec<u64> = (0..256 * 4).map(|i| i * 1_000_000).collect();
    let options = Options { pace: fixed(50, 10), ..Options::default() };
    let pairs = run(options, LoadSource::Open { times: users }, 2000, 26, interrupted)?;
    let p99 = |f: fn(&Pair) -> (f64, f64)| percentile(pairs.iter().map(|p| (f(p).0 - f(p).1).abs()), 0.99);
    let apart = |a: f64, b: f64| (a - b).abs() / 1e6;
    let first = pairs.iter().map(|p| (ttft(p).0 - ttft(p).1).abs());
    let content = pairs
        .iter()
        .filter_map(|p| Some(apart(p.record.first_content_ns? as f64, p.real(p.truth.first_token_ns?))));
    let content = percentile(content, 0.99);
    let chunk = pairs.iter().flat_map(|p| {
        p.chunks.iter().zip(&p.truth.chunk_ns).map(|(ours, t)| apart(*ours as f64, p.real(*t)))
    });
    let gap = pairs
        .iter()
        .flat_map(|p| gaps(&p.chunks).zip(gaps(&p.truth.chunk_ns)).map(|(ours, truth)| apart(ours, truth)));
    Ok(vec![
        // TTFT ends with the kernel's stamp of a token, as near as all chunks. It begins with our stamp before the write, and
        // on the other side with the read by the server's thread, which needs a core for it: with two cores for client,
        // writer and server that takes 0.1 ms at the median and a turn of the scheduler, some 5 ms, at the 99th percentile,
        // while contents are right to 0.01 ms. So the median is held to half a millisecond; 1 ms at the 99th percentile needs
        // a core for each thread.
        Check::new(NAME, "error of TTFT, median", percentile(first.clone(), 0.5), 0.0, 0.5, "ms"),
        Check::new(NAME, "error of TTFT, 99th percentile", percentile(first, 0.99), 0.0, 1.0, "ms"),
        Check::new(NAME, "error of the first content's time, 99th percentile", content, 0.0, 0.1, "ms"),
        Check::new(NAME, "error of TPOT, 99th percentile", p99(tpot), 0.0, 0.1, "ms"),
        Check::new(NAME, "error of ITL, 99th percentile", percentile(gap, 0.99), 0.0, 0.1, "ms"),
        Check::new(NAME, "error of a chunk's time, 99th percentile", percentile(chunk, 0.99), 0.0, 0.1, "ms"),
    ])
}

/// A pause within an answer: it belongs to one gap between chunks and to no other time of a chunk.
fn stall(interrupted: &dyn Fn() -> bool) -> Result<Vec<Check>, TrialError> {
    const NAME: &str = "a token every 10 ms, none for 400 ms before the eleventh";
    let shape = Shape { stall: Some((10, Duration::from_millis(400))), ..Shape::default() };
    let options = Options { pace: fixed(20, 10), shape, ..Options::default() };
    let pairs = run(options, closed(8, 16), 8, 32, interrupted)?;
    let longest = |stamps: &[u64]| gaps(stamps).fold(0.0, f64::max) / 1e6;
    let all = |of: fn(&Pair) -> &[u64]| pairs.iter().map(|p| longest(of(p))).fold(0.0, f64::max);
    let (ours, truth) = (all(|p| &p.chunks), all(|p| &p.truth.chunk_ns));
    let error = pairs.iter().map(|p| (longest(&p.chunks) - longest(&p.truth.chunk_ns)).abs());
    Ok(vec![
        Check::new(NAME, "longest ITL", ours, truth, 1.0, "ms"),
        Check::new(NAME, "the same, against what was asked for", ours, 410.0, 5.0, "ms"),
        Check::new(NAME, "error of a request's longest ITL, largest", percentile(error, 1.0), 0.0, 1.0, "ms"),
    ])
}

/// What arrives at the server.
fn arrivals(interrupted: &dyn Fn() -> bool) -> Result<Vec<Check>, TrialError> {
    let mut out = Vec::new();
    for (name, process, cv) in [
        ("Poisson, 500/s", Process::Poisson, 1.0),
        ("constant, 500/s", Process::Constant, 0.0),
        ("gamma, CV 3, 500/s", Process::Gamma { cv: 3.0 }, 3.0),
    ] {
        let seed = stream_seed(3, name, 0);
        let load = Arrivals { process, profile: Profile::Flat, rate_per_s: 500.0, seed };
        let times = load.offsets(Until::Count(3000)).map_err(failed)?;
        let shaped = |at: &[u64]| shape(at, COUNTED_NS).ok_or_else(|| failed("shape the arrivals"));
        let asked = shaped(&times)?;
        let options = Options { pace: fixed(2, 1), ..Options::default() };
        let pairs = run(options, LoadSource::Open { times }, 5000, 2, interrupted)?;
        let mut at: Vec<u64> = pairs.iter().map(|p| p.truth.arrival_ns - p.start_ns).collect();
        at.sort_unstable();
        let came = shaped(&at)?;
        let late = percentile(pairs.iter().map(|p| p.record.lateness_ns().unwrap_or(0) as f64 / 1e6), 0.99);
        out.push(Check::new(name, "rate at the server", came.rate_per_s, asked.rate_per_s, 1.0, "1/s"));
        // Of 3,000 gaps the drawn ones have a CV of their own; what the process has is near it.
        out.push(Check::new(name, "CV at the server", came.cv, asked.cv, 0.1, ""));
        out.push(Check::new(name, "CV drawn", asked.cv, cv, 0.05 + 0.15 * cv, ""));
        if cv > 0.0 {
            out.push(Check::new(
                name,
                "autocorrelation of gaps at the server",
                came.autocorrelation[0],
                0.0,
                0.1,
                "",
            ));
        }
        let dispersion = |s: &cotenant_load::Shape| s.dispersion.unwrap_or(f64::NAN);
        let (d, d_asked) = (dispersion(&came), dispersion(&asked));
        // An arrival that is late by some 0.1 ms may be counted in the next window.
        out.push(Check::new(
            name,
            "index of dispersion at the server",
            d,
            d_asked,
            0.05 * d_asked.max(1.0),
            "",
        ));
        if process == Process::Poisson {
            // Of 60 windows the dispersion of a Poisson process is 1 ± 0.19 (one standard error).
            out.push(Check::new(name, "index of dispersion drawn", d_asked, 1.0, 0.6, ""));
        }
        out.push(Check::new(name, "sent late, 99th percentile", late, 0.0, 1.0, "ms"));
    }
    Ok(out)
}

/// Coordinated omission: a server that stands still for 3 s, and a client with 32 places.
fn freeze(interrupted: &dyn Fn() -> bool) -> Result<Vec<Check>, TrialError> {
    const NAME: &str = "40/s, the server stands still for 3 s, 32 places in flight";
    let times: Vec<u64> = (0..600).map(|i| i * 25_000_000).collect();
    let fault = Fault::Freeze { at: Duration::from_secs(5), length: Duration::from_secs(3) };
    let options = Options { pace: fixed(51, 10), faults: vec![fault], ..Options::default() };
    let pairs = run(options, LoadSource::Open { times }, 32, 32, interrupted)?;
    let ms = |p: &Pair, to: f64| (to - p.record.intended_ns as f64) / 1e6;
    let ours = percentile(pairs.iter().map(|p| ms(p, p.record.end_ns as f64)), 0.9);
    let truth = percentile(pairs.iter().map(|p| ms(p, p.real(p.truth.end_ns))), 0.9);
    let sent =
        percentile(pairs.iter().map(|p| (p.record.end_ns - p.record.sent_ns.unwrap_or(0)) as f64 / 1e6), 0.9);
    let waited = pairs.iter().filter(|p| p.record.capped).count();
    Ok(vec![
        Check::new(NAME, "end to end from intended, 90th percentile", ours, truth, 5.0, "ms"),
        Check::new(NAME, "the same, against theory", ours, 2600.0, 200.0, "ms"),
        Check::new(NAME, "end to end from sent, 90th percentile (what hides it)", sent, 361.0, 40.0, "ms"),
        Check::new(NAME, "requests that waited for a place", waited as f64, 150.0, 100.0, "requests"),
    ])
}
