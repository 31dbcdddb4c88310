//! What can be wrong with a kernel's name, parameters or shape. Messages read after "failed to".

/// Why a kernel cannot be resolved.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No registry entry has this name.
    #[error("find kernel `{name}`: {}", hint(nearest, "`cotenant kernels` lists all"))]
    UnknownKernel {
        /// The name asked for.
        name: String,
        /// The most similar name, if one is similar.
        nearest: Option<&'static str>,
    },
    /// The kernel has no such parameter.
    #[error("set parameter `{param}` of kernel `{kernel}`: {}", hint(nearest, known))]
    UnknownParam {
        /// Kernel.
        kernel: &'static str,
        /// The parameter asked for.
        param: String,
        /// The most similar name, if one is similar.
        nearest: Option<&'static str>,
        /// What the kernel does have.
        known: String,
    },
    /// A value outside what the parameter accepts.
    #[error("set parameter `{param}` of kernel `{kernel}` to {value}: it takes {accepted}")]
    BadValue {
        /// Kernel.
        kernel: &'static str,
        /// Parameter.
        param: &'static str,
        /// The value asked for.
        value: f64,
        /// What would be right.
        accepted: String,
    },
    /// A launch shape that no GPU, or not this kernel, takes.
    #[error("launch kernel `{kernel}` with {blocks} blocks of {threads} threads: {rule}")]
    Shape {
        /// Kernel.
        kernel: &'static str,
        /// Blocks asked for.
        blocks: u32,
        /// Threads per block asked for.
        threads: u32,
        /// What would be right.
        rule: String,
    },
    /// The generated files lack an entry point: the checkout is inconsistent.
    #[error("find entry point `{entry}` in ptx/resources.json: run `cargo xtask kernels`")]
    NoEntry {
        /// Entry point.
        entry: String,
    },
}

fn hint(nearest: &Option<&'static str>, otherwise: &str) -> String {
    match nearest {
        Some(n) => format!("there is none; did you mean `{n}`?"),
        None => format!("there is none; {otherwise}"),
    }
}

/// The candidate most similar to `name`, unless even that one differs in more than a third of its letters (at
/// least two).
pub(crate) fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let limit = (name.chars().count() / 3).max(2);
    candidates.map(|c| (distance(name, c), c)).filter(|(d, _)| *d <= limit).min().map(|(_, c)| c)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in [("", "abc", 3), ("kitten", "sitting", 3), ("copy", "copy", 0), ("ilp", "lip", 2)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn only_similar_names_are_suggested() {
        let names = || ["fp32-mul", "fp32-fma", "sleep"].into_iter();
        assert_eq!(nearest("fp32-mull", names()), Some("fp32-mul"));
        assert_eq!(nearest("slep", names()), Some("sleep"));
        assert_eq!(nearest("quantum", names()), None);
    }
}
