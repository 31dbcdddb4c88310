//! The generated files: PTX modules and what `ptxas` says of each entry point.

use crate::Module;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What one thread and one block of an entry point take on Hopper (sm_90 or sm_90a), as `ptxas -v` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Resources {
    /// Registers per thread.
    pub registers: u32,
    /// Static shared memory per block, bytes.
    pub static_shared: u32,
    /// Local memory stores by spills, bytes per thread.
    pub spill_stores: u32,
    /// Local memory loads by spills, bytes per thread.
    pub spill_loads: u32,
}

#[derive(Deserialize, Default)]
struct Table {
    entries: BTreeMap<String, Resources>,
}

// A table that does not parse counts as empty: every lookup then reports its entry as missing, and a test fails.
static TABLE: LazyLock<Table> =
    LazyLock::new(|| serde_json::from_str(include_str!("../ptx/resources.json")).unwrap_or_default());

/// The text of a PTX module (PTX ISA 8.0; drivers from 525).
pub fn ptx(module: Module) -> &'static str {
    match module {
        Module::Portable => include_str!("../ptx/portable.ptx"),
        Module::Sm90a => include_str!("../ptx/sm90a.ptx"),
    }
}

/// SHA-256 over all modules, in the order of [`Module`], as lower-case hex: the provenance of a run's kernels.
pub fn ptx_sha256() -> String {
    let mut hash = Sha256::new();
    for module in [Module::Portable, Module::Sm90a] {
        hash.update(ptx(module));
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Registers and static shared memory of an entry point.
pub fn resources(entry: &str) -> Option<Resources> {
    TABLE.entries.get(entry).copied()
}

/// Names of all entry points that the table lists.
#[cfg(test)]
pub(crate) fn entries() -> impl Iterator<Item = &'static str> {
    TABLE.entries.keys().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(module: Module) -> Vec<&'static str> {
        ptx(module)
            .lines()
            .filter_map(|l| l.trim().strip_prefix(".visible .entry ")?.strip_suffix('('))
            .collect()
    }

    #[test]
    fn the_table_lists_exactly_the_entries_of_the_modules() {
        let mut all: Vec<_> = [Module::Portable, Module::Sm90a].into_iter().flat_map(declared).collect();
        all.sort_unstable();
        assert_eq!(all, entries().collect::<Vec<_>>());
        assert!(all.len() > 100, "{}", all.len());
    }

    #[test]
    fn nothing_spills() {
        for e in entries() {
            let r = resources(e).unwrap();
            assert_eq!((r.spill_stores, r.spill_loads), (0, 0), "{e}");
            assert!((8..=255).contains(&r.registers), "{e}: {} registers", r.registers);
        }
    }

    #[test]
    fn modules_target_what_they_promise() {
        assert!(ptx(Module::Portable).contains("\n.target sm_80\n"));
        assert!(ptx(Module::Sm90a).contains("\n.target sm_90a\n"));
        for m in [Module::Portable, Module::Sm90a] {
            assert!(ptx(m).contains("\n.version 8.0\n"), "{m:?}");
        }
    }

    #[test]
    fn the_hash_is_of_the_text() {
        let h = ptx_sha256();
        assert_eq!(h.len(), 64);
        assert!(h.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        assert_eq!(h, ptx_sha256());
    }
}
