//! Models and programs as tenants, and the load of any tenant.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::expr::{Dim, Quantity};
use crate::models;
use crate::plan::{ArrivalProcess, Arrivals, CommandPlan, Load, ModelSetup, Rate, TorchPlan};
use crate::raw::{At, Env};
use crate::resolve::one_of;
use crate::tenant::{Written, pick};
use crate::value::{Scope, shown};
use cotenant_units::Nanos;
use std::collections::BTreeMap;

/// The report's protocol: iterations of one phase, and those before it that do not count.
const ITERATIONS: u32 = 100;
const WARMUP: u32 = 10;
/// Iterations of one phase at most: more would not fit a record.
const MAX_ITERATIONS: u32 = 100_000;

macro_rules! field {
    ($w:expr, $key:ident) => {
        pick($w.own.$key.as_ref(), $w.inherited.$key.as_ref(), $w.path, $w.base_path, stringify!($key))
    };
}

/// A model tenant and the role that such a model usually has.
pub(crate) fn torch(
    model: Option<&At<String>>,
    w: &Written<'_>,
    seed: u64,
    scope: &Scope<'_>,
) -> Checked<(TorchPlan, &'static str)> {
    let Some(model) = model else {
        return Err(Issue::new(ErrorKind::Missing, w.span, w.path, "the tenant names no model"));
    };
    let path = format!("{}.torch", w.base_path);
    // What looks like neither a path nor a hub id must be a built-in name, or a slip would go to the network.
    let known = models::find(&model.value);
    if known.is_none() && !model.value.contains(['/', '.']) {
        let names: Vec<&str> = models::all().iter().map(|m| m.name.as_str()).collect();
        let message = format!("there is no built-in model `{}`", model.value);
        return Err(Issue::new(ErrorKind::UnknownName, model.span, path, message).help(format!(
            "{} a path (`./config.json`, `./folder`) or a hub id (`owner/name`) will do too",
            suggest(&model.value, "models", &names)
        )));
    }
    let choice = |field: Option<(&At<String>, String)>, names: &[&str]| -> Checked<String> {
        match field {
            Some((v, p)) => one_of(v, &p, "values", names).map(|i| names[i].to_owned()),
            None => Ok(names[0].to_owned()),
        }
    };
    let count = |field: Option<(&At<_>, String)>, usual: u32, most: u32| {
        field.map_or(Ok(usual), |(e, p)| scope.count(e, &p, most))
    };
    let flag = |field: Option<(&At<bool>, String)>| field.is_some_and(|f| f.0.value);
    let text = |field: Option<(&At<String>, String)>, usual: &str| {
        field.map_or_else(|| usual.to_owned(), |f| f.0.value.clone())
    };
    let setup = ModelSetup {
        model: known.map_or_else(|| model.value.clone(), |m| m.name.clone()),
        weights: text(field!(w, weights), "random"),
        dtype: choice(field!(w, dtype), &["fp16", "bf16", "fp32"])?,
        batch: count(field!(w, batch), 8, 65_536)?,
        sequence: count(field!(w, sequence), 128, 1 << 20)?,
        mode: choice(field!(w, mode), &["forward", "prefill", "decode"])?,
        tokens: count(field!(w, tokens), 128, 1 << 20)?,
        cuda_graph: flag(field!(w, cuda_graph)),
        compile: flag(field!(w, compile)),
        attention: choice(field!(w, attention), &["sdpa", "eager", "flash_attention_2"])?,
        device: choice(field!(w, device), &["cuda", "cpu"])?,
        seed,
    };
    if setup.mode != "forward" && known.is_some_and(|m| m.role == "encoder") {
        let (span, p) = field!(w, mode).map_or((model.span, path), |(v, p)| (v.span, p));
        let message = format!("{} is an encoder and has no `{}`", setup.model, setup.mode);
        return Err(Issue::new(ErrorKind::Impossible, span, p, message).help("use mode = \"forward\""));
    }
    if let Some(longest) = known.and_then(|m| m.positions) {
        let decoded = if setup.mode == "decode" { setup.tokens } else { 0 };
        if setup.sequence.saturating_add(decoded) > longest {
            let (span, p) = field!(w, sequence).map_or((model.span, path.clone()), |(e, p)| (e.span, p));
            let message = format!(
                "`{p}` is {}{}, but {} has {longest} positions",
                setup.sequence,
                if decoded > 0 { format!(" and {decoded} decoded tokens") } else { String::new() },
                setup.model
            );
            return Err(Issue::new(ErrorKind::Impossible, span, p, message).help("use shorter sequences"));
        }
    }
    let role = known.map_or("", |m| m.role.as_str());
    let python = text(field!(w, python), "python3");
    Ok((TorchPlan { setup, python, env: env(w)? }, role))
}

/// A program of the user's.
pub(crate) fn command(argv: Option<&At<Vec<At<String>>>>, w: &Written<'_>) -> Checked<CommandPlan> {
    let given: Vec<String> = argv.iter().flat_map(|a| &a.value).map(|word| word.value.clone()).collect();
    if given.first().is_none_or(String::is_empty) {
        let span = argv.map_or(w.span, |a| a.span);
        return Err(Issue::new(
            ErrorKind::Missing,
            span,
            format!("{}.command", w.base_path),
            "`command` names no program",
        )
        .help("for example `command = [\"python3\", \"mine.py\"]`"));
    }
    let opaque = match field!(w, protocol) {
        Some((p, path)) => one_of(p, &path, "protocols", &["lines", "opaque"])? == 1,
        None => false,
    };
    Ok(CommandPlan { argv: given, env: env(w)?, opaque })
}

/// What makes no sense for a program that is run whole.
pub(crate) fn check_opaque(w: &Written<'_>) -> Checked<()> {
    let whole = |key: &str, span| {
        let message = format!("`{key}` needs a program that speaks the tenant protocol");
        Err(Issue::new(ErrorKind::Impossible, span, format!("{}.{key}", w.path), message)
            .help("an opaque program is run whole, once per phase: one run is one iteration"))
    };
    for (key, span) in w.own.keys().into_iter().chain(w.inherited.keys()) {
        if matches!(key, "iterations" | "warmup" | "gap" | "arrivals") {
            return whole(key, span);
        }
    }
    Ok(())
}

/// The tenant's environment and, over it, the trial's.
pub(crate) fn env(w: &Written<'_>) -> Checked<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (set, path) in [(&w.inherited.env, w.base_path), (&w.own.env, w.path)] {
        for (name, value) in set.iter().flat_map(|Env(e)| e) {
            let owned = ["CUDA_MPS_", "CUDA_VISIBLE_DEVICES", "CUDA_INJECTION64_PATH", "COTENANT_"];
            if let Some(prefix) = owned.iter().find(|p| name.value.starts_with(**p)) {
                let message = format!("`{}` is set by the sharing mode or by the run", name.value);
                return Err(Issue::new(ErrorKind::Impossible, name.span, format!("{path}.env"), message)
                    .help(format!(
                        "say it in `sharing`; variables that begin with `{prefix}` are not yours here"
                    )));
            }
            if name.value.is_empty() || name.value.contains(['=', '\0']) || value.value.contains('\0') {
                let message = format!("`{}` cannot be an environment variable", name.value);
                return Err(Issue::new(ErrorKind::Impossible, name.span, format!("{path}.env"), message));
            }
            out.insert(name.value.clone(), value.value.clone());
        }
    }
    Ok(out)
}

/// The load of a model or program.
pub(crate) fn iterated(w: &Written<'_>, scope: &Scope<'_>) -> Checked<Load> {
    let iterations = match field!(w, iterations) {
        Some((e, p)) => scope.count(e, &p, MAX_ITERATIONS)?,
        None => ITERATIONS,
    };
    let warmup = match field!(w, warmup) {
        Some((e, p)) => scope.integer(e, &p, 0.0, 10_000.0)? as u32,
        None => WARMUP,
    };
    load(w, iterations, warmup, scope)
}

/// When a tenant starts its requests.
pub(crate) fn load(w: &Written<'_>, iterations: u32, warmup: u32, scope: &Scope<'_>) -> Checked<Load> {
    let gap = field!(w, gap).map(|(e, p)| scope.time(e, &p, true)).transpose()?.unwrap_or(Nanos(0));
    let arrivals = arrivals(w, scope)?;
    if arrivals.is_some() && gap.0 > 0 {
        let (span, p) = field!(w, gap).map_or((w.span, w.path.to_owned()), |(e, p)| (e.span, p));
        let message = format!("`{p}` is a pause of a closed loop, but `arrivals` makes an open one");
        return Err(Issue::new(ErrorKind::Impossible, span, p, message).help("keep one of them"));
    }
    Ok(Load { iterations, warmup, gap, arrivals })
}

fn arrivals(w: &Written<'_>, scope: &Scope<'_>) -> Checked<Option<Arrivals>> {
    let Some((process, path)) = field!(w, arrivals) else {
        let lone = [("rate", field!(w, rate).map(|f| f.0.span)), ("cv", field!(w, cv).map(|f| f.0.span))];
        for (key, span) in lone.into_iter().chain([("trace", field!(w, trace).map(|f| f.0.span))]) {
            if let Some(span) = span {
                let message = format!("`{key}` needs `arrivals`");
                return Err(Issue::new(ErrorKind::Missing, span, format!("{}.{key}", w.path), message)
                    .help("for example `arrivals = \"poisson\"`"));
            }
        }
        return Ok(None);
    };
    let kinds = ["constant", "poisson", "gamma", "trace"];
    let index = one_of(process, &path, "arrival processes", &kinds)?;
    let missing = |key: &str, like: &str| {
        let message = format!("`arrivals = \"{}\"` needs `{key}`", process.value);
        Err(Issue::new(ErrorKind::Missing, process.span, format!("{}.{key}", w.path), message)
            .help(format!("for example {like}")))
    };
    for (key, owner, span) in [
        ("cv", "gamma", field!(w, cv).map(|f| f.0.span)),
        ("trace", "trace", field!(w, trace).map(|f| f.0.span)),
    ] {
        if let Some(span) = span.filter(|_| kinds[index] != owner) {
            let message = format!("`{key}` belongs to `arrivals = \"{owner}\"`");
            return Err(Issue::new(ErrorKind::Impossible, span, format!("{}.{key}", w.path), message));
        }
    }
    let process = match kinds[index] {
        "constant" => ArrivalProcess::Constant,
        "poisson" => ArrivalProcess::Poisson,
        "gamma" => match field!(w, cv) {
            Some((e, p)) => ArrivalProcess::Gamma { cv: positive(e, &p, scope)?.value },
            None => return missing("cv", "`cv = 2`"),
        },
        _ => match field!(w, trace) {
            Some((t, _)) => ArrivalProcess::Trace { path: t.value.clone() },
            None => return missing("trace", "`trace = \"arrivals.csv\"`"),
        },
    };
    let rate = match field!(w, rate) {
        Some((e, p)) => {
            let q = positive(e, &p, scope)?;
            if q.dim == Dim::Percent { Rate::OfCapacity(q.value) } else { Rate::PerSecond(q.value) }
        }
        None if matches!(process, ArrivalProcess::Trace { .. }) => Rate::AsRecorded,
        None => {
            return missing(
                "rate",
                "`rate = 20` (requests per second) or `rate = \"60%\"` (of what it does alone)",
            );
        }
    };
    Ok(Some(Arrivals { process, rate }))
}

fn positive(e: &At<crate::expr::Expr>, path: &str, scope: &Scope<'_>) -> Checked<Quantity> {
    let q = scope.eval(e, path)?;
    if !matches!(q.dim, Dim::Plain | Dim::Percent) {
        let message = format!("`{path}` must be a number or a percentage, not {}", q.dim.name());
        return Err(Issue::new(ErrorKind::WrongType, e.span, path, message));
    }
    if !(q.value > 0.0 && q.value <= 1e6) {
        let message = format!("`{path}` is {}, but must be more than 0 and at most 1000000", shown(e, &q));
        return Err(Issue::new(ErrorKind::Impossible, e.span, path, message));
    }
    Ok(q)
}
