//! `cargo xtask findings [--check]`: writes docs/findings.md from docs/findings.in.md and the recorded runs, so that
//! no number in it is typed and no sentence outlives the numbers that it rests on.
//!
//! In the source stand directives. Those of a metric begin with `EXPERIMENT TRIAL METRIC`:
//!
//! | directive | becomes |
//! |---|---|
//! | `{{value …}}` | the recorded value with its interval |
//! | `{{point …}}` | the value alone |
//! | `{{turns …}}` | of a share of idle time, what two of a kind gain if they fill it: 1 / (1 − share) |
//! | `{{at-alone-clock …}}` | of a rate or STP, what it would be if the SM clock together were that alone and all went by the clock |
//! | `{{rate …}}` | of a time in ms, how many of it a second has |
//! | `{{verdict …}}` | the verdict on a slowdown |
//! | `{{over … TRIAL METRIC}}` | the value over another one of the same experiment |
//! | `{{holds … < NUMBER}}`, also `>` | nothing, but the task fails where it is not so |
//! | `{{part EXPERIMENT TRIAL PART NAME}}` | in the part `all`, `some` or `one` of a shared phase, the median latency of the tenant NAME or the counter NAME |
//! | `{{part-over EXPERIMENT TRIAL PART TENANT METRIC}}` | the latency of TENANT in that part over METRIC of the trial |
//! | `{{test EXPERIMENT TRIAL A B}}` | tenants A and B while they share: ratio of wall times, corrected p-values by repeat, verdict |
//!
//! A check of a part: `{{part-holds EXPERIMENT TRIAL PART NAME < NUMBER}}`.

use clap::Args as ClapArgs;
use cotenant_report::{metric, summarize};
use cotenant_store::format::{Estimate, PairTest, Summary, TrialSummary};
use cotenant_store::load;
use std::collections::BTreeMap;
use std::path::Path;

const RESULTS: &str = "results/h100-sxm5-80gb";
const SOURCE: &str = "docs/findings.in.md";
const PAGE: &str = "docs/findings.md";

#[derive(ClapArgs)]
pub struct Args {
    /// Fail where the page is not what the source and the recorded runs give
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Result<(), String> {
    let source = std::fs::read_to_string(SOURCE).map_err(|e| format!("read {SOURCE}: {e}"))?;
    let mut runs = Runs::default();
    let page =
        fill(&source, &mut |words| runs.directive(words)).map_err(|e| format!("fill {SOURCE}: {e}"))?;
    let note =
        "<!-- Written by `cargo xtask findings` from docs/findings.in.md and results/; edit that file. -->\n";
    let page = format!("{note}{page}");
    if args.check {
        let now = std::fs::read_to_string(PAGE).map_err(|e| format!("read {PAGE}: {e}"))?;
        return if now == page {
            Ok(())
        } else {
            Err(format!("find {PAGE} up to date: run `cargo xtask findings` and commit what it writes"))
        };
    }
    std::fs::write(PAGE, page).map_err(|e| format!("write {PAGE}: {e}"))
}

/// Replaces each `{{…}}`; errors name the line.
fn fill(
    source: &str,
    directive: &mut dyn FnMut(&[&str]) -> Result<String, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(source.len());
    for (i, line) in source.lines().enumerate() {
        let mut rest = line;
        while let Some(open) = rest.find("{{") {
            let after = &rest[open + 2..];
            let close = after.find("}}").ok_or_else(|| format!("line {}: `{{{{` without `}}}}`", i + 1))?;
            let words: Vec<&str> = after[..close].split_whitespace().collect();
            let text = directive(&words).map_err(|e| format!("line {}: {e}", i + 1))?;
            out.push_str(&rest[..open]);
            out.push_str(&text);
            rest = &after[close + 2..];
        }
        out.push_str(rest);
        out.push('\n');
    }
    Ok(out)
}

/// Summaries of recorded runs, computed when first asked for.
#[derive(Default)]
struct Runs(BTreeMap<String, Summary>);

impl Runs {
    fn trial(&mut self, experiment: &str, trial: &str) -> Result<&TrialSummary, String> {
        if !self.0.contains_key(experiment) {
            let dir = Path::new(RESULTS).join(experiment);
            let run = load(&dir).map_err(|e| e.to_string())?;
            self.0.insert(experiment.to_owned(), summarize(&run.manifest, &run.repeats, &run.outcomes));
        }
        let trials = &self.0[experiment].trials;
        trials
            .iter()
            .find(|t| t.trial == trial && t.status == "done")
            .ok_or_else(|| format!("{experiment} has no finished trial {trial}"))
    }

    fn directive(&mut self, words: &[&str]) -> Result<String, String> {
        let (kind, experiment, trial, name) = match words {
            [kind, experiment, trial, name, ..] => (*kind, *experiment, *trial, *name),
            _ => return Err(format!("`{}` is not KIND EXPERIMENT TRIAL METRIC", words.join(" "))),
        };
        let t = self.trial(experiment, trial)?;
        match (kind, words) {
            ("part", [_, _, _, part, name]) => {
                return part_of(t, part, name).map(|(unit, e)| with_interval(unit, e));
            }
            ("part-over", [_, _, _, part, name, base]) => {
                let base = metric_of(t, base)?.value;
                return Ok(format!("{:.2}×", part_of(t, part, name)?.1.value / base));
            }
            ("part-holds", [_, _, _, part, name, sign, limit]) => {
                let what = format!("{experiment} {trial} {part} {name}");
                return holds(&what, part_of(t, part, name)?.1.value, sign, limit);
            }
            ("test", [_, _, _, a, b]) => return test_of(t, a, b),
            _ => {}
        }
        if kind == "verdict" {
            let v = t
                .verdicts
                .get(name)
                .ok_or_else(|| format!("{experiment} {trial} has no verdict on {name}"))?;
            return Ok(v.clone());
        }
        let e = *metric_of(t, name)?;
        match (kind, words.get(4..).unwrap_or_default()) {
            ("value", []) => Ok(with_interval(name, &e)),
            ("point", []) => Ok(metric::with_unit(name, e.value)),
            ("at-alone-clock", []) => {
                let ratio = metric_of(self.trial(experiment, trial)?, "clock_ratio")?.value;
                Ok(format!("{:.2}", e.value / ratio))
            }
            ("turns", []) => Ok(format!("{:.2}", 1.0 / (1.0 - e.value))),
            ("rate", []) => Ok(format!("{} it/s", metric::value(1e3 / e.value))),
            ("over", [trial, other]) => {
                let base = metric_of(self.trial(experiment, trial)?, other)?.value;
                Ok(format!("{:.2}", e.value / base))
            }
            ("holds", [sign, limit]) => holds(&format!("{experiment} {trial} {name}"), e.value, sign, limit),
            _ => Err(format!("`{}` is no directive", words.join(" "))),
        }
    }
}

fn metric_of<'t>(t: &'t TrialSummary, name: &str) -> Result<&'t Estimate, String> {
    t.metrics.get(name).ok_or_else(|| {
        let near: Vec<&str> = t.metrics.keys().map(String::as_str).collect();
        format!("{} has no {name}, but {}", t.trial, near.join(", "))
    })
}

fn with_interval(name: &str, e: &Estimate) -> String {
    format!("{} {}", metric::with_unit(name, e.value), metric::interval_of(name, e))
}

fn holds(what: &str, value: f64, sign: &str, limit: &str) -> Result<String, String> {
    let number: f64 = limit.parse().map_err(|_| format!("`{limit}` is no number"))?;
    let so = match sign {
        "<" => value < number,
        ">" => value > number,
        other => return Err(format!("`{other}` is neither < nor >")),
    };
    if so { Ok(String::new()) } else { Err(format!("{what} is {value}, not {sign} {limit}: mend the text")) }
}

/// A tenant's median latency or a counter in a part of the shared phase, with the name of its metric.
fn part_of<'a>(t: &'a TrialSummary, part: &str, name: &'a str) -> Result<(&'a str, &'a Estimate), String> {
    let p = t.parts.iter().find(|p| p.active == part);
    let p = p.ok_or_else(|| format!("{} has no part `{part}`", t.trial))?;
    let latency = p.p50_ms.get(name).map(|e| ("p50_ms", e));
    latency.or_else(|| p.state.get(name).map(|e| (name, e))).ok_or_else(|| {
        let near: Vec<&str> = p.p50_ms.keys().chain(p.state.keys()).map(String::as_str).collect();
        format!("{} has no {name} in the part {part}, but {}", t.trial, near.join(", "))
    })
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// Two tenants of one workload against each other.
fn test_of(t: &TrialSummary, a: &str, b: &str) -> Result<String, String> {
    let of = |x: &&PairTest| x.kind == "tenants" && x.clock == "wall" && x.a == a && x.b == b;
    let x = t.tests.iter().find(of).ok_or_else(|| format!("{} has no test of {a} against {b}", t.trial))?;
    let r = &x.by_repeat;
    let tests = [
        ("Welch", r.welch.as_ref()),
        ("Mann–Whitney", Some(&r.mann_whitney)),
        ("Kolmogorov–Smirnov", Some(&r.kolmogorov_smirnov)),
    ];
    let told: Vec<String> = tests
        .iter()
        .filter_map(|(name, v)| Some(format!("{name} {}", p_value(v.as_ref()?.adjusted_p))))
        .collect();
    Ok(format!(
        "{} {}, n = {}, *{}* (p after Holm: {})",
        metric::value(x.ratio.value),
        metric::interval(&x.ratio),
        x.ratio.n,
        x.verdict,
        told.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_replaced_and_errors_name_the_line() {
        let mut seen = Vec::new();
        let filled = fill("a {{value e t m}} b\nc {{point e t m}}{{holds e t m < 1}}", &mut |w| {
            seen.push(w.join(" "));
            Ok(w[0].to_uppercase())
        });
        assert_eq!(filled.as_deref(), Ok("a VALUE b\nc POINTHOLDS\n"));
        assert_eq!(seen, ["value e t m", "point e t m", "holds e t m < 1"]);
        assert_eq!(fill("x\n{{open", &mut |_| Ok(String::new())), Err("line 2: `{{` without `}}`".into()));
        assert_eq!(fill("\n{{x}}", &mut |_| Err("no".into())), Err("line 2: no".into()));
    }
}
