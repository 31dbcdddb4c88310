//! From `--device` to a backend.

use crate::exit::{Code, Failure};
use cotenant_lab::backend::Backend;
use cotenant_lab::cuda::{CudaBackend, Options};
use cotenant_lab::host::HostBackend;
use cotenant_lab::simulated::SimBackend;
use cotenant_model as card;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Card of the simulated GPU that `auto` falls back to.
pub const DEFAULT_CARD: &str = "h100-sxm5-80gb";

/// What `--device` means on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A real GPU by CUDA index.
    Cuda(u32),
    /// A simulated one by card.
    Sim(String),
    /// This machine without its GPU, for models on the CPU and programs.
    Host,
}

/// Reads a selector; `auto` is the first real GPU, or else the default card.
///
/// # Errors
/// Anything but `auto`, `cuda:N`, `sim:CARD`, `host`.
pub fn select(text: &str) -> Result<Selector, Failure> {
    let bad = || {
        Failure::new(
            Code::BadInput,
            format!(
                "understand --device {text}: it should be auto, cuda:N (a number from 0), sim:CARD (see `cotenant cards`) or host"
            ),
        )
    };
    if text == "auto" {
        let real = cotenant_gpu::driver::device_count().is_ok_and(|n| n > 0);
        return Ok(if real { Selector::Cuda(0) } else { Selector::Sim(DEFAULT_CARD.into()) });
    }
    if text == "host" {
        return Ok(Selector::Host);
    }
    match text.split_once(':') {
        Some(("cuda", n)) => n.parse().map(Selector::Cuda).map_err(|_| bad()),
        Some(("sim", card)) if !card.is_empty() => Ok(Selector::Sim(card.to_owned())),
        _ => Err(bad()),
    }
}

/// Opens the backend. A card may be a built-in name or a file.
///
/// # Errors
/// No such device ([`Code::NoDevice`]) or card ([`Code::BadInput`]).
pub fn open(
    selector: &Selector,
    options: Options,
    interrupted: Arc<AtomicBool>,
) -> Result<Box<dyn Backend>, Failure> {
    match selector {
        Selector::Cuda(index) => {
            let b = CudaBackend::open(Options { index: *index, ..options }, interrupted).map_err(|e| {
                Failure::new(Code::NoDevice, format!("open cuda:{index}: {e}; `cotenant doctor` says more"))
            })?;
            Ok(Box::new(b))
        }
        Selector::Sim(name) => Ok(Box::new(SimBackend::new(card_named(name)?, interrupted))),
        Selector::Host => Ok(Box::new(HostBackend::new(interrupted))),
    }
}

/// A card by built-in name or file.
pub fn card_named(name: &str) -> Result<cotenant_model::DeviceCard, Failure> {
    if let Some(c) = card::builtin(name) {
        return Ok(c);
    }
    if name.ends_with(".json") {
        let text = std::fs::read_to_string(name)
            .map_err(|e| Failure::new(Code::BadInput, format!("read the device card {name}: {e}")))?;
        return cotenant_model::DeviceCard::from_json(&text)
            .map_err(|e| Failure::new(Code::BadInput, format!("read the device card {name}: {e}")));
    }
    Err(Failure::new(
        Code::BadInput,
        format!(
            "find the device card `{name}`: built in are {}; or give a .json file",
            card::builtin_names().join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_or_explained() {
        assert_eq!(select("cuda:3").ok(), Some(Selector::Cuda(3)));
        assert_eq!(select("sim:l4-24gb").ok(), Some(Selector::Sim("l4-24gb".into())));
        for bad in ["", "cuda", "cuda:x", "sim:", "gpu:0", "cuda:-1"] {
            let e = select(bad).expect_err(bad).to_string();
            assert!(e.contains("auto, cuda:N"), "{e}");
        }
        assert!(card_named("nope").expect_err("no card").to_string().contains(DEFAULT_CARD));
    }
}
