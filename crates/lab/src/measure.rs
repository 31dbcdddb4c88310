//! One trial: calibrate, warm up, then interleaved repeats until they are precise enough.
//!
//! The order within a repeat rotates from repeat to repeat (solo A, solo B, sequential, shared; then solo B,
//! sequential, shared, solo A; …), so that a drift of clocks or temperature falls on all of them alike.

use crate::backend::{Phase, PhaseRun, Session, TenantRun, TrialError};
use crate::history::{History, grant_warnings, mean};
use crate::overlap;
use crate::schedule;
use crate::serving::ServerMoment;
use crate::sharing::Layout;
use cotenant_spec::plan::{Protocol, Rate, Stopping, TenantPlan, TrialPlan, Work};
use cotenant_store::format::{FORMAT, PhasePart, PhaseRecord, PhaseTenant, RepeatRecord, WarningRecord};
use cotenant_store::serving::{RequestLine, ServedPhase};
use cotenant_units::Nanos;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Overlap under which a shared phase is not called colocated (method rule 2).
pub const MIN_OVERLAP: f64 = 0.9;
/// Spans kept per tenant and phase in the record.
const KEPT_SPANS: usize = 256;
/// Iterations of one launch, at most: beyond it a launch of any kernel here lasts minutes.
const MAX_ITERATIONS: f64 = 1e10;

/// What a finished trial says beside its repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Turns of the loop per launch, after calibration.
    pub iterations: Vec<u64>,
    /// `precision`, `budget` or `max-repeats`.
    pub stopped_by: &'static str,
    /// Requests per second of each open-loop tenant whose rate is a share of them, alone in a closed loop.
    pub capacity_per_s: BTreeMap<String, f64>,
    /// Wall time spent in phases, and CPU time of this process meanwhile.
    pub phases: PhaseCost,
    /// Warnings about the trial.
    pub warnings: Vec<WarningRecord>,
}

/// What phases cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PhaseCost {
    /// Wall time.
    pub wall: Duration,
    /// CPU time of this process, all threads.
    pub cpu: Duration,
}

/// Runs a trial of one set-up to its end. Every repeat goes to `sink` as it ends; an error of `sink` ends the trial.
///
/// # Errors
/// As the session's phases; [`TrialError::Failed`] where a phase left no times or `sink` failed.
pub fn run_trial(
    session: &mut dyn Session,
    trial: &TrialPlan,
    layout: &Layout,
    stopping: &Stopping,
    attempt: u32,
    sink: Sink<'_>,
) -> Result<Measured, TrialError> {
    let mut m = Measuring::new(trial, layout, stopping, attempt, 1);
    m.run_setup(session, sink)?;
    Ok(m.finish())
}

/// What of its servers is kept beside a repeat.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OfServers {
    /// Requests to them.
    pub requests: Vec<RequestLine>,
    /// Rows of `server-metrics.csv`.
    pub metrics: Vec<String>,
}

/// Where repeats go as they end, each with what is kept of its servers.
pub type Sink<'a> = &'a mut dyn FnMut(RepeatRecord, OfServers) -> Result<(), TrialError>;

/// A trial under way, over one or several set-ups.
pub struct Measuring<'a> {
    trial: &'a TrialPlan,
    layout: &'a Layout,
    stopping: &'a Stopping,
    attempt: u32,
    phases: Vec<Phase>,
    history: History,
    iterations: Option<Vec<u64>>,
    /// Requests per second that open loops of a relative rate refer to, by tenant.
    capacity: Vec<Option<f64>>,
    seed: u64,
    cost: PhaseCost,
    setup: u32,
    repeat: u32,
    stopped_by: &'static str,
    warnings: Vec<WarningRecord>,
    clients: crate::serving::Clients,
}

impl<'a> Measuring<'a> {
    /// A trial of which nothing has run.
    pub fn new(
        trial: &'a TrialPlan,
        layout: &'a Layout,
        stopping: &'a Stopping,
        attempt: u32,
        seed: u64,
    ) -> Self {
        let phases = phases(trial, layout);
        let history = History::new(&phases);
        let (iterations, warnings) = (None, Vec::new());
        Measuring {
            trial,
            layout,
            stopping,
            attempt,
            phases,
            history,
            iterations,
            capacity: Vec::new(),
            seed,
            cost: PhaseCost::default(),
            setup: 0,
            repeat: 0,
            stopped_by: "",
            warnings,
            clients: crate::serving::Clients::default(),
        }
    }

    /// Runs a phase and notes what it costs.
    fn phase(&mut self, session: &mut dyn Session, phase: Phase) -> Result<PhaseRun, TrialError> {
        self.timed(|| session.run(phase))
    }

    fn timed<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (Instant::now(), cpu_time());
        let out = work();
        self.cost.wall += wall.elapsed();
        self.cost.cpu += cpu_time().saturating_sub(cpu);
        out
    }

    /// Runs the next set-up's share of the repeats in a session of its own. The first one calibrates.
    ///
    /// # Errors
    /// As [`run_trial`].
    pub fn run_setup(&mut self, session: &mut dyn Session, sink: Sink<'_>) -> Result<(), TrialError> {
        let begun = Instant::now();
        match &self.iterations {
            None => {
                let trial = self.trial;
                self.iterations = Some(self.timed(|| calibrate(session, trial))?);
                self.capacity = self.timed(|| capacity(session, trial))?;
            }
            Some(turns) => {
                for (i, n) in turns.iter().enumerate() {
                    session.set_iterations(i, *n)?;
                }
            }
        }
        // Programs warm up before every phase; a whole repeat more would only cost time.
        let all_programs = self.trial.tenants.iter().all(TenantPlan::is_program);
        self.schedule(session)?;
        for _ in 0..if all_programs { 0 } else { self.stopping.warmup } {
            for p in self.phases.clone() {
                self.phase(session, p)?;
            }
        }
        let setups = self.stopping.setups.max(1);
        let least = self.stopping.min_repeats.div_ceil(setups);
        let most = self.stopping.max_repeats.div_ceil(setups);
        let budget = Duration::from_nanos(self.stopping.budget_ns.0) / setups;
        let mut mine = 0;
        self.stopped_by = loop {
            let (mut repeat, servers) = self.one_repeat(session)?;
            mine += 1;
            let stop = if mine >= least && self.history.precise(self.stopping.precision) {
                Some("precision")
            } else if mine >= most {
                Some("max-repeats")
            } else if begun.elapsed() > budget && mine >= least.min(3) {
                Some("budget")
            } else {
                None
            };
            if stop.is_some() && self.setup + 1 == setups {
                self.traced(session, &mut repeat.phases)?;
            }
            sink(repeat, servers)?;
            if let Some(why) = stop {
                break why;
            }
        };
        if self.setup == 0 {
            self.warnings.extend(grant_warnings(session, self.trial));
        }
        self.setup += 1;
        Ok(())
    }

    fn one_repeat(&mut self, session: &mut dyn Session) -> Result<(RepeatRecord, OfServers), TrialError> {
        let n = self.phases.len();
        let mut records = Vec::with_capacity(n);
        let mut marked = Vec::new();
        let mut servers = OfServers::default();
        self.schedule(session)?;
        session.set_repeat(self.repeat);
        for k in 0..n {
            let which = (k + self.repeat as usize) % n;
            let mut run = self.phase(session, self.phases[which])?;
            let record = phase_record(self.phases[which], self.trial, &run, session, "")?;
            self.clients.note(&record);
            self.take_servers(self.phases[which], &mut run, &mut servers);
            marked.extend(self.history.note(which, &record));
            records.push(record);
        }
        marked.sort_unstable();
        marked.dedup();
        let repeat = RepeatRecord {
            format: FORMAT,
            trial: self.trial.id.clone(),
            attempt: self.attempt,
            repeat: self.repeat,
            setup: self.setup,
            phases: records,
            marked,
        };
        self.repeat += 1;
        Ok((repeat, servers))
    }

    /// Takes what is kept of the servers of a phase, with where it belongs.
    fn take_servers(&mut self, phase: Phase, run: &mut PhaseRun, out: &mut OfServers) {
        let (trial, attempt, repeat, phase) = (&self.trial.id, self.attempt, self.repeat, phase.name());
        for t in &mut run.tenants {
            let Some(served) = t.served.take() else { continue };
            let tenant = &self.trial.tenants[t.tenant].name;
            self.clients.note_arrivals(tenant, repeat, &served.client.departures);
            let row = |m: &ServerMoment| format!("{trial},{attempt},{repeat},{phase},{tenant},{}", m.cells());
            out.metrics.extend(served.client.moments.iter().map(row));
            out.requests.extend(served.requests.into_iter().map(|line| RequestLine {
                trial: trial.clone(),
                attempt,
                repeat,
                phase: phase.to_owned(),
                tenant: tenant.clone(),
                ..line
            }));
        }
    }

    /// The phases once more with the kernel clock on, after all others: it costs time, and part of that stays in a
    /// process when it is off again.
    fn traced(
        &mut self,
        session: &mut dyn Session,
        records: &mut Vec<PhaseRecord>,
    ) -> Result<(), TrialError> {
        let passes = if self.trial.has_programs() { self.stopping.traced } else { 0 };
        let phases: Vec<Phase> = self.phases.iter().copied().filter(|p| *p != Phase::Sequential).collect();
        for p in (0..passes).flat_map(|_| phases.iter().copied()) {
            // A kernel has its own clock; alone it needs no other.
            if matches!(p, Phase::Solo(t) if !self.trial.tenants[t].is_program()) {
                continue;
            }
            if let Some(run) = self.timed(|| session.run_traced(p))? {
                records.push(phase_record(p, self.trial, &run, session, "-traced")?);
            }
        }
        Ok(())
    }

    /// Draws the arrivals of open loops for the next repeat: the same ones for all its phases.
    fn schedule(&mut self, session: &mut dyn Session) -> Result<(), TrialError> {
        for (i, t) in self.trial.tenants.iter().enumerate() {
            let Some(arrivals) = &t.load.arrivals else { continue };
            let capacity = self.capacity.get(i).copied().flatten();
            let offsets = schedule::offsets(arrivals, t, capacity, self.seed, self.repeat)?;
            session.set_schedule(i, &offsets)?;
        }
        Ok(())
    }

    /// What the finished trial says beside its repeats.
    pub fn finish(mut self) -> Measured {
        self.warnings.extend(self.history.warnings(self.trial, self.layout, self.stopping, self.stopped_by));
        self.warnings.extend(self.clients.warnings(&self.trial.id));
        Measured {
            iterations: self.iterations.unwrap_or_default(),
            stopped_by: self.stopped_by,
            capacity_per_s: self
                .trial
                .tenants
                .iter()
                .zip(&self.capacity)
                .filter_map(|(t, c)| Some((t.name.clone(), (*c)?)))
                .collect(),
            phases: self.cost,
            warnings: self.warnings,
        }
    }
}

/// The phases of one repeat.
fn phases(trial: &TrialPlan, layout: &Layout) -> Vec<Phase> {
    let n = trial.tenants.len();
    let mut out: Vec<Phase> = (0..n).map(Phase::Solo).collect();
    if trial.sequential && n > 1 {
        out.push(Phase::Sequential);
    }
    if layout.shared_phase {
        out.push(Phase::Shared);
    }
    out
}

/// Finds the turns of the loop that make one launch last as long as asked, alone, for each tenant; sets them.
fn calibrate(session: &mut dyn Session, trial: &TrialPlan) -> Result<Vec<u64>, TrialError> {
    let mut out = Vec::with_capacity(trial.tenants.len());
    for (i, t) in trial.tenants.iter().enumerate() {
        let Some(kernel) = t.kernel() else {
            out.push(1); // a program's iterations are its own
            continue;
        };
        let target = match kernel.work {
            Work::Iterations(n) => {
                session.set_iterations(i, n)?;
                out.push(n);
                continue;
            }
            Work::Duration(d) => d.0.max(1) as f64,
        };
        // The first launch loads code and fills caches (a library may take longer over it than the target).
        session.set_iterations(i, 1)?;
        session.run(Phase::Solo(i))?;
        let mut n = 1.0f64;
        // Twelve steps reach 1e10 turns from one even if each only multiplies by ten; most need three.
        for step in 0..12 {
            session.set_iterations(i, n as u64)?;
            let run = session.run(Phase::Solo(i))?;
            let (time, _) = overlap::launch_time(Protocol::Fixed, &run.tenants, 0).ok_or_else(|| {
                TrialError::Failed(format!("tenant {} left no time while calibrating", t.name))
            })?;
            let wanted = (n * target / time.max(1.0)).clamp(1.0, MAX_ITERATIONS);
            let close = (time / target - 1.0).abs() < 0.02;
            let floor = time >= target && n <= 1.0;
            if close || floor {
                break;
            }
            // Far from the target the fixed cost of a launch dominates: approach by factors.
            let next = if time < target / 8.0 { wanted.min(n * 64.0) } else { wanted }.round();
            if step > 2 && (next - n).abs() < 1.0 {
                break;
            }
            n = next;
        }
        session.set_iterations(i, n as u64)?;
        out.push(n as u64);
    }
    Ok(out)
}

/// CPU time of this process so far, all threads.
fn cpu_time() -> Duration {
    Duration::from_nanos(crate::clock::ns(rustix::time::ClockId::ProcessCPUTime))
}

/// What open loops of a relative rate refer to: the requests per second that the tenant does alone in a closed loop.
fn capacity(session: &mut dyn Session, trial: &TrialPlan) -> Result<Vec<Option<f64>>, TrialError> {
    let relative =
        |t: &TenantPlan| t.load.arrivals.as_ref().is_some_and(|a| matches!(a.rate, Rate::OfCapacity(_)));
    let mut out = vec![None; trial.tenants.len()];
    for (i, t) in trial.tenants.iter().enumerate().filter(|(_, t)| relative(t)) {
        session.set_schedule(i, &[])?;
        let run = session.run(Phase::Solo(i))?;
        let spans = run.tenants.first().map(|r| r.spans.as_slice()).unwrap_or_default();
        let per = t.kernel().map_or(1, |k| k.request.max(1));
        out[i] = overlap::extent(spans)
            .filter(|(s, e)| e > s)
            .map(|(s, e)| spans.len() as f64 / f64::from(per) / (e - s) as f64 * 1e9);
    }
    Ok(out)
}

/// `kind`: what is added to the phase's name.
fn phase_record(
    phase: Phase,
    trial: &TrialPlan,
    run: &PhaseRun,
    session: &dyn Session,
    kind: &str,
) -> Result<PhaseRecord, TrialError> {
    let lost = |name: &str| {
        TrialError::Failed(format!("tenant {name} has no launch that counts in the {} phase", phase.name()))
    };
    // In a sequential phase each tenant is charged from its own start; the makespan is the sum, so that the
    // pause between two processes, which is the host's, does not count as the GPU's.
    let apart = phase == Phase::Sequential;
    let base = run.tenants.iter().filter_map(|t| overlap::extent(&t.spans)).map(|e| e.0).min();
    let base = base.ok_or_else(|| lost("(all)"))?;
    let mut tenants = Vec::with_capacity(run.tenants.len());
    let (mut last, mut sum) = (base, 0);
    let loaded = overlap::loaded_window(&run.tenants);
    for (i, t) in run.tenants.iter().enumerate() {
        let plan = &trial.tenants[t.tenant];
        let (start, end) = overlap::extent(&t.spans).ok_or_else(|| lost(&plan.name))?;
        let mut counted_from = 0;
        let timed = if plan.is_program() {
            let all = match (&t.served, loaded) {
                (Some(_), Some(window)) => overlap::started_within(&t.spans, window),
                _ => overlap::counted(trial.protocol, &run.tenants, i),
            };
            counted_from = all.start as u32;
            // Of a model the latency of an iteration is asked, whatever pauses between them.
            mean_of(t.requests.get(all.clone()).unwrap_or_default()).map(|m| (m, all.len() as u32))
        } else if apart {
            overlap::launch_time(Protocol::Fixed, std::slice::from_ref(t), 0)
        } else {
            overlap::launch_time(trial.protocol, &run.tenants, i)
        };
        let (time_ns, counted) = timed.ok_or_else(|| lost(&plan.name))?;
        last = last.max(end);
        sum += end - start;
        tenants.push(PhaseTenant {
            name: plan.name.clone(),
            time_ns,
            start_ns: Nanos(start - base),
            end_ns: Nanos(end - base),
            launches: t.spans.len() as u32,
            counted,
            spans_ns: thinned(t, base, if plan.is_program() { usize::MAX } else { KEPT_SPANS }),
            requests_ns: t.requests.clone(),
            sm_clock_mhz: mean(&t.clocks_mhz),
            counted_from,
            event_ns: t.events.clone(),
            kernel_ns: t.device.iter().map(|d| d.sum_ns).collect(),
            busy_ns: t.device.iter().map(|d| d.union_ns).collect(),
            kernels: t.device.iter().map(|d| d.kernels).collect(),
            tokens: t.tokens,
            cpu_ns: t.host.map(|h| Nanos(h.ran_ns)),
            cpu_wait_ns: t.host.map(|h| Nanos(h.waited_ns)),
            served: t.served.as_deref().map(|s| {
                let (from, to) = loaded.unwrap_or((start, end));
                Box::new(ServedPhase {
                    window_ns: (from.saturating_sub(base), to.saturating_sub(base)),
                    ..served_phase(s, plan)
                })
            }),
        });
    }
    let makespan = if apart { sum } else { last - base };
    let overlap = (phase == Phase::Shared).then(|| match trial.protocol {
        Protocol::Fixed => overlap::overlap(&run.tenants),
        Protocol::Steady => overlap::overlap_in_window(&run.tenants),
    });
    let programs = trial.has_programs();
    let firsts = || run.tenants.iter().filter_map(|t| overlap::extent(&t.spans)).map(|e| e.0);
    let spread = firsts().max().unwrap_or(base) - base;
    let part = |p: overlap::Part| PhasePart {
        active: p.active.into(),
        from_ns: Nanos(p.from - base),
        to_ns: Nanos(p.to - base),
        state: session.state_between(p.from, p.to),
    };
    let shared = phase == Phase::Shared && programs && run.tenants.len() > 1;
    Ok(PhaseRecord {
        phase: format!("{}{kind}", phase.name()),
        makespan_ns: Nanos(makespan),
        overlap,
        tenants,
        state: run.state.clone(),
        begun_ns: programs.then_some(base),
        start_spread_ns: shared.then_some(spread),
        parts: if shared { overlap::parts(&run.tenants).into_iter().map(part).collect() } else { Vec::new() },
    })
}

/// What the record keeps of a server's phase.
fn served_phase(s: &crate::serving::Served, plan: &TenantPlan) -> ServedPhase {
    let slo = plan.server().and_then(|s| s.load.slo.as_deref());
    let mut out = ServedPhase {
        // Checked before the run.
        slo: slo.and_then(|text| crate::serving::parse_slo(text).ok()),
        requests: s.requests.len() as u32,
        open: s.client.open,
        asks: s.client.asks.clone(),
        arrivals: s.client.arrivals.clone(),
        client_cpu_ns: s.client.cpu_ns,
        client_busiest: s.client.busiest,
        peak_in_flight: s.client.peak_in_flight,
        gaps: serde_json::to_value(&s.client.gaps).unwrap_or_default(),
        said: s.client.said,
        ..ServedPhase::default()
    };
    for r in s.requests.iter().map(|l| &l.record) {
        if let Some(f) = &r.failure {
            *out.failed.entry(f.kind.name().to_owned()).or_insert(0) += 1;
            continue;
        }
        let sent = r.sent_ns.unwrap_or(r.intended_ns);
        let from = if s.client.open { r.intended_ns } else { sent };
        let first = r.first_content_ns.unwrap_or(r.end_ns);
        let steps = u64::from(r.output_tokens.saturating_sub(1));
        let rest = r.last_content_ns.unwrap_or(first).saturating_sub(first);
        out.ttft_ns.push(first.saturating_sub(from));
        out.tpot_ns.push(rest.checked_div(steps).unwrap_or(0));
        out.tokens.push(r.output_tokens);
        out.late_ns.push(sent.saturating_sub(r.intended_ns));
        out.prompt_tokens += u64::from(r.prompt_tokens.unwrap_or(0));
        out.by_chunks += u32::from(r.by_chunks);
        out.short += u32::from(r.output_tokens < r.max_tokens);
    }
    out
}

fn mean_of(v: &[u64]) -> Option<f64> {
    (!v.is_empty()).then(|| v.iter().map(|&x| x as f64).sum::<f64>() / v.len() as f64)
}

fn thinned(t: &TenantRun, base: u64, most: usize) -> Vec<(u64, u64)> {
    let step = t.spans.len().div_ceil(most).max(1);
    t.spans.iter().step_by(step).map(|(s, e)| (s - base, e - base)).collect()
}
