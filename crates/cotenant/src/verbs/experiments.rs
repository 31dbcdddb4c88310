//! `cotenant experiments`.

use super::table::table;
use crate::exit::{Code, Failure};
use cotenant_spec::{Spec, builtin};
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    name: &'static str,
    section: String,
    title: String,
    summary: String,
}

/// Lists the built-in experiments.
pub fn experiments(json: bool) -> Result<Code, Failure> {
    let mut rows = Vec::new();
    for b in builtin() {
        let s = Spec::parse(b.text, &format!("{}.toml", b.name))?;
        rows.push(Row {
            name: b.name,
            section: s.section().to_owned(),
            title: s.title().to_owned(),
            summary: s.summary().to_owned(),
        });
    }
    if json {
        return super::print_json(&rows);
    }
    let mut t = table(&["experiment", "paper", "what it shows"]);
    for r in &rows {
        let section = if r.section.is_empty() { "beyond the paper" } else { &r.section };
        t.add_row([r.name, section, &r.title]);
    }
    super::print_text(&t.to_string());
    Ok(Code::Ok)
}
