//! `cotenant doctor`.

use super::table::table;
use crate::exit::{Code, Failure};
use cotenant_lab::doctor::{Status, examine};

/// Prints what this machine has and lacks; [`Code::Lacking`] where something is missing.
pub fn doctor(json: bool) -> Result<Code, Failure> {
    let findings = examine();
    let lacking = findings.iter().any(|f| f.status == Status::Missing);
    if json {
        super::print_json(&findings)?;
    } else {
        let mut t = table(&["", "", "", ""]);
        let mut area = "";
        for f in &findings {
            if f.area != area {
                area = &f.area;
                t.add_row([area.to_uppercase().as_str(), "", "", ""]);
            }
            let mark = match f.status {
                Status::Ok => "ok",
                Status::Note => "note",
                Status::Missing => "missing",
            };
            let words = if f.remedy.is_empty() {
                f.detail.clone()
            } else {
                format!("{}\n→ {}", f.detail, f.remedy)
            };
            t.add_row(["", mark, &f.item, &words]);
        }
        super::print_text(&t.to_string());
    }
    Ok(if lacking { Code::Lacking } else { Code::Ok })
}
