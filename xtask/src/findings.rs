//! `cargo xtask findings [--check]`: writes docs/findings.md from docs/findings.in.md and the recorded runs, so that
//! no number in it is typed and no sentence outlives the numbers that it rests on.
//!
//! In the source, `{{value EXPERIMENT TRIAL METRIC}}` becomes the recorded value with its interval and
//! `{{point …}}` the value alone; `{{holds EXPERIMENT TRIAL METRIC < NUMBER}}` (also `>`) becomes nothing, but fails
//! where it is not so; `{{verdict EXPERIMENT TRIAL METRIC}}` becomes the verdict on a slowdown.

use clap::Args as ClapArgs;
use cotenant_report::{metric, summarize};
use cotenant_store::format::{Summary, TrialSummary};
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
        if kind == "verdict" {
            let v = t
                .verdicts
                .get(name)
                .ok_or_else(|| format!("{experiment} {trial} has no verdict on {name}"))?;
            return Ok(v.clone());
        }
        let e = t.metrics.get(name).ok_or_else(|| {
            let near: Vec<&str> = t.metrics.keys().map(String::as_str).collect();
            format!("{experiment} {trial} has no {name}, but {}", near.join(", "))
        })?;
        match (kind, words.get(4), words.get(5)) {
            ("value", ..) => {
                Ok(format!("{} {}", metric::with_unit(name, e.value), metric::interval_of(name, e)))
            }
            ("point", ..) => Ok(metric::with_unit(name, e.value)),
            ("holds", Some(sign), Some(limit)) => {
                let limit: f64 = limit.parse().map_err(|_| format!("`{limit}` is no number"))?;
                let holds = match *sign {
                    "<" => e.value < limit,
                    ">" => e.value > limit,
                    other => return Err(format!("`{other}` is neither < nor >")),
                };
                if holds {
                    Ok(String::new())
                } else {
                    Err(format!(
                        "{experiment} {trial} {name} is {}, not {sign} {limit}: mend the text",
                        e.value
                    ))
                }
            }
            _ => Err(format!("`{}` is no directive", words.join(" "))),
        }
    }
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
