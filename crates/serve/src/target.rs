//! Where requests go.

use crate::error::ServeError;
use cotenant_servers::{Mask, http::Url, tls};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// A server, an endpoint of it, and what every request to it carries.
#[derive(Clone)]
pub struct Target {
    /// Address that connections go to.
    pub address: SocketAddr,
    /// Host whose certificate an encrypted connection wants; `None`: connections are not encrypted.
    pub(crate) tls: Option<String>,
    /// What must be in nothing that is written down of answers: the values of headers, which a server may say back.
    pub(crate) mask: Mask,
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
        let tls = url.tls.then(|| url.host.clone());
        if let Some(host) = &tls {
            // A host without a possible certificate, or no certificates to trust, is better known before the first request.
            tls::connection(host).map_err(ServeError::Tls)?;
        }
        // What stands before a space is a scheme, such as `Bearer`, and no secret.
        let mask = Mask::new(headers.iter().filter_map(|(_, value)| value.rsplit(' ').next()));
        Ok(Target { address, tls, mask, head: head.into_bytes() })
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
