//! The kernel clock of a program: the injected library's traces, switched on for a phase and read after it.

use crate::backend::{DeviceTime, TenantRun};
use cotenant_timeline::{Control, Interval, Trace, traces_in};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for the library to switch: it flushes what the GPU driver still holds.
const SWITCH: Duration = Duration::from_secs(20);

/// The traces of one program: one for each of its processes that uses CUDA.
#[derive(Debug)]
pub struct Tracer {
    folder: PathBuf,
    /// Each with its reader, once there is something to read.
    traces: Vec<(PathBuf, Control, Option<Trace>)>,
    /// Why there is no kernel clock, if there is none.
    off: Option<String>,
}

impl Tracer {
    /// The tracer of a program that writes to `folder`.
    pub fn new(folder: PathBuf) -> Tracer {
        Tracer { folder, traces: Vec::new(), off: None }
    }

    /// Why the kernel clock is off, if it is.
    pub fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// Takes in processes that have come since; tells whether there is any to trace.
    fn refresh(&mut self) -> bool {
        match traces_in(&self.folder) {
            Ok(found) => {
                for (_, path) in found {
                    if self.traces.iter().all(|(p, ..)| *p != path) {
                        match Control::open(&path) {
                            Ok(control) => self.traces.push((path, control, None)),
                            Err(e) => self.off = Some(e.to_string()),
                        }
                    }
                }
            }
            Err(e) => self.off = Some(format!("list the traces: {e}")),
        }
        if self.traces.is_empty() && self.off.is_none() {
            self.off = Some("the program has not loaded CUDA, or not the injected library".into());
        }
        !self.traces.is_empty()
    }

    /// Switches recording on. False where there is nothing to switch; [`Tracer::off`] then says why.
    pub fn on(&mut self) -> bool {
        if !self.refresh() {
            return false;
        }
        let mut any = false;
        for (_, control, _) in &mut self.traces {
            match control.switch(true, SWITCH) {
                Ok(()) => any = true,
                Err(e) => self.off = Some(e.to_string()),
            }
        }
        any
    }

    /// Switches recording off and takes the recorder out of the program, which must be idle. False where something of it
    /// stays, which costs a few percent where launches are the limit: such a process is not measured again.
    pub fn detach(&mut self) -> bool {
        let mut clean = true;
        for (_, control, _) in &mut self.traces {
            match control.detach(SWITCH) {
                Ok(gone) => clean &= gone,
                Err(e) => {
                    self.off = Some(e.to_string());
                    clean = false;
                }
            }
        }
        clean
    }

    /// Device time of each iteration of a phase that was recorded; empty where it cannot be told.
    pub fn read(&mut self, run: &TenantRun) -> Vec<DeviceTime> {
        let intervals: Vec<Interval> =
            run.spans.iter().map(|&(start_ns, end_ns)| Interval { start_ns, end_ns }).collect();
        let mut out = vec![DeviceTime::default(); intervals.len()];
        let mut seen = false;
        for (path, _, trace) in &mut self.traces {
            let opened = match trace.take() {
                Some(mut t) => t.update().map(|()| t),
                None => Trace::read(path),
            };
            let mut t = match opened {
                Ok(t) => t,
                Err(e) => {
                    self.off = Some(e.to_string());
                    continue;
                }
            };
            match t.device_time(&intervals) {
                Ok(a) => {
                    seen |= a.iterations.iter().any(|i| i.kernels.count > 0);
                    for (sum, one) in out.iter_mut().zip(a.iterations) {
                        sum.sum_ns += one.kernels.sum_ns;
                        // Processes of one program: their unions add up where they do not overlap. One process is
                        // the rule.
                        sum.union_ns += one.kernels.union_ns;
                        sum.kernels =
                            sum.kernels.saturating_add(one.kernels.count.min(u64::from(u32::MAX)) as u32);
                    }
                }
                Err(e) => self.off = Some(e.to_string()),
            }
            if t.counters.lost_any() {
                self.off = Some("records were lost".into());
            }
            t.clear_executions();
            *trace = Some(t);
        }
        if seen { out } else { Vec::new() }
    }

    /// Copies what was recorded into a folder, as `NUMBER-PID.trace`.
    ///
    /// # Errors
    /// As copying files.
    pub fn save(&self, to: &Path, number: u64) -> std::io::Result<()> {
        for (path, _, trace) in &self.traces {
            if let (Some(name), Some(_)) = (path.file_name(), trace) {
                std::fs::copy(path, to.join(format!("{number}-{}", name.to_string_lossy())))?;
            }
        }
        Ok(())
    }
}
