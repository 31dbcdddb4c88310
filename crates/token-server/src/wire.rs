//! Answers as bytes. What is the same for many answers is rendered once.

use crate::body::Kind;
use crate::options::Shape;
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// What every answer carries, so that nobody takes it for a model's.
pub(crate) const FINGERPRINT: &str = "cotenant-token-server (simulated)";
/// Bytes of a word: a space, a letter, three digits.
const WORD: usize = 5;

/// The words of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Words(Pcg32);

impl Words {
    /// Those of request `id` of a server with `seed`.
    pub(crate) fn new(seed: u64, id: u64) -> Self {
        // The generator scrambles its seed, so neighbours have unrelated words.
        Words(Pcg32::seed_from_u64(seed.rotate_left(32) ^ id))
    }

    /// The next word, from ` t100` to ` t999`.
    fn next(&mut self) -> [u8; WORD] {
        // The product of a 32-bit number and 900 shifted by 32 is below 900.
        let n = 100 + ((u64::from(self.0.next_u32()) * 900) >> 32) as u32;
        let digit = |d: u32| b'0' + (d % 10) as u8;
        [b' ', b't', digit(n / 100), digit(n / 10), digit(n)]
    }

    /// Appends `count` words.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, count: u32) {
        for _ in 0..count {
            out.extend_from_slice(&self.next());
        }
    }
}

/// Numbers of tokens, as answers tell them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) prompt: u32,
    pub(crate) output: u32,
}

impl Counts {
    fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"usage\":{\"prompt_tokens\":");
        number(out, u64::from(self.prompt));
        out.extend_from_slice(b",\"total_tokens\":");
        number(out, u64::from(self.prompt) + u64::from(self.output));
        out.extend_from_slice(b",\"completion_tokens\":");
        number(out, u64::from(self.output));
        out.push(b'}');
    }
}

/// What an event of a stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The role, and empty content.
    Role,
    /// So many words.
    Content { words: u32, last: bool },
    /// An empty delta with the reason to finish.
    Finish,
    /// No choices.
    Usage,
    /// An error in mid-stream.
    Error,
    /// The end mark.
    Done,
}

/// The parts of a stream's events that are the same for all requests of one kind and model.
#[derive(Debug)]
pub(crate) struct Template {
    kind: Kind,
    /// JSON up to the list of choices.
    open: Vec<u8>,
    /// A whole content event in its HTTP chunk, with as many words as usual.
    event: Vec<u8>,
    /// Where the words of `event` begin.
    hole: usize,
    /// Where id and time are in `open` and in `event`.
    ids: (usize, usize),
    created: (usize, usize),
}

/// A template with the id and the time of one request; kept by a connection to reuse its memory.
#[derive(Debug, Default)]
pub(crate) struct Stamped {
    open: Vec<u8>,
    event: Vec<u8>,
}

const ID_DIGITS: usize = 16;
const CREATED_DIGITS: usize = 10;

impl Template {
    pub(crate) fn new(kind: Kind, model: &str, shape: &Shape) -> Self {
        let (object, prefix) = names(kind, true);
        let mut open = Vec::new();
        open.extend_from_slice(format!("{{\"id\":\"{prefix}").as_bytes());
        let id = open.len();
        open.extend_from_slice(&[b'0'; ID_DIGITS]);
        open.extend_from_slice(format!("\",\"object\":\"{object}\",\"created\":").as_bytes());
        let created = open.len();
        open.extend_from_slice(&[b'0'; CREATED_DIGITS]);
        open.extend_from_slice(
            format!(",\"model\":{},\"system_fingerprint\":\"{FINGERPRINT}\",\"choices\":[", quoted(model))
                .as_bytes(),
        );
        let mut template =
            Template { kind, open, event: Vec::new(), hole: 0, ids: (id, 0), created: (created, 0) };
        let mut event = Vec::new();
        let stamped = Stamped { open: template.open.clone(), event: Vec::new() };
        let content = Event::Content { words: shape.tokens_per_chunk, last: false };
        let mut words = Words::new(0, 0);
        Writer { template: &template, stamped: &stamped, shape, chunked: true }
            .render(&mut event, content, &mut words, None);
        // The JSON of `open` is the first brace of the event: nothing before it has one.
        let json = event.iter().position(|&b| b == b'{').unwrap_or(0);
        template.hole = json + template.open.len() + content_prefix(kind).len();
        template.ids.1 = json + id;
        template.created.1 = json + created;
        template.event = event;
        template
    }

    /// Writes a request's id and time (seconds since 1970) into copies of the parts.
    pub(crate) fn stamp(&self, into: &mut Stamped, id: u64, created: u64) {
        for (from, to, id_at, created_at) in [
            (&self.open, &mut into.open, self.ids.0, self.created.0),
            (&self.event, &mut into.event, self.ids.1, self.created.1),
        ] {
            to.clear();
            to.extend_from_slice(from);
            let digits = to.get_mut(id_at..id_at + ID_DIGITS).unwrap_or_default();
            for (i, d) in digits.iter_mut().rev().enumerate() {
                // Sixteen digits and a remainder by sixteen.
                *d = b"0123456789abcdef"[(id >> (4 * i)) as usize % 16];
            }
            let mut rest = created;
            for d in to.get_mut(created_at..created_at + CREATED_DIGITS).unwrap_or_default().iter_mut().rev()
            {
                *d = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

/// Writes the events of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) template: &'a Template,
    pub(crate) stamped: &'a Stamped,
    pub(crate) shape: &'a Shape,
    pub(crate) chunked: bool,
}

impl Writer<'_> {
    /// Appends an event; `usage` goes into it when it is given.
    pub(crate) fn event(&self, out: &mut Vec<u8>, event: Event, words: &mut Words, usage: Option<Counts>) {
        let usual = Event::Content { words: self.shape.tokens_per_chunk, last: false };
        if event == usual && usage.is_none() && self.chunked {
            let start = out.len();
            out.extend_from_slice(&self.stamped.event);
            let hole = start + self.template.hole;
            let size = self.shape.tokens_per_chunk as usize * WORD;
            for word in out.get_mut(hole..hole + size).unwrap_or_default().chunks_exact_mut(WORD) {
                word.copy_from_slice(&words.next());
            }
        } else {
            self.render(out, event, words, usage);
        }
    }

    fn render(&self, out: &mut Vec<u8>, event: Event, words: &mut Words, usage: Option<Counts>) {
        let mut text = Vec::with_capacity(512);
        let eol: &[u8] = if self.shape.crlf { b"\r\n" } else { b"\n" };
        if self.shape.comments {
            text.extend_from_slice(b": ping");
            text.extend_from_slice(eol);
            text.extend_from_slice(eol);
        }
        text.extend_from_slice(b"data: ");
        if event == Event::Done {
            text.extend_from_slice(b"[DONE]");
        } else {
            self.json(&mut text, event, words, usage);
            self.pad(&mut text);
        }
        text.extend_from_slice(eol);
        text.extend_from_slice(eol);
        chunk(out, &text, self.chunked);
    }

    fn json(&self, text: &mut Vec<u8>, event: Event, words: &mut Words, usage: Option<Counts>) {
        if event == Event::Error {
            error_json(text, 500, "InternalServerError", "The stream fails on purpose.", None);
            return;
        }
        text.extend_from_slice(&self.stamped.open);
        let reason: &[u8] = match event {
            Event::Finish | Event::Content { last: true, .. } => b"\"length\"",
            _ => b"null",
        };
        match (event, self.template.kind) {
            (Event::Role, _) => {
                text.extend_from_slice(b"{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}");
            }
            (Event::Finish, Kind::Chat) => text.extend_from_slice(b"{\"index\":0,\"delta\":{}"),
            (Event::Finish, Kind::Text) => text.extend_from_slice(b"{\"index\":0,\"text\":\"\""),
            (Event::Content { words: count, .. }, kind) => {
                text.extend_from_slice(content_prefix(kind));
                words.append(text, count);
                text.extend_from_slice(if kind == Kind::Chat { b"\"}" } else { b"\"" });
            }
            _ => {}
        }
        if event != Event::Usage {
            text.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
            text.extend_from_slice(reason);
            text.push(b'}');
        }
        text.push(b']');
        if let Some(usage) = usage {
            text.push(b',');
            usage.append(text);
        }
        text.push(b'}');
    }

    /// Makes the JSON object at the end of `text` longer.
    fn pad(&self, text: &mut Vec<u8>) {
        const FIELD: &[u8] = b",\"padding\":\"";
        let ends = if self.shape.crlf { 4 } else { 2 };
        if text.len() + ends >= self.shape.pad_bytes {
            return;
        }
        let filled = self.shape.pad_bytes.saturating_sub(ends + 2);
        text.pop();
        text.extend_from_slice(FIELD);
        text.resize(filled.max(text.len()), b'x');
        text.extend_from_slice(b"\"}");
    }
}

/// Name of the object and prefix of the id.
fn names(kind: Kind, stream: bool) -> (&'static str, &'static str) {
    match (kind, stream) {
        (Kind::Chat, true) => ("chat.completion.chunk", "chatcmpl-"),
        (Kind::Chat, false) => ("chat.completion", "chatcmpl-"),
        (Kind::Text, _) => ("text_completion", "cmpl-"),
    }
}

/// What comes before the words of a content event.
fn content_prefix(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Chat => b"{\"index\":0,\"delta\":{\"content\":\"",
        Kind::Text => b"{\"index\":0,\"text\":\"",
    }
}

/// Appends `text` as an HTTP chunk, or as it is.
pub(crate) fn chunk(out: &mut Vec<u8>, text: &[u8], chunked: bool) {
    if chunked {
        out.extend_from_slice(format!("{:x}\r\n", text.len()).as_bytes());
    }
    out.extend_from_slice(text);
    if chunked {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the end of a body in chunks.
pub(crate) fn last_chunk(out: &mut Vec<u8>, chunked: bool) {
    if chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Appends the head of a stream.
pub(crate) fn stream_head(out: &mut Vec<u8>, chunked: bool, keep_alive: bool) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nserver: cotenant-token-server (simulated)\r\n\
          content-type: text/event-stream; charset=utf-8\r\ncache-control: no-store\r\n",
    );
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if !(keep_alive && chunked) {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// A whole answer, apart from its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) keep_alive: bool,
    /// Further header lines, each with its CR LF.
    pub(crate) headers: &'a str,
}

impl Reply<'_> {
    /// Appends the answer with `body`.
    pub(crate) fn append(&self, out: &mut Vec<u8>, body: &[u8]) {
        out.extend_from_slice(b"HTTP/1.1 ");
        number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\nserver: cotenant-token-server (simulated)\r\ncontent-type: ");
        out.extend_from_slice(self.content_type.as_bytes());
        out.extend_from_slice(b"\r\ncontent-length: ");
        number(out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
        if !self.keep_alive {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(self.headers.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }
}

/// Appends an error as OpenAI's API words it.
pub(crate) fn error_json(out: &mut Vec<u8>, code: u16, kind: &str, message: &str, param: Option<&str>) {
    let param = param.map_or_else(|| "null".to_owned(), quoted);
    out.extend_from_slice(
        format!(
            "{{\"error\":{{\"message\":{},\"type\":\"{kind}\",\"param\":{param},\"code\":{code}}},\
             \"system_fingerprint\":\"{FINGERPRINT}\"}}",
            quoted(message)
        )
        .as_bytes(),
    );
}

/// The body of an answer that is not streamed.
pub(crate) fn whole_answer(
    kind: Kind,
    model: &str,
    id: u64,
    created: u64,
    text: &str,
    usage: Counts,
) -> Vec<u8> {
    let (object, prefix) = names(kind, false);
    let text = quoted(text);
    let content = match kind {
        Kind::Chat => format!("\"message\":{{\"role\":\"assistant\",\"content\":{text}}}"),
        Kind::Text => format!("\"text\":{text}"),
    };
    let mut out = format!(
        "{{\"id\":\"{prefix}{id:016x}\",\"object\":\"{object}\",\"created\":{created},\"model\":{},\
         \"system_fingerprint\":\"{FINGERPRINT}\",\
         \"choices\":[{{\"index\":0,{content},\"logprobs\":null,\"finish_reason\":\"length\"}}],",
        quoted(model)
    )
    .into_bytes();
    usage.append(&mut out);
    out.push(b'}');
    out
}

/// `text` as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// The phrase that goes with a status.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Simulated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The events of a stream with one event of each sort, rendered with `shape`.
    fn rendered(kind: Kind, shape: &Shape, chunked: bool, event: Event) -> Vec<u8> {
        let template = Template::new(kind, "a \"model\"", shape);
        let mut stamped = Stamped::default();
        template.stamp(&mut stamped, 0xab_cdef, 1_700_000_000);
        let writer = Writer { template: &template, stamped: &stamped, shape, chunked };
        let mut out = Vec::new();
        let usage = (event == Event::Usage).then_some(Counts { prompt: 3, output: 4 });
        writer.event(&mut out, event, &mut Words::new(1, 2), usage);
        out
    }

    fn payload(framed: &[u8]) -> String {
        let text = std::str::from_utf8(framed).unwrap();
        let (size, rest) = text.split_once("\r\n").unwrap();
        assert_eq!(usize::from_str_radix(size, 16).unwrap(), rest.len() - 2);
        rest.strip_suffix("\r\n").unwrap().to_owned()
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text.trim_end().strip_prefix("data: ").unwrap()).unwrap()
    }

    #[test]
    fn the_fast_way_and_the_general_way_render_the_same() {
        for kind in [Kind::Chat, Kind::Text] {
            for tokens_per_chunk in [1, 3] {
                for pad_bytes in [0, 10_000] {
                    let shape = Shape {
                        tokens_per_chunk,
                        pad_bytes,
                        comments: true,
                        crlf: pad_bytes > 0,
                        ..Shape::default()
                    };
                    let content = Event::Content { words: tokens_per_chunk, last: false };
                    let fast = payload(&rendered(kind, &shape, true, content));
                    let general = rendered(kind, &shape, false, content);
                    assert_eq!(fast.as_bytes(), general);
                }
            }
        }
    }

    #[test]
    fn events_are_json_with_the_request_in_them() {
        for event in [Event::Role, Event::Content { words: 2, last: true }, Event::Finish, Event::Usage] {
            let v = json(&payload(&rendered(Kind::Chat, &Shape::default(), true, event)));
            assert_eq!(v["id"], "chatcmpl-0000000000abcdef");
            assert_eq!(v["created"], 1_700_000_000);
            assert_eq!(v["model"], "a \"model\"");
            assert_eq!(v["system_fingerprint"], FINGERPRINT);
        }
        let v = json(&payload(&rendered(Kind::Text, &Shape::default(), true, Event::Usage)));
        assert_eq!((&v["choices"], &v["usage"]["total_tokens"]), (&serde_json::json!([]), &Value::from(7)));
        let v = json(&payload(&rendered(Kind::Text, &Shape::default(), true, Event::Finish)));
        assert_eq!(v["choices"][0]["finish_reason"], "length");
        let v = json(&payload(&rendered(Kind::Chat, &Shape::default(), true, Event::Error)));
        assert_eq!(v["error"]["code"], 500);
    }

    #[test]
    fn padded_events_have_their_size() {
        for crlf in [false, true] {
            let shape = Shape { pad_bytes: 4096, crlf, ..Shape::default() };
            for event in [Event::Role, Event::Content { words: 1, last: false }, Event::Finish] {
                let text = payload(&rendered(Kind::Chat, &shape, true, event));
                assert_eq!(text.len(), 4096);
                assert!(json(&text)["padding"].as_str().unwrap().starts_with("xxx"));
            }
        }
    }

    #[test]
    fn words_depend_on_seed_and_request() {
        let words = |seed, id| {
            let mut out = Vec::new();
            Words::new(seed, id).append(&mut out, 40);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(words(1, 2), words(1, 2));
        assert_ne!(words(1, 2), words(1, 3));
        assert_ne!(words(1, 2), words(2, 2));
        assert!(words(3, 4).split(' ').skip(1).all(|w| w.len() == 4 && w.starts_with('t')));
    }
}
