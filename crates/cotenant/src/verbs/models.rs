//! `cotenant models` and `cotenant helper`.

use super::table::table;
use crate::exit::{Code, Failure};
use cotenant_spec::models;

/// Lists the built-in models.
pub fn models(json: bool) -> Result<Code, Failure> {
    if json {
        let file: serde_json::Value = serde_json::from_str(models::TEXT)
            .map_err(|e| Failure::new(Code::Store, format!("read the built-in models: {e}")))?;
        return super::print_json(&file);
    }
    let mut t = table(&["model", "role", "parameters", "longest sequence", "also"]);
    for m in models::all() {
        let number = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        t.add_row([
            m.name.clone(),
            m.role.clone(),
            number(m.parameters),
            number(m.positions.map(u64::from)),
            m.aliases.join(", "),
        ]);
    }
    super::print_text(&t.to_string());
    Ok(Code::Ok)
}

/// Prints the helper module.
pub fn helper() -> Result<Code, Failure> {
    super::print_text(cotenant_lab::program::helper());
    Ok(Code::Ok)
}
