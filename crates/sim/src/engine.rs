//! The event loop: arrivals, placement, rates, the next end, time slices.
//!
//! Placement (Amert RTSS'17, rules G1–G4, X1, A1–A2): a stream has at most one launch on the device; launches wait
//! in one queue per priority in order of arrival; only the head of the highest queue that is not empty is placed
//! (*leftover policy*: the next kernel starts when the last block of the one before is placed), even where the
//! head itself has no room. A head that is confined to some SMs blocks only those: beside an MPS client with 75 %
//! of the SMs the others stay open to later kernels (measured on the H100).

use crate::floor::{Ended, Floor, Request};
use crate::noise;
use crate::rates::{Memory, Part, Rates, same_speed};
use crate::scenario::{BlockSpan, Direction, Mode, Outcome, Scenario, Span, StreamResult, Work};
use crate::stream::{Host, Stand};
use crate::{SimError, SmSet};
use cotenant_model::Machine;
use cotenant_model::demand::KernelLoad;
use cotenant_model::residency::Holding;
use rand_pcg::Pcg64Mcg;
use std::sync::Mutex;

/// Times closer than this are the same instant, ns.
const SAME: f64 = 1e-3;

/// A kernel launch on the device.
struct Active {
    stream: usize,
    index: u64,
    kernel: u32,
    holding: Holding,
    mask: SmSet,
    /// Blocks that fit on its SMs at the same time.
    wave: u32,
    floor: usize,
    priority: i32,
    arrival: u64,
    unplaced: u32,
    resident: u32,
    iterations: f64,
    /// Lengths of its blocks vary: it has so many waves that they drift apart.
    drift: Option<Pcg64Mcg>,
    submit: f64,
    start: Option<f64>,
}

/// Waves from which on the blocks of a grid drift apart. In a few waves the slowest block would only lengthen the
/// kernel, which the measured rates contain already.
const DRIFT_WAVES: u64 = 4;

/// Where copies and empty launches are served: a copy engine takes its copies in order of arrival (two tenants' rows
/// of copies in one direction ran one after the other on the H100), launches of a context share its launch path.
#[derive(PartialEq, Clone, Copy)]
enum Lane {
    Link(Direction),
    Launches(u32),
}

struct Job {
    stream: usize,
    lane: Lane,
    left: f64,
    submit: f64,
    start: f64,
}

/// Whose turn it is, in time-sliced mode.
struct Slices {
    running: usize,
    until: f64,
    /// Context and time of a switch under way.
    switch: Option<(usize, f64)>,
}

struct Engine<'a> {
    m: &'a Machine,
    scenario: &'a Scenario,
    seed: u64,
    noise: f64,
    now: f64,
    hosts: Vec<Host<'a>>,
    floors: Vec<Floor>,
    /// Floor of each stream.
    floor_of: Vec<usize>,
    kernels: Vec<KernelLoad>,
    /// When the last launch of each kernel reached the device, as a count.
    arrived: Vec<u64>,
    /// What the rates need of each kernel besides.
    parts: Vec<Part>,
    /// Kernel key of each slot of each stream's pattern.
    keys: Vec<Vec<u32>>,
    active: Vec<Option<Active>>,
    arrivals: u64,
    jobs: Vec<Job>,
    slices: Slices,
    rates: Rates<'a>,
    /// Residents or requests changed since placement and rates were last settled.
    dirty: bool,
    out: Outcome,
}

/// Runs a checked scenario.
pub(crate) fn run(
    m: &Machine,
    scenario: &Scenario,
    seed: u64,
    noise: f64,
    memory: &Mutex<Memory>,
) -> Result<Outcome, SimError> {
    Engine::new(m, scenario, seed, noise, memory).run()
}

impl<'a> Engine<'a> {
    fn new(
        m: &'a Machine,
        scenario: &'a Scenario,
        seed: u64,
        noise: f64,
        memory: &'a Mutex<Memory>,
    ) -> Engine<'a> {
        let mut contexts: Vec<u32> = Vec::new();
        let mut floor_of = Vec::new();
        let mut kernels = Vec::new();
        let mut parts = Vec::new();
        let mut keys = Vec::new();
        for s in &scenario.streams {
            floor_of.push(match scenario.mode {
                Mode::Concurrent => 0,
                Mode::TimeSliced => contexts.iter().position(|&c| c == s.context).unwrap_or_else(|| {
                    contexts.push(s.context);
                    contexts.len() - 1
                }),
            });
            let mut of_slot = Vec::new();
            let first = kernels.len();
            for w in &s.pattern {
                let Work::Kernel(k) = w else {
                    of_slot.push(kernels.len() as u32);
                    continue;
                };
                // One key for all launches of a kernel keeps the remembered rates few.
                let found = kernels[first..].iter().position(|o| same_speed(o, k));
                let at = found.map_or(kernels.len(), |i| first + i);
                if at == kernels.len() {
                    kernels.push(*k);
                    let sms = s.sms.unwrap_or_else(|| SmSet::range(0, m.spec.sms));
                    parts.push(Part { recorded: s.pacing.is_some(), share: 0.0, sms });
                }
                of_slot.push(at as u32);
            }
            keys.push(of_slot);
        }
        let each = Holding::of_sm(&m.spec);
        Engine {
            m,
            scenario,
            seed,
            noise,
            now: 0.0,
            hosts: scenario
                .streams
                .iter()
                .enumerate()
                .map(|(i, s)| Host::new(s, m, scenario.steady, seed, i))
                .collect(),
            floors: vec![Floor::new(m.spec.sms, each); contexts.len().max(1)],
            floor_of,
            arrived: vec![0; kernels.len()],
            rates: Rates::new(memory, &kernels, &scenario.streams),
            kernels,
            parts,
            keys,
            active: Vec::new(),
            arrivals: 0,
            jobs: Vec::new(),
            slices: Slices { running: 0, until: f64::INFINITY, switch: None },
            dirty: false,
            out: Outcome {
                streams: vec![StreamResult::default(); scenario.streams.len()],
                blocks: Vec::new(),
                events: 0,
                solves: 0,
            },
        }
    }

    fn run(mut self) -> Result<Outcome, SimError> {
        let mut ended = Vec::new();
        loop {
            self.out.events += 1;
            if self.out.events > self.scenario.max_events {
                return Err(SimError::TooManyEvents {
                    limit: self.scenario.max_events,
                    at_ms: self.now / 1e6,
                });
            }
            self.arrive();
            if self.finished() {
                self.out.solves = self.rates.solves;
                for (r, h) in self.out.streams.iter_mut().zip(self.hosts) {
                    r.requests = h.requests;
                }
                return Ok(self.out);
            }
            self.take_turns();
            if self.dirty {
                self.place();
                self.book_shares();
                let floor = &mut self.floors[self.slices.running];
                self.rates.assign(self.m, &self.kernels, &self.arrived, &self.parts, floor);
                self.dirty = false;
            }
            let dt = self.until_next();
            if !dt.is_finite() {
                // Nothing will ever happen again: every checked launch fits an empty SM, so this needs a rate of
                // nothing, which the model never gives. Better an error than a loop.
                return Err(SimError::TooManyEvents { limit: self.out.events, at_ms: self.now / 1e6 });
            }
            self.pass(dt, &mut ended);
        }
    }

    fn finished(&self) -> bool {
        self.hosts
            .iter()
            .all(|h| h.stand == Stand::Over || (self.scenario.steady && h.done >= h.spec.launches))
    }

    /// Launches whose time has come reach the device.
    fn arrive(&mut self) {
        for i in 0..self.hosts.len() {
            if let Stand::Held(other) = self.hosts[i].stand
                && self.hosts[other].stand == Stand::Over
            {
                self.hosts[i].release(self.now);
            }
            if let Stand::Coming { ready, submit, .. } = self.hosts[i].stand
                && ready <= self.now + SAME
            {
                self.begin(i, submit);
            }
        }
    }

    fn begin(&mut self, stream: usize, submit: f64) {
        let (slot, work) = self.hosts[stream].work();
        let index = self.hosts[stream].sent;
        let factor = noise::factor(self.seed, stream, index, self.noise);
        self.hosts[stream].sent += 1;
        self.hosts[stream].stand = Stand::Running;
        let spec = &self.scenario.streams[stream];
        let (lane, left) = match work {
            Work::Kernel(k) => {
                self.arrivals += 1;
                let mask = spec.sms.unwrap_or_else(|| SmSet::range(0, self.m.spec.sms));
                let holding = Holding::of_block(&self.m.spec, &k.shape);
                let wave = Holding::of_sm(&self.m.spec).fit(&holding).0.saturating_mul(mask.len());
                // What drift does to a recorded kernel is in its recorded duration.
                let drifts = self.noise > 0.0
                    && spec.pacing.is_none()
                    && self.m.block_spread > 0.0
                    && u64::from(k.shape.blocks) >= DRIFT_WAVES * u64::from(wave);
                let kernel = self.keys[stream][slot];
                if let Some(at) = self.arrived.get_mut(kernel as usize) {
                    *at = self.arrivals;
                }
                let active = Active {
                    stream,
                    index,
                    kernel,
                    holding,
                    mask,
                    wave,
                    floor: self.floor_of[stream],
                    priority: if self.m.priority_per_block { spec.priority } else { 0 },
                    arrival: self.arrivals,
                    unplaced: k.shape.blocks,
                    resident: 0,
                    iterations: k.iterations as f64 * factor,
                    drift: drifts.then(|| noise::generator(!self.seed, stream, index)),
                    submit,
                    start: None,
                };
                match self.active.iter_mut().find(|a| a.is_none()) {
                    Some(free) => *free = Some(active),
                    None => self.active.push(Some(active)),
                }
                self.dirty = true;
                return;
            }
            Work::Copy { direction, bytes, count } => {
                // Bytes per ns are GB/s; a copy takes about as long to start as a kernel.
                let rate = self.m.host_link[usize::from(direction == Direction::ToHost)];
                let one = bytes as f64 / rate + self.m.launch_gap_ns;
                (Lane::Link(direction), one * count as f64)
            }
            Work::Empty { count } => {
                let one = spec.launch_ns.unwrap_or(self.m.launch_ns[0]).max(self.m.empty_ns);
                (Lane::Launches(spec.context), one * count as f64)
            }
        };
        self.jobs.push(Job { stream, lane, left: left * factor, submit, start: self.now });
    }

    /// Whether a context has a kernel on the device or one in a queue that only waits for the one before it.
    fn busy(&self, floor: usize) -> bool {
        let queued = |(h, &f): (&Host<'_>, &usize)| {
            f == floor && matches!(h.stand, Stand::Coming { queued, .. } if queued <= self.now + SAME)
        };
        let launches = |j: &Job| matches!(j.lane, Lane::Launches(_)) && self.floor_of[j.stream] == floor;
        self.active.iter().flatten().any(|a| a.floor == floor)
            || self.jobs.iter().any(launches)
            || self.hosts.iter().zip(&self.floor_of).any(queued)
    }

    /// In time-sliced mode, decides which context runs.
    fn take_turns(&mut self) {
        if self.floors.len() < 2 {
            return;
        }
        if let Some((to, at)) = self.slices.switch {
            if at > self.now + SAME {
                return;
            }
            self.slices = Slices { running: to, until: self.now + self.m.time_slice_ns, switch: None };
            self.dirty = true;
        }
        let n = self.floors.len();
        let other = (1..n).map(|k| (self.slices.running + k) % n).find(|&f| self.busy(f));
        let mine = self.busy(self.slices.running);
        match other {
            // Nothing of this context has run yet: the first to come takes the GPU at once.
            Some(to) if !mine && self.slices.until.is_infinite() => {
                self.slices = Slices { running: to, until: self.now + self.m.time_slice_ns, switch: None };
                self.dirty = true;
            }
            Some(to) if !mine || self.slices.until <= self.now + SAME => {
                self.slices.switch = Some((to, self.now + self.m.switch_ns));
            }
            _ => {
                // Slices begin anew while nobody else wants one, so that a newcomer waits for the rest of one.
                if mine && (self.slices.until.is_infinite() || self.slices.until <= self.now + SAME) {
                    self.slices.until = self.now + self.m.time_slice_ns;
                }
            }
        }
    }

    /// Places blocks of the running context by priority, then arrival.
    fn place(&mut self) {
        if self.slices.switch.is_some() {
            return;
        }
        let floor = self.slices.running;
        let mut queue: Vec<usize> = (0..self.active.len())
            .filter(|&i| self.active[i].as_ref().is_some_and(|a| a.floor == floor && a.unplaced > 0))
            .collect();
        queue.sort_unstable_by_key(|&i| self.active[i].as_ref().map(|a| (a.priority, a.arrival)));
        let mut closed = SmSet::EMPTY;
        for i in queue {
            let Some(a) = self.active[i].as_mut() else { continue };
            let mask = a.mask.minus(&closed);
            if !mask.is_empty() {
                let sd = self.m.block_spread;
                let mut drift = a.drift.take();
                let mut draw = drift.as_mut().map(|rng| move || 1.0 + sd * noise::normal(rng));
                let placed = self.floors[floor].place(
                    &Request {
                        launch: i as u32,
                        kernel: a.kernel,
                        holding: a.holding,
                        mask,
                        blocks: a.unplaced,
                        iterations: a.iterations,
                        delay: self.m.block_start_ns,
                    },
                    self.now,
                    self.m.order,
                    draw.as_mut().map(|f| f as &mut dyn FnMut() -> f64),
                );
                a.drift = drift;
                a.unplaced -= placed;
                a.resident += placed;
                if placed > 0 && a.start.is_none() {
                    a.start = Some(self.now);
                }
            }
            if a.unplaced > 0 && self.m.leftover {
                closed = closed.or(&a.mask);
            }
        }
    }

    /// Books for each kernel how much of its launch is on the device.
    fn book_shares(&mut self) {
        for a in self.active.iter().flatten() {
            let alone = (a.resident + a.unplaced).min(a.wave).max(1);
            if let Some(p) = self.parts.get_mut(a.kernel as usize) {
                p.share = (f64::from(a.resident) / f64::from(alone)).min(1.0);
            }
        }
    }

    /// Speed of job `i` as a share of its speed alone.
    fn speed(&self, i: usize) -> f64 {
        let lane = self.jobs[i].lane;
        match lane {
            Lane::Link(_) => {
                // `jobs` is in order of arrival.
                let other = |j: &Job| matches!(j.lane, Lane::Link(_)) && j.lane != lane;
                match self.jobs.iter().position(|j| j.lane == lane) {
                    Some(first) if first == i && self.jobs.iter().any(other) => self.m.duplex_share,
                    Some(first) if first == i => 1.0,
                    _ => 0.0,
                }
            }
            Lane::Launches(_) => {
                let mine = self.floor_of[self.jobs[i].stream];
                if self.floors.len() > 1 && (self.slices.switch.is_some() || mine != self.slices.running) {
                    return 0.0;
                }
                1.0 / self.jobs.iter().filter(|j| j.lane == lane).count() as f64
            }
        }
    }

    /// ns to the next event.
    fn until_next(&self) -> f64 {
        let mut at = f64::INFINITY;
        for h in &self.hosts {
            if let Stand::Coming { ready, .. } = h.stand {
                at = at.min(ready - self.now);
            }
        }
        for (i, j) in self.jobs.iter().enumerate() {
            let speed = self.speed(i);
            if speed > 0.0 {
                at = at.min(j.left / speed);
            }
        }
        match self.slices.switch {
            Some((_, done)) => at = at.min(done - self.now),
            None => {
                at = at.min(self.floors[self.slices.running].next_end());
                let others = (0..self.floors.len()).any(|f| f != self.slices.running && self.busy(f));
                if others {
                    at = at.min(self.slices.until - self.now);
                } else if self.slices.until.is_finite() && self.busy(self.slices.running) {
                    // Alone: slices pass without a trace, but where they begin must be right for a newcomer.
                    at = at.min((self.slices.until - self.now).max(SAME));
                }
            }
        }
        at.max(0.0)
    }

    /// Lets `dt` ns pass and books what ended.
    fn pass(&mut self, dt: f64, ended: &mut Vec<Ended>) {
        let speeds: Vec<f64> = (0..self.jobs.len()).map(|i| self.speed(i)).collect();
        if self.slices.switch.is_none() {
            self.floors[self.slices.running].advance(dt);
        }
        self.now += dt;
        for (j, speed) in self.jobs.iter_mut().zip(speeds) {
            j.left -= dt * speed;
        }
        let mut i = 0;
        while i < self.jobs.len() {
            if self.jobs[i].left <= SAME {
                let j = self.jobs.remove(i);
                self.book(j.stream, j.submit, j.start);
            } else {
                i += 1;
            }
        }
        if self.slices.switch.is_some() {
            return;
        }
        self.floors[self.slices.running].take_ended(ended);
        for e in ended.iter() {
            self.dirty = true;
            let slot = e.cohort.launch as usize;
            let count = e.cohort.blocks * e.sms.len();
            let Some(a) = self.active[slot].as_mut() else { continue };
            a.resident -= count;
            if self.scenario.trace_blocks {
                for sm in e.sms.iter() {
                    for _ in 0..e.cohort.blocks {
                        self.out.blocks.push(BlockSpan {
                            stream: a.stream as u32,
                            launch: a.index,
                            sm,
                            start_ns: e.cohort.started.round() as u64,
                            end_ns: self.now.round() as u64,
                        });
                    }
                }
            }
            if a.resident == 0 && a.unplaced == 0 {
                let (stream, submit, start) = (a.stream, a.submit, a.start.unwrap_or(self.now));
                self.active[slot] = None;
                self.book(stream, submit, start);
            }
        }
    }

    /// A launch ended now.
    fn book(&mut self, stream: usize, submit: f64, start: f64) {
        let ns = |t: f64| t.round() as u64;
        self.out.streams[stream].launches.push(Span {
            submit_ns: ns(submit),
            start_ns: ns(start),
            end_ns: ns(self.now),
        });
        self.hosts[stream].ended(self.now);
    }
}
