//! Secrets, and what stands for them in all that is written down.

use std::sync::Arc;

/// Values shorter than this are no secrets: replacing them would garble what they stand in.
const SHORTEST: usize = 4;
/// What stands for a secret.
const MASK: &str = "***";

/// Secrets that text is to be without. A clone costs no memory.
#[derive(Clone, Default)]
pub struct Mask(Arc<[String]>);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} secrets)", self.0.len())
    }
}

impl Mask {
    /// Of these values, as they are and as JSON writes them.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Mask {
        // A value of several lines is written so, too: each line alone is replaced.
        let lines = values.into_iter().flat_map(str::lines).map(str::trim);
        let mut parts: Vec<String> = Vec::new();
        for line in lines.filter(|l| l.len() >= SHORTEST) {
            let json = serde_json::to_string(line).unwrap_or_default();
            let inside = json.get(1..json.len().saturating_sub(1)).unwrap_or(line);
            parts.extend([line.to_owned(), inside.to_owned()]);
        }
        // A longer one may begin with a shorter one, which must not break it up.
        parts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        parts.dedup();
        Mask(parts.into())
    }

    /// The values of environment variables named like `*_KEY`, `*_TOKEN`, `*_SECRET`, and of such options in a command
    /// line.
    pub(crate) fn of(env: impl Iterator<Item = (String, String)>, argv: &[String]) -> Mask {
        let secret = |k: &str| {
            let k = k.to_ascii_uppercase();
            ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|e| k == *e || k.ends_with(&format!("_{e}")))
        };
        let mut values: Vec<String> = env.filter(|(k, _)| secret(k)).map(|(_, v)| v).collect();
        for (i, item) in argv.iter().enumerate() {
            let (flag, inline) = match item.split_once('=') {
                Some((flag, v)) => (flag, Some(v)),
                None => (item.as_str(), None),
            };
            if ["api-key", "hf-token", "auth-token", "secret", "password"].iter().any(|e| flag.ends_with(e))
                && flag.starts_with('-')
            {
                values.extend(inline.or(argv.get(i + 1).map(String::as_str)).map(str::to_owned));
            }
        }
        Mask::new(values.iter().map(String::as_str))
    }

    /// The text without the secrets. It must not be cut before: a part of a secret is not known.
    pub fn apply(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for s in self.0.iter().filter(|s| text.contains(s.as_str())) {
            out = out.replace(s, MASK);
        }
        out
    }

    /// Bytes at the end of a part of a line that may be the begin of a secret.
    pub(crate) fn overlap(&self) -> usize {
        self.0.first().map_or(0, |s| s.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_also_within_json_and_shown_nowhere() {
        let mask = Mask::new(["sk-\"quoted\"", "sk-other", "abc", ""]);
        assert_eq!(mask.apply("sk-\"quoted\" sk-other abc"), "*** *** abc");
        assert_eq!(mask.apply(r#"{"error": "sk-\"quoted\""}"#), r#"{"error": "***"}"#);
        assert_eq!(format!("{mask:?}"), "Mask(3 secrets)");
        assert_eq!(Mask::default().apply("sk-other"), "sk-other");
    }
}
