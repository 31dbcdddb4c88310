//! What can go wrong before a request is sent; what happens to requests is in their records.

use std::io;

/// Why the load cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The URL is none.
    #[error(
        "read the URL `{url}`: {why}; it should be like `http://127.0.0.1:8000` or `http://host:8000/v1`"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The host has no address.
    #[error("find the address of `{host}`: {source}")]
    Address {
        /// Host and port.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// A header holds what no header can hold.
    #[error("use the header `{name}`: a name has letters, digits and `-`, and a value no line ends")]
    Header {
        /// Its name; the value may be a secret.
        name: String,
    },
    /// The event loop of the kernel refused.
    #[error("wait for sockets: {0}")]
    Poll(io::Error),
}
