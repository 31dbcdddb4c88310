//! The hidden verb `kernel-once`: one launch of one kernel, for `ncu` to look at.

use crate::cli::KernelOnceArgs;
use crate::exit::{Code, Failure};
use std::collections::BTreeMap;

/// Launches and prints duration and SM clock.
pub fn kernel_once(a: KernelOnceArgs) -> Result<Code, Failure> {
    let mut params = BTreeMap::new();
    for s in &a.set {
        let parsed = s.split_once('=').and_then(|(k, v)| Some((k.to_owned(), v.parse::<f64>().ok()?)));
        let (k, v) = parsed.ok_or_else(|| {
            Failure::new(Code::BadInput, format!("understand --set {s}: it should be name=number"))
        })?;
        params.insert(k, v);
    }
    let (ns, mhz) =
        cotenant_lab::cuda::launch_once(&a.kernel, a.blocks, a.threads, &params, a.iterations, a.device)
            .map_err(|e| Failure::new(Code::NoDevice, format!("launch {}: {e}", a.kernel)))?;
    let clock = mhz.map_or_else(|| "too short to tell".into(), |m| format!("{m:.0} MHz"));
    super::print_text(&format!("{} {:.3} ms, SM clock {clock}", a.kernel, ns as f64 / 1e6));
    Ok(Code::Ok)
}
