//! The stream of asks of one tenant.

use crate::{Ask, MOST_TOKENS, Mix, Order, PromptError, PromptFile, Sessions, Synthetic};
use std::sync::Arc;

/// A stream of asks without end, from any source. Each depends on the description, the seed and its index alone, and
/// none is kept.
#[derive(Debug, Clone)]
pub struct Asks {
    source: Source,
    next: u64,
    /// Seed of the texts, where it is another one than that of the lengths.
    texts: Option<u64>,
}

#[derive(Debug, Clone)]
enum Source {
    File { file: Arc<PromptFile>, order: Order, seed: u64, max_tokens: u32 },
    Synthetic(Box<Synthetic>),
    Mix(Mix),
    Sessions(Box<Sessions>),
}

impl Asks {
    /// Asks with the prompts of a file; those without a number of tokens generate `max_tokens`.
    ///
    /// # Errors
    /// `max_tokens` out of range.
    pub fn file(
        file: Arc<PromptFile>,
        order: Order,
        seed: u64,
        max_tokens: u32,
    ) -> Result<Asks, PromptError> {
        if !(1..=MOST_TOKENS).contains(&max_tokens) {
            let rule = "a whole number from 1 to 16777216";
            return Err(PromptError::Range { field: "max_tokens", value: f64::from(max_tokens), rule });
        }
        Ok(Asks { source: Source::File { file, order, seed, max_tokens }, next: 0, texts: None })
    }

    /// Asks with made-up prompts, the lengths from distributions or a trace.
    ///
    /// # Errors
    /// Those of [`Synthetic::check`].
    pub fn synthetic(synthetic: Synthetic) -> Result<Asks, PromptError> {
        synthetic.check()?;
        Ok(Asks { source: Source::Synthetic(Box::new(synthetic)), next: 0, texts: None })
    }

    /// Asks of several classes.
    pub fn mix(mix: Mix) -> Asks {
        Asks { source: Source::Mix(mix), next: 0, texts: None }
    }

    /// The first asks of sessions; [`Asks::sessions_of`] makes the later ones.
    ///
    /// # Errors
    /// Those of [`Sessions::check`].
    pub fn sessions(sessions: Sessions) -> Result<Asks, PromptError> {
        sessions.check()?;
        Ok(Asks { source: Source::Sessions(Box::new(sessions)), next: 0, texts: None })
    }

    /// The same classes and lengths with other made-up texts: what a server has in its cache of the first ones does not
    /// answer for these. Prompts of a file stay as they are.
    #[must_use]
    pub fn with_texts(self, seed: u64) -> Asks {
        Asks { texts: Some(seed), ..self }
    }

    /// The sessions, where it is a stream of such.
    pub fn sessions_of(&self) -> Option<&Sessions> {
        if let Source::Sessions(s) = &self.source { Some(s) } else { None }
    }

    /// The ask of a later turn of a session, or of its first, after the answers to the turns before it.
    ///
    /// # Errors
    /// As [`Sessions::next`]; it is no stream of sessions.
    pub fn turn(&self, session: u64, turn: u32, answers: &[String]) -> Result<Ask, PromptError> {
        match &self.source {
            Source::Sessions(s) => s.next_in(session, turn, answers, self.texts.unwrap_or(s.seed)),
            _ => Err(PromptError::Turn { session, turn, turns: 0 }),
        }
    }

    /// Names of the models that [`Ask::model`] counts.
    pub fn models(&self) -> &[String] {
        if let Source::File { file, .. } = &self.source { file.models() } else { &[] }
    }

    /// Names of the classes that [`Ask::class`] counts.
    pub fn classes(&self) -> Vec<&str> {
        match &self.source {
            Source::File { file, .. } => file.classes().iter().map(String::as_str).collect(),
            Source::Mix(mix) => mix.classes().map(|c| c.name.as_str()).collect(),
            Source::Synthetic(_) | Source::Sessions(_) => Vec::new(),
        }
    }

    /// The next ask.
    ///
    /// # Errors
    /// The vocabulary finds no text of the length.
    pub fn get(&mut self) -> Result<Ask, PromptError> {
        let ask = self.at(self.next)?;
        self.next = self.next.saturating_add(1);
        Ok(ask)
    }

    /// The ask with an index, which leaves [`Asks::get`] where it is.
    ///
    /// # Errors
    /// The vocabulary finds no text of the length.
    pub fn at(&self, index: u64) -> Result<Ask, PromptError> {
        match &self.source {
            Source::File { file, order, seed, max_tokens } => file.ask(index, *order, *seed, *max_tokens),
            Source::Synthetic(s) => s.ask_in(index, self.texts.unwrap_or(s.seed)),
            Source::Mix(mix) => mix.ask_in(index, self.texts),
            Source::Sessions(s) => s.next_in(index, 0, &[], self.texts.unwrap_or(s.seed)),
        }
    }
}
