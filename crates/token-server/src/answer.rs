//! One answer under way: from the schedule of its tokens to bytes in the connection's output.

use crate::body::Kind;
use crate::context::{Context, Key};
use crate::options::{Fault, RoleChunk};
use crate::output::Output;
use crate::pace::{Schedule, Source, When, nanos};
use crate::truth::{Truth, now_ns};
use crate::wire::{self, Counts, Event, Reply, Stamped, Words, Writer};
use std::cmp::Reverse;
use std::io;

/// Rendered bytes beyond which an answer waits for its reader.
pub(crate) const HIGH_WATER: usize = 256 << 10;
/// Bytes after which an answer lets others have a turn.
const FAIR_SHARE: u64 = 1 << 20;

/// What is to go wrong in mid-stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Half,
    Close { after: u32 },
    Error { after: u32 },
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Says nothing for good.
    Silent,
    /// Has tokens to come.
    Content,
    /// Ends at the given time.
    Tail(u64),
    /// Is rendered, and has to be sent.
    Rendered,
}

/// Whether an answer needs another call of [`Answer::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// When its timer rings, tokens are granted, or its output can take more.
    Waits,
    /// It has been sent.
    Sent,
}

/// What a request wants and how it came.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) kind: Kind,
    /// Index in [`Context::models`].
    pub(crate) model: usize,
    pub(crate) stream: bool,
    pub(crate) usage: bool,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    /// Whether the client knows chunks.
    pub(crate) chunked: bool,
    pub(crate) keep_alive: bool,
    pub(crate) arrival_ns: u64,
    pub(crate) created: u64,
    pub(crate) request_id: Option<String>,
}

/// An answer under way.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) wanted: Wanted,
    pub(crate) schedule: Schedule,
    /// When its timer rings; 0 for never.
    pub(crate) timer_ns: u64,
    words: Words,
    phase: Phase,
    trouble: Option<Trouble>,
    sent: u32,
    /// When the last token was due.
    last_due: u64,
    status: u16,
    /// Whether it holds a place among those that produce tokens.
    engaged: bool,
}

impl Answer {
    /// Begins an answer. Without a source of tokens it stays silent.
    pub(crate) fn begin(
        wanted: Wanted,
        source: Option<Source>,
        fault: Option<&Fault>,
        io: &mut Output,
        stamped: &mut Stamped,
        context: &Context,
    ) -> Self {
        let trouble = match fault {
            Some(Fault::HalfJson { .. }) => Some(Trouble::Half),
            Some(Fault::CloseEarly { after_tokens, .. }) => Some(Trouble::Close { after: *after_tokens }),
            Some(Fault::ErrorEvent { after_tokens, .. }) => Some(Trouble::Error { after: *after_tokens }),
            _ => None,
        };
        let shape = &context.options.shape;
        let mut answer = Answer {
            schedule: Schedule::new(source.unwrap_or(Source::Unpaced), shape.stall),
            timer_ns: 0,
            words: Words::new(context.options.seed, wanted.key.id),
            phase: if source.is_some() { Phase::Content } else { Phase::Silent },
            trouble,
            sent: 0,
            last_due: wanted.arrival_ns,
            status: 0,
            engaged: source.is_some(),
            wanted,
        };
        let w = &answer.wanted;
        if answer.engaged && w.stream {
            wire::stream_head(&mut io.buffer, w.chunked, w.keep_alive);
            answer.status = 200;
            if let Some(model) = context.models.get(w.model) {
                let template = model.template(w.kind);
                template.stamp(stamped, w.key.id, w.created);
                if shape.role_chunk == RoleChunk::Early && w.kind == Kind::Chat {
                    let writer = Writer { template, stamped, shape, chunked: w.chunked };
                    writer.event(&mut io.buffer, Event::Role, &mut answer.words, None);
                }
            }
        }
        answer
    }

    /// Renders and sends what is due at `now`, and sets the timer for what is due next.
    ///
    /// # Errors
    /// What the connection says when it cannot be written to.
    pub(crate) fn step(
        &mut self,
        io: &mut Output,
        stamped: &Stamped,
        context: &mut Context,
        now: u64,
    ) -> io::Result<Progress> {
        let before = io.written();
        let coalesce = context.options.shape.coalesce;
        loop {
            if io.pending() > HIGH_WATER || !coalesce {
                io.flush()?;
                if io.pending() > HIGH_WATER {
                    return Ok(Progress::Waits);
                }
                if io.written() - before > FAIR_SHARE {
                    self.set_timer(context, now);
                    break;
                }
            }
            let go_on = match self.phase {
                Phase::Silent | Phase::Rendered => false,
                Phase::Content if self.wanted.stream => self.content(io, stamped, context, now),
                Phase::Content => self.gather(io, context, now),
                Phase::Tail(due) if due > now => {
                    self.set_timer(context, due);
                    false
                }
                Phase::Tail(_) if self.wanted.stream => self.finish_stream(io, stamped, context)?,
                Phase::Tail(_) => self.finish_whole(io, context),
            };
            if !go_on {
                break;
            }
        }
        io.flush()?;
        if self.phase == Phase::Rendered && io.pending() == 0 {
            Ok(Progress::Sent)
        } else {
            Ok(Progress::Waits)
        }
    }

    /// Renders the next event with content if it is due. Whether something may follow at once.
    fn content(&mut self, io: &mut Output, stamped: &Stamped, context: &mut Context, now: u64) -> bool {
        let total = self.wanted.output_tokens;
        if let Some(Trouble::Close { after }) = self.trouble
            && self.sent >= after.min(total)
        {
            return self.stop(context, false);
        }
        let shape = &context.options.shape;
        let count = shape.tokens_per_chunk.min(total - self.sent);
        if count > 0 {
            match self.schedule.when(self.sent + count - 1, now) {
                When::Unknown => return false,
                When::At(due) => {
                    self.set_timer(context, due);
                    return false;
                }
                When::Now(due) => self.last_due = due,
            }
        }
        let Some(model) = context.models.get(self.wanted.model) else { return false };
        let writer = Writer {
            template: model.template(self.wanted.kind),
            stamped,
            shape,
            chunked: self.wanted.chunked,
        };
        if let Some(Trouble::Error { after }) = self.trouble
            && self.sent >= after.min(total)
        {
            writer.event(&mut io.buffer, Event::Error, &mut self.words, None);
            if shape.done {
                writer.event(&mut io.buffer, Event::Done, &mut self.words, None);
            }
            wire::last_chunk(&mut io.buffer, self.wanted.chunked);
            return self.stop(context, self.wanted.keep_alive);
        }
        if count == 0 {
            self.phase = Phase::Tail(self.last_due.saturating_add(nanos(shape.tail)));
            self.disengage(context);
            return true;
        }
        let (first, last) = (self.sent == 0, self.sent + count == total);
        if first && shape.role_chunk == RoleChunk::WithFirst && self.wanted.kind == Kind::Chat {
            writer.event(&mut io.buffer, Event::Role, &mut self.words, None);
            if !shape.coalesce {
                // An error shows again when the content is sent.
                let _ = io.flush();
            }
        }
        let finishes = last && !shape.finish_chunk;
        let usage = (finishes && self.wanted.usage && shape.usage_in_finish).then_some(self.counts(total));
        let start = io.buffer.len();
        let event = Event::Content { words: count, last: finishes };
        writer.event(&mut io.buffer, event, &mut self.words, usage);
        if self.trouble == Some(Trouble::Half) {
            io.buffer.truncate(start + (io.buffer.len() - start) / 2);
            return self.stop(context, false);
        }
        io.mark_content(first, last, context.options.keep_chunks);
        self.sent += count;
        true
    }

    /// Waits until all tokens of an answer that is not streamed are due. Whether something may follow at once.
    fn gather(&mut self, io: &mut Output, context: &mut Context, now: u64) -> bool {
        let total = self.wanted.output_tokens;
        let count = match self.trouble {
            Some(Trouble::Close { after } | Trouble::Error { after }) => after.min(total),
            Some(Trouble::Half) | None => total,
        };
        if count > 0 {
            match self.schedule.when(count - 1, now) {
                When::Unknown => return false,
                When::At(due) => {
                    self.set_timer(context, due);
                    return false;
                }
                When::Now(due) => self.last_due = due,
            }
        }
        match self.trouble {
            Some(Trouble::Close { .. }) => return self.stop(context, false),
            Some(Trouble::Error { .. }) => {
                let mut body = Vec::new();
                let message = "The request fails on purpose.";
                wire::error_json(&mut body, 500, "InternalServerError", message, None);
                self.reply(io, 500, &body);
                return self.stop(context, self.wanted.keep_alive);
            }
            Some(Trouble::Half) | None => {}
        }
        self.sent = total;
        self.phase = Phase::Tail(self.last_due.saturating_add(nanos(context.options.shape.tail)));
        self.disengage(context);
        true
    }

    /// Renders what follows the content of a stream.
    fn finish_stream(&mut self, io: &mut Output, stamped: &Stamped, context: &Context) -> io::Result<bool> {
        let shape = &context.options.shape;
        let Some(model) = context.models.get(self.wanted.model) else { return Ok(false) };
        let template = model.template(self.wanted.kind);
        let writer = Writer { template, stamped, shape, chunked: self.wanted.chunked };
        let usage = self.wanted.usage.then_some(self.counts(self.sent));
        let events = [
            (shape.finish_chunk, Event::Finish, usage.filter(|_| shape.usage_in_finish)),
            (usage.is_some() && !shape.usage_in_finish, Event::Usage, usage),
            (shape.done, Event::Done, None),
        ];
        for (_, event, usage) in events.into_iter().filter(|e| e.0) {
            writer.event(&mut io.buffer, event, &mut self.words, usage);
            if !shape.coalesce {
                io.flush()?;
            }
        }
        wire::last_chunk(&mut io.buffer, self.wanted.chunked);
        self.phase = Phase::Rendered;
        Ok(false)
    }

    /// Renders an answer that is not streamed.
    fn finish_whole(&mut self, io: &mut Output, context: &Context) -> bool {
        let Some(model) = context.models.get(self.wanted.model) else { return false };
        let mut text = Vec::new();
        self.words.append(&mut text, self.sent);
        let w = &self.wanted;
        let text = String::from_utf8_lossy(&text);
        let body =
            wire::whole_answer(w.kind, &model.name, w.key.id, w.created, &text, self.counts(self.sent));
        let start = io.buffer.len();
        self.reply(io, 200, &body);
        self.phase = Phase::Rendered;
        if self.trouble == Some(Trouble::Half) {
            io.buffer.truncate(start + (io.buffer.len() - start) - body.len() / 2);
            self.wanted.keep_alive = false;
            self.sent = 0;
        } else {
            io.mark_content(true, true, context.options.keep_chunks);
        }
        false
    }

    /// Ends the answer with what has been rendered.
    fn stop(&mut self, context: &mut Context, keep_alive: bool) -> bool {
        self.wanted.keep_alive = keep_alive;
        self.phase = Phase::Rendered;
        self.disengage(context);
        false
    }

    fn reply(&mut self, io: &mut Output, status: u16, body: &[u8]) {
        self.status = status;
        let keep_alive = self.wanted.keep_alive;
        Reply { status, content_type: "application/json", keep_alive, headers: "" }
            .append(&mut io.buffer, body);
    }

    fn counts(&self, output: u32) -> Counts {
        Counts { prompt: self.wanted.prompt_tokens, output }
    }

    fn set_timer(&mut self, context: &mut Context, due: u64) {
        if self.timer_ns != due {
            self.timer_ns = due;
            context.timers.push(Reverse((due, self.wanted.key)));
        }
    }

    fn disengage(&mut self, context: &mut Context) {
        if std::mem::take(&mut self.engaged) {
            context.release(self.wanted.key, self.schedule.source);
        }
    }

    /// Whether the connection can be used again.
    pub(crate) fn keep_alive(&self) -> bool {
        self.wanted.keep_alive && (self.wanted.chunked || !self.wanted.stream)
    }

    /// Ends the answer, sent or not, and writes down what is known of it. The time of its end, ns.
    pub(crate) fn end(mut self, io: &mut Output, context: &mut Context, aborted: bool) -> u64 {
        let end_ns = now_ns();
        self.disengage(context);
        let stamps = std::mem::take(&mut io.stamps);
        let w = self.wanted;
        let counters = &mut context.counters;
        counters.prompt_tokens += u64::from(w.prompt_tokens);
        counters.output_tokens += u64::from(self.sent);
        counters.completed += u64::from(!aborted && self.sent == w.output_tokens);
        counters.aborted += u64::from(aborted);
        context.ledger.push(Truth {
            id: w.key.id,
            arrival_ns: w.arrival_ns,
            request_id: w.request_id,
            first_token_ns: stamps.first_ns,
            chunk_ns: stamps.chunk_ns,
            last_token_ns: stamps.last_ns,
            end_ns,
            prompt_tokens: w.prompt_tokens,
            output_tokens: self.sent,
            status: self.status,
            aborted,
        });
        end_ns
    }
}
