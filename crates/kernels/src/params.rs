//! Checking a kernel's parameters: every value known, in range, and of the grain the kernel takes.

use crate::error::nearest;
use crate::{Error, Kernel, Param};
use std::collections::BTreeMap;

/// Parameters of one kernel after defaults, each checked.
#[derive(Debug)]
pub(crate) struct Params {
    values: BTreeMap<String, f64>,
}

impl Params {
    /// Fills in defaults and checks every value.
    ///
    /// # Errors
    /// [`Error::UnknownParam`], [`Error::BadValue`].
    pub fn checked(kernel: &'static Kernel, given: &BTreeMap<String, f64>) -> Result<Params, Error> {
        if let Some(unknown) = given.keys().find(|k| !kernel.params.iter().any(|p| p.name == k.as_str())) {
            let names: Vec<_> = kernel.params.iter().map(|p| p.name).collect();
            return Err(Error::UnknownParam {
                kernel: kernel.name,
                param: unknown.clone(),
                nearest: nearest(unknown, names.iter().copied()),
                known: if names.is_empty() {
                    "it has none".into()
                } else {
                    format!("it has {}", names.join(", "))
                },
            });
        }
        let mut values = BTreeMap::new();
        for p in kernel.params {
            let asked = given.get(p.name).copied().unwrap_or(p.default);
            values.insert(p.name.to_owned(), check(kernel.name, p, asked)?);
        }
        Ok(Params { values })
    }

    /// A parameter as a whole number; zero for one that the kernel does not have.
    pub fn get(&self, name: &str) -> u64 {
        // Checked values are finite, non-negative and below 2^53.
        self.values.get(name).map_or(0, |v| *v as u64)
    }

    /// Replaces the value that a kernel rounds further (a power of two of slots, say).
    pub fn set(&mut self, name: &str, value: u64) {
        self.values.insert(name.to_owned(), value as f64);
    }

    /// All of them, for the record.
    pub fn into_values(self) -> BTreeMap<String, f64> {
        self.values
    }
}

fn check(kernel: &'static str, p: &'static Param, asked: f64) -> Result<f64, Error> {
    let bad = || Error::BadValue { kernel, param: p.name, value: asked, accepted: accepted(p) };
    if !asked.is_finite() || asked < p.range.0 || asked > p.range.1 {
        return Err(bad());
    }
    let grain = f64::from(p.granularity);
    let value = (asked / grain).floor() * grain;
    let whole = p.granularity > 1 || asked.fract() == 0.0;
    let chosen = p.choices.is_empty() || p.choices.contains(&value);
    if !whole || !chosen || value < p.range.0 { Err(bad()) } else { Ok(value) }
}

/// What a parameter takes, in words.
fn accepted(p: &Param) -> String {
    if p.choices.is_empty() {
        format!("whole numbers from {} to {}", p.range.0, p.range.1)
    } else {
        let all: Vec<_> = p.choices.iter().map(f64::to_string).collect();
        format!("one of {}", all.join(", "))
    }
}
