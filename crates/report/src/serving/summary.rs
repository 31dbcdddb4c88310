//! The summary of a load, made in two walks over its requests: the first finds the window, the second adds up what lies in it. Memory
//! does not grow with the number of requests beyond a bound ([`Bound`]).

use super::Choice;
use super::classes::Classes;
use super::sample::{BLOCKS, Blocks, Bound, Stretches, ranged, spread_of_sketches};
use super::window::Survey;
use cotenant_stats::{Bootstrap, Gaps, Grouped};
use cotenant_store::serving::{
    ClientRecord, Goodput, LATE_MS, LoadSummary, Ranged, RequestRecord, SATURATED, Slo, Spread,
};
use cotenant_store::{Requests, StoreError, StoredLoad};
use std::collections::BTreeMap;

/// What to count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadOptions {
    /// Which part of the phase.
    pub window: Choice,
    /// Limits for goodput.
    pub slo: Option<Slo>,
    /// Whether requests had intended times of their own: in a closed loop nothing can be late but by the client.
    pub open: bool,
}

/// How the driving went, as the client tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientFacts {
    /// Length of the phase, ns.
    pub wall_ns: u64,
    /// CPU time, ns.
    pub cpu_ns: u64,
    /// Largest share of a core in any half second.
    pub busiest: f64,
    /// Most requests in flight.
    pub peak_in_flight: u32,
    /// Time in which it sent and read nothing, since records could not be written as fast as they came, ns.
    pub writer_wait_ns: u64,
}

/// What a request has times of, but for gaps.
pub(super) const TIMES: [&str; 8] =
    ["lateness", "ttft", "ttft_sent", "tpot", "first_chunk", "e2e", "e2e_sent", "normalised"];
/// Places in [`TIMES`].
pub(super) const TTFT: usize = 1;
pub(super) const TPOT: usize = 3;
pub(super) const E2E: usize = 5;

fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// The times of one request, ms, in the order of [`TIMES`].
pub(super) fn times(r: &RequestRecord) -> [Option<f64>; TIMES.len()] {
    let Some(sent) = r.sent_ns else { return [None; TIMES.len()] };
    let lateness = Some(ms(r.intended_ns, sent));
    if !r.ok() {
        return [lateness, None, None, None, None, None, None, None];
    }
    let (tokens, end) = (r.output_tokens, r.end_ns);
    let (first, last) = match (r.first_content_ns, r.last_content_ns) {
        (Some(first), Some(last)) => (Some(first), Some(last)),
        _ => (None, None),
    };
    let several = tokens > 1 && r.chunks > 1;
    [
        lateness,
        first.map(|first| ms(r.intended_ns, first)),
        first.map(|first| ms(sent, first)),
        first.zip(last).filter(|_| several).map(|(first, last)| ms(first, last) / f64::from(tokens - 1)),
        r.first_chunk_ns.map(|first| ms(sent, first)),
        Some(ms(r.intended_ns, end)),
        Some(ms(sent, end)),
        (tokens > 0).then(|| ms(r.intended_ns, end) / f64::from(tokens)),
    ]
}

/// Whether a request with these times kept the limits.
fn good(r: &RequestRecord, times: &[Option<f64>; TIMES.len()], slo: Slo) -> bool {
    // A request with one token has no time per output token, and keeps every limit on it.
    let kept = |limit: Option<f64>, value: Option<f64>| limit.is_none_or(|l| value.is_none_or(|v| v <= l));
    r.ok()
        && kept(slo.ttft_ms, times[TTFT].or(Some(f64::INFINITY)))
        && kept(slo.tpot_ms, times[TPOT])
        && kept(slo.e2e_ms, times[E2E].or(Some(f64::INFINITY)))
}

/// Share of a request's tokens that came within `from..to`, if they came evenly between first and last content.
fn share_within(r: &RequestRecord, from: u64, to: u64) -> f64 {
    let (Some(first), Some(last)) = (r.first_content_ns, r.last_content_ns) else { return 0.0 };
    if first >= last {
        return if first >= from && first < to { 1.0 } else { 0.0 };
    }
    last.min(to).saturating_sub(first.max(from)) as f64 / (last - first) as f64
}

/// Sum and number.
#[derive(Default)]
struct Mean {
    sum: f64,
    n: u64,
}

impl Mean {
    fn add(&mut self, value: u32) {
        self.sum += f64::from(value);
        self.n += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}

/// What the second walk adds up.
struct Totals<'s> {
    survey: &'s Survey,
    slo: Option<Slo>,
    times: [Option<Blocks>; TIMES.len()],
    by_class: Classes,
    /// 1 for each request that kept the limits, 0 for each other.
    kept: Blocks,
    good: u64,
    counted: u64,
    ok: u64,
    failed: BTreeMap<String, u64>,
    capped: u64,
    resent: u64,
    by_chunks: u64,
    short: u64,
    prompt_tokens: Mean,
    output_tokens: Mean,
    /// Prompt tokens of requests that began to answer in the window.
    prompts: f64,
    completed: u64,
    /// Time that requests were under way within the window, all together, s.
    in_flight_s: f64,
    /// Output tokens of each stretch.
    tokens: [f64; BLOCKS],
}

impl<'s> Totals<'s> {
    fn new(survey: &'s Survey, slo: Option<Slo>, classes: &[String]) -> Totals<'s> {
        Totals {
            survey,
            slo,
            times: [const { None }; TIMES.len()],
            by_class: Classes::new(classes),
            kept: Blocks::new(Stretches::of(&survey.window), survey.each),
            good: 0,
            counted: 0,
            ok: 0,
            failed: BTreeMap::new(),
            capped: 0,
            resent: 0,
            by_chunks: 0,
            short: 0,
            prompt_tokens: Mean::default(),
            output_tokens: Mean::default(),
            prompts: 0.0,
            completed: 0,
            in_flight_s: 0.0,
            tokens: [0.0; BLOCKS],
        }
    }

    fn add(&mut self, r: &RequestRecord) {
        let window = &self.survey.window;
        let inside = |t: u64| t >= window.from_ns && t < window.to_ns;
        if r.ok() {
            self.completed += u64::from(inside(r.end_ns));
            if r.first_content_ns.is_some_and(inside) {
                self.prompts += r.prompt_tokens.map_or(0.0, f64::from);
            }
            self.add_tokens(r);
        }
        let sent_ns = r.sent_ns.unwrap_or(r.end_ns).max(window.from_ns);
        self.in_flight_s += r.end_ns.min(window.to_ns).saturating_sub(sent_ns) as f64 / 1e9;
        if self.survey.counts(r) {
            self.add_counted(r);
        }
    }

    fn add_counted(&mut self, r: &RequestRecord) {
        let stretches = Stretches::of(&self.survey.window);
        let times = times(r);
        for (blocks, value) in self.times.iter_mut().zip(times) {
            let Some(value) = value else { continue };
            let blocks = blocks.get_or_insert_with(|| Blocks::new(stretches, self.survey.each));
            blocks.push(r.intended_ns, value);
        }
        self.by_class.add(self.survey, r, &times);
        if let Some(slo) = self.slo {
            let kept = good(r, &times, slo);
            self.good += u64::from(kept);
            self.kept.push(r.intended_ns, f64::from(u8::from(kept)));
        }
        self.counted += 1;
        self.capped += u64::from(r.capped);
        self.resent += u64::from(r.resent);
        match &r.failure {
            Some(f) => *self.failed.entry(f.kind.name().to_owned()).or_insert(0) += 1,
            None => {
                self.ok += 1;
                self.by_chunks += u64::from(r.by_chunks);
                self.short += u64::from(r.max_tokens > 0 && r.output_tokens < r.max_tokens);
                r.prompt_tokens.into_iter().for_each(|tokens| self.prompt_tokens.add(tokens));
                self.output_tokens.add(r.output_tokens);
            }
        }
    }

    /// Adds a request's tokens to the stretches of the window that they came in.
    fn add_tokens(&mut self, r: &RequestRecord) {
        let window = &self.survey.window;
        let (Some(first), Some(last)) = (r.first_content_ns, r.last_content_ns) else { return };
        if last < window.from_ns || first >= window.to_ns {
            return;
        }
        let stretches = Stretches::of(window);
        let (from, to) = (stretches.at(first), stretches.at(last));
        for (i, sum) in self.tokens.iter_mut().enumerate().take(to + 1).skip(from) {
            *sum += f64::from(r.output_tokens) * share_within(r, stretches.edge(i), stretches.edge(i + 1));
        }
    }

    /// Output tokens per second over the window, with the interval over its stretches.
    fn token_rate(&self) -> Ranged {
        let none = Ranged { value: 0.0, low: 0.0, high: 0.0 };
        if self.survey.window.to_ns <= self.survey.window.from_ns {
            return none;
        }
        let stretches = Stretches::of(&self.survey.window);
        let length = |i| (stretches.edge(i + 1) - stretches.edge(i)).max(1) as f64 / 1e9;
        let rates: Vec<f64> = self.tokens.iter().enumerate().map(|(i, t)| t / length(i)).collect();
        let groups: Vec<&[f64]> = rates.chunks(1).collect();
        let described = Grouped::new(&groups).and_then(|g| g.describe(&Bootstrap::default()));
        described.map_or(none, |d| ranged(d.mean))
    }

    fn goodput(&self, offered_per_s: f64) -> Option<Goodput> {
        let slo = self.slo?;
        let none = Ranged { value: 0.0, low: 0.0, high: 0.0 };
        let share = self.kept.mean().unwrap_or(none);
        let per_s = offered_per_s * self.good as f64 / self.counted.max(1) as f64;
        Some(Goodput { slo, good: self.good, of: self.counted, share, per_s })
    }

    /// What says that the numbers are the client's.
    fn limits(&self, lateness: Option<&Spread>, client: ClientFacts) -> Vec<String> {
        let mut limits = Vec::new();
        if let Some(late) = lateness.filter(|l| l.p99.value > LATE_MS) {
            let capped = self.capped;
            if capped * 100 > self.counted {
                limits.push(format!(
                    "{capped} requests waited for a place in flight; latency from the intended time counts that wait"
                ));
            } else {
                limits.push(format!(
                    "requests were sent late: {:.2} ms at the 99th percentile",
                    late.p99.value
                ));
            }
        }
        if client.busiest > SATURATED {
            limits.push(format!(
                "the client used {:.0} % of its core in some half second",
                client.busiest * 100.0
            ));
        }
        if client.writer_wait_ns > 0 {
            limits.push(format!(
                "the client stood still for {:.1} ms until records were written",
                client.writer_wait_ns as f64 / 1e6
            ));
        }
        limits
    }
}

/// Summarises the requests of one tenant in one phase, in any order.
///
/// # Errors
/// Those of walking over the requests.
pub fn summarize_load(
    requests: &dyn Requests,
    gaps: &Gaps,
    options: LoadOptions,
    client: ClientFacts,
) -> Result<LoadSummary, StoreError> {
    let survey = Survey::of(requests, options.window, Bound::default())?;
    summarize_surveyed(requests, &survey, gaps, options.slo, &[], client)
}

/// The second walk. `classes` are the names of the classes that requests belong to.
pub(super) fn summarize_surveyed(
    requests: &dyn Requests,
    survey: &Survey,
    gaps: &Gaps,
    slo: Option<Slo>,
    classes: &[String],
    client: ClientFacts,
) -> Result<LoadSummary, StoreError> {
    let mut t = Totals::new(survey, slo, classes);
    requests.each(&mut |r| t.add(r))?;

    let window = &survey.window;
    let seconds = (window.to_ns - window.from_ns) as f64 / 1e9;
    let per_s = |n: f64| if seconds > 0.0 { n / seconds } else { 0.0 };
    let named = TIMES.iter().zip(&t.times);
    let mut spreads: BTreeMap<String, Spread> =
        named.filter_map(|(name, b)| Some(((*name).to_owned(), b.as_ref()?.spread()?))).collect();
    let (by_chunk, by_token) = gaps.blocks(window.from_ns, window.to_ns, BLOCKS);
    for (name, blocks) in [("itl", by_chunk), ("itl_token", by_token)] {
        if let Some(spread) = spread_of_sketches(&blocks) {
            spreads.insert(name.to_owned(), spread);
        }
    }
    // Between n requests are n − 1 distances.
    let offered_per_s = per_s(t.counted.saturating_sub(1) as f64);
    let output_tokens_per_s = t.token_rate();
    let share = |ns: u64| ns as f64 / client.wall_ns.max(1) as f64;
    Ok(LoadSummary {
        requests: survey.requests,
        outside: survey.requests - t.counted,
        ok: t.ok,
        capped: t.capped,
        resent: t.resent,
        by_chunks: t.by_chunks,
        short: t.short,
        offered_per_s,
        completed_per_s: per_s(t.completed as f64),
        in_flight: per_s(t.in_flight_s),
        total_tokens_per_s: output_tokens_per_s.value + per_s(t.prompts),
        output_tokens_per_s,
        prompt_tokens: t.prompt_tokens.value(),
        output_tokens: t.output_tokens.value(),
        goodput: t.goodput(offered_per_s),
        classes: t.by_class.summaries(),
        client: ClientRecord {
            cpu_s_per_1000: client.cpu_ns as f64 / 1e6 / survey.requests.max(1) as f64,
            cpu_share: share(client.cpu_ns),
            busiest: client.busiest,
            peak_in_flight: client.peak_in_flight,
            limits: t.limits(spreads.get("lateness"), client),
        },
        bucketed: !survey.each,
        times: spreads,
        failed: t.failed,
        window: survey.window.clone(),
    })
}

/// Summary of a stored load. One that did not come to its end has no gaps and no facts about the client.
///
/// # Errors
/// Those of walking over the requests.
pub fn summarize_stored<R: Requests>(stored: &StoredLoad<R>) -> Result<LoadSummary, StoreError> {
    summarize_both(stored, Bound::default()).map(|(_, summary)| summary)
}

/// The same, with what the first walk found.
pub(super) fn summarize_both<R: Requests>(
    stored: &StoredLoad<R>,
    bound: Bound,
) -> Result<(Survey, LoadSummary), StoreError> {
    let m = &stored.manifest;
    let window = match m.steady {
        true => Choice::Steady { warmup: m.warmup },
        false => Choice::Whole { warmup: m.warmup },
    };
    let survey = Survey::of(&stored.requests, window, bound)?;
    let gaps = gaps_of(stored);
    let facts = match &stored.client {
        Some(c) => ClientFacts {
            wall_ns: c.wall_ns,
            cpu_ns: c.cpu_ns,
            busiest: c.busiest,
            peak_in_flight: c.peak_in_flight,
            writer_wait_ns: c.writer_wait_ns,
        },
        None => ClientFacts {
            wall_ns: survey.end_ns,
            cpu_ns: 0,
            busiest: 0.0,
            peak_in_flight: 0,
            writer_wait_ns: 0,
        },
    };
    let summary = summarize_surveyed(&stored.requests, &survey, &gaps, m.slo, &m.classes, facts)?;
    Ok((survey, summary))
}

/// The gaps between chunks of a stored load; none of one that did not come to its end.
pub(super) fn gaps_of<R>(stored: &StoredLoad<R>) -> Gaps {
    stored.gaps.as_deref().and_then(|g| serde_json::from_str(g).ok()).unwrap_or_default()
}
