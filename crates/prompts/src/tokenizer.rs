//! Texts with exactly as many tokens as the tokenizer of a real model counts.

use crate::vocabulary::append;
use crate::{PromptError, Vocabulary};
use rand::RngExt;
use rand_pcg::Pcg64;
use std::fmt;

/// Tries to reach a length.
const TRIES: u32 = 8;
/// Words drawn from, and tokens looked at to find them.
const WORDS: usize = 1024;
const LOOKED_AT: usize = 8192;
/// Fewest words a text is made of.
const FEWEST: usize = 8;

/// The tokenizer of a model, as in its `tokenizer.json`, and words of it that are one token each, alone and after
/// another word.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    words: Vec<String>,
    special: bool,
    overhead: u32,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tokenizer { words, special, overhead, .. } = self;
        f.debug_struct("Tokenizer")
            .field("words", &words.len())
            .field("special", special)
            .field("overhead", overhead)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads the text of a `tokenizer.json`. With `special`, the tokens that it adds to each text (begin of text) count;
    /// servers count them for texts to complete.
    ///
    /// # Errors
    /// Not a tokenizer, or one with hardly any words (letters a to z, three or more) of one token.
    pub fn parse(json: &str, special: bool) -> Result<Tokenizer, PromptError> {
        let unusable = |e: tokenizers::Error| PromptError::Tokenizer(e.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(unusable)?;
        // A file may say that texts are cut or filled up; lengths would then not be those of the text.
        inner.with_truncation(None).map_err(unusable)?;
        inner.with_padding(None);
        let mut ids: Vec<u32> = inner.get_vocab(false).into_values().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut words: Vec<String> = Vec::new();
        let length = |text: &str| inner.encode_fast(text, false).map(|e| e.get_ids().len());
        let mut looked_at = 0;
        for id in ids {
            if words.len() == WORDS || looked_at == LOOKED_AT {
                break;
            }
            let Ok(text) = inner.decode(&[id], true) else { continue };
            let word = text.trim();
            if word.len() < 3
                || !word.bytes().all(|b| b.is_ascii_lowercase())
                || words.iter().any(|w| w == word)
            {
                continue;
            }
            looked_at += 1;
            let thrice = format!("{word} {word} {word}");
            if matches!((length(word), length(&thrice)), (Ok(1), Ok(3))) {
                words.push(word.to_owned());
            }
        }
        if words.len() < FEWEST {
            let found = words.len();
            return Err(PromptError::Tokenizer(format!(
                "{found} of its tokens are words of three or more letters a to z; at least {FEWEST} are needed"
            )));
        }
        let mut made = Tokenizer { inner, words, special, overhead: 0 };
        made.overhead = made.count("")?;
        Ok(made)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        let encoded = self.inner.encode_fast(text, self.special);
        encoded.map(|e| e.get_ids().to_vec()).map_err(|e| PromptError::Tokenizer(e.to_string()))
    }
}

impl Vocabulary for Tokenizer {
    fn count(&self, text: &str) -> Result<u32, PromptError> {
        self.encode(text).map(|ids| u32::try_from(ids.len()).unwrap_or(u32::MAX))
    }

    fn overhead(&self) -> u32 {
        self.overhead
    }

    fn extend(&self, start: &str, tokens: u32, rng: &mut Pcg64) -> Result<String, PromptError> {
        let least = self.count(start)?;
        if tokens < least {
            return Err(PromptError::Short { asked: tokens, least });
        }
        let mut words: Vec<&str> = Vec::new();
        let (mut text, mut have) = (start.to_owned(), least);
        for _ in 0..TRIES {
            if have == tokens {
                return Ok(text);
            }
            if have < tokens {
                for _ in have..tokens {
                    let word = self.words.get(rng.random_range(0..self.words.len().max(1)));
                    words.push(word.map_or("the", String::as_str));
                }
            } else {
                words.truncate(words.len().saturating_sub((have - tokens) as usize));
            }
            text.clear();
            text.push_str(start);
            append(&mut text, words.iter().copied());
            have = self.count(&text)?;
        }
        if have == tokens {
            Ok(text)
        } else {
            Err(PromptError::Tries { asked: tokens, tries: TRIES, nearest: have })
        }
    }

    fn has_ids(&self) -> bool {
        true
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.encode(text)
    }
}
