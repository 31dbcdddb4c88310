//! `cotenant kernels`.

use super::table::table;
use crate::exit::{Code, Failure};
use cotenant_kernels::{registry, resolve};
use cotenant_model::demand::Demand;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct ParamRow {
    name: &'static str,
    help: &'static str,
    default: f64,
    least: f64,
    most: f64,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    resource: &'static str,
    help: &'static str,
    /// What one iteration is.
    turn: &'static str,
    params: Vec<ParamRow>,
    /// Demand of one warp in one iteration with default parameters at `blocks` × `threads`.
    demand: Option<Demand>,
    blocks: u32,
    threads: u32,
    registers: Option<u32>,
    entry: Option<String>,
}

/// Lists the kernels.
pub fn kernels(json: bool) -> Result<Code, Failure> {
    let rows: Vec<Row> = registry()
        .iter()
        .map(|k| {
            let r = resolve(k.name, k.shape.0, k.shape.1, &BTreeMap::new()).ok();
            Row {
                name: k.name,
                resource: k.resource,
                help: k.help,
                params: k
                    .params
                    .iter()
                    .map(|p| ParamRow {
                        name: p.name,
                        help: p.help,
                        default: p.default,
                        least: p.range.0,
                        most: p.range.1,
                    })
                    .collect(),
                demand: r.as_ref().map(|r| r.demand),
                blocks: k.shape.0,
                threads: k.shape.1,
                turn: k.turn,
                registers: r.as_ref().map(|r| r.shape.registers),
                entry: r.map(|r| r.entry),
            }
        })
        .collect();
    if json {
        return super::print_json(&rows);
    }
    let mut t = table(&["kernel", "stresses", "what it does", "parameters (default)"]);
    for r in &rows {
        let params: Vec<String> =
            r.params.iter().map(|p| format!("{} ({}): {}", p.name, p.default, p.help)).collect();
        t.add_row([r.name, r.resource, r.help, &params.join("\n")]);
    }
    super::print_text(&t.to_string());
    Ok(Code::Ok)
}
