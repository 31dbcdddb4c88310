//! The one place where the spec asks the kernel registry.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::expr::Dim;
use crate::raw::At;
use cotenant_kernels::{Kernel, Param};

/// The registry entry of a kernel.
pub(crate) fn kernel(name: &At<String>, path: &str) -> Checked<&'static Kernel> {
    cotenant_kernels::find(&name.value).ok_or_else(|| {
        let names: Vec<&str> = cotenant_kernels::registry().iter().map(|k| k.name).collect();
        Issue::new(ErrorKind::UnknownName, name.span, path, format!("there is no kernel `{}`", name.value))
            .help(suggest(&name.value, "kernels", &names))
    })
}

/// A parameter of a kernel, or what would be right instead.
pub(crate) fn param(kernel: &Kernel, name: &str) -> Result<&'static Param, String> {
    kernel.params.iter().find(|p| p.name == name).ok_or_else(|| {
        let names: Vec<&str> = kernel.params.iter().map(|p| p.name).collect();
        match names.is_empty() {
            true => format!("{} has no parameters", kernel.name),
            false => suggest(name, &format!("parameters of {}", kernel.name), &names),
        }
    })
}

/// What a parameter counts, as the registry states it.
pub(crate) fn unit(param: &Param) -> Dim {
    if param.name == "ns" {
        Dim::Time
    } else if param.name == "bytes" || param.help.contains("bytes") {
        Dim::Bytes
    } else {
        Dim::Plain
    }
}

/// Blocks of a kernel where the spec does not say: the registry's grid. It is stated for 132 SMs and scaled to
/// the card, unless it is smaller than that (one block, one product).
pub(crate) fn default_blocks(kernel: &Kernel, sms: u32) -> u32 {
    const STATED_FOR: u32 = 132;
    let (blocks, _) = kernel.shape;
    if blocks < STATED_FOR {
        blocks
    } else {
        (f64::from(blocks) / f64::from(STATED_FOR) * f64::from(sms)).round() as u32
    }
}
