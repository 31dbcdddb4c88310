//! Verdicts in words, and the few numbers that sum a run up.

use crate::compare::{ErrorSummary, compare_reference};
use crate::iterations::is_program;
use crate::labels::Workloads;
use crate::{RunData, metric};
use cotenant_store::format::{TenantRecord, TrialRecord, TrialSummary};
use serde::Serialize;

/// One sentence of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Says {
    /// `slower`, `faster`, `same`, `ambiguous`, or empty where no verdict is given.
    pub verdict: String,
    /// CSS class of the verdict.
    pub class: &'static str,
    /// A mark beside the word, for readers who do not tell the colours apart.
    pub mark: &'static str,
    /// The sentence.
    pub text: String,
    /// The interval.
    pub interval: String,
}

/// A number with a name and a remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tile {
    /// What it is.
    pub name: String,
    /// The number.
    pub number: String,
    /// Where, or of how many.
    pub about: String,
}

/// Names that are listed before the rest is only counted.
const LISTED: usize = 4;

/// Names joined as in a sentence: `a`, `a and b`, `a, b and c`, `a, b, c and 7 others`.
fn list(names: &[&str]) -> String {
    match names {
        many if many.len() > LISTED => {
            let listed = many[..LISTED - 1].join(", ");
            format!("{listed} and {} others", many.len() + 1 - LISTED)
        }
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// What a trial shows, one sentence for each slowdown and one for the speedup; `brief`: a few words each.
pub fn trial_says(trial: &TrialRecord, summary: &TrialSummary, brief: bool) -> Vec<Says> {
    let mut out = groups_say(trial, summary);
    let grouped = !out.is_empty();
    for tenant in trial.tenants.iter().filter(|_| !grouped) {
        let name = if is_program(tenant) { "slowdown_p50" } else { "slowdown" };
        let name = format!("{name}.{}", tenant.name);
        let Some(e) = summary.metrics.get(&name) else { continue };
        let others: Vec<&str> =
            trial.tenants.iter().filter(|t| t.name != tenant.name).map(|t| t.name.as_str()).collect();
        let beside = if others.is_empty() { String::new() } else { format!(" beside {}", list(&others)) };
        let verdict = summary.verdicts.get(&name).map_or("", String::as_str);
        let times = format!("{}×", metric::value(e.value));
        let text = match verdict {
            _ if brief => format!("{} {times}", tenant.name),
            "slower" => format!("{} takes {times} as long{beside}", tenant.name),
            "faster" => format!("{} takes only {times} as long{beside}", tenant.name),
            "same" => format!("{} is not disturbed{beside}: {times}", tenant.name),
            _ => format!("{} takes {times} as long{beside}; the repeats do not tell it from 1", tenant.name),
        };
        let (class, mark) = look(verdict);
        out.push(Says { verdict: verdict.to_owned(), class, mark, text, interval: metric::interval(e) });
    }
    if let Some(e) = summary.metrics.get("speedup") {
        let rest = if brief { "" } else { " as fast as one after the other" };
        let text = format!("together {}×{rest}", metric::value(e.value));
        out.push(Says { verdict: String::new(), class: "", mark: "", text, interval: metric::interval(e) });
    }
    if out.is_empty() {
        for tenant in &trial.tenants {
            let (name, what) =
                if is_program(tenant) { ("solo_p50_ms", "iteration") } else { ("solo_ms", "launch") };
            if let Some(e) = summary.metrics.get(&format!("{name}.{}", tenant.name)) {
                let text = format!("{} alone: {} ms per {what}", tenant.name, metric::value(e.value));
                out.push(Says {
                    verdict: String::new(),
                    class: "",
                    mark: "",
                    text,
                    interval: metric::interval(e),
                });
            }
        }
        if let (Some(e), false) = (summary.metrics.get("utilization_pct"), out.is_empty()) {
            let text = format!("nvidia-smi's utilisation reads {} %", metric::value(e.value));
            out.push(Says {
                verdict: String::new(),
                class: "",
                mark: "",
                text,
                interval: metric::interval(e),
            });
        }
    }
    out
}

/// Tenants from which on those of one workload are told of together.
const TOGETHER_FROM: usize = 5;

/// One sentence for each workload of a trial of many models or programs; nothing for other trials.
fn groups_say(trial: &TrialRecord, summary: &TrialSummary) -> Vec<Says> {
    if trial.tenants.len() < TOGETHER_FROM || !trial.tenants.iter().all(is_program) {
        return Vec::new();
    }
    let names = Workloads::of([trial]);
    let sentence = |workload: String| -> Option<Says> {
        let group: Vec<&TenantRecord> = trial.tenants.iter().filter(|t| names.name(t) == workload).collect();
        let of =
            |t: &&TenantRecord| summary.metrics.get(&format!("slowdown_p50.{}", t.name)).map(|e| e.value);
        let values: Vec<f64> = group.iter().filter_map(of).collect();
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let verdict_of = |t: &&TenantRecord| summary.verdicts.get(&format!("slowdown_p50.{}", t.name));
        let verdicts: Vec<&String> = group.iter().filter_map(verdict_of).collect();
        let first = verdicts.first().map_or("", |v| v.as_str());
        let verdict = if verdicts.iter().all(|v| v.as_str() == first) { first } else { "ambiguous" };
        let (class, mark) = look(verdict);
        let times = |v: f64| format!("{}×", metric::value(v));
        (!values.is_empty()).then(|| Says {
            verdict: verdict.to_owned(),
            class,
            mark,
            text: match group.len() {
                1 => format!("{workload} {}", times(low)),
                n => format!("{n} {workload} {} to {}", times(low), times(high)),
            },
            interval: String::new(),
        })
    };
    names.names().into_iter().filter_map(sentence).collect()
}

/// Class and mark of a verdict.
fn look(verdict: &str) -> (&'static str, &'static str) {
    match verdict {
        "slower" => ("slower", "▲"),
        "faster" => ("faster", "▼"),
        "same" => ("same", "="),
        _ => ("ambiguous", "?"),
    }
}

/// The numbers that sum the run up.
pub fn tiles(run: &RunData) -> Vec<Tile> {
    let mut out = Vec::new();
    let slowdowns = run.summary.trials.iter().flat_map(|t| {
        let own = t.metrics.iter().filter(|(m, _)| m.starts_with("slowdown."));
        own.map(|(m, e)| (t.trial.as_str(), m.as_str(), e.value))
    });
    if let Some((trial, m, v)) = slowdowns.max_by(|a, b| a.2.total_cmp(&b.2)) {
        let about = format!("{} in {trial}", metric::tenant(m).unwrap_or(m));
        out.push(Tile { name: "Largest slowdown".into(), number: metric::with_unit(m, v), about });
    }
    // Of models there is a second verdict, on the median iteration: each tenant counts once.
    let mean = |v: &(&String, &String)| metric::base(v.0) == "slowdown";
    let verdicts: Vec<&str> =
        run.summary.trials.iter().flat_map(|t| &t.verdicts).filter(mean).map(|v| v.1.as_str()).collect();
    if !verdicts.is_empty() {
        let count = |v: &str| verdicts.iter().filter(|w| **w == v).count();
        let counts: Vec<String> = ["slower", "faster", "same", "ambiguous"]
            .into_iter()
            .filter(|v| count(v) > 0)
            .map(|v| format!("{} {v}", count(v)))
            .collect();
        out.push(Tile {
            name: "Slowed tenants".into(),
            number: format!("{} of {}", count("slower"), verdicts.len()),
            about: counts.join(" · "),
        });
    }
    let speedups =
        run.summary.trials.iter().filter_map(|t| Some((t.trial.as_str(), t.metrics.get("speedup")?.value)));
    let (low, high) = (speedups.clone().min_by(by_value), speedups.max_by(by_value));
    if let (Some((worst, low)), Some((best, high))) = (low, high) {
        let one = worst == best;
        out.push(Tile {
            name: "Speedup".into(),
            number: if one {
                metric::with_unit("speedup", high)
            } else {
                format!("{}–{}×", short(low), short(high))
            },
            about: if one {
                format!("over taking turns, {best}")
            } else {
                format!("over taking turns: least in {worst}, most in {best}")
            },
        });
    }
    let idle = run.summary.trials.iter().flat_map(|t| {
        let own = t.metrics.iter().filter(|(m, _)| m.starts_with("launch_bound."));
        own.map(|(m, e)| (t.trial.as_str(), m.as_str(), e.value))
    });
    if let Some((trial, m, v)) = idle.max_by(|a, b| a.2.total_cmp(&b.2)) {
        out.push(Tile {
            name: "Most time without a kernel".into(),
            number: metric::with_unit(m, v),
            about: format!("{} alone, in {trial}", metric::tenant(m).unwrap_or(m)),
        });
    }
    out.extend(compare_reference(run, None).errors.iter().map(against));
    let overlaps = run.summary.trials.iter().filter_map(|t| Some((t.trial.as_str(), t.overlap?)));
    if let Some((trial, overlap)) = overlaps.min_by(by_value) {
        out.push(Tile {
            name: "Least overlap".into(),
            number: format!("{:.1} %", 100.0 * overlap),
            about: format!("in {trial}"),
        });
    }
    out
}

fn by_value(a: &(&str, f64), b: &(&str, f64)) -> std::cmp::Ordering {
    a.1.total_cmp(&b.1)
}

fn short(v: f64) -> String {
    crate::scale::significant(v, 3)
}

fn against(e: &ErrorSummary) -> Tile {
    Tile {
        name: format!("Against {}", e.against),
        number: format!("{:.1} %", 100.0 * e.mean),
        about: match e.rows {
            1 => "difference in one value".to_owned(),
            n => format!("mean difference over {n} values, worst {:.1} %", 100.0 * e.worst),
        },
    }
}
