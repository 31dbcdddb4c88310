//! The device card: what one GPU offers, from its data sheet and from measurements on it.
//!
//! A card is a JSON document of format 1. `spec` comes from the driver and the data sheet and is always complete.
//! Every other section is measured: each has a `source` that says how and when, and each value in it may be
//! absent. What is absent is estimated from `spec` by [`crate::Machine::new`], by the rules written there.

use crate::curve::Curve;
use cotenant_units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the card's format.
pub const FORMAT: u32 = 1;

/// The most SMs that a card may have (the simulator keeps sets of SMs in that many bits).
pub const MAX_SMS: u32 = 256;

/// What one GPU offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceCard {
    /// Format version, 1.
    pub format: u32,
    /// Name of the card: lower-case letters, digits and hyphens, for example `h100-sxm5-80gb`.
    pub name: String,
    /// Name of the device as its driver gives it.
    pub device: String,
    /// The measured sections come from one device of this kind, by `cotenant probe`. False: they come from
    /// published numbers, are scaled from another card, or are absent.
    pub measured: bool,
    /// Where the numbers come from: driver, date, documents; one line each.
    pub provenance: Vec<String>,
    /// Data sheet.
    pub spec: Spec,
    /// Highest rates reached.
    #[serde(default)]
    pub ceilings: Ceilings,
    /// Latencies of a single access with nothing else running.
    #[serde(default)]
    pub latency: Latency,
    /// Latency against bandwidth.
    #[serde(default)]
    pub loaded_latency: LoadedLatency,
    /// Share of accesses that miss against the footprint.
    #[serde(default)]
    pub capacity: Capacity,
    /// How softly each station saturates.
    #[serde(default)]
    pub knees: Knees,
    /// Who wins at a full issue slot.
    #[serde(default)]
    pub issue: Issue,
    /// How tenants get in each other's way below and at saturation.
    #[serde(default)]
    pub contention: Contention,
    /// Costs of launching.
    #[serde(default)]
    pub launch: Launch,
    /// What the sharing modes grant.
    #[serde(default)]
    pub sharing: SharingFacts,
    /// How blocks are placed.
    #[serde(default)]
    pub placement: Placement,
    /// SM clock under load.
    #[serde(default)]
    pub clock: Clock,
}

/// Data sheet and driver attributes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Highest SM clock, MHz.
    pub clock_mhz_max: f64,
    /// Instructions issued per cycle by one SM, all schedulers together.
    pub issue_per_cycle: f64,
    /// Warp instructions per cycle and SM by pipe.
    pub pipes: PipeRates,
    /// Bytes per cycle and SM that L1 and shared memory deliver together.
    pub l1_bytes_per_cycle: f64,
    /// Bytes per cycle and SM between L1 and L2.
    pub l2_bytes_per_cycle: f64,
    /// Threads that one SM can hold.
    pub max_threads_per_sm: u32,
    /// Warps that one SM can hold.
    pub max_warps_per_sm: u32,
    /// Blocks that one SM can hold.
    pub max_blocks_per_sm: u32,
    /// Threads that one block can have.
    pub max_threads_per_block: u32,
    /// 32-bit registers of one SM.
    pub registers_per_sm: u32,
    /// Registers are allocated to a warp in multiples of this.
    pub register_portion: u32,
    /// Shared memory of one SM, bytes.
    pub shared_bytes_per_sm: Bytes,
    /// Most shared memory of one block, bytes.
    pub shared_bytes_per_block: Bytes,
    /// Shared memory is allocated in multiples of this, bytes.
    pub shared_portion: Bytes,
    /// Shared memory that the system takes from every block, bytes.
    pub shared_reserved_per_block: Bytes,
    /// Unified L1 and shared memory of one SM, bytes.
    pub l1_bytes: Bytes,
    /// L2, bytes.
    pub l2_bytes: Bytes,
    /// Device memory, bytes.
    pub memory_bytes: Bytes,
    /// Bandwidth of device memory by the data sheet, GB/s (10⁹ bytes).
    pub dram_gbs: f64,
    /// Bandwidth of the host link in one direction by the data sheet, GB/s.
    pub host_link_gbs: f64,
    /// SMs are granted to green contexts in multiples of this.
    pub sm_granularity: u32,
}

/// Warp instructions per cycle and SM by pipe (names as in [`crate::demand::Pipes`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipeRates {
    /// fp32 multiply, add, FMA.
    pub fma: f64,
    /// fp64.
    pub fp64: f64,
    /// int32 add, logic, compare.
    pub alu: f64,
    /// Packed fp16.
    pub fp16: f64,
    /// Packed fp16 occupies the fp32 datapath (Hopper).
    pub fp16_on_fma: bool,
    /// Special functions and conversions.
    pub xu: f64,
    /// m16n8k16 products of the tensor cores.
    pub tensor: f64,
    /// Loads, stores, atomics.
    pub lsu: f64,
}

/// Highest rates reached by the micro-kernels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// How measured.
    pub source: String,
    /// Reading device memory, GB/s.
    pub dram_read_gbs: Option<f64>,
    /// Copying in device memory, reads and writes summed, GB/s.
    pub dram_copy_gbs: Option<f64>,
    /// Writing device memory, GB/s.
    pub dram_write_gbs: Option<f64>,
    /// Reading from L2, GB/s.
    pub l2_read_gbs: Option<f64>,
    /// Copying within L2, reads and writes summed, GB/s.
    pub l2_copy_gbs: Option<f64>,
    /// Global atomics without conflicts, warp instructions per ns, whole GPU.
    pub l2_atomics_per_ns: Option<f64>,
    /// Shared memory, bytes per cycle and SM.
    pub shared_bytes_per_cycle: Option<f64>,
    /// Dense bf16 tensor product, TFLOP/s.
    pub tensor_tflops: Option<f64>,
    /// fp64 pipe, percent of peak.
    pub fp64_pipe_pct: Option<f64>,
    /// FMA pipe, percent of peak.
    pub fma_pipe_pct: Option<f64>,
    /// Instructions per cycle and SM.
    pub issue_ipc: Option<f64>,
    /// Copy from host to device (pinned memory), GB/s.
    pub host_to_device_gbs: Option<f64>,
    /// Copy from device to host (pinned memory), GB/s.
    pub device_to_host_gbs: Option<f64>,
}

/// Latency of one dependent access, nothing else running, ns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// How measured.
    pub source: String,
    /// Hit in L1.
    pub l1_ns: Option<f64>,
    /// Hit in L2.
    pub l2_ns: Option<f64>,
    /// Device memory.
    pub dram_ns: Option<f64>,
}

/// Latency (ns) against bandwidth (GB/s, reads and writes of a copy summed).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadedLatency {
    /// How measured.
    pub source: String,
    /// Device memory: points (GB/s, ns) from nearly idle to saturated.
    pub dram: Option<Curve>,
    /// L2: points (GB/s, ns).
    pub l2: Option<Curve>,
}

/// Share of accesses that miss against the bytes touched in turn: points (bytes, share 0..1).
///
/// From times: share = (t - t_fits) / (t_exceeds - t_fits), with a copy whose working set (reads and writes) has
/// that many bytes. `shared` has the working sets of two equal tenants summed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// How measured.
    pub source: String,
    /// L2, one tenant.
    pub l2_alone: Option<Curve>,
    /// L2, sum of two tenants.
    pub l2_shared: Option<Curve>,
    /// L1 of one SM, one tenant.
    pub l1_alone: Option<Curve>,
    /// L1 of one SM, sum of two tenants.
    pub l1_shared: Option<Curve>,
}

/// Knee exponent `p` of each station: time = (latency^p + service^p)^(1/p); larger is sharper, and at the point
/// where both are equal a kernel needs 2^(1/p) of either.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Knees {
    /// How measured.
    pub source: String,
    /// Issue slots.
    pub issue: Option<f64>,
    /// Arithmetic pipes and tensor cores.
    pub pipes: Option<f64>,
    /// L1 and shared memory.
    pub l1: Option<f64>,
    /// Port between an SM and L2.
    pub l2_port: Option<f64>,
}

/// Who wins at a full issue slot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Issue {
    /// How measured.
    pub source: String,
    /// Share of the issue slots that always-ready warps can take from waiting ones, 0..1.
    pub hog_share: Option<f64>,
    /// Cycles that an instruction of a waiting kernel waits, for each unit of ρ/(1-ρ) of the always-ready ones.
    pub wait_factor: Option<f64>,
}

/// How tenants get in each other's way, below saturation and at it. No single kernel shows these values: they are
/// fitted to pairs, and the probe leaves them as they are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contention {
    /// To which runs fitted.
    pub source: String,
    /// Weight `c` of collisions at the issue slots: a kernel that uses the share `u` of them takes
    /// `1 + c·u·v·(1 - u²)` times as long beside others that use `v`.
    pub issue_collision: Option<f64>,
    /// Weight `c` of collisions on the FMA pipe: a kernel of which the share `f` of the instructions are FMAs takes
    /// `c·f·v` of its time longer beside others that use the share `v` of the pipe.
    pub fma_collision: Option<f64>,
    /// Of a pipe that each of two kernels fills alone, the share that the one that came first keeps, 0.5..1.
    pub pipe_first_share: Option<f64>,
    /// The same of the data path of L1 and shared memory, for accesses of equal length.
    pub l1_first_share: Option<f64>,
    /// Weight `k` of uneven sets: of a scattered footprint `F` in an L1 of `C` bytes, `1 - exp(-k·(F/C)²)` misses.
    pub l1_scatter: Option<f64>,
    /// Share of the tensor cores' ceiling that `mma.sync` reaches, 0..1.
    pub tensor_mma_share: Option<f64>,
    /// Speed of a host copy while one in the other direction runs, over its speed alone, 0.5..1.
    pub duplex_share: Option<f64>,
    /// Global atomics of one warp that are under way at the same time.
    pub atomics_inflight: Option<f64>,
    /// What kernels of different models gain by running at the same time, as a share of what they would gain if each
    /// kept its own rate, 0..1. At 0 they might as well take turns.
    pub model_overlap: Option<f64>,
}

/// Costs of launching, ns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Launch {
    /// How measured.
    pub source: String,
    /// Host time of one `cuLaunchKernel`.
    pub plain_ns: Option<f64>,
    /// Host time of one `cuLaunchKernelEx`.
    pub ex_ns: Option<f64>,
    /// Time of one kernel node in a graph.
    pub graph_ns: Option<f64>,
    /// From the end of a kernel to the start of the next one in its stream, where that is queued already.
    pub gap_ns: Option<f64>,
    /// Empty kernel, first block to last block.
    pub empty_ns: Option<f64>,
}

/// What the sharing modes grant and how they arbitrate.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SharingFacts {
    /// How measured.
    pub source: String,
    /// Time slice of a context among processes without MPS, ns.
    pub time_slice_ns: Option<f64>,
    /// Time lost at each switch, ns.
    pub switch_ns: Option<f64>,
    /// `CUDA_MPS_ACTIVE_THREAD_PERCENTAGE` → SMs that the client sees.
    pub mps_percentage_sms: Vec<(f64, u32)>,
    /// SMs that two MPS clients at 50 % each have in common.
    pub mps_half_common_sms: Option<u32>,
    /// Green context: SMs asked → SMs given.
    pub green_asked_given: Vec<(u32, u32)>,
    /// Stream priorities and MPS client priorities decide at each block that is placed.
    pub priority_per_block: Option<bool>,
    /// A kernel with a higher priority stops resident blocks of others (no known device does).
    pub priority_preempts: Option<bool>,
}

/// How the block scheduler chooses an SM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The SM on which the most blocks of this kernel still fit; ties by device order (Gilman 2021).
    #[default]
    MostRoom,
    /// SMs in device order, each filled before the next.
    Packed,
}

/// Block placement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// How measured.
    pub source: String,
    /// Order of SMs.
    pub order: Order,
    /// A later kernel starts only after the last block of an earlier one of its priority is placed.
    pub leftover: Option<bool>,
    /// Time from a free place to the first instruction of the block that takes it, ns.
    pub block_start_ns: Option<f64>,
    /// Standard deviation of the length of one block of a long grid, as a share of it: why its waves drift apart.
    pub block_spread: Option<f64>,
}

/// SM clock under load.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Clock {
    /// How measured.
    pub source: String,
    /// SM clock while the micro-kernels ran, MHz; the model's clock. Absent: `spec.clock_mhz_max`.
    pub sustained_mhz: Option<f64>,
    /// Kernel → SM clock while it ran on all SMs, MHz.
    pub under_load_mhz: Vec<(String, f64)>,
}

/// What is wrong with a card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// Not JSON, or not of this shape.
    #[error("read the device card: line {line}, column {column}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// A format that this program does not know.
    #[error("read a device card of format {found}; this program reads format {FORMAT}")]
    Format {
        /// Format found.
        found: u32,
    },
    /// A value that cannot be.
    #[error("accept the device card: `{field}` {reason}")]
    Value {
        /// Path of the field, `spec.sms`.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl DeviceCard {
    /// Reads and validates a card.
    ///
    /// # Errors
    /// If the text is not JSON of this shape, has another format, or holds an impossible value.
    pub fn from_json(text: &str) -> Result<DeviceCard, CardError> {
        let card: DeviceCard = serde_json::from_str(text).map_err(|e| CardError::Syntax {
            line: e.line(),
            column: e.column(),
            // serde_json repeats the position at the end; it already stands in front.
            reason: e.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })?;
        card.validate()?;
        Ok(card)
    }

    /// The card as indented JSON with a final newline.
    ///
    /// # Errors
    /// If a number is not finite (JSON has none such) or the card is invalid.
    pub fn to_json(&self) -> Result<String, CardError> {
        self.validate()?;
        let mut s = serde_json::to_string_pretty(self).map_err(|e| CardError::Value {
            field: "card".into(),
            reason: format!("cannot be written as JSON: {e}"),
        })?;
        s.push('\n');
        Ok(s)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the first field that is wrong, and what would be right.
    pub fn validate(&self) -> Result<(), CardError> {
        if self.format != FORMAT {
            return Err(CardError::Format { found: self.format });
        }
        crate::check::card(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{builtin, builtin_names};

    #[test]
    fn cards_survive_a_round_trip() {
        for name in builtin_names() {
            let card = builtin(name).expect("listed");
            let text = card.to_json().expect("valid");
            assert_eq!(DeviceCard::from_json(&text).expect("reads back"), card, "{name}");
        }
    }

    #[test]
    fn wrong_json_names_the_line() {
        let text = builtin("h100-sxm5-80gb").expect("listed").to_json().expect("valid");
        let broken = text.replace("\"sms\": 132", "\"sms\": \"many\"");
        let e = DeviceCard::from_json(&broken).expect_err("a string is not a number").to_string();
        assert!(e.starts_with("read the device card: line ") && e.contains("u32"), "{e}");
        let unknown = text.replace("\"sms\": 132", "\"sms\": 132, \"smz\": 1");
        assert!(DeviceCard::from_json(&unknown).expect_err("unknown key").to_string().contains("smz"));
    }

    #[test]
    fn impossible_values_name_the_field() {
        let card = builtin("h100-sxm5-80gb").expect("listed");
        let with = |f: &dyn Fn(&mut DeviceCard)| {
            let mut c = card.clone();
            f(&mut c);
            c.validate().expect_err("invalid").to_string()
        };
        assert!(with(&|c| c.format = 2).contains("format 2"));
        assert!(with(&|c| c.spec.sms = 0).contains("`spec.sms`"));
        assert!(with(&|c| c.spec.sms = 300).contains("`spec.sms`"));
        assert!(with(&|c| c.spec.clock_mhz_max = f64::NAN).contains("`spec.clock_mhz_max`"));
        assert!(with(&|c| c.ceilings.dram_copy_gbs = Some(-1.0)).contains("`ceilings.dram_copy_gbs`"));
        assert!(with(&|c| c.issue.hog_share = Some(1.5)).contains("`issue.hog_share`"));
        assert!(with(&|c| c.knees.pipes = Some(0.5)).contains("`knees.pipes`"));
        assert!(
            with(&|c| c.capacity.l2_alone = Some(Curve(vec![(1.0, 2.0)]))).contains("`capacity.l2_alone`")
        );
        assert!(with(&|c| c.loaded_latency.dram = Some(Curve(vec![]))).contains("`loaded_latency.dram`"));
        assert!(
            with(&|c| c.sharing.mps_percentage_sms = vec![(0.0, 8)]).contains("`sharing.mps_percentage_sms`")
        );
        assert!(with(&|c| c.name = "H100 SXM".into()).contains("`name`"));
    }
}
