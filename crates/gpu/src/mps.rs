//! An MPS daemon of the run's own: private pipe and log folders, stopped when this value goes, on every path.
//!
//! A daemon that was there before is never touched. The control program is asked to quit through its own pipe; if it
//! does not, its process, which is our child, and the servers that it started are killed. No command is waited for
//! without end: `quit` was seen never to come back on a server that still had clients.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Program names as NVIDIA installs them.
pub const CONTROL: &str = "nvidia-cuda-mps-control";

/// Where the control program is, if it is on `PATH` or in the driver's usual folders.
pub fn control_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/nvidia/bin", "/opt/nvidia/bin"].map(PathBuf::from))
        .map(|d| d.join(CONTROL))
        .find(|p| p.is_file())
}

/// What an MPS client may be given by its environment.
const CLIENT_SETTINGS: [&str; 3] =
    ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_CLIENT_PRIORITY", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"];

/// Has a child inherit none of this process's settings for MPS clients.
pub fn without_client_settings(cmd: &mut Command) {
    for name in CLIENT_SETTINGS {
        cmd.env_remove(name);
    }
}

/// Where clients look for a daemon.
const PIPE_ENV: &str = "CUDA_MPS_PIPE_DIRECTORY";

/// What [`PIPE_ENV`] was before [`step_outside`].
static INHERITED: OnceLock<Option<OsString>> = OnceLock::new();

/// Makes this process no client of any daemon. Without it the first driver call connects to the daemon that serves
/// this environment, which then starts a server for us: somebody else's daemon would be touched. What
/// [`running_daemon`] finds stays the same.
///
/// To be called first in `main`: it changes the environment, and so does nothing once there is a second thread.
pub fn step_outside() {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if alone && INHERITED.set(std::env::var_os(PIPE_ENV)).is_ok() {
        let nowhere = std::env::temp_dir().join(format!("cotenant-no-mps-{}", std::process::id()));
        // SAFETY: this is the only thread of the process, so that nobody reads the environment meanwhile.
        unsafe { std::env::set_var(PIPE_ENV, nowhere) };
    }
}

/// The pipe folder of a daemon that serves this environment already, if one answers there.
pub fn running_daemon() -> Option<PathBuf> {
    let inherited = INHERITED.get().cloned().unwrap_or_else(|| std::env::var_os(PIPE_ENV));
    let dir = inherited.map_or_else(|| "/tmp/nvidia-mps".into(), PathBuf::from);
    let pid: u32 =
        std::fs::read_to_string(dir.join("nvidia-cuda-mps-control.pid")).ok()?.trim().parse().ok()?;
    is_alive(pid).then_some(dir)
}

/// Name of a daemon's folder before the id of the process that started it.
const FOLDER: &str = "cotenant-mps-";

/// Removes the folders `PREFIXpid` and `PREFIXpid.number` of runs that were killed and could not do it themselves.
/// (Their children died with them.)
pub fn sweep_folders(parent: &Path, prefix: &str) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest =
            name.to_str().and_then(|n| n.strip_prefix(prefix)).map(|r| r.split('.').next().unwrap_or(r));
        let pid = rest.and_then(|p| p.parse::<u32>().ok());
        if pid.is_some_and(|p| !is_alive(p)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_alive(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .is_some_and(|p| rustix::process::test_kill_process(p).is_ok())
}

/// How long a command to the control program may take; `quit -t 2` itself waits 2 s for clients.
const ANSWER: Duration = Duration::from_secs(6);

/// A daemon of our own.
#[derive(Debug)]
pub struct Daemon {
    control: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Starts one with its folders under `parent` (created; removed again at the end).
    ///
    /// # Errors
    /// The control program is absent or does not come up within 10 s; the message carries its log's end.
    pub fn start(parent: &Path) -> Result<Daemon> {
        let control = control_program().ok_or_else(|| {
            Error::Mps(format!(
                "`{CONTROL}` is not installed; it comes with the driver package (nvidia-compute-utils)"
            ))
        })?;
        sweep_folders(parent, FOLDER);
        let dir = parent.join(format!("{FOLDER}{}", std::process::id()));
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        for sub in ["pipe", "log"] {
            std::fs::create_dir_all(dir.join(sub)).map_err(io(&dir))?;
        }
        let log = std::fs::File::create(dir.join("log/stdio.log")).map_err(io(&dir))?;
        let log2 = log.try_clone().map_err(io(&dir))?;
        // In the foreground (-f), so that it is our child: it cannot outlive us unnoticed, and its end is seen.
        let mut cmd = Command::new(&control);
        cmd.arg("-f")
            .env("CUDA_MPS_PIPE_DIRECTORY", dir.join("pipe"))
            .env("CUDA_MPS_LOG_DIRECTORY", dir.join("log"))
            .env_remove("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log2);
        die_with_parent(&mut cmd);
        let child = cmd.spawn().map_err(io(&control))?;
        let mut daemon = Daemon { control, dir, child: Some(child) };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if daemon
                .ask("get_default_active_thread_percentage")
                .is_ok_and(|a| a.trim().parse::<f64>().is_ok())
            {
                return Ok(daemon);
            }
            let ended = daemon.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(daemon.dir.join("log/control.log"))
                    .or_else(|_| std::fs::read_to_string(daemon.dir.join("log/stdio.log")))
                    .unwrap_or_default();
                let tail: String = log.lines().rev().take(3).collect::<Vec<_>>().join("; ");
                return Err(Error::Mps(format!("the daemon did not come up; its log ends: {tail}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Environment that makes a process a client of this daemon.
    pub fn client_env(&self) -> Vec<(String, String)> {
        let text = |p: PathBuf| p.to_string_lossy().into_owned();
        vec![
            ("CUDA_MPS_PIPE_DIRECTORY".into(), text(self.dir.join("pipe"))),
            ("CUDA_MPS_LOG_DIRECTORY".into(), text(self.dir.join("log"))),
        ]
    }

    /// Sends one command to the control program and returns its answer, which must come within [`ANSWER`].
    fn ask(&self, command: &str) -> Result<String> {
        let io = |source| Error::Io { path: self.control.clone(), source };
        let mut child = Command::new(&self.control)
            .env("CUDA_MPS_PIPE_DIRECTORY", self.dir.join("pipe"))
            .env("CUDA_MPS_LOG_DIRECTORY", self.dir.join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io)?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = writeln!(stdin, "{command}");
        }
        // Answers are a line or two, which the pipe holds: they can be read when the program has ended.
        if !ended_within(&mut child, ANSWER) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Mps(format!("no answer to `{command}` within {} s", ANSWER.as_secs())));
        }
        let out = child.wait_with_output().map_err(io)?;
        if !out.status.success() {
            return Err(Error::Mps(format!("`{command}` was refused ({})", out.status)));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = self.ask("quit -t 2");
            if !ended_within(&mut child, Duration::from_secs(5)) {
                let servers = children(child.id());
                let _ = child.kill();
                let _ = child.wait();
                for server in servers {
                    let _ = rustix::process::kill_process(server, rustix::process::Signal::KILL);
                }
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Waits for the end of a child; false if it has not come by then.
fn ended_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes that this one has started and that live.
fn children(pid: u32) -> Vec<rustix::process::Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<i32>>())
        .filter_map(rustix::process::Pid::from_raw)
        .collect()
}

/// Asks the kernel to end the child when the thread that started it ends, so that a `kill -9` of the run leaves
/// no daemon and no tenant behind; and puts the child in a process group of its own, so that Ctrl-C reaches only
/// the run, which then ends its children in order.
pub fn die_with_parent(cmd: &mut Command) {
    end_with_parent(cmd, rustix::process::Signal::TERM);
}

/// As [`die_with_parent`], by the signal that cannot be ignored: for programs that are not ours.
pub fn be_killed_with_parent(cmd: &mut Command) {
    end_with_parent(cmd, rustix::process::Signal::KILL);
}

fn end_with_parent(cmd: &mut Command, signal: rustix::process::Signal) {
    use std::os::unix::process::CommandExt;
    cmd.process_group(0);
    // SAFETY: the closure runs between fork and exec and makes only the async-signal-safe prctl call.
    unsafe {
        cmd.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(signal)).map_err(std::io::Error::from)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon whose control program is this shell script.
    fn daemon_of(script: &str, name: &str) -> Daemon {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("cotenant-mps-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        let control = dir.join("control");
        std::fs::write(&control, format!("#!/bin/sh\n{script}\n")).expect("a script");
        std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        Daemon { control, dir, child: None }
    }

    #[test]
    fn a_command_that_never_comes_back_is_given_up() {
        let daemon = daemon_of("exec sleep 60", "hung");
        let before = Instant::now();
        let error = daemon.ask("quit").expect_err("no answer").to_string();
        assert!(error.contains("no answer to `quit`"), "{error}");
        assert!(before.elapsed() < ANSWER + Duration::from_secs(5));
        assert_eq!(daemon_of("read a; echo \"$a.\"", "quick").ask("quit").expect("an answer"), "quit.\n");
    }

    #[test]
    fn a_daemon_that_does_not_quit_is_killed_with_what_it_started() {
        let mut daemon = daemon_of("exec true", "stubborn");
        let mut cmd = Command::new("sh");
        // The shell stays, as it has something to do behind the sleep.
        cmd.args(["-c", "sleep 60; true"]);
        let child = cmd.spawn().expect("a shell");
        let deadline = Instant::now() + Duration::from_secs(10);
        let server = loop {
            if let Some(&server) = children(child.id()).first() {
                break server;
            }
            assert!(Instant::now() < deadline, "the shell started nothing");
            std::thread::sleep(Duration::from_millis(5));
        };
        daemon.child = Some(child);
        drop(daemon);
        // It is nobody's child now, so that init or a subreaper takes it away; until then it is a zombie.
        let gone = || {
            std::fs::read_to_string(format!("/proc/{}/stat", server.as_raw_nonzero()))
                .map_or(true, |s| s.contains(") Z "))
        };
        while !gone() {
            assert!(Instant::now() < deadline + Duration::from_secs(10), "the server lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn folders_of_dead_runs_go_and_of_living_ones_stay() {
        let dir = std::env::temp_dir().join(format!("cotenant-sweep-test-{}", std::process::id()));
        let mine = dir.join(format!("{FOLDER}{}", std::process::id()));
        // Process ids end at 4,194,304 on Linux.
        let dead = dir.join(format!("{FOLDER}4194305"));
        let other = dir.join("cotenant-mps-notes");
        for d in [&mine, &dead, &other] {
            std::fs::create_dir_all(d.join("pipe")).expect("a temporary folder");
        }
        sweep_folders(&dir, FOLDER);
        assert!(mine.is_dir() && other.is_dir() && !dead.exists());
        std::fs::remove_dir_all(&dir).expect("a temporary folder");
    }
}
