//! Sessions of several turns, each of which carries what was said before: the next turn is due when its predecessor was
//! answered and the user has thought.

use super::asks::Scribe;
use cotenant_prompts::Asks;
use cotenant_serve::{AFTER_FAILURE_NS, Due, Request, Source, Written};
use cotenant_store::serving::RequestRecord;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// When sessions begin.
#[derive(Debug)]
pub(super) enum Begin {
    /// So many users, each of whom begins a session when the one before has ended.
    Users {
        /// When free users begin, ns.
        free: BinaryHeap<Reverse<u64>>,
        /// Pause between sessions, ns.
        think_ns: u64,
    },
    /// At these times, ns, ascending.
    Times(VecDeque<u64>),
}

/// A turn that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at_ns: u64,
    session: u64,
    turn: u32,
}

/// A source of sessions.
#[derive(Debug)]
pub(super) struct SessionSource {
    asks: Asks,
    scribe: Scribe,
    begin: Begin,
    /// No more requests than this, and none after this time.
    most: u64,
    until_ns: u64,
    sent: u64,
    begun: u64,
    /// Turns after the first whose time is known.
    waiting: BinaryHeap<Reverse<Turn>>,
    /// What was answered in each session that goes on.
    answers: HashMap<u64, Vec<String>>,
    /// Session and turn of each request under way, by its number.
    under_way: HashMap<u64, (u64, u32)>,
    /// The turn whose body is ready.
    ready: Option<(u64, u32, Written)>,
    body: Vec<u8>,
    forgone: u64,
}

impl SessionSource {
    /// Sessions of these asks.
    pub fn new(asks: Asks, scribe: Scribe, begin: Begin, (most, until_ns): (u64, u64)) -> SessionSource {
        SessionSource {
            asks,
            scribe,
            begin,
            most,
            until_ns,
            sent: 0,
            begun: 0,
            waiting: BinaryHeap::new(),
            answers: HashMap::new(),
            under_way: HashMap::new(),
            ready: None,
            body: Vec::new(),
            forgone: 0,
        }
    }

    fn first_due(&self) -> Option<u64> {
        match &self.begin {
            Begin::Users { free, .. } => free.peek().map(|r| r.0),
            Begin::Times(times) => times.front().copied(),
        }
    }

    /// The turn that comes next, if it is known: a later turn goes before a first one at the same time.
    fn upcoming(&self) -> Option<Turn> {
        let first = self.first_due().map(|at_ns| Turn { at_ns, session: self.begun, turn: 0 });
        let later = self.waiting.peek().map(|r| r.0);
        match (first, later) {
            (Some(f), Some(l)) => Some(if l.at_ns <= f.at_ns { l } else { f }),
            (f, l) => f.or(l),
        }
    }

    fn make(&mut self, session: u64, turn: u32) -> Written {
        let before = self.answers.get(&session).map(Vec::as_slice).unwrap_or_default();
        self.scribe.write(self.asks.turn(session, turn, before), &mut self.body)
    }

    fn turns(&self, session: u64) -> u32 {
        self.asks.sessions_of().and_then(|s| s.turns(session).ok()).unwrap_or(1)
    }
}

impl Source for SessionSource {
    fn due(&mut self) -> Due {
        if self.sent >= self.most {
            return Due::Never;
        }
        match self.upcoming() {
            Some(t) if t.at_ns >= self.until_ns => Due::Never,
            Some(t) => Due::At(t.at_ns),
            None if self.under_way.is_empty() => Due::Never,
            None => Due::AfterAnEnd,
        }
    }

    fn take(&mut self, body: &mut Vec<u8>) -> Request {
        let index = self.sent;
        self.sent += 1;
        let Turn { at_ns, session, turn } =
            self.upcoming().unwrap_or(Turn { at_ns: 0, session: self.begun, turn: 0 });
        if turn == 0 {
            match &mut self.begin {
                Begin::Users { free, .. } => drop(free.pop()),
                Begin::Times(times) => drop(times.pop_front()),
            }
            self.begun += 1;
        } else {
            self.waiting.pop();
        }
        let written = match self.ready.take() {
            Some((s, t, written)) if (s, t) == (session, turn) => written,
            _ => self.make(session, turn),
        };
        body.extend_from_slice(&self.body);
        self.under_way.insert(index, (session, turn));
        let Written { max_tokens, tag, model } = written;
        Request { index, intended_ns: at_ns, tag, max_tokens, session: Some(session), model }
    }

    fn prepare(&mut self) {
        let Some(Turn { session, turn, .. }) = self.upcoming().filter(|_| self.sent < self.most) else {
            return;
        };
        if self.ready.is_none_or(|(s, t, _)| (s, t) != (session, turn)) {
            self.ready = Some((session, turn, self.make(session, turn)));
        }
    }

    fn ended(&mut self, record: &RequestRecord, text: &str, now_ns: u64) {
        let Some((session, turn)) = self.under_way.remove(&record.index) else { return };
        let left = self.turns(session).saturating_sub(turn + 1);
        if record.ok() && left > 0 {
            self.answers.entry(session).or_default().push(text.to_owned());
            let think_s = self.asks.sessions_of().map_or(0.0, |s| s.think_s(session, turn + 1));
            let at_ns = record.end_ns.saturating_add((think_s * 1e9).round() as u64).max(now_ns);
            self.waiting.push(Reverse(Turn { at_ns, session, turn: turn + 1 }));
            return;
        }
        // Without an answer there is nothing to go on from.
        self.forgone += u64::from(left);
        self.answers.remove(&session);
        if let Begin::Users { free, think_ns } = &mut self.begin {
            let pause = if record.ok() { *think_ns } else { (*think_ns).max(AFTER_FAILURE_NS) };
            free.push(Reverse(record.end_ns.saturating_add(pause).max(now_ns)));
        }
    }

    fn forgone(&mut self) -> u64 {
        std::mem::take(&mut self.forgone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::{AskedFailure, Models};
    use cotenant_prompts::{Form, Length, Seconds, Sessions, Words};
    use cotenant_serve::BodyOptions;
    use cotenant_store::serving::{Failure, FailureKind};
    use std::sync::Arc;

    fn source(begin: Begin, most: u64) -> SessionSource {
        let sessions = Sessions {
            turns: Length::Exact(3),
            think: Seconds::Exact(2.0),
            user: Length::Exact(4),
            output: Length::Exact(5),
            prefix: None,
            vocabulary: Arc::new(Words::new(0, 100).expect("words")),
            form: Form::Chat,
            seed: 3,
        };
        let body = BodyOptions::chat("m");
        let scribe = Scribe::new(&body, Models::default(), AskedFailure::default());
        let asks = Asks::sessions(sessions).expect("sessions");
        SessionSource::new(asks, scribe, begin, (most, u64::MAX))
    }

    fn record(request: Request, end_ns: u64) -> RequestRecord {
        let text = format!(
            r#"{{"index": {}, "intended_ns": {}, "end_ns": {end_ns}, "chunks": 1, "output_tokens": 5, "max_tokens": 5, "status": 200}}"#,
            request.index, request.intended_ns
        );
        serde_json::from_str(&text).expect("a record")
    }

    fn take(s: &mut SessionSource) -> (Request, serde_json::Value) {
        let mut body = Vec::new();
        s.prepare();
        let request = s.take(&mut body);
        (request, serde_json::from_slice(&body).expect("a body"))
    }

    #[test]
    fn a_turn_follows_its_answer_and_carries_it() {
        let mut s = source(Begin::Times([10, 500].into()), u64::MAX);
        assert_eq!(s.due(), Due::At(10));
        let (first, body) = take(&mut s);
        assert_eq!(
            (first.session, first.tag, body["messages"].as_array().map(Vec::len)),
            (Some(0), 0, Some(1))
        );
        // The first session's second turn is due two seconds after its answer; before that the second session begins.
        assert_eq!(s.due(), Due::At(500));
        s.ended(&record(first, 300), "said", 300);
        assert_eq!(s.due(), Due::At(500));
        let (second, _) = take(&mut s);
        assert_eq!((second.session, second.tag), (Some(1), 0));
        assert_eq!(s.due(), Due::At(2_000_000_300));
        let (third, body) = take(&mut s);
        assert_eq!((third.session, third.tag, third.intended_ns), (Some(0), 1, 2_000_000_300));
        let messages = body["messages"].as_array().expect("messages");
        assert_eq!(messages.len(), 3);
        assert_eq!((&messages[1]["role"], &messages[1]["content"]), (&"assistant".into(), &"said".into()));
        // Nothing is known to come before one of the two under way has ended.
        assert_eq!(s.due(), Due::AfterAnEnd);
    }

    #[test]
    fn a_failed_turn_ends_its_session_and_its_user_begins_another() {
        let mut s = source(Begin::Users { free: [Reverse(0)].into(), think_ns: 7 }, u64::MAX);
        let (first, _) = take(&mut s);
        s.ended(&record(first, 100), "said", 100);
        let (second, _) = take(&mut s);
        assert_eq!((second.session, second.tag), (Some(0), 1));
        let failure = Some(Failure::new(FailureKind::Reset, "gone"));
        s.ended(&RequestRecord { failure, ..record(second, 3_000_000_000) }, "", 3_000_000_000);
        assert_eq!((s.forgone(), s.forgone()), (1, 0));
        assert_eq!(s.due(), Due::At(3_000_000_000 + AFTER_FAILURE_NS));
        let (third, _) = take(&mut s);
        assert_eq!((third.session, third.tag), (Some(1), 0));
        assert!(s.answers.is_empty(), "what was said is not kept");
    }

    #[test]
    fn no_more_requests_than_asked_for() {
        let mut s = source(Begin::Users { free: [Reverse(0)].into(), think_ns: 0 }, 2);
        for end in [100, 200] {
            let (request, _) = take(&mut s);
            s.ended(&record(request, end), "said", end);
        }
        assert_eq!(s.due(), Due::Never);
    }
}
