//! The report of a run: one self-contained HTML file.

use crate::figures::{experiment_figures, machine_state, timeline};
use crate::iterations::{has_programs, is_program};
use crate::page::{Note, PageHead, TableBlock, render, value};
use crate::regimes::regime;
use crate::samples::{TrialSamples, samples};
use crate::scale::Unit;
use crate::svg::Embed;
use crate::table::shown_metrics;
use crate::tenant_tables::{self, Titled};
use crate::verdicts::{Says, tiles, trial_says};
use crate::{RunData, metric, program_figures, server_figures};
use cotenant_store::format::{Estimate, FigureRecord, PhaseRecord, TrialRecord, TrialSummary, WarningRecord};
use minijinja::{Value, context};
use serde::Serialize;

/// Trials whose verdicts stand open on the page; the others fold.
const VERDICTS_SHOWN: usize = 10;
/// Trials up to which verdicts are whole sentences, each on its line.
const VERDICTS_IN_WORDS: usize = 4;
/// Values of a parameter list before it is cut.
const LIST_SHOWN: usize = 12;

/// Draws the report of a run. The same run gives the same bytes.
pub fn report_html(run: &RunData) -> String {
    let m = &run.manifest;
    let all = samples(m, &run.repeats, &run.outcomes);
    let brief = summaries(run).count() > VERDICTS_IN_WORDS;
    let mut verdicts: Vec<TrialVerdicts> = summaries(run).filter_map(|t| trial_verdicts(t, brief)).collect();
    let more_verdicts = verdicts.split_off(verdicts.len().min(VERDICTS_SHOWN));
    let drawn = experiment_figures(run);
    let figures: Vec<String> = drawn.iter().map(|(_, f)| f.svg(Embed::Inline)).collect();
    let above: Vec<String> = drawn.into_iter().map(|(what, _)| what).collect();
    let mut tables = tenant_tables::tables(m, &run.summary);
    if let Some(table) = crate::regimes::tests(m, &run.summary) {
        let note = "Each regime against each that stands before it at the same total load, medians over repeats; the interval is the quotient of \
                    both intervals. Mann and Whitney's test, adjusted by Holm over the table: regimes do not take turns, so repeats are not paired.";
        tables.push(tenant_tables::Titled {
            title: "Regimes against each other".into(),
            note: note.into(),
            table,
        });
    }
    let results = results(run);
    let tiles = tiles(run);
    let trials: Vec<TrialView> =
        all.iter().enumerate().map(|(i, s)| trial_view(run, s, &above, i == 0)).collect();
    let state = machine_state(run, None).map(|f| f.svg(Embed::Inline));
    let warnings: Vec<Note> = run.warnings.iter().map(warning).collect();
    let failures: Vec<Note> = all.iter().filter_map(failure).collect();

    let sections: Vec<Value> = [
        ("verdicts", "Verdicts", true),
        ("figures", "Figures", !figures.is_empty()),
        ("results", "Results", !results.rows.is_empty() || !tables.is_empty()),
        ("trials", "Trials", !trials.is_empty()),
        ("machine", "Machine state", state.is_some()),
        ("warnings", "Warnings", !warnings.is_empty()),
        ("not-measured", "Not measured", !failures.is_empty()),
        ("reproduce", "How to reproduce", true),
        ("provenance", "Provenance", true),
    ]
    .into_iter()
    .filter(|s| s.2)
    .map(|(id, name, _)| context! { id, name })
    .collect();
    let view = context! {
        tiles => value(tiles),
        verdicts => value(verdicts),
        more_verdicts => value(more_verdicts),
        figures,
        tables => value(tables),
        results => value(results),
        trials => value(trials),
        state,
        warnings => value(warnings),
        failures => value(failures),
        commands => value(commands(run)),
        spec_text => m.spec_text.clone(),
        provenance => value(provenance(run)),
    };
    render("report.html", &head(run), Value::from(sections), view)
}

fn head(run: &RunData) -> PageHead {
    let m = &run.manifest;
    let mut eyebrow = vec![m.name.clone(), m.device.name.clone(), when(&m.provenance.started)];
    if !m.section.is_empty() {
        // A number is a section of the paper; others say themselves what they belong to.
        let of_paper = m.section.starts_with(|c: char| c.is_ascii_digit());
        eyebrow.insert(1, if of_paper { format!("paper § {}", m.section) } else { m.section.clone() });
    }
    let p = &m.provenance;
    let device = if m.simulated { "on a simulated GPU" } else { "on" };
    PageHead {
        title: m.title.clone(),
        badge: m.simulated.then(|| "SIMULATED".to_owned()),
        eyebrow,
        lead: paragraphs(&m.summary),
        foot: format!(
            "cotenant {} ({}) · {device} {} · {} · seed {}",
            p.version, p.git_revision, m.device.name, p.started, p.seed
        ),
    }
}

/// Text whose lines a file broke somewhere: one line for each paragraph.
fn paragraphs(text: &str) -> String {
    let paragraph = |p: &str| p.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim().split("\n\n").map(paragraph).collect::<Vec<_>>().join("\n\n")
}

/// An RFC 3339 time in UTC for reading: `2026-11-22 10:00 UTC`; anything else as it is.
fn when(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16), time.ends_with('Z')) {
        (Some(day), Some("T"), Some(minute), true) => format!("{day} {minute} UTC"),
        _ => time.to_owned(),
    }
}

/// Each trial with its summary, in plan order.
fn summaries(run: &RunData) -> impl Iterator<Item = (&TrialRecord, &TrialSummary)> {
    let find = |t: &TrialRecord| run.summary.trials.iter().find(|s| s.trial == t.id);
    run.manifest.trials.iter().filter_map(move |t| Some((t, find(t)?)))
}

#[derive(Debug, Serialize)]
struct TrialVerdicts {
    trial: String,
    brief: bool,
    says: Vec<Says>,
}

fn trial_verdicts((trial, summary): (&TrialRecord, &TrialSummary), brief: bool) -> Option<TrialVerdicts> {
    let says = trial_says(trial, summary, brief);
    (!says.is_empty()).then(|| TrialVerdicts { trial: trial.id.clone(), brief, says })
}

#[derive(Debug, Serialize)]
struct Results {
    sources: Vec<String>,
    rows: Vec<ResultRow>,
}

#[derive(Debug, Serialize)]
struct ResultRow {
    trial: String,
    about: String,
    metric: String,
    value: String,
    interval: String,
    n: u32,
    overlap: String,
    references: Vec<(String, String)>,
    /// Last row of its trial.
    last: bool,
}

fn results(run: &RunData) -> Results {
    let mut sources: Vec<String> = Vec::new();
    for r in run.manifest.trials.iter().flat_map(|t| &t.references) {
        if !sources.contains(&r.source) {
            sources.push(r.source.clone());
        }
    }
    let mut rows = Vec::new();
    for (trial, summary) in summaries(run) {
        let shown = shown_metrics(&run.manifest, trial, summary);
        for (i, name) in shown.iter().enumerate() {
            let Some(e) = summary.metrics.get(name) else { continue };
            let known = metric::references(trial, name);
            let reference = |s: &String| match known.iter().find(|(r, _)| r == s) {
                Some((_, v)) => (metric::bare(name, *v), metric::percent((e.value - v) / v)),
                None => (String::new(), String::new()),
            };
            rows.push(ResultRow {
                trial: if i == 0 { trial.id.clone() } else { String::new() },
                about: if i == 0 { regime(trial) } else { String::new() },
                metric: metric::title(name),
                value: metric::with_unit(name, e.value),
                interval: metric::interval_of(name, e),
                n: e.n,
                overlap: match summary.overlap {
                    Some(o) if i == 0 => format!("{:.1} %", 100.0 * o),
                    _ => String::new(),
                },
                references: sources.iter().map(reference).collect(),
                last: i + 1 == shown.len(),
            });
        }
    }
    Results { sources, rows }
}

/// Sharing mode with its numbers: `mps, percentage 50 50`.
pub(crate) fn mode(trial: &TrialRecord) -> String {
    let Some(map) = trial.sharing.as_object() else { return trial.sharing.to_string() };
    let mut parts = vec![map.get("mode").and_then(|m| m.as_str()).unwrap_or("unknown").to_owned()];
    for (key, value) in map.iter().filter(|(k, _)| k.as_str() != "mode") {
        let text = match value.as_array() {
            Some(list) if list.is_empty() => continue,
            Some(list) => {
                let items = list.iter().take(LIST_SHOWN).map(|v| match (v.as_str(), v.as_f64()) {
                    (Some(text), _) => text.to_owned(),
                    (None, Some(number)) => crate::scale::plain(number),
                    (None, None) => v.to_string(),
                });
                items.collect::<Vec<_>>().join(" ")
            }
            None => value.to_string(),
        };
        parts.push(format!("{} {text}", key.replace('_', " ")));
    }
    parts.join(", ")
}

#[derive(Debug, Serialize)]
struct TrialView {
    id: String,
    head: String,
    open: bool,
    timeline: Option<String>,
    /// Figures of models and programs.
    figures: Vec<String>,
    state: Option<String>,
    warnings: Vec<Note>,
    tenants: TableBlock,
    /// Models and programs, then what is known of their iterations: heading, table and a line below it.
    programs: Vec<Titled>,
    pairs: Vec<(String, String)>,
    metrics: TableBlock,
}

/// Figures of a trial with models or programs that do not stand among those of the run (`above`).
fn trial_figures(run: &RunData, s: &TrialSamples, above: &[String]) -> Vec<String> {
    if !has_programs(s.trial) {
        return Vec::new();
    }
    let record = FigureRecord {
        kind: String::new(),
        metric: String::new(),
        x_label: String::new(),
        y_label: String::new(),
        log_x: false,
        trials: Vec::new(),
    };
    let missing = |kind: &str| !above.contains(&format!("{kind} {}", s.trial.id));
    let kinds = [
        ("ecdf", server_figures::distributions(run, s)),
        ("iterations", program_figures::iterations(run, s, &record)),
        ("kde", program_figures::density(run, s, &record)),
        ("telemetry", program_figures::telemetry(run, s)),
    ];
    let drawn = kinds.into_iter().filter(|(kind, _)| missing(kind)).filter_map(|(_, figure)| figure);
    drawn.map(|f| f.svg(Embed::Inline)).collect()
}

/// Tables of a trial with models or programs.
fn trial_tables(s: &TrialSamples, summary: Option<&TrialSummary>) -> Vec<Titled> {
    if !has_programs(s.trial) {
        return Vec::new();
    }
    let facts = |tenant: &str| {
        let told = s.outcome.and_then(|o| o.facts.get(tenant));
        let word = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        told.map_or_else(Vec::new, |t| t.iter().map(|(k, v)| (k.replace('_', " "), word(v))).collect())
    };
    let programs = tenant_tables::programs(s.trial, facts, |tenant| granted_sms(s, tenant));
    let mut out = vec![("Models and programs", programs, "")];
    if let Some(summary) = summary {
        out.push((
            "Iterations",
            tenant_tables::distributions(summary),
            "All counted iterations of all repeats. Effective n: independent iterations that would fix the mean as well, \
             from the autocorrelation of successive ones (lag 1).",
        ));
        out.push((
            "While active",
            tenant_tables::parts(s.trial, summary),
            "Iterations that lie wholly in the part.",
        ));
        out.push((
            "Tests",
            tenant_tables::tests(summary),
            "The verdict rests on the repeats: the ratio of medians within each, and Wilcoxon's test of them (paired p). \
             Shift (Hodges–Lehmann), P(longer) and the other p-values are of single iterations, which depend on each \
             other: these p-values are too small. All p-values after Holm's correction over the run.",
        ));
    }
    let titled = |(title, table, note): (&str, TableBlock, &str)| Titled {
        title: title.to_owned(),
        note: note.to_owned(),
        table,
    };
    out.into_iter().map(titled).filter(|t| !t.table.rows.is_empty()).collect()
}

fn trial_view(run: &RunData, s: &TrialSamples, above: &[String], open: bool) -> TrialView {
    let trial = s.trial;
    let summary = run.summary.trials.iter().find(|t| t.trial == trial.id);
    let repeats = match (s.repeats.len(), s.left_out) {
        (1, 0) => "1 repeat".to_owned(),
        (n, 0) => format!("{n} repeats"),
        (n, out) => format!("{n} repeats, {out} left out"),
    };
    let mut head = vec![regime(trial), s.status.clone(), repeats];
    if let Some(overlap) = summary.and_then(|t| t.overlap) {
        head.push(format!("overlap {:.1} %", 100.0 * overlap));
    }
    let of_trial = |w: &&WarningRecord| w.trial.as_deref() == Some(&trial.id);
    TrialView {
        id: trial.id.clone(),
        head: head.join(" · "),
        open,
        timeline: timeline(&run.manifest, s).map(|f| f.svg(Embed::Inline)),
        figures: trial_figures(run, s, above),
        state: machine_state(run, Some(&trial.id)).map(|f| f.svg(Embed::Inline)),
        warnings: run
            .warnings
            .iter()
            .filter(of_trial)
            .map(|w| Note { place: String::new(), ..warning(w) })
            .collect(),
        tenants: tenants(s),
        programs: trial_tables(s, summary),
        pairs: how(s),
        metrics: summary.map(metrics).unwrap_or_default(),
    }
}

fn strings<const N: usize>(items: [&str; N]) -> Vec<String> {
    items.map(str::to_owned).to_vec()
}

fn granted_sms(s: &TrialSamples, tenant: &str) -> String {
    let grant = s.outcome.and_then(|o| o.grants.iter().find(|g| g.tenant == tenant));
    match grant.map(|g| (g.given_sms, g.asked_sms)) {
        Some((Some(given), Some(asked))) if given != asked => format!("{given} (asked {asked})"),
        Some((Some(given), _)) => given.to_string(),
        _ => "all".to_owned(),
    }
}

/// Kernel tenants.
fn tenants(s: &TrialSamples) -> TableBlock {
    let kernels = s.trial.tenants.iter().enumerate().filter(|(_, t)| !is_program(t));
    let rows = kernels.map(|(i, t)| {
        let sms = granted_sms(s, &t.name);
        let iterations = s.outcome.and_then(|o| o.iterations.get(i)).map_or("–".to_owned(), u64::to_string);
        let params: Vec<String> =
            t.params.iter().map(|(k, v)| format!("{k} {}", param_unit(k).tick(*v))).collect();
        vec![
            t.name.clone(),
            t.kernel.clone(),
            format!("{} × {}", t.blocks, t.threads),
            iterations,
            t.launches.to_string(),
            sms,
            params.join(", "),
        ]
    });
    TableBlock {
        head: strings([
            "Tenant",
            "Kernel",
            "Blocks × threads",
            "Iterations",
            "Launches",
            "SMs",
            "Parameters",
        ]),
        numeric: vec![2, 3, 4, 5],
        rows: rows.collect(),
    }
}

/// Sizes are printed as sizes; what the other parameters count, their names say.
fn param_unit(name: &str) -> Unit {
    if name == "bytes" { Unit::Bytes } else { Unit::Plain }
}

fn how(s: &TrialSamples) -> Vec<(String, String)> {
    let mut out: Vec<(&str, String)> = vec![
        ("Sharing", regime(s.trial)),
        ("Protocol", s.trial.protocol.clone()),
        ("Slowdown relative to", s.trial.baseline.clone()),
        ("Series", s.trial.series.clone()),
    ];
    if !s.trial.vars.is_empty() {
        let vars: Vec<String> =
            s.trial.vars.iter().map(|(k, v)| format!("{k} = {}", crate::scale::plain(*v))).collect();
        out.push(("Swept", vars.join(", ")));
    }
    if s.trial.host_bound {
        out.push(("Bound by", "the host: launches or processes, not the GPU".to_owned()));
    }
    if let Some(t) = s.outcome.and_then(|o| o.timing) {
        let text = format!(
            "{} loading and set-up, {} measuring, {} of the run's own; {} of its CPU time while measuring",
            t.setup_ns, t.phases_ns, t.own_ns, t.phases_cpu_ns
        );
        out.push(("Time spent", text));
    }
    for (tenant, rate) in s.outcome.iter().flat_map(|o| &o.capacity_per_s) {
        out.push(("Closed loop alone", format!("{tenant}: {} per second", metric::value(*rate))));
    }
    if let Some(why) = s.outcome.and_then(|o| o.stopped_by.as_ref()) {
        out.push(("Stopped by", why.clone()));
    }
    if let Some(reason) = s.outcome.and_then(|o| o.reason.as_ref()) {
        out.push(("Reason", reason.clone()));
    }
    let counted = |p: &PhaseRecord| -> Vec<String> {
        p.tenants.iter().map(|t| format!("{} {} of {}", t.name, t.counted, t.launches)).collect()
    };
    let last_shared = s.repeats.last().and_then(|r| r.phases.iter().find(|p| p.phase == "shared"));
    if let Some(p) = last_shared {
        let what = if has_programs(s.trial) {
            "Iterations counted, last repeat"
        } else {
            "Launches counted, last repeat"
        };
        out.push((what, counted(p).join(", ")));
    }
    out.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn metrics(summary: &TrialSummary) -> TableBlock {
    let mut names: Vec<(&String, &Estimate)> = summary.metrics.iter().collect();
    names.sort_by_key(|(m, _)| (metric::rank(m), (*m).clone()));
    let rows = names.into_iter().map(|(m, e)| {
        let verdict = summary.verdicts.get(m).cloned().unwrap_or_default();
        vec![
            m.clone(),
            metric::title(m),
            metric::with_unit(m, e.value),
            metric::interval_of(m, e),
            e.n.to_string(),
            verdict,
        ]
    });
    TableBlock {
        head: strings(["Metric", "Meaning", "Median", "95 % interval", "n", "Verdict"]),
        numeric: vec![2, 3, 4],
        rows: rows.collect(),
    }
}

fn warning(w: &WarningRecord) -> Note {
    Note {
        kind: w.kind.clone(),
        place: w.trial.as_ref().map_or("whole run".to_owned(), |t| format!("in {t}")),
        message: w.message.clone(),
        advice: w.advice.clone(),
        bad: false,
    }
}

fn failure(s: &TrialSamples) -> Option<Note> {
    if s.status == "done" {
        return None;
    }
    let reason = s.outcome.and_then(|o| o.reason.clone());
    let advice = match s.status.as_str() {
        "unfinished" => "Continue with `cotenant run … --resume RUN`; trials that are done are kept.",
        _ => "",
    };
    Some(Note {
        kind: s.status.clone(),
        place: s.trial.id.clone(),
        message: reason.unwrap_or_else(|| match s.status.as_str() {
            "unfinished" => format!("{} repeats recorded, then the run ended.", s.repeats.len()),
            _ => "No reason was recorded.".to_owned(),
        }),
        advice: advice.to_owned(),
        bad: s.status == "failed",
    })
}

/// Command lines with what each does.
fn commands(run: &RunData) -> Vec<(String, String)> {
    let m = &run.manifest;
    let mut again =
        format!("cotenant run {} --device {}", shell_word(&m.name), shell_word(&m.device.selector));
    for o in &m.overrides {
        again.push_str(&format!(" --set {}", shell_word(o)));
    }
    let mut out = vec![
        ("Run it again (or with the path of the file below in place of the name):".to_owned(), again),
        ("Draw this page again from the stored records:".to_owned(), "cotenant report RUN".to_owned()),
        ("Compare with another run, trial by trial:".to_owned(), "cotenant compare RUN OTHER".to_owned()),
    ];
    if m.trials.iter().any(|t| !t.references.is_empty()) {
        let text = "Compare with the reference values:".to_owned();
        out.push((text, "cotenant compare RUN --reference".to_owned()));
    }
    out
}

/// `text` as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+%@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn provenance(run: &RunData) -> Vec<(String, String)> {
    let (m, d, p) = (&run.manifest, &run.manifest.device, &run.manifest.provenance);
    let known = |v: &Option<String>| v.clone().unwrap_or_else(|| "none (simulated)".to_owned());
    let s = &m.stopping;
    let mut out: Vec<(&str, String)> = vec![
        ("Device", format!("{} ({})", d.name, d.selector)),
        ("Simulated", if m.simulated { "yes".to_owned() } else { "no".to_owned() }),
    ];
    if let Some(card) = &d.card {
        out.push(("Device card", card.clone()));
    }
    out.extend([
        ("UUID hash", known(&d.uuid_hash)),
        ("Driver · CUDA", format!("{} · {}", known(&d.driver), known(&d.cuda))),
        ("Size", format!("{} SMs, L2 {}, L1 {} per SM, memory {}", d.sms, d.l2_bytes, d.l1_bytes, d.memory_bytes)),
        ("Compute capability", d.capability.clone()),
        ("Highest clocks", format!("SM {} MHz, memory {} MHz", crate::scale::plain(d.max_sm_clock_mhz), crate::scale::plain(d.max_memory_clock_mhz))),
        ("cotenant", format!("{} ({})", p.version, p.git_revision)),
        ("Kernel PTX SHA-256", p.ptx_sha256.clone()),
        ("Seed", p.seed.to_string()),
        ("Started", p.started.clone()),
        ("Host", format!("{} · {}", p.os, p.cpu)),
        (
            "Stopping rule",
            format!(
                "{} to {} repeats, until the 95 % interval of the median is within ±{} % or {} have passed; {} warm-up",
                s.min_repeats,
                s.max_repeats,
                crate::scale::plain(100.0 * s.precision),
                s.budget_ns,
                s.warmup
            ),
        ),
    ]);
    out.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_reading() {
        assert_eq!(when("2026-11-22T10:00:09Z"), "2026-11-22 10:00 UTC");
        assert_eq!(when("ééééééééééé"), "ééééééééééé");
    }

    #[test]
    fn broken_lines_are_joined_and_paragraphs_stay() {
        assert_eq!(paragraphs("a b\n  c\n\nd\ne\n"), "a b c\n\nd e");
        assert_eq!(paragraphs(""), "");
    }

    #[test]
    fn shell_words_are_quoted_where_needed() {
        assert_eq!(shell_word("cuda:0"), "cuda:0");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's; rm -rf ~"), "'it'\\''s; rm -rf ~'");
        assert_eq!(shell_word(""), "''");
    }
}
