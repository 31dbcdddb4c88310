//! `cotenant report`, and what it shares with `run`: from a stored run to summary, figures and page.

use crate::cli::ReportArgs;
use crate::exit::{Code, Failure};
use cotenant_report::{RunData, figures_for, metrics_csv, regimes_csv, render_table, report_html, summarize};
use cotenant_store::{LoadFolder, SeriesFolder, load, load_telemetry, write_derived, write_summary};
use std::path::{Path, PathBuf};

/// Reads a run folder and computes its summary.
pub fn read(path: &Path) -> Result<RunData, Failure> {
    let run = load(path)?;
    let summary = summarize(&run.manifest, &run.repeats, &run.outcomes);
    Ok(RunData {
        manifest: run.manifest,
        repeats: run.repeats,
        outcomes: run.outcomes,
        warnings: run.warnings,
        summary,
        telemetry: load_telemetry(path)?,
    })
}

/// Writes everything derived from a run; returns the page.
pub fn derive(path: &Path, data: &RunData) -> Result<PathBuf, Failure> {
    write_summary(path, &data.summary)?;
    write_derived(path, "metrics.csv", &metrics_csv(&data.manifest, &data.summary))?;
    let regimes = regimes_csv(&data.manifest, &data.summary);
    if !regimes.is_empty() {
        write_derived(path, "regimes.csv", &regimes)?;
    }
    for (name, svg) in figures_for(data) {
        write_derived(path, &format!("figures/{name}"), &svg)?;
    }
    Ok(write_derived(path, "report.html", &report_html(data))?)
}

/// Makes tables, figures and pages again.
pub fn report(a: ReportArgs) -> Result<Code, Failure> {
    let mut summaries = Vec::new();
    for path in &a.runs {
        if SeriesFolder::is_one(path) {
            super::load::show_series(path, a.json)?;
            continue;
        }
        if LoadFolder::is_one(path) {
            let (manifest, summary) = super::load::summarize_folder(path)?;
            super::load::show(path, &manifest, &summary, a.json)?;
            continue;
        }
        let data = read(path)?;
        let page = derive(path, &data)?;
        if a.json {
            summaries.push(data.summary);
        } else {
            super::print_text(&format!(
                "{}\nreport: {}\n",
                render_table(&data.manifest, &data.summary),
                page.display()
            ));
        }
    }
    // Loads have printed theirs.
    if a.json && !summaries.is_empty() { super::print_json(&summaries) } else { Ok(Code::Ok) }
}
