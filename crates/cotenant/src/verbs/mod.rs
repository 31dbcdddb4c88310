//! The verbs, one file each.

mod cards;
mod compare;
mod doctor;
mod experiments;
mod generate;
mod kernel_once;
mod kernels;
mod load;
mod models;
mod probe;
mod report;
mod run;
mod table;
mod token_server;

use crate::cli::Verb;
use crate::exit::{Code, Failure};

/// Runs a verb to its exit code.
pub fn dispatch(verb: Verb) -> Result<Code, Failure> {
    match verb {
        Verb::Run(a) => run::run(a),
        Verb::Load(a) => load::load(*a),
        Verb::TokenServer(a) => token_server::token_server(a),
        Verb::Doctor(a) => doctor::doctor(a.json),
        Verb::Probe(a) => probe::probe(a),
        Verb::Report(a) => report::report(a),
        Verb::Compare(a) => compare::compare(a),
        Verb::Experiments(a) => experiments::experiments(a.json),
        Verb::Kernels(a) => kernels::kernels(a.json),
        Verb::Models(a) => models::models(a.json),
        Verb::Helper => models::helper(),
        Verb::Cards(a) => cards::cards(a.json),
        Verb::Completions { shell } => generate::completions(shell),
        Verb::Man { folder } => generate::man(&folder),
        Verb::Worker { meeting } => cotenant_lab::cuda::serve(meeting)
            .map(|()| Code::Ok)
            .map_err(|e| Failure::new(Code::NoDevice, format!("serve as a tenant process: {e}"))),
        Verb::ServerTenant => std::process::exit(cotenant_lab::serving::serve()),
        Verb::KernelOnce(a) => kernel_once::kernel_once(a),
    }
}

/// The key in the environment variable of that name; `None`: no name was given.
fn key_of(name: Option<&str>) -> Result<Option<String>, Failure> {
    let read = |name: &str| {
        std::env::var(name).map_err(|_| {
            Failure::new(Code::BadInput, format!("read the key from the environment: {name} is not set"))
        })
    };
    name.map(read).transpose()
}

/// Prints a value as pretty JSON.
fn print_json<T: serde::Serialize>(v: &T) -> Result<Code, Failure> {
    let text =
        serde_json::to_string_pretty(v).map_err(|e| Failure::new(Code::Store, format!("write JSON: {e}")))?;
    print_text(&text);
    Ok(Code::Ok)
}

/// Prints text, ending quietly where the reader has gone (`cotenant … | head`).
fn print_text(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
