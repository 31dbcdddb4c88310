//! What a server says of itself while it is under load: asked again and again, on a thread of its own.

use cotenant_servers::{Endpoint, ServerState};
use cotenant_store::serving::ServerSaid;
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

/// A server that is being asked.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<ServerState>>>,
}

impl Watch {
    /// Begins to ask. A server that shows no metrics is asked once.
    pub fn start(endpoint: &Endpoint) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let (flag, endpoint) = (Arc::clone(&over), endpoint.clone());
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
            let mut said = Vec::new();
            loop {
                match endpoint.state(LIMIT) {
                    Ok(Some(state)) => said.push(state),
                    // It has none, or does not answer now: its requests will say what is wrong.
                    Ok(None) | Err(_) => return said,
                }
                let mut waited = Duration::ZERO;
                while waited < EVERY {
                    if flag.load(Ordering::Relaxed) {
                        // Once more at the end, for the counts.
                        said.extend(endpoint.state(LIMIT).ok().flatten());
                        return said;
                    }
                    std::thread::sleep(LOOK);
                    waited += LOOK;
                }
            }
        });
        Watch { over, thread: thread.ok() }
    }

    /// Ends, and sums up what was said.
    pub fn finish(mut self) -> Option<ServerSaid> {
        self.over.store(true, Ordering::Relaxed);
        let said = self.thread.take()?.join().ok()?;
        sum_up(&said)
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
    let out = ServerSaid {
        answers: said.len() as u32,
        running_mean: mean(of(|s| s.running)),
        running_max: most(of(|s| s.running)),
        waiting_mean: mean(of(|s| s.waiting)),
        waiting_max: most(of(|s| s.waiting)),
        kv_usage_max: most(of(|s| s.kv_usage)),
        preemptions: grown(|s| s.preemptions),
        generation_tokens: grown(|s| s.generation_tokens),
    };
    let told = [out.running_mean, out.waiting_mean, out.kv_usage_max, out.preemptions, out.generation_tokens];
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
        assert_eq!(sum_up(&[ServerState::default()]), None);
        assert_eq!(sum_up(&[]), None);
    }
}
