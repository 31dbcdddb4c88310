//! Requests of HTTP/1: from bytes that have arrived to a head and a body.

use std::borrow::Cow;

/// Most bytes of a request line and its headers.
const MAX_HEAD: usize = 64 << 10;
/// Most bytes of a body.
const MAX_BODY: usize = 64 << 20;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;

/// What a request asks for, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    /// Whether the client speaks HTTP/1.0, which has no chunks.
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    pub(crate) request_id: Option<&'a [u8]>,
    pub(crate) authorization: Option<&'a [u8]>,
}

/// What the bytes at the front of a connection's input are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// Not a whole request yet.
    Partial {
        /// Less than this many bytes cannot be one.
        need: usize,
        /// Whether the client waits for `100 Continue` before it sends the body.
        expects: bool,
    },
    /// A request, `used` bytes long.
    Request { head: Head<'a>, body: Cow<'a, [u8]>, used: usize },
    /// Nothing that can be read; the connection is of no further use.
    Bad { status: u16, reason: &'static str },
}

/// How the end of a body is found.
enum Length {
    Known(usize),
    Chunked,
}

/// Reads the request at the front of `input`.
pub(crate) fn parse(input: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(input) {
        Ok(httparse::Status::Complete(n)) if n <= MAX_HEAD => n,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => {
            return Parsed::Partial { need: input.len() + 1, expects: false };
        }
        Ok(_) => return Parsed::Bad { status: 431, reason: "the headers are too long" },
        Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Bad { status: 431, reason: "there are too many headers" };
        }
        Err(_) => return Parsed::Bad { status: 400, reason: "the request is not HTTP/1" },
    };
    let http10 = request.version == Some(0);
    let target = request.path.unwrap_or("/");
    let mut head = Head {
        method: request.method.unwrap_or(""),
        path: target.split_once('?').map_or(target, |(path, _)| path),
        http10,
        keep_alive: !http10,
        request_id: None,
        authorization: None,
    };
    let mut expects = false;
    let mut length = None;
    for h in request.headers.iter() {
        let (name, value) = (h.name.as_bytes(), h.value);
        if name.eq_ignore_ascii_case(b"content-length") {
            let Some(n) = std::str::from_utf8(value).ok().and_then(decimal) else {
                return Parsed::Bad { status: 400, reason: "content-length is not a number" };
            };
            if length.replace(Length::Known(n)).is_some() {
                return Parsed::Bad { status: 400, reason: "the length of the body is told twice" };
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Parsed::Bad { status: 501, reason: "the only known transfer-encoding is chunked" };
            }
            if length.replace(Length::Chunked).is_some() {
                return Parsed::Bad { status: 400, reason: "the length of the body is told twice" };
            }
        } else if name.eq_ignore_ascii_case(b"connection") {
            for word in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                if word.eq_ignore_ascii_case(b"close") {
                    head.keep_alive = false;
                } else if http10 && word.eq_ignore_ascii_case(b"keep-alive") {
                    head.keep_alive = true;
                }
            }
        } else if name.eq_ignore_ascii_case(b"x-request-id") {
            head.request_id = Some(value);
        } else if name.eq_ignore_ascii_case(b"authorization") {
            head.authorization = Some(value);
        } else if name.eq_ignore_ascii_case(b"expect") {
            expects = value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    let rest = input.get(head_bytes..).unwrap_or_default();
    match length.unwrap_or(Length::Known(0)) {
        Length::Known(n) if n > MAX_BODY => Parsed::Bad { status: 413, reason: "the body is too long" },
        Length::Known(n) => match rest.get(..n) {
            Some(body) => Parsed::Request { head, body: Cow::Borrowed(body), used: head_bytes + n },
            None => Parsed::Partial { need: head_bytes + n, expects },
        },
        Length::Chunked => match dechunk(rest) {
            Ok(Chunks::All(body, n)) => {
                Parsed::Request { head, body: Cow::Owned(body), used: head_bytes + n }
            }
            Ok(Chunks::Need(n)) => Parsed::Partial { need: (head_bytes + n).max(input.len() + 1), expects },
            Err((status, reason)) => Parsed::Bad { status, reason },
        },
    }
}

/// A number of digits and nothing else (`parse` alone takes a sign).
fn decimal(text: &str) -> Option<usize> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Status and reason of a refusal.
type Refusal = (u16, &'static str);

/// What the bytes after a head are when the body comes in chunks.
enum Chunks {
    /// The whole body, and how many bytes it took.
    All(Vec<u8>, usize),
    /// Not a whole body, which takes more than what there is and at least this many bytes.
    Need(usize),
}

/// The body in chunks at the front of `input`.
fn dechunk(input: &[u8]) -> Result<Chunks, Refusal> {
    const BAD: Refusal = (400, "the body's chunks cannot be read");
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let (line, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((line, size))) => (line, size),
            Ok(httparse::Status::Partial) if rest.len() < 4096 => return Ok(Chunks::Need(0)),
            _ => return Err(BAD),
        };
        at += line;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_BODY || body.len() + size > MAX_BODY {
            return Err((413, "the body is too long"));
        }
        if size == 0 {
            break;
        }
        let (Some(data), Some(end)) = (input.get(at..at + size), input.get(at + size..at + size + 2)) else {
            return Ok(Chunks::Need(at + size + 2));
        };
        if end != b"\r\n" {
            return Err(BAD);
        }
        body.extend_from_slice(data);
        at += size + 2;
    }
    // Trailers, which end with an empty line, mean nothing here.
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(end) = rest.iter().position(|&b| b == b'\n') else {
            return if rest.len() < MAX_HEAD { Ok(Chunks::Need(0)) } else { Err(BAD) };
        };
        at += end + 1;
        if matches!(rest.get(..end), Some(b"\r" | b"")) {
            return Ok(Chunks::All(body, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(input: &str) -> Option<(String, usize)> {
        match parse(input.as_bytes()) {
            Parsed::Request { body, used, .. } => Some((String::from_utf8(body.into_owned()).unwrap(), used)),
            _ => None,
        }
    }

    fn status_of(input: &str) -> u16 {
        match parse(input.as_bytes()) {
            Parsed::Bad { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_prefix_of_a_request_is_partial_and_what_follows_is_left() {
        for text in [
            "POST /v1/completions?x=1 HTTP/1.1\r\nContent-Length: 5\r\nx-request-id: a b\r\n\r\nhello",
            "POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Request-ID: a b\r\n\r\n\
             2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
        ] {
            for end in 0..text.len() {
                match parse(&text.as_bytes()[..end]) {
                    Parsed::Partial { need, .. } => assert!(need > end && need <= text.len(), "{end}"),
                    other => panic!("{end}: {other:?}"),
                }
            }
            let two = format!("{text}{text}");
            assert_eq!(body_of(&two), Some(("hello".to_owned(), text.len())));
            let Parsed::Request { head, .. } = parse(text.as_bytes()) else { panic!() };
            assert_eq!((head.method, head.path), ("POST", "/v1/completions"));
            assert_eq!((head.request_id, head.keep_alive), (Some(&b"a b"[..]), true));
        }
    }

    #[test]
    fn keep_alive_follows_version_and_header() {
        let keep = |text: &str| match parse(text.as_bytes()) {
            Parsed::Request { head, .. } => head.keep_alive,
            other => panic!("{other:?}"),
        };
        assert!(keep("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.1\r\nConnection: TE, Close\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
        assert!(keep("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn bad_requests_have_a_status() {
        assert_eq!(status_of("\x16\x03\x01\x02\r\n\r\n"), 400);
        assert_eq!(status_of("GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\n"), 400);
        assert_eq!(status_of("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"), 400);
        assert_eq!(status_of("GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"), 413);
        assert_eq!(status_of("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
        assert_eq!(status_of("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
        assert_eq!(
            status_of("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            413
        );
        assert_eq!(status_of(&format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(70_000))), 431);
        assert_eq!(status_of(&format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(101))), 431);
    }
}
