//! What is asked.

use super::{LoadOptionError, LoadOptions, VocabularyChoice, wrong};
use crate::serving::asks::Models;
use crate::serving::calibrate::calibrate;
use cotenant_load::{Trace, stream_seed};
use cotenant_prompts::{
    Asks, Calibration, Choice, Class, Form, Length, Mix, Order, Plain, Prefix, PromptFile, Replay, Seconds,
    Sessions, Synthetic, Tokenizer, Vocabulary, Words,
};
use cotenant_servers::Endpoint;
use std::sync::Arc;

/// Words that the made-up vocabulary of our own token server and of dummy tokenizers has.
const WORDS: u32 = 32_000;

/// A vocabulary, and what it is in words.
pub(super) type Spoken = (Arc<dyn Vocabulary>, String);

fn length(option: &'static str, text: Option<&str>, default: u32) -> Result<Length, LoadOptionError> {
    match text {
        None => Ok(Length::Exact(default)),
        Some(t) => t.parse::<Length>().map_err(|e| wrong(option, t, e.to_string())),
    }
}

fn prefix(text: &str) -> Result<Prefix, LoadOptionError> {
    let fail = || wrong("--prefix", text, "prefixes are COUNT:TOKENS:SHARE, such as 8:512:0.5");
    let [count, tokens, share] = text.split(':').collect::<Vec<_>>()[..] else { return Err(fail()) };
    Ok(Prefix {
        count: count.parse().map_err(|_| fail())?,
        tokens: tokens.parse().map_err(|_| fail())?,
        share: share.parse().map_err(|_| fail())?,
        choice: Choice::Uniform,
    })
}

fn classes(text: &str) -> Result<Vec<Class>, LoadOptionError> {
    let why = "a mix is like short=2,medium=1,long=1: weights of the classes short, medium and long";
    text.split(',')
        .map(|part| {
            let (name, weight) = part.split_once('=').ok_or_else(|| wrong("--mix", text, why))?;
            let weight: f64 = weight.trim().parse().map_err(|_| wrong("--mix", text, why))?;
            match name.trim() {
                "short" => Ok(Class::short(weight)),
                "medium" => Ok(Class::medium(weight)),
                "long" => Ok(Class::long(weight)),
                _ => Err(wrong("--mix", text, why)),
            }
        })
        .collect()
}

/// Names by weight: `a=2,b=1`; a name alone weighs 1.
fn weighted(text: &str) -> Result<(Vec<String>, Vec<f64>), LoadOptionError> {
    let why = "models are like base=2,adapter=1: names by weight, each once";
    let fail = || wrong("--models", text, why);
    let (mut names, mut weights) = (Vec::new(), Vec::new());
    for part in text.split(',') {
        // Names of models may have an equals sign themselves, but not behind the last one.
        let (name, weight) = part.rsplit_once('=').unwrap_or((part, "1"));
        let weight: f64 = weight.trim().parse().map_err(|_| fail())?;
        let name = name.trim().to_owned();
        if name.is_empty() || names.contains(&name) || !(weight.is_finite() && weight > 0.0) {
            return Err(fail());
        }
        names.push(name);
        weights.push(weight);
    }
    Ok((names, weights))
}

impl LoadOptions {
    /// What can be known to be wrong with what is asked before there is a server: everything is made as it will be, but for words
    /// whose tokens a server must count first.
    pub(super) fn check_asks(&self, trace: Option<&Arc<Trace>>) -> Result<(), LoadOptionError> {
        let refused = |e: cotenant_prompts::PromptError| LoadOptionError::Together(e.to_string());
        let words = || -> Result<Spoken, LoadOptionError> {
            if let Some(known) = self.known_words()? {
                return Ok(known);
            }
            // The fewest tokens that they can have: no length is refused that a server could be asked for.
            let one_each = Calibration { tokens_per_word: 1.0, overhead: 0.0 };
            Ok((Arc::new(Plain::new(one_each).map_err(refused)?), String::new()))
        };
        let (asks, _) = self.asks(&words, trace)?;
        self.models(&asks)?;
        asks.at(0).map_err(refused)?;
        Ok(())
    }

    /// The models that single requests ask.
    pub(super) fn models(&self, asks: &Asks) -> Result<Models, LoadOptionError> {
        match &self.models {
            Some(_) if !asks.models().is_empty() => Err(LoadOptionError::Together(
                "combine --models with --prompts whose lines name models: give one of them".into(),
            )),
            Some(text) => {
                let (names, weights) = weighted(text)?;
                Ok(Models { names, weights, seed: stream_seed(self.seed, "models", 0) })
            }
            None => Ok(Models { names: asks.models().to_vec(), ..Models::default() }),
        }
    }

    /// Turns of a session and the times between, where there are sessions.
    fn session_times(&self) -> Result<Option<(Length, Seconds)>, LoadOptionError> {
        let Some(turns) = &self.turns else {
            return match &self.turn_think {
                Some(_) => Err(LoadOptionError::Together(
                    "use --turn-think without --turns: it lies between turns".into(),
                )),
                None => Ok(None),
            };
        };
        let other = [("--mix", &self.mix), ("--prompts", &self.prompts), ("--trace", &self.trace)];
        if let Some((name, _)) = other.iter().find(|(_, given)| given.is_some()) {
            return Err(LoadOptionError::Together(format!(
                "combine --turns with {name}: turns of sessions are made up"
            )));
        }
        let turns = length("--turns", Some(turns), 1)?;
        let think = match &self.turn_think {
            None => Seconds::Exact(0.0),
            Some(t) => t
                .parse()
                .map_err(|e: cotenant_prompts::DistributionError| wrong("--turn-think", t, e.to_string()))?,
        };
        Ok(Some((turns, think)))
    }

    /// What is asked, in words too. `words`: where those of made-up prompts come from, called if there are any.
    pub(super) fn asks(
        &self,
        words: &dyn Fn() -> Result<Spoken, LoadOptionError>,
        trace: Option<&Arc<Trace>>,
    ) -> Result<(Asks, String), LoadOptionError> {
        let seed = stream_seed(self.seed, "asks", 0);
        let form = if self.completions { Form::Text } else { Form::Chat };
        let lengths = self.prompt_tokens.is_some() || self.mix.is_some() || self.prefix.is_some();
        let session_times = self.session_times()?;
        if let Some(text) = &self.prompts {
            if lengths {
                return Err(LoadOptionError::Together(
                    "combine --prompts with --prompt-tokens, --mix or --prefix: the file has the prompts"
                        .into(),
                ));
            }
            let file = PromptFile::parse(text).map_err(|e| wrong("--prompts", "the file", e.to_string()))?;
            let tokens = match length("--output-tokens", self.output_tokens.as_deref(), 128)? {
                Length::Exact(n) => n,
                other => {
                    return Err(wrong(
                        "--output-tokens",
                        &other.to_string(),
                        "with --prompts, one number for all",
                    ));
                }
            };
            let others = file.entries().iter().any(|e| e.max_tokens.is_some());
            let others = if others { " where a line does not say" } else { "" };
            let words =
                format!("{} prompts of a file, in order, {tokens} tokens each{others}", file.entries().len());
            let asks = Asks::file(Arc::new(file), Order::InOrder, seed, tokens)
                .map_err(|e| wrong("--prompts", "the file", e.to_string()))?;
            return Ok((asks, words));
        }
        let (vocabulary, spoken) = words()?;
        let refused = |e: cotenant_prompts::PromptError| LoadOptionError::Together(e.to_string());
        if let Some(mix) = &self.mix {
            if self.prompt_tokens.is_some() || self.output_tokens.is_some() || self.prefix.is_some() {
                return Err(LoadOptionError::Together(
                    "combine --mix with --prompt-tokens, --output-tokens or --prefix: classes have their own"
                        .into(),
                ));
            }
            let asks = Mix::new(classes(mix)?, &vocabulary, form, seed).map_err(refused)?;
            return Ok((Asks::mix(asks), format!("mix {mix}, {spoken}")));
        }
        if let Some((turns, think)) = session_times {
            let user = length("--prompt-tokens", self.prompt_tokens.as_deref(), 512)?;
            let output = length("--output-tokens", self.output_tokens.as_deref(), 128)?;
            let prefix = self.prefix.as_deref().map(prefix).transpose()?;
            let start = self.prefix.as_deref().map_or_else(String::new, |p| format!(", prefixes {p}"));
            let words = format!(
                "sessions of {turns} turns, {think} s between them, each of {user} tokens and what was said \
                 before{start}, answers of {output}, {spoken}"
            );
            let sessions = Sessions { turns, think, user, output, prefix, vocabulary, form, seed };
            return Ok((Asks::sessions(sessions).map_err(refused)?, words));
        }
        let by_trace = trace.filter(|t| {
            !lengths && self.output_tokens.is_none() && t.records().iter().all(|r| r.prompt_tokens.is_some())
        });
        let prefix = self.prefix.as_deref().map(prefix).transpose()?;
        let (prompt, output) = match by_trace {
            Some(_) => (Length::Trace, Length::Trace),
            None => (
                length("--prompt-tokens", self.prompt_tokens.as_deref(), 512)?,
                length("--output-tokens", self.output_tokens.as_deref(), 128)?,
            ),
        };
        let words = match by_trace {
            Some(t) if t.has_blocks() => format!("lengths and shared prefixes of the trace, {spoken}"),
            Some(_) => format!("lengths of the trace, {spoken}"),
            None => {
                let start = self.prefix.as_deref().map_or_else(String::new, |p| format!(", prefixes {p}"));
                format!("prompts of {prompt} tokens, answers of {output}{start}, {spoken}")
            }
        };
        let replay =
            by_trace.map(|t| Replay { trace: Arc::clone(t), order: Order::InOrder, blocks: t.has_blocks() });
        let synthetic = Synthetic { prompt, output, prefix, replay, vocabulary, form, seed };
        Ok((Asks::synthetic(synthetic).map_err(refused)?, words))
    }

    /// Words whose tokens are known without a server's help, if they are asked for.
    fn known_words(&self) -> Result<Option<Spoken>, LoadOptionError> {
        let refused = |e: cotenant_prompts::PromptError| LoadOptionError::Calibrate(e.to_string());
        match &self.vocabulary {
            VocabularyChoice::Tokenizer(json) => {
                let t = Tokenizer::parse(json, false)
                    .map_err(|e| wrong("--tokenizer", "the file", e.to_string()))?;
                Ok(Some((Arc::new(t), "text of the tokenizer".into())))
            }
            VocabularyChoice::Words => {
                Ok(Some((Arc::new(Words::new(0, WORDS).map_err(refused)?), "numbered words".into())))
            }
            VocabularyChoice::Auto | VocabularyChoice::Plain => Ok(None),
        }
    }

    /// Words for the server at `endpoint`, which is asked how many tokens they have where that must be.
    pub(super) fn words(&self, endpoint: &Endpoint, model: &str) -> Result<Spoken, LoadOptionError> {
        let refused = |e: cotenant_prompts::PromptError| LoadOptionError::Calibrate(e.to_string());
        if let Some(known) = self.known_words()? {
            return Ok(known);
        }
        let own = endpoint.preset == cotenant_servers::Preset::TokenServer;
        if self.vocabulary == VocabularyChoice::Auto && own {
            return Ok((Arc::new(Words::new(0, WORDS).map_err(refused)?), "numbered words".into()));
        }
        let found = calibrate(endpoint, model, self.completions)?;
        let words = match self.vocabulary {
            VocabularyChoice::Auto => format!(
                "plain words of {:.2} tokens each (and {:.0} of the template), as the server counts them",
                found.tokens_per_word, found.overhead
            ),
            _ => "plain words, calibrated".into(),
        };
        Ok((Arc::new(Plain::new(found).map_err(refused)?), words))
    }
}
