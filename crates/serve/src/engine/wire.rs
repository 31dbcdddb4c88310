//! The engine's connections: opening them, and what goes over them.

use super::{Engine, READ, Sink};
use crate::arrivals::Arrivals;
use crate::channel::{Broken, Tls};
use crate::clock::Clock;
use crate::conn::{Conn, Progress, State};
use cotenant_store::serving::FailureKind;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::SocketAddr;

impl Engine<'_> {
    /// Opens a connection; it is registered for writing, which tells when it is open.
    pub(super) fn connect(&mut self, seat: usize) -> Result<usize, Errno> {
        let target = &self.seats[seat].tenant.target;
        let address = target.address;
        // That one can be made was tried when the target was.
        let made = target.tls.as_deref().map(cotenant_servers::tls::connection).transpose();
        let tls = made.map_err(|_| Errno::PROTO)?.map(Tls::new);
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        Arrivals::watch(&socket);
        connect_to(&socket, address)?;
        let id = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.turns.push(0);
            self.conns.len() - 1
        });
        self.turns[id] = self.turns[id].wrapping_add(1);
        let mut conn = Conn::new(socket, tls, seat);
        conn.wants_write = true;
        let added = self.poll.add(&conn.socket, self.key(id), true);
        self.conns[id] = Some(conn);
        match added {
            Ok(()) => Ok(id),
            Err(e) => {
                self.drop_conn(id);
                Err(e)
            }
        }
    }

    /// Closes a connection. Its descriptor leaves the epoll with it.
    pub(super) fn drop_conn(&mut self, id: usize) {
        if let Some(conn) = self.conns[id].take() {
            if conn.state != State::Busy {
                self.seats[conn.tenant].idle.retain(|&i| i != id);
            }
            self.free.push(id);
        }
    }

    /// Writes what is left of the request.
    pub(super) fn write(&mut self, id: usize, clock: Clock, sink: &mut Sink<'_>) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        let Some(active) = conn.active.as_deref_mut() else { return };
        if active.record.sent_ns.is_none() {
            active.record.sent_ns = Some(clock.now());
        }
        if let Some(tls) = conn.tls.as_mut() {
            let taken = tls.take(&conn.out[conn.written..]);
            conn.written = conn.out.len();
            match taken {
                Ok(()) => self.flush(id, clock, sink),
                Err(Broken(why)) => self.broken(id, FailureKind::Reset, &why, clock, sink),
            }
            return;
        }
        loop {
            match rustix::net::send(&conn.socket, &conn.out[conn.written..], rustix::net::SendFlags::NOSIGNAL)
            {
                Ok(n) => conn.written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => {
                    self.broken(id, FailureKind::Reset, &format!("sending failed: {e}"), clock, sink);
                    return;
                }
            }
            if conn.written >= conn.out.len() {
                break;
            }
        }
        let wants = conn.written < conn.out.len();
        self.want_write(id, wants, clock, sink);
    }

    /// A connection can take requests.
    pub(super) fn opened(&mut self, id: usize, clock: Clock, sink: &mut Sink<'_>) {
        let key = self.key(id);
        let Some(conn) = self.conns[id].as_mut() else { return };
        if conn.active.is_some() {
            conn.state = State::Busy;
            self.write(id, clock, sink);
            return;
        }
        conn.state = State::Idle;
        if conn.wants_write {
            conn.wants_write = false;
            if self.poll.change(&conn.socket, key, false).is_err() {
                self.drop_conn(id);
            }
        }
    }

    /// Sends what TLS has to say.
    pub(super) fn flush(&mut self, id: usize, clock: Clock, sink: &mut Sink<'_>) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        let Some(tls) = conn.tls.as_mut() else { return };
        match tls.flush(&conn.socket) {
            Ok(left) => self.want_write(id, left, clock, sink),
            Err(Broken(why)) => self.broken(id, FailureKind::Reset, &why, clock, sink),
        }
    }

    /// Asks to be told when the socket takes bytes again, or no longer.
    pub(super) fn want_write(&mut self, id: usize, wants: bool, clock: Clock, sink: &mut Sink<'_>) {
        let key = self.key(id);
        let Some(conn) = self.conns[id].as_mut() else { return };
        if wants != conn.wants_write {
            conn.wants_write = wants;
            if let Err(e) = self.poll.change(&conn.socket, key, wants) {
                self.broken(id, FailureKind::Reset, &e.to_string(), clock, sink);
            }
        }
    }

    pub(super) fn read(&mut self, id: usize, clock: Clock, sink: &mut Sink<'_>) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        let asked_ns = conn.active.as_ref().and_then(|a| a.record.sent_ns).unwrap_or(0);
        let from_ns = asked_ns.max(conn.arrived_ns);
        let got = self.arrivals.read(&conn.socket, self.buffer.as_mut_slice(), clock, from_ns);
        match got {
            Ok((0, ..)) if conn.state == State::Shaking => {
                let why = "the server closed in the middle of the TLS handshake; does it speak TLS?";
                self.broken(id, FailureKind::Connect, why, clock, sink);
            }
            Ok((0, _, now)) => {
                if conn.active.as_ref().is_some_and(|a| a.record.first_byte_ns.is_some()) {
                    conn.closed(now);
                    self.finish(id, false, now, sink);
                } else {
                    self.broken(
                        id,
                        FailureKind::ClosedEarly,
                        "the server closed without an answer",
                        clock,
                        sink,
                    );
                }
            }
            Ok((n, at, now)) => {
                conn.arrived_ns = at;
                if conn.tls.is_some() {
                    self.decrypt(id, n.min(READ), at, clock, sink);
                } else if let Progress::Ended { keep } = conn.arrived(&self.buffer[..n.min(READ)], at) {
                    self.finish(id, keep, now, sink);
                }
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(e) => self.broken(id, FailureKind::Reset, &e.to_string(), clock, sink),
        }
    }

    /// The first `n` bytes of the buffer arrived at `at` on an encrypted connection.
    pub(super) fn decrypt(&mut self, id: usize, n: usize, at: u64, clock: Clock, sink: &mut Sink<'_>) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        let Some(mut tls) = conn.tls.take() else { return };
        let shaking = conn.state == State::Shaking;
        let progress = match tls.arrived(&self.buffer[..n]) {
            Ok([]) => Ok(Progress::Going),
            Ok(plain) => Ok(conn.arrived(plain, at)),
            Err(Broken(why)) => Err(why),
        };
        // What it answers to a failed handshake tells the server why.
        let ready = tls.is_ready();
        let flushed = tls.flush(&conn.socket);
        conn.tls = Some(tls);
        match (progress, flushed) {
            (Err(why), _) => {
                let kind = if shaking { FailureKind::Connect } else { FailureKind::Garbage };
                self.broken(id, kind, &why, clock, sink);
            }
            (Ok(Progress::Ended { keep }), _) => self.finish(id, keep, clock.now(), sink),
            (Ok(Progress::Going), Err(Broken(why))) => self.broken(id, FailureKind::Reset, &why, clock, sink),
            (Ok(Progress::Going), Ok(left)) if shaking && ready => {
                self.want_write(id, left, clock, sink);
                self.opened(id, clock, sink);
            }
            (Ok(Progress::Going), Ok(left)) => self.want_write(id, left, clock, sink),
        }
    }
}

fn connect_to(socket: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    match rustix::net::connect(socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(e) => Err(e),
    }
}
