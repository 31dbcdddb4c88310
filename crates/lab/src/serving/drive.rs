//! Drives the loads of tenants on one clock.

use super::asks::{AskBodies, AskedFailure, Models, Scribe};
use super::sessions::{Begin, SessionSource};
use super::writer::{Heading, Writer};
use crate::backend::TrialError;
use cotenant_prompts::Asks;
use cotenant_serve::{
    BodyOptions, Clock, Closed, Due, Engine, Open, Options, Outcome, Source, Target, Tenant, Url,
    process_cpu_ns,
};
use cotenant_stats::Gaps;
use cotenant_store::serving::{RequestLine, RequestRecord};
use std::cell::Cell;
use std::cmp::Reverse;
use std::fs::File;
use std::rc::Rc;

/// When requests are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadSource {
    /// So many users, each with one request at a time.
    Closed {
        /// Users.
        users: u32,
        /// Pause of a user between requests, ns.
        think_ns: u64,
        /// Most requests together.
        requests: u64,
        /// None is sent after this, ns.
        until_ns: u64,
    },
    /// At these offsets from the start, ns, ascending. They are drawn before the start and are what grows with the number of
    /// requests: 8 bytes for each.
    Open {
        /// Offsets.
        times: Vec<u64>,
    },
}

/// The load of one tenant.
#[derive(Debug, Clone)]
pub struct TenantLoad {
    /// What stands before each of its records.
    pub line: RequestLine,
    /// Where its server is.
    pub url: String,
    /// Headers of each request; values may be secrets.
    pub headers: Vec<(String, String)>,
    /// What bodies have in common.
    pub body: BodyOptions,
    /// Models that single requests ask instead.
    pub models: Models,
    /// What is asked.
    pub asks: Asks,
    /// When; of sessions, when they begin.
    pub source: LoadSource,
    /// Most requests in flight.
    pub in_flight: u32,
    /// Time limit of a request, ns.
    pub timeout_ns: u64,
    /// Keep the time of each chunk.
    pub chunks: bool,
    /// Counts what has ended, and ends the load from outside.
    pub control: Option<Rc<Control>>,
}

impl TenantLoad {
    /// Requests that it is meant to have; `u64::MAX` where time ends it.
    pub fn requests(&self) -> u64 {
        match (&self.source, self.asks.sessions_of()) {
            (LoadSource::Closed { requests, .. }, _) => *requests,
            (LoadSource::Open { times }, None) => times.len() as u64,
            (LoadSource::Open { times }, Some(s)) => {
                (0..times.len() as u64).map(|i| s.turns(i).map_or(0, u64::from)).sum()
            }
        }
    }
}

/// How far a load has come, and its end from outside.
#[derive(Debug, Default)]
pub struct Control {
    /// Requests that have ended, or will not come any more.
    pub ended: Cell<u64>,
    /// No further request is sent.
    pub stop: Cell<bool>,
}

/// A source under control.
struct Controlled {
    inner: Box<dyn Source>,
    control: Rc<Control>,
}

impl Source for Controlled {
    fn due(&mut self) -> Due {
        if self.control.stop.get() { Due::Never } else { self.inner.due() }
    }

    fn take(&mut self, body: &mut Vec<u8>) -> cotenant_serve::Request {
        self.inner.take(body)
    }

    fn prepare(&mut self) {
        self.inner.prepare();
    }

    fn ended(&mut self, record: &RequestRecord, text: &str, now_ns: u64) {
        self.inner.ended(record, text, now_ns);
        self.control.ended.set(self.control.ended.get() + 1 + self.inner.forgone());
    }
}

/// What driving gave beside the records.
#[derive(Debug, Clone, PartialEq)]
pub struct Driven {
    /// How it went.
    pub outcome: Outcome,
    /// Gaps between chunks of each tenant.
    pub gaps: Vec<Gaps>,
    /// CPU time of all threads of this process meanwhile, ns: driving, and writing records.
    pub cpu_ns: u64,
    /// Time in which nothing was sent and read, since records could not be written as fast as they came, ns.
    pub writer_wait_ns: u64,
    /// When it started, ns of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
}

/// Loads that are ready to be driven.
pub struct Prepared {
    engine: Engine<'static>,
    writer: Writer,
    failure: AskedFailure,
}

/// Makes loads ready; each finished request will be appended to `file`.
///
/// # Errors
/// A URL, header or ask that cannot be made.
pub fn prepare(loads: Vec<TenantLoad>, file: File) -> Result<Prepared, TrialError> {
    let failed = |e: &dyn std::fmt::Display| TrialError::Failed(e.to_string());
    let failure: AskedFailure = Rc::default();
    let (mut tenants, mut headings) = (Vec::new(), Vec::new());
    for load in loads {
        let url = Url::parse(&load.url).map_err(|e| failed(&e))?;
        let target = Target::new(&url, load.body.api.path(), &load.headers).map_err(|e| failed(&e))?;
        // What cannot be asked at all is better known before the first request.
        load.asks.at(0).map_err(|e| failed(&e))?;
        let scribe = Scribe::new(&load.body, load.models, Rc::clone(&failure));
        let keep_text = load.asks.sessions_of().is_some();
        let connections = match &load.source {
            LoadSource::Closed { users, .. } => *users,
            LoadSource::Open { .. } => 16,
        };
        let source: Box<dyn Source> = if keep_text {
            let (begin, limits) = match load.source {
                LoadSource::Closed { users, think_ns, requests, until_ns } => {
                    let free = (0..users).map(|_| Reverse(0)).collect();
                    (Begin::Users { free, think_ns }, (requests, until_ns))
                }
                LoadSource::Open { times } => (Begin::Times(times.into()), (u64::MAX, u64::MAX)),
            };
            Box::new(SessionSource::new(load.asks, scribe, begin, limits))
        } else {
            let bodies = AskBodies::new(load.asks, scribe);
            match load.source {
                LoadSource::Closed { users, think_ns, requests, until_ns } => {
                    Box::new(Closed::new(bodies, users, think_ns, requests, until_ns))
                }
                LoadSource::Open { times } => Box::new(Open::new(bodies, times)),
            }
        };
        let source = match load.control {
            Some(control) => Box::new(Controlled { inner: source, control }),
            None => source,
        };
        headings.push(Heading { line: load.line, chunks: load.chunks });
        tenants.push(Tenant {
            target,
            source,
            in_flight: load.in_flight.max(1),
            timeout_ns: load.timeout_ns,
            keep_text,
            connections,
        });
    }
    let writer = Writer::start(file, headings).map_err(|e| failed(&e))?;
    let engine = Engine::new(tenants).map_err(|e| failed(&e))?;
    Ok(Prepared { engine, writer, failure })
}

impl Prepared {
    /// Drives the loads from `start_ns` of `CLOCK_MONOTONIC` on (`None`: now) until all are done or `stop_at_ns` after
    /// that has come. `interrupted` is asked every few milliseconds; true gives up what is in flight.
    ///
    /// # Errors
    /// An ask that cannot be made, or a file that cannot be written.
    pub fn run(
        mut self,
        start_ns: Option<u64>,
        stop_at_ns: u64,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Driven, TrialError> {
        let failed = |e: &dyn std::fmt::Display| TrialError::Failed(e.to_string());
        if let Some(at) = start_ns {
            let early = at.saturating_sub(crate::program::monotonic_ns() + 300_000);
            std::thread::sleep(std::time::Duration::from_nanos(early));
            while crate::program::monotonic_ns() < at {
                std::hint::spin_loop();
            }
        }
        let cpu_from = process_cpu_ns();
        let clock = start_ns.map_or_else(Clock::start, Clock::at);
        let (writer, failure) = (&mut self.writer, &self.failure);
        let mut sink = |who: usize, record: &_, stamps: &[u64]| writer.take(who, record, stamps);
        let stop = || interrupted() || failure.borrow().is_some();
        let outcome =
            self.engine.run(clock, Options { stop_at_ns }, &mut sink, &stop).map_err(|e| failed(&e))?;
        let writer_wait_ns = u64::try_from(self.writer.waited().as_nanos()).unwrap_or(u64::MAX);
        let (_, gaps) = self.writer.finish().map_err(|e| failed(&format!("write the requests: {e}")))?;
        let cpu_ns = process_cpu_ns() - cpu_from;
        if let Some(why) = self.failure.borrow_mut().take() {
            return Err(TrialError::Failed(why));
        }
        Ok(Driven { outcome, gaps, cpu_ns, writer_wait_ns, start_ns: clock.start_ns() })
    }
}

/// Drives the loads until all are done or `stop_at_ns` has come, and appends each finished request to `file`.
///
/// # Errors
/// As [`prepare`] and [`Prepared::run`].
pub fn drive(
    loads: Vec<TenantLoad>,
    stop_at_ns: u64,
    file: File,
    interrupted: &dyn Fn() -> bool,
) -> Result<Driven, TrialError> {
    prepare(loads, file)?.run(None, stop_at_ns, interrupted)
}
