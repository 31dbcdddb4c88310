//! One tenant of one cell: which kind it is, and a kernel with its sizes.

use crate::error::{Checked, ErrorKind, Issue};
use crate::expr::{Dim, Quantity};
use crate::plan::{DeviceSizes, KernelPlan, TenantPlan, Work, Workload};
use crate::program;
use crate::raw::{At, Settings, Tenant, TenantUse, What};
use crate::registry;
use crate::resolve::Cx;
use crate::tree::Span;
use crate::value::{Scope, shown};
use cotenant_kernels::Resolved;
use std::collections::BTreeMap;

/// Registers of one block at most, on every architecture since compute capability 5.0.
const REGISTERS_PER_BLOCK: u32 = 65_536;
/// Largest grid in x.
const MAX_BLOCKS: u32 = i32::MAX as u32;

/// What a tenant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kernel,
    Torch,
    Command,
    Server,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Kernel => "kernel",
            Kind::Torch => "torch",
            Kind::Command => "command",
            Kind::Server => "server",
        }
    }
}

/// The kind that is written, with its place; `None` where none is.
fn kind(what: &What, path: &str) -> Checked<Option<(Kind, Span)>> {
    let given: Vec<(Kind, Span)> = [
        what.kernel.as_ref().map(|k| (Kind::Kernel, k.span)),
        what.torch.as_ref().map(|k| (Kind::Torch, k.span)),
        what.command.as_ref().map(|k| (Kind::Command, k.span)),
        what.server.as_ref().map(|k| (Kind::Server, k.span)),
    ]
    .into_iter()
    .flatten()
    .collect();
    match given.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        [first, second, ..] => {
            let message = format!("`{path}` has both `{}` and `{}`", first.0.name(), second.0.name());
            Err(Issue::new(ErrorKind::Impossible, second.1, path, message).help("a tenant runs one thing"))
        }
    }
}

/// Checks that need no device: so a tenant that no trial uses yet is checked too.
pub(crate) fn check(tenant: &Tenant, span: Span, path: &str) -> Checked<()> {
    let Some((kind, _)) = kind(&tenant.what, path)? else {
        let message = format!("`{path}` does not say what it runs");
        return Err(Issue::new(ErrorKind::Missing, span, path, message).help(
            "add `kernel = \"fp32-mul\"`, `torch = \"distilgpt2\"`, `command = [\"python3\", \"mine.py\"]` \
             or `server = { preset = \"vllm\", model = \"…\" }`",
        ));
    };
    check_keys(kind, &tenant.settings, path)?;
    match &tenant.what.kernel {
        Some(name) => {
            check_params(registry::kernel(name, &format!("{path}.kernel"))?, &tenant.settings, path)
        }
        None => Ok(()),
    }
}

/// Refuses keys that a tenant of this kind does not have.
fn check_keys(kind: Kind, settings: &Settings, path: &str) -> Checked<()> {
    use Kind::{Command, Kernel, Server, Torch};
    for (key, span) in settings.keys() {
        let owners: &[Kind] = match key {
            "blocks" | "threads" | "params" | "duration" | "launches" | "request" | "carveout" => &[Kernel],
            "warmup" => &[Torch, Command],
            "env" => &[Torch, Command, Server],
            "role" => &[Kernel, Torch, Command, Server],
            "load" => &[Server],
            "protocol" => &[Command],
            "iterations" | "gap" | "arrivals" | "rate" | "cv" | "trace" => &[Kernel, Torch, Command],
            _ => &[Torch],
        };
        if !owners.contains(&kind) {
            let owners: Vec<&str> = owners.iter().map(|k| k.name()).collect();
            let message = format!("a {} tenant has no key `{key}`", kind.name());
            return Err(Issue::new(ErrorKind::UnknownKey, span, format!("{path}.{key}"), message)
                .help(format!("`{key}` belongs to {} tenants", owners.join(" and "))));
        }
    }
    Ok(())
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

/// Where the parts of a tenant are written: in the trial and at its definition.
pub(crate) struct Written<'a> {
    pub own: &'a Settings,
    pub inherited: &'a Settings,
    pub path: &'a str,
    pub base_path: &'a str,
    pub span: Span,
}

/// One tenant of a cell.
pub(crate) fn resolve(
    name: String,
    used: &TenantUse,
    path: &str,
    trial: &str,
    scope: &Scope<'_>,
    cx: Cx<'_>,
) -> Checked<TenantPlan> {
    // The names have been looked up before.
    let Some(base) = cx.file.tenants.get(&used.base.value) else {
        return Err(Issue::new(ErrorKind::UnknownName, used.base.span, path, "the tenant is not defined"));
    };
    let base_path = format!("tenants.{}", used.base.value);
    let defined = kind(&base.value.what, &base_path)?.map_or(Kind::Kernel, |k| k.0);
    if let Some((other, span)) = kind(&used.what, path)?
        && other != defined
    {
        let message = format!(
            "`{}` is a {} tenant and cannot become a {} one",
            used.base.value,
            defined.name(),
            other.name()
        );
        return Err(Issue::new(ErrorKind::Impossible, span, path, message).help("define another tenant"));
    }
    check_keys(defined, &used.settings, path)?;
    let written = Written {
        own: &used.settings,
        inherited: &base.value.settings,
        path,
        base_path: &base_path,
        span: used.base.span,
    };
    let role = pick(used.settings.role.as_ref(), base.value.settings.role.as_ref(), path, &base_path, "role")
        .map(|r| r.0.value.clone());
    let seed = cx.file.seed.as_ref().map_or(1, |s| s.value);
    let (workload, load, usual_role) = match defined {
        Kind::Kernel => {
            let k = kernel(used, base, path, &base_path, trial, scope, cx)?;
            let load = program::load(&written, k.launches / k.request.max(1), 0, scope)?;
            (Workload::Kernel(k), load, "")
        }
        Kind::Torch => {
            let model = used.what.torch.as_ref().or(base.value.what.torch.as_ref());
            let (plan, role) = program::torch(model, &written, seed, scope)?;
            (Workload::Torch(plan), program::iterated(&written, scope)?, role)
        }
        Kind::Command => {
            let argv = used.what.command.as_ref().or(base.value.what.command.as_ref());
            let plan = program::command(argv, &written)?;
            let load = program::iterated(&written, scope)?;
            if plan.opaque {
                program::check_opaque(&written)?;
            }
            (Workload::Command(plan), load, "")
        }
        Kind::Server => {
            let (own, base) = (used.what.server.as_ref(), base.value.what.server.as_ref());
            let (plan, load) = crate::server::server(own, base, &written, seed, scope)?;
            (Workload::Server(Box::new(plan)), load, "server")
        }
    };
    Ok(TenantPlan { name, role: role.unwrap_or_else(|| usual_role.to_owned()), workload, load })
}

/// A field of a tenant: the trial's, else the tenant's, with the path it was written at.
pub(crate) fn pick<'a, T>(
    own: Option<&'a T>,
    base: Option<&'a T>,
    own_path: &str,
    base_path: &str,
    key: &str,
) -> Option<(&'a T, String)> {
    own.map(|v| (v, format!("{own_path}.{key}"))).or_else(|| base.map(|v| (v, format!("{base_path}.{key}"))))
}

fn kernel(
    used: &TenantUse,
    base: &At<Tenant>,
    path: &str,
    base_path: &str,
    trial: &str,
    scope: &Scope<'_>,
    cx: Cx<'_>,
) -> Checked<KernelPlan> {
    let (own, inherited) = (&used.settings, &base.value.settings);
    macro_rules! field {
        ($key:ident) => {
            pick(own.$key.as_ref(), inherited.$key.as_ref(), path, base_path, stringify!($key))
        };
    }
    let written = pick(used.what.kernel.as_ref(), base.value.what.kernel.as_ref(), path, base_path, "kernel");
    let Some((kernel_name, kernel_path)) = written else {
        return Err(Issue::new(ErrorKind::Missing, used.base.span, path, "the tenant has no kernel"));
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
    let params = params(kernel, own, inherited, (path, base_path), scope)?;
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

    let work = work(own, inherited, path, base_path, base, used, scope)?;
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
    let carveout = field!(carveout).map(|(e, p)| scope.size(e, &p, 0)).transpose()?;
    let carveout = carveout.unwrap_or_else(|| KernelPlan::default_carveout(&resolved));
    Ok(KernelPlan { kernel: resolved, work, launches, request, carveout })
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
