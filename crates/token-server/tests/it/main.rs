//! The server over real sockets.

mod api;
mod client;
mod faults;
mod pacing;
mod shapes;
