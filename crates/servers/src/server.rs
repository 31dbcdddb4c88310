//! Servers that this process has started, and others.

use crate::endpoint::{Endpoint, First, Listed};
use crate::error::{Exit, ServerError};
use crate::http::{HttpError, Url};
use crate::output::memory_advice;
use crate::port;
use crate::preset::Preset;
use crate::process::{Process, Start};
pub use crate::process::{Stopped, StoppedHow};
use crate::spec::ServerSpec;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Address on which started servers listen.
pub const HOST: &str = "127.0.0.1";
/// Time between two questions whether it is up.
const TURN: Duration = Duration::from_millis(100);
/// Time that a process gets to end after a request to it broke off: then it is known why.
const DEATH: Duration = Duration::from_secs(2);
/// Time that a dropped server gets to end by itself.
const DROPPED: Duration = Duration::from_secs(2);

/// A server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Time from its start (of one that somebody else started: from the first question) to its first text.
    pub startup: Duration,
    /// Names that requests may ask for; the first is the one that was asked for in the first request.
    pub served: Vec<String>,
    /// Its version, if it tells.
    pub version: Option<String>,
}

/// A server that this process has started. Dropping it ends it and all that it has started.
pub struct Server {
    spec: ServerSpec,
    env: Vec<(String, String)>,
    log: PathBuf,
    process: Process,
    endpoint: Endpoint,
    started: Instant,
    /// Whether it was already started again for want of its port.
    again: bool,
}

impl fmt::Debug for Server {
    /// Without the values of the environment, which may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("spec", &self.spec)
            .field("endpoint", &self.endpoint)
            .field("process", &self.process)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Starts it, without waiting until it is ready. `env` comes on top of the spec's (for example `CUDA_MPS_*`); output
    /// is added to the file `log`, in which the values of secret variables are replaced. The process is killed when this
    /// one ends, however it ends.
    ///
    /// # Errors
    /// The spec is wrong, the port is taken, or the program or the log cannot be opened.
    pub fn start(
        spec: ServerSpec,
        env: impl IntoIterator<Item = (String, String)>,
        log: &Path,
    ) -> Result<Server, ServerError> {
        let mut all = spec.env.clone();
        all.extend(env);
        let port = match spec.port {
            Some(p) if p == 0 || port::in_use(HOST, p) => {
                return Err(ServerError::PortInUse { server: spec.name.clone(), port: p });
            }
            Some(p) => p,
            None => free(&spec)?,
        };
        let process = launch(&spec, &all, log, port)?;
        let key = spec.api_key_env.as_ref().and_then(|name| {
            let given = all.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
            given.or_else(|| std::env::var(name).ok())
        });
        let url = Url { host: HOST.to_owned(), port, tls: false, prefix: String::new() };
        let mut endpoint = Endpoint::new(spec.name.clone(), spec.preset, url, key);
        endpoint.model = spec.request_model().map(str::to_owned);
        endpoint.adapters = spec.adapters.iter().map(|(name, _)| name.clone()).collect();
        let log = log.to_owned();
        Ok(Server { spec, env: all, log, process, endpoint, started: Instant::now(), again: false })
    }

    /// Waits until it gives text to a real request, for at most the spec's startup time; `probe` limits that one
    /// request. `interrupted` is asked often: true ends the wait (not the server).
    ///
    /// A server whose chosen port was taken meanwhile is started once more with another; not if the spec gives the port.
    ///
    /// # Errors
    /// It ended, is out of GPU memory, is not ready in time, serves another model, or gives no text. The message has its
    /// last lines.
    pub fn wait_ready(
        &mut self,
        probe: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Ready, ServerError> {
        loop {
            let mut wait = Wait {
                endpoint: &self.endpoint,
                process: Some(&mut self.process),
                started: self.started,
                timeout: self.spec.startup_timeout,
                probe,
                interrupted,
                may_retry: self.spec.port.is_none() && !self.again,
            };
            match wait.run() {
                Ok(ready) => return Ok(ready),
                Err(Failure::Error(e)) => return Err(e),
                Err(Failure::PortTaken) => {
                    self.again = true;
                    self.process.stop(DROPPED);
                    let port = free(&self.spec)?;
                    self.process = launch(&self.spec, &self.env, &self.log, port)?;
                    self.endpoint.url.port = port;
                    self.started = Instant::now();
                }
            }
        }
    }

    /// Where it is and how to talk to it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The description that it was started from.
    pub fn spec(&self) -> &ServerSpec {
        &self.spec
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.endpoint.url.port
    }

    /// Its main process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How its main process ended, if it has: one system call, to be asked often.
    pub fn exited(&self) -> Option<Exit> {
        self.process.exited()
    }

    /// How it ended after it had been ready, if it has: with the lack of memory that may be behind it, and its last lines. Waits a
    /// second at most for these.
    pub fn ended(&self) -> Option<ServerError> {
        let exit = self.process.let_end(Duration::ZERO)?;
        let (server, lines) = (self.spec.name.clone(), self.last_lines());
        Some(match self.process.output().out_of_memory() {
            Some(line) => {
                ServerError::RanOutOfMemory { server, exit, advice: memory_advice(&line), line, lines }
            }
            None => ServerError::Died { server, exit, lines },
        })
    }

    /// The line of its output that tells of too little GPU memory, and what can be done, if there is one.
    pub fn out_of_memory(&self) -> Option<(String, &'static str)> {
        let line = self.process.output().out_of_memory()?;
        let advice = memory_advice(&line);
        Some((line, advice))
    }

    /// All its living processes, the main one first: its group, their descendants, and such that have left the group.
    pub fn pids(&self) -> Vec<u32> {
        self.process.pids()
    }

    /// Last lines of its output, for messages.
    pub fn last_lines(&self) -> Vec<String> {
        self.process.output().last_lines()
    }

    /// Ends it: SIGTERM to all its processes, SIGKILL after the spec's grace, until none is left. Once more gives the
    /// same answer.
    pub fn stop(&mut self) -> Stopped {
        self.process.stop(self.spec.stop_grace)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.stop(self.spec.stop_grace.min(DROPPED));
    }
}

fn free(spec: &ServerSpec) -> Result<u16, ServerError> {
    port::free(HOST).map_err(|source| ServerError::NoPort { server: spec.name.clone(), source })
}

fn launch(
    spec: &ServerSpec,
    env: &[(String, String)],
    log: &Path,
    port: u16,
) -> Result<Process, ServerError> {
    let dir = log.parent().unwrap_or(Path::new(""));
    // The server may run in another folder than this process.
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let argv = spec.command_line(port, HOST, &dir)?;
    Process::start(&Start { name: &spec.name, argv: &argv, env, cwd: spec.cwd.as_deref(), log })
}

/// A server that somebody else has started: it is asked, and never ended.
#[derive(Debug, Clone)]
pub struct External {
    endpoint: Endpoint,
}

impl External {
    /// One at an address (`http://host[:port]`), with the model that requests ask for (`None`: the first that it lists)
    /// and the key that they must bring.
    ///
    /// # Errors
    /// The address is not one of plain HTTP.
    pub fn new(
        name: impl Into<String>,
        preset: Preset,
        url: &str,
        model: Option<String>,
        key: Option<String>,
    ) -> Result<External, ServerError> {
        let name = name.into();
        let url = Url::parse(url)
            .map_err(|e| ServerError::Spec { server: name.clone(), why: format!("cannot {e}") })?;
        let mut endpoint = Endpoint::new(name, preset, url, key);
        endpoint.model = model;
        Ok(External { endpoint })
    }

    /// Where it is and how to talk to it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits until it is there, for at most `timeout`, and then until it gives text to a real request, for at most `probe`:
    /// some compile what they need only then. See [`Server::wait_ready`].
    ///
    /// # Errors
    /// It is not ready in time, serves another model, or gives no text.
    pub fn wait_ready(
        &self,
        timeout: Duration,
        probe: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Ready, ServerError> {
        let mut wait = Wait {
            endpoint: &self.endpoint,
            process: None,
            started: Instant::now(),
            timeout,
            probe,
            interrupted,
            may_retry: false,
        };
        wait.run().map_err(|f| match f {
            Failure::Error(e) => e,
            Failure::PortTaken => ServerError::Interrupted { server: self.endpoint.name.clone() },
        })
    }
}

enum Failure {
    Error(ServerError),
    /// Somebody else has its port, and another can be tried.
    PortTaken,
}

impl From<ServerError> for Failure {
    fn from(e: ServerError) -> Failure {
        Failure::Error(e)
    }
}

/// A wait for one server.
struct Wait<'a> {
    endpoint: &'a Endpoint,
    /// `None` for somebody else's.
    process: Option<&'a mut Process>,
    started: Instant,
    timeout: Duration,
    probe: Duration,
    interrupted: &'a dyn Fn() -> bool,
    may_retry: bool,
}

impl Wait<'_> {
    fn run(&mut self) -> Result<Ready, Failure> {
        let (e, interrupted) = (self.endpoint, self.interrupted);
        if e.url.tls
            && let Err(HttpError::Tls { why, .. }) = e.get("/", self.probe.min(self.left()), interrupted)
        {
            // Waiting makes no certificate good.
            return Err(ServerError::Tls { server: e.name.clone(), why }.into());
        }
        self.until("its health check", |limit| e.health(limit, interrupted))?;
        let mut listed = Listed::Names(Vec::new());
        self.until("its list of models", |limit| {
            listed = e.models(limit, interrupted)?;
            Ok(())
        })?;
        let mut served = match listed {
            Listed::Names(names) => names,
            Listed::Refused(error) => return Err(self.explained(error)),
        };
        let model = e.choose(&served)?;
        if self.process.is_none() {
            self.timeout = self.started.elapsed() + self.probe;
        }
        self.first(&model)?;
        served.retain(|m| *m != model);
        served.insert(0, model);
        Ok(Ready { startup: self.started.elapsed(), served, version: e.version() })
    }

    /// Asks again and again until it succeeds.
    fn until(
        &mut self,
        what: &'static str,
        mut ask: impl FnMut(Duration) -> Result<(), String>,
    ) -> Result<(), Failure> {
        loop {
            self.check()?;
            let left = self.left();
            // Asked once more at the end, for a time that can be answered in.
            let last = match ask(left.max(TURN)) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            self.check()?;
            if left.is_zero() {
                return Err(self.timed_out(what, last));
            }
            std::thread::sleep(TURN);
        }
    }

    fn first(&mut self, model: &str) -> Result<(), Failure> {
        let what = "its first text";
        loop {
            let limit = self.probe.min(self.left()).max(TURN);
            match self.endpoint.first(model, limit, self.interrupted) {
                // What answers may be another server on the port that this one did not get.
                Ok(First::Text) => return self.check(),
                Ok(First::Later(why)) => {
                    self.check()?;
                    if self.left().is_zero() {
                        return Err(self.timed_out(what, why));
                    }
                    std::thread::sleep(TURN);
                }
                Err(e) => {
                    if let Some(p) = &mut self.process
                        && matches!(e, ServerError::Request { .. })
                    {
                        p.let_end(DEATH);
                    }
                    self.check()?;
                    return Err(self.explained(e));
                }
            }
        }
    }

    fn left(&self) -> Duration {
        (self.started + self.timeout).saturating_duration_since(Instant::now())
    }

    fn lines(&self) -> Vec<String> {
        self.process.as_ref().map(|p| p.output().last_lines()).unwrap_or_default()
    }

    /// Whether there is still something to wait for.
    fn check(&mut self) -> Result<(), Failure> {
        let server = || self.endpoint.name.clone();
        if (self.interrupted)() {
            return Err(ServerError::Interrupted { server: server() }.into());
        }
        let Some(p) = &mut self.process else { return Ok(()) };
        let exit = p.exited();
        if exit.is_some() {
            p.let_end(Duration::ZERO);
        }
        if let Some(line) = p.output().address_in_use().filter(|_| self.may_retry) {
            // A server may have other ports that are taken without harm.
            if exit.is_some() || line.contains(&self.endpoint.url.port.to_string()) {
                return Err(Failure::PortTaken);
            }
        }
        let Some(exit) = exit else { return Ok(()) };
        let lines = p.output().last_lines();
        let failure = ServerError::Exited { server: server(), exit, lines };
        Err(self.explained(failure))
    }

    /// The same failure, or the lack of memory that is behind it, and with the last lines.
    fn explained(&self, mut e: ServerError) -> Failure {
        let Some(p) = &self.process else { return e.into() };
        if let Some(line) = p.output().out_of_memory() {
            let (server, advice) = (self.endpoint.name.clone(), memory_advice(&line));
            return ServerError::OutOfMemory { server, line, advice, lines: self.lines() }.into();
        }
        if let ServerError::BadAnswer { lines, .. } | ServerError::Request { lines, .. } = &mut e {
            *lines = self.lines();
        }
        e.into()
    }

    fn timed_out(&self, waited_for: &'static str, last: String) -> Failure {
        let (server, lines) = (self.endpoint.name.clone(), self.lines());
        let after = self.started.elapsed();
        self.explained(ServerError::TimedOut { server, after, waited_for, last, lines })
    }
}
