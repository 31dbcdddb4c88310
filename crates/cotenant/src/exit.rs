//! Exit codes (documented in `docs/exit-codes.md`) and the error that carries one.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Everything asked for was done.
    Ok = 0,
    /// Some trial failed; the others have their numbers.
    TrialsFailed = 1,
    // 2 is clap's: the command line is wrong.
    /// An experiment file, an override or an argument's value is wrong.
    BadInput = 3,
    /// No such device, driver or library, where the command cannot do without.
    NoDevice = 4,
    /// A run folder, card or report could not be read or written.
    Store = 5,
    /// Every trial was skipped: this machine can do none of them.
    NothingRan = 6,
    /// `doctor` found that something is missing.
    Lacking = 7,
    /// `compare` found a difference beyond the bound that `--fail-above` gives.
    Different = 8,
    /// Interrupted by the user; `--resume` continues.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(c: Code) -> ExitCode {
        ExitCode::from(c as u8)
    }
}

/// An error for the user: words and a code.
#[derive(Debug, thiserror::Error)]
#[error("failed to {message}")]
pub struct Failure {
    message: String,
    code: Code,
}

impl Failure {
    /// `message` reads after "failed to".
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code }
    }

    /// The exit code.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl From<cotenant_store::StoreError> for Failure {
    fn from(e: cotenant_store::StoreError) -> Failure {
        Failure::new(Code::Store, e.to_string())
    }
}

impl From<cotenant_spec::SpecError> for Failure {
    fn from(e: cotenant_spec::SpecError) -> Failure {
        Failure::new(Code::BadInput, e.to_string())
    }
}
