//! Texts of common English words, for servers whose tokenizer is not at hand.

use crate::vocabulary::append;
use crate::{PromptError, Vocabulary};
use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// Common words, most of which are one token in most vocabularies.
const WORDS: &str = "the of and to in is that it was for on are as with his they at be this from have or by one had \
not but what all were when we there can an your which their said if do will each about how up out them then she many \
some so these would other into has more her two like him see time could no make than first been its who now people my \
made over did down only way find use may water long little very after words called just where most know get through \
back much before go good new write our used me man too any day same right look think also around another came come \
work three word must because does part even place well such here take why things help put years different away again \
off went old number great tell men say small every found still between name should home big give air line set own \
under read last never us left end along while might next sound below saw something thought both few those always \
looked show large often together asked house world going want school important until form food keep children feet \
land side without boy once animals life enough took four head above kind began almost live page got earth need far \
hand high year mother light country father let night picture being study second soon story since white ever paper \
hard near sentence better best across during today however sure knew try told young sun thing whole hear example \
heard several change answer room sea against top turned learn point city play toward five using himself usually";

/// How many tokens a server counts for a text of [`Plain`] words.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Tokens of each word on average, above 0.
    pub tokens_per_word: f64,
    /// Tokens beside those of the words, such as those of a chat template.
    pub overhead: f64,
}

impl Calibration {
    /// The line through measurements, by least squares: for each text its words and the prompt tokens that the server
    /// counted.
    ///
    /// # Errors
    /// Measurements that tell no ratio: fewer than two numbers of words, or tokens that do not grow with words.
    pub fn fit(pairs: &[(u32, u32)]) -> Result<Calibration, PromptError> {
        let n = pairs.len() as f64;
        let mean = |of: fn(&(u32, u32)) -> u32| pairs.iter().map(|p| f64::from(of(p))).sum::<f64>() / n;
        let (words, tokens) = (mean(|p| p.0), mean(|p| p.1));
        let (mut squares, mut products) = (0.0, 0.0);
        for &(w, t) in pairs {
            let from_mean = f64::from(w) - words;
            squares += from_mean * from_mean;
            products += from_mean * (f64::from(t) - tokens);
        }
        let degenerate = |reason| Err(PromptError::Degenerate { pairs: pairs.len(), reason });
        let first = pairs.first().map(|p| p.0);
        if pairs.iter().all(|p| Some(p.0) == first) {
            return degenerate("all texts have as many words");
        }
        let tokens_per_word = products / squares;
        if tokens_per_word < 0.01 {
            return degenerate("tokens do not grow with words");
        }
        Ok(Calibration { tokens_per_word, overhead: tokens - tokens_per_word * words })
    }
}

/// Texts of common English words. Their tokens follow from the calibration and are right on average only: a text is
/// off by half of a word's tokens for rounding, and by what its words differ from the average.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain {
    calibration: Calibration,
    words: Vec<&'static str>,
}

impl Plain {
    /// Texts with this calibration.
    ///
    /// # Errors
    /// A ratio not between 0.01 and 100, or an overhead not between −10 000 and 10 000.
    pub fn new(calibration: Calibration) -> Result<Plain, PromptError> {
        let Calibration { tokens_per_word, overhead } = calibration;
        if !(0.01..=100.0).contains(&tokens_per_word) {
            let rule = "a number from 0.01 to 100";
            return Err(PromptError::Range { field: "tokens per word", value: tokens_per_word, rule });
        }
        if !(-1e4..=1e4).contains(&overhead) {
            let rule = "a number from -10000 to 10000";
            return Err(PromptError::Range { field: "overhead", value: overhead, rule });
        }
        Ok(Plain { calibration, words: WORDS.split_whitespace().collect() })
    }

    /// Texts of so many words, to measure with.
    pub fn words(count: u32, rng: &mut Pcg64) -> String {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        draw("", count, &words, rng)
    }
}

fn draw(start: &str, count: u32, words: &[&str], rng: &mut Pcg64) -> String {
    let mut text = start.to_owned();
    let drawn = (0..count).filter_map(|_| words.get(rng.random_range(0..words.len().max(1))).copied());
    append(&mut text, drawn);
    text
}

impl Vocabulary for Plain {
    fn count(&self, text: &str) -> Result<u32, PromptError> {
        let words = text.split_whitespace().count() as f64;
        Ok((words * self.calibration.tokens_per_word + self.calibration.overhead).round().max(0.0) as u32)
    }

    fn overhead(&self) -> u32 {
        self.calibration.overhead.ceil().max(0.0) as u32
    }

    fn extend(&self, start: &str, tokens: u32, rng: &mut Pcg64) -> Result<String, PromptError> {
        let Calibration { tokens_per_word, overhead } = self.calibration;
        let have = start.split_whitespace().count() as f64;
        // Servers refuse empty prompts, so where there is room for a token there is a word.
        let room = f64::from(tokens) - overhead;
        let words = (room / tokens_per_word).round().max(if room >= 1.0 { 1.0 } else { 0.0 });
        if room < 0.0 || words < have {
            return Err(PromptError::Short { asked: tokens, least: self.count(start)? });
        }
        Ok(draw(start, (words - have) as u32, &self.words, rng))
    }
}
