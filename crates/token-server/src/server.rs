//! The thread with the event loop, and the handle on it.

use crate::connection::{Connection, Fate};
use crate::context::{Context, Key};
use crate::error::ServerError;
use crate::options::Options;
use crate::pace::Source;
use crate::truth::{Ledger, Truth, now_ns};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::cmp::Reverse;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Events that are taken from the kernel at a time.
const EVENTS: usize = 1024;
/// Names of what is not a connection; those of connections have a slot below 2^32 - 2.
const LISTENER: u64 = u64::MAX;
const WAKER: u64 = u64::MAX - 1;
/// How long no connection is accepted after the system had no descriptor for one, ns.
const ACCEPT_PAUSE_NS: u64 = 10_000_000;
/// An iteration that is seen to end later than this is followed by one that starts now, not when it should have: so
/// much lateness is no jitter of the loop, but a process that was stopped.
const LATE_STEP_NS: u64 = 5_000_000;

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct Handle {
    port: u16,
    ledger: Arc<Ledger>,
    waker: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a server in a thread of its own.
///
/// # Errors
/// When an option cannot be, the port cannot be opened, or the system refuses the loop's descriptors or thread.
pub fn spawn(options: Options) -> Result<Handle, ServerError> {
    options.check()?;
    let system = |what| move |e: rustix::io::Errno| ServerError::System { what, source: e.into() };
    let port = options.port;
    let bind = |source| ServerError::Bind { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    // The standard library's queue is short: a burst of connections would wait a second for its second try.
    rustix::net::listen(&listener, BACKLOG).map_err(|e| bind(e.into()))?;
    let port = listener.local_addr().map_err(bind)?.port();

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("an epoll descriptor"))?;
    let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("an eventfd"))?;
    let waker = Arc::new(waker);
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)
        .map_err(system("to watch the listener"))?;
    epoll::add(&epoll, &*waker, EventData::new_u64(WAKER), EventFlags::IN)
        .map_err(system("to watch an eventfd"))?;

    let ledger = Arc::new(Ledger::new(options.truth_limit));
    let stop = Arc::new(AtomicBool::new(false));
    let server = Server {
        context: Context::new(options, Arc::clone(&ledger)),
        epoll,
        listener,
        waker: Arc::clone(&waker),
        stop: Arc::clone(&stop),
        connections: Vec::new(),
        free: Vec::new(),
        serial: 0,
        step_end: None,
        accept_at: None,
    };
    let thread = std::thread::Builder::new()
        .name("token-server".to_owned())
        .spawn(move || server.run())
        .map_err(|source| ServerError::System { what: "a thread", source })?;
    Ok(Handle { port, ledger, waker, stop, thread: Some(thread) })
}

impl Handle {
    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, such as `http://127.0.0.1:8000`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests that have finished since the last call of this or of `/truth`, in the order of their ends.
    pub fn truth(&self) -> Vec<Truth> {
        self.ledger.take()
    }

    /// Whether the loop still runs: it ends on its own only when the system refuses to wait.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Stops the server and waits for its thread. Connections are closed, answers under way are cut. What is returned are the
    /// requests that had finished since [`Handle::truth`] was called last.
    pub fn stop(mut self) -> Vec<Truth> {
        self.end();
        self.ledger.take()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        // An eventfd that is full wakes the loop as well.
        let _ = rustix::io::write(&*self.waker, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// The loop's state.
struct Server {
    context: Context,
    epoll: OwnedFd,
    listener: TcpListener,
    waker: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    connections: Vec<Option<Connection>>,
    /// Slots of `connections` without one.
    free: Vec<u32>,
    serial: u32,
    /// When the engine's iteration ends.
    step_end: Option<u64>,
    /// When connections are accepted again.
    accept_at: Option<u64>,
}

impl Server {
    fn run(mut self) {
        // Without it the kernel may let a timer ring 50 us late to save a wake-up. The loop works anyhow.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        while !self.stop.load(Ordering::Acquire) {
            let timeout = self.next_due().map(|due| timespec(due.saturating_sub(now_ns())));
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            let mut now = now_ns();
            while let Some(until) = self.context.frozen_until(now) {
                if self.sleep(until.saturating_sub(now)) {
                    return;
                }
                now = now_ns();
            }
            self.ring_timers(now);
            self.end_iteration(now);
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    name => self.connection_event(name, event.flags),
                }
            }
            self.give_turns();
            if self.step_end.is_none()
                && let Some(engine) = &mut self.context.engine
            {
                self.step_end = engine.start_step(now_ns());
            }
            if self.accept_at.is_some_and(|at| at <= now) {
                self.accept_at = None;
                self.watch_listener(EventFlags::IN);
            }
        }
    }

    /// When something is to be done without a client's doing.
    fn next_due(&self) -> Option<u64> {
        let timer = self.context.timers.peek().map(|Reverse((due, _))| *due);
        [timer, self.step_end, self.accept_at].into_iter().flatten().min()
    }

    /// Sleeps. Whether the server is to stop.
    fn sleep(&self, ns: u64) -> bool {
        let mut fds = [PollFd::new(&*self.waker, PollFlags::IN)];
        // An error or an early end is made up for by the caller's next look at the clock.
        let _ = poll(&mut fds, Some(&timespec(ns)));
        self.stop.load(Ordering::Acquire)
    }

    fn ring_timers(&mut self, now: u64) {
        while let Some(&Reverse((due, key))) = self.context.timers.peek()
            && due <= now
        {
            self.context.timers.pop();
            let current = self.connection(key.slot).and_then(|c| c.timer());
            if current == Some((key.id, due)) {
                self.resume(key, now, |answer| answer.timer_ns = 0);
            }
        }
    }

    /// Ends the engine's iteration if it is time, hands out its tokens, and begins the next.
    fn end_iteration(&mut self, now: u64) {
        while let Some(end) = self.step_end.filter(|&end| end <= now) {
            let Some(engine) = &mut self.context.engine else { return };
            let emitted = engine.finish_step().to_vec();
            let next_start = if now - end > LATE_STEP_NS { now } else { end };
            for token in emitted {
                self.resume(token.key, now, |answer| {
                    if let Source::Granted { tokens, since_ns } = &mut answer.schedule.source {
                        *tokens += 1;
                        *since_ns = end;
                    }
                });
            }
            let Some(engine) = &mut self.context.engine else { return };
            self.step_end = engine.start_step(next_start);
        }
    }

    /// Tells requests that waited under the running limit that they may start.
    fn give_turns(&mut self) {
        while let Some(key) = self.context.turns.pop_front() {
            let now = now_ns();
            self.resume(key, now, |answer| {
                if let Source::Fixed { start_ns, .. } = &mut answer.schedule.source {
                    *start_ns = Some(now);
                }
            });
        }
    }

    fn connection(&mut self, slot: u32) -> Option<&mut Connection> {
        self.connections.get_mut(slot as usize)?.as_mut()
    }

    fn resume(&mut self, key: Key, now: u64, change: impl FnOnce(&mut crate::answer::Answer)) {
        let Some(Some(connection)) = self.connections.get_mut(key.slot as usize) else { return };
        let fate = connection.resume(key, now, &mut self.context, change);
        self.settle(key.slot, fate);
    }

    fn connection_event(&mut self, name: u64, flags: EventFlags) {
        // The name is the serial in the upper half and the slot in the lower.
        let (serial, slot) = ((name >> 32) as u32, name as u32);
        let Some(Some(connection)) = self.connections.get_mut(slot as usize) else { return };
        if connection.serial == serial {
            let fate = connection.event(slot, flags, &mut self.context);
            self.settle(slot, fate);
        }
    }

    /// Drops a connection that is over; else tells epoll what it waits for now.
    fn settle(&mut self, slot: u32, fate: Fate) {
        let Some(entry) = self.connections.get_mut(slot as usize) else { return };
        let Some(connection) = entry else { return };
        let mut over = fate == Fate::Over;
        let wanted = connection.wanted_interest();
        if !over && wanted != connection.interest {
            connection.interest = wanted;
            let data = EventData::new_u64(name(connection.serial, slot));
            over = epoll::modify(&self.epoll, connection.stream(), data, wanted).is_err();
        }
        if over {
            connection.abort(&mut self.context);
            *entry = None;
            self.free.push(slot);
        }
    }

    fn accept(&mut self) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) =>
                {
                    continue;
                }
                Err(_) => {
                    // Out of descriptors: epoll would say the same at once, again and again.
                    self.watch_listener(EventFlags::empty());
                    self.accept_at = Some(now_ns().saturating_add(ACCEPT_PAUSE_NS));
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                // A process has far fewer descriptors than 2^32.
                (self.connections.len() - 1) as u32
            });
            self.serial = self.serial.wrapping_add(1);
            let connection = Connection::new(stream, self.context.options.shape.write_bytes, self.serial);
            let data = EventData::new_u64(name(self.serial, slot));
            let added = epoll::add(&self.epoll, connection.stream(), data, connection.interest);
            match self.connections.get_mut(slot as usize) {
                Some(entry) if added.is_ok() => {
                    *entry = Some(connection);
                    self.context.counters.connections += 1;
                }
                _ => self.free.push(slot),
            }
        }
    }

    fn watch_listener(&self, flags: EventFlags) {
        // It fails only for a descriptor that is not watched.
        let _ = epoll::modify(&self.epoll, &self.listener, EventData::new_u64(LISTENER), flags);
    }
}

/// What epoll calls a connection.
fn name(serial: u32, slot: u32) -> u64 {
    u64::from(serial) << 32 | u64::from(slot)
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: (ns / 1_000_000_000).try_into().unwrap_or(i64::MAX),
        // Below 10^9.
        tv_nsec: (ns % 1_000_000_000) as _,
    }
}
