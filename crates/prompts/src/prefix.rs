//! Beginnings that prompts share.

use crate::call::hold;
use crate::seed::generator;
use crate::{MOST_TOKENS, PromptError, Vocabulary};
use rand::RngExt;
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

/// Beginnings that prompts share, such as system prompts.
///
/// The beginning is part of the prompt's length, so how much is shared leaves the distribution of lengths as it is. A
/// prompt that is not longer than the beginning has as much of it as leaves one token of its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prefix {
    /// Different beginnings, 1 or more.
    pub count: u32,
    /// Tokens of each, 1 or more.
    pub tokens: u32,
    /// Share of the prompts that begin with one, 0 to 1.
    pub share: f64,
    /// Which one a prompt begins with.
    #[serde(default)]
    pub choice: Choice,
}

/// How often each of several beginnings is used.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "choice", rename_all = "kebab-case")]
pub enum Choice {
    /// Each as often.
    #[default]
    Uniform,
    /// The n-th in proportion to n to the power of minus the exponent.
    Zipf {
        /// Exponent, 0 to 10.
        exponent: f64,
    },
}

impl Prefix {
    /// Whether all numbers are in range.
    ///
    /// # Errors
    /// The first number that is not, with its name.
    pub fn check(&self) -> Result<(), PromptError> {
        let range = |field, value: f64, ok: bool, rule| {
            if ok { Ok(()) } else { Err(PromptError::Range { field, value, rule }) }
        };
        range("number of prefixes", f64::from(self.count), self.count > 0, "1 or more")?;
        let fits = (1..=MOST_TOKENS).contains(&self.tokens);
        range("length of the prefixes", f64::from(self.tokens), fits, "from 1 to 16777216 tokens")?;
        let part = (0.0..=1.0).contains(&self.share);
        range("share of prompts with a prefix", self.share, part, "a number from 0 to 1")?;
        if let Choice::Zipf { exponent } = self.choice {
            let within = (0.0..=10.0).contains(&exponent);
            hold("zipf", "exponent", exponent, within, "a number from 0 to 10")
                .map_err(|error| PromptError::Distribution { part: "prefixes", error })?;
        }
        Ok(())
    }

    /// Which prefix the request with this index begins with, if any.
    pub(crate) fn which(&self, seed: u64, index: u64) -> Option<u32> {
        let mut rng = generator(seed, "prefix of a request", index);
        if rng.random::<f64>() >= self.share {
            return None;
        }
        Some(match self.choice {
            Choice::Uniform => rng.random_range(0..self.count.max(1)),
            Choice::Zipf { exponent } => {
                let rank = Zipf::new(f64::from(self.count), exponent).map_or(1.0, |z| z.sample(&mut rng));
                (rank as u32).clamp(1, self.count.max(1)) - 1
            }
        })
    }

    /// As much of a prefix as fits into a prompt of `tokens`, which leaves room for one more.
    pub(crate) fn text(
        &self,
        vocabulary: &dyn Vocabulary,
        seed: u64,
        which: u32,
        tokens: u32,
    ) -> Result<String, PromptError> {
        let overhead = vocabulary.overhead();
        let fits = self.tokens.min(tokens.saturating_sub(overhead + 1));
        let mut rng = generator(seed, "prefix", u64::from(which));
        if fits == 0 { Ok(String::new()) } else { vocabulary.text(fits + overhead, &mut rng) }
    }
}
