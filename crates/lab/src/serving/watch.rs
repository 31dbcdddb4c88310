//! What a server says of itself while it is under load: asked again and again, on a thread of its own.

use crate::program::monotonic_ns;
use cotenant_servers::{Endpoint, ServerState};
use cotenant_store::serving::ServerSaid;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two questions. Servers answer from the process that also takes requests: seldom enough to cost them nothing.
const EVERY: Duration = Duration::from_millis(250);
/// Between two looks whether it is over.
const LOOK: Duration = Duration::from_millis(5);
/// Time limit of an answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Columns of `server-metrics.csv`.
pub const SERVER_METRICS_HEADER: &str =
    "trial,attempt,repeat,phase,tenant,t_s,running,waiting,kv_cache_pct,preemptions";

/// One answer of a server about itself.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerMoment {
    /// When it came, ns since the start of the phase; the first one comes before that.
    pub t_ns: i64,
    /// Requests in its batch.
    pub running: Option<f64>,
    /// Requests that wait for a place in it.
    pub waiting: Option<f64>,
    /// Part of the KV cache in use, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Requests that lost their place to others, since the server's start.
    pub preemptions: Option<f64>,
}

impl ServerMoment {
    fn new(t_ns: i64, s: &ServerState) -> ServerMoment {
        ServerMoment {
            t_ns,
            running: s.running,
            waiting: s.waiting,
            kv_usage: s.kv_usage,
            preemptions: s.preemptions,
        }
    }

    /// The last columns of `server-metrics.csv`, from `t_s` on. What the server does not say is an empty cell.
    pub fn cells(&self) -> String {
        let cell = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
        let kv = self.kv_usage.map_or_else(String::new, |v| format!("{:.3}", 100.0 * v));
        let (running, waiting, preempted) = (cell(self.running), cell(self.waiting), cell(self.preemptions));
        format!("{:.4},{running},{waiting},{kv},{preempted}", self.t_ns as f64 / 1e9)
    }
}

/// What a server said: summed up, and each answer.
pub type Heard = (Option<ServerSaid>, Vec<ServerMoment>);

/// A server that is being asked.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(u64, ServerState)>>>,
    start_ns: u64,
}

impl Watch {
    /// Begins to ask, in a phase that starts at `start_ns` of `CLOCK_MONOTONIC`. A server that shows no metrics is asked once.
    pub fn start(endpoint: &Endpoint, start_ns: u64) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let (flag, endpoint) = (Arc::clone(&over), endpoint.clone());
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
            let mut said = Vec::new();
            loop {
                match endpoint.state(LIMIT) {
                    Ok(Some(state)) => said.push((monotonic_ns(), state)),
                    // It has none, or does not answer now: its requests will say what is wrong.
                    Ok(None) | Err(_) => return said,
                }
                let mut waited = Duration::ZERO;
                while waited < EVERY {
                    if flag.load(Ordering::Relaxed) {
                        // Once more at the end, for the counts.
                        said.extend(endpoint.state(LIMIT).ok().flatten().map(|s| (monotonic_ns(), s)));
                        return said;
                    }
                    std::thread::sleep(LOOK);
                    waited += LOOK;
                }
            }
        });
        Watch { over, thread: thread.ok(), start_ns }
    }

    /// Ends, and gives what was said.
    pub fn finish(mut self) -> Heard {
        self.over.store(true, Ordering::Relaxed);
        let said = self.thread.take().and_then(|t| t.join().ok()).unwrap_or_default();
        let since = |at: u64| at as i64 - self.start_ns as i64;
        let moments = said.iter().map(|(at, state)| ServerMoment::new(since(*at), state)).collect();
        let states: Vec<ServerState> = said.into_iter().map(|(_, state)| state).collect();
        (sum_up(&states), moments)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// `None` where nothing was told. The first and the last answer lie outside of the load and are for counts only.
fn sum_up(said: &[ServerState]) -> Option<ServerSaid> {
    let (first, last) = (said.first()?, said.last()?);
    let inside = if said.len() > 2 { &said[1..said.len() - 1] } else { said };
    let of = |value: fn(&ServerState) -> Option<f64>| inside.iter().filter_map(value).collect::<Vec<f64>>();
    let mean = |v: Vec<f64>| (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64);
    let most = |v: Vec<f64>| v.into_iter().reduce(f64::max);
    let grown = |value: fn(&ServerState) -> Option<f64>| Some((value(last)? - value(first)?).max(0.0));
    let waited = grown(|s| s.queue_time_s).zip(grown(|s| s.queued).filter(|n| *n > 0.0));
    let out = ServerSaid {
        answers: said.len() as u32,
        running_mean: mean(of(|s| s.running)),
        running_max: most(of(|s| s.running)),
        waiting_mean: mean(of(|s| s.waiting)),
        waiting_max: most(of(|s| s.waiting)),
        kv_usage_max: most(of(|s| s.kv_usage)),
        preemptions: grown(|s| s.preemptions),
        generation_tokens: grown(|s| s.generation_tokens),
        queue_time_ms: waited.map(|(seconds, requests)| 1e3 * seconds / requests),
    };
    let told = [
        out.running_mean,
        out.waiting_mean,
        out.kv_usage_max,
        out.preemptions,
        out.generation_tokens,
        out.queue_time_ms,
    ];
    told.iter().any(Option::is_some).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_of_the_load_and_counts_over_all_of_it() {
        let state = |running, kv, tokens| ServerState {
            running: Some(running),
            kv_usage: Some(kv),
            generation_tokens: Some(tokens),
            ..ServerState::default()
        };
        let said =
            [state(0.0, 0.0, 100.0), state(4.0, 0.2, 150.0), state(8.0, 0.4, 300.0), state(0.0, 0.0, 420.0)];
        let s = sum_up(&said).expect("told");
        assert_eq!((s.running_mean, s.running_max, s.kv_usage_max), (Some(6.0), Some(8.0), Some(0.4)));
        assert_eq!((s.generation_tokens, s.preemptions, s.waiting_mean), (Some(320.0), None, None));
        let queue = |seconds, requests| ServerState {
            queue_time_s: Some(seconds),
            queued: Some(requests),
            ..ServerState::default()
        };
        let said = [queue(100.0, 50.0), queue(101.0, 60.0), queue(103.0, 62.0)];
        let waited = |said: &[ServerState]| sum_up(said).and_then(|s| s.queue_time_ms);
        assert_eq!(waited(&said), Some(250.0), "3 s over 12 requests; those of before do not count");
        assert_eq!(waited(&[queue(1.0, 5.0), queue(1.0, 5.0)]), None, "no request, no mean");
        assert_eq!(sum_up(&[ServerState::default()]), None);
        assert_eq!(sum_up(&[]), None);
    }

    #[test]
    fn an_answer_is_a_row() {
        let said = ServerState {
            running: Some(3.0),
            kv_usage: Some(0.1234),
            preemptions: Some(2.0),
            ..ServerState::default()
        };
        assert_eq!(ServerMoment::new(1_250_049_000, &said).cells(), "1.2500,3,,12.340,2");
        assert_eq!(ServerMoment::new(-2_000_000, &ServerState::default()).cells(), "-0.0020,,,,");
        assert_eq!(SERVER_METRICS_HEADER.split(',').skip_while(|c| *c != "t_s").count(), 5);
    }
}
