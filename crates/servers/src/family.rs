//! All processes that a server has started, also those that left its group.

use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Environment variable that marks a server's processes.
pub(crate) const MARK: &str = "COTENANT_SERVER";

/// A process: its id, and its start in clock ticks since boot, which tells it from a later one of the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    group: u32,
    start: u64,
    /// Ended, and only its entry is left.
    gone: bool,
}

/// A server's main process and its descendants.
///
/// They are found by the group, by parent links, by the mark in their environment, and by having been seen before: each
/// alone misses some (a daemon leaves the group and loses its parent, a program may overwrite its environment).
#[derive(Debug)]
pub(crate) struct Family {
    leader: u32,
    mark: String,
    seen: Mutex<HashMap<u32, u64>>,
}

impl Family {
    /// Of a process that leads its group and has `mark` as its [`MARK`]. It must not be reaped while this is used: its
    /// id, and so the group's, could go to others.
    pub(crate) fn new(leader: u32, mark: String) -> Family {
        Family { leader, mark, seen: Mutex::default() }
    }

    /// All that live, the main process first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.living().iter().map(|p| p.pid).collect();
        pids.sort_by_key(|p| (*p != self.leader, *p));
        pids
    }

    fn living(&self) -> Vec<Process> {
        let all = processes();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = all.iter().find(|p| p.pid == self.leader).map_or(0, |p| p.start);
        let mut ours: HashSet<u32> = HashSet::from([self.leader]);
        for p in &all {
            let known = p.group == self.leader || seen.get(&p.pid) == Some(&p.start);
            // Reading an environment costs more than the rest: none that is older than the server.
            if known || (p.start >= since && !p.gone && self.marked(p.pid)) {
                ours.insert(p.pid);
            }
        }
        loop {
            let more: Vec<u32> = all
                .iter()
                .filter(|p| ours.contains(&p.parent) && !ours.contains(&p.pid))
                .map(|p| p.pid)
                .collect();
            if more.is_empty() {
                break;
            }
            ours.extend(more);
        }
        ours.remove(&std::process::id());
        let living: Vec<Process> = all.into_iter().filter(|p| ours.contains(&p.pid) && !p.gone).collect();
        seen.extend(living.iter().map(|p| (p.pid, p.start)));
        living
    }

    fn marked(&self, pid: u32) -> bool {
        let Ok(env) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
        let wanted = format!("{MARK}={}", self.mark);
        env.split(|&b| b == 0).any(|v| v == wanted.as_bytes())
    }

    /// Signals the group and all that have left it.
    pub(crate) fn signal(&self, signal: Signal) {
        let leader = i32::try_from(self.leader).ok().and_then(Pid::from_raw);
        if let Some(group) = leader {
            let _ = rustix::process::kill_process_group(group, signal);
        }
        for p in self.living().iter().filter(|p| p.group != self.leader) {
            p.signal(signal);
        }
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        // With a descriptor in hand, the id cannot pass to another process between this check and the signal.
        if read(self.pid).is_none_or(|now| now.start != self.start) {
            return;
        }
        let _ = match descriptor {
            Ok(fd) => rustix::process::pidfd_send_signal(fd, signal),
            Err(_) => rustix::process::kill_process(pid, signal),
        };
    }
}

fn processes() -> Vec<Process> {
    let Ok(dir) = std::fs::read_dir("/proc") else { return Vec::new() };
    dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(read).collect()
}

fn read(pid: u32) -> Option<Process> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A line of `/proc/PID/stat`; the name in parentheses may hold anything, also parentheses.
fn parse(stat: &str) -> Option<Process> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
        gone: matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read() {
        let line = "12 (a) R (b) S 3 12 9 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 5555 8192 1";
        assert_eq!(parse(line), Some(Process { pid: 12, parent: 3, group: 12, start: 5555, gone: false }));
        assert_eq!(parse("12 (a"), None);
        let me = read(std::process::id()).unwrap();
        assert_eq!((me.pid, me.gone), (std::process::id(), false));
    }
}
