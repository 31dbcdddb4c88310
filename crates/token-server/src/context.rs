//! What all connections of a server share.

use crate::body::Kind;
use crate::engine::Engine;
use crate::options::{Fault, Options, Pace};
use crate::pace::{Source, nanos};
use crate::truth::{Ledger, now_ns};
use crate::wire::Template;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

/// A request for tokens: where its connection is, and its number, by which it is known to be still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) id: u64,
}

/// Totals since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests of any sort.
    pub(crate) http_requests: u64,
    pub(crate) connections: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) output_tokens: u64,
    /// Answers with all their tokens.
    pub(crate) completed: u64,
    /// Answers whose client went away.
    pub(crate) aborted: u64,
}

/// The state behind the connections.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) options: Options,
    /// Names that are served, and the templates of both kinds for each.
    pub(crate) models: Vec<Model>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) timers: BinaryHeap<Reverse<(u64, Key)>>,
    /// Of the batched pace.
    pub(crate) engine: Option<Engine<Key>>,
    /// Requests that wait for their turn under a running limit.
    pub(crate) queue: VecDeque<Key>,
    /// Requests whose turn has come but whose connection does not know yet.
    pub(crate) turns: VecDeque<Key>,
    /// Requests that produce tokens, unless an engine counts them.
    pub(crate) running: u32,
    pub(crate) counters: Counters,
    /// Number of the latest request for tokens.
    pub(crate) last_id: u64,
    pub(crate) start_ns: u64,
}

/// A served name.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    chat: Template,
    text: Template,
}

impl Model {
    pub(crate) fn template(&self, kind: Kind) -> &Template {
        match kind {
            Kind::Chat => &self.chat,
            Kind::Text => &self.text,
        }
    }
}

impl Context {
    pub(crate) fn new(options: Options, ledger: Arc<Ledger>) -> Self {
        let models = std::iter::once(&options.model)
            .chain(&options.adapters)
            .map(|name| Model {
                name: name.clone(),
                chat: Template::new(Kind::Chat, name, &options.shape),
                text: Template::new(Kind::Text, name, &options.shape),
            })
            .collect();
        let engine = match &options.pace {
            Pace::Batched(batching) => Some(Engine::new(batching)),
            _ => None,
        };
        Context {
            options,
            models,
            ledger,
            timers: BinaryHeap::new(),
            engine,
            queue: VecDeque::new(),
            turns: VecDeque::new(),
            running: 0,
            counters: Counters::default(),
            last_id: 0,
            start_ns: now_ns(),
        }
    }

    /// Takes in a request that may start at `now`; `None` when it can never run.
    pub(crate) fn engage(&mut self, key: Key, prompt: u32, output: u32, now: u64) -> Option<Source> {
        if let Some(engine) = &mut self.engine {
            return engine.add(key, prompt, output).then_some(Source::Granted { tokens: 0, since_ns: now });
        }
        let Pace::Fixed { ttft, itl } = self.options.pace else {
            self.running += 1;
            return Some(Source::Unpaced);
        };
        let waits = self.options.running_limit.is_some_and(|limit| self.running >= limit);
        if waits {
            self.queue.push_back(key);
        } else {
            self.running += 1;
        }
        Some(Source::Fixed { start_ns: (!waits).then_some(now), ttft_ns: nanos(ttft), itl_ns: nanos(itl) })
    }

    /// Lets go of a request that needs no more tokens, wherever it is.
    pub(crate) fn release(&mut self, key: Key, source: Source) {
        match source {
            Source::Granted { .. } => {
                if let Some(engine) = &mut self.engine {
                    engine.cancel(key);
                }
            }
            Source::Fixed { start_ns: None, .. } => {
                // Its turn may have come without its knowing.
                if let Some(at) = self.turns.iter().position(|&k| k == key) {
                    self.turns.remove(at);
                    self.next_turn();
                } else {
                    self.queue.retain(|&k| k != key);
                }
            }
            Source::Fixed { .. } | Source::Unpaced => self.next_turn(),
        }
    }

    /// Gives the place of a request that has ended to the one that waits longest.
    fn next_turn(&mut self) {
        match self.queue.pop_front() {
            Some(next) => self.turns.push_back(next),
            None => self.running = self.running.saturating_sub(1),
        }
    }

    /// Requests that run and that wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        match &self.engine {
            Some(engine) => (engine.running(), engine.waiting()),
            None => (self.running as usize, self.queue.len()),
        }
    }

    /// The time until which the server is frozen, if it is at `now`.
    pub(crate) fn frozen_until(&self, now: u64) -> Option<u64> {
        self.options.faults.iter().find_map(|fault| match fault {
            Fault::Freeze { at, length } => {
                let from = self.start_ns.saturating_add(nanos(*at));
                let to = from.saturating_add(nanos(*length));
                (from..to).contains(&now).then_some(to)
            }
            _ => None,
        })
    }
}
