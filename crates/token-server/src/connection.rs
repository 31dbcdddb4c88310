//! One connection: bytes in, requests in order, one answer at a time.

use crate::answer::{Answer, HIGH_WATER, Progress};
use crate::context::{Context, Key};
use crate::http::{self, Parsed};
use crate::output::Output;
use crate::routes::{self, Outcome};
use crate::truth::now_ns;
use crate::wire::Stamped;
use rustix::event::epoll::EventFlags;
use std::io;
use std::net::TcpStream;

/// Room that is made for a `read()`.
const READ_BYTES: usize = 16 << 10;
/// Bytes of later requests that are read while an answer is under way.
const READ_AHEAD: usize = 1 << 20;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// To be dropped.
    Over,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Output,
    /// What has arrived; the first `used` bytes have been dealt with.
    input: Vec<u8>,
    used: usize,
    /// Fewer unused bytes than this cannot be a request.
    need: usize,
    /// Whether the client was told to go on with its body.
    continued: bool,
    /// When the last `read()` and the last answer ended.
    read_ns: u64,
    free_ns: u64,
    answer: Option<Answer>,
    stamped: Stamped,
    /// Whether it ends once its output is sent.
    closing: bool,
    /// Whether the client has closed its sending half.
    eof: bool,
    /// What epoll waits for.
    pub(crate) interest: EventFlags,
    /// Tells it from an earlier connection in the same slot.
    pub(crate) serial: u32,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, write_bytes: Option<usize>, serial: u32) -> Self {
        Connection {
            io: Output::new(stream, write_bytes),
            input: Vec::new(),
            used: 0,
            need: 1,
            continued: false,
            read_ns: 0,
            free_ns: 0,
            answer: None,
            stamped: Stamped::default(),
            closing: false,
            eof: false,
            interest: EventFlags::IN | EventFlags::RDHUP,
            serial,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.io.stream
    }

    /// What epoll should wait for.
    pub(crate) fn wanted_interest(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        if !self.eof {
            flags |= EventFlags::RDHUP;
            if self.input.len() - self.used < READ_AHEAD.max(self.need) {
                flags |= EventFlags::IN;
            }
        }
        if self.io.pending() > 0 {
            flags |= EventFlags::OUT;
        }
        flags
    }

    /// Deals with what epoll saw.
    pub(crate) fn event(&mut self, slot: u32, flags: EventFlags, context: &mut Context) -> Fate {
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return self.abort(context);
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP) && !self.eof && self.read().is_err() {
            return self.abort(context);
        }
        let now = self.read_ns.max(if flags.contains(EventFlags::OUT) { now_ns() } else { 0 });
        if self.work(slot, now, flags.contains(EventFlags::OUT), context).is_err() {
            return self.abort(context);
        }
        if self.eof && self.answer.is_some() {
            return self.abort(context);
        }
        if (self.eof || self.closing) && self.io.pending() == 0 { Fate::Over } else { Fate::Open }
    }

    /// Goes on with the answer of `key`, if it is still that one: its timer rang or it got tokens. `change` is made
    /// to it before.
    pub(crate) fn resume(
        &mut self,
        key: Key,
        now: u64,
        context: &mut Context,
        change: impl FnOnce(&mut Answer),
    ) -> Fate {
        match &mut self.answer {
            Some(answer) if answer.wanted.key == key => change(answer),
            _ => return Fate::Open,
        }
        if self.work(key.slot, now, true, context).is_err() {
            return self.abort(context);
        }
        if self.closing && self.io.pending() == 0 { Fate::Over } else { Fate::Open }
    }

    /// Number of the answer under way and when its timer rings.
    pub(crate) fn timer(&self) -> Option<(u64, u64)> {
        self.answer.as_ref().map(|a| (a.wanted.key.id, a.timer_ns))
    }

    /// Ends the connection, and the answer under way with it.
    pub(crate) fn abort(&mut self, context: &mut Context) -> Fate {
        if let Some(answer) = self.answer.take() {
            answer.end(&mut self.io, context, true);
        }
        Fate::Over
    }

    /// Takes in what has arrived.
    fn read(&mut self) -> io::Result<()> {
        if self.used > 0 {
            self.input.drain(..self.used);
            self.used = 0;
        }
        if self.input.is_empty() && self.input.capacity() > READ_AHEAD {
            self.input.shrink_to(READ_BYTES);
        }
        loop {
            self.input.reserve(READ_BYTES.max(self.need.saturating_sub(self.input.len())));
            let room = self.input.capacity() - self.input.len();
            let spare = rustix::buffer::spare_capacity(&mut self.input);
            match rustix::io::read(&self.io.stream, spare) {
                Ok(0) => {
                    self.eof = true;
                    return Ok(());
                }
                Ok(n) => {
                    self.read_ns = now_ns();
                    // A short read took all there was; epoll tells of more.
                    if n < room || self.input.len() >= READ_AHEAD.max(self.need) {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Goes on with the answer under way when `step` says so, then with the requests that have arrived.
    fn work(&mut self, slot: u32, now: u64, step: bool, context: &mut Context) -> io::Result<()> {
        if self.answer.is_some() {
            if !step {
                return Ok(());
            }
            self.step(now, context)?;
        } else if self.io.pending() > 0 {
            self.io.flush()?;
        }
        while self.answer.is_none() && !self.closing && self.io.pending() < HIGH_WATER {
            let input = self.input.get(self.used..).unwrap_or_default();
            if input.len() < self.need {
                break;
            }
            match http::parse(input) {
                Parsed::Partial { need, expects } => {
                    self.need = need;
                    if expects && !std::mem::replace(&mut self.continued, true) {
                        self.io.buffer.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                        self.io.flush()?;
                    }
                    break;
                }
                Parsed::Bad { status, reason } => {
                    routes::refuse(&mut self.io, status, reason);
                    self.closing = true;
                    self.io.flush()?;
                }
                Parsed::Request { head, body, used } => {
                    let arrival = routes::Arrival {
                        slot,
                        read_ns: self.read_ns,
                        start_ns: self.read_ns.max(self.free_ns),
                    };
                    let outcome =
                        routes::handle(&head, &body, arrival, &mut self.io, &mut self.stamped, context);
                    let keep_alive = head.keep_alive;
                    self.used += used;
                    self.need = 1;
                    self.continued = false;
                    match outcome {
                        Outcome::Replied(truth) => {
                            self.closing |= !keep_alive;
                            self.io.flush()?;
                            if let Some(mut truth) = truth {
                                truth.end_ns = now_ns();
                                context.ledger.push(truth);
                            }
                        }
                        Outcome::Answering(answer) => {
                            self.answer = Some(*answer);
                            self.step(arrival.start_ns, context)?;
                        }
                    }
                }
            }
        }
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
        Ok(())
    }

    /// Goes on with the answer under way.
    fn step(&mut self, now: u64, context: &mut Context) -> io::Result<()> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        if answer.step(&mut self.io, &self.stamped, context, now)? == Progress::Sent
            && let Some(answer) = self.answer.take()
        {
            self.closing |= !answer.keep_alive();
            self.free_ns = answer.end(&mut self.io, context, false);
        }
        Ok(())
    }
}
