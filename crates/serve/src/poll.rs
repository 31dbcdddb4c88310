//! Waiting for sockets, with deadlines in nanoseconds.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Most events of one wait. More wait in the kernel for the next one.
const EVENTS: usize = 512;

/// An epoll instance. Level-triggered: what is not read is told of again.
pub(crate) struct Poll {
    fd: OwnedFd,
    events: Vec<Event>,
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub key: u64,
    /// There is something to read, or it was closed, or it failed: a read tells.
    pub readable: bool,
    pub writable: bool,
}

impl Poll {
    pub fn new() -> Result<Poll, Errno> {
        Ok(Poll { fd: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
    }

    fn flags(write: bool) -> EventFlags {
        if write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
    }

    pub fn add(&self, socket: impl AsFd, key: u64, write: bool) -> Result<(), Errno> {
        epoll::add(&self.fd, socket, EventData::new_u64(key), Self::flags(write))
    }

    pub fn change(&self, socket: impl AsFd, key: u64, write: bool) -> Result<(), Errno> {
        epoll::modify(&self.fd, socket, EventData::new_u64(key), Self::flags(write))
    }

    /// Waits until a socket is ready or `timeout_ns` has passed, and puts what is ready into `out`.
    pub fn wait(&mut self, timeout_ns: u64, out: &mut Vec<Ready>) -> Result<(), Errno> {
        out.clear();
        self.events.clear();
        let timeout = Timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as i64,
            tv_nsec: (timeout_ns % 1_000_000_000) as i64,
        };
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        out.extend(self.events.iter().map(|e| {
            let flags = e.flags;
            Ready {
                key: e.data.u64(),
                readable: flags
                    .intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP),
                writable: flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}
