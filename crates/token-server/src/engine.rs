//! A model of an engine with continuous batching. It has no clock: whoever drives it says what time it is.

use crate::options::Batching;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// How long iterations of an engine take.
pub trait StepTime: Send + Sync {
    /// Duration of one iteration over the batch `step`, ns.
    fn step_ns(&self, step: &Step) -> u64;
}

/// The batch of one iteration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Tokens of prompts that are computed.
    pub prefill_tokens: u32,
    /// Sequences that get one more token.
    pub decode_sequences: u32,
    /// Sum of the contexts of the decoding sequences, tokens.
    pub context_tokens: u64,
}

/// An iteration that takes the sum of four terms. Negative and non-finite sums become 0 ns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearStep {
    /// Of any iteration, ns.
    pub base_ns: f64,
    /// For each token of [`Step::prefill_tokens`], ns.
    pub per_prefill_token_ns: f64,
    /// For each of [`Step::decode_sequences`], ns.
    pub per_sequence_ns: f64,
    /// For each of [`Step::context_tokens`], ns.
    pub per_context_token_ns: f64,
}

impl StepTime for LinearStep {
    fn step_ns(&self, step: &Step) -> u64 {
        let ns = self.base_ns
            + self.per_prefill_token_ns * f64::from(step.prefill_tokens)
            + self.per_sequence_ns * f64::from(step.decode_sequences)
            + self.per_context_token_ns * step.context_tokens as f64;
        // Casts saturate, and NaN becomes 0.
        ns.round() as u64
    }
}

/// A token that an iteration produced for the request `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emitted<K> {
    /// The request.
    pub key: K,
    /// Whether it was its last token; the engine has forgotten the request.
    pub finished: bool,
}

/// One request inside the engine.
#[derive(Debug, Clone)]
struct Sequence<K> {
    key: K,
    /// Tokens of the prompt.
    prompt: u32,
    /// Tokens that the answer has.
    generated: u32,
    /// Tokens that the answer will have.
    target: u32,
    /// Tokens whose keys and values are in memory.
    computed: u32,
    /// Tokens that the current iteration computes.
    scheduled: u32,
    /// Blocks held.
    blocks: u32,
}

impl<K> Sequence<K> {
    fn context(&self) -> u32 {
        self.prompt.saturating_add(self.generated)
    }
    fn remaining(&self) -> u32 {
        self.context().saturating_sub(self.computed)
    }
    fn decodes(&self) -> bool {
        self.generated > 0 && self.remaining() == 1
    }
}

/// Continuous batching with paged KV memory, as a state machine.
///
/// Requests wait first come, first served. An iteration gives each decoding sequence a token, then spends what is
/// left of [`Batching::max_batched_tokens`] on prompts: those begun first, then newly admitted ones. A request is
/// admitted when blocks for all its tokens so far are free. A decoding sequence that needs a block when none is free
/// takes those of the sequence admitted last (possibly its own), which goes back to the front of the queue and is
/// computed again, its answer so far included. An iteration with such a preemption admits nobody. All tokens of an
/// iteration appear at its end; the one that ends a prompt yields the first token of the answer.
///
/// `K` names requests; it should be unique among those inside.
pub struct Engine<K> {
    max_running: usize,
    kv_blocks: u32,
    block_tokens: u32,
    max_batched_tokens: u32,
    step: Arc<dyn StepTime>,
    waiting: VecDeque<Sequence<K>>,
    running: Vec<Sequence<K>>,
    free_blocks: u32,
    preemptions: u64,
    in_step: bool,
    emitted: Vec<Emitted<K>>,
}

impl<K> fmt::Debug for Engine<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("waiting", &self.waiting.len())
            .field("running", &self.running.len())
            .field("free_blocks", &self.free_blocks)
            .field("preemptions", &self.preemptions)
            .finish_non_exhaustive()
    }
}

impl<K: Copy + Eq> Engine<K> {
    /// An empty engine. Limits of 0 are taken as 1.
    pub fn new(batching: &Batching) -> Self {
        let kv_blocks = batching.kv_blocks.max(1);
        Engine {
            max_running: batching.max_running.max(1) as usize,
            kv_blocks,
            block_tokens: batching.block_tokens.max(1),
            max_batched_tokens: batching.max_batched_tokens.max(1),
            step: Arc::clone(&batching.step),
            waiting: VecDeque::new(),
            running: Vec::new(),
            free_blocks: kv_blocks,
            preemptions: 0,
            in_step: false,
            emitted: Vec::new(),
        }
    }

    /// Queues a request for `output_tokens` tokens after a prompt of `prompt_tokens`; both count as at least 1.
    /// `false`, and nothing queued, when it would not fit into the KV memory on its own.
    #[must_use]
    pub fn add(&mut self, key: K, prompt_tokens: u32, output_tokens: u32) -> bool {
        let (prompt, target) = (prompt_tokens.max(1), output_tokens.max(1));
        // The last token of an answer is never computed on, so it needs no room.
        let Some(longest) = prompt.checked_add(target - 1) else { return false };
        if self.blocks_for(longest) > self.kv_blocks {
            return false;
        }
        self.waiting.push_back(Sequence {
            key,
            prompt,
            generated: 0,
            target,
            computed: 0,
            scheduled: 0,
            blocks: 0,
        });
        true
    }

    /// Forgets a request, wherever it is; its blocks are free at once.
    pub fn cancel(&mut self, key: K) {
        if let Some(at) = self.running.iter().position(|s| s.key == key) {
            let gone = self.running.remove(at);
            self.free_blocks += gone.blocks;
        } else {
            self.waiting.retain(|s| s.key != key);
        }
    }

    /// Begins an iteration at `now_ns` and says when it ends, ns. `None` when one is under way or nothing is to do.
    pub fn start_step(&mut self, now_ns: u64) -> Option<u64> {
        if self.in_step {
            return None;
        }
        let mut step = Step::default();
        let preempted = self.schedule_decodes(&mut step);
        let mut budget = self.max_batched_tokens.saturating_sub(step.decode_sequences);
        for s in self.running.iter_mut().filter(|s| s.scheduled == 0) {
            s.scheduled = s.remaining().min(budget);
            budget -= s.scheduled;
            step.prefill_tokens += s.scheduled;
        }
        while !preempted && budget > 0 && self.running.len() < self.max_running {
            let Some(front) = self.waiting.front() else { break };
            let need = self.blocks_for(front.context());
            if need > self.free_blocks {
                break;
            }
            let Some(mut s) = self.waiting.pop_front() else { break };
            self.free_blocks -= need;
            s.blocks = need;
            s.scheduled = s.remaining().min(budget);
            budget -= s.scheduled;
            step.prefill_tokens += s.scheduled;
            self.running.push(s);
        }
        if step == Step::default() {
            return None;
        }
        self.in_step = true;
        Some(now_ns.saturating_add(self.step.step_ns(&step)))
    }

    /// Schedules a token for each decoding sequence, and makes room for it. Whether a sequence was preempted.
    fn schedule_decodes(&mut self, step: &mut Step) -> bool {
        let mut preempted = false;
        let mut at = 0;
        while let Some(s) = self.running.get(at) {
            if !s.decodes() {
                at += 1;
                continue;
            }
            let need = self.blocks_for(s.context()).saturating_sub(s.blocks);
            if need > self.free_blocks {
                // The last is never one that already has its token in this iteration: it is this one or a later one.
                if let Some(mut victim) = self.running.pop() {
                    self.free_blocks += victim.blocks;
                    victim.blocks = 0;
                    victim.computed = 0;
                    self.waiting.push_front(victim);
                }
                self.preemptions += 1;
                preempted = true;
                continue;
            }
            self.free_blocks -= need;
            if let Some(s) = self.running.get_mut(at) {
                s.blocks += need;
                s.scheduled = 1;
                step.decode_sequences += 1;
                step.context_tokens += u64::from(s.context());
            }
            at += 1;
        }
        preempted
    }

    /// Ends the iteration: the tokens that it produced, in the order of admission. Empty when none was under way.
    pub fn finish_step(&mut self) -> &[Emitted<K>] {
        self.emitted.clear();
        if std::mem::take(&mut self.in_step) {
            let (emitted, free) = (&mut self.emitted, &mut self.free_blocks);
            self.running.retain_mut(|s| {
                s.computed += std::mem::take(&mut s.scheduled);
                if s.remaining() > 0 {
                    return true;
                }
                s.generated += 1;
                let finished = s.generated >= s.target;
                emitted.push(Emitted { key: s.key, finished });
                if finished {
                    *free += s.blocks;
                }
                !finished
            });
        }
        &self.emitted
    }

    /// Requests in the batch.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests in the queue.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Share of the KV memory that is in use, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        1.0 - f64::from(self.free_blocks) / f64::from(self.kv_blocks)
    }

    /// Sequences that lost their blocks so far.
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    fn blocks_for(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.block_tokens)
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
