//! Where requests go.

use crate::error::ServeError;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// An `http` URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host as written, without brackets around an IPv6 address.
    pub host: String,
    /// Port; 80 where none is written.
    pub port: u16,
    /// Path before the API's own, without a slash at its end: empty or `/prefix`. A `/v1` at the end is dropped.
    pub prefix: String,
}

impl Url {
    /// Reads `http://HOST[:PORT][/PREFIX][/v1]`.
    ///
    /// # Errors
    /// Anything else, with what is wrong.
    pub fn parse(url: &str) -> Result<Url, ServeError> {
        let fail = |why: &str| Err(ServeError::Url { url: redacted(url), why: why.to_owned() });
        let Some((scheme, rest)) = url.split_once("://") else { return fail("it has no scheme") };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => {
                return fail("TLS is not supported; put a proxy that speaks it beside this program");
            }
            _ => return fail("its scheme is not http"),
        }
        if rest.contains(['?', '#']) {
            return fail("it has a query or a fragment");
        }
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return fail("it holds white space");
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return fail("it has a user name or password; put a key into the environment instead");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
                _ => return fail("its IPv6 address has no closing bracket"),
            },
            None => match authority.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => return fail("an IPv6 address needs brackets"),
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return fail("it has no host");
        }
        let port = match port {
            None => 80,
            Some(p) => match p.parse::<u16>() {
                Ok(p) if p > 0 => p,
                _ => return fail("its port is no number from 1 to 65535"),
            },
        };
        let path = path.trim_end_matches('/');
        let prefix = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        Ok(Url { host: host.to_owned(), port, prefix })
    }

    /// Host and port as a `Host` header has them.
    pub fn authority(&self) -> String {
        let Url { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// A URL without what could be a password.
fn redacted(url: &str) -> String {
    match (url.find("://"), url.find('@')) {
        (Some(a), Some(b)) if a + 3 < b => format!("{}***{}", &url[..a + 3], &url[b..]),
        _ => url.to_owned(),
    }
}

/// A server, an endpoint of it, and what every request to it carries.
#[derive(Clone)]
pub struct Target {
    /// Address that connections go to.
    pub address: SocketAddr,
    /// Head of every request up to the value of `content-length`.
    head: Vec<u8>,
}

impl fmt::Debug for Target {
    /// Without the head, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Target {
    /// POST requests to `path` (such as `/v1/chat/completions`) of the server at `url`, with these headers beside the
    /// necessary ones.
    ///
    /// # Errors
    /// A URL or header that is none, or a host without an address.
    pub fn new(url: &Url, path: &str, headers: &[(String, String)]) -> Result<Target, ServeError> {
        let authority = url.authority();
        let no_address = |source| ServeError::Address { host: authority.clone(), source };
        let mut found = (url.host.as_str(), url.port).to_socket_addrs().map_err(no_address)?;
        let address = found.next().ok_or_else(|| no_address(std::io::ErrorKind::NotFound.into()))?;
        let mut head = format!(
            "POST {}{path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: cotenant/{}\r\naccept: */*\r\n\
             content-type: application/json\r\n",
            url.prefix,
            env!("CARGO_PKG_VERSION"),
        );
        for (name, value) in headers {
            let good_name =
                !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
            if !good_name || value.chars().any(char::is_control) {
                return Err(ServeError::Header { name: name.clone() });
            }
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("content-length: ");
        Ok(Target { address, head: head.into_bytes() })
    }

    /// A whole request. Its number goes along as `x-request-id`, by which a server's log can be joined with records.
    pub(crate) fn request(&self, index: u64, body: &[u8], out: &mut Vec<u8>) {
        use std::io::Write as _;
        out.extend_from_slice(&self.head);
        // Writing into a Vec does not fail.
        let _ = write!(out, "{}\r\nx-request-id: cotenant-{index}\r\n\r\n", body.len());
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let of = |u: &str| Url::parse(u).map(|u| (u.host.clone(), u.port, u.prefix.clone(), u.authority()));
        let is = |h: &str, p, x: &str, a: &str| Ok::<_, ()>((h.into(), p, x.into(), a.into()));
        assert_eq!(of("http://127.0.0.1:8000").map_err(drop), is("127.0.0.1", 8000, "", "127.0.0.1:8000"));
        assert_eq!(of("http://host/v1/").map_err(drop), is("host", 80, "", "host:80"));
        assert_eq!(of("HTTP://h:1/a/b/v1").map_err(drop), is("h", 1, "/a/b", "h:1"));
        assert_eq!(of("http://[::1]:9").map_err(drop), is("::1", 9, "", "[::1]:9"));
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        for (url, why) in [
            ("127.0.0.1:8000", "no scheme"),
            ("https://h", "TLS"),
            ("ftp://h", "not http"),
            ("http://", "no host"),
            ("http://h:0", "port"),
            ("http://h:99999", "port"),
            ("http://::1:80", "brackets"),
            ("http://[::1", "bracket"),
            ("http://h/?a", "query"),
            ("http://h h/", "white space"),
            ("http://me:secret@h", "user name"),
        ] {
            let e = Url::parse(url).expect_err(url).to_string();
            assert!(e.contains(why), "{e}");
            assert!(!e.contains("secret"), "{e}");
        }
    }

    #[test]
    fn headers_cannot_smuggle_lines_and_no_error_or_debug_shows_a_value() {
        let url = Url::parse("http://127.0.0.1:1").expect("good");
        let header = |v: &str| [("authorization".to_owned(), v.to_owned())];
        let e = Target::new(&url, "/v1/x", &header("s3cret\r\nx: y")).expect_err("two lines").to_string();
        assert!(e.contains("authorization") && !e.contains("s3cret"), "{e}");
        let t = Target::new(&url, "/v1/x", &header("s3cret")).expect("good");
        assert!(!format!("{t:?}").contains("s3cret"));
        let mut out = Vec::new();
        t.request(5, b"{}", &mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:1\r\n"), "{text}");
        assert!(
            text.ends_with(
                "authorization: s3cret\r\ncontent-length: 2\r\nx-request-id: cotenant-5\r\n\r\n{}"
            ),
            "{text}"
        );
    }
}
