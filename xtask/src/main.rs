//! Developers' tasks: `cargo xtask TASK`.

mod findings;
mod kernels;
mod results;
mod schemas;
mod timelines;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developers' tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write docs/findings.md from its source and the recorded runs
    Findings(findings::Args),
    /// Generate the kernels' PTX and resource table from their CUDA sources
    Kernels(kernels::Args),
    /// Write docs/results.md from the recorded runs
    Results(results::Args),
    /// Generate the JSON Schemas of the formats into docs/schemas/
    Schemas(schemas::Args),
    /// Make recorded kernel time lines of models from a run with --keep-traces
    Timelines(timelines::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Findings(args) => findings::run(&args),
        Task::Kernels(args) => kernels::run(&args),
        Task::Results(args) => results::run(&args),
        Task::Schemas(args) => schemas::run(&args),
        Task::Timelines(args) => timelines::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: failed to {e}");
            ExitCode::FAILURE
        }
    }
}
