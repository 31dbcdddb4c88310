//! From the file to the plan: cells of the sweeps, tenants, sizes. Everything that depends on the device is
//! decided, and refused, here.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::expr::Dim;
use crate::metric;
use crate::plan::{
    Baseline, DeviceSizes, FigureSpec, Plan, Protocol, Reference, Sharing, Stopping, TenantPlan, TrialPlan,
    Workload,
};
use crate::raw::{At, SpecFile, Tenant, TenantUse, Trial};
use crate::sharing;
use crate::sweep;
use crate::tenant;
use crate::tree::{Source, Span};
use crate::value::{Scope, Vars};
use cotenant_units::{Bytes, Nanos};
use std::collections::BTreeSet;

/// Most cells of one experiment; beyond it a sweep is a slip.
const MAX_CELLS: usize = 10_000;
/// Most copies of one tenant: MPS takes 48 to 60 clients.
const MAX_TENANTS: u32 = 60;
/// Kinds of figures.
const FIGURE_KINDS: &[&str] = &["bars", "line", "kde", "ecdf", "iterations", "matrix", "telemetry"];

/// The parts that stay the same through one resolution.
#[derive(Clone, Copy)]
pub(crate) struct Cx<'a> {
    pub file: &'a SpecFile,
    pub device: &'a DeviceSizes,
    pub sources: &'a [Source],
}

pub(crate) fn plan(cx: Cx<'_>) -> Checked<Plan> {
    let file = cx.file;
    let known = "letters, digits, `.`, `_`, `-`, `=`";
    if let Some(bad) = bad_id(&file.name.value) {
        let message = format!("`name` {bad}");
        return Err(
            Issue::new(ErrorKind::Impossible, file.name.span, "name", message).help(format!("use {known}"))
        );
    }
    for (name, tenant) in &file.tenants {
        check_tenant(name, tenant)?;
    }
    let mut trials: Vec<TrialPlan> = Vec::new();
    let mut ids: BTreeSet<String> = BTreeSet::new();
    for (i, trial) in file.trial.iter().enumerate() {
        let path = format!("trial[{i}]");
        let casts = casts(&trial.value, &path)?;
        let cells = sweep::cells(&trial.value, &path, cx)?;
        if trials.len() + cells.len() * casts.len() > MAX_CELLS {
            let message = format!("more than {MAX_CELLS} cells");
            return Err(Issue::new(ErrorKind::Impossible, trial.value.name.span, &path, message)
                .help("make the sweep or the cross product smaller"));
        }
        metric::check_references(&trial.value, &path, cells.len() * casts.len())?;
        let combinations = casts.iter().flat_map(|cast| cells.iter().map(move |vars| (cast, vars)));
        for (index, (cast, vars)) in combinations.enumerate() {
            let cell = cell(&trial.value, &path, cast, vars, index, cx)?;
            if !ids.insert(cell.id.clone()) {
                let message = format!("two trials are named `{}`", cell.id);
                let free: Vec<String> = vars
                    .iter()
                    .map(|v| v.0.as_str())
                    .chain(cast.words.iter().map(|w| w.0.as_str()))
                    .map(|v| format!("{{{v}}}"))
                    .filter(|v| !trial.value.name.value.contains(v.as_str()))
                    .collect();
                let help = match free.is_empty() {
                    true => "give each trial its own name".to_owned(),
                    false => format!("put {} into the name", free.join(", ")),
                };
                return Err(Issue::new(
                    ErrorKind::Duplicate,
                    trial.value.name.span,
                    format!("{path}.name"),
                    message,
                )
                .help(help));
            }
            trials.push(cell);
        }
    }
    if trials.is_empty() {
        return Err(Issue::new(ErrorKind::Missing, Span::default(), "trial", "no trial is defined")
            .help("add one with [[trial]]"));
    }
    Ok(Plan {
        name: file.name.value.clone(),
        title: file.title.value.clone(),
        summary: file.summary.value.trim().to_owned(),
        section: file.section.as_ref().map(|s| s.value.clone()).unwrap_or_default(),
        seed: file.seed.as_ref().map_or(1, |s| s.value),
        stopping: stopping(cx)?,
        figures: figures(cx, &trials)?,
        trials,
    })
}

/// What is wrong with a name that becomes a folder, a file or an argument; `None` if nothing.
fn bad_id(id: &str) -> Option<String> {
    if id.is_empty() {
        return Some("is empty".into());
    }
    if id.len() > 120 {
        return Some(format!("has {} characters, and at most 120 are allowed", id.len()));
    }
    if id.starts_with(['.', '-']) {
        return Some(format!("`{id}` starts with `{}`", &id[..1]));
    }
    let bad = id.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-=".contains(*c)))?;
    Some(format!("`{id}` has the character `{bad}`"))
}

/// Checks that need no device: so a tenant that no trial uses yet is checked too.
fn check_tenant(name: &str, tenant: &At<Tenant>) -> Checked<()> {
    let path = format!("tenants.{name}");
    let bad = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-".contains(*c)));
    if bad.is_some() || name.is_empty() {
        let message = format!("`{name}` cannot name a tenant");
        return Err(Issue::new(ErrorKind::Impossible, tenant.span, path, message)
            .help("use letters, digits, `_` and `-`"));
    }
    tenant::check(&tenant.value, tenant.span, &path)
}

fn stopping(cx: Cx<'_>) -> Checked<Stopping> {
    let vars = Vars::new();
    let scope = Scope { device: cx.device, vars: &vars, sources: cx.sources };
    let mut s = Stopping {
        min_repeats: 10,
        max_repeats: 40,
        precision: 0.01,
        budget_ns: Nanos(20_000_000_000),
        warmup: 2,
        setups: 1,
        traced: 1,
        watchdog_ns: Nanos(120_000_000_000),
    };
    let Some(m) = &cx.file.measure else { return Ok(s) };
    if let Some(repeats) = &m.repeats {
        let path = "measure.repeats";
        let numbers: Vec<u32> = repeats.value.iter().map(|r| r.value).collect();
        let &[least, most] = numbers.as_slice() else {
            let message = format!("`{path}` must be a list of two, the fewest and the most");
            return Err(Issue::new(ErrorKind::WrongType, repeats.span, path, message)
                .help("for example `repeats = [10, 40]`"));
        };
        if least == 0 || most < least || most > 100_000 {
            let message = format!("`{path}` is [{least}, {most}]");
            return Err(Issue::new(ErrorKind::Impossible, repeats.span, path, message)
                .help("the first must be at least 1, and the second at least the first, at most 100000"));
        }
        (s.min_repeats, s.max_repeats) = (least, most);
    }
    if let Some(p) = &m.precision {
        s.precision = scope.fraction(p, "measure.precision")?;
    }
    if let Some(b) = &m.budget {
        s.budget_ns = scope.time(b, "measure.budget", false)?;
    }
    if let Some(w) = &m.warmup {
        if w.value > 1000 {
            let message = format!("`measure.warmup` is {}, but must be at most 1000", w.value);
            return Err(Issue::new(ErrorKind::Impossible, w.span, "measure.warmup", message));
        }
        s.warmup = w.value;
    }
    if let Some(n) = &m.setups {
        if !(1..=100).contains(&n.value) {
            let message = format!("`measure.setups` is {}, but must be 1 to 100", n.value);
            return Err(Issue::new(ErrorKind::Impossible, n.span, "measure.setups", message));
        }
        s.setups = n.value;
    }
    if let Some(n) = &m.traced {
        if n.value > 100 {
            let message = format!("`measure.traced` is {}, but must be 0 to 100", n.value);
            return Err(Issue::new(ErrorKind::Impossible, n.span, "measure.traced", message));
        }
        s.traced = n.value;
    }
    if let Some(w) = &m.watchdog {
        s.watchdog_ns = scope.time(w, "measure.watchdog", false)?;
    }
    Ok(s)
}

fn figures(cx: Cx<'_>, trials: &[TrialPlan]) -> Checked<Vec<FigureSpec>> {
    let tenants: BTreeSet<&str> =
        trials.iter().flat_map(|t| t.tenants.iter().map(|x| x.name.as_str())).collect();
    let tenants: Vec<&str> = tenants.into_iter().collect();
    let mut out = Vec::new();
    for (i, figure) in cx.file.figure.iter().flatten().enumerate() {
        let path = format!("figure[{i}]");
        let f = &figure.value;
        one_of(&f.kind, &format!("{path}.kind"), "figure kinds", FIGURE_KINDS)?;
        if let Some(m) = &f.metric {
            metric::check(m, &format!("{path}.metric"), &tenants)?;
        }
        let text = |t: &Option<At<String>>| t.as_ref().map(|t| t.value.clone()).unwrap_or_default();
        let patterns: Vec<&At<String>> = f.trials.iter().flat_map(|l| &l.value).collect();
        for (k, p) in patterns.iter().enumerate() {
            if !trials.iter().any(|t| crate::matches(&p.value, &t.id)) {
                let ids: Vec<&str> = trials.iter().map(|t| t.id.as_str()).collect();
                let message = format!("no trial is named `{}`", p.value);
                return Err(Issue::new(
                    ErrorKind::UnknownName,
                    p.span,
                    format!("{path}.trials[{k}]"),
                    message,
                )
                .help(suggest(&p.value, "trials", &ids)));
            }
        }
        out.push(FigureSpec {
            kind: f.kind.value.clone(),
            metric: text(&f.metric),
            x_label: text(&f.x_label),
            y_label: text(&f.y_label),
            log_x: f.log_x.as_ref().is_some_and(|l| l.value),
            trials: patterns.into_iter().map(|p| p.value.clone()).collect(),
        });
    }
    Ok(out)
}

/// Index of the value among `names`.
pub(crate) fn one_of(value: &At<String>, path: &str, what: &str, names: &[&str]) -> Checked<usize> {
    names.iter().position(|n| *n == value.value).ok_or_else(|| {
        let message = format!("`{path}` cannot be `{}`", value.value);
        Issue::new(ErrorKind::UnknownName, value.span, path, message).help(suggest(&value.value, what, names))
    })
}

/// One cell of one trial.
fn cell(trial: &Trial, path: &str, cast: &Cast, vars: &Vars, index: usize, cx: Cx<'_>) -> Checked<TrialPlan> {
    let scope = Scope { device: cx.device, vars, sources: cx.sources };
    let id_path = format!("{path}.name");
    let id = sweep::substitute(&trial.name, &id_path, vars, &cast.words)?;
    if let Some(bad) = bad_id(&id) {
        return Err(Issue::new(
            ErrorKind::Impossible,
            trial.name.span,
            &id_path,
            format!("the trial's name {bad}"),
        )
        .help("use letters, digits, `.`, `_`, `-`, `=`"));
    }
    let list = with_copies(cast, &scope)?;
    let names = tenant_names(&list, &trial.name, path, cx)?;
    let sharing = sharing::resolve(&trial.sharing.value, trial.sharing.span, path, names.len(), &scope)?;
    let series = match &trial.series {
        Some(s) => sweep::substitute(s, &format!("{path}.series"), vars, &cast.words)?,
        None => sharing.name().to_owned(),
    };
    let mut tenants = Vec::new();
    for (name, (used, field, _)) in names.into_iter().zip(&list) {
        tenants.push(tenant::resolve(name, &used.value, field, &id, &scope, cx)?);
    }
    if let (Some(program), Sharing::Streams { .. } | Sharing::Green { .. }) =
        (tenants.iter().find(|t| t.is_program()), &sharing)
    {
        let message = format!(
            "{} shares one process among all tenants, but `{}` is a process of its own",
            sharing.name(),
            program.name
        );
        return Err(Issue::new(ErrorKind::Impossible, trial.sharing.span, format!("{path}.sharing"), message)
            .help("use \"mps\" or \"processes\"; { mode = \"mps\", percentage = [50, 50] } gives each a part of the SMs"));
    }
    let protocol = match &trial.protocol {
        Some(p) => [Protocol::Fixed, Protocol::Steady]
            [one_of(p, &format!("{path}.protocol"), "protocols", &["fixed", "steady"])?],
        None => Protocol::Fixed,
    };
    if let (Some(p), Some(whole)) = (
        trial.protocol.as_ref().filter(|_| protocol == Protocol::Steady),
        tenants.iter().find(|t| matches!(&t.workload, Workload::Command(c) if c.opaque)),
    ) {
        let message = format!("`{}` is run whole and cannot loop until the others are done", whole.name);
        return Err(Issue::new(ErrorKind::Impossible, p.span, format!("{path}.protocol"), message)
            .help("use protocol = \"fixed\" beside opaque programs"));
    }
    check_memory(list[0].0.span, path, &id, &tenants, cx.device)?;
    let baseline = match &trial.baseline {
        Some(b) => [Baseline::SameShare, Baseline::WholeGpu]
            [one_of(b, &format!("{path}.baseline"), "baselines", &["same-share", "whole-gpu"])?],
        None => Baseline::SameShare,
    };
    let in_process = matches!(sharing, Sharing::Streams { .. } | Sharing::Green { .. });
    let sequential = match (&trial.sequential, &sharing) {
        (Some(s), _) => s.value,
        (None, Sharing::Sequential) => true,
        (None, _) => in_process && protocol == Protocol::Fixed && tenants.len() > 1,
    };
    let x = match &trial.x {
        Some(x) => {
            let q = scope.eval(x, &format!("{path}.x"))?;
            Some(if q.dim == Dim::Percent { q.value * 100.0 } else { q.value })
        }
        None => None,
    };
    let tenant_names: Vec<&str> = tenants.iter().map(|t| t.name.as_str()).collect();
    let mut references = Vec::new();
    for (i, r) in trial.reference.iter().flatten().enumerate() {
        metric::check(&r.value.metric, &format!("{path}.reference[{i}].metric"), &tenant_names)?;
        let value = match (&r.value.value, &r.value.values) {
            (Some(v), _) => Some(v.value),
            (None, Some(list)) => list.value.get(index).map(|v| v.value),
            (None, None) => None,
        };
        if let Some(value) = value.filter(|v| v.is_finite()) {
            let (source, metric) = (r.value.source.value.clone(), r.value.metric.value.clone());
            references.push(Reference { source, metric, value });
        }
    }
    Ok(TrialPlan {
        id,
        series,
        x,
        vars: vars.iter().map(|(n, q)| (n.clone(), q.value)).collect(),
        sharing,
        tenants,
        protocol,
        baseline,
        sequential,
        references,
        host_bound: trial.host_bound.as_ref().is_some_and(|h| h.value),
        pin: trial.pin.as_ref().is_some_and(|p| p.value),
    })
}

/// The tenants of one cell as written: those of the trial with their copies, then the cell's own.
struct Cast {
    /// Each with the place it was written at, and whether it is one of several copies.
    members: Vec<(At<TenantUse>, String, bool)>,
    /// `{a}` and `{b}`.
    words: Vec<(String, String)>,
}

/// The lists of tenants that a trial stands for: one, or one for each entry of `each` or pair of `pairs`.
fn casts(trial: &Trial, path: &str) -> Checked<Vec<Cast>> {
    let own: Vec<(At<TenantUse>, String)> = trial
        .tenants
        .iter()
        .flat_map(|l| l.value.iter().enumerate())
        .map(|(i, u)| (u.clone(), format!("{path}.tenants[{i}]")))
        .collect();
    if let Some(c) = trial.copies.as_ref().filter(|_| trial.each.is_none()) {
        let message = format!("`{path}.copies` needs `each`");
        return Err(Issue::new(ErrorKind::Impossible, c.span, format!("{path}.copies"), message)
            .help("for tenants of the list say `{ use = \"NAME\", copies = 2 }`"));
    }
    let chosen: Vec<Vec<(At<String>, String)>> = match (&trial.each, &trial.pairs) {
        (Some(_), Some(pairs)) => {
            let message = format!("`{path}` has both `each` and `pairs`");
            return Err(Issue::new(ErrorKind::Impossible, pairs.span, format!("{path}.pairs"), message)
                .help("keep one of them"));
        }
        (Some(each), None) => each
            .value
            .iter()
            .enumerate()
            .map(|(i, n)| vec![(n.clone(), format!("{path}.each[{i}]"))])
            .collect(),
        (None, Some(pairs)) => {
            let place = |i: usize| (pairs.value[i].clone(), format!("{path}.pairs[{i}]"));
            let n = pairs.value.len();
            (0..n).flat_map(|i| (i..n).map(move |j| (i, j))).map(|(i, j)| vec![place(i), place(j)]).collect()
        }
        (None, None) => vec![Vec::new()],
    };
    Ok(chosen
        .into_iter()
        .map(|chosen| {
            let words = ["a", "b"].iter().zip(&chosen).map(|(w, c)| ((*w).to_owned(), c.0.value.clone()));
            let words = words.collect();
            let more = chosen.into_iter().map(|(name, field)| {
                let span = name.span;
                let used = TenantUse { copies: trial.copies.clone(), ..TenantUse::plain(name) };
                (At { value: used, span }, field, false)
            });
            let members = own.iter().cloned().map(|(u, p)| (u, p, false)).chain(more).collect();
            Cast { members, words }
        })
        .collect())
}

/// A cast with each tenant that has `copies` repeated.
fn with_copies(cast: &Cast, scope: &Scope<'_>) -> Checked<Vec<(At<TenantUse>, String, bool)>> {
    let mut out = Vec::new();
    for (used, path, _) in &cast.members {
        let copies = match &used.value.copies {
            Some(e) => scope.count(e, &format!("{path}.copies"), MAX_TENANTS)?,
            None => 1,
        };
        out.extend((0..copies).map(|_| (used.clone(), path.clone(), used.value.copies.is_some())));
    }
    Ok(out)
}

/// The names of a trial's tenants, in order: its own, or `name-1`, `name-2` where one is there several times.
fn tenant_names(
    list: &[(At<TenantUse>, String, bool)],
    trial: &At<String>,
    path: &str,
    cx: Cx<'_>,
) -> Checked<Vec<String>> {
    if list.is_empty() {
        let field = format!("{path}.tenants");
        return Err(Issue::new(
            ErrorKind::Impossible,
            trial.span,
            field,
            "a trial needs at least one tenant",
        ));
    }
    for (used, field, _) in list {
        let base = &used.value.base;
        if !cx.file.tenants.contains_key(&base.value) {
            let names: Vec<&str> = cx.file.tenants.keys().map(String::as_str).collect();
            let message = format!("the tenant `{}` is not defined", base.value);
            return Err(Issue::new(ErrorKind::UnknownName, base.span, field.clone(), message).help(suggest(
                &base.value,
                "tenants",
                &names,
            )));
        }
    }
    let wanted = |(u, _, _): &(At<TenantUse>, String, bool)| {
        u.value.rename.as_ref().map_or_else(|| u.value.base.value.clone(), |n| n.value.clone())
    };
    // One that was renamed on purpose keeps its name, unless it is one of several copies.
    let numbered = |(u, _, copied): &(At<TenantUse>, String, bool)| *copied || u.value.rename.is_none();
    let names: Vec<String> = list
        .iter()
        .enumerate()
        .map(|(i, member)| {
            let name = wanted(member);
            let twin = |other: &&(At<TenantUse>, String, bool)| numbered(other) && wanted(other) == name;
            if !numbered(member) || list.iter().filter(twin).count() == 1 {
                return name;
            }
            let number = list[..=i].iter().filter(twin).count();
            format!("{name}-{number}")
        })
        .collect();
    for (i, name) in names.iter().enumerate() {
        let (used, field, _) = &list[i];
        let bad = name.is_empty() || name.chars().any(|c| !(c.is_ascii_alphanumeric() || "_-".contains(c)));
        if bad {
            let message = format!("`{name}` cannot name a tenant");
            return Err(Issue::new(ErrorKind::Impossible, used.span, field.clone(), message)
                .help("use letters, digits, `_` and `-`"));
        }
        if names[..i].contains(name) {
            let message = format!("two tenants of the trial are named `{name}`");
            return Err(Issue::new(ErrorKind::Duplicate, used.span, field.clone(), message).help(format!(
                "name one of them otherwise: {{ use = \"{}\", as = \"…\" }}",
                used.value.base.value
            )));
        }
    }
    Ok(names)
}

fn check_memory(
    span: Span,
    path: &str,
    id: &str,
    tenants: &[TenantPlan],
    device: &DeviceSizes,
) -> Checked<()> {
    let of =
        |t: &TenantPlan| t.kernel().map_or(0, |k| k.kernel.buffer_a.0.saturating_add(k.kernel.buffer_b.0));
    let total = tenants.iter().map(of).fold(0u64, u64::saturating_add);
    if total <= device.dram.0 {
        return Ok(());
    }
    let each: Vec<String> = tenants.iter().map(|t| format!("{} {}", t.name, Bytes(of(t)))).collect();
    let message = format!(
        "the tenants of trial `{id}` need {} of device memory together, but {} has {}",
        Bytes(total),
        device.name,
        device.dram
    );
    Err(Issue::new(ErrorKind::Impossible, span, format!("{path}.tenants"), message).help(format!(
        "make them smaller ({}), or size them by the card: bytes = \"dram/8\"",
        each.join(", ")
    )))
}
