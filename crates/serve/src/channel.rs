//! What goes between a socket and a connection: bytes as they are, or TLS.

use cotenant_servers::tls;
use rustix::fd::OwnedFd;
use rustix::net::SendFlags;
use rustls::ClientConnection;
use std::io::{self, Read, Write};

/// Why a channel is of no use any more.
pub(crate) struct Broken(pub String);

/// The encrypted side of a connection.
pub(crate) struct Tls {
    session: Box<ClientConnection>,
    /// What was decrypted of one read.
    plain: Vec<u8>,
}

/// Writes into a socket that does not block.
struct Socket<'a>(&'a OwnedFd);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    pub fn new(session: ClientConnection) -> Tls {
        Tls { session: Box::new(session), plain: Vec::new() }
    }

    /// Whether it takes requests.
    pub fn is_ready(&self) -> bool {
        !self.session.is_handshaking()
    }

    /// Takes bytes that are to be sent; [`Tls::flush`] sends them.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.session.writer().write_all(bytes).map_err(|e| Broken(format!("sending failed: {e}")))
    }

    /// Sends what the socket takes; whether something is left.
    pub fn flush(&mut self, socket: &OwnedFd) -> Result<bool, Broken> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket(socket)) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Broken(format!("sending failed: {e}"))),
            }
        }
        Ok(false)
    }

    /// What the bytes that arrived say; often nothing yet.
    pub fn arrived(&mut self, mut bytes: &[u8]) -> Result<&[u8], Broken> {
        self.plain.clear();
        while !bytes.is_empty() {
            self.session.read_tls(&mut bytes).map_err(|e| Broken(format!("TLS: {e}")))?;
            let state = self.session.process_new_packets().map_err(|e| Broken(tls::why(&e)))?;
            let from = self.plain.len();
            self.plain.resize(from + state.plaintext_bytes_to_read(), 0);
            // It has just said that so many are there.
            self.session
                .reader()
                .read_exact(&mut self.plain[from..])
                .map_err(|e| Broken(format!("TLS: {e}")))?;
            if state.peer_has_closed() {
                break;
            }
        }
        Ok(&self.plain)
    }
}
