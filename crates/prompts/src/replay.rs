//! Lengths and shared blocks from the records of a trace.

use crate::file::Order;
use crate::seed::generator;
use crate::{MOST_TOKENS, PromptError, Vocabulary};
use cotenant_load::{BLOCK_TOKENS, Record, Trace};
use std::sync::Arc;

/// A trace whose records give lengths, prompt and output of one record together.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The trace.
    pub trace: Arc<Trace>,
    /// Which record a request takes; in order it starts over at the end of the trace.
    pub order: Order,
    /// Whether prompts are made of the record's blocks: equal ids give equal text, the rest is the request's own.
    pub blocks: bool,
}

impl Replay {
    /// Whether the trace has what is asked of it.
    pub(crate) fn check(&self, prompt: bool, output: bool) -> Result<(), PromptError> {
        if self.trace.records().is_empty() {
            return Err(PromptError::Empty);
        }
        if self.blocks && !self.trace.has_blocks() {
            return Err(PromptError::NoBlocks);
        }
        let length = |record, part, tokens: Option<u64>| match tokens {
            None => Err(PromptError::NoTokens { record, part }),
            Some(tokens) if tokens > u64::from(MOST_TOKENS) => {
                Err(PromptError::TooLong { record, part, tokens })
            }
            Some(_) => Ok(()),
        };
        for (i, r) in self.trace.records().iter().enumerate() {
            if prompt {
                length(i, "prompt", r.prompt_tokens)?;
            }
            if output {
                length(i, "output", r.output_tokens)?;
            }
        }
        Ok(())
    }

    /// Index of the record of a request, and the record.
    pub(crate) fn record(&self, seed: u64, index: u64) -> Result<(usize, Record), PromptError> {
        let records = self.trace.records();
        let at = self.order.place(seed, index, records.len()).ok_or(PromptError::Empty)?;
        records.get(at).map(|r| (at, *r)).ok_or(PromptError::Empty)
    }

    /// What a prompt of `tokens` shares with others: its whole blocks; and the generator of the last, incomplete one.
    /// An id gives the same words, as many as there is room for, in every prompt.
    pub(crate) fn shared(
        &self,
        vocabulary: &dyn Vocabulary,
        seed: u64,
        record: usize,
        tokens: u32,
    ) -> Result<(String, Option<rand_pcg::Pcg64>), PromptError> {
        let overhead = vocabulary.overhead();
        let block = BLOCK_TOKENS as u32;
        let whole = (tokens.saturating_sub(overhead) / block) as usize;
        let ids = self.trace.blocks(record);
        let words = |id: u64| generator(seed, "block", id);
        let mut text = String::new();
        for &id in ids.iter().take(whole) {
            let part = vocabulary.text(block + overhead, &mut words(id))?;
            crate::vocabulary::append(&mut text, std::iter::once(part.as_str()));
        }
        Ok((text, ids.get(whole).map(|&id| words(id))))
    }
}
