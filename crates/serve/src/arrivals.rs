//! Reading from sockets, with the time at which the kernel got the bytes.

use crate::clock::{Clock, real_and_monotonic_ns};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rustix::fd::{AsRawFd, OwnedFd};
use std::io::IoSliceMut;
use std::time::Duration;

/// What two looks at the distance of the clocks may differ by where nobody set one of them, ns; and for each ns between them.
/// Time services change a clock's rate by 0.05 % at most.
const DRIFT_NS: u64 = 100_000;
const DRIFT_PER_NS: u64 = 1000;

/// Reads, and says when what it read had arrived.
///
/// A thread that handles many sockets, or was not let run for a while, reads bytes some time after they came. The kernel stamps them
/// as they come, on the clock of the day; without such a stamp, or with one that cannot be, the time of the read is taken.
pub(crate) struct Arrivals {
    control: Vec<u8>,
    /// Time of day less monotonic time, ns, and when that was so.
    apart: Option<(u64, u64)>,
    /// Whether the clock of the day can be trusted in this turn.
    steady: bool,
}

impl Arrivals {
    pub fn new() -> Arrivals {
        Arrivals { control: nix::cmsg_space!(TimeSpec), apart: None, steady: false }
    }

    /// Asks for stamps on a socket. A kernel that has none leaves the time of the read.
    pub fn watch(socket: &OwnedFd) {
        let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
    }

    /// Looks at the clocks; once before the reads of a turn.
    pub fn turn(&mut self) {
        let (real, at) = real_and_monotonic_ns();
        let apart = real.wrapping_sub(at);
        // Where the day's clock was set between this turn and the last one, bytes may bear stamps of either.
        self.steady = self.apart.is_some_and(|(before, when)| {
            before.abs_diff(apart) <= DRIFT_NS + at.saturating_sub(when) / DRIFT_PER_NS
        });
        self.apart = Some((apart, at));
    }

    /// Bytes read into the buffer, when the last of them arrived (not before `from_ns`, nor later than now), and now.
    pub fn read(
        &mut self,
        socket: &OwnedFd,
        buffer: &mut [u8],
        clock: Clock,
        from_ns: u64,
    ) -> nix::Result<(usize, u64, u64)> {
        let mut into = [IoSliceMut::new(buffer)];
        let got = recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut self.control), MsgFlags::empty())?;
        let now = clock.now();
        let stamp = got.cmsgs().ok().and_then(|mut all| {
            all.find_map(|c| match c {
                ControlMessageOwned::ScmTimestampns(t) => Some(Duration::from(t).as_nanos() as u64),
                _ => None,
            })
        });
        let bytes = got.bytes;
        let at = self.on_clock(stamp, clock).map_or(now, |at| at.clamp(from_ns.min(now), now));
        Ok((bytes, at, now))
    }

    /// A stamp of the day's clock on the clock of the phase.
    fn on_clock(&self, stamp: Option<u64>, clock: Clock) -> Option<u64> {
        let (apart, _) = self.apart.filter(|_| self.steady)?;
        Some(stamp?.wrapping_sub(apart).saturating_sub(clock.start_ns()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let sender = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        sender.set_nodelay(true).expect("it takes the option");
        let (receiver, _) = listener.accept().expect("the other end");
        (sender, OwnedFd::from(receiver))
    }

    #[test]
    fn bytes_that_were_read_late_bear_the_time_at_which_they_came() {
        let (mut sender, receiver) = pair();
        Arrivals::watch(&receiver);
        let mut arrivals = Arrivals::new();
        let clock = Clock::start();
        let mut buffer = [0; 64];
        // Stamps are switched on by the kernel a moment after they are asked for by the first socket of a machine.
        std::thread::sleep(Duration::from_millis(50));
        arrivals.turn();
        for _ in 0..5 {
            let before = clock.now();
            sender.write_all(b"token").expect("it is sent");
            let after = clock.now();
            std::thread::sleep(Duration::from_millis(30));
            arrivals.turn();
            let (n, at, _) = arrivals.read(&receiver, &mut buffer, clock, 0).expect("it is there");
            assert_eq!(n, 5);
            assert!(
                at + 1_000_000 >= before && at <= after + 10_000_000,
                "arrived at {at}, sent from {before} to {after}"
            );
        }
    }

    #[test]
    fn a_stamp_that_cannot_be_gives_way_to_the_time_of_the_read() {
        let (mut sender, receiver) = pair();
        Arrivals::watch(&receiver);
        let mut arrivals = Arrivals::new();
        let clock = Clock::start();
        sender.write_all(b"token").expect("it is sent");
        std::thread::sleep(Duration::from_millis(30));
        // The first look has none before it to compare with.
        arrivals.turn();
        let before = clock.now();
        let (_, at, _) = arrivals.read(&receiver, &mut [0; 64], clock, 0).expect("it is there");
        assert!(at >= before, "{at} is before the read at {before}");

        // The day's clock was set by an hour.
        arrivals.turn();
        assert!(arrivals.steady);
        arrivals.apart = arrivals.apart.map(|(apart, at)| (apart.wrapping_sub(3_600_000_000_000), at));
        arrivals.turn();
        assert!(!arrivals.steady);
        arrivals.turn();
        assert!(arrivals.steady);

        // What was asked for only later cannot have come before.
        sender.write_all(b"token").expect("it is sent");
        std::thread::sleep(Duration::from_millis(30));
        arrivals.turn();
        let asked = clock.now();
        let (_, at, _) = arrivals.read(&receiver, &mut [0; 64], clock, asked).expect("it is there");
        assert_eq!(at, asked);
    }

    #[test]
    fn a_socket_without_stamps_is_read_all_the_same() {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            rustix::net::SocketFlags::empty(),
            None,
        )
        .expect("a pair");
        let mut arrivals = Arrivals::new();
        let clock = Clock::start();
        arrivals.turn();
        arrivals.turn();
        rustix::net::send(&theirs, b"token", rustix::net::SendFlags::empty()).expect("it is sent");
        let before = clock.now();
        let (n, at, _) = arrivals.read(&ours, &mut [0; 64], clock, 0).expect("it is there");
        assert_eq!(n, 5);
        assert!(at >= before);
    }
}
