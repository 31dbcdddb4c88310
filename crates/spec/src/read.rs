//! From a document to the structs of `raw.rs`: unknown keys, missing keys and wrong types end here.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::expr::{Expr, ExprError};
use crate::raw::{
    At, Env, Figure, LoadText, MODES, Measure, Params, PerTenant, ReferenceText, ServerText, Settings,
    SharingText, SpecFile, Tenant, TenantUse, Trial, Variable, Variables, What,
};
use crate::server::{Key, LOAD_KEYS, SERVER_KEYS};
use crate::tree::{Entry, Node, Source, Span, Value};
use std::collections::BTreeMap;

/// Keys of each table, in the order of the reference manual. A test holds them against the schema.
pub(crate) const SPEC_KEYS: &[&str] =
    &["format", "name", "title", "section", "summary", "seed", "measure", "tenants", "trial", "figure"];
pub(crate) const MEASURE_KEYS: &[&str] =
    &["repeats", "precision", "budget", "warmup", "setups", "traced", "watchdog"];
/// A list of a tenant's keys, after some of a table's own.
macro_rules! tenant_keys {
    ($($own:literal),*) => {
        &[
            $($own,)*
            "kernel",
            "torch",
            "command",
            "server",
            "blocks",
            "threads",
            "params",
            "iterations",
            "duration",
            "launches",
            "gap",
            "request",
            "carveout",
            "role",
            "warmup",
            "arrivals",
            "rate",
            "cv",
            "trace",
            "weights",
            "dtype",
            "batch",
            "sequence",
            "mode",
            "tokens",
            "cuda_graph",
            "compile",
            "attention",
            "device",
            "python",
            "protocol",
            "env",
            "load",
        ]
    };
}
pub(crate) const TENANT_KEYS: &[&str] = tenant_keys!();
pub(crate) const USE_KEYS: &[&str] = tenant_keys!("use", "as", "copies");
pub(crate) const TRIAL_KEYS: &[&str] = &[
    "name",
    "series",
    "sharing",
    "tenants",
    "each",
    "pairs",
    "copies",
    "sweep",
    "cross",
    "x",
    "protocol",
    "baseline",
    "sequential",
    "host_bound",
    "pin",
    "reference",
];
pub(crate) const REFERENCE_KEYS: &[&str] = &["source", "metric", "value", "values"];
pub(crate) const FIGURE_KEYS: &[&str] = &["kind", "metric", "x_label", "y_label", "log_x", "trials"];

/// Reads a whole file.
pub(crate) fn read(root: &Node, sources: &[Source]) -> Checked<SpecFile> {
    let cx = Cx { sources };
    let t = Table::open(root, "", "", SPEC_KEYS)?;
    let format: At<u32> = t.required("format", &cx)?;
    if format.value != 1 {
        return Err(Issue::new(
            ErrorKind::Impossible,
            format.span,
            "format",
            format!("format {} is unknown", format.value),
        )
        .help("this version reads format 1; a newer cotenant wrote the file"));
    }
    let tenants: BTreeMap<String, At<Tenant>> = t.required("tenants", &cx)?;
    if let Some(e) = t.entry("tenants").filter(|_| tenants.is_empty()) {
        return Err(Issue::new(ErrorKind::Missing, e.key_span, "tenants", "no tenant is defined")
            .help("add a table, for example [tenants.copy]"));
    }
    Ok(SpecFile {
        format,
        name: t.required("name", &cx)?,
        title: t.required("title", &cx)?,
        section: t.optional("section", &cx)?,
        summary: t.required("summary", &cx)?,
        seed: t.optional("seed", &cx)?,
        measure: t.optional("measure", &cx)?,
        tenants,
        trial: t.required("trial", &cx)?,
        figure: t.optional("figure", &cx)?,
    })
}

/// What reading needs beside the node: the texts, to place errors inside of expressions.
pub(crate) struct Cx<'a> {
    sources: &'a [Source],
}

/// A type that a node can be read as.
trait Read: Sized {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self>;
}

fn wrong_type<T>(node: &Node, path: &str, expected: &str) -> Checked<T> {
    let message = format!("`{path}` must be {expected}, not {}", node.value.type_name());
    Err(Issue::new(ErrorKind::WrongType, node.span, path, message))
}

impl Read for String {
    fn read(node: &Node, path: &str, _: &Cx<'_>) -> Checked<Self> {
        match &node.value {
            Value::Str(s) => Ok(s.clone()),
            _ => wrong_type(node, path, "a string"),
        }
    }
}

impl Read for bool {
    fn read(node: &Node, path: &str, _: &Cx<'_>) -> Checked<Self> {
        match node.value {
            Value::Bool(b) => Ok(b),
            _ => wrong_type(node, path, "true or false"),
        }
    }
}

impl Read for u64 {
    fn read(node: &Node, path: &str, _: &Cx<'_>) -> Checked<Self> {
        match node.value {
            Value::Int(i) => u64::try_from(i).map_err(|_| {
                let message = format!("`{path}` is {i}, but cannot be negative");
                Issue::new(ErrorKind::Impossible, node.span, path, message)
            }),
            _ => wrong_type(node, path, "a whole number"),
        }
    }
}

impl Read for u32 {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let wide = u64::read(node, path, cx)?;
        u32::try_from(wide).map_err(|_| {
            let message = format!("`{path}` is {wide}, but can be at most {}", u32::MAX);
            Issue::new(ErrorKind::Impossible, node.span, path, message)
        })
    }
}

impl Read for f64 {
    fn read(node: &Node, path: &str, _: &Cx<'_>) -> Checked<Self> {
        match node.value {
            Value::Int(i) => Ok(i as f64),
            Value::Float(f) => Ok(f),
            _ => wrong_type(node, path, "a number"),
        }
    }
}

impl Read for Expr {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        match &node.value {
            Value::Int(i) => Ok(Expr::number(*i as f64)),
            Value::Float(f) if f.is_finite() => Ok(Expr::number(*f)),
            Value::Float(_) => {
                let message = format!("`{path}` must be a finite number");
                Err(Issue::new(ErrorKind::Impossible, node.span, path, message))
            }
            Value::Str(text) => Expr::parse(text)
                .map_err(|e| expr_issue(&e, ErrorKind::Syntax, text, node.span, path, cx.sources)),
            _ => wrong_type(node, path, "a number or an expression"),
        }
    }
}

/// Turns an error inside of an expression into one with its place in the file, as far as the string stands
/// there letter by letter (no escapes).
pub(crate) fn expr_issue(
    e: &ExprError,
    kind: ErrorKind,
    text: &str,
    span: Span,
    path: &str,
    sources: &[Source],
) -> Box<Issue> {
    let written = sources.get(span.source).and_then(|s| s.text.get(span.start..span.end)).unwrap_or_default();
    let mut inner = span;
    // A bare `--set` value stands without quotes.
    let quote = if written == text { Some(0) } else { written.find(text).filter(|q| (1..=3).contains(q)) };
    if let Some(quote) = quote {
        inner.start = span.start + quote + e.at.start;
        inner.end = span.start + quote + e.at.end;
    }
    Issue::new(kind, inner, path, format!("`{path}`: {}", e.message)).maybe_help(e.help.clone())
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        Ok(At { value: T::read(node, path, cx)?, span: node.span })
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        match &node.value {
            Value::Array(items) => {
                items.iter().enumerate().map(|(i, n)| T::read(n, &format!("{path}[{i}]"), cx)).collect()
            }
            _ => wrong_type(node, path, "a list"),
        }
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        match &node.value {
            Value::Table(entries) => entries
                .iter()
                .map(|e| {
                    let mut value_node = e.node.clone();
                    // A `[header]` table's own span may be empty; its key always has one.
                    if matches!(value_node.value, Value::Table(_)) {
                        value_node.span = e.key_span;
                    }
                    Ok((e.key.clone(), T::read(&value_node, &join(path, &e.key), cx)?))
                })
                .collect(),
            _ => wrong_type(node, path, "a table"),
        }
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A table whose keys are all known.
struct Table<'a> {
    path: String,
    span: Span,
    entries: &'a [Entry],
}

impl<'a> Table<'a> {
    fn open(node: &'a Node, path: &str, also: &str, keys: &'static [&'static str]) -> Checked<Self> {
        let Value::Table(entries) = &node.value else {
            let expected = if also.is_empty() { "a table".to_owned() } else { format!("{also} or a table") };
            return wrong_type(node, path, &expected);
        };
        for e in entries {
            if !keys.contains(&e.key.as_str()) {
                let place = if path.is_empty() { "at the top".to_owned() } else { format!("in `{path}`") };
                return Err(Issue::new(
                    ErrorKind::UnknownKey,
                    e.key_span,
                    join(path, &e.key),
                    format!("unknown key `{}` {place}", e.key),
                )
                .help(suggest(&e.key, "keys here", keys)));
            }
        }
        Ok(Table { path: path.to_owned(), span: node.span, entries })
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    fn optional<T: Read>(&self, key: &str, cx: &Cx<'_>) -> Checked<Option<T>> {
        self.entry(key).map(|e| T::read(&e.node, &join(&self.path, key), cx)).transpose()
    }

    fn required<T: Read>(&self, key: &str, cx: &Cx<'_>) -> Checked<T> {
        self.optional(key, cx)?.ok_or_else(|| {
            let place = if self.path.is_empty() { "the file".to_owned() } else { format!("`{}`", self.path) };
            Issue::new(
                ErrorKind::Missing,
                self.span,
                join(&self.path, key),
                format!("{place} needs the key `{key}`"),
            )
            .help(example(key))
        })
    }
}

/// A line that would supply a missing key.
fn example(key: &str) -> &'static str {
    match key {
        "format" => "add `format = 1`",
        "name" => "add a short name, for example `name = \"issue-slots\"`",
        "title" => "add a headline, for example `title = \"Issue slots\"`",
        "summary" => "add a paragraph that says what it shows, `summary = \"…\"`",
        "tenants" => {
            "define a tenant with [tenants.NAME], and name it in the trial with `tenants = [\"NAME\"]`"
        }
        "trial" => "add a trial with [[trial]]",
        "kernel" => "add a kernel, for example `kernel = \"fp32-mul\"`; `cotenant kernels` lists them",
        "sharing" => "add a sharing mode, for example `sharing = \"streams\"`",
        "mode" => "add a mode, for example `mode = \"mps\"`",
        "use" => "say which tenant to start from, for example `use = \"copy\"`",
        "source" => "say where the values come from, for example `source = \"paper, H100 NVL\"`",
        "metric" => "name the metric, for example `metric = \"slowdown\"`",
        "kind" => "add `kind = \"bars\"` or `kind = \"line\"`",
        _ => "add it",
    }
}

impl Read for Measure {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let t = Table::open(node, path, "", MEASURE_KEYS)?;
        Ok(Measure {
            repeats: t.optional("repeats", cx)?,
            precision: t.optional("precision", cx)?,
            budget: t.optional("budget", cx)?,
            warmup: t.optional("warmup", cx)?,
            setups: t.optional("setups", cx)?,
            traced: t.optional("traced", cx)?,
            watchdog: t.optional("watchdog", cx)?,
        })
    }
}

fn settings(t: &Table<'_>, cx: &Cx<'_>) -> Checked<Settings> {
    Ok(Settings {
        blocks: t.optional("blocks", cx)?,
        threads: t.optional("threads", cx)?,
        params: t.optional("params", cx)?,
        iterations: t.optional("iterations", cx)?,
        duration: t.optional("duration", cx)?,
        launches: t.optional("launches", cx)?,
        gap: t.optional("gap", cx)?,
        carveout: t.optional("carveout", cx)?,
        request: t.optional("request", cx)?,
        role: t.optional("role", cx)?,
        warmup: t.optional("warmup", cx)?,
        arrivals: t.optional("arrivals", cx)?,
        rate: t.optional("rate", cx)?,
        cv: t.optional("cv", cx)?,
        trace: t.optional("trace", cx)?,
        weights: t.optional("weights", cx)?,
        dtype: t.optional("dtype", cx)?,
        batch: t.optional("batch", cx)?,
        sequence: t.optional("sequence", cx)?,
        mode: t.optional("mode", cx)?,
        tokens: t.optional("tokens", cx)?,
        cuda_graph: t.optional("cuda_graph", cx)?,
        compile: t.optional("compile", cx)?,
        attention: t.optional("attention", cx)?,
        device: t.optional("device", cx)?,
        python: t.optional("python", cx)?,
        protocol: t.optional("protocol", cx)?,
        env: t.optional("env", cx)?,
        load: t.optional("load", cx)?,
    })
}

fn what(t: &Table<'_>, cx: &Cx<'_>) -> Checked<What> {
    Ok(What {
        kernel: t.optional("kernel", cx)?,
        torch: t.optional("torch", cx)?,
        command: t.optional("command", cx)?,
        server: t.optional("server", cx)?,
    })
}

/// The entries of a table whose values are read later, when variables have values; its keys are checked now.
fn entries(node: &Node, path: &str, keys: &[Key]) -> Checked<Vec<Entry>> {
    let Value::Table(entries) = &node.value else { return wrong_type(node, path, "a table") };
    let names: Vec<&str> = keys.iter().map(|k| k.0).collect();
    for e in entries {
        if !names.contains(&e.key.as_str()) {
            let message = format!("unknown key `{}` in `{path}`", e.key);
            return Err(Issue::new(ErrorKind::UnknownKey, e.key_span, join(path, &e.key), message)
                .help(suggest(&e.key, "keys here", &names)));
        }
    }
    Ok(entries.clone())
}

impl Read for ServerText {
    fn read(node: &Node, path: &str, _: &Cx<'_>) -> Checked<Self> {
        entries(node, path, SERVER_KEYS).map(ServerText)
    }
}

impl Read for LoadText {
    fn read(node: &Node, path: &str, _: &Cx<'_>) -> Checked<Self> {
        entries(node, path, LOAD_KEYS).map(LoadText)
    }
}

impl Read for Tenant {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let t = Table::open(node, path, "", TENANT_KEYS)?;
        Ok(Tenant { what: what(&t, cx)?, settings: settings(&t, cx)? })
    }
}

impl Read for TenantUse {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        if let Value::Str(name) = &node.value {
            let base = At { value: name.clone(), span: node.span };
            return Ok(TenantUse::plain(base));
        }
        let t = Table::open(node, path, "a tenant's name", USE_KEYS)?;
        Ok(TenantUse {
            base: t.required("use", cx)?,
            rename: t.optional("as", cx)?,
            copies: t.optional("copies", cx)?,
            what: what(&t, cx)?,
            settings: settings(&t, cx)?,
        })
    }
}

impl Read for SharingText {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let names: Vec<&str> = MODES.iter().map(|m| m.0).collect();
        let (mode, table) = match &node.value {
            Value::Str(name) => (At { value: name.clone(), span: node.span }, None),
            Value::Table(entries) => {
                // Without the list of keys: which ones are right depends on the mode.
                let t = Table { path: path.to_owned(), span: node.span, entries };
                (t.required::<At<String>>("mode", cx)?, Some(t))
            }
            _ => return wrong_type(node, path, "a sharing mode or a table"),
        };
        let Some((name, keys)) = MODES.iter().find(|m| m.0 == mode.value) else {
            let message = format!("`{}` is not a sharing mode", mode.value);
            return Err(Issue::new(ErrorKind::UnknownName, mode.span, path, message).help(suggest(
                &mode.value,
                "modes",
                &names,
            )));
        };
        let mut sharing = SharingText {
            mode: mode.clone(),
            percentage: None,
            priority: None,
            pinned_memory: None,
            sms: None,
            instances: None,
        };
        if let Some(t) = table {
            let unknown = |e: &&Entry| e.key != "mode" && !keys.contains(&e.key.as_str());
            if let Some(e) = t.entries.iter().find(unknown) {
                let owner: Vec<&str> =
                    MODES.iter().filter(|m| m.1.contains(&e.key.as_str())).map(|m| m.0).collect();
                let help = match (owner.is_empty(), keys.is_empty()) {
                    (false, _) => format!("`{}` belongs to {}", e.key, owner.join(" and ")),
                    (true, true) => format!("mode {name} has no other key"),
                    (true, false) => suggest(&e.key, "keys here", keys),
                };
                let message = format!("unknown key `{}` of the sharing mode {name}", e.key);
                return Err(
                    Issue::new(ErrorKind::UnknownKey, e.key_span, join(path, &e.key), message).help(help)
                );
            }
            sharing.percentage = t.optional("percentage", cx)?;
            sharing.priority = t.optional("priority", cx)?;
            sharing.pinned_memory = t.optional("pinned_memory", cx)?;
            sharing.sms = t.optional("sms", cx)?;
            sharing.instances = t.optional("instances", cx)?;
        }
        let missing = match *name {
            "green" if sharing.sms.is_none() => {
                Some(("sms", r#"{ mode = "green", sms = ["sms/2", "sms/2"] }"#))
            }
            "mig" if sharing.instances.is_none() => {
                Some(("instances", r#"{ mode = "mig", instances = ["MIG-…", "MIG-…"] }"#))
            }
            _ => None,
        };
        match missing {
            Some((key, like)) => Err(Issue::new(
                ErrorKind::Missing,
                node.span,
                join(path, key),
                format!("the sharing mode {name} needs `{key}`, one value per tenant"),
            )
            .help(format!("for example `sharing = {like}`"))),
            None => Ok(sharing),
        }
    }
}

impl Read for Variables {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let Value::Table(entries) = &node.value else {
            return wrong_type(node, path, "a table of lists");
        };
        let variable = |e: &Entry| {
            Ok(Variable {
                name: At { value: e.key.clone(), span: e.key_span },
                values: Read::read(&e.node, &join(path, &e.key), cx)?,
            })
        };
        Ok(Variables(entries.iter().map(variable).collect::<Checked<_>>()?))
    }
}

impl Read for Params {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let Value::Table(entries) = &node.value else { return wrong_type(node, path, "a table") };
        let param = |e: &Entry| {
            let name = At { value: e.key.clone(), span: e.key_span };
            Ok((name, Read::read(&e.node, &join(path, &e.key), cx)?))
        };
        Ok(Params(entries.iter().map(param).collect::<Checked<_>>()?))
    }
}

impl Read for Env {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let Value::Table(entries) = &node.value else { return wrong_type(node, path, "a table of strings") };
        let variable = |e: &Entry| {
            let name = At { value: e.key.clone(), span: e.key_span };
            Ok((name, Read::read(&e.node, &join(path, &e.key), cx)?))
        };
        Ok(Env(entries.iter().map(variable).collect::<Checked<_>>()?))
    }
}

impl Read for PerTenant {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        match &node.value {
            Value::Array(_) => Ok(PerTenant::Each(Read::read(node, path, cx)?)),
            _ => Ok(PerTenant::All(Read::read(node, path, cx)?)),
        }
    }
}

impl Read for Trial {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let t = Table::open(node, path, "", TRIAL_KEYS)?;
        Ok(Trial {
            name: t.required("name", cx)?,
            series: t.optional("series", cx)?,
            sharing: t.required("sharing", cx)?,
            tenants: if t.entry("each").is_some() || t.entry("pairs").is_some() {
                t.optional("tenants", cx)?
            } else {
                Some(t.required("tenants", cx)?)
            },
            each: t.optional("each", cx)?,
            pairs: t.optional("pairs", cx)?,
            copies: t.optional("copies", cx)?,
            sweep: t.optional("sweep", cx)?,
            cross: t.optional("cross", cx)?,
            x: t.optional("x", cx)?,
            protocol: t.optional("protocol", cx)?,
            baseline: t.optional("baseline", cx)?,
            sequential: t.optional("sequential", cx)?,
            host_bound: t.optional("host_bound", cx)?,
            pin: t.optional("pin", cx)?,
            reference: t.optional("reference", cx)?,
        })
    }
}

impl Read for ReferenceText {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let t = Table::open(node, path, "", REFERENCE_KEYS)?;
        let reference = ReferenceText {
            source: t.required("source", cx)?,
            metric: t.required("metric", cx)?,
            value: t.optional("value", cx)?,
            values: t.optional("values", cx)?,
        };
        if reference.value.is_some() == reference.values.is_some() {
            return Err(Issue::new(
                ErrorKind::Missing,
                node.span,
                path,
                format!("`{path}` needs either `value` or `values`"),
            )
            .help("`value` for every cell, `values` for one per cell"));
        }
        Ok(reference)
    }
}

impl Read for Figure {
    fn read(node: &Node, path: &str, cx: &Cx<'_>) -> Checked<Self> {
        let t = Table::open(node, path, "", FIGURE_KEYS)?;
        let kind: At<String> = t.required("kind", cx)?;
        let plain = matches!(kind.value.as_str(), "bars" | "line");
        Ok(Figure {
            metric: if plain { Some(t.required("metric", cx)?) } else { t.optional("metric", cx)? },
            x_label: if plain { Some(t.required("x_label", cx)?) } else { t.optional("x_label", cx)? },
            y_label: if plain { Some(t.required("y_label", cx)?) } else { t.optional("y_label", cx)? },
            log_x: t.optional("log_x", cx)?,
            trials: t.optional("trials", cx)?,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What this file accepts and what the schema says are written in two places.
    #[test]
    fn the_keys_are_those_of_the_schema() {
        let schema = crate::schema().to_value();
        let tables = [
            ("", SPEC_KEYS),
            ("Measure", MEASURE_KEYS),
            ("Tenant", TENANT_KEYS),
            ("TenantTable", USE_KEYS),
            ("Trial", TRIAL_KEYS),
            ("Reference", REFERENCE_KEYS),
            ("Figure", FIGURE_KEYS),
        ];
        for (name, keys) in tables {
            let table = if name.is_empty() { &schema } else { &schema["$defs"][name] };
            let properties = table["properties"].as_object().unwrap_or_else(|| panic!("no table {name}"));
            let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            assert_eq!(described, keys.iter().copied().collect(), "{name}");
            for (key, property) in properties {
                assert!(property["description"].is_string(), "{name}.{key} has no description");
            }
        }
    }
}
