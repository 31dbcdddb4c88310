//! A worker process as the run sees it: start, talk, notice its death, end it.

use super::protocol::{Command, Meeting, Reply};
use crate::backend::TrialError;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Environment variable that lets tests and traces find a run's workers: the trial they were started for.
pub const ENV_MARK: &str = "COTENANT_WORKER";

/// Longest wait for an answer. Set-up compiles kernels and fills memory; a phase runs milliseconds to seconds.
const ANSWER: Duration = Duration::from_secs(180);

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    replies: Receiver<std::io::Result<String>>,
    stderr: Arc<Mutex<String>>,
    /// What makes it reusable for another trial.
    pub key: String,
}

impl Worker {
    /// Starts the binary's hidden verb with an environment of its own.
    pub fn start(env: &[(String, String)], meeting: &Meeting, key: String) -> Result<Worker, TrialError> {
        let fail =
            |what: &str, e: std::io::Error| TrialError::Failed(format!("{what} a worker process: {e}"));
        let exe = crate::provenance::own_program().map_err(|e| fail("find the program for", e))?;
        let mut cmd = std::process::Command::new(exe);
        cmd.arg("worker")
            .arg(meeting.raw_fd().to_string())
            .env(ENV_MARK, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        cotenant_gpu::mps::without_client_settings(&mut cmd);
        cmd.envs(env.iter().cloned());
        cotenant_gpu::mps::die_with_parent(&mut cmd);
        let mut child = cmd.spawn().map_err(|e| fail("start", e))?;
        let (tx, replies) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines() {
                    if tx.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let stderr: Arc<Mutex<String>> = Arc::default();
        if let Some(mut err) = child.stderr.take() {
            let sink = stderr.clone();
            std::thread::spawn(move || {
                let mut buf = [0; 4096];
                while let Ok(n) = err.read(&mut buf) {
                    if n == 0 {
                        break;
                    }
                    let mut s = sink.lock().unwrap_or_else(PoisonError::into_inner);
                    if s.len() < 1 << 16 {
                        s.push_str(&String::from_utf8_lossy(&buf[..n]));
                    }
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Worker { child, stdin, replies, stderr, key })
    }

    /// Sends a command; the answer is fetched with [`Worker::answer`].
    pub fn send(&mut self, command: &Command) -> Result<(), TrialError> {
        let line = serde_json::to_string(command).map_err(|e| TrialError::Failed(e.to_string()))?;
        let sent =
            self.stdin.as_mut().is_some_and(|s| writeln!(s, "{line}").and_then(|()| s.flush()).is_ok());
        if sent { Ok(()) } else { Err(self.death()) }
    }

    /// Waits for an answer, for the worker's death, or for the user's interrupt.
    pub fn answer(&mut self, interrupted: &AtomicBool) -> Result<Reply, TrialError> {
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.replies.recv_timeout(Duration::from_millis(50)) {
                Ok(Ok(line)) => {
                    return match serde_json::from_str(&line) {
                        Ok(Reply::Error { message, unavailable: true }) => {
                            Err(TrialError::Unavailable(message))
                        }
                        Ok(Reply::Error { message, unavailable: false }) => Err(TrialError::Failed(message)),
                        Ok(r) => Ok(r),
                        Err(e) => Err(TrialError::Failed(format!("a worker spoke nonsense ({e}): {line}"))),
                    };
                }
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(self.death()),
                Err(RecvTimeoutError::Timeout) => {
                    if interrupted.load(Ordering::Relaxed) {
                        return Err(TrialError::Interrupted);
                    }
                    if Instant::now() > deadline {
                        return Err(TrialError::Failed(format!(
                            "a worker gave no answer within {} s",
                            ANSWER.as_secs()
                        )));
                    }
                }
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, command: &Command, interrupted: &AtomicBool) -> Result<Reply, TrialError> {
        self.send(command)?;
        self.answer(interrupted)
    }

    /// Whether its process is gone.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn death(&mut self) -> TrialError {
        let status = self.child.wait().map_or_else(|e| e.to_string(), crate::program::describe);
        let err = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let words = err.trim();
        let tail = words.lines().last().map(|l| format!("; it said: {l}")).unwrap_or_default();
        TrialError::Failed(format!("a tenant's process died ({status}){tail}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.send(&Command::Exit);
        self.stdin = None; // end of input ends its loop, whatever it was doing between commands
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
