//! `--set path=value`: puts a value into the document before it is read, so that an override is checked by
//! the same rules as a line of the file.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::read::{
    FIGURE_KEYS, MEASURE_KEYS, REFERENCE_KEYS, SPEC_KEYS, TENANT_KEYS, TRIAL_KEYS, USE_KEYS, join,
};
use crate::tree::{Entry, Node, Source, Span, Value, parse_value};

/// The text shown in an error about an override.
pub(crate) fn source(key: &str, value: &str) -> Source {
    Source { name: "--set".to_owned(), text: format!("{key}={value}") }
}

/// Applies one override, whose text is `source(key, value)` at index `at`.
pub(crate) fn apply(root: &mut Node, key: &str, value: &str, at: usize) -> Checked<()> {
    let offset = key.len() + 1;
    let span = Span { source: at, start: offset, end: offset + value.len() };
    // What is not TOML is a string: `--set tenants.copy.params.bytes=1GiB` needs no quotes within quotes.
    let value =
        parse_value(value, at, offset).unwrap_or_else(|_| Node { span, value: Value::Str(value.to_owned()) });
    let mut segments = Vec::new();
    let mut start = 0;
    for segment in key.split('.') {
        segments.push((segment, Span { source: at, start, end: start + segment.len() }));
        start += segment.len() + 1;
    }
    set(root, &segments, "", value)
}

fn set(node: &mut Node, segments: &[(&str, Span)], path: &str, value: Node) -> Checked<()> {
    let Some((&(segment, span), rest)) = segments.split_first() else {
        *node = value;
        return Ok(());
    };
    let here = join(path, segment);
    match &mut node.value {
        Value::Table(entries) => {
            let known = known_keys(path);
            let present = entries.iter().position(|e| e.key == segment);
            let index = match present {
                Some(i) => i,
                // A new key: a leaf of a table with fixed keys, or a new parameter of a kernel. Which
                // parameters the kernel has is checked with it.
                None if known.contains(&segment) || path.ends_with(".params") => {
                    let empty = Node { span, value: Value::Table(Vec::new()) };
                    entries.push(Entry { key: segment.to_owned(), key_span: span, node: empty });
                    entries.len() - 1
                }
                None => {
                    let mut names: Vec<&str> = known.to_vec();
                    names.extend(entries.iter().map(|e| e.key.as_str()).filter(|k| !known.contains(k)));
                    let place = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
                    return Err(Issue::new(
                        ErrorKind::UnknownKey,
                        span,
                        &here,
                        format!("{place} has no `{segment}`"),
                    )
                    .help(suggest(segment, "there are", &names)));
                }
            };
            if rest.is_empty() {
                entries[index].key_span = span;
            }
            set(&mut entries[index].node, rest, &here, value)
        }
        Value::Array(items) => {
            let count = items.len();
            match segment.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                Some(item) => set(item, rest, &format!("{path}[{segment}]"), value),
                None => Err(Issue::new(
                    ErrorKind::UnknownKey,
                    span,
                    &here,
                    format!("`{path}` is a list of {count}, and `{segment}` is not a place in it"),
                )
                .help(format!("count from 0 to {}", count.saturating_sub(1)))),
            }
        }
        other => Err(Issue::new(
            ErrorKind::UnknownKey,
            span,
            &here,
            format!("`{path}` is {}, so it has no `{segment}`", other.type_name()),
        )),
    }
}

/// Keys that a table at `path` may have, empty where they are free (tenants, parameters, sweep variables).
fn known_keys(path: &str) -> &'static [&'static str] {
    let mut parts = path.split('.').map(|p| p.split('[').next().unwrap_or(p));
    match (parts.next(), parts.next(), parts.next()) {
        (Some(""), ..) => SPEC_KEYS,
        (Some("measure"), None, _) => MEASURE_KEYS,
        (Some("tenants"), Some(_), None) => TENANT_KEYS,
        (Some("trial"), None, _) => TRIAL_KEYS,
        (Some("trial"), Some("tenants"), None) => USE_KEYS,
        (Some("trial"), Some("reference"), None) => REFERENCE_KEYS,
        (Some("figure"), None, _) => FIGURE_KEYS,
        _ => &[],
    }
}
