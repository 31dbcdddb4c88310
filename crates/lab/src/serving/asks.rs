//! Asks as the bodies of requests.

use cotenant_load::stream_seed;
use cotenant_prompts::{Ask, Asks, Prompt, PromptError, Role};
use cotenant_serve::{Asked, Bodies, BodyOptions, BodyWriter, Written};
use std::cell::RefCell;
use std::rc::Rc;

/// Where the first ask that could not be made says why.
pub type AskedFailure = Rc<RefCell<Option<String>>>;

/// Models and adapters that single requests ask.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Models {
    /// Their names.
    pub names: Vec<String>,
    /// Weight of each, with which requests are drawn; empty where asks say for themselves.
    pub weights: Vec<f64>,
    /// Seed of the drawing.
    pub seed: u64,
}

impl Models {
    /// Which one the request, or the session, with an index asks: `None` for that of the load.
    fn which(&self, index: u64) -> Option<u16> {
        let total: f64 = self.weights.iter().sum();
        // The upper 53 bits are all that a float holds.
        let drawn = (stream_seed(self.seed, "model", index) >> 11) as f64 / (1u64 << 53) as f64 * total;
        let mut passed = 0.0;
        let at = self.weights.iter().position(|w| {
            passed += w;
            drawn < passed
        });
        u16::try_from(at?).ok()
    }
}

/// Writes asks as bodies.
#[derive(Debug)]
pub(super) struct Scribe {
    usual: BodyWriter,
    others: Vec<BodyWriter>,
    models: Models,
    failure: AskedFailure,
}

impl Scribe {
    /// Bodies with these options. Why an ask cannot be made goes to `failure`.
    pub fn new(body: &BodyOptions, models: Models, failure: AskedFailure) -> Scribe {
        let of = |name: &String| BodyWriter::new(&BodyOptions { model: name.clone(), ..body.clone() });
        Scribe {
            usual: BodyWriter::new(body),
            others: models.names.iter().map(of).collect(),
            models,
            failure,
        }
    }

    /// Makes `out` the body of an ask; those with one index ask one model. For one that cannot be made it is an empty object,
    /// which a server refuses.
    pub fn write(&self, ask: Result<Ask, PromptError>, out: &mut Vec<u8>) -> Written {
        out.clear();
        let ask = match ask {
            Ok(ask) => ask,
            Err(e) => {
                self.failure.borrow_mut().get_or_insert_with(|| e.to_string());
                out.extend_from_slice(b"{}");
                return Written { max_tokens: 0, tag: 0, model: None };
            }
        };
        let model = ask.model.or_else(|| self.models.which(ask.index));
        let writer = model.and_then(|m| self.others.get(usize::from(m))).unwrap_or(&self.usual);
        let messages: Vec<(&str, &str)>;
        let asked = match &ask.prompt {
            Prompt::Text(t) => Asked::Text(t),
            Prompt::TokenIds(ids) => Asked::Tokens(ids),
            Prompt::Messages(all) => {
                let role = |r: Role| match r {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                messages = all.iter().map(|m| (role(m.role), m.content.as_str())).collect();
                Asked::Messages(&messages)
            }
        };
        writer.write(asked, ask.max_tokens, out);
        let tag = ask.session.map_or_else(|| ask.class.map_or(0, u32::from), |s| s.turn);
        Written { max_tokens: ask.max_tokens, tag, model }
    }
}

/// Bodies of asks, each made while there is time.
#[derive(Debug)]
pub(super) struct AskBodies {
    asks: Asks,
    scribe: Scribe,
    /// The body that is ready: its number, and what it asks for.
    ready: Option<(u64, Written)>,
    body: Vec<u8>,
}

impl AskBodies {
    /// Bodies of these asks.
    pub fn new(asks: Asks, scribe: Scribe) -> AskBodies {
        AskBodies { asks, scribe, ready: None, body: Vec::new() }
    }

    fn make(&mut self, index: u64) -> Written {
        self.scribe.write(self.asks.at(index), &mut self.body)
    }
}

impl Bodies for AskBodies {
    fn write(&mut self, index: u64, body: &mut Vec<u8>) -> Written {
        let written = match self.ready.take() {
            Some((ready, written)) if ready == index => written,
            _ => self.make(index),
        };
        body.extend_from_slice(&self.body);
        written
    }

    fn prepare(&mut self, index: u64) {
        if self.ready.is_none_or(|(ready, ..)| ready != index) {
            self.ready = Some((index, self.make(index)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_drawn_by_their_weights() {
        let models = Models { names: vec!["a".into(), "b".into()], weights: vec![3.0, 1.0], seed: 5 };
        let n = 20_000;
        let a = (0..n).filter(|&i| models.which(i) == Some(0)).count();
        assert!((a as f64 / n as f64 - 0.75).abs() < 0.01, "{a}");
        assert_eq!((0..n).filter(|&i| models.which(i).is_none()).count(), 0);
        assert_eq!(Models::default().which(3), None);
    }
}
