//! Recorded models: from what a tenant is set up with to the time line that replays it.

use crate::backend::TrialError;
use cotenant_model::DeviceCard;
use cotenant_sim::recorded::{Recorded, Workload, builtin, builtin_names};
use cotenant_sim::{Gpu, Replay};
use cotenant_spec::plan::ModelSetup;
use std::collections::HashMap;
use std::sync::Arc;

/// A model that can be run.
#[derive(Debug)]
pub(super) struct Model {
    pub recorded: Recorded,
    pub replay: Replay,
}

impl Model {
    /// From the beginning of an iteration on the host to its first CUDA event, and from its last one to the end, ns.
    pub fn outside_events_ns(&self) -> u64 {
        match self.recorded.event_ns {
            0 => 0,
            event => self.recorded.wall_ns.saturating_sub(event),
        }
    }
}

/// Models by the name of their file: preparing one runs each of its kernels alone.
#[derive(Debug, Default)]
pub(super) struct Models(HashMap<String, Arc<Model>>);

impl Models {
    /// The model of a tenant.
    ///
    /// # Errors
    /// [`TrialError::Unavailable`] where nothing was recorded of exactly this workload.
    pub fn get(
        &mut self,
        card: &DeviceCard,
        gpu: &Gpu,
        tenant: &str,
        setup: &ModelSetup,
    ) -> Result<Arc<Model>, TrialError> {
        if setup.device != "cuda" {
            return Err(TrialError::Unavailable(format!(
                "tenant {tenant} runs on the {}, and the simulated GPU has time lines of GPUs only",
                setup.device
            )));
        }
        let stem = workload(setup).file_stem();
        if let Some(m) = self.0.get(&stem) {
            return Ok(Arc::clone(m));
        }
        let Some(recorded) = builtin(&card.name, &stem) else {
            return Err(TrialError::Unavailable(missing(tenant, &stem, &setup.model, &card.name)));
        };
        let replay = Replay::new(&recorded, card, gpu)
            .map_err(|e| TrialError::Failed(format!("tenant {tenant}: failed to {e}")))?;
        let model = Arc::new(Model { recorded, replay });
        self.0.insert(stem, Arc::clone(&model));
        Ok(model)
    }
}

/// What was recorded must be exactly this: times of another batch or length would be a guess.
fn workload(s: &ModelSetup) -> Workload {
    Workload {
        model: s.model.clone(),
        mode: s.mode.clone(),
        dtype: s.dtype.clone(),
        batch: s.batch,
        sequence: s.sequence,
        tokens: if s.mode == "decode" { s.tokens } else { 0 },
        cuda_graph: s.cuda_graph,
        compile: s.compile,
        attention: s.attention.clone(),
    }
}

/// Names the time lines that exist: of this model where there are any, else of all.
fn missing(tenant: &str, stem: &str, model: &str, device: &str) -> String {
    let all = builtin_names(device);
    let near: Vec<&str> = all.iter().copied().filter(|n| n.starts_with(&format!("{model}-"))).collect();
    let have = match (near.is_empty(), all.is_empty()) {
        (false, _) => format!("of this model there is {}", near.join(", ")),
        (true, false) => format!("there are {}", all.join(", ")),
        (true, true) => format!("there is none of {device}"),
    };
    format!(
        "tenant {tenant} has no recorded time line {stem}: {have}; times of another batch or length would be a guess. \
         Record one on the GPU: `cotenant run SPEC --keep-traces` with the model alone and measure.traced = 2, then \
         `cargo xtask timelines RUN`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_there_is() {
        let m = missing("a", "bert-forward-fp16-b64-s128", "bert", "h100-sxm5-80gb");
        assert!(
            m.contains("bert-forward-fp16-b8-s128") && !m.contains("llama") && m.contains("xtask"),
            "{m}"
        );
        let m = missing("a", "own-forward-fp16-b8-s128", "own", "h100-sxm5-80gb");
        assert!(m.contains("llama") && m.contains("gpt2"), "{m}");
        assert!(missing("a", "x", "x", "l4-24gb").contains("none of l4-24gb"));
    }
}
