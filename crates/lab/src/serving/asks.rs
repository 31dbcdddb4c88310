//! Asks as the bodies of requests.

use cotenant_prompts::{Asks, Prompt, Role};
use cotenant_serve::{Asked, Bodies, BodyWriter};
use std::cell::RefCell;
use std::rc::Rc;

/// Where the first ask that could not be made says why.
pub type AskedFailure = Rc<RefCell<Option<String>>>;

/// Bodies of asks, each made while there is time.
#[derive(Debug)]
pub struct AskBodies {
    asks: Asks,
    writer: BodyWriter,
    failure: AskedFailure,
    /// The body that is ready: its number, tokens, tag.
    ready: Option<(u64, u32, u32)>,
    body: Vec<u8>,
}

impl AskBodies {
    /// Bodies of these asks. Why an ask cannot be made goes to `failure`; its body is then an empty object, which a
    /// server refuses.
    pub fn new(asks: Asks, writer: BodyWriter, failure: AskedFailure) -> AskBodies {
        AskBodies { asks, writer, failure, ready: None, body: Vec::new() }
    }

    fn make(&mut self, index: u64) -> (u32, u32) {
        self.body.clear();
        let ask = match self.asks.at(index) {
            Ok(ask) => ask,
            Err(e) => {
                self.failure.borrow_mut().get_or_insert_with(|| e.to_string());
                self.body.extend_from_slice(b"{}");
                return (0, 0);
            }
        };
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
        self.writer.write(asked, ask.max_tokens, &mut self.body);
        (ask.max_tokens, ask.class.map_or(0, u32::from))
    }
}

impl Bodies for AskBodies {
    fn write(&mut self, index: u64, body: &mut Vec<u8>) -> (u32, u32) {
        let (tokens, tag) = match self.ready.take() {
            Some((ready, tokens, tag)) if ready == index => (tokens, tag),
            _ => self.make(index),
        };
        body.extend_from_slice(&self.body);
        (tokens, tag)
    }

    fn prepare(&mut self, index: u64) {
        if self.ready.is_none_or(|(ready, ..)| ready != index) {
            let (tokens, tag) = self.make(index);
            self.ready = Some((index, tokens, tag));
        }
    }
}
