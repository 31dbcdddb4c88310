//! `cotenant compare`.

use super::report::read;
use crate::cli::CompareArgs;
use crate::exit::{Code, Failure};
use cotenant_report::serving::{compare_loads, render_load_comparison};
use cotenant_report::{compare as compare_runs, compare_reference, render_comparison};

/// Compares two runs, two loads, or a run with the values that its experiment carries.
pub fn compare(a: CompareArgs) -> Result<Code, Failure> {
    if let Some(b) = &a.b
        && (super::load::is_load(&a.a) || super::load::is_load(b))
    {
        let (first, second) = (super::load::side(&a.a)?, super::load::side(b)?);
        let comparison = compare_loads(&first, &second).map_err(|e| Failure::new(Code::BadInput, e))?;
        if a.json {
            super::print_json(&comparison)?;
        } else {
            super::print_text(&render_load_comparison(&comparison));
        }
        return Ok(verdict(a.fail_above, comparison.worst_pct()));
    }
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
    Ok(verdict(a.fail_above, comparison.worst_error_pct()))
}

fn verdict(bound: Option<f64>, worst: Option<f64>) -> Code {
    let beyond = bound.is_some_and(|bound| worst.is_some_and(|w| w > bound));
    if beyond { Code::Different } else { Code::Ok }
}
