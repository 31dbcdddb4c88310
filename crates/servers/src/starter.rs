//! Starts processes that are killed when this one ends.

use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

type Job = (Command, Sender<Result<Child>>);

/// The way to the thread that starts processes.
static STARTER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

/// Starts a process in its own group that gets SIGKILL when this process ends, however it ends.
///
/// The kernel sends that signal when the *thread* that started the process ends. So one thread that never ends starts
/// all of them, whoever asks.
pub(crate) fn spawn(mut cmd: Command) -> Result<Child> {
    cmd.process_group(0);
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls (prctl, getppid); it
    // allocates nothing.
    unsafe {
        cmd.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // A parent that ended before that call sends no signal any more.
            if rustix::process::getppid() != Some(parent) {
                return Err(Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            Ok(())
        });
    }
    let gone = || Error::other("the thread that starts processes is gone");
    let (answer, got) = channel();
    {
        let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
        if starter.is_none() {
            let (ask, jobs) = channel::<Job>();
            std::thread::Builder::new().name("server-starter".into()).spawn(move || {
                for (mut cmd, answer) in jobs {
                    let _ = answer.send(cmd.spawn());
                }
            })?;
            *starter = Some(ask);
        }
        starter.as_ref().ok_or_else(gone)?.send((cmd, answer)).map_err(|_| gone())?;
    }
    got.recv().map_err(|_| gone())?
}
