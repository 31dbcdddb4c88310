//! The event loop: sends what is due, reads what arrives.
//!
//! Reading comes first. A turn of the loop takes the sockets that are ready, reads each once and stamps right after
//! the read; only then are the requests sent that became due meanwhile. What the loop cannot read in time waits in the
//! kernel and is stamped late; how busy the thread was is part of the outcome, so that such a run can be told.

mod wire;

use crate::arrivals::Arrivals;
use crate::clock::{Clock, thread_cpu_ns};
use crate::conn::{Active, Conn, State};
use crate::error::ServeError;
use crate::poll::{Poll, Ready};
use crate::source::{Due, Source};
use crate::target::Target;
use cotenant_store::serving::{FailureKind, RequestRecord as Record};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::io;

/// Bytes of one read.
const READ: usize = 256 << 10;
/// How often time limits are looked at, ns.
const CHECK_NS: u64 = 20_000_000;
/// Window in which the thread's CPU use is taken, ns.
const BUSY_WINDOW_NS: u64 = 500_000_000;
/// A loop that sends in place of waiting does not starve reading: so many sends in one turn.
const SENDS: usize = 64;
/// After so many reads it looks for what became due meanwhile, and sends at most as many.
const READS: usize = 16;

/// The load of one tenant.
pub struct Tenant<'a> {
    /// Where its requests go.
    pub target: Target,
    /// What they are and when they are due.
    pub source: Box<dyn Source + 'a>,
    /// Most requests in flight; what is due beyond waits, and its record says so.
    pub in_flight: u32,
    /// Time limit of a request from its sending, ns.
    pub timeout_ns: u64,
    /// Keep the text of answers for the source.
    pub keep_text: bool,
    /// Connections that are opened before the phase starts.
    pub connections: u32,
}

/// How to drive.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// When the phase is over, ns since its start: what is under way then is given up. `u64::MAX`: when all is done.
    pub stop_at_ns: u64,
}

/// How the driving itself went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// From the start to the end of the last request, ns.
    pub wall_ns: u64,
    /// CPU time of the thread, ns.
    pub cpu_ns: u64,
    /// Largest share of a core that the thread used in any half second.
    pub busiest: f64,
    /// Most requests in flight at one time, of all tenants.
    pub peak_in_flight: u32,
    /// It was interrupted.
    pub interrupted: bool,
}

/// What takes a finished request: number of its tenant, its record, when each event with content came (ns).
pub type Sink<'a> = dyn FnMut(usize, &Record, &[u64]) + 'a;

struct Seat<'a> {
    tenant: Tenant<'a>,
    idle: Vec<usize>,
    busy: u32,
    /// When it last had all its places taken and got one back.
    freed_ns: u64,
}

/// Drives the load of all tenants in the calling thread.
pub struct Engine<'a> {
    seats: Vec<Seat<'a>>,
    conns: Vec<Option<Conn>>,
    /// Counts how often a slot was used anew, so that an event for a closed connection is not taken for its successor.
    turns: Vec<u32>,
    free: Vec<usize>,
    poll: Poll,
    buffer: Vec<u8>,
    arrivals: Arrivals,
    body: Vec<u8>,
    /// Finished requests whose memory can be used again.
    #[expect(clippy::vec_box, reason = "they move into connections and back as boxes")]
    spare: Vec<Box<Active>>,
    busy: u32,
    peak: u32,
}

fn system(e: Errno) -> io::Error {
    io::Error::from(e)
}

impl<'a> Engine<'a> {
    /// An engine with its connections opened.
    ///
    /// # Errors
    /// The kernel has no epoll for us.
    pub fn new(tenants: Vec<Tenant<'a>>) -> Result<Engine<'a>, ServeError> {
        let poll = Poll::new().map_err(|e| ServeError::Poll(system(e)))?;
        let mut engine = Engine {
            seats: Vec::new(),
            conns: Vec::new(),
            turns: Vec::new(),
            free: Vec::new(),
            poll,
            buffer: vec![0; READ],
            arrivals: Arrivals::new(),
            body: Vec::new(),
            spare: Vec::new(),
            busy: 0,
            peak: 0,
        };
        for (i, tenant) in tenants.into_iter().enumerate() {
            let ahead = tenant.connections.min(tenant.in_flight);
            engine.seats.push(Seat { tenant, idle: Vec::new(), busy: 0, freed_ns: 0 });
            for _ in 0..ahead {
                // A server that cannot be reached shows in the requests.
                let Ok(id) = engine.connect(i) else { break };
                engine.seats[i].idle.push(id);
            }
        }
        Ok(engine)
    }

    fn key(&self, id: usize) -> u64 {
        u64::from(self.turns[id]) << 32 | id as u64
    }

    /// Drives until all sources are done and all requests have ended, the phase is over, or `interrupted` says so.
    ///
    /// # Errors
    /// Waiting for sockets fails.
    pub fn run(
        &mut self,
        clock: Clock,
        options: Options,
        sink: &mut Sink<'_>,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Outcome, ServeError> {
        // The kernel may wake a thread later than asked by its timer slack, 50 µs where nothing else is set.
        let slack = rustix::thread::current_timer_slack().ok();
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let outcome = self.turn_after_turn(clock, options, sink, interrupted);
        if let Some(slack) = slack {
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(slack));
        }
        outcome
    }

    fn turn_after_turn(
        &mut self,
        clock: Clock,
        options: Options,
        sink: &mut Sink<'_>,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Outcome, ServeError> {
        let cpu_from = thread_cpu_ns();
        let mut window = (clock.now(), cpu_from);
        let (mut busiest, mut next_check, mut stopped) = (0f64, CHECK_NS, false);
        let mut ready = Vec::new();
        self.arrivals.turn();
        loop {
            let now = clock.now();
            if now >= next_check {
                next_check = now + CHECK_NS;
                self.time_out(now, sink);
                stopped |= interrupted();
                if now >= window.0 + BUSY_WINDOW_NS {
                    let cpu = thread_cpu_ns();
                    busiest = busiest.max((cpu - window.1) as f64 / (now - window.0) as f64);
                    window = (now, cpu);
                }
            }
            if stopped || now >= options.stop_at_ns {
                self.cancel(clock.now(), sink);
                break;
            }
            let next = self.send_due(clock, SENDS, sink);
            let Some(next) = next else { break };
            let wake = next.min(next_check).min(options.stop_at_ns);
            let timeout = wake.saturating_sub(clock.now());
            self.poll.wait(timeout, &mut ready).map_err(|e| ServeError::Poll(system(e)))?;
            if !ready.is_empty() {
                self.arrivals.turn();
            }
            for (i, r) in ready.iter().enumerate() {
                // Bytes bear the time at which they came, so they can wait; what is due cannot.
                if i % READS == READS - 1 {
                    self.send_due(clock, READS, sink);
                }
                self.attend(*r, clock, sink);
            }
        }
        let wall_ns = clock.now();
        let cpu_ns = thread_cpu_ns() - cpu_from;
        if busiest == 0.0 && wall_ns > 0 {
            busiest = cpu_ns as f64 / wall_ns as f64;
        }
        Ok(Outcome { wall_ns, cpu_ns, busiest, peak_in_flight: self.peak, interrupted: stopped })
    }

    /// Sends what is due, at most so many for each tenant, and says when the next is: `None` when nothing is left to do.
    fn send_due(&mut self, clock: Clock, most: usize, sink: &mut Sink<'_>) -> Option<u64> {
        let (mut next, mut over) = (u64::MAX, true);
        for seat in 0..self.seats.len() {
            for sends in 0.. {
                let s = &mut self.seats[seat];
                let at = match s.tenant.source.due() {
                    Due::At(at) => at,
                    // Who waits for an end with nothing under way would wait for ever.
                    Due::Never | Due::AfterAnEnd => {
                        over &= s.busy == 0;
                        break;
                    }
                };
                over = false;
                if s.busy >= s.tenant.in_flight {
                    break;
                }
                if sends == most || at > clock.now() {
                    next = next.min(at);
                    s.tenant.source.prepare();
                    break;
                }
                self.send(seat, clock, sink);
            }
        }
        (!over).then_some(next)
    }

    fn send(&mut self, seat: usize, clock: Clock, sink: &mut Sink<'_>) {
        let s = &mut self.seats[seat];
        self.body.clear();
        let request = s.tenant.source.take(&mut self.body);
        let record = Record {
            index: request.index,
            tag: request.tag,
            session: request.session,
            model: request.model,
            intended_ns: request.intended_ns,
            sent_ns: None,
            first_byte_ns: None,
            first_chunk_ns: None,
            first_content_ns: None,
            last_content_ns: None,
            end_ns: 0,
            chunks: 0,
            prompt_tokens: None,
            cached_tokens: None,
            output_tokens: 0,
            by_chunks: false,
            max_tokens: request.max_tokens,
            status: 0,
            finish: None,
            failure: None,
            capped: request.intended_ns < s.freed_ns,
            connected: false,
            resent: false,
        };
        let deadline_ns = clock.now().saturating_add(s.tenant.timeout_ns);
        let (keep_text, mask) = (s.tenant.keep_text, s.tenant.target.mask.clone());
        let mut active = match self.spare.pop() {
            Some(mut old) => {
                let mut stamps = std::mem::take(&mut old.stamps);
                stamps.clear();
                *old = Active::new(record, deadline_ns, keep_text, mask);
                old.stamps = stamps;
                old
            }
            None => Box::new(Active::new(record, deadline_ns, keep_text, mask)),
        };
        s.busy += 1;
        self.busy += 1;
        self.peak = self.peak.max(self.busy);
        let id = match self.seats[seat].idle.pop() {
            Some(id) => id,
            None => {
                active.record.connected = true;
                match self.connect(seat) {
                    Ok(id) => id,
                    Err(e) => {
                        active.give_up(FailureKind::Connect, e.to_string(), clock.now());
                        self.ended(seat, active, clock.now(), sink);
                        return;
                    }
                }
            }
        };
        let body = std::mem::take(&mut self.body);
        if let Some(conn) = self.conns[id].as_mut() {
            conn.out.clear();
            conn.written = 0;
            self.seats[seat].tenant.target.request(request.index, &body, &mut conn.out);
            conn.active = Some(active);
            if conn.state == State::Idle {
                conn.state = State::Busy;
                self.write(id, clock, sink);
            }
        }
        self.body = body;
    }

    /// A socket is ready.
    fn attend(&mut self, ready: Ready, clock: Clock, sink: &mut Sink<'_>) {
        let id = (ready.key & 0xffff_ffff) as usize;
        if self.turns.get(id).map(|&t| u64::from(t)) != Some(ready.key >> 32) {
            return;
        }
        let Some(conn) = self.conns[id].as_mut() else { return };
        if conn.state == State::Connecting {
            if !(ready.writable || ready.readable) {
                return;
            }
            match sockopt::socket_error(&conn.socket) {
                Ok(Ok(())) => {}
                Ok(Err(e)) | Err(e) => {
                    self.broken(id, FailureKind::Connect, &e.to_string(), clock, sink);
                    return;
                }
            }
            if conn.tls.is_some() {
                conn.state = State::Shaking;
                self.flush(id, clock, sink);
            } else {
                self.opened(id, clock, sink);
            }
            return;
        }
        if ready.readable {
            self.read(id, clock, sink);
        }
        if ready.writable && self.conns[id].as_ref().is_some_and(|c| c.wants_write) {
            if self.conns[id].as_ref().is_some_and(|c| c.state == State::Busy) {
                self.write(id, clock, sink);
            } else {
                self.flush(id, clock, sink);
            }
        }
    }

    /// A connection is of no use any more. A request that was sent on one that had served before and was closed by the
    /// server meanwhile is sent once more: it is the idle connection that failed, not the request.
    fn broken(&mut self, id: usize, kind: FailureKind, detail: &str, clock: Clock, sink: &mut Sink<'_>) {
        let Some(mut conn) = self.conns[id].take() else { return };
        let seat = conn.tenant;
        self.seats[seat].idle.retain(|&i| i != id);
        self.free.push(id);
        let Some(mut active) = conn.active.take() else { return };
        let stale = conn.used && active.record.first_byte_ns.is_none() && !active.record.resent;
        if stale && let Ok(id) = self.connect(seat) {
            active.record.resent = true;
            active.record.connected = true;
            active.record.sent_ns = None;
            if let Some(new) = self.conns[id].as_mut() {
                new.out = std::mem::take(&mut conn.out);
                new.active = Some(active);
            }
        } else {
            let now = clock.now();
            active.give_up(kind, detail, now);
            self.ended(seat, active, now, sink);
        }
    }

    /// The answer on this connection is complete, well or badly.
    fn finish(&mut self, id: usize, keep: bool, now: u64, sink: &mut Sink<'_>) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        let seat = conn.tenant;
        let active = conn.active.take();
        let whole = conn.written >= conn.out.len();
        if keep && whole {
            conn.state = State::Idle;
            conn.used = true;
            self.seats[seat].idle.push(id);
        } else {
            self.drop_conn(id);
        }
        if let Some(active) = active {
            self.ended(seat, active, now, sink);
        }
    }

    fn ended(&mut self, seat: usize, active: Box<Active>, now: u64, sink: &mut Sink<'_>) {
        let s = &mut self.seats[seat];
        if s.busy >= s.tenant.in_flight {
            s.freed_ns = now;
        }
        s.busy = s.busy.saturating_sub(1);
        self.busy = self.busy.saturating_sub(1);
        sink(seat, &active.record, &active.stamps);
        s.tenant.source.ended(&active.record, &active.text, now);
        if self.spare.len() < 4096 {
            self.spare.push(active);
        }
    }

    fn time_out(&mut self, now: u64, sink: &mut Sink<'_>) {
        for id in 0..self.conns.len() {
            let late = |c: &Conn| c.active.as_ref().is_some_and(|a| a.deadline_ns <= now);
            if self.conns[id].as_ref().is_some_and(late) {
                let limit_s = {
                    let seat = self.conns[id].as_ref().map_or(0, |c| c.tenant);
                    self.seats[seat].tenant.timeout_ns as f64 / 1e9
                };
                self.give_up(
                    id,
                    FailureKind::Timeout,
                    &format!("not complete within {limit_s} s"),
                    now,
                    sink,
                );
            }
        }
    }

    /// Ends everything that is under way.
    fn cancel(&mut self, now: u64, sink: &mut Sink<'_>) {
        for id in 0..self.conns.len() {
            self.give_up(id, FailureKind::Cancelled, "the phase was over", now, sink);
        }
    }

    fn give_up(&mut self, id: usize, kind: FailureKind, detail: &str, now: u64, sink: &mut Sink<'_>) {
        if let Some(conn) = self.conns[id].as_mut()
            && let Some(mut active) = conn.active.take()
        {
            active.give_up(kind, detail, now);
            let seat = conn.tenant;
            self.drop_conn(id);
            self.ended(seat, active, now, sink);
        }
    }
}
