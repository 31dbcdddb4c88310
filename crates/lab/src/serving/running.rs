//! The server that a tenant drives, and whether it is still there.

use cotenant_servers::{Endpoint, Exit, External, Server, ServerError};
use cotenant_store::serving::{FailureKind, RequestLine};

/// A server, ours or somebody else's.
pub(super) enum Running {
    Ours(Box<Server>),
    Theirs(External),
}

impl Running {
    /// How it ended; never known of somebody else's.
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Running::Ours(s) => s.exited(),
            Running::Theirs(_) => None,
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Running::Ours(s) => s.endpoint(),
            Running::Theirs(s) => s.endpoint(),
        }
    }

    /// How one of ours ended, if it has.
    pub fn ended(&self) -> Option<ServerError> {
        match self {
            Running::Ours(s) => s.ended(),
            Running::Theirs(_) => None,
        }
    }

    /// Whether it is gone after a phase with these requests: asked if any of them failed, since only the server knows whether that
    /// was one bad request or its end.
    pub fn gone(&self, requests: &[RequestLine], give_up: &dyn Fn() -> bool) -> Option<ServerError> {
        let failures = requests.iter().filter_map(|r| r.record.failure.as_ref());
        let failures: Vec<_> = failures.filter(|f| f.kind != FailureKind::Cancelled).collect();
        let last = failures.last()?;
        if let Some(e) = self.ended() {
            return Some(e);
        }
        let mut gone = self.endpoint().still_there(give_up).err()?;
        if let ServerError::Gone { why, lines, .. } = &mut gone {
            let (n, all, kind, detail) = (failures.len(), requests.len(), last.kind.name(), &last.detail);
            why.push_str(&format!("; {n} of {all} requests failed, the last one: {kind}: {detail}"));
            if let Running::Ours(s) = self {
                *lines = s.last_lines();
            }
        }
        // It may have ended while it was asked.
        Some(self.ended().unwrap_or(gone))
    }

    /// What it said last, for the end of a message; nothing of somebody else's.
    pub fn last_words(&self) -> String {
        let Running::Ours(s) = self else { return String::new() };
        let lines = s.last_lines();
        if lines.is_empty() {
            return String::new();
        }
        format!("; the server's last lines: {}", lines.join(" | "))
    }

    /// That it told of too little GPU memory, and what can be done, for a message.
    pub fn lack_of_memory(&self) -> Option<String> {
        let Running::Ours(s) = self else { return None };
        let (line, advice) = s.out_of_memory()?;
        Some(format!("; it ran out of GPU memory (`{line}`): {advice}"))
    }
}
