//! What is sent, and when: closed loops and open ones.

use cotenant_store::serving::RequestRecord as Record;

/// One request, as its source sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Number among the tenant's requests, from 0.
    pub index: u64,
    /// When it should be sent, ns since the start of the phase.
    pub intended_ns: u64,
    /// Free for the source; comes back in the record.
    pub tag: u32,
    /// Tokens asked for.
    pub max_tokens: u32,
    /// Session that it belongs to; comes back in the record.
    pub session: Option<u64>,
    /// Which of the load's further models it asks; comes back in the record.
    pub model: Option<u16>,
}

/// What a body that was written asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Tokens asked for.
    pub max_tokens: u32,
    /// [`Request::tag`].
    pub tag: u32,
    /// [`Request::model`].
    pub model: Option<u16>,
}

/// When the next request is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At this time, ns since the start of the phase; it may have passed.
    At(u64),
    /// Not before some request ends.
    AfterAnEnd,
    /// Never.
    Never,
}

/// Requests of one tenant.
pub trait Source {
    /// When the next request is due.
    fn due(&mut self) -> Due;

    /// The request that is due: its body goes into `body`, which is empty.
    fn take(&mut self, body: &mut Vec<u8>) -> Request;

    /// There is time: whatever the next request needs can be made ready.
    fn prepare(&mut self) {}

    /// A request has ended. `text` is its content where the tenant keeps it, else empty. The client came to know at `now_ns`, a while
    /// after `record.end_ns` where it had much to do: nobody who waited for the answer can act earlier.
    fn ended(&mut self, record: &Record, text: &str, now_ns: u64) {
        let _ = (record, text, now_ns);
    }

    /// Requests that were meant to come and will not, since this was asked last: the later turns of a session whose
    /// earlier one failed.
    fn forgone(&mut self) -> u64 {
        0
    }
}

/// Writes the body of a request into the buffer and says what it asks for.
pub trait Bodies {
    /// The body of request `index`.
    fn write(&mut self, index: u64, body: &mut Vec<u8>) -> Written;

    /// There is time to make the body of request `index` ready.
    fn prepare(&mut self, index: u64) {
        let _ = index;
    }
}

impl<F: FnMut(u64, &mut Vec<u8>) -> (u32, u32)> Bodies for F {
    fn write(&mut self, index: u64, body: &mut Vec<u8>) -> Written {
        let (max_tokens, tag) = self(index, body);
        Written { max_tokens, tag, model: None }
    }
}

/// Pause of a user whose request failed, ns: a server that refuses at once is not asked a million times.
pub const AFTER_FAILURE_NS: u64 = 100_000_000;

/// A closed loop: so many users, each of which sends its next request when the one before has ended, and `think_ns`
/// later if users think (0.1 s at least after a request that failed).
#[derive(Debug)]
pub struct Closed<B> {
    bodies: B,
    /// When free users send, a heap by time (the earliest last).
    free: std::collections::BinaryHeap<std::cmp::Reverse<u64>>,
    think_ns: u64,
    sent: u64,
    most: u64,
    until_ns: u64,
}

impl<B: Bodies> Closed<B> {
    /// `users` that send at most `most` requests together, none after `until_ns`.
    pub fn new(bodies: B, users: u32, think_ns: u64, most: u64, until_ns: u64) -> Closed<B> {
        let free = (0..users).map(|_| std::cmp::Reverse(0)).collect();
        Closed { bodies, free, think_ns, sent: 0, most, until_ns }
    }
}

impl<B: Bodies> Source for Closed<B> {
    fn due(&mut self) -> Due {
        if self.sent >= self.most {
            return Due::Never;
        }
        match self.free.peek() {
            Some(std::cmp::Reverse(at)) if *at >= self.until_ns => Due::Never,
            Some(std::cmp::Reverse(at)) => Due::At(*at),
            None => Due::AfterAnEnd,
        }
    }

    fn take(&mut self, body: &mut Vec<u8>) -> Request {
        let intended_ns = self.free.pop().map_or(0, |r| r.0);
        let index = self.sent;
        self.sent += 1;
        let Written { max_tokens, tag, model } = self.bodies.write(index, body);
        Request { index, intended_ns, tag, max_tokens, session: None, model }
    }

    fn prepare(&mut self) {
        if self.sent < self.most {
            self.bodies.prepare(self.sent);
        }
    }

    fn ended(&mut self, record: &Record, _text: &str, now_ns: u64) {
        let pause = if record.ok() { self.think_ns } else { self.think_ns.max(AFTER_FAILURE_NS) };
        self.free.push(std::cmp::Reverse(record.end_ns.saturating_add(pause).max(now_ns)));
    }
}

/// An open loop: requests at given times, whatever becomes of them.
#[derive(Debug)]
pub struct Open<B> {
    bodies: B,
    times: Vec<u64>,
    next: usize,
}

impl<B: Bodies> Open<B> {
    /// Requests at these offsets from the start of the phase, ns, ascending.
    pub fn new(bodies: B, times: Vec<u64>) -> Open<B> {
        Open { bodies, times, next: 0 }
    }
}

impl<B: Bodies> Source for Open<B> {
    fn due(&mut self) -> Due {
        self.times.get(self.next).map_or(Due::Never, |&at| Due::At(at))
    }

    fn take(&mut self, body: &mut Vec<u8>) -> Request {
        let index = self.next as u64;
        let intended_ns = self.times.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        let Written { max_tokens, tag, model } = self.bodies.write(index, body);
        Request { index, intended_ns, tag, max_tokens, session: None, model }
    }

    fn prepare(&mut self) {
        if self.next < self.times.len() {
            self.bodies.prepare(self.next as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_acts_when_the_answer_was_read_and_the_pause_is_over() {
        let bodies = |_: u64, _: &mut Vec<u8>| (1, 1);
        let due = |think_ns, end_ns, now_ns| {
            let mut users = Closed::new(bodies, 1, think_ns, 2, u64::MAX);
            users.take(&mut Vec::new());
            users.ended(&Record { end_ns, ..Record::default() }, "", now_ns);
            match users.due() {
                Due::At(at) => at,
                _ => 0,
            }
        };
        assert_eq!(due(0, 1000, 1500), 1500, "it was read 500 ns after it came");
        assert_eq!(due(2000, 1000, 1500), 3000, "the pause began when it came");
        assert_eq!(due(200, 1000, 1500), 1500);
    }
}
