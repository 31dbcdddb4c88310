//! A small blocking HTTP/1.1 client for probes: one request a connection. Load generators have their
//! own client; this one is not made for speed.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Longest head of an answer in bytes.
const HEAD: usize = 64 << 10;
/// Longest answer in bytes.
const LONGEST: usize = 8 << 20;
/// How often a wait for the server looks whether it should be given up.
const TURN: Duration = Duration::from_millis(50);

/// Why a request failed. Messages are fragments that read after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not an address that this client can use.
    #[error(
        "read the URL `{url}`: {why}; it should be like `http://127.0.0.1:8000` or `http://host:8000/v1`"
    )]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No encrypted connection.
    #[error("speak TLS with {host}: {why}")]
    Tls {
        /// The server.
        host: String,
        /// What is in the way.
        why: String,
    },
    /// No connection.
    #[error("connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("get an answer: {0}")]
    Io(#[from] std::io::Error),
    /// No whole answer in time.
    #[error("get a whole answer within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The caller gave up.
    #[error("get an answer before the wait was interrupted")]
    Interrupted,
    /// What came is no HTTP/1 answer.
    #[error("understand the answer: {0}")]
    Malformed(&'static str),
    /// The connection closed within the answer.
    #[error("get the whole answer: the connection was closed after {0} bytes")]
    Closed(usize),
}

/// A URL without what may be a password in it.
fn redacted(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Name or address, without brackets.
    pub host: String,
    /// Port; 80 where the text has none, of https 443.
    pub port: u16,
    /// It is https.
    pub tls: bool,
    /// What goes before each path; without a slash at its end, often empty.
    pub prefix: String,
}

impl Url {
    /// Reads `http://HOST[:PORT][/PREFIX][/v1]`, or the same with `https`. A last `/v1` is left out, as paths have it.
    ///
    /// # Errors
    /// It is not of that form, with what is wrong.
    pub fn parse(text: &str) -> Result<Url, HttpError> {
        let bad = |why| HttpError::Url { url: redacted(text), why };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("its scheme is neither http nor https")),
        };
        if rest.contains(['?', '#']) {
            return Err(bad("it has a query or a fragment"));
        }
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad("it holds white space"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(bad("it has a user name or password; put a key into the environment instead"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
                _ => return Err(bad("its IPv6 address has no closing bracket")),
            },
            None => match authority.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => return Err(bad("an IPv6 address needs brackets")),
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let port = match port {
            Some(p) => p
                .parse()
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(|| bad("its port is no number from 1 to 65535"))?,
            None if tls => 443,
            None => 80,
        };
        let prefix = path.trim_end_matches('/');
        let prefix = prefix.strip_suffix("/v1").unwrap_or(prefix).trim_end_matches('/');
        Ok(Url { host: host.to_owned(), port, tls, prefix: prefix.to_owned() })
    }

    /// Host and port as a `Host` header has them.
    pub fn authority(&self) -> String {
        let Url { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = if self.tls { "s" } else { "" };
        write!(f, "http{s}://{}{}", self.authority(), self.prefix)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Body, without the framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// Body as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where to.
    pub url: &'a Url,
    /// Path after the address's prefix; begins with a slash.
    pub path: &'a str,
    /// JSON to post; `None` is a GET.
    pub json: Option<&'a str>,
    /// Key that is sent as `Authorization: Bearer`.
    pub key: Option<&'a str>,
    /// Time until the whole answer must be there.
    pub limit: Duration,
}

/// Sends a request and waits for the whole answer, whatever its status. `give_up` is asked about every 50 ms.
///
/// # Errors
/// No connection, no whole answer in time, or not an answer of HTTP/1.
pub fn send(r: &Request<'_>, give_up: &dyn Fn() -> bool) -> Result<Answer, HttpError> {
    let deadline = Instant::now() + r.limit;
    let mut plain = connect(r.url, deadline)?;
    plain.set_read_timeout(Some(TURN))?;
    plain.set_write_timeout(Some(r.limit.max(TURN)))?;
    let mut encrypted;
    let stream: &mut dyn Stream = if r.url.tls {
        let mut tls = crate::tls::connection(&r.url.host)?;
        shake_hands(&mut tls, &mut plain, r, deadline, give_up)?;
        encrypted = rustls::StreamOwned::new(tls, plain);
        &mut encrypted
    } else {
        &mut plain
    };
    let body = r.json.unwrap_or_default();
    let mut head = format!(
        "{} {}{} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nConnection: close\r\n",
        if r.json.is_some() { "POST" } else { "GET" },
        r.url.prefix,
        r.path,
        r.url.authority()
    );
    if let Some(key) = r.key {
        // A key with a line end could write headers of its own.
        if key.contains(|c: char| c.is_control()) {
            return Err(HttpError::Malformed("the key for the request has control characters"));
        }
        let _ = write!(head, "Authorization: Bearer {key}\r\n");
    }
    if r.json.is_some() {
        let _ = write!(head, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    head.push_str(body);
    stream.write_all(head.as_bytes())?;
    let (mut got, mut buf) = (Vec::new(), [0u8; 16 << 10]);
    loop {
        if give_up() {
            return Err(HttpError::Interrupted);
        }
        if Instant::now() >= deadline {
            return Err(HttpError::TimedOut(r.limit));
        }
        match stream.read(&mut buf) {
            Ok(0) => return decode(&got, true)?.ok_or(HttpError::Closed(got.len())),
            Ok(n) => {
                got.extend_from_slice(&buf[..n]);
                if let Some(answer) = decode(&got, false)? {
                    return Ok(answer);
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            // A server that closes without reading all of the request resets; what it said before counts.
            Err(e) => return decode(&got, true).ok().flatten().ok_or(HttpError::Io(e)),
        }
    }
}

/// What bytes of a request go into and those of its answer come from.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Brings a connection to where it takes requests.
fn shake_hands(
    tls: &mut rustls::ClientConnection,
    socket: &mut TcpStream,
    r: &Request<'_>,
    deadline: Instant,
    give_up: &dyn Fn() -> bool,
) -> Result<(), HttpError> {
    while tls.is_handshaking() {
        if give_up() {
            return Err(HttpError::Interrupted);
        }
        if Instant::now() >= deadline {
            return Err(HttpError::TimedOut(r.limit));
        }
        match tls.complete_io(socket) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => {
                let told = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                let why = told.map_or_else(|| format!("no handshake: {e}"), crate::tls::why);
                return Err(HttpError::Tls { host: r.url.host.clone(), why });
            }
        }
    }
    Ok(())
}

fn connect(url: &Url, deadline: Instant) -> Result<TcpStream, HttpError> {
    let address = url.authority();
    let fail = |source| HttpError::Connect { address: address.clone(), source };
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for a in (url.host.as_str(), url.port).to_socket_addrs().map_err(fail)? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&a, left) {
            Ok(s) => return Ok(s),
            Err(e) => last = e,
        }
    }
    Err(fail(last))
}

/// The answer in `got`, if it is whole; `end`: nothing more will come.
fn decode(got: &[u8], end: bool) -> Result<Option<Answer>, HttpError> {
    let mut rest = got;
    loop {
        if got.len() > LONGEST {
            return Err(HttpError::Malformed("it is longer than 8 MiB"));
        }
        let Some(at) = rest.windows(4).position(|w| w == b"\r\n\r\n") else {
            if rest.len() > HEAD {
                return Err(HttpError::Malformed("its head is longer than 64 KiB"));
            }
            return Ok(None);
        };
        let head =
            std::str::from_utf8(&rest[..at]).map_err(|_| HttpError::Malformed("its head is no text"))?;
        let body = &rest[at + 4..];
        let mut lines = head.split("\r\n");
        let status = status(lines.next().unwrap_or_default())?;
        // 100 Continue and 103 Early Hints come before the answer.
        if (100..200).contains(&status) {
            rest = body;
            continue;
        }
        let (mut length, mut chunked) = (None, false);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let n = value.parse::<usize>();
                length = Some(n.map_err(|_| HttpError::Malformed("its Content-Length is no number"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.to_ascii_lowercase().ends_with("chunked");
            }
        }
        let whole = |body: &[u8]| Ok(Some(Answer { status, body: body.to_vec() }));
        return match (chunked, length) {
            _ if status == 204 || status == 304 => whole(&[]),
            (true, _) => Ok(unchunk(body)?.map(|body| Answer { status, body })),
            (false, Some(n)) if n > LONGEST => Err(HttpError::Malformed("it is longer than 8 MiB")),
            (false, Some(n)) => body.get(..n).map_or(Ok(None), whole),
            (false, None) if end => whole(body),
            (false, None) => Ok(None),
        };
    }
}

fn status(line: &str) -> Result<u16, HttpError> {
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    let code = words.next().and_then(|w| w.parse::<u16>().ok()).filter(|c| (100..1000).contains(c));
    match (version.starts_with("HTTP/1."), code) {
        (true, Some(c)) => Ok(c),
        _ => Err(HttpError::Malformed("it does not begin with a status of HTTP/1")),
    }
}

/// The content of chunks, if the last one is there.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
    let mut out = Vec::new();
    loop {
        let Some(at) = rest.windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&rest[..at]).unwrap_or_default();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok().filter(|n| *n <= LONGEST);
        let size = size.ok_or(HttpError::Malformed("a chunk has no size or is longer than 8 MiB"))?;
        rest = &rest[at + 2..];
        if size == 0 {
            // Trailers are of no use here: the answer is whole.
            return Ok(Some(out));
        }
        let Some(chunk) = rest.get(..size) else { return Ok(None) };
        out.extend_from_slice(chunk);
        match rest.get(size..size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => rest = &rest[size + 2..],
            Some(_) => return Err(HttpError::Malformed("a chunk does not end where it says")),
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
