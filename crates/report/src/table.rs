//! Text tables: plain UTF-8, no colour, no control characters from stored names.

use crate::compare::{Comparison, ErrorSummary, RunLabel};
use crate::iterations::has_programs;
use crate::metric;
use crate::page::TableBlock;
use crate::tenant_tables;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use cotenant_store::format::{Manifest, Summary, TrialRecord, TrialSummary};
use std::fmt::Write as _;

/// How to draw a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableOptions {
    /// Bold heads, by terminal escape codes.
    pub styled: bool,
    /// Wrap cells to this width in columns; `None`: as wide as it gets.
    pub width: Option<u16>,
}

/// The metrics of a trial that are worth a row in a table: what the figures draw, what has a reference, the
/// speedup and each slowdown; the launch times of trials that have none of these.
///
/// Of trials with models or programs, whose tenants have tables of their own, only what has a reference.
pub fn shown_metrics(manifest: &Manifest, trial: &TrialRecord, summary: &TrialSummary) -> Vec<String> {
    if has_programs(trial) {
        let mut names: Vec<String> =
            summary.metrics.keys().filter(|m| !metric::references(trial, m).is_empty()).cloned().collect();
        names.sort_by_key(|m| (metric::rank(m), m.clone()));
        return names;
    }
    let drawn = |m: &str| {
        let all_tenants =
            |f: &str| f.strip_suffix(".*") == Some(metric::base(m)) && metric::tenant(m).is_some();
        manifest.figures.iter().any(|f| f.metric == m || all_tenants(&f.metric))
    };
    // Speedup and ratio say the same: the one that is drawn, else the speedup.
    let gain = if drawn("ratio") && !drawn("speedup") { "ratio" } else { "speedup" };
    let wanted = |m: &str| match metric::base(m) {
        "speedup" | "ratio" => m == gain || drawn(m),
        "slowdown" if metric::tenant(m).is_some() => true,
        _ => drawn(m) || !metric::references(trial, m).is_empty(),
    };
    let mut names: Vec<&String> = summary.metrics.keys().filter(|m| wanted(m)).collect();
    if names.is_empty() {
        names =
            summary.metrics.keys().filter(|m| matches!(metric::base(m), "solo_ms" | "shared_ms")).collect();
    }
    names.sort_by_key(|m| (metric::rank(m), (*m).clone()));
    names.into_iter().cloned().collect()
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(crate) fn table(options: TableOptions, head: &[&str], right: &[usize]) -> Table {
    let mut t = Table::new();
    t.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    if let Some(width) = options.width {
        t.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    t.set_header(head.iter().map(|h| {
        let cell = Cell::new(clean(h));
        if options.styled { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    for &i in right {
        if let Some(column) = t.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if options.styled {
        t.enforce_styling();
    } else {
        t.force_no_tty();
    }
    t
}

fn finish(t: &Table) -> String {
    let mut out = t.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    out.push('\n');
    out
}

/// [`render_table_with`] the default options.
pub fn render_table(manifest: &Manifest, summary: &Summary) -> String {
    render_table_with(manifest, summary, TableOptions::default())
}

/// The tables of a run. Of trials of kernels one row per trial and metric, with interval, observations, overlap,
/// references with the difference of ours, and verdict; of trials with models or programs one row per tenant, then one
/// per trial and one per role.
pub fn render_table_with(manifest: &Manifest, summary: &Summary, options: TableOptions) -> String {
    let mut out = title(&manifest.title, &manifest.device.name, summary.simulated);
    let of_programs = tenant_tables::tables(manifest, summary);
    for (i, t) in of_programs.iter().enumerate() {
        let gap = if i > 0 { "\n" } else { "" };
        let _ = writeln!(out, "{gap}{}", clean(&t.title));
        out.push_str(&finish(&block(options, &t.table)));
    }
    if let Some(t) = by_metric(manifest, summary, options) {
        if !of_programs.is_empty() {
            out.push('\n');
        }
        out.push_str(&finish(&t));
    }
    out
}

fn block(options: TableOptions, b: &TableBlock) -> Table {
    let head: Vec<&str> = b.head.iter().map(String::as_str).collect();
    let mut t = table(options, &head, &b.numeric);
    for row in &b.rows {
        t.add_row(row.iter().map(|c| clean(c)));
    }
    t
}

/// Rows of trials and metrics; `None` where all trials have other tables.
fn by_metric(manifest: &Manifest, summary: &Summary, options: TableOptions) -> Option<Table> {
    let mut sources: Vec<String> = Vec::new();
    for r in manifest.trials.iter().flat_map(|t| &t.references) {
        if !sources.contains(&r.source) {
            sources.push(r.source.clone());
        }
    }
    let mut head = vec!["trial", "metric", "value", "95 % interval", "n", "overlap"];
    let mut right = vec![2, 3, 4, 5];
    for source in &sources {
        right.extend([head.len(), head.len() + 1]);
        head.extend([source.as_str(), "diff"]);
    }
    head.push("verdict");
    let mut t = table(options, &head, &right);
    let mut any = manifest.trials.iter().all(|t| !has_programs(t));
    for s in &summary.trials {
        let Some(trial) = manifest.trials.iter().find(|t| t.id == s.trial) else { continue };
        let shown = shown_metrics(manifest, trial, s);
        if shown.is_empty() && !has_programs(trial) {
            let mut row = vec![clean(&s.trial), format!("({})", clean(&s.status))];
            row.resize(head.len(), String::new());
            t.add_row(row);
            any = true;
        }
        for (i, name) in shown.iter().enumerate() {
            let Some(e) = s.metrics.get(name) else { continue };
            any = true;
            let first = i == 0;
            let mut row = vec![
                if first { clean(&s.trial) } else { String::new() },
                clean(name),
                metric::with_unit(name, e.value),
                metric::interval_of(name, e),
                e.n.to_string(),
                match s.overlap {
                    Some(o) if first => format!("{:.1} %", 100.0 * o),
                    _ => String::new(),
                },
            ];
            let references = metric::references(trial, name);
            for source in &sources {
                match references.iter().find(|(s, _)| s == source) {
                    Some((_, v)) => row.extend([metric::bare(name, *v), metric::percent((e.value - v) / v)]),
                    None => row.extend([String::new(), String::new()]),
                }
            }
            row.push(clean(s.verdicts.get(name).map_or("", String::as_str)));
            t.add_row(row);
        }
    }
    any.then_some(t)
}

fn title(title: &str, device: &str, simulated: bool) -> String {
    let simulated = if simulated { " · SIMULATED" } else { "" };
    format!("{} · {}{simulated}\n", clean(title), clean(device))
}

fn run_line(letter: &str, r: &RunLabel) -> String {
    let simulated = if r.simulated { " · SIMULATED" } else { "" };
    clean(&format!("{letter}: {} · {}{simulated} · {} · {}", r.name, r.device, r.started, r.version))
}

fn error_line(e: &ErrorSummary) -> String {
    let decided = e.decided.as_ref().filter(|d| d.rows < e.rows).map_or_else(String::new, |d| {
        format!(
            "; without values that vary by more than 10 % themselves: mean {:.1} %, worst {:.1} % at {} ({} values)",
            100.0 * d.mean,
            100.0 * d.worst,
            d.worst_at,
            d.rows
        )
    });
    clean(&format!(
        "against {}: mean |error| {:.1} %, worst {:.1} % at {} ({} values, host-bound trials left out){decided}",
        e.against,
        100.0 * e.mean,
        100.0 * e.worst,
        e.worst_at,
        e.rows
    ))
}

/// [`render_comparison_with`] the default options.
pub fn render_comparison(c: &Comparison) -> String {
    render_comparison_with(c, TableOptions::default())
}

/// The table of a comparison: of two runs, or of a run with its references.
pub fn render_comparison_with(c: &Comparison, options: TableOptions) -> String {
    let head: &[&str] = match c.a {
        Some(_) => &["trial", "metric", "a", "95 % interval", "b", "95 % interval", "b against a", "verdict"],
        None => &["trial", "metric", "source", "reference", "ours", "95 % interval", "difference", "verdict"],
    };
    let mut t = table(options, head, if c.a.is_some() { &[2, 3, 4, 5, 6] } else { &[3, 4, 5, 6] });
    let mut last = "";
    for r in &c.rows {
        let trial = if r.trial == last { String::new() } else { clean(&r.trial) };
        last = &r.trial;
        let base = metric::with_unit(&r.metric, r.a.value);
        let mut row = vec![trial, clean(&r.metric)];
        match &r.source {
            Some(source) => row.extend([clean(source), base]),
            None => row.extend([base, metric::interval_of(&r.metric, &r.a)]),
        }
        row.extend([
            metric::with_unit(&r.metric, r.b.value),
            metric::interval_of(&r.metric, &r.b),
            metric::percent(r.difference),
            format!("{}{}", r.verdict, if r.host_bound { " (host-bound)" } else { "" }),
        ]);
        t.add_row(row);
    }
    let mut out = match &c.a {
        Some(a) => format!("{}\n{}\n", run_line("a", a), run_line("b", &c.b)),
        None => format!("{}\n", run_line("ours", &c.b)),
    };
    out.push_str(&finish(&t));
    for e in &c.errors {
        let _ = writeln!(out, "{}", error_line(e));
    }
    for (what, items) in [
        ("only in a", &c.only_in_a),
        ("only in b", &c.only_in_b),
        ("planned differently", &c.planned_differently),
        ("no value of ours for", &c.missing),
    ] {
        if !items.is_empty() {
            let _ = writeln!(out, "{what}: {}", clean(&items.join(", ")));
        }
    }
    out
}
