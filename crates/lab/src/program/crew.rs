//! Programs that go through something together: set-up, or a phase. They are told, waited for, and started at one
//! moment; the first that fails, dies, hangs or talks nonsense ends it for all.

use super::cores::HostTime;
use super::lines::{Arm, Iteration, Line, VERSION};
use super::monotonic_ns;
use super::process::{Heard, Program};
use crate::backend::{TenantRun, TrialError};
use crate::cuda::protocol::Meeting;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// From saying `go` to the start: the slowest program must have read the line by then, ns.
const LEAD_NS: u64 = 3_000_000;
/// More for each program: they are told one after the other.
const LEAD_EACH_NS: u64 = 300_000;
/// Between two looks at the interrupt flag.
const LOOK: Duration = Duration::from_millis(50);
/// The same where something must be watched that sends no line.
const LOOK_CLOSELY: Duration = Duration::from_millis(1);

/// What a program told of itself.
pub type Facts = Vec<(String, serde_json::Value)>;

/// How far a program has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Started,
    Ready,
    Armed,
    Enough,
    Done,
}

impl Stage {
    fn awaited(self) -> &'static str {
        match self {
            Stage::Started => "its start",
            Stage::Ready => "`ready`",
            Stage::Armed => "`armed`",
            Stage::Enough => "`enough`",
            Stage::Done => "`done`",
        }
    }
}

/// One program.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its tenant's index in the trial.
    pub tenant: usize,
    /// Its process.
    pub program: &'a mut Program,
    /// What it does in the phase.
    pub arm: Arm<'a>,
    stage: Stage,
    iterations: Vec<Iteration>,
    facts: Facts,
    heard: Instant,
    stopped: Option<Instant>,
    host: Option<HostTime>,
}

impl<'a> Member<'a> {
    /// A program before set-up or a phase.
    pub fn new(tenant: usize, program: &'a mut Program, arm: Arm<'a>) -> Member<'a> {
        let (stage, heard) = (Stage::Started, Instant::now());
        Member {
            tenant,
            program,
            arm,
            stage,
            iterations: Vec::new(),
            facts: Vec::new(),
            heard,
            stopped: None,
            host: None,
        }
    }
}

/// Kernel tenants that run beside the programs: the run stands for all programs at their meeting page.
pub struct Kernels<'a> {
    /// The page.
    pub meeting: &'a Meeting,
    /// Kernel tenants and one for all programs.
    pub participants: u32,
    /// Whether a worker has died, so that its tenants will never be done.
    pub lost: &'a mut dyn FnMut() -> bool,
}

/// Several programs.
#[derive(Debug)]
pub struct Crew<'a> {
    /// They.
    pub members: Vec<Member<'a>>,
    ear: &'a Receiver<(u64, Heard)>,
    interrupted: &'a AtomicBool,
    watchdog: Duration,
}

impl<'a> Crew<'a> {
    /// A crew that listens at `ear` and takes silence of `watchdog` for a hang.
    pub fn new(
        members: Vec<Member<'a>>,
        ear: &'a Receiver<(u64, Heard)>,
        interrupted: &'a AtomicBool,
        watchdog: Duration,
    ) -> Crew<'a> {
        Crew { members, ear, interrupted, watchdog }
    }

    /// Waits until all are set up. `told` has an entry for each member, in order: whether it was just started, and what it
    /// is told to set up, if anything. A program that was just started says `ready` once before it takes a set-up. Returns
    /// what each told of itself.
    ///
    /// # Errors
    /// One failed, died, hung or talked nonsense; or the user interrupted.
    pub fn set_up(&mut self, told: &[(bool, Option<String>)]) -> Result<Vec<Facts>, TrialError> {
        for (m, (fresh, _)) in self.members.iter_mut().zip(told) {
            m.heard = Instant::now();
            m.stage = if *fresh { Stage::Started } else { Stage::Ready };
        }
        self.wait(Stage::Ready)?;
        for (m, (_, setup)) in self.members.iter_mut().zip(told) {
            if let Some(line) = setup {
                m.program.tell(&format!("setup {line}\n"))?;
                (m.stage, m.heard) = (Stage::Started, Instant::now());
            }
        }
        self.wait(Stage::Ready)?;
        Ok(self.members.iter_mut().map(|m| std::mem::take(&mut m.facts)).collect())
    }

    /// Has all warm up and come to the barrier.
    ///
    /// # Errors
    /// As [`Crew::set_up`].
    pub fn arm(&mut self) -> Result<(), TrialError> {
        for m in &mut self.members {
            m.iterations.clear();
            m.stopped = None;
            (m.stage, m.heard) = (Stage::Ready, Instant::now());
            m.program.tell(&m.arm.to_string())?;
        }
        self.wait(Stage::Armed)
    }

    /// Starts all at one moment and waits until the phase is over. Kernel tenants must stand at their meeting page,
    /// or be on their way to it.
    ///
    /// # Errors
    /// As [`Crew::set_up`].
    pub fn run(&mut self, mut kernels: Option<Kernels<'_>>) -> Result<Vec<TenantRun>, TrialError> {
        let at = monotonic_ns() + LEAD_NS + LEAD_EACH_NS * self.members.len() as u64;
        for m in &mut self.members {
            m.heard = Instant::now();
            m.host = HostTime::of(m.program.pid());
            m.program.tell(&format!("go {at}\n"))?;
        }
        if let Some(k) = &kernels {
            let early = Duration::from_nanos(at.saturating_sub(monotonic_ns() + 200_000));
            std::thread::sleep(early);
            while monotonic_ns() < at {
                std::hint::spin_loop();
            }
            k.meeting.arrive();
        }
        if self.members.iter().any(|m| m.arm.until_stop) {
            self.wait(Stage::Enough)?;
            if let Some(k) = &mut kernels {
                k.meeting.finish();
                while !k.meeting.all_finished(k.participants) && !(k.lost)() {
                    self.listen(LOOK_CLOSELY)?;
                }
            }
            for m in self.members.iter_mut().filter(|m| m.arm.until_stop) {
                m.heard = Instant::now();
                m.stopped = Some(m.heard);
                m.program.tell("stop\n")?;
            }
        }
        self.wait(Stage::Done)?;
        self.members.iter_mut().map(|m| result(m, at)).collect()
    }

    fn wait(&mut self, stage: Stage) -> Result<(), TrialError> {
        while let Some(late) = self.members.iter().position(|m| m.stage < stage) {
            self.listen(LOOK)?;
            let m = &mut self.members[late];
            if m.stage >= stage {
                continue;
            }
            let limit = self.watchdog.as_secs_f64();
            let awaited = stage.awaited();
            let silent = m.heard.elapsed() > self.watchdog;
            // One that goes on and on is as good as silent.
            let deaf = m.stopped.is_some_and(|t| t.elapsed() > self.watchdog);
            if silent || deaf {
                let what = if silent { "nothing was heard of it" } else { "it went on after `stop`" };
                m.program.kill();
                return Err(m.program.failure(&format!(
                    "hung: {what} for {limit} s (measure.watchdog) while {awaited} was awaited; it was killed"
                )));
            }
        }
        Ok(())
    }

    /// Takes in one answer, or none within `patience`.
    fn listen(&mut self, patience: Duration) -> Result<(), TrialError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(TrialError::Interrupted);
        }
        match self.ear.recv_timeout(patience) {
            Ok((id, heard)) => match self.members.iter_mut().find(|m| m.program.id == id) {
                Some(m) => take(m, heard),
                None => Ok(()), // one that is kept for a later trial, or is ending
            },
            Err(RecvTimeoutError::Timeout) => Ok(()),
            // The run itself holds a sender.
            Err(RecvTimeoutError::Disconnected) => {
                Err(TrialError::Failed("the tenants' answers ended".into()))
            }
        }
    }
}

fn take(m: &mut Member<'_>, heard: Heard) -> Result<(), TrialError> {
    m.heard = Instant::now();
    let out_of_turn = |m: &mut Member<'_>, word: &str| {
        Err(m.program.failure(&format!("it said `{word}` out of turn (see docs/tenant-protocol.md)")))
    };
    match heard {
        Heard::Closed => Err(m.program.death()),
        Heard::Nonsense(what) => {
            m.program.kill();
            Err(m.program.failure(&format!("it spoke nonsense on the tenant protocol: {what}")))
        }
        Heard::Line(line) => match line {
            Line::Hello(VERSION) => Ok(()),
            Line::Hello(v) => Err(m.program.failure(&format!(
                "it speaks version {v} of the tenant protocol, and this cotenant version {VERSION}"
            ))),
            Line::Note(text) => {
                m.program.noted(text);
                Ok(())
            }
            Line::Fact(key, value) => {
                m.facts.push((key, value));
                Ok(())
            }
            Line::Ready if m.stage == Stage::Started => {
                m.stage = Stage::Ready;
                m.program.noted(String::new());
                Ok(())
            }
            Line::Armed if m.stage == Stage::Ready => {
                m.stage = Stage::Armed;
                Ok(())
            }
            Line::Iteration(it) if m.stage >= Stage::Armed && m.stage < Stage::Done => {
                m.iterations.push(it);
                Ok(())
            }
            Line::Enough if m.stage == Stage::Armed && m.arm.until_stop => {
                m.stage = Stage::Enough;
                Ok(())
            }
            Line::Done if m.stage == Stage::Enough || (m.stage == Stage::Armed && !m.arm.until_stop) => {
                m.stage = Stage::Done;
                Ok(())
            }
            Line::Error(kind, text) => {
                m.program.let_end();
                let words = match kind.as_str() {
                    "memory" => format!("out of memory: {text}"),
                    "unavailable" => {
                        return Err(TrialError::Unavailable(format!("tenant {}: {text}", m.program.name)));
                    }
                    _ => text,
                };
                Err(m.program.failure(&words))
            }
            Line::Ready => out_of_turn(m, "ready"),
            Line::Armed => out_of_turn(m, "armed"),
            Line::Iteration(_) => out_of_turn(m, "it"),
            Line::Enough => out_of_turn(m, "enough"),
            Line::Done => out_of_turn(m, "done"),
        },
    }
}

/// What a program did in a phase that began at `at`, checked.
fn result(m: &mut Member<'_>, at: u64) -> Result<TenantRun, TrialError> {
    // A server's requests may fail; how many came back whole stands in the record.
    let wanted = if m.arm.repeat.is_some() {
        1
    } else if m.arm.arrivals.is_empty() {
        m.arm.iterations as usize
    } else {
        m.arm.arrivals.len()
    };
    let mut its = std::mem::take(&mut m.iterations);
    if its.len() < wanted {
        let told = format!("it reported {} of {wanted} iterations", its.len());
        return Err(m.program.failure(&told));
    }
    its.sort_unstable_by_key(|i| i.start);
    if let Some(early) = its.first().filter(|i| i.start < at) {
        let told = format!("its first iteration began {} ns before the phase", at - early.start);
        return Err(m.program.failure(&told));
    }
    if !m.arm.arrivals.is_empty() && its.iter().any(|i| i.arrival.is_none()) {
        return Err(m.program.failure("an iteration under an open loop came without its `arrival`"));
    }
    let told = its.iter().any(|i| i.event > 0);
    let host = m.host.zip(HostTime::of(m.program.pid())).map(|(before, now)| now.since(before));
    Ok(TenantRun {
        tenant: m.tenant,
        spans: its.iter().map(|i| (i.start, i.end)).collect(),
        requests: its.iter().map(|i| i.end - i.arrival.unwrap_or(i.start)).collect(),
        events: if told { its.iter().map(|i| i.event).collect() } else { Vec::new() },
        tokens: its.iter().map(|i| i.tokens).sum(),
        host,
        ..TenantRun::default()
    })
}
