//! One kernel tenant inside a worker: its memory, its stream, and how it spends a phase.

use super::protocol::{Meeting, TenantDone, TenantSetup};
use cotenant_gpu::context::{
    Args, Context, DeviceBuffer, Event, GreenContext, Image, Kernel, PinnedBuffer, Stream,
};
use cotenant_gpu::cublas::Blas;
use cotenant_gpu::{Error, Result};
use cotenant_kernels::{Launch, Module, Resolved};
use cotenant_units::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Stamps that fit; a steady phase stops counting there.
const MAX_LAUNCHES: usize = 16_384;
/// 64-bit words of one stamp (`kernels/abi.cuh`).
const STAMP_WORDS: usize = 6;
/// Launches that a steady tenant keeps queued, so that the GPU never waits for the host.
const QUEUE_DEPTH: usize = 3;
/// Longest wait at the barrier: set-up of the slowest peer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Images loaded so far, one per module.
#[derive(Debug, Default)]
pub struct Images(HashMap<Module, Arc<Image>>);

impl Images {
    fn get(&mut self, module: Module) -> Result<Arc<Image>> {
        if let Some(i) = self.0.get(&module) {
            return Ok(i.clone());
        }
        let i = Arc::new(Image::load(cotenant_kernels::ptx(module))?);
        self.0.insert(module, i.clone());
        Ok(i)
    }
}

/// Sleeps until shortly before the moment, then spins.
fn wait_until(moment: Instant) {
    const SPIN: Duration = Duration::from_micros(150);
    let left = moment.saturating_duration_since(Instant::now());
    if left > SPIN {
        std::thread::sleep(left - SPIN);
    }
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

/// Where a tenant runs.
#[derive(Debug, Clone)]
pub enum Home {
    /// The process's primary context.
    Primary(Arc<Context>),
    /// A green context of it.
    Green(Arc<GreenContext>),
}

impl Home {
    /// Makes it current on this thread.
    pub fn make_current(&self) -> Result<()> {
        match self {
            Home::Primary(c) => c.make_current(),
            Home::Green(g) => g.make_current(),
        }
    }

    /// Waits for everything queued in it.
    fn synchronize(&self) -> Result<()> {
        self.make_current()?;
        cotenant_gpu::context::synchronize()
    }

    fn stream(&self, priority: i32) -> Result<Stream> {
        match self {
            Home::Primary(c) => c.stream(priority),
            Home::Green(g) => g.stream(priority),
        }
    }
}

/// A tenant, set up.
#[derive(Debug)]
pub struct Tenant {
    resolved: Resolved,
    setup: TenantSetup,
    home: Home,
    // Field order is drop order: what uses the stream goes before it.
    blas: Option<Blas>,
    end: Event,
    depth_events: Vec<Event>,
    stream: Stream,
    kernel: Option<Kernel>,
    stamper: Option<Kernel>,
    a: DeviceBuffer,
    b: DeviceBuffer,
    c: Option<DeviceBuffer>,
    pinned: Option<PinnedBuffer>,
    stamps: DeviceBuffer,
    trace: Option<DeviceBuffer>,
    iterations: u64,
    used_stamps: usize,
    schedule: Vec<u64>,
    index: u32,
}

/// Tries to read both clocks at one moment; the quickest counts.
const ANCHOR_TRIES: usize = 9;

impl Tenant {
    /// Allocates and loads everything a tenant needs on device `index`.
    ///
    /// # Errors
    /// Out of memory, a kernel this GPU cannot run, or an absent library.
    pub fn new(setup: &TenantSetup, home: Home, images: &mut Images, index: u32) -> Result<Tenant> {
        let text =
            |e: &dyn std::fmt::Display| Error::Tenant { kernel: setup.kernel.clone(), reason: e.to_string() };
        let resolved = cotenant_kernels::resolve(&setup.kernel, setup.blocks, setup.threads, &setup.params)
            .map_err(|e| text(&e))?;
        home.make_current()?;
        let stream = home.stream(setup.priority)?;
        let uses_kernel = matches!(resolved.launch, Launch::Kernel | Launch::EmptyLaunches);
        let kernel = if uses_kernel {
            let image = images.get(resolved.module)?;
            let k = image.kernel(&resolved.entry, resolved.dynamic_shared, index)?;
            if let Some(percent) = setup.carveout_percent {
                k.set_carveout(percent, index)?;
            }
            Some(k)
        } else {
            None
        };
        let stamper = if uses_kernel {
            None
        } else {
            let none = std::collections::BTreeMap::new();
            let s = cotenant_kernels::resolve("stamp", 1, 1, &none).map_err(|e| text(&e))?;
            Some(images.get(s.module)?.kernel(&s.entry, s.dynamic_shared, index)?)
        };
        let blas = if resolved.launch == Launch::Gemm { Some(Blas::new(&stream)?) } else { None };
        let pinned = match resolved.launch {
            Launch::CopyToDevice | Launch::CopyToHost => Some(PinnedBuffer::zeroed(resolved.bytes)?),
            _ => None,
        };
        // 0x3c fills fp32 with 0.0115 and fp16 with 1.06: ordinary numbers, since zeros draw less power.
        let (mut a_size, mut b_size) = (resolved.buffer_a, resolved.buffer_b);
        if resolved.launch == Launch::Gemm {
            let n = resolved.params.get("n").copied().unwrap_or(1024.0) as u64;
            (a_size, b_size) = (Bytes(n * n * 4), Bytes(n * n * 4));
        } else if pinned.is_some() {
            a_size = resolved.bytes;
        }
        let c =
            if resolved.launch == Launch::Gemm { Some(DeviceBuffer::filled(a_size, 0x3c)?) } else { None };
        let trace = if setup.trace {
            Some(DeviceBuffer::filled(Bytes(u64::from(setup.blocks) * 24), 0xff)?)
        } else {
            None
        };
        let tenant = Tenant {
            a: DeviceBuffer::filled(a_size, 0x3c)?,
            b: DeviceBuffer::filled(b_size, 0x3c)?,
            c,
            stamps: DeviceBuffer::filled(Bytes((MAX_LAUNCHES * STAMP_WORDS * 8) as u64), 0xff)?,
            trace,
            end: Event::new()?,
            depth_events: (0..QUEUE_DEPTH).map(|_| Event::new()).collect::<Result<_>>()?,
            stream,
            kernel,
            stamper,
            blas,
            pinned,
            home,
            setup: setup.clone(),
            resolved,
            iterations: 1,
            used_stamps: MAX_LAUNCHES,
            schedule: Vec::new(),
            index,
        };
        tenant.initialise(images, index)?;
        Ok(tenant)
    }

    /// Some kernels need their memory prepared by an entry of their own, `NAME_init`.
    fn initialise(&self, images: &mut Images, index: u32) -> Result<()> {
        let entry = format!("{}_init", self.resolved.entry);
        if self.kernel.is_some()
            && cotenant_kernels::ptx(self.resolved.module).contains(&format!(".entry {entry}("))
        {
            let init = images.get(self.resolved.module)?.kernel(&entry, Bytes(0), index)?;
            init.launch(&self.stream, self.setup.blocks, self.setup.threads, self.args(0, 0))?;
        }
        // Fills run on the default stream, which a non-blocking stream does not wait for: without this a late
        // fill would wipe the first stamps.
        self.home.synchronize()
    }

    /// The priority its stream got.
    pub fn priority(&self) -> Result<i32> {
        self.stream.priority()
    }

    /// Turns of the loop per launch.
    pub fn set_iterations(&mut self, n: u64) {
        self.iterations = n.max(1);
    }

    /// When requests arrive, ns from the start of a phase; empty: each follows the one before.
    pub fn set_schedule(&mut self, offsets: Vec<u64>) {
        self.schedule = offsets;
    }

    /// `CLOCK_MONOTONIC` less `%globaltimer`, ns: a stamp is taken on the device between two readings of the host's
    /// clock, which it cannot be further from than half the time between them (a few microseconds).
    pub fn anchor(&mut self, images: &mut Images) -> Result<i64> {
        self.home.make_current()?;
        let none = std::collections::BTreeMap::new();
        let stamp = cotenant_kernels::resolve("stamp", 1, 1, &none)
            .map_err(|e| Error::Tenant { kernel: "stamp".into(), reason: e.to_string() })?;
        let kernel = images.get(stamp.module)?.kernel(&stamp.entry, stamp.dynamic_shared, self.index)?;
        let mut best: Option<(u64, i64)> = None;
        for _ in 0..ANCHOR_TRIES {
            self.stream.fill(&self.stamps, 0, (STAMP_WORDS * 8) as u64, 0xff)?;
            self.stream.synchronize()?;
            let before = crate::program::monotonic_ns();
            let args = Args { stamp: self.stamps.address(), p0: 0, ..Args::default() };
            kernel.launch(&self.stream, 1, 1, args)?;
            self.stream.synchronize()?;
            let after = crate::program::monotonic_ns();
            let mut words = [u64::MAX; STAMP_WORDS];
            self.stamps.read_words(0, &mut words)?;
            let middle = before + (after - before) / 2;
            if words[0] != u64::MAX && best.is_none_or(|(width, _)| after - before < width) {
                best = Some((after - before, middle as i64 - words[0] as i64));
            }
        }
        self.used_stamps = self.used_stamps.max(1);
        best.map(|b| b.1).ok_or_else(|| Error::Tenant {
            kernel: "stamp".into(),
            reason: "the device's clock could not be read".into(),
        })
    }

    fn args(&self, stamp: u64, iterations: u64) -> Args {
        Args {
            stamp,
            trace: self.trace.as_ref().map_or(0, DeviceBuffer::address),
            iterations,
            a: self.a.address(),
            b: self.b.address(),
            bytes: self.resolved.bytes.0,
            p0: self.resolved.p0,
            p1: self.resolved.p1,
        }
    }

    /// Queues launch number `slot` of the phase.
    fn launch(&mut self, slot: usize) -> Result<()> {
        let stamp = self.stamps.address() + (slot * STAMP_WORDS * 8) as u64;
        let (blocks, threads) = (self.setup.blocks, self.setup.threads);
        match (self.resolved.launch, self.kernel) {
            (Launch::Kernel, Some(k)) => {
                k.launch(&self.stream, blocks, threads, self.args(stamp, self.iterations))
            }
            (Launch::EmptyLaunches, Some(k)) => {
                let args = self.args(stamp, 1);
                (0..self.iterations).try_for_each(|_| k.launch(&self.stream, blocks, threads, args))
            }
            (kind, _) => {
                let Some(stamper) = self.stamper else {
                    return Err(Error::Tenant {
                        kernel: self.setup.kernel.clone(),
                        reason: "it has neither an entry point nor stamps".into(),
                    });
                };
                let mark = |p0| Args { stamp, p0, ..Args::default() };
                stamper.launch(&self.stream, 1, 1, mark(0))?;
                for _ in 0..self.iterations {
                    match (kind, &self.pinned, &mut self.blas, &self.c) {
                        (Launch::CopyToDevice, Some(host), _, _) => {
                            self.stream.to_device(&self.a, host, self.resolved.bytes.0)?;
                        }
                        (Launch::CopyToHost, Some(host), _, _) => {
                            self.stream.to_host(host, &self.a, self.resolved.bytes.0)?;
                        }
                        (Launch::Gemm, _, Some(blas), Some(c)) => {
                            let n = self.resolved.params.get("n").copied().unwrap_or(1024.0) as u32;
                            blas.sgemm(n, &self.a, &self.b, c)?;
                        }
                        _ => {}
                    }
                }
                stamper.launch(&self.stream, 1, 1, mark(1))
            }
        }
    }

    /// Clears the stamps of the last phase.
    fn clear(&mut self) -> Result<()> {
        self.home.make_current()?;
        self.stream.fill(&self.stamps, 0, (self.used_stamps * STAMP_WORDS * 8) as u64, 0xff)?;
        self.used_stamps = 0;
        self.stream.synchronize()
    }

    /// Queues all launches of a sequential phase behind `after`; [`Tenant::collect`] waits for them.
    pub fn submit(&mut self, after: Option<&Tenant>) -> Result<()> {
        self.home.make_current()?;
        if let Some(t) = after {
            self.stream.wait(&t.end)?;
        }
        for slot in 0..self.setup.launches as usize {
            self.launch(slot)?;
        }
        self.used_stamps = self.setup.launches as usize;
        self.stream.record(&self.end)
    }

    /// Makes a sequential phase ready.
    pub fn prepare(&mut self) -> Result<()> {
        self.clear()
    }

    /// Runs a phase: meets the others, then works without looking at them (but for the end of a steady phase).
    pub fn run(&mut self, meeting: &Meeting, participants: u32, steady: bool) -> Result<Vec<u64>> {
        self.clear()?;
        if !meeting.wait(participants, PATIENCE) {
            return Err(Error::Tenant {
                kernel: self.setup.kernel.clone(),
                reason: "the other tenants did not come to the barrier".into(),
            });
        }
        let by_request = self.setup.request > 1 || self.setup.gap_ns > 0 || !self.schedule.is_empty();
        let requests =
            if by_request { self.run_requests(meeting, participants, steady)? } else { Vec::new() };
        if !by_request {
            if steady {
                self.run_steady(meeting, participants)?;
            } else {
                for slot in 0..self.setup.launches as usize {
                    self.launch(slot)?;
                }
                self.used_stamps = self.setup.launches as usize;
            }
        }
        self.stream.synchronize()?;
        Ok(requests)
    }

    /// Launches back to back, a few queued ahead, until everyone has what they need.
    fn run_steady(&mut self, meeting: &Meeting, participants: u32) -> Result<()> {
        let wanted = self.setup.launches as usize;
        let mut queued: VecDeque<usize> = VecDeque::with_capacity(QUEUE_DEPTH);
        let (mut sent, mut done, mut told) = (0usize, 0usize, false);
        loop {
            if queued.len() == QUEUE_DEPTH
                && let Some(slot) = queued.pop_front()
            {
                self.depth_events[slot % QUEUE_DEPTH].synchronize()?;
                done += 1;
            }
            if done >= wanted && !told {
                meeting.finish();
                told = true;
            }
            if (told && meeting.all_finished(participants)) || sent == MAX_LAUNCHES || meeting.aborted() {
                break;
            }
            self.launch(sent)?;
            self.stream.record(&self.depth_events[sent % QUEUE_DEPTH])?;
            queued.push_back(sent);
            sent += 1;
        }
        if !told {
            meeting.finish();
        }
        self.used_stamps = sent;
        Ok(())
    }

    /// Requests of several launches each, one at a time, timed on the host from before the first launch to
    /// after the last.
    fn run_requests(&mut self, meeting: &Meeting, participants: u32, steady: bool) -> Result<Vec<u64>> {
        let per = self.setup.request.max(1) as usize;
        let open = !self.schedule.is_empty();
        let wanted = if open { self.schedule.len() } else { (self.setup.launches as usize).div_ceil(per) };
        let mut out = Vec::with_capacity(wanted);
        let (mut slot, mut told) = (0usize, false);
        let started = Instant::now();
        loop {
            if out.len() >= wanted && !told {
                meeting.finish();
                told = true;
            }
            let enough = if steady { told && meeting.all_finished(participants) } else { told };
            if open && told && !enough {
                // Every arrival was served; an open loop has nothing else to do while the others go on.
                std::thread::sleep(Duration::from_micros(200));
                if meeting.aborted() {
                    break;
                }
                continue;
            }
            if enough || slot + per > MAX_LAUNCHES || meeting.aborted() {
                break;
            }
            // Latency counts from the intended arrival: waiting behind an earlier request is part of it.
            let begun = match self.schedule.get(out.len()) {
                Some(&offset) => {
                    let arrival = started + Duration::from_nanos(offset);
                    wait_until(arrival);
                    arrival
                }
                None => Instant::now(),
            };
            for _ in 0..per {
                self.launch(slot)?;
                slot += 1;
            }
            self.stream.synchronize()?;
            out.push(begun.elapsed().as_nanos() as u64);
            if self.setup.gap_ns > 0 {
                std::thread::sleep(Duration::from_nanos(self.setup.gap_ns));
            }
        }
        if !told {
            meeting.finish();
        }
        self.used_stamps = slot;
        Ok(out)
    }

    /// Waits for the work and reads the stamps back.
    pub fn collect(&mut self, tenant: usize, requests: Vec<u64>) -> Result<TenantDone> {
        self.home.make_current()?;
        self.stream.synchronize()?;
        let mut words = vec![u64::MAX; self.used_stamps * STAMP_WORDS];
        if !words.is_empty() {
            self.stamps.read_words(0, &mut words)?;
        }
        let mut done = TenantDone { tenant, requests, ..TenantDone::default() };
        for s in words.chunks_exact(STAMP_WORDS) {
            let (start, end) = (s[0], !s[1]);
            if start == u64::MAX || end < start {
                return Err(Error::Tenant {
                    kernel: self.setup.kernel.clone(),
                    reason: "a launch left no time stamp".into(),
                });
            }
            done.spans.push((start, end));
            let (cycles, ns) = (s[3].wrapping_sub(s[2]), s[5].wrapping_sub(s[4]));
            // Short launches give a coarse quotient: the timer ticks in steps of up to a microsecond.
            if s[2] != u64::MAX && s[3] != u64::MAX && (50_000..u64::MAX / 2).contains(&ns) {
                done.clocks_mhz.push(cycles as f64 / ns as f64 * 1e3);
            }
        }
        if let Some(t) = &self.trace {
            let mut words = vec![0; self.setup.blocks as usize * 3];
            t.read_words(0, &mut words)?;
            done.trace = words.chunks_exact(3).map(|w| (w[0], w[1], w[2])).collect();
        }
        Ok(done)
    }
}
