//! How far the client's stamps are from what servers did, when one core takes many paced streams.
//!
//! ```text
//! cargo run --release -p cotenant-lab --example paced-streams -- STREAMS ITL_MS SECONDS SERVERS
//! ```
//!
//! SERVERS token servers, a thread each, share the streams; the client has core 0 to itself, they have the others (where there
//! are others). The stamp error of a chunk is the client's stamp less the time at which the server's `write()` of it had returned;
//! it is slightly below zero where the client was faster than the return. Prints one JSON object.
//!
//! No stamp can be better than the machine: before the streams the client's core does nothing for two seconds but read the clock, and
//! `machine` says for what share of that time it was away for more than 0.1 ms. Where that is a hundredth, no 99th percentile means
//! anything below the length of those gaps.

use cotenant_lab::serving::{LoadSource, Models, TenantLoad, prepare};
use cotenant_prompts::{Asks, Form, Length, Synthetic, Words};
use cotenant_serve::BodyOptions;
use cotenant_store::serving::RequestLine;
use cotenant_token_server::{Handle, Options, Pace, Truth, spawn};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// All requests begin within this, ns.
const BEGIN_NS: u64 = 1_000_000_000;

fn pin(cores: impl Iterator<Item = usize>) -> Result<(), rustix::io::Errno> {
    let mut set = CpuSet::new();
    cores.for_each(|c| set.set(c));
    sched_setaffinity(None, &set)
}

fn load(server: &Handle, which: usize, streams: u64, tokens: u32) -> Result<TenantLoad, Box<dyn Error>> {
    let synthetic = Synthetic {
        prompt: Length::Exact(8),
        output: Length::Exact(tokens),
        prefix: None,
        replay: None,
        vocabulary: Arc::new(Words::new(0, 1000)?),
        form: Form::Chat,
        seed: which as u64,
    };
    // Spread over the first second, so that neither side has to do all at once.
    let times = (0..streams).map(|i| i * BEGIN_NS / streams + which as u64 * 10_000).collect();
    Ok(TenantLoad {
        line: RequestLine { tenant: which.to_string(), ..RequestLine::default() },
        url: server.url(),
        headers: Vec::new(),
        body: BodyOptions::chat("simulated"),
        models: Models::default(),
        asks: Asks::synthetic(synthetic)?,
        source: LoadSource::Open { times },
        in_flight: u32::try_from(streams)?,
        timeout_ns: 120_000_000_000,
        chunks: true,
        control: None,
    })
}

/// Time in which this thread was not let run although it wanted to, for more than 0.1 ms at a time.
fn stalls() -> serde_json::Value {
    let now = cotenant_token_server::now_ns;
    let (start, mut before, mut lost, mut longest) = (now(), now(), 0, 0);
    while before - start < 2_000_000_000 {
        let at = now();
        let gap = at - before;
        if gap > 100_000 {
            lost += gap;
            longest = longest.max(gap);
        }
        before = at;
    }
    serde_json::json!({"away_pct": lost as f64 / (before - start) as f64 * 100.0, "longest_ms": longest as f64 / 1e6})
}

fn quantile(sorted: &[f64], p: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * p).round() as usize).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<f64> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let [streams, itl_ms, seconds, servers] = args[..] else {
        return Err("four numbers: STREAMS ITL_MS SECONDS SERVERS".into());
    };
    let servers = servers as usize;
    let each = streams as u64 / servers.max(1) as u64;
    let tokens = (seconds * 1e3 / itl_ms) as u32;
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&c| allowed.is_set(c)).collect();
    let (client, others) = cores.split_first().ok_or("no cores")?;
    pin(if others.is_empty() { vec![*client] } else { others.to_vec() }.into_iter())?;

    let itl = Duration::from_secs_f64(itl_ms / 1e3);
    let pace = Pace::Fixed { ttft: itl, itl };
    let start = |_| spawn(Options { pace: pace.clone(), keep_chunks: true, ..Options::default() });
    let handles: Vec<Handle> = (0..servers).map(start).collect::<Result<_, _>>()?;
    let loads: Result<Vec<TenantLoad>, _> =
        handles.iter().enumerate().map(|(i, h)| load(h, i, each, tokens)).collect();
    let path = std::env::temp_dir().join(format!("cotenant-streams-{}.jsonl", std::process::id()));
    let prepared = prepare(loads?, std::fs::File::create(&path)?)?;
    pin(std::iter::once(*client))?;
    let stalls = stalls();
    let driven = prepared.run(None, u64::MAX, &|| false);
    let text = std::fs::read_to_string(&path);
    let _ = std::fs::remove_file(&path);
    let (driven, text) = (driven?, text?);
    std::thread::sleep(Duration::from_millis(200));

    let mut truth: HashMap<(String, String), Truth> = HashMap::new();
    for (i, h) in handles.iter().enumerate() {
        truth.extend(h.truth().into_iter().filter_map(|t| Some(((i.to_string(), t.request_id.clone()?), t))));
    }
    let (mut errors, mut late, mut behind, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0u64);
    for line in text.lines() {
        let line: RequestLine = serde_json::from_str(line)?;
        let r = &line.record;
        late.extend(r.sent_ns.map(|s| s.saturating_sub(r.intended_ns) as f64 / 1e6));
        let known = truth.get(&(line.tenant.clone(), format!("cotenant-{}", r.index)));
        let Some(t) = known.filter(|t| r.failure.is_none() && t.chunk_ns.len() == line.chunks_ns.len())
        else {
            failed += 1;
            continue;
        };
        let real = |ns: u64| ns as f64 - driven.start_ns as f64;
        errors.extend(
            line.chunks_ns.iter().zip(&t.chunk_ns).map(|(&ours, &its)| (ours as f64 - real(its)) / 1e6),
        );
        // How late the server itself was with its last chunk: what it was asked for is a distance of ITL.
        if let (Some(&first), Some(&last)) = (t.chunk_ns.first(), t.chunk_ns.last()) {
            behind.push((last - first) as f64 / 1e6 - itl_ms * (t.chunk_ns.len() - 1) as f64);
        }
    }
    for v in [&mut errors, &mut late, &mut behind] {
        v.sort_unstable_by(f64::total_cmp);
    }
    let o = &driven.outcome;
    let out = serde_json::json!({
        "streams": each * servers as u64, "itl_ms": itl_ms, "servers": servers, "cores": cores.len(),
        "chunks": errors.len(), "chunks_per_s": errors.len() as f64 / (o.wall_ns as f64 / 1e9),
        "failed_or_unmatched": failed,
        "stamp_error_ms": {"p1": quantile(&errors, 0.01), "p50": quantile(&errors, 0.5), "p99": quantile(&errors, 0.99),
            "p999": quantile(&errors, 0.999), "max": errors.last()},
        "send_lateness_ms": {"p50": quantile(&late, 0.5), "p99": quantile(&late, 0.99)},
        "server_behind_ms": {"p50": quantile(&behind, 0.5), "p99": quantile(&behind, 0.99)},
        "client_core_busiest": o.busiest, "client_cpu_s": o.cpu_ns as f64 / 1e9, "wall_s": o.wall_ns as f64 / 1e9,
        "peak_in_flight": o.peak_in_flight, "machine": stalls,
    });
    println!("{out}");
    Ok(())
}
