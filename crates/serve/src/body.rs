//! Bodies of requests.

use serde_json::{Map, Value};
use std::io::Write as _;

/// Which endpoint of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

impl Api {
    /// Path of the endpoint.
    pub fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A text; in a chat, of a user.
    Text(&'a str),
    /// Role and content of each message.
    Messages(&'a [(&'a str, &'a str)]),
    /// Token ids; only for completions.
    Tokens(&'a [u32]),
}

/// What every body of a load has.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyOptions {
    /// Endpoint.
    pub api: Api,
    /// Name of the model or adapter.
    pub model: String,
    /// Ask for a stream.
    pub stream: bool,
    /// Ask for token counts at the end of the stream (`stream_options`).
    pub usage: bool,
    /// Ask for exactly the tokens wanted: `ignore_eos`.
    pub ignore_eos: bool,
    /// Name of the field with the number of tokens: `max_tokens` or `max_completion_tokens`.
    pub max_tokens_field: String,
    /// Sampling parameters and whatever else the server understands, as they are.
    pub extra: Map<String, Value>,
}

impl BodyOptions {
    /// A streamed chat of so many tokens as asked for, with token counts: what our token server understands.
    pub fn chat(model: &str) -> BodyOptions {
        BodyOptions {
            api: Api::Chat,
            model: model.to_owned(),
            stream: true,
            usage: true,
            ignore_eos: true,
            max_tokens_field: "max_tokens".into(),
            extra: Map::new(),
        }
    }
}

/// Writes bodies. What all have in common is rendered once.
#[derive(Debug, Clone)]
pub struct BodyWriter {
    api: Api,
    start: Vec<u8>,
    middle: Vec<u8>,
}

impl BodyWriter {
    /// A writer of bodies with these options.
    pub fn new(o: &BodyOptions) -> BodyWriter {
        let mut fixed = Map::new();
        fixed.insert("model".into(), o.model.clone().into());
        if o.stream {
            fixed.insert("stream".into(), true.into());
            if o.usage {
                fixed.insert("stream_options".into(), serde_json::json!({"include_usage": true}));
            }
        }
        if o.ignore_eos {
            fixed.insert("ignore_eos".into(), true.into());
        }
        fixed.extend(o.extra.clone());
        let mut start = Value::Object(fixed).to_string().into_bytes();
        start.pop();
        let _ = write!(start, ",{}:", Value::from(o.max_tokens_field.as_str()));
        let middle = match o.api {
            Api::Chat => &b",\"messages\":["[..],
            Api::Completions => b",\"prompt\":",
        };
        BodyWriter { api: o.api, start, middle: middle.to_vec() }
    }

    /// The body that asks for `max_tokens` tokens. Token ids in a chat, and messages in a completion, are written as the
    /// text that comes nearest: ids as words, messages one after the other.
    pub fn write(&self, asked: Asked<'_>, max_tokens: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start);
        let _ = write!(out, "{max_tokens}");
        out.extend_from_slice(&self.middle);
        match (self.api, asked) {
            (Api::Chat, Asked::Text(t)) => message(out, "user", t),
            (Api::Chat, Asked::Messages(all)) => {
                for (i, (role, content)) in all.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    message(out, role, content);
                }
            }
            (Api::Chat, Asked::Tokens(ids)) => {
                let words: Vec<String> = ids.iter().map(u32::to_string).collect();
                message(out, "user", &words.join(" "));
            }
            (Api::Completions, Asked::Text(t)) => string(out, t),
            (Api::Completions, Asked::Messages(all)) => {
                string(out, &all.iter().map(|m| m.1).collect::<Vec<_>>().join("\n"));
            }
            (Api::Completions, Asked::Tokens(ids)) => {
                out.push(b'[');
                for (i, id) in ids.iter().enumerate() {
                    let _ = write!(out, "{}{id}", if i > 0 { "," } else { "" });
                }
                out.push(b']');
            }
        }
        out.extend_from_slice(if self.api == Api::Chat { b"]}" } else { b"}" });
    }
}

fn message(out: &mut Vec<u8>, role: &str, content: &str) {
    out.extend_from_slice(b"{\"role\":");
    string(out, role);
    out.extend_from_slice(b",\"content\":");
    string(out, content);
    out.push(b'}');
}

fn string(out: &mut Vec<u8>, s: &str) {
    // Writing a string into a Vec does not fail.
    let _ = serde_json::to_writer(out, s);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(api: Api) -> BodyOptions {
        BodyOptions {
            api,
            model: "m\"1".into(),
            stream: true,
            usage: true,
            ignore_eos: true,
            max_tokens_field: "max_tokens".into(),
            extra: Map::from_iter([("temperature".to_owned(), json!(0.5))]),
        }
    }

    fn body(o: &BodyOptions, asked: Asked<'_>) -> Value {
        let mut out = Vec::new();
        BodyWriter::new(o).write(asked, 7, &mut out);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn bodies_say_what_was_asked() {
        let common = |v: Value| {
            let mut all = json!({"model": "m\"1", "stream": true, "stream_options": {"include_usage": true},
                "ignore_eos": true, "temperature": 0.5, "max_tokens": 7});
            if let (Value::Object(a), Value::Object(b)) = (&mut all, v) {
                a.extend(b);
            }
            all
        };
        let chat = options(Api::Chat);
        let user = json!({"messages": [{"role": "user", "content": "a\n\"b\""}]});
        assert_eq!(body(&chat, Asked::Text("a\n\"b\"")), common(user));
        let two = json!({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]});
        assert_eq!(body(&chat, Asked::Messages(&[("system", "x"), ("user", "y")])), common(two));
        let completions = options(Api::Completions);
        assert_eq!(body(&completions, Asked::Text("é")), common(json!({"prompt": "é"})));
        assert_eq!(body(&completions, Asked::Tokens(&[1, 22])), common(json!({"prompt": [1, 22]})));
        let plain = BodyOptions { stream: false, ignore_eos: false, extra: Map::new(), ..completions };
        assert_eq!(body(&plain, Asked::Text("")), json!({"model": "m\"1", "max_tokens": 7, "prompt": ""}));
    }
}
