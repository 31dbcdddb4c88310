//! One connection, and the answer that is coming in on it.

use crate::channel::Tls;
use crate::delta::{Delta, skim};
use crate::http::{Answer, Content, Head, Piece};
use crate::sse::{Events, LONGEST};
use cotenant_servers::Mask;
use cotenant_store::serving::{Failure, FailureKind, RequestRecord as Record};
use rustix::fd::OwnedFd;

/// What a read led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More is to come.
    Going,
    /// The answer is complete; the connection can be used again, or not.
    Ended { keep: bool },
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Active {
    pub record: Record,
    pub deadline_ns: u64,
    content: Content,
    keep: bool,
    location: Option<String>,
    /// Body of an answer that is no event stream.
    body: Vec<u8>,
    /// Content of the answer so far, where it is kept.
    pub text: String,
    keep_text: bool,
    /// Secrets that no failure may tell.
    mask: Mask,
    /// When each event with content came.
    pub stamps: Vec<u64>,
}

impl Active {
    pub fn new(record: Record, deadline_ns: u64, keep_text: bool, mask: Mask) -> Active {
        Active {
            record,
            deadline_ns,
            content: Content::Other,
            keep: false,
            location: None,
            body: Vec::new(),
            text: String::new(),
            keep_text,
            mask,
            stamps: Vec::new(),
        }
    }

    fn head(&mut self, head: Head) {
        self.record.status = head.status;
        self.content = head.content;
        self.keep = head.keep;
        self.location = head.location;
    }

    /// Notes why it failed, if nothing is noted yet. The detail must be whole: it is cut when it is without secrets.
    fn fail(&mut self, kind: FailureKind, detail: impl AsRef<str>) {
        let mask = &self.mask;
        self.record.failure.get_or_insert_with(|| Failure::new(kind, mask.apply(detail.as_ref())));
    }

    /// One event of the stream; whether to read on.
    fn event(&mut self, data: &[u8], now: u64) -> bool {
        if data.trim_ascii() == b"[DONE]" {
            return true;
        }
        self.record.first_chunk_ns.get_or_insert(now);
        match skim(data) {
            Ok(delta) => {
                if delta.error {
                    self.fail(FailureKind::ErrorEvent, String::from_utf8_lossy(data));
                }
                self.take(&delta, now);
                true
            }
            Err(e) => {
                let quoted = String::from_utf8_lossy(data);
                self.fail(FailureKind::Garbage, format!("an event is no JSON (byte {}): {quoted}", e.0));
                false
            }
        }
    }

    fn take(&mut self, delta: &Delta<'_>, now: u64) {
        let r = &mut self.record;
        if delta.content > 0 {
            r.first_content_ns.get_or_insert(now);
            r.last_content_ns = Some(now);
            r.chunks = r.chunks.saturating_add(1);
            self.stamps.push(now);
            if self.keep_text
                && let Some(text) = delta.text
            {
                let quoted = [b"\"", text, b"\""].concat();
                self.text.push_str(&serde_json::from_slice::<String>(&quoted).unwrap_or_default());
            }
        }
        if delta.finish.is_some() {
            r.finish = delta.finish;
        }
        if let Some(u) = delta.usage {
            r.prompt_tokens = Some(u.prompt);
            r.output_tokens = u.completion;
            r.cached_tokens = u.cached.or(r.cached_tokens);
        }
    }

    /// The answer is whole.
    fn finish(&mut self, now: u64) {
        self.record.end_ns = now;
        match self.record.status {
            200 => {}
            status @ 300..=399 => {
                let to = self.location.take().unwrap_or_else(|| "somewhere it does not say".into());
                self.fail(FailureKind::Redirect, format!("{status} to {to}; give that URL instead"));
                return;
            }
            status => {
                let detail = format!("{status}: {}", String::from_utf8_lossy(&self.body));
                self.fail(FailureKind::Status, detail);
                return;
            }
        }
        if self.content == Content::Other {
            let body = std::mem::take(&mut self.body);
            self.record.first_chunk_ns = Some(now);
            match skim(&body) {
                Ok(delta) if delta.error => {
                    self.fail(FailureKind::ErrorEvent, String::from_utf8_lossy(&body))
                }
                Ok(delta) => self.take(&delta, now),
                Err(e) => {
                    let quoted = String::from_utf8_lossy(&body);
                    self.fail(
                        FailureKind::Garbage,
                        format!("the answer is no JSON (byte {}): {quoted}", e.0),
                    );
                }
            }
        }
        self.count();
        if self.record.chunks == 0 {
            self.fail(FailureKind::Empty, "no content came");
        }
    }

    /// Tokens by chunks where the server did not count.
    fn count(&mut self) {
        let r = &mut self.record;
        if r.prompt_tokens.is_none() {
            r.output_tokens = r.chunks;
            r.by_chunks = true;
        }
    }

    /// Given up.
    pub fn give_up(&mut self, kind: FailureKind, detail: impl AsRef<str>, now: u64) {
        self.record.end_ns = now;
        self.count();
        self.fail(kind, detail);
    }
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    /// The socket is open and TLS is being agreed on.
    Shaking,
    Idle,
    Busy,
}

/// A connection to a tenant's server.
pub(crate) struct Conn {
    pub socket: OwnedFd,
    /// Of an encrypted connection.
    pub tls: Option<Tls>,
    pub tenant: usize,
    pub state: State,
    /// The request, kept until its answer begins.
    pub out: Vec<u8>,
    /// Bytes of it that are written, or encrypted to be.
    pub written: usize,
    /// It is registered for writing.
    pub wants_write: bool,
    /// It has had an answer before.
    pub used: bool,
    pub active: Option<Box<Active>>,
    /// When the last bytes arrived, ns.
    pub arrived_ns: u64,
    answer: Answer,
    events: Events,
    /// What was read and is not used yet.
    left: Vec<u8>,
}

impl Conn {
    pub fn new(socket: OwnedFd, tls: Option<Tls>, tenant: usize) -> Conn {
        Conn {
            socket,
            tls,
            tenant,
            state: State::Connecting,
            out: Vec::new(),
            written: 0,
            wants_write: false,
            used: false,
            active: None,
            arrived_ns: 0,
            answer: Answer::default(),
            events: Events::default(),
            left: Vec::new(),
        }
    }

    /// Bytes arrived at `now`. Without a request under way they are none of ours, and the connection is done for.
    pub fn arrived(&mut self, bytes: &[u8], now: u64) -> Progress {
        let Some(active) = self.active.as_deref_mut() else { return Progress::Ended { keep: false } };
        active.record.first_byte_ns.get_or_insert(now);
        let gathered;
        let mut rest = if self.left.is_empty() {
            bytes
        } else {
            let mut all = std::mem::take(&mut self.left);
            all.extend_from_slice(bytes);
            gathered = all;
            &gathered[..]
        };
        loop {
            let (used, piece) = match self.answer.read(rest) {
                Ok(step) => step,
                Err((kind, detail)) => {
                    active.give_up(kind, detail, now);
                    return Progress::Ended { keep: false };
                }
            };
            rest = &rest[used..];
            match piece {
                Piece::Head(head) => {
                    active.head(head);
                    self.events.clear();
                }
                Piece::Body(body) if active.content == Content::Events && active.record.status == 200 => {
                    let mut good = true;
                    let fed = self.events.feed(body, &mut |data| {
                        good = active.event(data, now);
                        good
                    });
                    if fed.is_err() {
                        active
                            .fail(FailureKind::TooLarge, format!("an event is longer than {LONGEST} bytes"));
                        good = false;
                    }
                    if !good {
                        active.give_up(FailureKind::Garbage, "", now);
                        return Progress::Ended { keep: false };
                    }
                }
                Piece::Body(body) => {
                    if active.body.len() + body.len() > LONGEST {
                        active.give_up(
                            FailureKind::TooLarge,
                            format!("an answer longer than {LONGEST} bytes"),
                            now,
                        );
                        return Progress::Ended { keep: false };
                    }
                    active.body.extend_from_slice(body);
                }
                Piece::End => {
                    self.end_events(now);
                    return Progress::Ended { keep: self.wrap_up(rest.is_empty(), now) };
                }
                Piece::More => {
                    self.left.extend_from_slice(rest);
                    return Progress::Going;
                }
            }
        }
    }

    fn end_events(&mut self, now: u64) {
        if let Some(active) = self.active.as_deref_mut()
            && active.content == Content::Events
            && active.record.status == 200
        {
            let _ = self.events.finish(&mut |data| active.event(data, now));
        }
    }

    /// The answer is complete; whether the connection can be used again.
    fn wrap_up(&mut self, clean: bool, now: u64) -> bool {
        let Some(active) = self.active.as_deref_mut() else { return false };
        active.finish(now);
        clean && active.keep
    }

    /// The server has closed.
    pub fn closed(&mut self, now: u64) {
        let whole = self.answer.closed();
        if whole {
            self.end_events(now);
        }
        let Some(active) = self.active.as_deref_mut() else { return };
        if whole {
            active.finish(now);
        } else if active.record.first_byte_ns.is_none() {
            active.give_up(FailureKind::ClosedEarly, "the server closed without an answer", now);
        } else {
            let chunks = active.record.chunks;
            active.give_up(
                FailureKind::ClosedEarly,
                format!("the server closed in the middle of its answer, after {chunks} chunks of content"),
                now,
            );
        }
    }
}
