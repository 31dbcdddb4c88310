//! How long an iteration of an LLM engine takes on a device card, alone and beside others at the same GPU: what paces
//! the token server where it stands for a server on the simulated GPU.
//!
//! An iteration has a part that fills the GPU (it reads the weights and the KV cache, or computes prompts) and a part that does not
//! (launches, small kernels, the host). Beside others under MPS only the first has to be shared; in time slices an engine waits for
//! whole turns of the others. The constants below are fitted to one model, Llama-3.2-3B under vLLM 0.23 on an
//! H100 (`results/h100-sxm5-80gb/servers-regimes`, `-mps` and `-emulation`, trials of 8 users and `one-*`); everything else follows from the card and
//! the architecture. What it is off by where it was not fitted stands in `docs/serving.md`.

use cotenant_model::DeviceCard;
use cotenant_spec::models::Model;
use cotenant_token_server::{Batching, SharedGpu, Step, StepTime, now_ns};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Part of the DRAM bandwidth of reading kernels that a decoding engine gets while it fills the GPU.
const READS: f64 = 0.85;
/// Part of the tensor cores' rate that prompts are computed at; assumed.
const COMPUTES: f64 = 0.65;
/// What a prompt costs on the host for each token, ns: what is left of the time to the first token at 16 to 64 users.
const HOST_TOKEN_NS: f64 = 8_500.0;
/// Part of a data sheet's bandwidth that reading kernels get where a card was not measured.
const OF_SPEC: f64 = 0.95;
/// What an iteration needs of the host and of small kernels for each layer, ns.
const LAYER_NS: f64 = 32_500.0;
/// What MPS adds to that, ns, also where nobody else is busy.
const LAYER_MPS_NS: f64 = 10_400.0;
/// Time slices: what turns cost beyond their lengths, with somebody else there.
const TURNS: f64 = 1.125;
/// The same under MPS with a limit on SMs: engines that do not spread over each other's SMs get more out of it
/// (`servers-regimes-emulation`: two to four together).
const READS_LIMITED: f64 = 0.99;
/// DRAM bandwidth that an SM can ask for, bytes per ns (`servers-regimes-emulation`: one alone with 25 and 33 % of the SMs).
const SM_GBS: f64 = 55.0;

/// How engines share the simulated GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineSharing {
    /// Alone, or processes that take turns.
    Turns,
    /// Clients of MPS.
    Mps,
}

/// A model on a card, as far as the time of iterations goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EngineModel {
    weight_bytes: f64,
    kv_bytes_per_token: f64,
    parameters: f64,
    layers: f64,
    /// Bytes per ns.
    dram: f64,
    /// Operations per ns.
    tensor: f64,
    sms: f64,
}

impl EngineModel {
    /// A built-in decoder in 16 bits on a card.
    ///
    /// # Errors
    /// What is no decoder, or has no sizes; in words.
    pub fn new(card: &DeviceCard, model: &Model) -> Result<EngineModel, String> {
        let shape = model.decoder_shape().ok_or_else(|| {
            format!("{} is no decoder: servers are simulated with a built-in decoder", model.name)
        })?;
        let parameters =
            model.parameters.ok_or_else(|| format!("{} has no number of parameters", model.name))? as f64;
        let dram = card.ceilings.dram_read_gbs.unwrap_or(card.spec.dram_gbs * OF_SPEC);
        // Without a measurement: operations in 16 bits of an SM in a cycle, by the white papers.
        let a_cycle = if card.spec.capability.0 >= 9 { 4096.0 } else { 2048.0 };
        let peak = f64::from(card.spec.sms) * a_cycle * card.spec.clock_mhz_max / 1e3;
        let tensor = card.ceilings.tensor_tflops.map_or(peak, |t| t * 1e3);
        Ok(EngineModel {
            weight_bytes: 2.0 * parameters,
            kv_bytes_per_token: 2.0
                * 2.0
                * f64::from(shape.layers)
                * f64::from(shape.kv_heads)
                * f64::from(shape.head_dim),
            parameters,
            layers: f64::from(shape.layers),
            dram: dram * READS,
            tensor: tensor * COMPUTES,
            sms: f64::from(card.spec.sms),
        })
    }

    /// Bytes of weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes as u64
    }

    /// Bytes of keys and values of a token.
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.kv_bytes_per_token as u64
    }

    /// Length of an iteration, ns, with `busy` engines at the GPU (this one included), of which this one may use
    /// `share` of the SMs.
    pub fn step_ns(&self, step: &Step, sharing: EngineSharing, busy: u32, share: f64) -> f64 {
        let tokens = f64::from(step.prefill_tokens) + f64::from(step.decode_sequences);
        let bytes = self.weight_bytes + self.kv_bytes_per_token * step.context_tokens as f64;
        let operations = 2.0 * self.parameters * tokens;
        let busy = f64::from(busy.max(1));
        let host = HOST_TOKEN_NS * f64::from(step.prefill_tokens);
        let fills = |dram: f64, tensor: f64| (bytes / dram).max(operations / tensor);
        match sharing {
            EngineSharing::Turns => {
                let alone = fills(self.dram, self.tensor) + self.layers * LAYER_NS;
                host + alone * busy * if busy > 1.0 { TURNS } else { 1.0 }
            }
            EngineSharing::Mps => {
                // What its SMs can ask for, or its part of what all ask for: whichever is less.
                let reads = if share < 1.0 { READS_LIMITED / READS } else { 1.0 };
                let dram = (self.dram * reads / busy).min(SM_GBS * self.sms * share);
                let tensor = self.tensor * share.min(1.0 / busy);
                host + fills(dram, tensor) + self.layers * (LAYER_NS + LAYER_MPS_NS)
            }
        }
    }
}

/// What a token server is told that stands for an engine (`--engine`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineSpec {
    /// The model on its card.
    pub model: EngineModel,
    /// How it shares the GPU.
    pub sharing: EngineSharing,
    /// Part of the SMs that it may use, in (0, 1].
    pub share: f64,
    /// Where the servers at the same GPU know of each other; `None`: nobody else is there.
    pub gpu: Option<PathBuf>,
    /// Its seat there.
    pub seat: u32,
    /// Most sequences in a batch.
    pub max_running: u32,
    /// Blocks of KV memory.
    pub kv_blocks: u32,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Most tokens of an iteration.
    pub max_batched_tokens: u32,
}

impl EngineSpec {
    /// The engine for a token server.
    ///
    /// # Errors
    /// The place where servers know of each other cannot be opened.
    pub fn batching(&self) -> std::io::Result<Batching> {
        let gpu = self.gpu.as_ref().map(|path| SharedGpu::join(path, self.seat)).transpose()?;
        let step = EngineStep { model: self.model, sharing: self.sharing, share: self.share, gpu };
        Ok(Batching {
            max_running: self.max_running,
            kv_blocks: self.kv_blocks,
            block_tokens: self.block_tokens,
            max_batched_tokens: self.max_batched_tokens,
            step: Arc::new(step),
        })
    }
}

/// The pace of a token server that stands for an engine.
#[derive(Debug)]
pub struct EngineStep {
    /// The model on its card.
    pub model: EngineModel,
    /// How it shares the GPU.
    pub sharing: EngineSharing,
    /// Part of the SMs that it may use, in (0, 1].
    pub share: f64,
    /// The GPU; `None`: nobody else is there.
    pub gpu: Option<SharedGpu>,
}

impl StepTime for EngineStep {
    fn step_ns(&self, step: &Step) -> u64 {
        let busy = 1 + self.gpu.as_ref().map_or(0, SharedGpu::others_busy);
        let ns = self.model.step_ns(step, self.sharing, busy, self.share) as u64;
        if let Some(gpu) = &self.gpu {
            gpu.busy_until(now_ns().saturating_add(ns));
        }
        ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> EngineModel {
        let card = cotenant_model::builtin("h100-sxm5-80gb").expect("a built-in card");
        EngineModel::new(&card, cotenant_spec::models::find("llama-3.2-3b").expect("built-in"))
            .expect("a decoder")
    }

    /// Median time per output token of the recorded trials, ms: fitted at 8 users alone, in turns of two and under MPS of two, the others
    /// follow.
    #[test]
    fn recorded_times_per_token_are_met() {
        let m = model();
        let users =
            |n: u32| Step { prefill_tokens: 0, decode_sequences: n, context_tokens: u64::from(n) * 320 };
        let cases = [
            (EngineSharing::Turns, 8, 1, 3.38),
            (EngineSharing::Turns, 16, 1, 3.54),
            (EngineSharing::Turns, 32, 1, 3.89),
            (EngineSharing::Turns, 8, 2, 7.60),
            (EngineSharing::Turns, 8, 3, 11.42),
            (EngineSharing::Turns, 8, 4, 15.28),
            (EngineSharing::Turns, 32, 2, 8.74),
            (EngineSharing::Mps, 8, 1, 3.68),
            (EngineSharing::Mps, 8, 2, 6.25),
            (EngineSharing::Mps, 8, 3, 8.86),
            (EngineSharing::Mps, 8, 4, 11.42),
            (EngineSharing::Mps, 32, 2, 7.45),
        ];
        for (sharing, n, busy, measured) in cases {
            let ms = m.step_ns(&users(n), sharing, busy, 1.0) / 1e6;
            let off = ms / measured - 1.0;
            assert!(off.abs() < 0.1, "{sharing:?} {n} users, {busy} busy: {ms:.2} ms, measured {measured}");
        }
        // With limits: `servers-regimes-emulation`.
        for (share, n, busy, measured) in [
            (0.5, 8, 1, 3.50),
            (1.0 / 3.0, 8, 1, 4.14),
            (0.25, 8, 1, 4.41),
            (0.5, 8, 2, 5.52),
            (1.0 / 3.0, 8, 3, 7.54),
            (0.25, 8, 4, 9.87),
            (0.5, 16, 2, 5.87),
        ] {
            let ms = m.step_ns(&users(n), EngineSharing::Mps, busy, share) / 1e6;
            let off = ms / measured - 1.0;
            assert!(
                off.abs() < 0.13,
                "{share} of the SMs, {n} users, {busy} busy: {ms:.2} ms, measured {measured}"
            );
        }
    }

    #[test]
    fn prompts_take_the_time_of_their_operations() {
        let m = model();
        let prompts = |tokens| Step { prefill_tokens: tokens, ..Step::default() };
        let one = m.step_ns(&prompts(2048), EngineSharing::Turns, 1, 1.0);
        let two = m.step_ns(&prompts(4096), EngineSharing::Turns, 1, 1.0);
        assert!(one > 30e6 && two > 1.8 * one, "{one} {two}");
        let part = m.step_ns(&prompts(4096), EngineSharing::Mps, 1, 0.5);
        assert!(part > 1.3 * two, "half of the SMs compute half as fast: {part} {two}");
        // Time to the first token of so many prompts of 256 tokens at once, recorded.
        for (users, ms) in [(16, 87.0), (32, 167.0), (64, 277.0)] {
            let took = m.step_ns(&prompts(users * 256), EngineSharing::Turns, 1, 1.0) / 1e6;
            assert!((took / ms - 1.0).abs() < 0.2, "{users}: {took} ms, measured {ms}");
        }
    }

    #[test]
    fn an_encoder_is_refused() {
        let card = cotenant_model::builtin("h100-sxm5-80gb").expect("a built-in card");
        let e = EngineModel::new(&card, cotenant_spec::models::find("distilbert").expect("built-in"))
            .unwrap_err();
        assert!(e.contains("distilbert is no decoder"), "{e}");
    }
}
