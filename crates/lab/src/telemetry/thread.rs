//! The thread that reads NVML, and what others ask of it.

use super::lag;
use super::log::Log;
use super::pace::Pace;
use super::row::{Row, Span};
use crate::clock::ns as clock;
use cotenant_gpu::nvml::{Gpm, GpmGap, GpmSnapshot, Monitor, Reading, Sampler};
use cotenant_store::format::GpuState;
use rustix::time::ClockId;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MS: u64 = 1_000_000;
/// Longest sleep, so that the thread ends soon when it should.
const NAP: u64 = 50 * MS;
/// A row at least this often, also where nothing has changed: 10 Hz.
const ROW: u64 = 90 * MS;
/// From one window of GPM to the first look for the next: the GPU renews its counters every 100 ms, and looking a little
/// too early keeps the looks at the moment of renewal.
const GPM_NEXT: u64 = 99 * MS;
/// To the next look, where the counters were still the old ones.
const GPM_RETRY: u64 = 5 * MS;
/// Looks in vain before they become rare (a GPU that sleeps renews nothing).
const GPM_PATIENCE: u32 = 30;
/// How long ago a window of GPM ended when its counters are seen to be new. The GPU counts in windows of 100 ms of its
/// own, and publishes them later: on an H100 15 to 120 ms later, the same until the host starts anew. This is taken until
/// [`Telemetry::align`] has measured it.
const GPM_AGE: u64 = 50 * MS;

/// Groups of reads, for [`Telemetry::costs`].
const GROUPS: [&str; 5] = ["values", "memory", "gpm", "graphics", "energy"];

/// The thread. Stops when dropped.
#[derive(Debug)]
pub struct Telemetry {
    shared: Arc<Shared>,
    gpm: Result<(), GpmGap>,
    /// One moment on both clocks.
    base: (Instant, u64),
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    stop: AtomicBool,
    /// CPU time of the thread so far, ns.
    cpu: AtomicU64,
    /// CPU time of each group of reads so far, ns.
    groups: [AtomicU64; 5],
    /// Age of GPM's windows beyond [`GPM_AGE`], ns.
    later: AtomicI64,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telemetry {
    /// Starts reading NVML's GPU `index`. Where there is no such GPU nothing is ever read.
    pub fn start(monitor: Monitor, index: u32) -> Telemetry {
        let shared: Arc<Shared> = Arc::default();
        let gpm = monitor.sampler(index).map_or_else(|e| Err(GpmGap::Refused(e.to_string())), |s| s.gpm());
        let base = (Instant::now(), clock(ClockId::Monotonic));
        let s = shared.clone();
        let thread = std::thread::spawn(move || {
            if let Ok(sampler) = monitor.sampler(index) {
                Reader::new(sampler).run(&s);
            }
        });
        Telemetry { shared, gpm, base, thread: Some(thread) }
    }

    /// Mean state between two moments; see [`Telemetry::between_ns`].
    pub fn between(&self, from: Instant, to: Instant) -> Option<GpuState> {
        self.between_ns(self.monotonic_ns(from), self.monotonic_ns(to))
    }

    /// Mean state between two moments of CLOCK_MONOTONIC, ns: by time where readings fell between them, the nearest
    /// reading else. `None` where none is within two seconds.
    ///
    /// GPM's counters come up to 200 ms late: asked for sooner, the last windows of the stretch are missing, which
    /// leaves the means right for a stretch that is the same all along.
    pub fn between_ns(&self, from_ns: u64, to_ns: u64) -> Option<GpuState> {
        self.shared.log().state(from_ns, to_ns)
    }

    /// A moment in ns of CLOCK_MONOTONIC.
    pub fn monotonic_ns(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.base.0) {
            Some(later) => self.base.1 + later.as_nanos() as u64,
            None => self.base.1.saturating_sub(self.base.0.duration_since(at).as_nanos() as u64),
        }
    }

    /// Measures how late GPM's windows are from stretches (ns of CLOCK_MONOTONIC) in which a kernel kept all SMs busy,
    /// with nothing on the GPU before, between and 300 ms after them. Windows from now on are stated right. Returns the
    /// age, ns, or `None` where the windows do not show the pulses; then nothing changes.
    pub fn align(&self, busy: &[(u64, u64)]) -> Option<u64> {
        let from = busy.iter().map(|b| b.0).min()?.saturating_sub(200 * MS);
        let windows = self.shared.log().active_since(from);
        let more = lag::lag(&windows, busy)?;
        let age = GPM_AGE
            .saturating_add_signed(self.shared.later.load(Ordering::Relaxed))
            .saturating_add_signed(more);
        self.shared.later.store(age as i64 - GPM_AGE as i64, Ordering::Relaxed);
        Some(age)
    }

    /// New readings as rows of `telemetry.csv`.
    pub fn drain(&mut self) -> Vec<String> {
        self.shared.log().drain(self.base.1)
    }

    /// Share of one core that the thread has taken since it was started, 0..1.
    pub fn cost(&self) -> f64 {
        self.cpu_time().as_secs_f64() / self.base.0.elapsed().as_secs_f64().max(1e-9)
    }

    /// CPU time that the thread has taken: two of these give the share of a stretch.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu.load(Ordering::Relaxed))
    }

    /// CPU time by groups of reads: `values` (clocks, power, temperature, throttle reasons, utilisation), `memory`
    /// (and processes), `gpm`, `graphics`, `energy`.
    pub fn costs(&self) -> Vec<(&'static str, Duration)> {
        let time = |cpu: &AtomicU64| Duration::from_nanos(cpu.load(Ordering::Relaxed));
        GROUPS.into_iter().zip(self.shared.groups.iter().map(time)).collect()
    }

    /// Whether the GPU tells its counters, and if not, why the columns are empty.
    ///
    /// # Errors
    /// The reason.
    pub fn gpm(&self) -> Result<(), GpmGap> {
        self.gpm.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// What the thread keeps between rounds. The shares of a core add up to 0.5 %; GPM takes another 0.05 to 0.15 % and the
/// rounds themselves as much.
struct Reader<'m> {
    sampler: Sampler<'m>,
    values: Pace,
    memory: Pace,
    graphics: Pace,
    energy: Pace,
    known: Reading,
    windows: Windows<'m>,
}

impl<'m> Reader<'m> {
    fn new(sampler: Sampler<'m>) -> Reader<'m> {
        Reader {
            sampler,
            values: Pace::new(33 * MS, 100 * MS, 0.0025),
            memory: Pace::new(500 * MS, 5_000 * MS, 0.0005),
            graphics: Pace::new(1_000 * MS, 10_000 * MS, 0.0005),
            energy: Pace::new(1_000 * MS, 10_000 * MS, 0.0015),
            known: Reading::default(),
            windows: Windows::default(),
        }
    }

    fn run(mut self, shared: &Shared) {
        while !shared.stop.load(Ordering::Relaxed) {
            self.windows.age = GPM_AGE.saturating_add_signed(shared.later.load(Ordering::Relaxed));
            let row = self.round(&shared.groups);
            {
                let mut log = shared.log();
                let last = log.last();
                let late = last.is_none_or(|l| row.at >= l.at + ROW);
                let changed = late || row.has_news() || last.is_some_and(|l| l.reading != row.reading);
                // A GPU that tells nothing at all (lost, or the end of the driver) leaves no rows.
                if changed && (row.has_news() || row.reading != Reading::default()) {
                    log.push(row);
                }
            }
            shared.cpu.store(clock(ClockId::ThreadCPUTime), Ordering::Relaxed);
            let now = clock(ClockId::Monotonic);
            let gpm = if self.sampler.gpm().is_ok() { self.windows.next } else { u64::MAX };
            let next = self.values.due().min(gpm).min(now + NAP);
            std::thread::sleep(Duration::from_nanos(next.saturating_sub(now)));
        }
    }

    /// Reads what is due.
    fn round(&mut self, costs: &[AtomicU64; 5]) -> Row {
        let mut row = Row { at: clock(ClockId::Monotonic), ..Row::default() };
        let now = row.at;
        let [values, memory, gpm, graphics, energy] = costs;
        if self.values.is_due(now) {
            let memory_used = self.known.memory_used;
            let cpu = timed(values, || self.known = Reading { memory_used, ..self.sampler.read() });
            self.values.done(now, cpu);
        }
        if self.memory.is_due(now) {
            let cpu = timed(memory, || {
                self.known.memory_used = self.sampler.memory_used();
                row.processes = self.sampler.processes();
            });
            self.memory.done(now, cpu);
        }
        if now >= self.windows.next && self.sampler.gpm().is_ok() {
            timed(gpm, || row.gpm = self.windows.step(&self.sampler));
        }
        if self.graphics.is_due(now) && self.windows.has_graphics() {
            let cpu = timed(graphics, || row.graphics = self.windows.graphics(&self.sampler));
            self.graphics.done(now, cpu);
        }
        if self.energy.is_due(now) {
            let cpu = timed(energy, || row.energy_mj = self.sampler.energy_mj());
            self.energy.done(now, cpu);
            // It takes milliseconds; the reading is of the end of the round.
            row.at = clock(ClockId::Monotonic);
        }
        row.reading = self.known.clone();
        row
    }
}

/// Reads, and adds the CPU time that it took, ns, which is returned, to a sum.
fn timed(sum: &AtomicU64, read: impl FnOnce()) -> u64 {
    let before = clock(ClockId::ThreadCPUTime);
    read();
    let cpu = clock(ClockId::ThreadCPUTime).saturating_sub(before);
    sum.fetch_add(cpu, Ordering::Relaxed);
    cpu
}

/// A snapshot and when it was taken, ns.
type Taken<'m> = (Rc<GpmSnapshot<'m>>, u64);

/// Makes windows out of snapshots: one whenever the GPU has renewed its counters.
#[derive(Default)]
struct Windows<'m> {
    /// The last snapshot with new counters.
    base: Option<Taken<'m>>,
    /// Whether `base` was taken when the counters were seen to change, not just at some time after.
    in_step: bool,
    /// Looks since the counters were new.
    vain: u32,
    /// When to look again, ns.
    next: u64,
    /// Start of the stretch for which the busy time of the engines is asked.
    graphics: Option<Taken<'m>>,
    /// Age of a window when it is seen to be new, ns.
    age: u64,
}

impl<'m> Windows<'m> {
    /// Takes a snapshot, and makes a window of it if the counters are new.
    fn step(&mut self, sampler: &Sampler<'m>) -> Option<Span<Gpm>> {
        let before = clock(ClockId::Monotonic);
        self.vain += 1;
        self.next = before + if self.vain > GPM_PATIENCE { NAP } else { GPM_RETRY };
        let snapshot = Rc::new(sampler.gpm_snapshot()?);
        let at = before.midpoint(clock(ClockId::Monotonic));
        let Some((base, base_at)) = &self.base else {
            self.base = Some((snapshot.clone(), at));
            self.graphics = Some((snapshot, at));
            return None;
        };
        let value = sampler.gpm_between(base, &snapshot)?;
        let span = Span { from: base_at.saturating_sub(self.age), to: at.saturating_sub(self.age), value };
        self.base = Some((snapshot, at));
        self.vain = 0;
        self.next = at + GPM_NEXT;
        std::mem::replace(&mut self.in_step, true).then_some(span)
    }

    fn has_graphics(&self) -> bool {
        let at = |t: &Option<Taken<'_>>| t.as_ref().map(|t| t.1);
        at(&self.base) > at(&self.graphics)
    }

    fn graphics(&mut self, sampler: &Sampler<'m>) -> Option<Span<f64>> {
        let (to, from) = (self.base.clone()?, self.graphics.take()?);
        let value = sampler.graphics_between(&from.0, &to.0);
        let age = |at: u64| at.saturating_sub(self.age);
        let span = value.map(|value| Span { from: age(from.1), to: age(to.1), value });
        self.graphics = Some(to);
        span
    }
}
