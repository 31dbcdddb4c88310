//! A server tenant: a process of ours that starts a server (or knows where one is), drives the load on it, and speaks
//! the tenant protocol with the run. So a server is started, watched, timed and ended like any other program.
//!
//! It outlives the run by as long as it takes to end its server: where the run is gone, its end of the pipe is closed.

use super::drive::{Control, Driven, LoadSource, prepare};
use super::plan::load_options;
use super::running::Running;
use super::watch::{Heard, ServerMoment, Watch};
use crate::provenance::{self, gather};
use cotenant_load::stream_seed;
use cotenant_servers::{External, MPS_CLIENT, Preset, Server, ServerError, ServerSpec};
use cotenant_spec::plan::{ServerLoad, ServerSetup};
use cotenant_stats::Gaps;
use cotenant_store::serving::{LoadManifest, RequestLine, RequestRecord, ServerSaid};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Time that a server gets to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// Time limit of the first request to a server.
const FIRST: Duration = Duration::from_secs(120);
/// The fact that tells where a server is.
pub const SERVER_URL: &str = "server_url";
/// Name of the file with the client's side of a phase, after that of the requests.
const CLIENT: &str = "client";

/// What the run tells a server tenant to set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantSetup {
    /// Tenant.
    pub name: String,
    /// How its server is started, or where it is.
    pub server: ServerSetup,
    /// What is asked of it.
    pub load: ServerLoad,
    /// Seed of the experiment.
    pub seed: u64,
    /// File that takes the requests of a phase.
    pub records: PathBuf,
    /// File that takes the server's output.
    pub log: PathBuf,
}

/// The client's side of a phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServedClient {
    /// Length of the phase, ns.
    pub wall_ns: u64,
    /// CPU time of the process that drove, ns.
    pub cpu_ns: u64,
    /// Largest share of a core in any half second.
    pub busiest: f64,
    /// Most requests in flight.
    pub peak_in_flight: u32,
    /// Requests have intended times of their own.
    pub open: bool,
    /// What is asked, and when, in words.
    pub asks: String,
    /// See `asks`.
    pub arrivals: String,
    /// What the drawn times differ in from what was asked, beyond chance.
    #[serde(default)]
    pub departures: Vec<String>,
    /// Gaps between chunks.
    pub gaps: Gaps,
    /// What the server said of itself meanwhile.
    pub said: Option<ServerSaid>,
    /// The same, each answer.
    #[serde(default)]
    pub moments: Vec<ServerMoment>,
}

/// What a server tenant did in a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// Its requests, by when they were sent.
    pub requests: Vec<RequestLine>,
    /// The client's side.
    pub client: ServedClient,
}

impl Served {
    /// Reads what a tenant left of its last phase.
    ///
    /// # Errors
    /// A file is missing or damaged, in words.
    pub fn read(records: &Path) -> Result<Served, String> {
        let shown = |p: &Path, e: &dyn std::fmt::Display| format!("read {}: {e}", p.display());
        let file = records.with_extension(CLIENT);
        let text = std::fs::read_to_string(&file).map_err(|e| shown(&file, &e))?;
        let client = serde_json::from_str(&text).map_err(|e| shown(&file, &e))?;
        let text = std::fs::read_to_string(records).map_err(|e| shown(records, &e))?;
        let requests: Result<Vec<RequestLine>, _> = text.lines().map(serde_json::from_str).collect();
        let mut requests = requests.map_err(|e| shown(records, &e))?;
        requests.sort_by_key(|r| r.record.sent_ns.unwrap_or(r.record.intended_ns));
        Ok(Served { requests, client })
    }
}

/// Why a tenant cannot go on: the kind of the protocol, and words.
struct Ended(&'static str, String);

impl From<ServerError> for Ended {
    fn from(e: ServerError) -> Ended {
        let kind = if e.is_lack_of_memory() { "memory" } else { "failed" };
        Ended(kind, e.to_string())
    }
}

fn failed(e: impl std::fmt::Display) -> Ended {
    Ended("failed", e.to_string())
}

struct Tenant {
    out: RefCell<File>,
    commands: Receiver<String>,
    told: Cell<Instant>,
    server: Option<Running>,
    model: String,
    setup: Option<TenantSetup>,
    phases: u64,
}

/// Serves as a tenant until told to exit: `cotenant server-tenant`, started by a run only. Returns the exit status.
pub fn serve() -> i32 {
    let descriptor = |name: &str| -> Option<OwnedFd> {
        let fd: i32 = std::env::var(name).ok()?.parse().ok().filter(|fd| *fd > 2)?;
        // SAFETY: the run that starts this process hands these two descriptors over to it, and nothing else here
        // owns them; a number that is no open descriptor fails at its first use.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    let (Some(input), Some(output)) = (descriptor("COTENANT_IN"), descriptor("COTENANT_OUT")) else {
        eprintln!("server-tenant is started by a run (`cotenant run`) and not by hand");
        return 2;
    };
    // The server that is started here must not inherit them.
    for fd in [&input, &output] {
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
    let (tell, commands) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(File::from(input)).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    let mut tenant = Tenant {
        out: RefCell::new(File::from(output)),
        commands,
        told: Cell::new(Instant::now()),
        server: None,
        model: String::new(),
        setup: None,
        phases: 0,
    };
    tenant.say("hello 1");
    tenant.say("ready");
    let ended = tenant.obey();
    if let Err(Ended(kind, words)) = &ended {
        // One line: the protocol has no other.
        tenant.say(&format!("error {kind} {}", words.replace('\n', " | ")));
    }
    if let Some(Running::Ours(s)) = &mut tenant.server {
        s.stop();
    }
    i32::from(ended.is_err())
}

impl Tenant {
    /// Says a line. Whoever does not listen any more has closed the other pipe too.
    fn say(&self, line: &str) {
        self.told.set(Instant::now());
        let _ = self.out.borrow_mut().write_all(format!("{line}\n").as_bytes());
    }

    fn sign_of_life(&self, what: &str) {
        if self.told.get().elapsed() > SIGN_OF_LIFE {
            self.say(&format!("note {what}"));
        }
    }

    fn obey(&mut self) -> Result<(), Ended> {
        loop {
            let line = match self.commands.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    self.still_there()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let goes_on = match word {
                "setup" => self.set_up(rest)?,
                "arm" => self.phase(rest)?,
                "exit" => false,
                // A `stop` that has crossed `done` on its way.
                _ => true,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Whether a server of ours still runs.
    fn still_there(&self) -> Result<(), Ended> {
        match self.server.as_ref().and_then(Running::ended) {
            None => Ok(()),
            Some(e) => Err(e.into()),
        }
    }

    /// Starts the server, or keeps the one that runs; false where the run has gone meanwhile.
    fn set_up(&mut self, text: &str) -> Result<bool, Ended> {
        let setup: TenantSetup = serde_json::from_str(text).map_err(failed)?;
        let same = self.setup.as_ref().is_some_and(|s| s.server == setup.server) && self.server.is_some();
        if !same {
            if let Some(Running::Ours(s)) = &mut self.server {
                s.stop();
            }
            self.server = None;
            let gone = Cell::new(false);
            let waited = Instant::now();
            let give_up = || {
                self.sign_of_life(&format!(
                    "waiting for the server, {} s so far",
                    waited.elapsed().as_secs()
                ));
                // Nothing but an exit can come now.
                gone.set(gone.get() || !matches!(self.commands.try_recv(), Err(TryRecvError::Empty)));
                gone.get()
            };
            let s = &setup.server;
            let preset: Preset = s.preset.parse().map_err(failed)?;
            let (running, ready) = match &s.url {
                Some(url) => {
                    let key = s.api_key_env.as_ref().map(|name| {
                        std::env::var(name).map_err(|_| {
                            failed(format!("the environment has no {name} (server.api_key_env)"))
                        })
                    });
                    let theirs = External::new(&setup.name, preset, url, s.model.clone(), key.transpose()?)?;
                    let limit = s.startup.map_or(Duration::from_secs(10), Duration::from_nanos);
                    let ready = theirs.wait_ready(limit, FIRST, &give_up);
                    (Running::Theirs(theirs), ready)
                }
                None => {
                    let spec = spec(&setup, preset, &|name| std::env::var(name).ok())?;
                    let mut ours = Server::start(spec, std::iter::empty(), &setup.log)?;
                    let ready = ours.wait_ready(FIRST, &give_up);
                    (Running::Ours(Box::new(ours)), ready)
                }
            };
            let url = running.endpoint().url.to_string();
            self.server = Some(running);
            let ready = match ready {
                Err(ServerError::Interrupted { .. }) if gone.get() => return Ok(false),
                other => other?,
            };
            self.model = ready.served.first().cloned().unwrap_or_default();
            self.fact(SERVER_URL, url);
            self.fact("server_version", ready.version);
            self.fact("server_startup_s", ready.startup.as_secs_f64());
            self.fact("served_models", ready.served);
        }
        self.setup = Some(setup);
        self.say("ready");
        Ok(true)
    }

    fn fact(&self, key: &str, value: impl Serialize) {
        if let Ok(json) = serde_json::to_string(&value) {
            self.say(&format!("fact {key} {json}"));
        }
    }

    /// One phase, from `arm` to `done`; false where the run has gone meanwhile.
    fn phase(&mut self, words: &str) -> Result<bool, Ended> {
        let (Some(setup), Some(server)) = (&self.setup, &self.server) else {
            return Err(failed("it was told to run before it was set up"));
        };
        let option = |key: &str| {
            words.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
        };
        let number = |key: &str| option(key).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let until_stop = option("until").as_deref() == Some("stop");
        let (warmup, repeat) = (number("warmup"), number("repeat"));
        // The same arrivals in all phases of a repeat, and other words in each phase: what a server has in its cache
        // of the phase before must not answer for it.
        self.phases += 1;
        let base = stream_seed(setup.seed, &setup.name, repeat);
        let model = setup.load.model.clone().unwrap_or_else(|| self.model.clone());
        let plan = |load: &ServerLoad, what: &str| {
            let mut options = load_options(load, base).map_err(failed)?;
            options.texts_seed = Some(stream_seed(base, what, self.phases));
            options.plan(server.endpoint(), &model, gather(setup.seed, "")).map_err(failed)
        };
        let gone = Cell::new(false);
        if warmup > 0 {
            let users = setup.load.concurrency.unwrap_or(4).min(u32::try_from(warmup).unwrap_or(u32::MAX));
            let (requests, concurrency) = (u32::try_from(warmup).ok(), Some(users));
            let closed = ServerLoad {
                requests,
                concurrency,
                duration: None,
                rate: None,
                arrivals: None,
                profile: None,
                think: None,
                trace: None,
                trace_part: None,
                exact_rate: false,
                ..setup.load.clone()
            };
            let load = plan(&closed, "warm-up")?.load;
            let warmed = setup.records.with_extension("warmup");
            let stop = || {
                self.sign_of_life("warming up");
                gone.set(gone.get() || matches!(self.commands.try_recv(), Err(TryRecvError::Disconnected)));
                gone.get()
            };
            prepare(vec![load], create(&warmed)?)
                .and_then(|p| p.run(None, u64::MAX, &stop))
                .map_err(failed)?;
            let _ = std::fs::remove_file(warmed);
            self.still_there()?;
        }
        let mut planned = plan(&setup.load, "asks")?;
        let control = Rc::new(Control::default());
        planned.load.control = Some(Rc::clone(&control));
        let wanted = planned.load.requests();
        let ends_by_time = wanted == u64::MAX;
        let until_ns = setup.load.duration.unwrap_or(u64::MAX);
        // A closed loop goes on until the others are done too.
        if until_stop && let LoadSource::Closed { until_ns, requests, .. } = &mut planned.load.source {
            (*until_ns, *requests) = (u64::MAX, u64::MAX);
        }
        let prepared = prepare(vec![planned.load], create(&setup.records)?).map_err(failed)?;
        self.say("armed");
        let at = loop {
            let Ok(line) = self.commands.recv() else { return Ok(false) };
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("go", at) => break at.parse::<u64>().map_err(|_| failed("`go` without a time"))?,
                ("stop", _) => {
                    self.say("done");
                    return Ok(true);
                }
                ("exit", _) => return Ok(false),
                _ => {}
            }
        };
        let enough = Cell::new(false);
        let died = Cell::new(false);
        let stop = || {
            self.sign_of_life(&format!("{} requests so far", control.ended.get()));
            let elapsed = crate::program::monotonic_ns().saturating_sub(at);
            let has = if ends_by_time { elapsed >= until_ns } else { control.ended.get() >= wanted };
            if until_stop && has && !enough.get() {
                enough.set(true);
                self.say("enough");
            }
            match self.commands.try_recv() {
                Ok(line) if line == "stop" => control.stop.set(true),
                Ok(line) if line == "exit" => gone.set(true),
                Err(TryRecvError::Disconnected) => gone.set(true),
                _ => {}
            }
            died.set(died.get() || server.exit().is_some());
            gone.get() || died.get()
        };
        let watch = Watch::start(server.endpoint(), at);
        let driven = prepared.run(Some(at), u64::MAX, &stop).map_err(failed)?;
        let heard = watch.finish();
        if gone.get() {
            return Ok(false);
        }
        if died.get() {
            return self.still_there().map(|()| true);
        }
        self.finish(at, &driven, heard, planned.manifest)?;
        if until_stop {
            if !enough.get() {
                self.say("enough");
            }
            while !control.stop.get() {
                match self.commands.recv_timeout(SIGN_OF_LIFE) {
                    Ok(line) if line == "stop" => break,
                    Ok(line) if line == "exit" => return Ok(false),
                    Err(RecvTimeoutError::Disconnected) => return Ok(false),
                    _ => self.say("note waiting for the others"),
                }
            }
        }
        self.say("done");
        Ok(true)
    }

    /// Tells what a phase gave.
    fn finish(
        &self,
        at: u64,
        driven: &Driven,
        (said, moments): Heard,
        planned: LoadManifest,
    ) -> Result<(), Ended> {
        let (Some(setup), Some(server)) = (&self.setup, &self.server) else { return Ok(()) };
        let open = planned.open;
        let client = ServedClient {
            wall_ns: driven.outcome.wall_ns,
            cpu_ns: driven.cpu_ns,
            busiest: driven.outcome.busiest,
            peak_in_flight: driven.outcome.peak_in_flight,
            open,
            asks: planned.asks,
            arrivals: planned.arrivals,
            departures: planned.departures,
            gaps: driven.gaps.first().cloned().unwrap_or_default(),
            said,
            moments,
        };
        let json = serde_json::to_string(&client).map_err(failed)?;
        std::fs::write(setup.records.with_extension(CLIENT), json).map_err(failed)?;
        let served = Served::read(&setup.records).map_err(failed)?;
        if let Some(gone) = server.gone(&served.requests, &|| {
            self.sign_of_life("asking whether the server is still there");
            false
        }) {
            return Err(gone.into());
        }
        let whole: Vec<&RequestRecord> =
            served.requests.iter().map(|r| &r.record).filter(|r| r.ok()).collect();
        if whole.is_empty() {
            let first = served.requests.iter().find_map(|r| r.record.failure.as_ref());
            let why = first.map_or_else(
                || "no request was sent".to_owned(),
                |f| format!("the first failed: {}: {}", f.kind.name(), f.detail),
            );
            let mut words = format!("none of {} requests came back whole; {why}", served.requests.len());
            let memory = server.lack_of_memory();
            let kind = if memory.is_some() { "memory" } else { "failed" };
            words.push_str(&memory.unwrap_or_default());
            words.push_str(&server.last_words());
            return Err(Ended(kind, words));
        }
        let mut lines = String::new();
        for r in whole {
            let (sent, end) = (r.sent_ns.unwrap_or(r.intended_ns), r.end_ns);
            lines.push_str(&format!("it {} {} tokens={}", at + sent, at + end, r.output_tokens));
            if open {
                lines.push_str(&format!(" arrival={}", at + r.intended_ns));
            }
            lines.push('\n');
        }
        let _ = self.out.borrow_mut().write_all(lines.as_bytes());
        Ok(())
    }
}

fn create(path: &Path) -> Result<File, Ended> {
    File::create(path).map_err(|e| failed(format!("write {}: {e}", path.display())))
}

/// The server as the crate `servers` takes it, with what the run set in this process's environment for its MPS client: servers
/// inherit nothing of that by themselves.
fn spec(
    setup: &TenantSetup,
    preset: Preset,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<ServerSpec, Ended> {
    let s = &setup.server;
    let mut spec = ServerSpec::new(&setup.name, preset);
    spec.command = match (&s.command, preset) {
        // Our own server is this program.
        (None, Preset::TokenServer) => {
            let exe = provenance::own_program().map_err(failed)?;
            Some(vec![
                exe.to_string_lossy().into_owned(),
                "token-server".into(),
                "--port".into(),
                "{port}".into(),
            ])
        }
        (command, _) => command.clone(),
    };
    spec.args.clone_from(&s.args);
    spec.model.clone_from(&s.model);
    spec.served_name.clone_from(&s.served_name);
    spec.adapters = s.adapters.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    spec.memory_share = s.memory_share;
    spec.max_model_len = s.max_model_len;
    spec.dtype.clone_from(&s.dtype);
    spec.device.clone_from(&s.device);
    spec.api_key_env.clone_from(&s.api_key_env);
    if let Some(python) = &s.python {
        spec.python.clone_from(python);
    }
    if let Some(ns) = s.startup {
        spec.startup_timeout = Duration::from_nanos(ns);
    }
    spec.stop_grace = STOP_GRACE;
    spec.env.extend(MPS_CLIENT.iter().filter_map(|name| Some(((*name).to_owned(), environment(name)?))));
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_an_mps_client_reach_the_server() {
        let setup = TenantSetup {
            name: "llm".into(),
            server: ServerSetup { preset: "vllm".into(), model: Some("m".into()), ..ServerSetup::default() },
            load: ServerLoad::default(),
            seed: 1,
            records: PathBuf::new(),
            log: PathBuf::new(),
        };
        let limit = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE";
        let environment = |name: &str| (name == limit).then(|| "30".to_owned());
        let env = spec(&setup, Preset::Vllm, &environment).map(|s| s.env).unwrap_or_default();
        assert_eq!(env, [(limit.to_owned(), "30".to_owned())]);
    }
}
