//! What can go wrong with a server.

use crate::http::HttpError;
use crate::template::TemplateError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How a server's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It is gone, and how is not known.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(c) => write!(f, "exit code {c}"),
            Exit::Signal(9) => {
                write!(f, "killed by signal 9, SIGKILL: by hand, or by the kernel for lack of memory")
            }
            Exit::Signal(n) => write!(f, "killed by signal {n}"),
            Exit::Unknown => write!(f, "unknown status"),
        }
    }
}

/// Why a server could not be started, did not become ready, or did not answer. Every message is a fragment that reads
/// after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The description of the server is wrong.
    #[error("start server `{server}`: {why}")]
    Spec {
        /// Server's name.
        server: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// An item of its command line has a wrong placeholder.
    #[error("make the command line of server `{server}`: {source}")]
    Template {
        /// Server's name.
        server: String,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// Its program cannot be run.
    #[error("start server `{server}`: cannot run `{program}`: {source}")]
    Spawn {
        /// Server's name.
        server: String,
        /// Program, the first item of the command line.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Its log file cannot be opened.
    #[error("start server `{server}`: cannot open its log {}: {source}", path.display())]
    Log {
        /// Server's name.
        server: String,
        /// The log.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No port can be had.
    #[error("start server `{server}`: cannot find a free port: {source}")]
    NoPort {
        /// Server's name.
        server: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The port that was asked for is taken.
    #[error("start server `{server}`: port {port} is in use; end what listens there, or leave the port out")]
    PortInUse {
        /// Server's name.
        server: String,
        /// The port.
        port: u16,
    },
    /// The process ended before it was ready.
    #[error("start server `{server}`: its process ended ({exit}) before it was ready{}", tail(lines))]
    Exited {
        /// Server's name.
        server: String,
        /// How it ended.
        exit: Exit,
        /// Last lines of its output.
        lines: Vec<String>,
    },
    /// It did not get the GPU memory that it wanted.
    #[error("start server `{server}`: out of GPU memory (`{line}`): {advice}{}", tail(lines))]
    OutOfMemory {
        /// Server's name.
        server: String,
        /// The line of its output that says so.
        line: String,
        /// What can be done.
        advice: &'static str,
        /// Last lines of its output.
        lines: Vec<String>,
    },
    /// The process ended after it had been ready.
    #[error("keep server `{server}` running: its process ended ({exit}) while it was used{}", tail(lines))]
    Died {
        /// Server's name.
        server: String,
        /// How it ended.
        exit: Exit,
        /// Last lines of its output.
        lines: Vec<String>,
    },
    /// The process ended after it had been ready, and a line of its output tells of too little GPU memory.
    #[error(
        "keep server `{server}` running: it ran out of GPU memory (`{line}`) and its process ended ({exit}): {advice}{}",
        tail(lines)
    )]
    RanOutOfMemory {
        /// Server's name.
        server: String,
        /// How it ended.
        exit: Exit,
        /// The line of its output that says so.
        line: String,
        /// What can be done.
        advice: &'static str,
        /// Last lines of its output.
        lines: Vec<String>,
    },
    /// It was up, and does not say so any more.
    #[error("reach server `{server}`: it was up and is not any more: {why}{}", tail(lines))]
    Gone {
        /// Server's name.
        server: String,
        /// What came of asking it.
        why: String,
        /// Last lines of its output; none of a server that somebody else started.
        lines: Vec<String>,
    },
    /// No encrypted connection.
    #[error("reach server `{server}`: failed to speak {why}")]
    Tls {
        /// Server.
        server: String,
        /// What is in the way.
        why: String,
    },
    /// It was not ready in time.
    #[error(
        "reach server `{server}`: it was not ready after {:.1} s; waited for {waited_for}{}{}",
        after.as_secs_f64(), because(last), tail(lines)
    )]
    TimedOut {
        /// Server's name.
        server: String,
        /// How long was waited.
        after: Duration,
        /// The step that did not succeed.
        waited_for: &'static str,
        /// What the last try of it gave; empty if nothing.
        last: String,
        /// Last lines of its output; none of a server that somebody else started.
        lines: Vec<String>,
    },
    /// It serves no model of that name.
    #[error("use model `{asked}` of server `{server}`: it serves {}", listed(served))]
    WrongModel {
        /// Server's name.
        server: String,
        /// The name asked for.
        asked: String,
        /// The names that it serves.
        served: Vec<String>,
    },
    /// It answered a request with something else than text.
    #[error("get text from server `{server}`: {path} gave status {status}: {answer}{}", tail(lines))]
    BadAnswer {
        /// Server's name.
        server: String,
        /// Path of the request.
        path: &'static str,
        /// HTTP status.
        status: u16,
        /// Begin of the answer.
        answer: String,
        /// Last lines of its output.
        lines: Vec<String>,
    },
    /// A request to it failed.
    #[error("ask server `{server}` for {path}: {source}{}", tail(lines))]
    Request {
        /// Server's name.
        server: String,
        /// Path of the request.
        path: &'static str,
        /// What went wrong.
        source: HttpError,
        /// Last lines of its output.
        lines: Vec<String>,
    },
    /// The caller asked to stop waiting.
    #[error("wait for server `{server}`: interrupted")]
    Interrupted {
        /// Server's name.
        server: String,
    },
}

impl ServerError {
    /// Whether GPU memory is what it lacked.
    pub fn is_lack_of_memory(&self) -> bool {
        matches!(self, ServerError::OutOfMemory { .. } | ServerError::RanOutOfMemory { .. })
    }
}

/// Last lines of output as the end of a message.
fn tail(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("; its last output:\n    {}", lines.join("\n    "))
}

fn because(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!(", the last try of which gave: {last}") }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "no model".into();
    }
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}
