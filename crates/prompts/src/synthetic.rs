//! Prompts that are made up.

use crate::seed::generator;
use crate::{Ask, DistributionError, Form, Length, Prefix, PromptError, Replay, Vocabulary};
use std::sync::Arc;

/// Made-up prompts: lengths from distributions or a trace, words from a vocabulary.
#[derive(Debug, Clone)]
pub struct Synthetic {
    /// Tokens of the prompt. A prompt has at least one token beside [`Vocabulary::overhead`].
    pub prompt: Length,
    /// Tokens to generate.
    pub output: Length,
    /// Beginnings that prompts share.
    pub prefix: Option<Prefix>,
    /// The trace for lengths that are [`Length::Trace`]. Where a record has 0 tokens, 1 is taken.
    pub replay: Option<Replay>,
    /// Words.
    pub vocabulary: Arc<dyn Vocabulary>,
    /// What prompts are sent as.
    pub form: Form,
    /// Seed; streams with different seeds share nothing.
    pub seed: u64,
}

/// A distribution's error with what it is the distribution of.
pub(crate) fn named(part: &'static str) -> impl Fn(DistributionError) -> PromptError {
    move |error| PromptError::Distribution { part, error }
}

/// Whether prompts can be sent in this form.
pub(crate) fn form_fits(form: Form, vocabulary: &dyn Vocabulary) -> Result<(), PromptError> {
    if form == Form::TokenIds && !vocabulary.has_ids() { Err(PromptError::NoIds) } else { Ok(()) }
}

impl Synthetic {
    /// Whether all parts fit together, so that asks do not fail for the description.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn check(&self) -> Result<(), PromptError> {
        self.prompt.check().map_err(named("prompt"))?;
        self.output.check().map_err(named("output"))?;
        form_fits(self.form, self.vocabulary.as_ref())?;
        if let Some(prefix) = &self.prefix {
            prefix.check()?;
        }
        let (prompt, output) = (self.prompt == Length::Trace, self.output == Length::Trace);
        match &self.replay {
            Some(replay) => {
                if replay.blocks && (!prompt || self.prefix.is_some()) {
                    return Err(PromptError::BlocksRule);
                }
                replay.check(prompt, output)
            }
            None if prompt => Err(PromptError::NoTrace { part: "prompt" }),
            None if output => Err(PromptError::NoTrace { part: "output" }),
            None => Ok(()),
        }
    }

    /// The ask with an index.
    ///
    /// # Errors
    /// Those of [`Synthetic::check`], late; the vocabulary finds no text of the length.
    pub fn ask(&self, index: u64) -> Result<Ask, PromptError> {
        self.ask_in(index, self.seed)
    }

    /// The ask with an index, its text from another seed than its lengths.
    pub(crate) fn ask_in(&self, index: u64, texts: u64) -> Result<Ask, PromptError> {
        let vocabulary = self.vocabulary.as_ref();
        let record = self.replay.as_ref().map(|r| r.record(self.seed, index)).transpose()?;
        let length = |length: &Length, part, told: Option<u64>| {
            let drawn = length.draw(&mut generator(self.seed, part, index));
            let told = told.and_then(|t| u32::try_from(t).ok());
            drawn.or(told).map(|n| n.max(1)).ok_or(PromptError::NoTrace { part })
        };
        let prompt_tokens = length(&self.prompt, "prompt", record.and_then(|(_, r)| r.prompt_tokens))?
            .max(vocabulary.overhead() + 1);
        let max_tokens = length(&self.output, "output", record.and_then(|(_, r)| r.output_tokens))?;
        let mut own = generator(texts, "text", index);
        let start = match (&self.replay, record, &self.prefix) {
            (Some(replay), Some((at, _)), _) if replay.blocks => {
                let (start, last) = replay.shared(vocabulary, texts, at, prompt_tokens)?;
                own = last.unwrap_or(own);
                start
            }
            (_, _, Some(prefix)) => match prefix.which(self.seed, index) {
                Some(which) => prefix.text(vocabulary, texts, which, prompt_tokens)?,
                None => String::new(),
            },
            _ => String::new(),
        };
        let text = vocabulary.extend(&start, prompt_tokens, &mut own)?;
        Ok(Ask {
            index,
            prompt: self.form.prompt(text, vocabulary)?,
            max_tokens,
            session: None,
            class: None,
            model: None,
            target_prompt_tokens: Some(prompt_tokens),
        })
    }
}
