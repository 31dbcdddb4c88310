//! From the file to the plan: cells of the sweeps, tenants, sizes. Everything that depends on the device is
//! decided, and refused, here.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::expr::{Dim, Quantity};
use crate::metric;
use crate::plan::{
    Baseline, DeviceSizes, FigureSpec, Plan, Protocol, Reference, Sharing, Stopping, TenantPlan, TrialPlan,
    Work,
};
use crate::raw::{At, Settings, SpecFile, Tenant, TenantUse, Trial};
use crate::registry;
use crate::sharing;
use crate::sweep;
use crate::tree::{Source, Span};
use crate::value::{Scope, Vars, shown};
use cotenant_kernels::Resolved;
use cotenant_units::{Bytes, Nanos};
use std::collections::{BTreeMap, BTreeSet};

/// Most cells of one experiment; beyond it a sweep is a slip.
const MAX_CELLS: usize = 10_000;
/// Registers of one block at most, on every architecture since compute capability 5.0.
const REGISTERS_PER_BLOCK: u32 = 65_536;
/// Largest grid in x.
const MAX_BLOCKS: u32 = i32::MAX as u32;

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
        let cells = sweep::cells(&trial.value, &path, cx)?;
        if trials.len() + cells.len() > MAX_CELLS {
            let message = format!("more than {MAX_CELLS} cells");
            return Err(Issue::new(ErrorKind::Impossible, trial.value.name.span, &path, message)
                .help("make the sweep or the cross product smaller"));
        }
        metric::check_references(&trial.value, &path, cells.len())?;
        for (index, vars) in cells.iter().enumerate() {
            let cell = cell(&trial.value, &path, vars, index, cx)?;
            if !ids.insert(cell.id.clone()) {
                let message = format!("two trials are named `{}`", cell.id);
                let free: Vec<String> = vars
                    .iter()
                    .map(|v| format!("{{{}}}", v.0))
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
    let kernel = registry::kernel(&tenant.value.kernel, &format!("{path}.kernel"))?;
    check_params(kernel, &tenant.value.settings, &path)
}

fn check_params(kernel: &cotenant_kernels::Kernel, settings: &Settings, path: &str) -> Checked<()> {
    for (name, _) in settings.given() {
        if let Err(help) = registry::param(kernel, &name.value) {
            let name_span = name.span;
            let name = &name.value;
            let message = format!("the kernel {} has no parameter `{name}`", kernel.name);
            return Err(Issue::new(
                ErrorKind::UnknownName,
                name_span,
                format!("{path}.params.{name}"),
                message,
            )
            .help(help));
        }
    }
    Ok(())
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
        one_of(&f.kind, &format!("{path}.kind"), "figure kinds", &["bars", "line"])?;
        metric::check(&f.metric, &format!("{path}.metric"), &tenants)?;
        out.push(FigureSpec {
            kind: f.kind.value.clone(),
            metric: f.metric.value.clone(),
            x_label: f.x_label.value.clone(),
            y_label: f.y_label.value.clone(),
            log_x: f.log_x.as_ref().is_some_and(|l| l.value),
        });
    }
    Ok(out)
}

/// Index of the value among `names`.
fn one_of(value: &At<String>, path: &str, what: &str, names: &[&str]) -> Checked<usize> {
    names.iter().position(|n| *n == value.value).ok_or_else(|| {
        let message = format!("`{path}` cannot be `{}`", value.value);
        Issue::new(ErrorKind::UnknownName, value.span, path, message).help(suggest(&value.value, what, names))
    })
}

/// One cell of one trial.
fn cell(trial: &Trial, path: &str, vars: &Vars, index: usize, cx: Cx<'_>) -> Checked<TrialPlan> {
    let scope = Scope { device: cx.device, vars, sources: cx.sources };
    let id_path = format!("{path}.name");
    let id = sweep::substitute(&trial.name, &id_path, vars)?;
    if let Some(bad) = bad_id(&id) {
        return Err(Issue::new(
            ErrorKind::Impossible,
            trial.name.span,
            &id_path,
            format!("the trial's name {bad}"),
        )
        .help("use letters, digits, `.`, `_`, `-`, `=`"));
    }
    let names = tenant_names(trial, path, cx)?;
    let sharing = sharing::resolve(&trial.sharing.value, trial.sharing.span, path, names.len(), &scope)?;
    let series = match &trial.series {
        Some(s) => sweep::substitute(s, &format!("{path}.series"), vars)?,
        None => sharing.name().to_owned(),
    };
    let mut tenants = Vec::new();
    for (i, (name, used)) in names.into_iter().zip(&trial.tenants.value).enumerate() {
        tenants.push(tenant(name, &used.value, &format!("{path}.tenants[{i}]"), &id, &scope, cx)?);
    }
    check_memory(trial, path, &id, &tenants, cx.device)?;
    let protocol = match &trial.protocol {
        Some(p) => [Protocol::Fixed, Protocol::Steady]
            [one_of(p, &format!("{path}.protocol"), "protocols", &["fixed", "steady"])?],
        None => Protocol::Fixed,
    };
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
    })
}

/// The names of a trial's tenants, in order: its own, or `name-1`, `name-2` where one is named twice.
fn tenant_names(trial: &Trial, path: &str, cx: Cx<'_>) -> Checked<Vec<String>> {
    let list = &trial.tenants;
    let path = format!("{path}.tenants");
    if list.value.is_empty() {
        return Err(Issue::new(ErrorKind::Impossible, list.span, &path, "a trial needs at least one tenant"));
    }
    for (i, used) in list.value.iter().enumerate() {
        let base = &used.value.base;
        if !cx.file.tenants.contains_key(&base.value) {
            let names: Vec<&str> = cx.file.tenants.keys().map(String::as_str).collect();
            let message = format!("the tenant `{}` is not defined", base.value);
            return Err(Issue::new(ErrorKind::UnknownName, base.span, format!("{path}[{i}]"), message)
                .help(suggest(&base.value, "tenants", &names)));
        }
    }
    let plain = |u: &TenantUse| u.rename.is_none();
    let names: Vec<String> = list
        .value
        .iter()
        .enumerate()
        .map(|(i, used)| {
            let u = &used.value;
            let twin = |other: &&At<TenantUse>| plain(&other.value) && other.value.base.value == u.base.value;
            match &u.rename {
                Some(name) => name.value.clone(),
                None if list.value.iter().filter(twin).count() == 1 => u.base.value.clone(),
                None => format!("{}-{}", u.base.value, list.value[..=i].iter().filter(twin).count()),
            }
        })
        .collect();
    for (i, name) in names.iter().enumerate() {
        let field = format!("{path}[{i}]");
        let bad = name.is_empty() || name.chars().any(|c| !(c.is_ascii_alphanumeric() || "_-".contains(c)));
        if bad {
            let message = format!("`{name}` cannot name a tenant");
            return Err(Issue::new(ErrorKind::Impossible, list.value[i].span, field, message)
                .help("use letters, digits, `_` and `-`"));
        }
        if names[..i].contains(name) {
            let message = format!("two tenants of the trial are named `{name}`");
            return Err(Issue::new(ErrorKind::Duplicate, list.value[i].span, field, message).help(format!(
                "name one of them otherwise: {{ use = \"{}\", as = \"…\" }}",
                list.value[i].value.base.value
            )));
        }
    }
    Ok(names)
}

/// A field of a tenant: the trial's, else the tenant's, with the path it was written at.
fn pick<'a, T>(
    own: Option<&'a T>,
    base: Option<&'a T>,
    own_path: &str,
    base_path: &str,
    key: &str,
) -> Option<(&'a T, String)> {
    own.map(|v| (v, format!("{own_path}.{key}"))).or_else(|| base.map(|v| (v, format!("{base_path}.{key}"))))
}

fn tenant(
    name: String,
    used: &TenantUse,
    path: &str,
    trial: &str,
    scope: &Scope<'_>,
    cx: Cx<'_>,
) -> Checked<TenantPlan> {
    // `tenant_names` has seen that it is defined.
    let Some(base) = cx.file.tenants.get(&used.base.value) else {
        return Err(Issue::new(ErrorKind::UnknownName, used.base.span, path, "the tenant is not defined"));
    };
    let base_path = format!("tenants.{}", used.base.value);
    let (own, inherited) = (&used.settings, &base.value.settings);
    macro_rules! field {
        ($key:ident) => {
            pick(own.$key.as_ref(), inherited.$key.as_ref(), path, &base_path, stringify!($key))
        };
    }
    let (kernel_name, kernel_path) = match &used.kernel {
        Some(k) => (k, format!("{path}.kernel")),
        None => (&base.value.kernel, format!("{base_path}.kernel")),
    };
    let kernel = registry::kernel(kernel_name, &kernel_path)?;
    check_params(kernel, own, path)?;

    let blocks = match field!(blocks) {
        Some((e, p)) => scope.count(e, &p, MAX_BLOCKS)?,
        None => registry::default_blocks(kernel, cx.device.sms).max(1),
    };
    let threads = match field!(threads) {
        Some((e, p)) => {
            let n = scope.integer(e, &p, 1.0, f64::from(u32::MAX))?;
            if n > f64::from(cx.device.max_threads) {
                let message = format!(
                    "`{p}` is {}, but a block has at most {} threads",
                    shown(e, &Quantity::plain(n)),
                    cx.device.max_threads
                );
                return Err(Issue::new(ErrorKind::Impossible, e.span, p, message)
                    .help("use more blocks instead of more threads per block"));
            }
            n as u32
        }
        None => kernel.shape.1.min(cx.device.max_threads),
    };
    let params = params(kernel, own, inherited, (path, &base_path), scope)?;
    let resolved = cotenant_kernels::resolve(kernel.name, blocks, threads, &params).map_err(|why| {
        // Each value is checked above; what is left concerns the shape that this kernel can have.
        let (span, field) = match (&why, field!(threads)) {
            (cotenant_kernels::Error::Shape { .. }, Some((e, p))) => (e.span, p),
            _ => (kernel_name.span, kernel_path.clone()),
        };
        let message = format!("trial `{trial}` would fail to {why}");
        Issue::new(ErrorKind::Impossible, span, field, message)
    })?;
    check_block(&resolved, kernel_name, &kernel_path, cx.device)?;

    let work = work(own, inherited, path, &base_path, base, used, scope)?;
    let request = field!(request).map(|(e, p)| scope.count(e, &p, u32::MAX)).transpose()?.unwrap_or(1);
    let launches = match field!(launches) {
        Some((e, p)) => {
            let n = scope.count(e, &p, u32::MAX)?;
            if n % request != 0 {
                let message = format!("`{p}` is {n}, not a whole number of requests of {request} launches");
                return Err(Issue::new(ErrorKind::Impossible, e.span, p, message)
                    .help(format!("use a multiple of {request}")));
            }
            n
        }
        None => request,
    };
    let gap = field!(gap).map(|(e, p)| scope.time(e, &p, true)).transpose()?.unwrap_or_default();
    let carveout = field!(carveout).map(|(e, p)| scope.size(e, &p, 0)).transpose()?;
    let carveout = carveout.unwrap_or_else(|| TenantPlan::default_carveout(&resolved));
    Ok(TenantPlan { name, kernel: resolved, work, launches, gap, request, carveout })
}

fn work(
    own: &Settings,
    inherited: &Settings,
    path: &str,
    base_path: &str,
    base: &At<Tenant>,
    used: &TenantUse,
    scope: &Scope<'_>,
) -> Checked<Work> {
    // Iterations in the trial replace a duration of the tenant, and the other way round.
    let replaced = own.iterations.is_some() || own.duration.is_some();
    let (s, p, span) = if replaced { (own, path, used.base.span) } else { (inherited, base_path, base.span) };
    match (&s.iterations, &s.duration) {
        (Some(n), None) => {
            Ok(Work::Iterations(scope.integer(n, &format!("{p}.iterations"), 1.0, 1e15)? as u64))
        }
        (None, Some(d)) => Ok(Work::Duration(scope.time(d, &format!("{p}.duration"), false)?)),
        (None, None) => Err(Issue::new(
            ErrorKind::Missing,
            span,
            format!("{p}.duration"),
            format!("`{p}` does not say how long a launch is"),
        )
        .help("add `duration = \"20ms\"` or `iterations = 40`")),
        (Some(_), Some(d)) => Err(Issue::new(
            ErrorKind::Impossible,
            d.span,
            format!("{p}.duration"),
            format!("`{p}` has both `iterations` and `duration`"),
        )
        .help("keep one of them")),
    }
}

/// Parameters of a kernel as numbers: bytes and nanoseconds whole, others as they are.
fn params(
    kernel: &cotenant_kernels::Kernel,
    own: &Settings,
    inherited: &Settings,
    (path, base_path): (&str, &str),
    scope: &Scope<'_>,
) -> Checked<BTreeMap<String, f64>> {
    let mut out = BTreeMap::new();
    let replaced = |name: &str| own.given().iter().any(|(n, _)| n.value == name);
    let kept = inherited.given().iter().filter(|(n, _)| !replaced(&n.value)).map(|p| (base_path, p));
    for (p, (name, e)) in kept.chain(own.given().iter().map(|p| (path, p))) {
        let name = &name.value;
        let Ok(param) = registry::param(kernel, name) else {
            // A parameter of the tenant's own kernel, which the trial has replaced by one without it.
            continue;
        };
        let path = format!("{p}.params.{name}");
        let q = scope.eval(e, &path)?;
        let unit = registry::unit(param);
        if q.dim != unit && q.dim != Dim::Plain {
            let message = format!("`{path}` must be {}, not {}", unit.name(), q.dim.name());
            return Err(Issue::new(ErrorKind::WrongType, e.span, path, message).help(param.help));
        }
        let near = q.value.round();
        let whole = unit != Dim::Plain || (q.value - near).abs() < 1e-6;
        let value = if whole { near } else { q.value };
        if !param.choices.is_empty() && !param.choices.contains(&value) {
            let all: Vec<String> = param.choices.iter().map(f64::to_string).collect();
            let written = shown(e, &Quantity { value, ..q });
            let message = format!("`{path}` is {written}, but must be one of {}", all.join(", "));
            return Err(Issue::new(ErrorKind::Impossible, e.span, path, message).help(param.help));
        }
        let (least, most) = param.range;
        if value < least || value > most {
            let in_unit = |value| Quantity { value, dim: unit }.to_string();
            let message = format!(
                "`{path}` is {}, but must be {} to {}",
                shown(e, &Quantity { value, ..q }),
                in_unit(least),
                in_unit(most)
            );
            return Err(Issue::new(ErrorKind::Impossible, e.span, path, message).help(param.help));
        }
        out.insert(name.clone(), value);
    }
    Ok(out)
}

/// What one block needs must fit into one SM.
fn check_block(r: &Resolved, name: &At<String>, path: &str, device: &DeviceSizes) -> Checked<()> {
    let fault = |message: String| Err(Issue::new(ErrorKind::Impossible, name.span, path, message));
    if r.shape.shared_bytes > device.smem {
        return fault(format!(
            "a block of {} needs {} of shared memory, but a block of {} has at most {}",
            r.kernel, r.shape.shared_bytes, device.name, device.smem
        ));
    }
    let registers = u64::from(r.shape.registers) * u64::from(r.shape.warps()) * 32;
    if registers > u64::from(REGISTERS_PER_BLOCK) {
        return fault(format!(
            "a block of {} needs {registers} registers ({} threads of {}), but a block has at most \
             {REGISTERS_PER_BLOCK}",
            r.kernel, r.shape.threads, r.shape.registers
        ));
    }
    Ok(())
}

fn check_memory(
    trial: &Trial,
    path: &str,
    id: &str,
    tenants: &[TenantPlan],
    device: &DeviceSizes,
) -> Checked<()> {
    let of = |t: &TenantPlan| t.kernel.buffer_a.0.saturating_add(t.kernel.buffer_b.0);
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
    Err(Issue::new(ErrorKind::Impossible, trial.tenants.span, format!("{path}.tenants"), message).help(
        format!("make them smaller ({}), or size them by the card: bytes = \"dram/8\"", each.join(", ")),
    ))
}
