//! `cargo xtask results [--check]`: writes docs/results.md from the recorded runs, so that no number in it is typed.
//!
//! results/DEVICE/NAME/ holds a run on the real GPU, results/DEVICE/simulated/NAME/ the same experiment on the
//! simulated one, and results/DEVICE/notes.toml one honest sentence for each.

use clap::Args as ClapArgs;
use cotenant_report::{RunData, compare, summarize};
use cotenant_store::format::{Estimate, TrialSummary};
use cotenant_store::load;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Device whose results are told.
const DEVICE: &str = "h100-sxm5-80gb";
const PAGE: &str = "docs/results.md";

#[derive(ClapArgs)]
pub struct Args {
    /// Fail where the page is not what the recorded runs give
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Result<(), String> {
    let root = Path::new("results").join(DEVICE);
    let page = page(&root)?;
    if args.check {
        let now = std::fs::read_to_string(PAGE).map_err(|e| format!("read {PAGE}: {e}"))?;
        return if now == page {
            Ok(())
        } else {
            Err(format!("find {PAGE} up to date: run `cargo xtask results` and commit what it writes"))
        };
    }
    std::fs::write(PAGE, page).map_err(|e| format!("write {PAGE}: {e}"))
}

fn read(dir: &Path) -> Result<RunData, String> {
    let run = load(dir).map_err(|e| e.to_string())?;
    let summary = summarize(&run.manifest, &run.repeats, &run.outcomes);
    Ok(RunData {
        manifest: run.manifest,
        repeats: run.repeats,
        outcomes: run.outcomes,
        warnings: run.warnings,
        summary,
        telemetry: None,
    })
}

fn page(root: &Path) -> Result<String, String> {
    let notes =
        std::fs::read_to_string(root.join("notes.toml")).map_err(|e| format!("read notes.toml: {e}"))?;
    let notes: BTreeMap<String, String> =
        toml::from_str(&notes).map_err(|e| format!("read {}/notes.toml: {e}", root.display()))?;
    let names: BTreeSet<String> = std::fs::read_dir(root)
        .map_err(|e| format!("read {}: {e}", root.display()))?
        .flatten()
        .filter(|e| e.path().join("manifest.json").is_file())
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    let mut body = String::new();
    let (mut accuracy, mut requests) = (String::new(), String::new());
    let (mut cells, mut sum, mut decided) = (0, 0.0, (0, 0.0, 0.0f64));
    let mut head = None;
    for name in &names {
        let real = read(&root.join(name))?;
        let sim = read(&root.join("simulated").join(name)).ok();
        let note = notes.get(name).ok_or_else(|| format!("find a sentence for `{name}` in notes.toml"))?;
        section(&mut body, name, &real, sim.as_ref(), note);
        if let Some(s) = &sim {
            let comparison = compare(&real, s);
            // Of models the percentiles follow from the slowdowns.
            for e in comparison.request_errors.iter().filter(|_| !has_models(&real)) {
                let _ = writeln!(
                    requests,
                    "| [{}](#{name}) | {} | {:.1} % | {:.1} % | {} | |",
                    e.against.replacen(&real.manifest.name, name, 1),
                    e.rows,
                    100.0 * e.mean,
                    100.0 * e.worst,
                    e.worst_at
                );
            }
            for e in &comparison.errors {
                let _ = writeln!(
                    accuracy,
                    "| [{name}](#{name}) | {} | {:.1} % | {:.1} % | {} | {} |",
                    e.rows,
                    100.0 * e.mean,
                    100.0 * e.worst,
                    e.worst_at,
                    e.decided.as_ref().map_or_else(String::new, |d| format!(
                        "{:.1} % / {:.1} % of {}",
                        100.0 * d.mean,
                        100.0 * d.worst,
                        d.rows
                    ))
                );
                cells += e.rows;
                sum += e.mean * e.rows as f64;
                if let Some(d) = &e.decided {
                    decided.0 += d.rows;
                    decided.1 += d.mean * d.rows as f64;
                    decided.2 = decided.2.max(d.worst);
                }
            }
        }
        head.get_or_insert(real);
    }
    let _ = writeln!(
        accuracy,
        "| **all** | {cells} | {:.1} % | | | {:.1} % / {:.1} % of {} |",
        100.0 * sum / cells.max(1) as f64,
        100.0 * decided.1 / decided.0.max(1) as f64,
        100.0 * decided.2,
        decided.0
    );
    accuracy.push_str(&requests);
    let first = head.ok_or("find any recorded run")?;
    let d = &first.manifest.device;
    let mut out = String::new();
    let _ = write!(
        out,
        "# Results on an H100\n\n\
         Made by `cargo xtask results` from the runs recorded under `results/{DEVICE}/`; do not edit.\n\n\
         Measured on {} ({} SMs, driver {}, CUDA {}): one for the kernels, two for the models. Values are medians over repeats with their 95 % interval; \
         `n` is the number of repeats. *Paper* is what the paper prints (on an H100 NVL), *peer* the paper authors' \
         own code run on an H100 SXM, *simulated* the same experiment on the simulated GPU with the card \
         `devices/{DEVICE}.json`. Differences are relative to the value they stand beside.\n\n\
         ## How well the simulated GPU agrees\n\n\
         Over the slowdowns and speedups of all trials of kernels that are not bound by launching or by the host, and of \
         all trials of models that have recorded time lines. Some of the card's parameters were fitted to these same \
         runs (`docs/design/simulated-gpu.md` and `simulated-models.md` say which), so this is agreement and not yet \
         prediction. *Decided* leaves out cells whose own interval on the real GPU is wider than \
         ±10 %: there the order of arrival or the place of an array decides. Rows of requests are times of kernels \
         measured by request, bound by the host or not.\n\n\
         | experiment | cells | mean error | worst error | at | decided: mean / worst |\n|---|---:|---:|---:|---|---|\n{accuracy}\n",
        d.name,
        d.sms,
        d.driver.as_deref().unwrap_or("unknown"),
        d.cuda.as_deref().unwrap_or("unknown"),
    );
    out.push_str(&body);
    Ok(out)
}

fn has_models(run: &RunData) -> bool {
    run.manifest.trials.iter().any(|t| t.tenants.iter().any(|t| t.kind == "torch"))
}

fn section(out: &mut String, name: &str, real: &RunData, sim: Option<&RunData>, note: &str) {
    let m = &real.manifest;
    let models = has_models(real);
    let place = match m.section.as_str() {
        "" if models => "beyond the report".to_owned(),
        "" => "beyond the paper".to_owned(),
        section if section.starts_with("report") => section.to_owned(),
        section => format!("paper §{section}"),
    };
    let _ = write!(
        out,
        "## {}\n\n**{}** ({place}). {}\n\nRun of {}, cotenant {} ({}). ",
        name, m.title, note, m.provenance.started, m.provenance.version, m.provenance.git_revision
    );
    for f in figures(name) {
        let _ = write!(out, "[figure]({f}) ");
    }
    if models {
        return model_rows(out, real, sim);
    }
    out.push_str("\n\n| trial | metric | paper | peer | measured | n | against peer | simulated | against measured |\n");
    out.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for t in &m.trials {
        let Some(s) = real.summary.trials.iter().find(|s| s.trial == t.id) else { continue };
        if s.status != "done" {
            let why = real.outcomes.iter().rev().find(|o| o.trial == t.id).and_then(|o| o.reason.as_deref());
            // What the program said last stands in `outcomes.jsonl`; a page wants the reason alone.
            let why = why.unwrap_or_default().split("; its last output").next().unwrap_or_default();
            let _ = writeln!(out, "| {} | {} | | | | | | | {why} |", t.id, s.status);
            continue;
        }
        let other = sim.and_then(|r| r.summary.trials.iter().find(|x| x.trial == t.id));
        for metric in
            shown(t.references.iter().map(|r| r.metric.as_str()), s.metrics.keys().map(String::as_str))
        {
            let Some(e) = s.metrics.get(&metric) else { continue };
            let reference = |word: &str| {
                t.references.iter().find(|r| r.metric == metric && r.source.contains(word)).map(|r| r.value)
            };
            let peer = reference("peer").or(reference("sweep"));
            let simulated = other.and_then(|o| o.metrics.get(&metric));
            let _ = writeln!(
                out,
                "| {} | {metric} | {} | {} | {} | {} | {} | {} | {} |",
                t.id,
                number(reference("paper, ")),
                number(peer),
                interval(e),
                e.n,
                difference(Some(e.value), peer),
                number(simulated.map(|e| e.value)),
                difference(simulated.map(|e| e.value), Some(e.value)),
            );
        }
    }
    out.push('\n');
}

/// The table of an experiment of models: no printed values to compare with (`docs/findings.md` does that).
fn model_rows(out: &mut String, real: &RunData, sim: Option<&RunData>) {
    out.push_str("\n\n| trial | metric | measured | n | simulated | against measured |\n");
    out.push_str("|---|---|---:|---:|---:|---:|\n");
    for t in &real.manifest.trials {
        let Some(s) = real.summary.trials.iter().find(|s| s.trial == t.id) else { continue };
        if s.status != "done" {
            let _ = writeln!(out, "| {} | {} | | | | |", t.id, s.status);
            continue;
        }
        let other = sim
            .and_then(|r| r.summary.trials.iter().find(|x| x.trial == t.id))
            .filter(|o| o.status == "done");
        let open = t.tenants.iter().any(|t| !t.load.arrivals.is_null());
        for metric in shown_of_models(s, open) {
            let Some(e) = s.metrics.get(&metric) else { continue };
            let simulated = other.and_then(|o| o.metrics.get(&metric)).map(|e| e.value);
            let _ = writeln!(
                out,
                "| {} | {metric} | {} | {} | {} | {} |",
                t.id,
                interval(e),
                e.n,
                number(simulated),
                difference(simulated, Some(e.value)),
            );
        }
    }
    out.push('\n');
}

/// Metrics of a trial of models that the page shows: of one alone its times, of several what they do to each other,
/// of more than three only the mean; of an open loop the tail.
fn shown_of_models(s: &TrialSummary, open: bool) -> Vec<String> {
    let starting =
        |word: &str| -> Vec<String> { s.metrics.keys().filter(|m| m.starts_with(word)).cloned().collect() };
    if open {
        return [starting("solo_p99_ms."), starting("p99_ms.")].concat();
    }
    let slowdowns = starting("slowdown.");
    let mut out = match slowdowns.len() {
        0 => [starting("p50_ms."), starting("kernel_ms.")].concat(),
        1..=3 => slowdowns,
        _ => vec!["slowdown".to_owned()],
    };
    out.extend(["stp", "throughput", "dram_pct"].map(str::to_owned));
    out
}

/// Metrics of a trial that the page shows: those with a reference, then slowdowns, speedup and tail latency.
fn shown<'a>(references: impl Iterator<Item = &'a str>, all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let keep = |m: &str| {
        m == "speedup" || m == "utilization_pct" || m.starts_with("slowdown.") || m.starts_with("p99_ms.")
    };
    for m in references.chain(all.filter(|m| keep(m))) {
        if !out.iter().any(|o| o == m) {
            out.push(m.to_owned());
        }
    }
    out
}

fn figures(name: &str) -> Vec<String> {
    let dir = Path::new("results").join(DEVICE).join(name).join("figures");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|f| f.ends_with(".svg"))
        .map(|f| format!("../results/{DEVICE}/{name}/figures/{f}"))
        .collect();
    files.sort();
    files
}

fn digits(v: f64) -> String {
    match v.abs() {
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.3}"),
    }
}

fn number(v: Option<f64>) -> String {
    v.map_or_else(String::new, digits)
}

fn interval(e: &Estimate) -> String {
    format!("**{}** [{}, {}]", digits(e.value), digits(e.low), digits(e.high))
}

fn difference(v: Option<f64>, reference: Option<f64>) -> String {
    match (v, reference) {
        (Some(v), Some(r)) if r != 0.0 => format!("{:+.1} %", 100.0 * (v / r - 1.0)),
        _ => String::new(),
    }
}
