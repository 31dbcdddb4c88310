//! `cotenant completions` and `cotenant man`.

use crate::cli::Cli;
use crate::exit::{Code, Failure};
use clap::CommandFactory;
use std::path::Path;

/// Prints a completion script.
pub fn completions(shell: clap_complete::Shell) -> Result<Code, Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut shown(), "cotenant", &mut out);
    super::print_text(&String::from_utf8_lossy(&out));
    Ok(Code::Ok)
}

/// The command line without its hidden verbs, which some generators would offer.
fn shown() -> clap::Command {
    let all = Cli::command();
    let verbs: Vec<_> = all.get_subcommands().filter(|v| !v.is_hide_set()).cloned().collect();
    clap::Command::new("cotenant")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommand_required(true)
        .subcommands(verbs)
}

/// Writes one man page per verb.
pub fn man(folder: &Path) -> Result<Code, Failure> {
    let fail = |e: std::io::Error| {
        Failure::new(Code::Store, format!("write man pages to {}: {e}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(fail)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(fail)?;
    super::print_text(&format!("man pages are in {}", folder.display()));
    Ok(Code::Ok)
}
