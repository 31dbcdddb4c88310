//! The file of a recorded time line: types, reading with checks, printing.
//!
//! One file is one *median iteration* of one workload on one device. Kernels stand once in a table; the sequence
//! refers to them, one short array for each launch, so that a model of 1,200 launches takes some 30 KB.

use super::class::Class;
use cotenant_model::demand::{Demand, LaunchShape};
use cotenant_units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Version of the format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Most launches of one iteration.
const MAX_STEPS: usize = 1_000_000;
/// Longest time of anything in a file: one hour, ns.
const MAX_NS: u64 = 3_600_000_000_000;

/// Shares of the iterations that [`Recorded::wall_spread_ns`] holds the times of.
pub const SPREAD_SHARES: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

/// What was run. Two workloads are the same where all fields are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Model as named in a spec.
    pub model: String,
    /// `forward`, `prefill` or `decode`.
    pub mode: String,
    /// `fp16`, `bf16` or `fp32`.
    pub dtype: String,
    /// Sequences that run together.
    pub batch: u32,
    /// Tokens of each sequence; of the prompt in `decode`.
    pub sequence: u32,
    /// `decode`: steps until the position returns to the end of the prompt; 0 in other modes.
    pub tokens: u32,
    /// One captured graph was replayed in each iteration.
    pub cuda_graph: bool,
    /// Through `torch.compile`.
    pub compile: bool,
    /// Attention implementation.
    pub attention: String,
}

impl Workload {
    /// The name of its file, without `.json`: `MODEL-MODE-DTYPE-bBATCH-sSEQUENCE`, then what is not the default
    /// (`-tTOKENS`, `-graph`, `-compile`, attention other than `sdpa`).
    pub fn file_stem(&self) -> String {
        let mut s = format!("{}-{}-{}-b{}-s{}", self.model, self.mode, self.dtype, self.batch, self.sequence);
        if self.tokens > 0 {
            // Writing to a string cannot fail.
            let _ = write!(s, "-t{}", self.tokens);
        }
        for (on, suffix) in [(self.cuda_graph, "-graph"), (self.compile, "-compile")] {
            if on {
                s.push_str(suffix);
            }
        }
        if self.attention != "sdpa" {
            s.push('-');
            s.push_str(&self.attention);
        }
        // A model may be given as a path or hub id.
        s.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect()
    }
}

/// A kernel that is launched with one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedKernel {
    /// Mangled name, cut where it is long.
    pub name: String,
    /// What kind of work it is, by its whole name.
    pub class: Class,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Registers of a thread.
    pub registers: u32,
    /// Static shared memory of a block, bytes.
    pub static_shared: u32,
    /// Dynamic shared memory of a block, bytes.
    pub dynamic_shared: u32,
    /// What one warp asks of the machine in a 1024th of its block's time, where hardware counters told it; else it
    /// is estimated (`demand`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand: Option<Demand>,
}

impl RecordedKernel {
    /// Shape for residency.
    pub fn shape(&self) -> LaunchShape {
        let product = |v: &[u32; 3]| v.iter().fold(1u32, |a, &b| a.saturating_mul(b));
        LaunchShape {
            blocks: product(&self.grid),
            threads: product(&self.block),
            registers: self.registers,
            shared_bytes: Bytes(u64::from(self.static_shared) + u64::from(self.dynamic_shared)),
        }
    }
}

/// One launch of the sequence, in the file an array `[kernel, duration, gap, lag]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "(u32, u64, u64, u64)", into = "(u32, u64, u64, u64)")]
#[schemars(with = "(u32, u64, u64, u64)")]
pub struct Step {
    /// Index of its kernel.
    pub kernel: u32,
    /// Duration on the device, median, ns.
    pub duration_ns: u64,
    /// From the end of the launch before to the start of this one, median, ns; of the first launch: from the
    /// beginning of the iteration on the host.
    pub gap_ns: u64,
    /// Part of the gap that the device itself needs (switching kernels, small copies and settings of memory in
    /// between), ns. A gap that is longer is the host's: it had not submitted the launch yet.
    pub lag_ns: u64,
}

impl From<(u32, u64, u64, u64)> for Step {
    fn from((kernel, duration_ns, gap_ns, lag_ns): (u32, u64, u64, u64)) -> Step {
        Step { kernel, duration_ns, gap_ns, lag_ns }
    }
}

impl From<Step> for (u32, u64, u64, u64) {
    fn from(s: Step) -> Self {
        (s.kernel, s.duration_ns, s.gap_ns, s.lag_ns)
    }
}

impl Step {
    /// The host had not submitted it when the device was ready for it.
    pub fn waits_for_host(&self) -> bool {
        self.gap_ns > self.lag_ns
    }
}

/// Means of the GPU's own counters over the wall time of the untraced solo phases, percent of the whole GPU.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Device memory traffic, of the data sheet's bandwidth.
    pub dram_pct: Option<f64>,
    /// Cycles in which the tensor pipe was active.
    pub tensor_pct: Option<f64>,
    /// SM time with at least one warp.
    pub sm_active_pct: Option<f64>,
    /// Resident warps, of the most possible.
    pub sm_occupancy_pct: Option<f64>,
    /// SM clock, MHz.
    pub sm_clock_mhz: Option<f64>,
}

/// Where a time line comes from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Experiment and trial of the run.
    pub run: String,
    /// When the run was started.
    pub started: String,
    /// Device as it calls itself.
    pub device: String,
    /// Driver version.
    pub driver: String,
    /// CUDA version of the program.
    pub cuda: String,
    /// Version of PyTorch.
    pub torch: String,
    /// Version of transformers.
    pub transformers: String,
    /// Weights as the program described them.
    pub weights: String,
    /// Version of this program, with its git revision.
    pub recorder: String,
    /// Run whose phases without the kernel clock gave the wall and event times and the counters, where that is not
    /// `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<String>,
}

/// The time line of one workload on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Version of the format.
    pub format: u32,
    /// Name of the device card it belongs to.
    pub device: String,
    /// What was run.
    pub workload: Workload,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Iterations that the medians are over.
    pub iterations: u32,
    /// Iterations left out because their sequence of kernels was another.
    pub dropped: u32,
    /// Tokens of one iteration.
    pub tokens_per_iteration: u64,
    /// Device memory of the process, bytes.
    pub memory_bytes: u64,
    /// Wall time of an iteration without the kernel clock, median, ns.
    pub wall_ns: u64,
    /// The same at the shares [`SPREAD_SHARES`].
    pub wall_spread_ns: [u64; 9],
    /// Time between CUDA events around an iteration without the kernel clock, median, ns; 0: not told.
    pub event_ns: u64,
    /// Wall time of an iteration with the kernel clock on, median, ns. The sequence is from these iterations.
    pub traced_wall_ns: u64,
    /// Time in which a kernel ran, median over iterations, ns.
    pub busy_ns: u64,
    /// From the end of the last launch to the end of the iteration, median, ns.
    pub tail_ns: u64,
    /// From the end of an iteration to the beginning of the next, median, ns.
    pub between_ns: u64,
    /// What the GPU's counters said.
    pub measured: Measured,
    /// Steps before which the host read something of the device, and so waited for all launches before; ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_reads: Vec<u32>,
    /// Kernels with their shapes.
    pub kernels: Vec<RecordedKernel>,
    /// Launches in order.
    pub steps: Vec<Step>,
}

/// Why a file is no time line. Messages read after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordedError {
    /// No JSON, or not these fields.
    #[error("read a recorded time line: {0}")]
    Json(String),
    /// Another version.
    #[error("read a recorded time line of format {found}; this program reads format {FORMAT}")]
    Format {
        /// The file's version.
        found: u64,
    },
    /// Nothing in it.
    #[error("use a recorded time line without {0}; record it again")]
    Empty(&'static str),
    /// A step refers to no kernel.
    #[error("read steps[{step}] of a recorded time line: it names kernel {kernel}, and there are {kernels}")]
    NoSuchKernel {
        /// The step, from 0.
        step: usize,
        /// Its kernel.
        kernel: u32,
        /// Kernels in the table.
        kernels: usize,
    },
    /// A number that cannot be.
    #[error("read `{field}` of a recorded time line: {value} is not possible; it must be {must}")]
    Impossible {
        /// The field.
        field: String,
        /// What it holds.
        value: String,
        /// What would be right.
        must: &'static str,
    },
}

impl Recorded {
    /// Reads a time line and checks it.
    ///
    /// # Errors
    /// See [`RecordedError`].
    pub fn from_json(text: &str) -> Result<Recorded, RecordedError> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let json = |e: serde_json::Error| RecordedError::Json(e.to_string());
        // The version first: another one may have other fields.
        let v: Version = serde_json::from_str(text).map_err(json)?;
        if v.format != u64::from(FORMAT) {
            return Err(RecordedError::Format { found: v.format });
        }
        let r: Recorded = serde_json::from_str(text).map_err(json)?;
        r.check()?;
        Ok(r)
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first thing that is impossible.
    pub fn check(&self) -> Result<(), RecordedError> {
        let impossible =
            |field: String, value: String, must| RecordedError::Impossible { field, value, must };
        if self.kernels.is_empty() {
            return Err(RecordedError::Empty("kernels"));
        }
        if self.steps.is_empty() {
            return Err(RecordedError::Empty("steps"));
        }
        if self.steps.len() > MAX_STEPS {
            let n = self.steps.len().to_string();
            return Err(impossible("steps".into(), n, "at most a million launches"));
        }
        if self.iterations == 0 || self.wall_ns == 0 {
            return Err(RecordedError::Empty("iterations"));
        }
        for (i, k) in self.kernels.iter().enumerate() {
            let s = k.shape();
            if s.blocks == 0 || s.threads == 0 || s.threads > 1024 {
                let shape = format!("grid {:?}, block {:?}", k.grid, k.block);
                return Err(impossible(format!("kernels[{i}]"), shape, "blocks of 1 to 1024 threads"));
            }
        }
        for (i, s) in self.steps.iter().enumerate() {
            if s.kernel as usize >= self.kernels.len() {
                return Err(RecordedError::NoSuchKernel {
                    step: i,
                    kernel: s.kernel,
                    kernels: self.kernels.len(),
                });
            }
            if s.duration_ns.max(s.gap_ns).max(s.lag_ns) > MAX_NS || s.lag_ns > s.gap_ns {
                let v = format!("{s:?}");
                return Err(impossible(format!("steps[{i}]"), v, "times below an hour, lag within the gap"));
            }
        }
        let reads = &self.host_reads;
        if !reads.is_sorted_by(|a, b| a < b)
            || reads.iter().any(|&i| i == 0 || i as usize >= self.steps.len())
        {
            let must = "ascending numbers of steps from 1 on";
            return Err(impossible("host_reads".into(), format!("{reads:?}"), must));
        }
        let times = [
            ("wall_ns", self.wall_ns),
            ("event_ns", self.event_ns),
            ("traced_wall_ns", self.traced_wall_ns),
            ("busy_ns", self.busy_ns),
            ("tail_ns", self.tail_ns),
            ("between_ns", self.between_ns),
            ("wall_spread_ns", self.wall_spread_ns[8]),
        ];
        if let Some((field, v)) = times.into_iter().find(|t| t.1 > MAX_NS) {
            return Err(impossible(field.into(), v.to_string(), "below an hour"));
        }
        if !self.wall_spread_ns.is_sorted() || self.wall_spread_ns[0] == 0 {
            let v = format!("{:?}", self.wall_spread_ns);
            return Err(impossible("wall_spread_ns".into(), v, "above 0 and ascending"));
        }
        let m = &self.measured;
        for (field, v) in [("dram_pct", m.dram_pct), ("tensor_pct", m.tensor_pct)] {
            if v.is_some_and(|v| !(0.0..=100.0).contains(&v)) {
                let field = format!("measured.{field}");
                return Err(impossible(field, format!("{v:?}"), "from 0 to 100 percent"));
            }
        }
        Ok(())
    }

    /// The file's text: one kernel per line and sixteen launches per line, so that a difference can be read.
    ///
    /// # Errors
    /// Never for a time line that [`Recorded::check`] accepts (numbers that are no numbers cannot be printed).
    pub fn to_json(&self) -> Result<String, RecordedError> {
        let json = |e: serde_json::Error| RecordedError::Json(e.to_string());
        let bare = Recorded { kernels: Vec::new(), steps: Vec::new(), ..self.clone() };
        let mut text = serde_json::to_string_pretty(&bare).map_err(json)?;
        // What is left behind the last two fields, both empty, is written by hand.
        let end = text.rfind("\"kernels\"").unwrap_or(text.len());
        text.truncate(end);
        text.push_str("\"kernels\": [\n");
        for (i, k) in self.kernels.iter().enumerate() {
            let comma = if i + 1 < self.kernels.len() { "," } else { "" };
            let _ = writeln!(text, "    {}{comma}", serde_json::to_string(k).map_err(json)?);
        }
        text.push_str("  ],\n  \"steps\": [\n");
        let lines = self.steps.chunks(16);
        let last = lines.len();
        for (i, line) in lines.enumerate() {
            let comma = if i + 1 < last { "," } else { "" };
            let line: Result<Vec<String>, _> = line.iter().map(serde_json::to_string).collect();
            let _ = writeln!(text, "    {}{comma}", line.map_err(json)?.join(","));
        }
        text.push_str("  ]\n}\n");
        Ok(text)
    }

    /// Time of all launches, ns.
    pub fn kernel_ns(&self) -> u64 {
        self.steps.iter().map(|s| s.duration_ns).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A small valid time line: `n` launches of 10 µs on all SMs, the host submits one every `host_us`.
    pub fn sample(n: usize, host_us: u64) -> Recorded {
        let gap = (host_us * 1000).saturating_sub(10_000).max(1_200);
        let step = |i: usize| Step {
            kernel: (i % 2) as u32,
            duration_ns: 10_000,
            gap_ns: if i == 0 { 50_000 } else { gap },
            lag_ns: 1_200,
        };
        let steps: Vec<Step> = (0..n).map(step).collect();
        let wall: u64 = steps.iter().map(|s| s.duration_ns + s.gap_ns).sum::<u64>() + 10_000;
        let kernel = |name: &str, class, registers, shared| RecordedKernel {
            name: name.into(),
            class,
            grid: [132, 1, 1],
            block: [384, 1, 1],
            registers,
            static_shared: 0,
            dynamic_shared: shared,
            demand: None,
        };
        Recorded {
            format: FORMAT,
            device: "h100-sxm5-80gb".into(),
            workload: Workload {
                model: "sample".into(),
                mode: "forward".into(),
                dtype: "fp16".into(),
                batch: 8,
                sequence: 128,
                tokens: 0,
                cuda_graph: false,
                compile: false,
                attention: "sdpa".into(),
            },
            provenance: Provenance::default(),
            iterations: 100,
            dropped: 0,
            tokens_per_iteration: 1024,
            memory_bytes: 1 << 30,
            wall_ns: wall,
            wall_spread_ns: [wall; 9],
            event_ns: wall - 20_000,
            traced_wall_ns: wall,
            busy_ns: n as u64 * 10_000,
            tail_ns: 10_000,
            between_ns: 20_000,
            measured: Measured { dram_pct: Some(5.0), tensor_pct: Some(10.0), ..Measured::default() },
            host_reads: Vec::new(),
            kernels: vec![
                kernel("gemm", Class::Gemm, 168, 200_000),
                kernel("elementwise", Class::Elementwise, 32, 0),
            ],
            steps,
        }
    }

    #[test]
    fn text_and_back_is_the_same() {
        let r = sample(40, 20);
        let text = r.to_json().expect("prints");
        assert_eq!(Recorded::from_json(&text).expect("reads"), r);
        assert!(text.lines().count() < 90, "{text}");
        assert_eq!(r.workload.file_stem(), "sample-forward-fp16-b8-s128");
    }

    #[test]
    fn file_names_say_what_differs() {
        let w = Workload {
            model: "/models/my model".into(),
            mode: "decode".into(),
            tokens: 64,
            cuda_graph: true,
            attention: "eager".into(),
            ..sample(1, 1).workload
        };
        assert_eq!(w.file_stem(), "_models_my_model-decode-fp16-b8-s128-t64-graph-eager");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fails = |change: &dyn Fn(&mut Recorded)| {
            let mut r = sample(4, 20);
            change(&mut r);
            Recorded::from_json(&r.to_json().expect("prints")).expect_err("wrong").to_string()
        };
        assert!(fails(&|r| r.format = 9).contains("format 9"));
        assert!(fails(&|r| r.steps.clear()).contains("without steps"));
        assert!(fails(&|r| r.kernels.clear()).contains("without kernels"));
        assert!(fails(&|r| r.steps[2].kernel = 7).contains("steps[2]"));
        assert!(fails(&|r| r.steps[1].lag_ns = 1 << 40).contains("steps[1]"));
        assert!(fails(&|r| r.kernels[1].block = [2048, 1, 1]).contains("kernels[1]"));
        assert!(fails(&|r| r.measured.dram_pct = Some(140.0)).contains("measured.dram_pct"));
        assert!(fails(&|r| r.wall_spread_ns[3] = 0).contains("wall_spread_ns"));
        assert!(fails(&|r| r.wall_ns = u64::MAX).contains("wall_ns"));
        for reads in [vec![0], vec![4], vec![2, 1], vec![2, 2]] {
            assert!(fails(&|r| r.host_reads.clone_from(&reads)).contains("host_reads"), "{reads:?}");
        }
        assert!(matches!(Recorded::from_json("{"), Err(RecordedError::Json(_))));
        assert!(matches!(Recorded::from_json("{\"format\":1}"), Err(RecordedError::Json(_))));
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_sound(at in 0usize..4000, byte in 32u8..127) {
            let mut text = sample(20, 20).to_json().expect("prints").into_bytes();
            let n = text.len();
            text[at % n] = byte;
            if let Ok(r) = Recorded::from_json(&String::from_utf8(text).expect("ASCII")) {
                prop_assert_eq!(r.check(), Ok(()));
                let again = r.to_json().expect("prints");
                prop_assert_eq!(Recorded::from_json(&again).expect("reads"), r);
            }
        }

        #[test]
        fn any_text_is_refused(text in ".{0,200}") {
            prop_assert!(Recorded::from_json(&text).is_err());
        }
    }
}
