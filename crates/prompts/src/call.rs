//! Distributions as they are written in a specification: a number, or a name with numbers in brackets.

use crate::DistributionError;

/// A text taken apart.
pub(crate) enum Call<'t> {
    /// A number, or what should be one.
    Number(&'t str),
    /// A name (in lower case, `trace` too) and the texts between the commas.
    Named(String, Vec<&'t str>),
}

/// Takes a text apart.
pub(crate) fn call<'t>(text: &'t str, wanted: &'static str) -> Result<Call<'t>, DistributionError> {
    let text = text.trim();
    let form = || DistributionError::Form { text: text.to_owned(), wanted };
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return if text.is_empty() || text.contains(['(', ')', ',']) {
            Err(form())
        } else {
            Ok(Call::Number(text))
        };
    }
    let Some((name, rest)) = text.split_once('(') else {
        return Ok(Call::Named(text.to_ascii_lowercase(), Vec::new()));
    };
    let inner = rest.strip_suffix(')').filter(|i| !i.contains(['(', ')'])).ok_or_else(form)?;
    let numbers =
        if inner.trim().is_empty() { Vec::new() } else { inner.split(',').map(str::trim).collect() };
    Ok(Call::Named(name.trim().to_ascii_lowercase(), numbers))
}

/// Numbers of a call, in order.
pub(crate) struct Numbers<'t> {
    pub(crate) name: &'static str,
    pub(crate) texts: Vec<&'t str>,
}

impl Numbers<'_> {
    /// Whether there are as many as allowed.
    pub(crate) fn count(&self, allowed: &[usize], wanted: &'static str) -> Result<usize, DistributionError> {
        let found = self.texts.len();
        let name = self.name;
        if allowed.contains(&found) {
            Ok(found)
        } else {
            Err(DistributionError::Numbers { name, found, wanted })
        }
    }

    /// The number at a place.
    pub(crate) fn real(&self, at: usize) -> Result<f64, DistributionError> {
        let text = self.texts.get(at).copied().unwrap_or_default();
        text.parse::<f64>().ok().filter(|v| v.is_finite()).ok_or_else(|| DistributionError::Number {
            name: self.name,
            text: text.to_owned(),
            wanted: "a number",
        })
    }

    /// The number of tokens at a place.
    pub(crate) fn tokens(&self, at: usize) -> Result<u32, DistributionError> {
        let text = self.texts.get(at).copied().unwrap_or_default();
        text.parse().map_err(|_| DistributionError::Number {
            name: self.name,
            text: text.to_owned(),
            wanted: "a whole number of tokens",
        })
    }
}

/// Refuses a number that breaks its rule.
pub(crate) fn hold(
    name: &'static str,
    field: &'static str,
    value: f64,
    ok: bool,
    rule: &'static str,
) -> Result<(), DistributionError> {
    if value.is_finite() && ok { Ok(()) } else { Err(DistributionError::Range { name, field, value, rule }) }
}
