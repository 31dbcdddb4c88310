//! `cotenant`: what workloads that share a GPU do to each other. The verbs are in `verbs/`, one file each.

mod cli;
mod device;
mod exit;
mod verbs;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // A worker or server is a client of whichever daemon the run chose for it; every other verb of none.
    if !matches!(cli.verb, cli::Verb::Worker { .. } | cli::Verb::ServerTenant) {
        cotenant_gpu::mps::step_outside();
    }
    match verbs::dispatch(cli.verb) {
        Ok(code) => code.into(),
        Err(e) => {
            eprintln!("cotenant: {e}");
            e.code().into()
        }
    }
}
