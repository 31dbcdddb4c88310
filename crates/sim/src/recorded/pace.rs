//! When the host submits the launches of an iteration.
//!
//! A trace tells when each launch *started*. Where the device was idle before it (the gap is longer than the
//! device's own lag) that is when the host submitted it; where it followed back to back it had been submitted
//! before, at a time that is not seen. Between two launches that waited for the host, the host is taken to have
//! worked evenly; behind the last of them it goes on at its median pace. No launch is submitted after it started.
//! Where the host read something of the device, its time counts from the end of the launch before.
//!
//! The kernel clock itself costs host time, so all of the host's times are stretched by one factor with which the
//! iteration, alone, takes the wall time that was measured without that clock. What is left where the device and
//! not the host sets the time goes to the durations of kernels (the SM clock differs between passes).

use super::format::Recorded;

/// Bounds of the factor on host times (above 1 only by chance: the kernel clock makes a host slower), and of that on
/// durations.
const HOST: (f64, f64) = (0.8, 1.2);
const DEVICE: (f64, f64) = (0.8, 1.25);
/// From the end of the last launch to the host's going on, where the host had nothing else to do, ns.
const SYNC_NS: f64 = 10_000.0;
/// Host time of a launch where a trace never shows it, ns: what an eager operator took on the H100's host.
const EAGER_NS: f64 = 12_000.0;
/// The same within a captured graph: the host submits all nodes at once.
const GRAPH_NS: f64 = 0.0;

/// The host side of one iteration, fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Host time from the submission before to this one, ns; the first from the beginning of the iteration.
    pub host_ns: Vec<f64>,
    /// The device's own lag before each launch, ns.
    pub lag_ns: Vec<f64>,
    /// Host time behind the last submission before the host waits for the device, ns.
    pub tail_host_ns: f64,
    /// From the end of the last launch to the host's going on, ns.
    pub sync_ns: f64,
    /// Factor on host times.
    pub host_factor: f64,
    /// Factor on durations.
    pub device_factor: f64,
}

/// Fits the pace of a time line.
pub fn fit(r: &Recorded) -> Pace {
    let submitted = submissions(r);
    let mut before = 0.0;
    let base: Vec<f64> = submitted
        .iter()
        .zip(&r.steps)
        .zip(0u32..)
        .map(|((&s, step), i)| {
            let host = if r.host_reads.contains(&i) { step.gap_ns as f64 } else { s - before };
            before = s;
            host
        })
        .collect();
    let lag_ns: Vec<f64> = r.steps.iter().map(|s| s.lag_ns as f64).collect();
    let tail = r.tail_ns as f64;
    let waits = r.steps.last().is_some_and(|s| s.waits_for_host());
    let last = r.steps.last().map_or(0.0, |s| s.duration_ns as f64);
    let sync_ns = tail.min(SYNC_NS);
    // The host went on after its last submission until the end, unless it had to wait for the device.
    let tail_base = if waits && tail > SYNC_NS { last + tail } else { 0.0 };
    let sync_ns = if waits { sync_ns } else { tail };
    let pace = |host: f64, device: f64| Pace {
        host_ns: base.iter().map(|b| b * host).collect(),
        lag_ns: lag_ns.clone(),
        tail_host_ns: tail_base * host,
        sync_ns,
        host_factor: host,
        device_factor: device,
    };
    let target = r.wall_ns as f64;
    let host = bisect(HOST, target, |f| pace(f, 1.0).alone(r));
    let left = pace(host, 1.0).alone(r) / target - 1.0;
    let device = if left.abs() > 1e-3 { bisect(DEVICE, target, |g| pace(host, g).alone(r)) } else { 1.0 };
    pace(host, device)
}

impl Pace {
    /// Wall time of an iteration alone on the device, ns.
    pub fn alone(&self, r: &Recorded) -> f64 {
        let (mut submitted, mut end) = (0.0, 0.0f64);
        for (i, s) in r.steps.iter().enumerate() {
            if r.host_reads.contains(&(i as u32)) {
                submitted = end.max(submitted);
            }
            submitted += self.host_ns[i];
            let ready = if i == 0 { 0.0 } else { end + self.lag_ns[i] };
            end = ready.max(submitted) + s.duration_ns as f64 * self.device_factor;
        }
        (submitted + self.tail_host_ns).max(end + self.sync_ns)
    }
}

/// When the host submitted each launch, ns from the beginning of the iteration.
fn submissions(r: &Recorded) -> Vec<f64> {
    let mut at = 0u64;
    let starts: Vec<f64> = r
        .steps
        .iter()
        .map(|s| {
            let start = at + s.gap_ns;
            at = start + s.duration_ns;
            start as f64
        })
        .collect();
    let seen: Vec<usize> = (0..starts.len()).filter(|&i| i == 0 || r.steps[i].waits_for_host()).collect();
    let mut paces: Vec<f64> =
        seen.windows(2).filter(|w| w[1] == w[0] + 1).map(|w| starts[w[1]] - starts[w[0]]).collect();
    paces.sort_unstable_by(f64::total_cmp);
    let usual = if r.workload.cuda_graph {
        GRAPH_NS
    } else {
        paces.get(paces.len() / 2).copied().unwrap_or(EAGER_NS)
    };
    let mut out = vec![0.0; starts.len()];
    for (k, &i) in seen.iter().enumerate() {
        out[i] = starts[i];
        let next = seen.get(k + 1).copied();
        for j in i + 1..next.unwrap_or(starts.len()) {
            let step = match next {
                Some(n) => (starts[n] - out[j - 1]) / (n - j + 1) as f64,
                None => usual,
            };
            out[j] = (out[j - 1] + step).min(starts[j]);
        }
    }
    out
}

/// Where a function that does not fall takes a value; the nearer bound where it does not.
fn bisect((mut lo, mut hi): (f64, f64), target: f64, f: impl Fn(f64) -> f64) -> f64 {
    if f(lo) >= target {
        // Flat below: the largest argument with that value changes least.
        return if f(lo) > target { flat_end((lo, hi), f) } else { lo };
    }
    for _ in 0..50 {
        let mid = 0.5 * (lo + hi);
        if f(mid) < target { lo = mid } else { hi = mid }
    }
    0.5 * (lo + hi)
}

/// The largest argument up to 1 with the same value as the lower bound.
fn flat_end((lo, hi): (f64, f64), f: impl Fn(f64) -> f64) -> f64 {
    let (least, mut lo, mut hi) = (f(lo) * (1.0 + 1e-4), lo, hi.min(1.0));
    if f(hi) <= least {
        return hi;
    }
    for _ in 0..50 {
        let mid = 0.5 * (lo + hi);
        if f(mid) <= least { lo = mid } else { hi = mid }
    }
    lo
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::sample;
    use super::*;

    #[test]
    fn a_launch_bound_iteration_is_paced_by_its_host() {
        let r = sample(50, 30);
        let p = fit(&r);
        assert!((p.host_factor - 1.0).abs() < 1e-3 && p.device_factor == 1.0, "{p:?}");
        assert!((p.host_ns[10] - 30_000.0).abs() < 50.0);
        assert!((p.alone(&r) / r.wall_ns as f64 - 1.0).abs() < 1e-3);
        // The untraced wall time is shorter: the host is that much faster, the device is not.
        let quick = fit(&Recorded { wall_ns: r.wall_ns * 9 / 10, ..r.clone() });
        assert!(quick.host_factor < 0.92 && quick.device_factor == 1.0, "{quick:?}");
    }

    #[test]
    fn a_device_bound_iteration_is_submitted_ahead() {
        let r = sample(50, 5);
        let p = fit(&r);
        assert!((p.alone(&r) / r.wall_ns as f64 - 1.0).abs() < 1e-3, "{}", p.alone(&r));
        assert!(p.host_ns.iter().skip(1).all(|&h| h <= EAGER_NS + 1.0));
        // A host that is no bound cannot explain a longer time than half again; the device does.
        let slow = fit(&Recorded { wall_ns: r.wall_ns * 11 / 10, ..r.clone() });
        assert!((slow.alone(&r) / (r.wall_ns as f64 * 1.1) - 1.0).abs() < 2e-3);
        let quick = fit(&Recorded { wall_ns: r.wall_ns * 95 / 100, ..r.clone() });
        assert!(quick.device_factor < 0.97, "{quick:?}");
        assert!((quick.alone(&r) / (r.wall_ns as f64 * 0.95) - 1.0).abs() < 2e-3);
    }

    #[test]
    fn a_graph_is_one_submission() {
        let mut r = sample(50, 5);
        r.workload.cuda_graph = true;
        let p = fit(&r);
        assert!(p.host_ns[1..].iter().all(|&h| h == 0.0));
        assert!((p.alone(&r) / r.wall_ns as f64 - 1.0).abs() < 2e-3);
    }

    #[test]
    fn after_a_read_the_hosts_time_counts_from_the_launch_before() {
        let mut r = sample(50, 30);
        r.host_reads = vec![20];
        let p = fit(&r);
        assert!((p.alone(&r) / r.wall_ns as f64 - 1.0).abs() < 1e-3, "{}", p.alone(&r));
        // 30 µs from submission to submission, of which the launch before takes 10.
        assert!((p.host_ns[20] / (20_000.0 * p.host_factor) - 1.0).abs() < 1e-6, "{}", p.host_ns[20]);
        assert!((p.host_ns[21] / (30_000.0 * p.host_factor) - 1.0).abs() < 1e-6, "{}", p.host_ns[21]);
    }

    #[test]
    fn nothing_is_submitted_after_it_started() {
        let mut r = sample(60, 20);
        for s in &mut r.steps[10..30] {
            (s.gap_ns, s.lag_ns) = (1_200, 1_200);
        }
        let (mut start, mut end) = (0, 0);
        for (s, submitted) in r.steps.iter().zip(submissions(&r)) {
            start += s.gap_ns + end;
            end = s.duration_ns;
            assert!(submitted <= start as f64 + 1e-6);
        }
    }
}
