//! Free ports.

use std::io::{Error, ErrorKind};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Ports that this process has given to servers: two servers that start at once must not get the same.
static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
/// How many of them are remembered, far fewer than there are ports.
const REMEMBERED: usize = 256;

/// A port of this address that nobody listens on now and that was not given away lately.
pub(crate) fn free(host: &str) -> Result<u16, Error> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Held until one is found: the system then gives a different one each time.
    let mut held = Vec::new();
    for _ in 0..=REMEMBERED {
        let listener = TcpListener::bind((host, 0))?;
        let port = listener.local_addr()?.port();
        if !given.contains(&port) {
            if given.len() == REMEMBERED {
                given.remove(0);
            }
            given.push(port);
            return Ok(port);
        }
        held.push(listener);
    }
    Err(Error::from(ErrorKind::AddrInUse))
}

/// Whether something listens on it.
pub(crate) fn in_use(host: &str, port: u16) -> bool {
    matches!(TcpListener::bind((host, port)), Err(e) if e.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_are_free() {
        let mut ports: Vec<u16> = (0..40).map(|_| free("127.0.0.1").unwrap()).collect();
        assert!(ports.iter().all(|&p| !in_use("127.0.0.1", p)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(in_use("127.0.0.1", listener.local_addr().unwrap().port()));
    }
}
