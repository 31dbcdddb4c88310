//! Texts with a given number of tokens.

use crate::PromptError;
use rand::RngExt;
use rand_pcg::Pcg64;
use std::fmt;

/// Makes texts of which a server's tokenizer counts a given number of tokens.
///
/// Words are drawn one after the other, so from one generator a longer text begins with the shorter one; texts are
/// joined with a space.
pub trait Vocabulary: fmt::Debug + Send + Sync {
    /// Tokens that the server counts for a text.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    fn count(&self, text: &str) -> Result<u32, PromptError>;

    /// Tokens that the server adds to each text (such as a begin-of-text token); [`Vocabulary::count`] has them.
    fn overhead(&self) -> u32 {
        0
    }

    /// A text that begins with `start` and of which the server counts `tokens` in all.
    ///
    /// # Errors
    /// `start` has more already; no such text was found.
    fn extend(&self, start: &str, tokens: u32, rng: &mut Pcg64) -> Result<String, PromptError>;

    /// A text of which the server counts `tokens`.
    ///
    /// # Errors
    /// Fewer than [`Vocabulary::overhead`]; no such text was found.
    fn text(&self, tokens: u32, rng: &mut Pcg64) -> Result<String, PromptError> {
        self.extend("", tokens, rng)
    }

    /// Whether [`Vocabulary::ids`] are known.
    fn has_ids(&self) -> bool {
        false
    }

    /// Ids of the tokens of a text.
    ///
    /// # Errors
    /// The vocabulary has none, or the text is not of its words.
    fn ids(&self, _text: &str) -> Result<Vec<u32>, PromptError> {
        Err(PromptError::NoIds)
    }
}

/// Adds words to a text, with spaces between.
pub(crate) fn append<'w>(text: &mut String, words: impl Iterator<Item = &'w str>) {
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
}

/// Words `t0`, `t1`, … of one token each: `t17` is the token with id 17. Understood by tokenizers made for models with
/// random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    low: u32,
    end: u32,
}

impl Words {
    /// Words with the ids from `low` to just below `end`; a `low` above 0 leaves out special tokens.
    ///
    /// # Errors
    /// No ids.
    pub fn new(low: u32, end: u32) -> Result<Words, PromptError> {
        if low < end {
            return Ok(Words { low, end });
        }
        let rule = "above the first id";
        Err(PromptError::Range { field: "end of the ids of words", value: f64::from(end), rule })
    }
}

impl Vocabulary for Words {
    fn count(&self, text: &str) -> Result<u32, PromptError> {
        Ok(u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX))
    }

    fn extend(&self, start: &str, tokens: u32, rng: &mut Pcg64) -> Result<String, PromptError> {
        let least = self.count(start)?;
        let more = tokens.checked_sub(least).ok_or(PromptError::Short { asked: tokens, least })?;
        let mut text = String::with_capacity(start.len() + 7 * more as usize);
        text.push_str(start);
        for _ in 0..more {
            let word = format!("t{}", rng.random_range(self.low..self.end));
            append(&mut text, std::iter::once(word.as_str()));
        }
        Ok(text)
    }

    fn has_ids(&self) -> bool {
        true
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        let id = |word: &str| word.strip_prefix('t').and_then(|n| n.parse().ok());
        text.split_whitespace().map(|w| id(w).ok_or_else(|| PromptError::Word(w.to_owned()))).collect()
    }
}
