//! Servers of language models as tenants: the tables `server` and `load`.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::expr::{Dim, Expr};
use crate::plan::{Load, ServerLoad, ServerPlan, ServerSetup};
use crate::raw::{At, LoadText, ServerText};
use crate::tenant::Written;
use crate::tree::{Entry, Node, Span, Value};
use crate::value::Scope;
use cotenant_units::Nanos;
use serde_json::Map;

/// Kinds of servers. A test holds them against those that can be started.
pub const PRESETS: [&str; 8] =
    ["vllm", "sglang", "llama-cpp", "tgi", "transformers-serve", "mistral-rs", "token-server", "generic"];
/// Requests of one phase, where neither a number nor a time is given.
const REQUESTS: u32 = 100;
/// Requests of one phase at most: more would not fit a record.
const MAX_REQUESTS: f64 = 100_000.0;
/// Requests before each phase that do not count.
const WARMUP: u32 = 4;

/// What the value of a key is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A table of strings.
    Names,
    /// Any table, taken over as it is.
    Table,
    /// True or false.
    Flag,
    /// A whole number from the first to the second.
    Count(f64, f64),
    /// More than 0 and at most this.
    Number(f64),
    /// A length of time.
    Time,
    /// A number or a distribution in words.
    Length,
}

/// A key with its shape and what it is.
pub(crate) type Key = (&'static str, Shape, &'static str);

pub(crate) const SERVER_KEYS: &[Key] = &[
    (
        "preset",
        Shape::Text,
        "Kind of server: `vllm`, `sglang`, `llama-cpp`, `tgi`, `transformers-serve`, `mistral-rs`, `token-server` or `generic` (default, for `command` and `url`).",
    ),
    ("url", Shape::Text, "Address of a server that someone else runs; it is never stopped."),
    (
        "of",
        Shape::Text,
        "Tenant of the trial whose server this one uses too, for example by another adapter (`load.model`); no other key goes with it.",
    ),
    ("model", Shape::Text, "Model as the server takes it: a path or a name."),
    (
        "command",
        Shape::Texts,
        "Command line instead of the preset's; `{port}`, `{host}`, `{model}`, `{served_name}`, `{memory_share}`, `{max_model_len}`, `{log_dir}` are filled in.",
    ),
    ("args", Shape::Texts, "Added to the end of the command line."),
    ("served_name", Shape::Text, "Name that requests use."),
    ("adapters", Shape::Names, "LoRA adapters: name and path."),
    ("memory_share", Shape::Number(1.0), "Part of the card's memory."),
    ("max_model_len", Shape::Count(1.0, 1e8), "Most tokens of a request, prompt and answer."),
    ("dtype", Shape::Text, "Type of weights as the server names it."),
    ("device", Shape::Text, "Device as the server names it, where that can be chosen."),
    ("api_key_env", Shape::Text, "Environment variable with the key that requests must bring."),
    ("python", Shape::Text, "Python interpreter for servers that are modules of it; default `python3`."),
    ("startup", Shape::Time, "Time until it must be ready; default `\"300s\"`."),
    (
        "start_together",
        Shape::Flag,
        "Start beside the trial's other servers and not after them; default false, since a server that measures free memory must be alone meanwhile.",
    ),
    (
        "restart",
        Shape::Flag,
        "Start it anew for each trial, so that nothing of the trial before is left in it; default false: it is kept while neither server nor sharing changes.",
    ),
];

pub(crate) const LOAD_KEYS: &[Key] = &[
    (
        "concurrency",
        Shape::Count(1.0, 100_000.0),
        "Closed loop: so many users, each with one request at a time.",
    ),
    ("think", Shape::Time, "Closed loop: pause of a user between requests."),
    ("rate", Shape::Number(1e6), "Open loop: requests per second; of a trace, what it is stretched to."),
    ("arrivals", Shape::Text, "Open loop: `poisson` (default), `constant`, `gamma(CV)`, `weibull(CV)`."),
    ("profile", Shape::Text, "Open loop: `on-off(5s,15s)`, `ramp(0,2,60s)`, `step(30s,2)`."),
    ("trace", Shape::Text, "Open loop: path of a trace."),
    (
        "trace_part",
        Shape::Text,
        "Open loop: `1/2` is the first of two equal parts of the trace, every other request; `rate` is then that of the part.",
    ),
    (
        "turns",
        Shape::Length,
        "Turns of a session, each of which carries what was said before; `rate` and `requests` of an open loop are then of sessions.",
    ),
    (
        "turn_think",
        Shape::Text,
        "Seconds between an answer and the next turn: `2.5`, `exponential(5)`; default 0.",
    ),
    (
        "models",
        Shape::Text,
        "Models and adapters that requests (or sessions) are drawn for, by weight: `base=2,adapter=1`.",
    ),
    (
        "exact_rate",
        Shape::Flag,
        "Open loop: stretch the drawn or recorded times so that the `requests` of a phase come at exactly `rate`; default false.",
    ),
    (
        "requests",
        Shape::Count(1.0, MAX_REQUESTS),
        "Requests of a phase; default 100, or as many as come in `duration`.",
    ),
    ("duration", Shape::Time, "Length of a phase."),
    ("warmup", Shape::Count(0.0, 10_000.0), "Requests before each phase that do not count; default 4."),
    ("prompt_tokens", Shape::Length, "Tokens of a prompt: a number or a distribution; default 512."),
    ("output_tokens", Shape::Length, "Tokens of an answer: a number or a distribution; default 128."),
    ("mix", Shape::Text, "Weights of the classes `short`, `medium`, `long`: `short=2,medium=1,long=1`."),
    ("prefix", Shape::Text, "Shared prefixes: `COUNT:TOKENS:SHARE`."),
    ("prompts", Shape::Text, "Path of a file of prompts."),
    (
        "vocabulary",
        Shape::Text,
        "Words of made-up prompts: `words`, or `plain` (calibrated by the server's own counts).",
    ),
    ("tokenizer", Shape::Text, "Path of a `tokenizer.json`: prompts of exact length."),
    ("model", Shape::Text, "Model or adapter that requests ask for; default: the server's."),
    ("completions", Shape::Flag, "Use `/v1/completions` and not chat; default false."),
    ("stream", Shape::Flag, "Stream answers; default true."),
    ("may_end", Shape::Flag, "Let answers end by themselves (no `ignore_eos`); default false."),
    ("body", Shape::Table, "What else stands in each body, for example `{ temperature = 0.7 }`."),
    ("in_flight", Shape::Count(1.0, 100_000.0), "Open loop: most requests in flight; default 10,000."),
    ("timeout", Shape::Time, "Time limit of a request; default `\"120s\"`."),
    ("chunks", Shape::Flag, "Keep the time of each chunk in `requests.jsonl`; default false."),
    ("slo", Shape::Text, "Limits for goodput: `ttft=200ms,tpot=50ms,e2e=10s`."),
];

/// A server tenant and its load.
pub(crate) fn server(
    own: Option<&At<ServerText>>,
    base: Option<&At<ServerText>>,
    w: &Written<'_>,
    seed: u64,
    scope: &Scope<'_>,
) -> Checked<(ServerPlan, Load)> {
    let none: &[Entry] = &[];
    let path = format!("{}.server", w.path);
    let at = own.or(base).map_or(w.span, |t| t.span);
    let layers = [own, base].map(|t| t.map_or(none, |t| t.value.0.as_slice()));
    let mut fields = values(SERVER_KEYS, layers, &path, scope)?;
    let named = fields.get("preset").and_then(|p| p.as_str()).map(str::to_owned);
    let preset = named.unwrap_or_else(|| "generic".into());
    if !PRESETS.contains(&preset.as_str()) {
        let message = format!("there is no preset `{preset}`");
        return Err(Issue::new(ErrorKind::UnknownName, at, format!("{path}.preset"), message)
            .help(suggest(&preset, "presets", &PRESETS)));
    }
    let has = |key: &str| fields.contains_key(key);
    let wrong = |kind, key: &str, message: &str, help: &str| {
        Err(Issue::new(kind, at, format!("{path}.{key}"), message.to_owned()).help(help.to_owned()))
    };
    if let Some(other) = SERVER_KEYS.iter().map(|k| k.0).find(|k| *k != "of" && has("of") && has(k)) {
        return wrong(
            ErrorKind::Impossible,
            "of",
            &format!("`of` uses the server of another tenant as it is, so it takes no `{other}`"),
            "leave out one of them",
        );
    }
    if has("url") && ["command", "args", "memory_share", "restart"].into_iter().any(has) {
        return wrong(
            ErrorKind::Impossible,
            "url",
            "`url` is of a server that someone else runs: it is not started, so it takes no `command`, `args`, `memory_share` or `restart`",
            "leave out the `url`, or what starts a server",
        );
    }
    if preset == "generic" && !has("url") && !has("command") && !has("of") {
        return wrong(
            ErrorKind::Missing,
            "preset",
            "the server has neither `preset` nor `command` nor `url`",
            "for example `server = { preset = \"vllm\", model = \"models/llama-3.1-8b\" }`",
        );
    }
    if !has("model") && !has("url") && !has("command") && !has("of") && preset != "token-server" {
        return wrong(ErrorKind::Missing, "model", "the server has no `model`", "name a path or a model");
    }
    fields.insert("preset".into(), preset.into());
    let setup: ServerSetup = typed(fields, at, &path)?;

    let path = format!("{}.load", w.path);
    let at = w.own.load.as_ref().or(w.inherited.load.as_ref()).map_or(w.span, |t| t.span);
    let of = |t: &'_ Option<At<LoadText>>| t.as_ref().map(|t| t.value.0.clone()).unwrap_or_default();
    let (mine, theirs) = (of(&w.own.load), of(&w.inherited.load));
    let fields = values(LOAD_KEYS, [&mine, &theirs], &path, scope)?;
    let load: ServerLoad = typed(fields, at, &path)?;
    check_load(&load, at, &path)?;
    let iterations = load.requests.unwrap_or(if load.duration.is_some() { 1 } else { REQUESTS });
    let warmup = load.warmup.unwrap_or(WARMUP);
    let env = crate::program::env(w)?;
    let plan = ServerPlan { setup, load, env, seed };
    Ok((plan, Load { iterations, warmup, gap: Nanos(0), arrivals: None }))
}

fn typed<T: serde::de::DeserializeOwned>(
    fields: Map<String, serde_json::Value>,
    at: Span,
    path: &str,
) -> Checked<T> {
    serde_json::from_value(fields.into())
        .map_err(|e| Issue::new(ErrorKind::WrongType, at, path.to_owned(), format!("`{path}`: {e}")))
}

fn check_load(l: &ServerLoad, at: Span, path: &str) -> Checked<()> {
    let fault = |kind, message: &str, help: &str| {
        Err(Issue::new(kind, at, path.to_owned(), message.to_owned()).help(help.to_owned()))
    };
    let open = l.rate.is_some() || l.trace.is_some() || l.arrivals.is_some() || l.profile.is_some();
    match (l.concurrency.is_some(), open) {
        (true, true) => fault(
            ErrorKind::Impossible,
            "a load is closed (`concurrency`) or open (`rate`, `arrivals`, `profile`, `trace`), not both",
            "keep one of them",
        ),
        (false, false) => fault(
            ErrorKind::Missing,
            "the load does not say how much",
            "for example `load = { concurrency = 16 }` or `load = { rate = 4 }`",
        ),
        (false, true) if l.rate.is_none() && l.trace.is_none() => {
            fault(ErrorKind::Missing, "an open load without a trace needs `rate`", "for example `rate = 4`")
        }
        (false, true) if l.think.is_some() => fault(
            ErrorKind::Impossible,
            "`think` is of users of a closed loop",
            "leave it out, or give `concurrency` instead of a rate",
        ),
        _ => Ok(()),
    }
}

/// The values of all keys that stand in one of the layers; the first one wins.
fn values(
    keys: &[Key],
    layers: [&[Entry]; 2],
    path: &str,
    scope: &Scope<'_>,
) -> Checked<Map<String, serde_json::Value>> {
    let mut out = Map::new();
    for (key, shape, _) in keys {
        let found = layers.iter().find_map(|l| l.iter().find(|e| e.key == *key));
        if let Some(e) = found {
            out.insert((*key).to_owned(), value(&e.node, *shape, &format!("{path}.{key}"), scope)?);
        }
    }
    Ok(out)
}

fn value(node: &Node, shape: Shape, path: &str, scope: &Scope<'_>) -> Checked<serde_json::Value> {
    let wrong = |what: &str| {
        let message = format!("`{path}` must be {what}, not {}", node.value.type_name());
        Issue::new(ErrorKind::WrongType, node.span, path.to_owned(), message)
    };
    let expected = |what: &str| Err(wrong(what));
    let expression = || -> Checked<At<Expr>> {
        let value = match &node.value {
            Value::Int(i) => Expr::number(*i as f64),
            Value::Float(f) if f.is_finite() => Expr::number(*f),
            Value::Str(s) => Expr::parse(s).map_err(|e| {
                Issue::new(ErrorKind::Syntax, node.span, path.to_owned(), format!("`{path}`: {}", e.message))
            })?,
            _ => return Err(wrong("a number or an expression")),
        };
        Ok(At { value, span: node.span })
    };
    match (shape, &node.value) {
        (Shape::Text, Value::Str(s)) => Ok(s.clone().into()),
        (Shape::Text, _) => expected("a string"),
        (Shape::Flag, Value::Bool(b)) => Ok((*b).into()),
        (Shape::Flag, _) => expected("true or false"),
        (Shape::Texts, Value::Array(items)) => {
            let one = |(i, n): (usize, &Node)| value(n, Shape::Text, &format!("{path}[{i}]"), scope);
            Ok(items.iter().enumerate().map(one).collect::<Checked<Vec<_>>>()?.into())
        }
        (Shape::Texts, _) => expected("a list of strings"),
        (Shape::Names, Value::Table(entries)) => {
            let one = |e: &Entry| {
                Ok((e.key.clone(), value(&e.node, Shape::Text, &format!("{path}.{}", e.key), scope)?))
            };
            Ok(entries.iter().map(one).collect::<Checked<Map<_, _>>>()?.into())
        }
        (Shape::Table, Value::Table(_)) => json(node, path),
        (Shape::Names | Shape::Table, _) => expected("a table"),
        (Shape::Length, Value::Str(s)) => Ok(s.clone().into()),
        (Shape::Length, Value::Int(i)) if *i > 0 => Ok(i.to_string().into()),
        (Shape::Length, _) => expected("a number of tokens or a distribution such as \"uniform(100,200)\""),
        (Shape::Count(least, most), _) => {
            Ok((scope.integer(&expression()?, path, least, most)? as u64).into())
        }
        (Shape::Number(most), _) => {
            let e = expression()?;
            let q = scope.eval(&e, path)?;
            if !(matches!(q.dim, Dim::Plain | Dim::Percent) && q.value > 0.0 && q.value <= most) {
                let message = format!("`{path}` must be a number above 0 and at most {most}");
                return Err(Issue::new(ErrorKind::Impossible, node.span, path.to_owned(), message));
            }
            Ok(q.value.into())
        }
        (Shape::Time, _) => Ok(scope.time(&expression()?, path, true)?.0.into()),
    }
}

/// Any value as JSON.
fn json(node: &Node, path: &str) -> Checked<serde_json::Value> {
    Ok(match &node.value {
        Value::Str(s) => s.clone().into(),
        Value::Int(i) => (*i).into(),
        Value::Float(f) => (*f).into(),
        Value::Bool(b) => (*b).into(),
        Value::Datetime => {
            let message = format!("`{path}` is a date, which JSON does not have");
            return Err(Issue::new(ErrorKind::WrongType, node.span, path.to_owned(), message)
                .help("write it as a string"));
        }
        Value::Array(items) => items.iter().map(|n| json(n, path)).collect::<Checked<Vec<_>>>()?.into(),
        Value::Table(entries) => {
            let one = |e: &Entry| Ok((e.key.clone(), json(&e.node, &format!("{path}.{}", e.key))?));
            entries.iter().map(one).collect::<Checked<Map<_, _>>>()?.into()
        }
    })
}

/// What one table says of its keys, as JSON Schema.
pub(crate) fn schema(keys: &[Key]) -> schemars::Schema {
    let quantity = serde_json::json!(["number", "string"]);
    let mut properties = Map::new();
    for (key, shape, what) in keys {
        let kind = match shape {
            Shape::Text => serde_json::json!({"type": "string"}),
            Shape::Texts => serde_json::json!({"type": "array", "items": {"type": "string"}}),
            Shape::Names => {
                serde_json::json!({"type": "object", "additionalProperties": {"type": "string"}})
            }
            Shape::Table => serde_json::json!({"type": "object"}),
            Shape::Flag => serde_json::json!({"type": "boolean"}),
            Shape::Count(..) | Shape::Number(_) | Shape::Time | Shape::Length => {
                serde_json::json!({"type": quantity})
            }
        };
        let mut property = kind;
        property["description"] = (*what).into();
        properties.insert((*key).to_owned(), property);
    }
    schemars::json_schema!({"type": "object", "additionalProperties": false, "properties": properties})
}
