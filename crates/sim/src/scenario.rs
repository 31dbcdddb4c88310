//! What a simulated run is asked to do, and what it gives back.

use crate::{SimError, SmSet};
use cotenant_model::Machine;
use cotenant_model::demand::KernelLoad;
use cotenant_model::residency::{ShapeError, blocks_fit};
use cotenant_units::Bytes;

/// Default limit of events of one run.
pub const DEFAULT_EVENTS: u64 = 20_000_000;

/// Direction of a copy over the host link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Host to device.
    ToDevice,
    /// Device to host.
    ToHost,
}

/// One launch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// A kernel.
    Kernel(KernelLoad),
    /// `count` copies of `bytes` each, one after the other.
    Copy {
        /// Direction; each has an engine of its own.
        direction: Direction,
        /// Bytes of one copy.
        bytes: u64,
        /// Copies.
        count: u64,
    },
    /// `count` launches of an empty kernel: bound by the host's launch path, which the streams of a context share.
    Empty {
        /// Launches.
        count: u64,
    },
}

/// How contexts share the SMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// All at the same time: streams of one process, MPS clients, green contexts.
    #[default]
    Concurrent,
    /// One context at a time, in the card's time slices: processes without MPS.
    TimeSliced,
}

/// A stream of launches from one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Context (process) that it belongs to.
    pub context: u32,
    /// Priority; lower numbers first, as in CUDA.
    pub priority: i32,
    /// SMs that its blocks may use; `None`: all.
    pub sms: Option<SmSet>,
    /// Launches, taken in turn and again from the first.
    pub pattern: Vec<Work>,
    /// Launches to do (steady scenarios: at least to do).
    pub launches: u64,
    /// Host time of one launch, ns; `None`: the card's plain launch.
    pub launch_ns: Option<f64>,
    /// The host waits for the device after every so many launches; 0: never. (Requests are this many launches.)
    pub sync_every: u64,
    /// Host pause after each such wait, ns.
    pub gap_ns: f64,
    /// Virtual time at which the host starts, ns.
    pub start_ns: f64,
    /// The host starts only when this stream has all its launches done.
    pub after: Option<usize>,
    /// Device memory that the tenant allocates.
    pub memory: Bytes,
    /// When the host submits each launch of the pattern; `None`: one after the other, `launch_ns` each. Needs
    /// `sync_every` to be the length of the pattern.
    pub pacing: Option<Pacing>,
    /// Open loop: request `i` is not begun before `arrivals_ns[i]`, and there are as many as arrivals. Empty: the
    /// next request begins when the last has ended. Needs `sync_every`.
    pub arrivals_ns: Vec<f64>,
}

/// The host side of one launch of a paced stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PacingStep {
    /// Host time from the submission before (the first: from the beginning of the request) to this one, ns.
    pub host_ns: f64,
    /// Least pause on the device after the launch before, ns.
    pub lag_ns: f64,
    /// The host reads something of the device first: its time counts from the end of the launch before.
    pub reads: bool,
}

/// The host side of one request of a paced stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pacing {
    /// One for each launch of the pattern.
    pub steps: Vec<PacingStep>,
    /// Host time behind the last submission before the host waits for the device, ns.
    pub tail_host_ns: f64,
    /// From the end of the last launch to the host's going on, ns.
    pub sync_ns: f64,
    /// Host time between two requests that belongs to neither, ns.
    pub between_ns: f64,
    /// How host times differ from request to request: share of the requests and the factor up to which theirs is,
    /// both ascending. Empty: not at all.
    pub spread: Vec<(f64, f64)>,
}

impl Stream {
    /// One launch of `work` at time 0, default priority, all SMs, context 0.
    pub fn new(work: Work) -> Stream {
        Stream {
            context: 0,
            priority: 0,
            sms: None,
            pattern: vec![work],
            launches: 1,
            launch_ns: None,
            sync_every: 0,
            gap_ns: 0.0,
            start_ns: 0.0,
            after: None,
            memory: Bytes(0),
            pacing: None,
            arrivals_ns: Vec::new(),
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Streams; results come in this order.
    pub streams: Vec<Stream>,
    /// How contexts share the SMs.
    pub mode: Mode,
    /// All streams loop until the last has its launches; what is still under way then is left out.
    pub steady: bool,
    /// Record where and when each block ran.
    pub trace_blocks: bool,
    /// Most events before the run is given up.
    pub max_events: u64,
}

impl Scenario {
    /// These streams at the same time, each doing its launches once.
    pub fn new(streams: Vec<Stream>) -> Scenario {
        Scenario {
            streams,
            mode: Mode::Concurrent,
            steady: false,
            trace_blocks: false,
            max_events: DEFAULT_EVENTS,
        }
    }

    /// Checks that every launch can be placed and every number is one.
    ///
    /// # Errors
    /// The first thing that is impossible.
    pub fn check(&self, m: &Machine) -> Result<(), SimError> {
        if self.streams.is_empty() {
            return Err(SimError::NoStreams);
        }
        let mut memory = 0u64;
        for (stream, s) in self.streams.iter().enumerate() {
            if s.pattern.is_empty() {
                return Err(SimError::Empty { stream, what: "no work" });
            }
            if s.launches == 0 {
                return Err(SimError::Empty { stream, what: "no launches" });
            }
            if let Some(set) = &s.sms {
                match set.last() {
                    None => return Err(SimError::Shape { stream, source: ShapeError::NoSms }),
                    Some(sm) if sm >= m.spec.sms => {
                        return Err(SimError::NoSuchSm { stream, sm, last: m.spec.sms - 1 });
                    }
                    Some(_) => {}
                }
            }
            let finite = |field, v: f64| {
                if v.is_finite() && v >= 0.0 { Ok(()) } else { Err(SimError::BadNumber { stream, field }) }
            };
            finite("gap_ns", s.gap_ns)?;
            finite("start_ns", s.start_ns)?;
            finite("launch_ns", s.launch_ns.unwrap_or(0.0))?;
            check_requests(stream, s, &finite)?;
            for w in &s.pattern {
                if let Work::Kernel(k) = w {
                    blocks_fit(&m.spec, &k.shape).map_err(|source| SimError::Shape { stream, source })?;
                    check_demand(k, &finite)?;
                }
            }
            memory = memory.saturating_add(s.memory.0);
            self.check_order(stream, s)?;
        }
        if memory > m.spec.memory_bytes.0 {
            return Err(SimError::OutOfMemory { asked: Bytes(memory), have: m.spec.memory_bytes });
        }
        Ok(())
    }

    fn check_order(&self, stream: usize, s: &Stream) -> Result<(), SimError> {
        let Some(after) = s.after else { return Ok(()) };
        if self.steady {
            return Err(SimError::OrderInSteady { stream });
        }
        // Follow the chain; longer than the number of streams means a circle.
        let mut at = Some(after);
        for _ in 0..=self.streams.len() {
            match at {
                None => return Ok(()),
                Some(i) => match self.streams.get(i) {
                    Some(next) => at = next.after,
                    None => break,
                },
            }
        }
        Err(SimError::BadOrder { stream, after })
    }
}

fn check_requests(
    stream: usize,
    s: &Stream,
    finite: &impl Fn(&'static str, f64) -> Result<(), SimError>,
) -> Result<(), SimError> {
    let bad = |field| Err(SimError::BadNumber { stream, field });
    if !s.arrivals_ns.is_empty() && s.sync_every == 0 {
        return Err(SimError::NoRequests { stream, what: "arrivals" });
    }
    if s.arrivals_ns.iter().any(|a| !a.is_finite() || *a < 0.0) || !s.arrivals_ns.is_sorted() {
        return bad("arrivals_ns");
    }
    let Some(p) = &s.pacing else { return Ok(()) };
    if p.steps.len() != s.pattern.len() || s.sync_every != s.pattern.len() as u64 {
        return Err(SimError::NoRequests { stream, what: "pacing" });
    }
    for step in &p.steps {
        finite("pacing.steps.host_ns", step.host_ns)?;
        finite("pacing.steps.lag_ns", step.lag_ns)?;
    }
    finite("pacing.tail_host_ns", p.tail_host_ns)?;
    finite("pacing.sync_ns", p.sync_ns)?;
    finite("pacing.between_ns", p.between_ns)?;
    for &(share, factor) in &p.spread {
        finite("pacing.spread", share)?;
        finite("pacing.spread", factor)?;
    }
    if !p.spread.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1) {
        return bad("pacing.spread");
    }
    Ok(())
}

fn check_demand(
    k: &KernelLoad,
    finite: &impl Fn(&'static str, f64) -> Result<(), SimError>,
) -> Result<(), SimError> {
    let d = &k.demand;
    for (field, v) in [
        ("demand.issue", d.issue),
        ("demand.pipes.fma", d.pipes.fma),
        ("demand.pipes.fp64", d.pipes.fp64),
        ("demand.pipes.alu", d.pipes.alu),
        ("demand.pipes.fp16", d.pipes.fp16),
        ("demand.pipes.xu", d.pipes.xu),
        ("demand.pipes.tensor", d.pipes.tensor),
        ("demand.pipes.lsu", d.pipes.lsu),
        ("demand.chain_cycles", d.chain_cycles),
        ("demand.sleep_ns", d.sleep_ns),
        ("demand.load_bytes", d.load_bytes),
        ("demand.store_bytes", d.store_bytes),
        ("demand.inflight_bytes", d.inflight_bytes),
        ("demand.footprint_bytes", d.footprint_bytes),
        ("demand.block_footprint_bytes", d.block_footprint_bytes),
        ("demand.smem_wavefronts", d.smem_wavefronts),
        ("demand.l2_atomics", d.l2_atomics),
    ] {
        finite(field, v)?;
    }
    Ok(())
}

/// One launch as it ran; virtual ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The host began the launch.
    pub submit_ns: u64,
    /// The first block was placed.
    pub start_ns: u64,
    /// The last block ended.
    pub end_ns: u64,
}

/// One request as the host saw it; virtual ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// When it arrived; in a closed loop when the host began it.
    pub arrival_ns: u64,
    /// The host began it.
    pub begin_ns: u64,
    /// The host knew that its last launch had ended.
    pub end_ns: u64,
}

/// Launches of one stream in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamResult {
    /// One for each launch that ended.
    pub launches: Vec<Span>,
    /// One for each `sync_every` launches that ended; empty where that is 0.
    pub requests: Vec<Request>,
}

/// One block as it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSpan {
    /// Stream.
    pub stream: u32,
    /// Launch of that stream.
    pub launch: u64,
    /// SM.
    pub sm: u32,
    /// Placed, ns.
    pub start_ns: u64,
    /// Ended, ns.
    pub end_ns: u64,
}

/// What a run gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Streams in the scenario's order.
    pub streams: Vec<StreamResult>,
    /// Blocks in the order they ended; empty unless `trace_blocks`.
    pub blocks: Vec<BlockSpan>,
    /// Events processed.
    pub events: u64,
    /// Times the model was solved (other times its answer was remembered, from this run or an earlier one of the GPU).
    pub solves: u64,
}

impl Outcome {
    /// First start to last end over all streams, ns.
    pub fn makespan_ns(&self) -> u64 {
        let spans = || self.streams.iter().flat_map(|s| &s.launches);
        let start = spans().map(|s| s.start_ns).min().unwrap_or(0);
        spans().map(|s| s.end_ns).max().unwrap_or(0).saturating_sub(start)
    }
}
