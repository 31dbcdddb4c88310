//! The probe: measures a GPU's device card with the lab's own kernels, sharing modes and clock.
//!
//! Every section is measured apart; one that this machine cannot do stays as the data sheet has it, with a note.

pub(crate) mod bench;
mod ceilings;
mod memory;
mod sharing;

use crate::backend::{Backend, TrialError};
use cotenant_model::DeviceCard;
use std::time::Instant;

/// What the probe tells whoever watches it.
pub type Watcher<'a> = &'a mut dyn FnMut(&str);

/// What could not be measured, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Section of the card.
    pub section: &'static str,
    /// Why.
    pub reason: String,
}

type Section = fn(&mut dyn Backend, &mut DeviceCard) -> Result<(), TrialError>;

const SECTIONS: [(&str, Section); 9] = [
    ("ceilings", ceilings::measure),
    ("latency", memory::latency),
    ("loaded latency", memory::loaded),
    ("L2 capacity", memory::l2_capacity),
    ("L1 capacity", memory::l1_capacity),
    ("issue slots", ceilings::issue),
    ("launching", sharing::launching),
    ("grants and time slices", sharing::grants),
    ("placement", sharing::placement),
];

/// Fills a card by measurement. `base` gives the data sheet and what cannot be measured.
///
/// # Errors
/// The user's interrupt, or every section failing (then the first reason).
pub fn probe(
    backend: &mut dyn Backend,
    base: DeviceCard,
    watcher: Watcher<'_>,
) -> Result<(DeviceCard, Vec<Gap>), TrialError> {
    let mut card = base;
    let mut gaps: Vec<Gap> = Vec::new();
    for (name, section) in SECTIONS {
        let begun = Instant::now();
        match section(backend, &mut card) {
            Ok(()) => watcher(&format!("{name}: {:.1} s", begun.elapsed().as_secs_f64())),
            Err(TrialError::Interrupted) => return Err(TrialError::Interrupted),
            Err(e) => {
                watcher(&format!("{name}: not measured: {e}"));
                gaps.push(Gap { section: name, reason: e.to_string() });
            }
        }
    }
    match gaps.first() {
        Some(g) if gaps.len() == SECTIONS.len() => Err(TrialError::Failed(g.reason.clone())),
        _ => Ok((card, gaps)),
    }
}

/// How a section was measured, for its `source`.
fn source(backend: &dyn Backend, how: &str) -> String {
    let kind = if backend.simulated() { "simulated, " } else { "" };
    format!("{kind}cotenant {} probe: {how}", env!("CARGO_PKG_VERSION"))
}
