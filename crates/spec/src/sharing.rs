//! The sharing mode of a trial with its numbers.

use crate::error::{Checked, ErrorKind, Issue};
use crate::expr::Expr;
use crate::plan::Sharing;
use crate::raw::{At, PerTenant, SharingText};
use crate::tree::Span;
use crate::value::Scope;

/// Highest stream priority that CUDA has (lower number, higher priority); devices may have fewer levels.
const HIGHEST_STREAM_PRIORITY: f64 = -5.0;

/// Resolves the mode for a trial of `tenants` tenants.
pub(crate) fn resolve(
    text: &SharingText,
    span: Span,
    trial: &str,
    tenants: usize,
    scope: &Scope<'_>,
) -> Checked<Sharing> {
    let path = format!("{trial}.sharing");
    let list = List { path: &path, tenants, scope };
    let stream_priority = || {
        list.each(&text.priority, "priority", |e, p| {
            scope
                .integer(e, p, HIGHEST_STREAM_PRIORITY, 0.0)
                .map(|n| n as i32)
                .map_err(|i| i.help("stream priorities are 0 (default) down to -5 (highest)"))
        })
    };
    Ok(match text.mode.value.as_str() {
        "solo" => Sharing::Solo,
        "sequential" => Sharing::Sequential,
        "streams" => Sharing::Streams { priority: stream_priority()? },
        "processes" => Sharing::Processes,
        "mps" => Sharing::Mps {
            percentage: list.each(&text.percentage, "percentage", |e, p| scope.percent(e, p))?,
            priority: list.each(&text.priority, "priority", |e, p| {
                scope
                    .integer(e, p, 0.0, 1.0)
                    .map(|n| n as u32)
                    .map_err(|i| i.help("MPS client priorities are 0 (normal) and 1 (below normal)"))
            })?,
            pinned_memory: list.each(&text.pinned_memory, "pinned_memory", |e, p| {
                let bytes = scope.bytes(e, p)?;
                if bytes > scope.device.dram {
                    let message = format!(
                        "`{p}` is {bytes}, but {} has {} of device memory",
                        scope.device.name, scope.device.dram
                    );
                    return Err(Issue::new(ErrorKind::Impossible, e.span, p, message)
                        .help("a limit beyond the card's memory limits nothing; leave it out"));
                }
                Ok(bytes)
            })?,
        },
        "green" => Sharing::Green { sms: green_sms(text, &list)?, priority: stream_priority()? },
        "mig" => Sharing::Mig { instances: mig_instances(text, &list)? },
        // `read.rs` lets no other name through.
        other => {
            let message = format!("`{other}` is not a sharing mode");
            return Err(Issue::new(ErrorKind::UnknownName, span, path, message));
        }
    })
}

/// Lists with one value per tenant.
struct List<'a> {
    path: &'a str,
    tenants: usize,
    scope: &'a Scope<'a>,
}

impl List<'_> {
    fn check_len(&self, len: usize, span: Span, key: &str) -> Checked<()> {
        if len == self.tenants {
            return Ok(());
        }
        let path = format!("{}.{key}", self.path);
        let plural = if len == 1 { "" } else { "s" };
        let message = format!(
            "`{path}` has {len} value{plural}, but the trial has {} tenant{}",
            self.tenants,
            if self.tenants == 1 { "" } else { "s" }
        );
        Err(Issue::new(ErrorKind::Impossible, span, path, message)
            .help("give one value per tenant, in the order of `tenants`, or a single value for all"))
    }

    fn each<T>(
        &self,
        list: &Option<At<PerTenant>>,
        key: &str,
        read: impl Fn(&At<Expr>, &str) -> Checked<T>,
    ) -> Checked<Vec<T>> {
        let Some(list) = list else { return Ok(Vec::new()) };
        match &list.value {
            PerTenant::Each(each) => {
                self.check_len(each.len(), list.span, key)?;
                each.iter().enumerate().map(|(i, e)| read(e, &format!("{}.{key}[{i}]", self.path))).collect()
            }
            PerTenant::All(e) => {
                (0..self.tenants).map(|_| read(e, &format!("{}.{key}", self.path))).collect()
            }
        }
    }
}

fn green_sms(text: &SharingText, list: &List<'_>) -> Checked<Vec<u32>> {
    let device = list.scope.device;
    let sms = list.each(&text.sms, "sms", |e, p| {
        let n = list.scope.count(e, p, u32::MAX)?;
        if n > device.sms {
            let message = format!("`{p}` is {n} SMs, but {} has {}", device.name, device.sms);
            return Err(Issue::new(ErrorKind::Impossible, e.span, p, message)
                .help("size it by the card, for example \"sms/2\""));
        }
        Ok(n)
    })?;
    let total: u64 = sms.iter().map(|n| u64::from(*n)).sum();
    if total > u64::from(device.sms) {
        let path = format!("{}.sms", list.path);
        let span = text.sms.as_ref().map_or(text.mode.span, |s| s.span);
        let message = format!("`{path}` adds up to {total} SMs, but {} has {}", device.name, device.sms);
        return Err(Issue::new(ErrorKind::Impossible, span, path, message)
            .help("green contexts do not overlap; size them by the card, for example \"sms/2\""));
    }
    Ok(sms)
}

fn mig_instances(text: &SharingText, list: &List<'_>) -> Checked<Vec<String>> {
    let Some(instances) = &text.instances else { return Ok(Vec::new()) };
    list.check_len(instances.value.len(), instances.span, "instances")?;
    for (i, instance) in instances.value.iter().enumerate() {
        if !instance.value.starts_with("MIG-") {
            let path = format!("{}.instances[{i}]", list.path);
            let message = format!("`{}` is not the UUID of a MIG instance", instance.value);
            return Err(Issue::new(ErrorKind::Impossible, instance.span, path, message)
                .help("UUIDs of instances start with `MIG-`; `cotenant doctor` lists them"));
        }
    }
    Ok(instances.value.iter().map(|i| i.value.clone()).collect())
}
