//! An experiment file that was read without error.

use crate::error::{Issue, SpecError};
use crate::plan::{DeviceSizes, Plan};
use crate::raw::SpecFile;
use crate::tree::{Node, Source};
use crate::{overrides, read, resolve, tree};

/// An experiment as written: keys and types are checked, names and sizes are not resolved yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    source: Source,
    document: Node,
    file: SpecFile,
}

impl Spec {
    /// Reads an experiment. `file_name` stands in error messages.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown or missing key, a value of the wrong type, an expression that does
    /// not parse.
    pub fn parse(text: &str, file_name: &str) -> Result<Spec, SpecError> {
        let source = Source { name: file_name.to_owned(), text: text.to_owned() };
        let sources = std::slice::from_ref(&source);
        let place = |issue: Box<Issue>| SpecError::new(*issue, sources);
        let document = tree::parse_document(text, 0).map_err(place)?;
        let file = read::read(&document, sources).map_err(place)?;
        Ok(Spec { source, document, file })
    }

    /// The trials on a device, after `overrides` (`("tenants.copy.threads", "512")`) are put into the
    /// document. A value that is not TOML is taken as a string.
    ///
    /// # Errors
    /// Whatever [`Spec::parse`] refuses, in an override; names that nothing has; values that this device
    /// cannot have.
    pub fn resolve(&self, device: &DeviceSizes, overrides: &[(String, String)]) -> Result<Plan, SpecError> {
        let mut sources = vec![self.source.clone()];
        sources.extend(overrides.iter().map(|(key, value)| overrides::source(key, value)));
        let place = |issue: Box<Issue>| SpecError::new(*issue, &sources);
        let changed;
        let file = if overrides.is_empty() {
            &self.file
        } else {
            let mut document = self.document.clone();
            for (i, (key, value)) in overrides.iter().enumerate() {
                overrides::apply(&mut document, key, value, i + 1).map_err(place)?;
            }
            changed = read::read(&document, &sources).map_err(place)?;
            &changed
        };
        resolve::plan(resolve::Cx { file, device, sources: &sources }).map_err(place)
    }

    /// Short name.
    pub fn name(&self) -> &str {
        &self.file.name.value
    }
    /// Headline.
    pub fn title(&self) -> &str {
        &self.file.title.value
    }
    /// Paper section and figure or table, empty if beyond the paper.
    pub fn section(&self) -> &str {
        self.file.section.as_ref().map_or("", |s| &s.value)
    }
    /// What it shows and why.
    pub fn summary(&self) -> &str {
        self.file.summary.value.trim()
    }
    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.source.text
    }
    /// The file name it was read under.
    pub fn file_name(&self) -> &str {
        &self.source.name
    }
    /// Names of the kernels that its tenants use, sorted.
    pub fn kernels(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .file
            .tenants
            .values()
            .filter_map(|t| Some(t.value.what.kernel.as_ref()?.value.as_str()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
