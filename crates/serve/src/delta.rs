//! What one event of a stream, or one whole answer, says: how much content, why it ended, how many tokens.
//!
//! A parser of its own because it runs once for each token of each stream and needs five fields of some thirty: it
//! walks over the JSON once, keeps nothing, and takes a few hundred nanoseconds. It accepts exactly what JSON is as far
//! as brackets, strings, numbers and literals go (a test holds it against a full parser), and takes the fields from
//! where the API has them and nowhere else, so content that looks like JSON changes nothing.

use cotenant_store::serving::Finish;

/// Tokens as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt: u32,
    /// Of the answer.
    pub completion: u32,
    /// Of the prompt, in the server's cache.
    pub cached: Option<u32>,
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delta<'a> {
    /// Bytes of content, as written in the JSON: text, reasoning, arguments of tool calls, of all choices together.
    pub content: usize,
    /// The text of the first choice as written in the JSON, still escaped.
    pub text: Option<&'a [u8]>,
    /// Why the answer ended, where it says so.
    pub finish: Option<Finish>,
    /// Token counts, where it has them.
    pub usage: Option<Usage>,
    /// It is an error.
    pub error: bool,
}

/// The bytes are no JSON, or nested more than 64 deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read JSON at byte {0}")]
pub struct NotJson(pub usize);

/// Deepest nesting.
const DEEPEST: u32 = 64;

/// Where in the answer a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Root,
    Choices,
    Choice,
    /// `delta` or `message`.
    Message,
    ToolCalls,
    ToolCall,
    Function,
    Usage,
    Details,
    Elsewhere,
}

/// Reads one event's data or one answer's body.
///
/// # Errors
/// The bytes are no JSON.
pub fn skim(json: &[u8]) -> Result<Delta<'_>, NotJson> {
    let mut s = Skim { b: json, i: 0, d: Delta::default(), choices: 0 };
    s.space();
    s.value(At::Root, 0)?;
    s.space();
    if s.i == json.len() { Ok(s.d) } else { Err(NotJson(s.i)) }
}

struct Skim<'a> {
    b: &'a [u8],
    i: usize,
    d: Delta<'a>,
    /// Choices met so far.
    choices: u32,
}

impl<'a> Skim<'a> {
    fn peek(&self) -> u8 {
        // No JSON holds a zero byte outside of strings, so it stands for the end.
        self.b.get(self.i).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.i += 1;
        }
    }

    fn fail<T>(&self) -> Result<T, NotJson> {
        Err(NotJson(self.i))
    }

    fn expect(&mut self, c: u8) -> Result<(), NotJson> {
        if self.peek() == c {
            self.i += 1;
            Ok(())
        } else {
            self.fail()
        }
    }

    /// A string; what is between its quotes, still escaped.
    fn string(&mut self) -> Result<&'a [u8], NotJson> {
        self.expect(b'"')?;
        let from = self.i;
        loop {
            let Some(&c) = self.b.get(self.i) else { return self.fail() };
            match c {
                b'"' => {
                    self.i += 1;
                    return Ok(&self.b[from..self.i - 1]);
                }
                b'\\' => {
                    self.i += 1;
                    match self.peek() {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.i += 1,
                        b'u' => {
                            let hex = self.b.get(self.i + 1..self.i + 5).unwrap_or_default();
                            if hex.len() != 4 || !hex.iter().all(u8::is_ascii_hexdigit) {
                                return self.fail();
                            }
                            self.i += 5;
                        }
                        _ => return self.fail(),
                    }
                }
                0..=0x1f => return self.fail(),
                _ => self.i += 1,
            }
        }
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        if !self.peek().is_ascii_digit() {
            return self.fail();
        }
        while self.peek().is_ascii_digit() {
            self.i += 1;
        }
        Ok(())
    }

    /// A number; its value where it is a whole one that is not negative.
    fn number(&mut self) -> Result<Option<u64>, NotJson> {
        let from = self.i;
        if self.peek() == b'-' {
            self.i += 1;
        }
        if self.peek() == b'0' {
            self.i += 1
        } else {
            self.digits()?
        }
        if self.peek() == b'.' {
            self.i += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.i += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.i += 1;
            }
            self.digits()?;
        }
        let text = &self.b[from..self.i];
        if text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
            return Ok(None);
        }
        Ok(Some(text.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))))
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        if self.b[self.i..].starts_with(word) {
            self.i += word.len();
            Ok(())
        } else {
            self.fail()
        }
    }

    fn value(&mut self, at: At, depth: u32) -> Result<(), NotJson> {
        match self.peek() {
            b'{' => self.object(at, depth),
            b'[' => self.array(at, depth),
            b'"' => self.string().map(|_| ()),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ => self.fail(),
        }
    }

    fn array(&mut self, at: At, depth: u32) -> Result<(), NotJson> {
        if depth >= DEEPEST {
            return self.fail();
        }
        self.i += 1;
        self.space();
        if self.peek() == b']' {
            self.i += 1;
            return Ok(());
        }
        let inside = match at {
            At::Choices => At::Choice,
            At::ToolCalls => At::ToolCall,
            _ => At::Elsewhere,
        };
        loop {
            self.space();
            self.value(inside, depth + 1)?;
            self.space();
            match self.peek() {
                b',' => self.i += 1,
                b']' => {
                    self.i += 1;
                    return Ok(());
                }
                _ => return self.fail(),
            }
        }
    }

    fn object(&mut self, at: At, depth: u32) -> Result<(), NotJson> {
        if depth >= DEEPEST {
            return self.fail();
        }
        if at == At::Choice {
            self.choices += 1;
        }
        if at == At::Usage {
            self.d.usage.get_or_insert_default();
        }
        self.i += 1;
        self.space();
        if self.peek() == b'}' {
            self.i += 1;
            return Ok(());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            self.field(at, key, depth)?;
            self.space();
            match self.peek() {
                b',' => self.i += 1,
                b'}' => {
                    self.i += 1;
                    return Ok(());
                }
                _ => return self.fail(),
            }
        }
    }

    /// The value of a key.
    fn field(&mut self, at: At, key: &[u8], depth: u32) -> Result<(), NotJson> {
        let c = self.peek();
        match (at, key, c) {
            (At::Root, b"choices", b'[') => self.value(At::Choices, depth + 1),
            (At::Root, b"usage", b'{') => self.value(At::Usage, depth + 1),
            (At::Root, b"error", _) if c != b'n' => {
                self.d.error = true;
                self.value(At::Elsewhere, depth + 1)
            }
            // Some servers send `{"object": "error", …}`.
            (At::Root, b"object", b'"') => {
                self.d.error |= self.string()? == b"error";
                Ok(())
            }
            (At::Choice, b"delta" | b"message", b'{') => self.value(At::Message, depth + 1),
            (At::Choice, b"text", b'"') | (At::Message, b"content", b'"') => {
                let text = self.string()?;
                self.d.content += text.len();
                if self.choices == 1 {
                    self.d.text = Some(text);
                }
                Ok(())
            }
            (At::Message, b"reasoning_content" | b"reasoning" | b"refusal", b'"')
            | (At::Function, b"arguments" | b"name", b'"') => {
                self.d.content += self.string()?.len();
                Ok(())
            }
            (At::Message, b"tool_calls", b'[') => self.value(At::ToolCalls, depth + 1),
            (At::ToolCall, b"function", b'{') => self.value(At::Function, depth + 1),
            (At::Choice, b"finish_reason", b'"') => {
                self.d.finish = Some(match self.string()? {
                    b"length" => Finish::Length,
                    b"stop" => Finish::Stop,
                    _ => Finish::Other,
                });
                Ok(())
            }
            (At::Usage, b"prompt_tokens" | b"completion_tokens", b'0'..=b'9') => {
                let n = u32::try_from(self.number()?.unwrap_or(0)).unwrap_or(u32::MAX);
                let usage = self.d.usage.get_or_insert_default();
                if key[0] == b'p' {
                    usage.prompt = n
                } else {
                    usage.completion = n
                }
                Ok(())
            }
            (At::Usage, b"prompt_tokens_details", b'{') => self.value(At::Details, depth + 1),
            (At::Details, b"cached_tokens", b'0'..=b'9') => {
                let n = u32::try_from(self.number()?.unwrap_or(0)).unwrap_or(u32::MAX);
                self.d.usage.get_or_insert_default().cached = Some(n);
                Ok(())
            }
            _ => self.value(At::Elsewhere, depth + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn of(v: &Value) -> Delta<'static> {
        let text: &'static str = Box::leak(v.to_string().into_boxed_str());
        skim(text.as_bytes()).expect("JSON")
    }

    #[test]
    fn a_role_chunk_and_an_empty_one_have_no_content() {
        let role =
            json!({"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
        assert_eq!(of(&role).content, 0);
        let role =
            json!({"choices": [{"delta": {"role": "assistant"}, "finish_reason": null}], "usage": null});
        assert_eq!(of(&role), Delta::default());
    }

    #[test]
    fn content_of_every_kind_counts() {
        for delta in [
            json!({"content": "ab"}),
            json!({"reasoning_content": "ab", "content": null}),
            json!({"reasoning": "ab"}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "ab"}}]}),
        ] {
            let d = of(&json!({"choices": [{"delta": delta}]}));
            assert_eq!(d.content, 2, "{delta}");
        }
        let d = of(&json!({"choices": [{"text": " a\"b", "index": 0}]}));
        assert_eq!((d.content, d.text), (5, Some(&b" a\\\"b"[..])));
        // Two choices: the lengths add up, the text is the first one's.
        let d = of(&json!({"choices": [{"text": "a"}, {"text": "bc"}]}));
        assert_eq!((d.content, d.text), (3, Some(&b"a"[..])));
    }

    #[test]
    fn usage_finish_and_errors_are_seen_where_they_stand() {
        let d = of(&json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 32,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 9}}}));
        assert_eq!(d.usage, Some(Usage { prompt: 7, completion: 32, cached: Some(4) }));
        let d = of(&json!({"choices": [{"delta": {}, "finish_reason": "length"}]}));
        assert_eq!(d.finish, Some(Finish::Length));
        assert!(of(&json!({"error": {"message": "no", "code": 400}})).error);
        assert!(of(&json!({"object": "error", "message": "no"})).error);
        assert!(!of(&json!({"error": null, "object": "chat.completion.chunk"})).error);
    }

    #[test]
    fn content_that_looks_like_the_api_changes_nothing() {
        let text = r#""usage":{"completion_tokens":99},"error":{},"finish_reason":"stop""#;
        let d =
            of(&json!({"choices": [{"delta": {"content": text}}], "prompt": {"choices": [{"text": "no"}]}}));
        assert_eq!((d.usage, d.finish, d.error), (None, None, false));
        assert_eq!(d.content, serde_json::to_string(text).expect("a string").len() - 2);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [
            "",
            "{",
            "{\"a\"}",
            "[1,]",
            "{\"a\":1,}",
            "nul",
            "01",
            "1.",
            "\"\\x\"",
            "\"\n\"",
            "{} {}",
            "[1 2]",
        ] {
            assert!(skim(bad.as_bytes()).is_err(), "{bad}");
            assert!(serde_json::from_str::<Value>(bad).is_err(), "{bad}");
        }
        assert!(skim("[".repeat(100_000).as_bytes()).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("choices".to_string()),
            Just("delta".to_string()),
            Just("content".to_string()),
            Just("text".to_string()),
            Just("usage".to_string()),
            Just("completion_tokens".to_string()),
            Just("finish_reason".to_string()),
            ".{0,6}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u32>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// Bytes of all content, from the parsed value.
    fn reference(v: &Value) -> usize {
        let raw = |v: &Value| v.as_str().map_or(0, |_| v.to_string().len() - 2);
        let choices = v.get("choices").and_then(Value::as_array).cloned().unwrap_or_default();
        choices
            .iter()
            .map(|c| {
                raw(&c["text"])
                    + ["delta", "message"]
                        .iter()
                        .filter(|k| c[**k].is_object())
                        .map(|k| raw(&c[*k]["content"]))
                        .sum::<usize>()
            })
            .sum()
    }

    proptest! {
        #[test]
        fn it_accepts_all_json_and_finds_what_a_full_parser_finds(v in any_json()) {
            let text = v.to_string();
            let d = skim(text.as_bytes()).expect("it is JSON");
            prop_assert_eq!(d.content, reference(&v));
            let pretty = serde_json::to_string_pretty(&v).expect("printed");
            prop_assert_eq!(skim(pretty.as_bytes()).map(|d| d.content), Ok(reference(&v)));
        }

        #[test]
        fn cut_json_is_none_and_nothing_panics(v in any_json(), cut in 0usize..200, noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = v.to_string();
            if let Some(part) = text.as_bytes().get(..cut) {
                prop_assert_eq!(skim(part).is_ok(), std::str::from_utf8(part).is_ok_and(|p| serde_json::from_str::<Value>(p).is_ok()));
            }
            let _ = skim(&noise);
        }
    }
}
