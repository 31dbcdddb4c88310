//! Which part of a phase counts.

use cotenant_stats::mser5;
use cotenant_store::serving::{RequestRecord, Window};

/// How the window is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// From the intended time of the first request behind the warm-up to that of the last one sent. Behind it the
    /// load dies down, and what comes then is not what was asked for.
    Whole {
        /// Requests of the warm-up.
        warmup: u64,
    },
    /// The same, but for what MSER-5 finds to belong to the start-up, by the requests' latency.
    Steady {
        /// Requests of the warm-up.
        warmup: u64,
    },
}

/// Chooses the window. `records` in any order.
pub fn choose(records: &[RequestRecord], choice: Choice) -> Window {
    let (Choice::Whole { warmup } | Choice::Steady { warmup }) = choice;
    let mut counted: Vec<&RequestRecord> = records.iter().filter(|r| r.index >= warmup).collect();
    counted.sort_unstable_by_key(|r| (r.intended_ns, r.index));
    let (Some(first), Some(last)) = (counted.first(), counted.last()) else {
        return Window { from_ns: 0, to_ns: 0, how: "no request is left behind the warm-up".into() };
    };
    let whole = match warmup {
        0 => "from the first request to the last one sent".to_owned(),
        n => format!("from request {n} to the last one sent"),
    };
    // A single request, or all at one moment: up to its end.
    let to_ns = if last.intended_ns > first.intended_ns {
        last.intended_ns
    } else {
        records.iter().map(|r| r.end_ns).max().unwrap_or(0)
    };
    let window = |from_ns, how| Window { from_ns, to_ns, how };
    if matches!(choice, Choice::Whole { .. }) {
        return window(first.intended_ns, whole);
    }
    let latencies: Vec<f64> =
        counted.iter().filter(|r| r.ok()).map(|r| (r.end_ns - r.intended_ns.min(r.end_ns)) as f64).collect();
    match mser5(&latencies) {
        Some(0) => window(first.intended_ns, format!("{whole}; steady from its start (MSER-5)")),
        Some(cut) => {
            let ok: Vec<&&RequestRecord> = counted.iter().filter(|r| r.ok()).collect();
            let from = ok.get(cut).map_or(first.intended_ns, |r| r.intended_ns);
            window(from, format!("{whole}, without {cut} more that belong to the start-up (MSER-5)"))
        }
        None if latencies.len() < 50 => {
            window(first.intended_ns, format!("{whole}; too few to find a steady part"))
        }
        None => window(first.intended_ns, format!("{whole}; it did not become steady (MSER-5)")),
    }
}
