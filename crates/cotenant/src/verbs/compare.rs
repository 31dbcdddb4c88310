//! `cotenant compare`.

use super::report::read;
use crate::cli::CompareArgs;
use crate::exit::{Code, Failure};
use cotenant_report::{compare as compare_runs, compare_reference, render_comparison};

/// Compares two runs, or a run with the values that its experiment carries.
pub fn compare(a: CompareArgs) -> Result<Code, Failure> {
    let first = read(&a.a)?;
    let comparison = match &a.b {
        Some(b) => compare_runs(&first, &read(b)?),
        None => compare_reference(&first, a.source.as_deref()),
    };
    if a.json {
        super::print_json(&comparison)?;
    } else {
        super::print_text(&render_comparison(&comparison));
    }
    let beyond = a.fail_above.is_some_and(|bound| comparison.worst_error_pct().is_some_and(|w| w > bound));
    Ok(if beyond { Code::Different } else { Code::Ok })
}
