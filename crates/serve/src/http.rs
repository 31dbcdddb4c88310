//! Answers in HTTP/1.1, piece by piece as they arrive.

use cotenant_store::serving::FailureKind;
use memchr::memchr;

/// Longest head of an answer, and longest line that says how long a chunk is.
const LONGEST_HEAD: usize = 64 << 10;
/// Headers of an answer.
const HEADERS: usize = 100;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// After so many bytes more.
    Length(u64),
    /// Chunked; where in it.
    Chunked(Chunked),
    /// When the server closes.
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunked {
    /// Before the line with the size.
    Size,
    /// So many bytes more of this chunk.
    Data(u64),
    /// Before the line end behind a chunk.
    End,
    /// In the lines behind the last chunk.
    Trailer,
}

/// What the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Events,
    Other,
}

/// What the head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub status: u16,
    pub content: Content,
    /// The connection can take another request afterwards.
    pub keep: bool,
    /// Where it redirects to.
    pub location: Option<String>,
}

/// One step of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The head is complete.
    Head(Head),
    /// Bytes of the body.
    Body(&'a [u8]),
    /// The answer is complete.
    End,
    /// What follows is needed first.
    More,
}

/// What the bytes are if not an answer.
pub(crate) type Bad = (FailureKind, String);

/// Reader of one answer after the other on one connection.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    body: Option<Body>,
}

impl Answer {
    /// Whether the next byte begins a new answer.
    #[cfg(test)]
    pub fn at_start(&self) -> bool {
        self.body.is_none()
    }

    /// Reads from `bytes`; how many bytes it used, and what they are.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Piece<'a>), Bad> {
        match self.body {
            None => self.head(bytes),
            Some(Body::Length(0)) => {
                self.body = None;
                Ok((0, Piece::End))
            }
            Some(Body::Length(left)) => {
                let n = left.min(bytes.len() as u64);
                if n == 0 {
                    return Ok((0, Piece::More));
                }
                self.body = Some(Body::Length(left - n));
                Ok((n as usize, Piece::Body(&bytes[..n as usize])))
            }
            Some(Body::UntilClose) => {
                let piece = if bytes.is_empty() { Piece::More } else { Piece::Body(bytes) };
                Ok((bytes.len(), piece))
            }
            Some(Body::Chunked(at)) => self.chunked(at, bytes),
        }
    }

    /// The server has closed: whether the answer was complete with that.
    pub fn closed(&mut self) -> bool {
        let whole = matches!(self.body, Some(Body::UntilClose | Body::Length(0)));
        self.body = None;
        whole
    }

    fn head<'a>(&mut self, bytes: &[u8]) -> Result<(usize, Piece<'a>), Bad> {
        let garbage = |e: &dyn std::fmt::Display| (FailureKind::Garbage, format!("no HTTP answer: {e}"));
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let used = match response.parse(bytes).map_err(|e| garbage(&e))? {
            httparse::Status::Complete(n) => n,
            httparse::Status::Partial if bytes.len() > LONGEST_HEAD => {
                return Err(garbage(&"its head does not end"));
            }
            httparse::Status::Partial => return Ok((0, Piece::More)),
        };
        let status = response.code.unwrap_or(0);
        // 100 Continue and 103 Early Hints come before the answer itself.
        if (100..200).contains(&status) {
            return match self.read(&bytes[used..])? {
                (n, Piece::Head(h)) => Ok((used + n, Piece::Head(h))),
                _ => Ok((0, Piece::More)),
            };
        }
        let mut head =
            Head { status, content: Content::Other, keep: response.version == Some(1), location: None };
        let (mut length, mut chunked) = (None, false);
        for h in response.headers.iter() {
            let is = |name: &str| h.name.eq_ignore_ascii_case(name);
            let value = std::str::from_utf8(h.value).unwrap_or_default().trim();
            if is("content-length") {
                length =
                    Some(value.parse::<u64>().map_err(|_| garbage(&format!("content-length `{value}`")))?);
            } else if is("transfer-encoding") {
                chunked = value.to_ascii_lowercase().ends_with("chunked");
            } else if is("content-type") {
                if value.to_ascii_lowercase().starts_with("text/event-stream") {
                    head.content = Content::Events;
                }
            } else if is("connection") {
                let value = value.to_ascii_lowercase();
                head.keep = (head.keep || value.contains("keep-alive")) && !value.contains("close");
            } else if is("location") {
                head.location = Some(value.to_owned());
            }
        }
        self.body = Some(match (status, chunked, length) {
            (204 | 304, _, _) => Body::Length(0),
            (_, true, _) => Body::Chunked(Chunked::Size),
            (_, false, Some(n)) => Body::Length(n),
            (_, false, None) => {
                head.keep = false;
                Body::UntilClose
            }
        });
        Ok((used, Piece::Head(head)))
    }

    fn chunked<'a>(&mut self, at: Chunked, bytes: &'a [u8]) -> Result<(usize, Piece<'a>), Bad> {
        let mut at = at;
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match at {
                Chunked::Data(left) => {
                    let n = left.min(rest.len() as u64);
                    let now = if n == left { Chunked::End } else { Chunked::Data(left - n) };
                    self.body = Some(Body::Chunked(now));
                    let piece = if n == 0 { Piece::More } else { Piece::Body(&rest[..n as usize]) };
                    return Ok((used + n as usize, piece));
                }
                Chunked::Size | Chunked::End | Chunked::Trailer => {
                    let Some(lf) = memchr(b'\n', rest) else {
                        if rest.len() > LONGEST_HEAD {
                            return Err((FailureKind::Garbage, "a chunk without a size".into()));
                        }
                        self.body = Some(Body::Chunked(at));
                        return Ok((used, Piece::More));
                    };
                    let line = rest[..lf].strip_suffix(b"\r").unwrap_or(&rest[..lf]);
                    used += lf + 1;
                    at = match at {
                        Chunked::Size => match size(line) {
                            Some(0) => Chunked::Trailer,
                            Some(n) => Chunked::Data(n),
                            None => {
                                let line = String::from_utf8_lossy(line);
                                return Err((FailureKind::Garbage, format!("no size of a chunk: {line}")));
                            }
                        },
                        Chunked::End if line.is_empty() => Chunked::Size,
                        Chunked::End => {
                            return Err((FailureKind::Garbage, "a chunk is longer than it says".into()));
                        }
                        _ if line.is_empty() => {
                            self.body = None;
                            return Ok((used, Piece::End));
                        }
                        _ => Chunked::Trailer,
                    };
                }
            }
        }
    }
}

/// Size of a chunk: hexadecimal, perhaps with extensions behind a semicolon.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&c| c == b';').next()?.trim_ascii();
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &c| Some(n * 16 + u64::from(char::from(c).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads answers from bytes that arrive in pieces: status and body of each.
    fn answers(pieces: &[&[u8]]) -> Result<Vec<(u16, String)>, Bad> {
        let (mut a, mut left, mut out) = (Answer::default(), Vec::new(), Vec::<(u16, String)>::new());
        for p in pieces {
            left.extend_from_slice(p);
            loop {
                if a.at_start() && left.is_empty() {
                    break;
                }
                let (used, piece) = a.read(&left)?;
                match piece {
                    Piece::Head(h) => out.push((h.status, String::new())),
                    Piece::Body(b) => {
                        out.last_mut().expect("a head first").1.push_str(&String::from_utf8_lossy(b));
                    }
                    Piece::End => {}
                    Piece::More => {
                        left.drain(..used);
                        break;
                    }
                }
                left.drain(..used);
            }
        }
        Ok(out)
    }

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nt: 1\r\n\r\n\
        HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 204 No\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nrest";

    #[test]
    fn lengths_chunks_and_until_close() {
        let want = [(200, "hello world"), (404, "abc"), (204, ""), (200, "rest")];
        let got = answers(&[TWO]).expect("good");
        assert_eq!(got.iter().map(|(s, b)| (*s, b.as_str())).collect::<Vec<_>>(), want);
        let mut a = Answer::default();
        assert!(!a.closed(), "nothing came");
        let (_, piece) = a.read(b"HTTP/1.0 200 OK\r\n\r\n").expect("good");
        assert!(matches!(piece, Piece::Head(Head { keep: false, .. })));
        assert!(a.closed(), "it ends with the connection");
    }

    #[test]
    fn bad_ones_say_why() {
        for (bad, why) in [
            (&b"nonsense\r\n\r\n"[..], "no HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "content-length"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no size"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "longer"),
        ] {
            let (kind, detail) = answers(&[bad]).expect_err("bad");
            assert_eq!(kind, FailureKind::Garbage);
            assert!(detail.contains(why), "{detail}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(1usize..30, 0..80)) {
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = TWO;
            for c in cuts {
                let (a, b) = rest.split_at(c.min(rest.len()));
                pieces.push(a);
                rest = b;
            }
            pieces.push(rest);
            prop_assert_eq!(answers(&pieces), answers(&[TWO]));
        }

        #[test]
        fn nothing_panics(noise in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..60) {
            let _ = answers(&[&noise]);
            let mut mixed = TWO[..cut].to_vec();
            mixed.extend(noise);
            let _ = answers(&[&mixed]);
        }
    }
}
