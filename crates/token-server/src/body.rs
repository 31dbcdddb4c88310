//! Bodies of requests for tokens.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Tokens of an answer when the request does not say.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Which of the two APIs a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// What a body asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ask<'a> {
    /// Name of the model; none is the server's.
    pub(crate) model: Option<Cow<'a, str>>,
    pub(crate) prompt_tokens: u32,
    pub(crate) max_tokens: u32,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// A string that is borrowed where it has no escapes.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(default)]
    messages: Option<Messages>,
    #[serde(default)]
    prompt: Option<Prompt>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    #[serde(default)]
    min_tokens: Option<i64>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// Reads a body. The error is a sentence for the client.
pub(crate) fn read(kind: Kind, body: &[u8]) -> Result<Ask<'_>, String> {
    let raw: Raw<'_> = serde_json::from_slice(body).map_err(|e| format!("The body cannot be read: {e}"))?;
    let words = match kind {
        Kind::Chat => raw.messages.ok_or("messages: Field required")?.0,
        Kind::Text => raw.prompt.ok_or("prompt: Field required")?.0,
    };
    let max_tokens = match raw.max_completion_tokens.or(raw.max_tokens) {
        None => DEFAULT_MAX_TOKENS,
        Some(n) if n < 1 => return Err(format!("max_tokens must be at least 1, got {n}.")),
        Some(n) => u32::try_from(n).unwrap_or(u32::MAX),
    };
    if let Some(min) = raw.min_tokens
        && !(0..=i64::from(max_tokens)).contains(&min)
    {
        return Err(format!("min_tokens must be between 0 and max_tokens={max_tokens}, got {min}."));
    }
    Ok(Ask {
        model: raw.model.map(|t| t.0),
        prompt_tokens: words.max(1),
        max_tokens,
        stream: raw.stream.unwrap_or(false),
        include_usage: raw.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
    })
}

/// Words of a text: runs of bytes other than ASCII white space.
fn words(text: &str) -> u32 {
    let mut count = 0_u32;
    let mut inside = false;
    for b in text.bytes() {
        let word = !b.is_ascii_whitespace();
        count += u32::from(word && !inside);
        inside = word;
    }
    count
}

/// Words of all messages.
struct Messages(u32);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Messages;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of at least one message")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Messages, A::Error> {
                let (mut total, mut any) = (0_u32, false);
                while let Some(m) = list.next_element::<Message>()? {
                    total = total.saturating_add(m.content.0);
                    any = true;
                }
                if any { Ok(Messages(total)) } else { Err(serde::de::Error::invalid_length(0, &self)) }
            }
        }
        d.deserialize_seq(V)
    }
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Content,
}

/// Words of a message's content: a string, parts, or null.
#[derive(Default)]
struct Content(u32);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, parts or null")
            }
            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content(words(text)))
            }
            fn visit_unit<E>(self) -> Result<Content, E> {
                Ok(Content(0))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
                let mut total = 0_u32;
                while let Some(part) = list.next_element::<Part>()? {
                    total = total.saturating_add(part.0);
                }
                Ok(Content(total))
            }
        }
        d.deserialize_any(V)
    }
}

/// Words of one part: those of its `text`.
struct Part(u32);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Part;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part with a text")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
                let mut count = 0;
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    if key.0 == "text" {
                        count = map.next_value::<Content>()?.0;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Part(count))
            }
        }
        d.deserialize_map(V)
    }
}

/// Tokens of a prompt: words of a string, or a list of token ids, or a list of just one of these.
struct Prompt(u32);

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(PromptVisitor { inner: false }).map(|item| Prompt(item.tokens()))
    }
}

/// One element of a prompt's list.
enum Item {
    Token,
    Prompt(u32),
}

impl Item {
    fn tokens(&self) -> u32 {
        match self {
            Item::Token => 1,
            Item::Prompt(n) => *n,
        }
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(PromptVisitor { inner: true })
    }
}

struct PromptVisitor {
    inner: bool,
}

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = Item;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one prompt: a string or a list of token ids")
    }
    fn visit_str<E>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Prompt(words(text)))
    }
    fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Item, E> {
        if self.inner {
            Ok(Item::Token)
        } else {
            Err(E::invalid_type(serde::de::Unexpected::Unsigned(id), &self))
        }
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
        if self.inner {
            // A list within the list can only hold ids, so that the depth of what is read has a bound.
            let mut count = 0_u32;
            while list.next_element::<u32>()?.is_some() {
                count = count.saturating_add(1);
            }
            return Ok(Item::Prompt(count));
        }
        let (mut total, mut prompts, mut ids) = (0_u32, 0_u32, 0_u32);
        while let Some(item) = list.next_element::<Item>()? {
            total = total.saturating_add(item.tokens());
            match item {
                Item::Token => ids = 1,
                Item::Prompt(_) => prompts += 1,
            }
        }
        match prompts + ids {
            1 => Ok(Item::Prompt(total)),
            n => Err(serde::de::Error::invalid_length(n as usize, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Ask<'_>, String> {
        read(Kind::Chat, body.as_bytes())
    }
    fn text(body: &str) -> Result<u32, String> {
        read(Kind::Text, body.as_bytes()).map(|a| a.prompt_tokens)
    }

    #[test]
    fn contents_are_strings_parts_or_null() {
        let body = r#"{"model":"m","messages":[
            {"role":"system","content":" one  two\nthree "},
            {"role":"user","content":[{"type":"text","text":"four \u0066ive"},{"type":"image_url","image_url":{}}]},
            {"role":"assistant","content":null},{"role":"tool"}],
            "max_tokens":7,"max_completion_tokens":8,"stream":true,"stream_options":{"include_usage":true},
            "temperature":0.5,"stop":["x"],"ignore_eos":true}"#;
        let ask = chat(body).unwrap();
        assert!(matches!(ask.model, Some(Cow::Borrowed("m"))));
        assert_eq!((ask.prompt_tokens, ask.max_tokens, ask.stream, ask.include_usage), (5, 8, true, true));
        let plain = chat(r#"{"messages":[{"content":""}],"stream_options":null,"max_tokens":null}"#).unwrap();
        assert_eq!((plain.prompt_tokens, plain.max_tokens, plain.stream), (1, 16, false));
    }

    #[test]
    fn prompts_are_strings_or_ids() {
        assert_eq!(text(r#"{"prompt":"a b c"}"#), Ok(3));
        assert_eq!(text(r#"{"prompt":[5,6,7,8]}"#), Ok(4));
        assert_eq!(text(r#"{"prompt":["a b"]}"#), Ok(2));
        assert_eq!(text(r#"{"prompt":[[1,2,3]]}"#), Ok(3));
        for bad in [r#"["a","b"]"#, r#"[[1],[2]]"#, r#"["a",1]"#, "[]", "3", "[[[1]]]", "{}", "[-1]"] {
            assert!(text(&format!(r#"{{"prompt":{bad}}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        let with =
            |s: &str| chat(&format!(r#"{{"messages":[{{"content":"a"}}],{s}}}"#)).map(|_| ()).unwrap_err();
        assert_eq!(with(r#""max_tokens":0"#), "max_tokens must be at least 1, got 0.");
        assert_eq!(
            with(r#""max_tokens":3,"min_tokens":4"#),
            "min_tokens must be between 0 and max_tokens=3, got 4."
        );
        assert!(with(r#""stream":"yes""#).contains("line 1"));
        assert_eq!(chat("{}").unwrap_err(), "messages: Field required");
        assert!(chat(r#"{"messages":[]}"#).unwrap_err().contains("at least one message"));
        assert!(chat("{\"messages\":[{\"content\":\"\u{1}\"}]}").is_err());
        assert!(read(Kind::Text, b"{\"prompt\":\"\xff\"}").is_err());
        assert!(read(Kind::Text, "[".repeat(100_000).as_bytes()).is_err());
    }
}
