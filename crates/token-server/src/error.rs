//! What can go wrong when a server is started.

/// Why a server could not be started. Messages read after "failed to start the token server:".
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A field of the options cannot be.
    #[error("`{field}` is {value}; it must be {rule}")]
    Option {
        /// Path of the field, such as `shape.tokens_per_chunk`.
        field: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        rule: &'static str,
    },
    /// The port could not be opened on the loopback interface.
    #[error("port {port} of 127.0.0.1 cannot be opened: {source}")]
    Bind {
        /// The port that was asked for; 0 is any.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The event loop could not be set up.
    #[error("the system refused {what}: {source}")]
    System {
        /// What was asked of the system.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}
