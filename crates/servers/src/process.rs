//! One start of a server: its processes and its output.

use crate::error::{Exit, ServerError};
use crate::family::{Family, MARK};
use crate::mask::Mask;
use crate::output::Output;
use crate::starter;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::cell::OnceCell;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Time for the last output of an ended process to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Time that the rest of a family gets once its main process has ended as asked.
const REST: Duration = Duration::from_secs(2);
/// Time in which killed processes must be gone; longer only for one that the kernel does not let go.
const KILLED: Duration = Duration::from_secs(5);
/// What an MPS client may be given by its environment.
pub const MPS_CLIENT: [&str; 3] =
    ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_CLIENT_PRIORITY", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"];

/// How a server's end came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedHow {
    /// Its main process ended when asked to, or had ended before.
    Graceful,
    /// It did not end in its time and was killed.
    Killed,
}

/// The end of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// How it came.
    pub how: StoppedHow,
    /// Time from the request to the last process's end.
    pub took: Duration,
    /// Processes that outlived a main process that ended by itself, and were killed.
    pub swept: usize,
    /// Processes that are there even so (the kernel does not let them go). Not 0 means that GPU memory may still be
    /// held.
    pub left: usize,
}

/// How to start it.
pub(crate) struct Start<'a> {
    pub name: &'a str,
    pub argv: &'a [String],
    pub env: &'a [(String, String)],
    pub cwd: Option<&'a Path>,
    pub log: &'a Path,
}

/// A started server. Does not end by being dropped: its owner must call [`Process::stop`].
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    family: Family,
    output: Output,
    ended: OnceCell<Exit>,
    stopped: Option<Stopped>,
}

impl Process {
    pub(crate) fn start(s: &Start<'_>) -> Result<Process, ServerError> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let server = || s.name.to_owned();
        let (program, rest) = s
            .argv
            .split_first()
            .ok_or_else(|| ServerError::Spec { server: server(), why: "its command is empty".into() })?;
        let fail = |source| ServerError::Spawn { server: server(), program: program.clone(), source };
        let log_fail = |source| ServerError::Log { server: server(), path: s.log.to_owned(), source };
        let log = File::options().append(true).create(true).open(s.log).map_err(log_fail)?;
        let mark = format!("{}.{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        // One pipe for both outputs keeps their lines in order.
        let (from, to) = std::io::pipe().map_err(fail)?;
        let mut cmd = Command::new(program);
        cmd.args(rest).stdin(Stdio::null()).stdout(to.try_clone().map_err(fail)?).stderr(to);
        // This process's settings for MPS clients are not the server's.
        for name in MPS_CLIENT {
            cmd.env_remove(name);
        }
        cmd.env("PYTHONUNBUFFERED", "1").envs(s.env.iter().cloned()).env(MARK, &mark);
        if let Some(dir) = s.cwd {
            cmd.current_dir(dir);
        }
        let text =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let mask = Mask::of(text.chain(s.env.iter().cloned()), s.argv);
        let child = starter::spawn(cmd).map_err(fail)?;
        let family = Family::new(child.id(), mark);
        match Output::copy(from, log, mask) {
            Ok(output) => Ok(Process { child, family, output, ended: OnceCell::new(), stopped: None }),
            Err(source) => {
                let mut child = child;
                family.signal(Signal::KILL);
                let _ = child.wait();
                Err(fail(source))
            }
        }
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        if self.stopped.is_some() { Vec::new() } else { self.family.pids() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the main process ended, if it has. It stays unreaped, so that the group's id stays its own.
    pub(crate) fn exited(&self) -> Option<Exit> {
        if self.ended.get().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)?;
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let ended = match rustix::process::waitid(WaitId::Pid(pid), options) {
                Ok(None) => None,
                Ok(Some(s)) => Some(match (s.exit_status(), s.terminating_signal()) {
                    (Some(c), _) => Exit::Code(c),
                    (None, Some(n)) => Exit::Signal(n),
                    (None, None) => Exit::Unknown,
                }),
                // Where SIGCHLD is ignored, nobody is told how it ended.
                Err(rustix::io::Errno::CHILD) => Some(Exit::Unknown),
                Err(_) => None,
            };
            return ended.map(|e| *self.ended.get_or_init(|| e));
        }
        self.ended.get().copied()
    }

    /// Waits a little for the main process to end and for its last words to be read.
    pub(crate) fn let_end(&self, most: Duration) -> Option<Exit> {
        let deadline = Instant::now() + most;
        while self.exited().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = self.ended.get().copied();
        if ended.is_some() {
            self.output.let_end(LAST_WORDS);
        }
        ended
    }

    /// Ends it and all that it has started.
    pub(crate) fn stop(&mut self, grace: Duration) -> Stopped {
        if let Some(s) = self.stopped {
            return s;
        }
        let begin = Instant::now();
        // Looked at before the first signal: an intermediate process that ends takes its links with it.
        let mut left = self.family.pids().len();
        self.family.signal(Signal::TERM);
        let mut deadline = begin + grace;
        let mut main_ended = false;
        while left > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            if !main_ended && self.exited().is_some() {
                main_ended = true;
                deadline = deadline.min(Instant::now() + REST);
            }
            left = self.family.pids().len();
        }
        let how = if self.exited().is_some() { StoppedHow::Graceful } else { StoppedHow::Killed };
        let swept = if how == StoppedHow::Graceful { left } else { 0 };
        let deadline = Instant::now() + KILLED;
        // Also if none was seen: one may have been started just now. More than once, as a process may start others until
        // the signal reaches it.
        loop {
            self.family.signal(Signal::KILL);
            left = self.family.pids().len();
            if left == 0 || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.exited().is_some() {
            let _ = self.child.wait();
        }
        self.output.let_end(LAST_WORDS);
        let stopped = Stopped { how, took: begin.elapsed(), swept, left };
        self.stopped = Some(stopped);
        stopped
    }
}
