//! All program tenants of a run. Processes are kept from trial to trial: loading a model is the cost that users feel.

use super::crew::{Crew, Kernels, Member};
use super::lines::Arm;
use super::process::{Ear, Heard, Kit, Program, Start, end_all};
use super::tracer::Tracer;
use super::{cores, monotonic_ns, process};
use crate::backend::{TenantRun, TrialError};
use crate::serving::{SERVER_URL, Served, TenantSetup};
use cotenant_spec::plan::{ModelSetup, Plan, TenantPlan, Workload};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A tenant and the environment that its sharing mode gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'a> {
    /// Index in the trial.
    pub tenant: usize,
    /// The tenant.
    pub plan: &'a TenantPlan,
    /// Environment of the sharing mode.
    pub env: Vec<(String, String)>,
}

/// What a tenant does in a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Order<'a> {
    /// Index in the trial.
    pub tenant: usize,
    /// Handle that [`Troupe::cast`] gave.
    pub handle: u64,
    /// Its plan.
    pub plan: &'a TenantPlan,
    /// Open loop: arrivals.
    pub arrivals: &'a [u64],
    /// Repeat, from 0.
    pub repeat: u32,
}

/// Model workers that are started at once at most, besides what a trial needs: each takes a core and a gigabyte
/// while it imports.
const AHEAD: usize = 12;

/// How a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It speaks the protocol.
    Lines,
    /// It is run whole.
    Whole,
    /// It speaks the protocol, and has a server of its own to end.
    Shepherd,
}

/// A process that is kept.
#[derive(Debug)]
struct Held {
    id: u64,
    /// What it was started as: program, arguments and its own environment.
    line: String,
    /// Whose it is: the line, the sharing mode's environment, and the model; `None`: a model worker that has not been
    /// told yet.
    key: Option<String>,
    /// `None`: opaque, and not running between phases.
    program: Option<Program>,
    start: (Vec<String>, Vec<(String, String)>),
    /// The set-up in force, as JSON.
    setup: Option<String>,
    fresh: bool,
    busy: bool,
    /// It is not for another trial: something of the recorder stays in it, or its server is to be started anew.
    spent: bool,
    /// `None`: a server, which runs as it would without us.
    tracer: Option<Tracer>,
    facts: Vec<(String, serde_json::Value)>,
}

/// All of them.
#[derive(Debug)]
pub struct Troupe {
    scratch: PathBuf,
    kit: Option<Kit>,
    tell: Ear,
    ear: Receiver<(u64, Heard)>,
    held: Vec<Held>,
    next: u64,
    expected: usize,
    logs: Option<PathBuf>,
    traces: Option<PathBuf>,
    interrupted: Arc<AtomicBool>,
    /// Servers that failed to start, by their keys, and how: each costs a minute, and a run has many trials of it.
    refused: BTreeMap<String, String>,
}

impl Troupe {
    /// Nobody yet. Files that tenants need will lie under `scratch`.
    pub fn new(scratch: PathBuf, interrupted: Arc<AtomicBool>) -> Troupe {
        let (tell, ear) = channel();
        Troupe {
            scratch,
            kit: None,
            tell,
            ear,
            held: Vec::new(),
            next: 1,
            expected: 0,
            logs: None,
            traces: None,
            interrupted,
            refused: BTreeMap::new(),
        }
    }

    /// Where the output of programs is kept.
    pub fn set_logs(&mut self, folder: &Path) {
        self.logs = Some(folder.to_owned());
    }

    /// Where traces of the kernel clock are kept, if they are.
    pub fn set_traces(&mut self, folder: &Path) {
        self.traces = Some(folder.to_owned());
    }

    /// Ends these, all at once.
    fn end(&self, gone: Vec<Held>) {
        let keep = self.traces.as_ref().filter(|dir| std::fs::create_dir_all(dir).is_ok());
        let mut programs = Vec::new();
        for h in gone {
            if let (Some(dir), Some(t)) = (keep, &h.tracer) {
                // A trace that cannot be kept is no reason to lose the measurement.
                let _ = t.save(dir, h.id);
            }
            programs.extend(h.program);
        }
        end_all(&mut programs);
    }

    /// Ends all.
    pub fn clear(&mut self) {
        let all = self.held.drain(..).collect();
        self.end(all);
    }

    /// Ends those that no tenant of the present trial uses.
    pub fn clear_spare(&mut self) {
        let (busy, spare): (Vec<Held>, Vec<Held>) =
            self.held.drain(..).partition(|h| h.busy || h.key.is_none());
        self.held = busy;
        self.end(spare);
    }

    /// Whether no process is kept.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Processes of earlier trials that no tenant of this one uses.
    pub fn spare(&self) -> usize {
        self.held.iter().filter(|h| !h.busy && h.key.is_some() && h.program.is_some()).count()
    }

    /// Whether one of [`Troupe::spare`] is a server.
    pub fn spare_serves(&self) -> bool {
        self.held.iter().any(|h| !h.busy && h.tracer.is_none() && h.program.is_some())
    }

    /// Announces a plan: how many model workers it may need tells how many to start at once. A worker takes seconds to
    /// import torch, and several take hardly longer than one, as long as nothing is being measured.
    pub fn expect(&mut self, plan: &Plan) {
        let mut keys: Vec<String> = plan
            .trials
            .iter()
            .flat_map(|t| t.tenants.iter().enumerate().map(move |(i, p)| (t, i, p)))
            .filter_map(|(t, i, p)| match &p.workload {
                Workload::Torch(m) => {
                    let twin = |o: &&TenantPlan| matches!(&o.workload, Workload::Torch(n) if kept_model(&n.setup) == kept_model(&m.setup));
                    let copy = t.tenants[..i].iter().filter(twin).count();
                    Some(format!("{:?} {copy} {}", t.sharing, kept_model(&m.setup)))
                }
                _ => None,
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        self.expected = keys.len();
    }

    /// Finds or starts a process for each part, without waiting for it. Returns a handle for each.
    ///
    /// # Errors
    /// A program cannot be started.
    pub fn cast(&mut self, parts: &[Part<'_>]) -> Result<Vec<u64>, TrialError> {
        for h in &mut self.held {
            h.busy = false;
        }
        // One that ended between trials is not worth a failure of the next. An opaque program has no process now.
        let (kept, gone): (Vec<Held>, Vec<Held>) = self.held.drain(..).partition(|h| !h.spent);
        self.held = kept;
        self.end(gone);
        self.held.retain_mut(|h| h.program.as_mut().is_none_or(|p| p.status().is_none()));
        parts.iter().map(|p| self.cast_one(p)).collect()
    }

    fn cast_one(&mut self, part: &Part<'_>) -> Result<u64, TrialError> {
        let (argv, own_env, opaque) = self.line(part.plan)?;
        let kind = match &part.plan.workload {
            Workload::Server(_) => Kind::Shepherd,
            _ if opaque => Kind::Whole,
            _ => Kind::Lines,
        };
        let model = match &part.plan.workload {
            Workload::Torch(t) => Some(kept_model(&t.setup)),
            _ => None,
        };
        let line = format!("{argv:?} {own_env:?}");
        let server = part.plan.server().and_then(|s| serde_json::to_string(&s.setup).ok());
        let kept = model.clone().or(server).unwrap_or_default();
        let key = format!("{line} {:?} {kept}", part.env);
        if let Some(why) = self.refused.get(&key) {
            return Err(TrialError::Failed(format!(
                "tenant {}: not tried again, since the same server failed to start in an earlier trial (--resume tries \
                 once more): {why}",
                part.plan.name
            )));
        }
        let setup = self.setup_line(part, 0, &[]);
        let free = |h: &Held| !h.busy && h.key.as_ref() == Some(&key);
        // Best one that is set up just so, then one of the same model, then one that is nobody's yet.
        let found = self
            .held
            .iter()
            .position(|h| free(h) && h.setup == setup)
            .or_else(|| self.held.iter().position(free));
        let blank = |h: &Held| h.key.is_none() && h.line == line;
        let found = match found.or_else(|| self.held.iter().position(blank)) {
            Some(i) => i,
            None if model.is_some() => {
                let several = self.expected.clamp(1, AHEAD.min(cores::cores().len().max(1)));
                for _ in 0..several {
                    self.add(&part.plan.name, &argv, own_env.clone(), kind, line.clone(), None)?;
                }
                self.held.len() - several
            }
            None => {
                let mut env = own_env;
                env.extend(part.env.iter().cloned());
                self.add(&part.plan.name, &argv, env, kind, line, Some(key.clone()))?;
                self.held.len() - 1
            }
        };
        let h = &mut self.held[found];
        if h.key.is_none() {
            self.expected = self.expected.saturating_sub(1);
        }
        h.busy = true;
        h.spent |= part.plan.server().is_some_and(|s| s.setup.restart);
        h.key = Some(key);
        if let Some(p) = &mut h.program {
            p.name.clone_from(&part.plan.name);
        }
        Ok(h.id)
    }

    /// Starts a process, or notes down an opaque one.
    fn add(
        &mut self,
        name: &str,
        argv: &[String],
        mut env: Vec<(String, String)>,
        kind: Kind,
        line: String,
        key: Option<String>,
    ) -> Result<(), TrialError> {
        let id = self.next;
        self.next += 1;
        let (opaque, shepherd) = (kind == Kind::Whole, kind == Kind::Shepherd);
        let kit = self.kit()?;
        let traces = kit.traces().join(id.to_string());
        let python_path = kit.path().to_owned();
        if !shepherd {
            env.extend(kit.trace_env(&traces));
        }
        std::fs::create_dir(&traces)
            .map_err(|e| TrialError::Failed(format!("make {}: {e}", traces.display())))?;
        if !shepherd && env.iter().all(|(k, _)| k != "PYTHONPATH") {
            let own = std::env::var_os("PYTHONPATH").unwrap_or_default();
            let all = std::iter::once(python_path).chain(std::env::split_paths(&own));
            if let Ok(joined) = std::env::join_paths(all.filter(|p| !p.as_os_str().is_empty())) {
                env.push(("PYTHONPATH".into(), joined.to_string_lossy().into_owned()));
            }
        }
        let program =
            if opaque { None } else { Some(start(&self.logs, &self.tell, id, name, argv, &env, kind)?) };
        let start = (argv.to_vec(), env);
        // A server is a program of others, which runs as it would without us.
        let tracer = (!shepherd).then(|| Tracer::new(traces));
        let facts = Vec::new();
        self.held.push(Held {
            id,
            line,
            key,
            program,
            start,
            setup: None,
            fresh: true,
            busy: false,
            spent: false,
            tracer,
            facts,
        });
        Ok(())
    }

    fn kit(&mut self) -> Result<&Kit, TrialError> {
        if self.kit.is_none() {
            let kit = Kit::unpack(&self.scratch).map_err(|e| {
                TrialError::Failed(format!("write the tenants' files to {}: {e}", self.scratch.display()))
            })?;
            self.kit = Some(kit);
        }
        self.kit.as_ref().ok_or_else(|| TrialError::Failed("there are no tenants' files".into()))
    }

    /// Arguments and own environment of a program tenant, and whether it is opaque.
    #[expect(clippy::type_complexity, reason = "three plain parts of one answer")]
    fn line(&mut self, plan: &TenantPlan) -> Result<(Vec<String>, Vec<(String, String)>, bool), TrialError> {
        let pairs = |m: &std::collections::BTreeMap<String, String>| {
            m.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
        };
        match &plan.workload {
            Workload::Torch(t) => {
                let worker = self.kit()?.file("torch_worker.py");
                Ok((vec![t.python.clone(), worker], pairs(&t.env), false))
            }
            Workload::Command(c) => Ok((c.argv.clone(), pairs(&c.env), c.opaque)),
            Workload::Server(s) => {
                let exe = crate::provenance::own_program()
                    .map_err(|e| TrialError::Failed(format!("find the program of server tenants: {e}")))?;
                Ok((vec![exe.to_string_lossy().into_owned(), "server-tenant".into()], pairs(&s.env), false))
            }
            Workload::Kernel(_) => {
                Err(TrialError::Failed(format!("tenant {}: a kernel is no program", plan.name)))
            }
        }
    }

    /// Waits until the programs behind `handles` are set up for their tenants. Nothing is waited for where all are.
    ///
    /// # Errors
    /// One failed, died or hung. None of the processes is then of any use: [`Troupe::clear`] them.
    pub fn set_up(
        &mut self,
        parts: &[Part<'_>],
        handles: &[u64],
        watchdog: Duration,
    ) -> Result<(), TrialError> {
        // A server that looks how much memory is free while another one fills it takes too little or fails: one after
        // the other, unless said otherwise, and before anyone else.
        let alone =
            |i: &usize| parts[*i].plan.server().is_some_and(|s| s.setup.starts() && !s.setup.start_together);
        let servers: Vec<usize> = (0..parts.len()).filter(alone).collect();
        if !servers.is_empty() {
            // What programs say while another one is waited for is lost: all come to their first `ready` together.
            self.set_up_together(parts, handles, watchdog, &[])?;
        }
        for i in servers {
            self.set_up_together(parts, handles, watchdog, &[i])?;
        }
        // Those that use another's server must know where it is.
        let borrows = |i: &usize| parts[*i].plan.server().is_some_and(|s| s.setup.of.is_some());
        let (last, first): (Vec<usize>, Vec<usize>) = (0..parts.len()).partition(borrows);
        self.set_up_together(parts, handles, watchdog, &first)?;
        if last.is_empty() { Ok(()) } else { self.set_up_together(parts, handles, watchdog, &last) }
    }

    /// Sets up those of the parts whose places are in `who`, and waits until all others have come to their first `ready`.
    fn set_up_together(
        &mut self,
        parts: &[Part<'_>],
        handles: &[u64],
        watchdog: Duration,
        who: &[usize],
    ) -> Result<(), TrialError> {
        let (mut members, mut told, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let nothing =
            Arm { warmup: 0, iterations: 0, until_stop: false, gap_ns: 0, arrivals: &[], repeat: None };
        let mut wanted_by: Vec<(u64, usize, Option<String>)> = Vec::new();
        let peers: Vec<(&Part<'_>, u64)> = parts.iter().zip(handles.iter().copied()).collect();
        for (i, (part, id)) in parts.iter().zip(handles).enumerate() {
            let line = who.contains(&i).then(|| self.setup_line(part, *id, &peers)).flatten();
            wanted_by.push((*id, part.tenant, line));
        }
        for h in &mut self.held {
            let Some(program) = &mut h.program else { continue };
            let (tenant, wanted) = match wanted_by.iter().find(|w| w.0 == h.id) {
                Some((_, tenant, line)) => (*tenant, line.clone()),
                // One that was started ahead: its import must not fall into what is measured.
                None if h.key.is_none() && h.fresh => (usize::MAX, None),
                None => continue,
            };
            let line = wanted.filter(|w| h.setup.as_ref() != Some(w));
            if h.fresh || line.is_some() {
                ids.push(h.id);
                told.push((h.fresh, line));
                members.push(Member::new(tenant, program, nothing));
            }
        }
        if members.is_empty() {
            return Ok(());
        }
        let ready = Crew::new(members, &self.ear, &self.interrupted, watchdog).set_up(&told);
        if let Err(TrialError::Failed(why)) = &ready {
            self.note_refused(parts, handles, why);
        }
        let facts = ready?;
        for ((id, (_, line)), facts) in ids.into_iter().zip(told).zip(facts) {
            let Some(h) = self.held.iter_mut().find(|h| h.id == id) else { continue };
            h.fresh = false;
            if line.is_some() {
                h.setup = line;
                h.facts.clear();
            }
            h.facts.extend(facts);
        }
        Ok(())
    }

    /// Remembers a server that failed to start.
    fn note_refused(&mut self, parts: &[Part<'_>], handles: &[u64], why: &str) {
        for (part, id) in parts.iter().zip(handles).filter(|(p, _)| p.plan.server().is_some()) {
            let Some(words) = why.strip_prefix(&format!("tenant {}: ", part.plan.name)) else { continue };
            let never = |h: &&Held| h.id == *id && h.setup.is_none();
            if let Some(key) = self.held.iter().find(never).and_then(|h| h.key.clone()) {
                self.refused.insert(key, words.chars().take(300).collect());
            }
        }
    }

    /// What the program behind a handle told of itself.
    pub fn facts(&self, handle: u64) -> Vec<(String, serde_json::Value)> {
        let Some(h) = self.held.iter().find(|h| h.id == handle) else { return Vec::new() };
        let off = h.tracer.as_ref().and_then(Tracer::off);
        let off = off.map(|why| ("kernel_clock_off".to_owned(), serde_json::Value::from(why)));
        let pid = h.program.as_ref().map(|p| ("pid".to_owned(), serde_json::Value::from(p.pid())));
        h.facts.iter().cloned().chain(pid).chain(off).collect()
    }

    /// Runs a phase of these. `kernels`: kernel tenants that run beside them; `armed` is called when all programs stand
    /// at the barrier, to send the kernel tenants to theirs.
    ///
    /// # Errors
    /// As [`Troupe::set_up`].
    pub fn run(
        &mut self,
        orders: &[Order<'_>],
        until_stop: bool,
        watchdog: Duration,
        armed: &mut dyn FnMut() -> Result<(), TrialError>,
        kernels: Option<Kernels<'_>>,
    ) -> Result<Vec<TenantRun>, TrialError> {
        // Opaque ones are run whole: they start beside the others, and end when they end.
        let whole: Vec<_> = orders
            .iter()
            .filter_map(|o| {
                let h = self.held.iter().find(|h| h.id == o.handle && h.program.is_none())?;
                Some((o, h.start.clone()))
            })
            .collect();
        let members = members(&mut self.held, orders, until_stop);
        let mut crew = Crew::new(members, &self.ear, &self.interrupted, watchdog);
        crew.arm()?;
        armed()?;
        let mut running = Vec::new();
        for (o, (argv, env)) in whole {
            let begin = monotonic_ns();
            let program = start(&self.logs, &self.tell, o.handle, &o.plan.name, &argv, &env, Kind::Whole)?;
            running.push((o.tenant, begin, program));
        }
        if running.is_empty() {
            let mut out = crew.run(kernels)?;
            self.add_served(orders, &mut out)?;
            return Ok(out);
        }
        let given_up = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ends = scope.spawn(|| ends(running, watchdog, &[&self.interrupted, &given_up]));
            let ran = crew.run(kernels);
            given_up.store(ran.is_err(), Ordering::Relaxed);
            let whole =
                ends.join().unwrap_or_else(|_| Err(TrialError::Failed("a watching thread panicked".into())));
            let mut out = ran?;
            out.extend(whole?);
            Ok(out)
        })
        .and_then(|mut out| {
            self.add_served(orders, &mut out)?;
            Ok(out)
        })
    }

    /// Adds what server tenants left of their phase.
    fn add_served(&self, orders: &[Order<'_>], runs: &mut [TenantRun]) -> Result<(), TrialError> {
        for o in orders.iter().filter(|o| o.plan.server().is_some()) {
            let Some(run) = runs.iter_mut().find(|r| r.tenant == o.tenant) else { continue };
            let Some(records) = self.records(o.handle) else { continue };
            let served = Served::read(&records)
                .map_err(|e| TrialError::Failed(format!("tenant {}: {e}", o.plan.name)))?;
            run.served = Some(Box::new(served));
        }
        Ok(())
    }

    /// Where the server tenant behind a handle leaves its requests.
    fn records(&self, handle: u64) -> Option<PathBuf> {
        Some(self.kit.as_ref()?.traces().join(handle.to_string()).join("requests.jsonl"))
    }

    /// The `setup` line of a tenant, if its program takes one: the model's, with the sharing mode's environment; or
    /// the server's, with where its files go. `peers`: the tenants of the trial with their handles, among which is whose
    /// server it uses.
    fn setup_line(&self, part: &Part<'_>, handle: u64, peers: &[(&Part<'_>, u64)]) -> Option<String> {
        if let Some(s) = part.plan.server() {
            let records = self.records(handle)?;
            let name = part.plan.name.clone();
            let log = match &self.logs {
                Some(dir) => dir.join(format!("server-{name}-{handle}.log")),
                None => records.with_file_name("server.log"),
            };
            let (mut server, load) = (s.setup.clone(), s.load.clone());
            if let Some(of) = &s.setup.of {
                let (owner, handle) = peers.iter().find(|(p, _)| p.plan.name == *of)?;
                let facts = self.facts(*handle);
                let url = facts.iter().find(|(k, _)| k == SERVER_URL).and_then(|(_, v)| v.as_str())?;
                let theirs = &owner.plan.server()?.setup;
                server = cotenant_spec::plan::ServerSetup {
                    preset: theirs.preset.clone(),
                    url: Some(url.to_owned()),
                    api_key_env: theirs.api_key_env.clone(),
                    ..Default::default()
                };
            }
            return serde_json::to_string(&TenantSetup { name, server, load, seed: s.seed, records, log })
                .ok();
        }
        let Workload::Torch(t) = &part.plan.workload else { return None };
        let mut setup = serde_json::to_value(&t.setup).ok()?;
        let env = part.env.iter().map(|(k, v)| (k.clone(), serde_json::Value::from(v.as_str())));
        setup.as_object_mut()?.insert("env".into(), env.collect::<serde_json::Map<_, _>>().into());
        Some(setup.to_string())
    }

    /// Switches the kernel clock of the programs behind `handles` on or off; true where at least one has it.
    pub fn trace(&mut self, handles: &[u64], on: bool) -> bool {
        let mut any = false;
        for h in self.held.iter_mut().filter(|h| handles.contains(&h.id) && h.program.is_some()) {
            let Some(t) = &mut h.tracer else { continue };
            if on {
                any |= t.on();
            } else {
                h.spent |= !t.detach();
                any = true;
            }
        }
        any
    }

    /// Gives each of these programs cores of its own, or all cores to all.
    ///
    /// # Errors
    /// There are fewer cores than programs, or one of them is gone.
    pub fn pin(&mut self, handles: &[u64], apart: bool) -> Result<(), TrialError> {
        let cores = cores::cores();
        let each = if apart { handles.len() } else { 1 };
        let shares =
            if apart { cores::shares(&cores, each) } else { Some(vec![cores.concat(); handles.len()]) };
        let Some(shares) = shares else {
            return Err(TrialError::Unavailable(format!(
                "pin = true needs a core for each of the {each} programs, and there are {}",
                cores.len()
            )));
        };
        for (id, cpus) in handles.iter().zip(shares) {
            let held = self.held.iter_mut().find(|h| h.id == *id);
            let Some(p) = held.and_then(|h| h.program.as_mut()) else { continue };
            if let Err(e) = cores::pin(p.pid(), &cpus) {
                return Err(p.failure(&format!("it cannot be given CPUs: {e}")));
            }
        }
        Ok(())
    }

    /// Reads the kernel clock of a tenant's last phase.
    pub fn read_trace(&mut self, handle: u64, run: &mut TenantRun) {
        if let Some(t) = self.held.iter_mut().find(|h| h.id == handle).and_then(|h| h.tracer.as_mut()) {
            run.device = t.read(run);
        }
    }
}

impl Drop for Troupe {
    fn drop(&mut self) {
        self.clear(); // before the kit's files go
    }
}

/// Starts a process with a log of its own.
fn start(
    logs: &Option<PathBuf>,
    tell: &Ear,
    id: u64,
    name: &str,
    argv: &[String],
    env: &[(String, String)],
    kind: Kind,
) -> Result<Program, TrialError> {
    let log = logs.as_ref().and_then(|dir| {
        std::fs::create_dir_all(dir).ok()?;
        Some(dir.join(format!("{id}-{name}.log")))
    });
    let (opaque, shepherd) = (kind == Kind::Whole, kind == Kind::Shepherd);
    Program::start(&Start { id, name, argv, env, opaque, log, shepherd }, tell)
}

/// Waits for the ends of programs that are run whole, each with its tenant and its begin; until one of the flags is set.
fn ends(
    mut running: Vec<(usize, u64, Program)>,
    watchdog: Duration,
    stop: &[&AtomicBool],
) -> Result<Vec<TenantRun>, TrialError> {
    let begun = Instant::now();
    let mut out = Vec::new();
    while !running.is_empty() {
        let mut still = Vec::new();
        for (tenant, begin, mut program) in running {
            match program.status() {
                Some(s) if s.success() => {
                    let end = monotonic_ns();
                    let (spans, requests) = (vec![(begin, end)], vec![end - begin]);
                    out.push(TenantRun { tenant, spans, requests, ..TenantRun::default() });
                }
                Some(s) => {
                    program.let_end();
                    return Err(program.failure(&format!("its process ended ({})", process::describe(s))));
                }
                None if begun.elapsed() > watchdog => {
                    let limit = watchdog.as_secs_f64();
                    return Err(program.failure(&format!(
                        "hung: one run of it lasts longer than {limit} s (measure.watchdog); it was killed"
                    )));
                }
                None => still.push((tenant, begin, program)),
            }
        }
        running = still;
        if stop.iter().any(|s| s.load(Ordering::Relaxed)) {
            return Err(TrialError::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(out)
}

/// The programs of these orders that are not run whole, each with what it does.
fn members<'a>(held: &'a mut [Held], orders: &[Order<'a>], until_stop: bool) -> Vec<Member<'a>> {
    let one = |h: &'a mut Held| {
        let o = orders.iter().find(|o| o.handle == h.id)?;
        let l = &o.plan.load;
        let (warmup, iterations, gap_ns) = (l.warmup, l.iterations, l.gap.0);
        let repeat = o.plan.server().map(|_| o.repeat);
        let arm = Arm { warmup, iterations, until_stop, gap_ns, arrivals: o.arrivals, repeat };
        Some(Member::new(o.tenant, h.program.as_mut()?, arm))
    };
    held.iter_mut().filter_map(one).collect()
}

/// What of a model's set-up stays loaded when the rest changes. A process is never used for another model: what the
/// first left in the allocator would be the second's disadvantage.
fn kept_model(s: &ModelSetup) -> String {
    format!("{} {} {} {} {} {} {}", s.model, s.weights, s.dtype, s.seed, s.device, s.compile, s.attention)
}
