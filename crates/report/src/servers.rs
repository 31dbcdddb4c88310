//! Metrics of servers: time to first token, time per output token, and how many requests kept their limits. What servers
//! have in common with other programs (latency, throughput, tokens, energy) is in `programs.rs`.

use crate::iterations::{counted, tokens_per_s};
use crate::metric;
use crate::page::TableBlock;
use crate::samples::TrialSamples;
use cotenant_stats::{Gaps, Sketch, quantile};
use cotenant_store::format::{Estimate, PhaseRecord, PhaseTenant, RepeatRecord, TrialRecord, TrialSummary};
use cotenant_store::serving::{ServedPhase, Slo};
use serde::Deserialize;

/// A list of a phase.
type TimeOf = fn(&ServedPhase) -> &[u64];
/// Times of requests, with their metrics' stems.
const TIMES: [(&str, TimeOf); 2] = [("ttft", |s| s.ttft_ns.as_slice()), ("tpot", |s| s.tpot_ns.as_slice())];
/// Percentiles of a repeat's requests, with the words that name them in a metric.
const PERCENTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"), (0.999, "p999")];
/// Whether a tenant is a server.
pub fn is_server(t: &cotenant_store::format::TenantRecord) -> bool {
    t.kind == "server"
}

/// What is counted of a time of a tenant in a phase, ms.
fn times(phase: &PhaseRecord, tenant: &str, of: TimeOf) -> Vec<f64> {
    let Some(run) = phase.tenants.iter().find(|t| t.name == tenant) else { return Vec::new() };
    let Some(served) = &run.served else { return Vec::new() };
    let kept = of(served).get(counted(run)).unwrap_or_default();
    kept.iter().filter(|ns| **ns > 0).map(|ns| *ns as f64 / 1e6).collect()
}

/// Adds the per-repeat values of one repeat. `together`: the phase in which the tenants are together.
pub(crate) fn observe(s: &mut TrialSamples<'_>, repeat: &RepeatRecord, together: Option<&str>) {
    let trial = s.trial;
    let phase = |name: &str| repeat.phases.iter().filter(move |p| p.phase == name).collect::<Vec<_>>();
    let servers: Vec<&str> = trial.tenants.iter().filter(|t| is_server(t)).map(|t| t.name.as_str()).collect();
    let mut goodput = Vec::new();
    for name in &servers {
        for (stem, of) in TIMES {
            let in_phase =
                |kind: &str| -> Vec<f64> { phase(kind).iter().flat_map(|p| times(p, name, of)).collect() };
            let alone = in_phase("solo");
            let shared = together.map(in_phase).unwrap_or_default();
            for (p, words) in PERCENTILES {
                let (a, b) = (quantile(&alone, p), quantile(&shared, p));
                if together != Some("solo") {
                    s.push_ok(format!("solo_{stem}_{words}_ms.{name}"), a);
                }
                s.push_ok(format!("{stem}_{words}_ms.{name}"), b);
            }
            if let (Ok(a), Ok(b)) = (quantile(&alone, 0.5), quantile(&in_phase("shared"), 0.5)) {
                s.push(format!("slowdown_{stem}.{name}"), b / a);
            }
        }
        for (prefix, kind) in [("solo_", Some("solo")), ("", together)] {
            let Some(kind) = kind.filter(|k| prefix.is_empty() || together != Some(*k)) else { continue };
            for p in phase(kind) {
                let Some(run) = p.tenants.iter().find(|t| t.name == *name) else { continue };
                let Some(served) = &run.served else { continue };
                let failed: u32 = served.failed.values().sum();
                for (metric, value) in of_requests(run, served) {
                    s.push(format!("{prefix}{metric}.{name}"), value);
                }
                s.push(
                    format!("{prefix}failed_pct.{name}"),
                    100.0 * f64::from(failed) / f64::from(served.requests.max(1)),
                );
                if let Some(said) = &served.said {
                    for (metric, value) in [
                        ("batch", said.running_mean),
                        ("queue", said.waiting_mean),
                        ("queue_time_ms", said.queue_time_ms),
                        ("kv_pct", said.kv_usage_max.map(|v| 100.0 * v)),
                        ("preemptions", said.preemptions),
                    ] {
                        if let Some(v) = value {
                            s.push(format!("{prefix}{metric}.{name}"), v);
                        }
                    }
                }
                if let Some(slo) = &served.slo {
                    let good = counted(run).filter(|i| kept(slo, served, &run.requests_ns, *i)).count();
                    if let Some(seconds) = seconds(served) {
                        s.push(format!("{prefix}goodput_per_s.{name}"), good as f64 / seconds);
                        if prefix.is_empty() {
                            goodput.push(good as f64 / seconds);
                        }
                    }
                    // Failed requests have kept nothing.
                    let of = counted(run).len() + failed as usize;
                    s.push(format!("{prefix}slo_pct.{name}"), 100.0 * good as f64 / of.max(1) as f64);
                }
            }
        }
    }
    let Some(kind) = together.filter(|_| !servers.is_empty()) else { return };
    if goodput.len() == servers.len() {
        s.push("goodput_per_s", goodput.iter().sum());
    }
    for (stem, of) in TIMES {
        let all: Vec<f64> =
            servers.iter().flat_map(|n| phase(kind).into_iter().flat_map(move |p| times(p, n, of))).collect();
        for (p, words) in PERCENTILES {
            s.push_ok(format!("{stem}_{words}_ms"), quantile(&all, p));
        }
    }
    let latencies: Vec<f64> = servers
        .iter()
        .flat_map(|n| phase(kind).into_iter().filter_map(move |p| p.tenants.iter().find(|t| t.name == *n)))
        .flat_map(|run| {
            run.requests_ns.get(counted(run)).unwrap_or_default().iter().map(|ns| *ns as f64 / 1e6)
        })
        .collect();
    for (p, words) in PERCENTILES {
        s.push_ok(format!("latency_{words}_ms"), quantile(&latencies, p));
    }
}

/// Length of the window that counts, s; `None` for an empty one.
fn seconds(served: &ServedPhase) -> Option<f64> {
    let (from, to) = served.window_ns;
    (to > from).then(|| (to - from) as f64 / 1e9)
}

/// Gaps between chunks in the window that counts, ms. What another version wrote has nothing to say.
pub(crate) fn gaps_of(served: &ServedPhase) -> Sketch {
    let (from, to) = served.window_ns;
    Gaps::deserialize(&served.gaps).unwrap_or_default().by_chunk(from, to)
}

/// What else is counted of a server's requests in a phase: gaps between chunks, end-to-end time by output token, tokens with those of
/// prompts, and how late the client sent.
fn of_requests(run: &PhaseTenant, served: &ServedPhase) -> Vec<(String, f64)> {
    let mut out = Vec::new();
    let mut add = |name: &str, value: Option<f64>| out.extend(value.map(|v| (name.to_owned(), v)));
    let by_chunk = gaps_of(served);
    add("itl_p50_ms", by_chunk.quantile(0.5));
    add("itl_p99_ms", by_chunk.quantile(0.99));
    let e2e = run.requests_ns.get(counted(run)).unwrap_or_default();
    let tokens = served.tokens.get(counted(run)).unwrap_or_default();
    let by_token: Vec<f64> = e2e
        .iter()
        .zip(tokens)
        .filter(|(_, n)| **n > 0)
        .map(|(ns, n)| *ns as f64 / 1e6 / f64::from(*n))
        .collect();
    add("normalised_p50_ms", quantile(&by_token, 0.5).ok());
    let late: Vec<f64> = served.late_ns.iter().map(|ns| *ns as f64 / 1e6).collect();
    add("late_p99_ms", quantile(&late, 0.99).ok());
    let output: u64 = served.tokens.iter().map(|n| u64::from(*n)).sum();
    if let (Some(rate), true) = (tokens_per_s(run), output > 0) {
        add("total_tokens_per_s", Some(rate * (1.0 + served.prompt_tokens as f64 / output as f64)));
    }
    out
}

/// Whether request `i` kept the limits.
fn kept(slo: &Slo, s: &ServedPhase, e2e_ns: &[u64], i: usize) -> bool {
    let within = |limit: Option<f64>, ns: Option<&u64>| {
        limit.is_none_or(|ms| ns.is_some_and(|ns| *ns as f64 / 1e6 <= ms))
    };
    within(slo.ttft_ms, s.ttft_ns.get(i))
        && within(slo.tpot_ms, s.tpot_ns.get(i))
        && within(slo.e2e_ms, e2e_ns.get(i))
}

/// The table of servers, a row for each: what was asked, and its times alone and together.
pub(crate) fn table(trials: &[(&TrialRecord, &TrialSummary)]) -> Option<TableBlock> {
    const HEAD: [&str; 16] = [
        "trial",
        "server",
        "load",
        "tok/s",
        "TTFT p50 alone",
        "TTFT p50",
        "TTFT p99",
        "slowdown",
        "TPOT p50 alone",
        "TPOT p50",
        "TPOT p99",
        "slowdown",
        "within limits",
        "batch",
        "queue",
        "KV cache",
    ];
    let mut rows = Vec::new();
    for (trial, summary) in trials.iter().filter(|(_, s)| !s.metrics.is_empty()) {
        for (i, t) in trial.tenants.iter().filter(|t| is_server(t)).enumerate() {
            let of = |name: &str| summary.metrics.get(&format!("{name}.{}", t.name));
            let value = |name: &str| of(name).map_or_else(String::new, |e: &Estimate| metric::value(e.value));
            let ratio = |name: &str| {
                of(name).map_or_else(String::new, |e| {
                    format!("{} {}", metric::with_unit("slowdown", e.value), metric::interval(e))
                })
            };
            rows.push(vec![
                if i == 0 { trial.id.clone() } else { String::new() },
                t.name.clone(),
                load_words(&t.workload["load"]),
                value("tokens_per_s"),
                value("solo_ttft_p50_ms"),
                value("ttft_p50_ms"),
                value("ttft_p99_ms"),
                ratio("slowdown_ttft"),
                value("solo_tpot_p50_ms"),
                value("tpot_p50_ms"),
                value("tpot_p99_ms"),
                ratio("slowdown_tpot"),
                of("slo_pct").map_or_else(String::new, |e| metric::with_unit("slo_pct", e.value)),
                value("batch"),
                value("queue"),
                of("kv_pct").map_or_else(String::new, |e| metric::with_unit("kv_pct", e.value)),
            ]);
        }
    }
    let used: Vec<usize> =
        (0..HEAD.len()).filter(|c| rows.iter().any(|r: &Vec<String>| !r[*c].is_empty())).collect();
    (!rows.is_empty()).then(|| TableBlock {
        head: used.iter().map(|c| HEAD[*c].to_owned()).collect(),
        numeric: used.iter().enumerate().filter(|(_, c)| **c > 2).map(|(i, _)| i).collect(),
        rows: rows.iter().map(|r| used.iter().map(|c| r[*c].clone()).collect()).collect(),
    })
}

/// A load in few words: `16 users`, `4/s gamma(3)`.
fn load_words(load: &serde_json::Value) -> String {
    if let Some(users) = load["concurrency"].as_u64() {
        return format!("{users} users");
    }
    let text = |key: &str| load[key].as_str().map(|s| format!(" {s}")).unwrap_or_default();
    match load["rate"].as_f64() {
        Some(rate) => {
            let kind = if load["trace"].is_string() { " trace".to_owned() } else { text("arrivals") };
            format!("{}/s{kind}{}", metric::value(rate), text("profile"))
        }
        None => "trace".to_owned(),
    }
}
