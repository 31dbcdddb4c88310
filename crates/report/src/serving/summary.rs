//! The summary of a load.

use super::{Choice, choose};
use cotenant_stats::{Bootstrap, Bounded, Gaps, Grouped, describe_sketches};
use cotenant_store::StoredLoad;
use cotenant_store::serving::{
    ClientRecord, Goodput, LATE_MS, LoadSummary, Ranged, RequestRecord, SATURATED, Slo, Spread, Window,
};
use std::collections::BTreeMap;

/// Stretches of time that a window is divided into; intervals are over them.
const BLOCKS: usize = 20;

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
}

fn ranged(b: Bounded) -> Ranged {
    Ranged { value: b.value, low: b.low, high: b.high }
}

/// Values in blocks of time.
struct Blocks<'w> {
    window: &'w Window,
    by_block: Vec<Vec<f64>>,
}

impl<'w> Blocks<'w> {
    fn new(window: &'w Window) -> Blocks<'w> {
        Blocks { window, by_block: vec![Vec::new(); BLOCKS] }
    }

    fn block(window: &Window, at_ns: u64) -> usize {
        let length = u128::from(window.to_ns - window.from_ns).max(1);
        let at = u128::from(at_ns.saturating_sub(window.from_ns)).min(length - 1);
        (at * BLOCKS as u128 / length) as usize
    }

    fn push(&mut self, at_ns: u64, value: f64) {
        self.by_block[Self::block(self.window, at_ns)].push(value);
    }

    fn grouped(&self) -> Option<Grouped> {
        let groups: Vec<&[f64]> = self.by_block.iter().map(Vec::as_slice).collect();
        Grouped::new(&groups).ok()
    }

    fn spread(&self) -> Option<Spread> {
        let grouped = self.grouped()?;
        let bootstrap = bootstrap(grouped.len());
        let described = grouped.describe(&bootstrap).ok()?;
        let tail = grouped.quantiles(&[0.999], &bootstrap).ok()?;
        Some(Spread {
            n: described.n as u64,
            mean: ranged(described.mean),
            p50: ranged(described.p50),
            p90: ranged(described.p90),
            p95: ranged(described.p95),
            p99: ranged(described.p99),
            p999: ranged(*tail.first()?),
            max: described.max,
        })
    }

    fn mean(&self) -> Option<Ranged> {
        let grouped = self.grouped()?;
        Some(ranged(grouped.describe(&bootstrap(grouped.len())).ok()?.mean))
    }
}

/// Fewer resamples of more observations: the time of a summary stays in seconds.
fn bootstrap(observations: usize) -> Bootstrap {
    Bootstrap { resamples: (100_000_000 / observations.max(1)).clamp(400, 2000), ..Bootstrap::default() }
}

fn spread_of_gaps(blocks: &[cotenant_stats::Sketch]) -> Option<Spread> {
    let d = describe_sketches(blocks, &[0.5, 0.9, 0.95, 0.99, 0.999], &bootstrap(100_000)).ok()?;
    let [mean, p50, p90, p95, p99, p999] = d[..] else { return None };
    let n = blocks.iter().map(cotenant_stats::Sketch::weight).sum::<f64>().round() as u64;
    let max = blocks.iter().map(cotenant_stats::Sketch::max).fold(0.0, f64::max);
    let r = ranged;
    Some(Spread { n, mean: r(mean), p50: r(p50), p90: r(p90), p95: r(p95), p99: r(p99), p999: r(p999), max })
}

fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// The times of one request by name, ms, but for gaps.
pub(super) fn times(r: &RequestRecord) -> Vec<(&'static str, f64)> {
    let mut out = Vec::with_capacity(9);
    let Some(sent) = r.sent_ns else { return out };
    out.push(("lateness", ms(r.intended_ns, sent)));
    if !r.ok() {
        return out;
    }
    let (tokens, end) = (r.output_tokens, r.end_ns);
    if let (Some(first), Some(last)) = (r.first_content_ns, r.last_content_ns) {
        out.push(("ttft", ms(r.intended_ns, first)));
        out.push(("ttft_sent", ms(sent, first)));
        if tokens > 1 && r.chunks > 1 {
            out.push(("tpot", ms(first, last) / f64::from(tokens - 1)));
        }
    }
    if let Some(first) = r.first_chunk_ns {
        out.push(("first_chunk", ms(sent, first)));
    }
    out.push(("e2e", ms(r.intended_ns, end)));
    out.push(("e2e_sent", ms(sent, end)));
    if tokens > 0 {
        out.push(("normalised", ms(r.intended_ns, end) / f64::from(tokens)));
    }
    out
}

/// Whether a request kept the limits.
fn good(r: &RequestRecord, slo: Slo) -> bool {
    let of = |name| times(r).iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    // A request with one token has no time per output token, and keeps every limit on it.
    let kept = |limit: Option<f64>, value: Option<f64>| limit.is_none_or(|l| value.is_none_or(|v| v <= l));
    r.ok()
        && kept(slo.ttft_ms, of("ttft").or(Some(f64::INFINITY)))
        && kept(slo.tpot_ms, of("tpot"))
        && kept(slo.e2e_ms, of("e2e").or(Some(f64::INFINITY)))
}

/// Share of a request's tokens that came within `from..to`, if they came evenly between first and last content.
fn share_within(r: &RequestRecord, from: u64, to: u64) -> f64 {
    let (Some(first), Some(last)) = (r.first_content_ns, r.last_content_ns) else { return 0.0 };
    if first >= last {
        return if first >= from && first < to { 1.0 } else { 0.0 };
    }
    last.min(to).saturating_sub(first.max(from)) as f64 / (last - first) as f64
}

/// Summarises the requests of one tenant in one phase, in any order.
pub fn summarize_load(
    records: &[RequestRecord],
    gaps: &Gaps,
    options: LoadOptions,
    client: ClientFacts,
) -> LoadSummary {
    let window = choose(records, options.window);
    let seconds = (window.to_ns - window.from_ns) as f64 / 1e9;
    // The last one sent ends the window and is the last of it.
    let within = |r: &&RequestRecord| r.intended_ns >= window.from_ns && r.intended_ns <= window.to_ns;
    let (Choice::Whole { warmup } | Choice::Steady { warmup }) = options.window;
    let counted: Vec<&RequestRecord> = records.iter().filter(|r| r.index >= warmup).filter(within).collect();
    let ok: Vec<&RequestRecord> = counted.iter().copied().filter(|r| r.ok()).collect();

    let mut by_name: BTreeMap<&str, Blocks<'_>> = BTreeMap::new();
    for r in &counted {
        for (name, value) in times(r) {
            by_name.entry(name).or_insert_with(|| Blocks::new(&window)).push(r.intended_ns, value);
        }
    }
    let mut spreads: BTreeMap<String, Spread> =
        by_name.iter().filter_map(|(name, b)| Some(((*name).to_owned(), b.spread()?))).collect();
    let (by_chunk, by_token) = gaps.blocks(window.from_ns, window.to_ns, BLOCKS);
    for (name, blocks) in [("itl", by_chunk), ("itl_token", by_token)] {
        if let Some(spread) = spread_of_gaps(&blocks) {
            spreads.insert(name.to_owned(), spread);
        }
    }

    let mut failed = BTreeMap::new();
    for f in counted.iter().filter_map(|r| r.failure.as_ref()) {
        *failed.entry(f.kind.name().to_owned()).or_insert(0) += 1;
    }
    let count = |f: fn(&RequestRecord) -> bool| counted.iter().filter(|r| f(r)).count() as u64;
    let mean =
        |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let per_s = |n: f64| if seconds > 0.0 { n / seconds } else { 0.0 };
    let begun = |r: &&RequestRecord| {
        r.ok() && r.first_content_ns.is_some_and(|t| t >= window.from_ns && t < window.to_ns)
    };
    let prompts: f64 = records.iter().filter(begun).filter_map(|r| r.prompt_tokens).map(f64::from).sum();
    let output_tokens_per_s = token_rate(records, &window);
    let completed =
        records.iter().filter(|r| r.ok() && r.end_ns >= window.from_ns && r.end_ns < window.to_ns);
    let in_flight: f64 = records
        .iter()
        .map(|r| r.end_ns.min(window.to_ns).saturating_sub(r.sent_ns.unwrap_or(r.end_ns).max(window.from_ns)))
        .map(|ns| ns as f64 / 1e9)
        .sum();

    // Between n requests are n − 1 distances.
    let offered_per_s = per_s(counted.len().saturating_sub(1) as f64);
    let goodput = options.slo.map(|slo| {
        let mut shares = Blocks::new(&window);
        let mut n = 0;
        for r in &counted {
            let kept = good(r, slo);
            n += u64::from(kept);
            shares.push(r.intended_ns, f64::from(u8::from(kept)));
        }
        let none = Ranged { value: 0.0, low: 0.0, high: 0.0 };
        let share = shares.mean().unwrap_or(none);
        let per_s = offered_per_s * n as f64 / counted.len().max(1) as f64;
        Goodput { slo, good: n, of: counted.len() as u64, share, per_s }
    });

    let mut limits = Vec::new();
    if let Some(late) = spreads.get("lateness").filter(|l| l.p99.value > LATE_MS) {
        let capped = count(|r| r.capped);
        if capped * 100 > counted.len() as u64 {
            limits.push(format!(
                "{capped} requests waited for a place in flight; latency from the intended time counts that wait"
            ));
        } else {
            limits.push(format!("requests were sent late: {:.2} ms at the 99th percentile", late.p99.value));
        }
    }
    if client.busiest > SATURATED {
        limits
            .push(format!("the client used {:.0} % of its core in some half second", client.busiest * 100.0));
    }
    let share = |ns: u64| ns as f64 / client.wall_ns.max(1) as f64;
    LoadSummary {
        requests: records.len() as u64,
        outside: (records.len() - counted.len()) as u64,
        ok: ok.len() as u64,
        failed,
        capped: count(|r| r.capped),
        resent: count(|r| r.resent),
        by_chunks: ok.iter().filter(|r| r.by_chunks).count() as u64,
        short: ok.iter().filter(|r| r.max_tokens > 0 && r.output_tokens < r.max_tokens).count() as u64,
        offered_per_s,
        completed_per_s: per_s(completed.count() as f64),
        in_flight: if seconds > 0.0 { in_flight / seconds } else { 0.0 },
        total_tokens_per_s: output_tokens_per_s.value + per_s(prompts),
        output_tokens_per_s,
        prompt_tokens: mean(ok.iter().filter_map(|r| r.prompt_tokens).map(f64::from).collect()),
        output_tokens: mean(ok.iter().map(|r| f64::from(r.output_tokens)).collect()),
        times: spreads,
        goodput,
        client: ClientRecord {
            cpu_s_per_1000: client.cpu_ns as f64 / 1e6 / records.len().max(1) as f64,
            cpu_share: share(client.cpu_ns),
            busiest: client.busiest,
            peak_in_flight: client.peak_in_flight,
            limits,
        },
        window,
    }
}

/// Summarises a stored load. One that did not come to its end has no gaps and no facts about the client.
pub fn summarize_stored(stored: &StoredLoad) -> LoadSummary {
    let m = &stored.manifest;
    let window = match m.steady {
        true => Choice::Steady { warmup: m.warmup },
        false => Choice::Whole { warmup: m.warmup },
    };
    let gaps: Gaps = stored.gaps.clone().and_then(|g| serde_json::from_value(g).ok()).unwrap_or_default();
    let wall_ns = stored.requests.iter().map(|r| r.end_ns).max().unwrap_or(0);
    let facts = match &stored.client {
        Some(c) => ClientFacts {
            wall_ns: c.wall_ns,
            cpu_ns: c.cpu_ns,
            busiest: c.busiest,
            peak_in_flight: c.peak_in_flight,
        },
        None => ClientFacts { wall_ns, cpu_ns: 0, busiest: 0.0, peak_in_flight: 0 },
    };
    summarize_load(&stored.requests, &gaps, LoadOptions { window, slo: m.slo, open: m.open }, facts)
}

/// Output tokens per second over the window, with the interval over its blocks.
fn token_rate(records: &[RequestRecord], window: &Window) -> Ranged {
    let none = Ranged { value: 0.0, low: 0.0, high: 0.0 };
    let length = window.to_ns.saturating_sub(window.from_ns);
    if length == 0 {
        return none;
    }
    let edge = |i: usize| window.from_ns + (u128::from(length) * i as u128 / BLOCKS as u128) as u64;
    let mut tokens = [0.0; BLOCKS];
    for r in records.iter().filter(|r| r.ok()) {
        let (Some(first), Some(last)) = (r.first_content_ns, r.last_content_ns) else { continue };
        if last < window.from_ns || first >= window.to_ns {
            continue;
        }
        let (from, to) = (Blocks::block(window, first), Blocks::block(window, last));
        for (i, sum) in tokens.iter_mut().enumerate().take(to + 1).skip(from) {
            *sum += f64::from(r.output_tokens) * share_within(r, edge(i), edge(i + 1));
        }
    }
    let rates: Vec<f64> =
        tokens.iter().enumerate().map(|(i, t)| t / ((edge(i + 1) - edge(i)).max(1) as f64 / 1e9)).collect();
    let groups: Vec<&[f64]> = rates.chunks(1).collect();
    let described = Grouped::new(&groups).and_then(|g| g.describe(&Bootstrap::default()));
    described.map_or(none, |d| ranged(d.mean))
}
