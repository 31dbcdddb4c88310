//! What can go wrong before a request is sent; what happens to requests is in their records.

use std::io;

/// Why the load cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The host has no address.
    #[error("find the address of `{host}`: {source}")]
    Address {
        /// Host and port.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No encrypted connections can be made.
    #[error(transparent)]
    Tls(cotenant_servers::http::HttpError),
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
