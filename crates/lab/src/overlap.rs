//! When did the tenants of a phase really run, and when all of them at once? Pure arithmetic on spans.

use crate::backend::TenantRun;
use cotenant_spec::plan::Protocol;

/// First start and last end of a tenant's launches.
pub fn extent(spans: &[(u64, u64)]) -> Option<(u64, u64)> {
    let start = spans.iter().map(|s| s.0).min()?;
    let end = spans.iter().map(|s| s.1).max()?;
    (end >= start).then_some((start, end))
}

/// The stretch during which every tenant was active (between its first start and last end), if any.
pub fn window(tenants: &[TenantRun]) -> Option<(u64, u64)> {
    let mut w: Option<(u64, u64)> = None;
    for t in tenants {
        let (s, e) = extent(&t.spans)?;
        w = Some(w.map_or((s, e), |(a, b)| (a.max(s), b.min(e))));
    }
    w.filter(|(a, b)| b > a)
}

/// Share of the phase's makespan in which a launch of every tenant was on the GPU, 0..1. Gaps between the
/// launches of a tenant do not count as running.
pub fn overlap(tenants: &[TenantRun]) -> f64 {
    let (Some(start), Some(end)) = (
        tenants.iter().filter_map(|t| extent(&t.spans)).map(|e| e.0).min(),
        tenants.iter().filter_map(|t| extent(&t.spans)).map(|e| e.1).max(),
    ) else {
        return 0.0;
    };
    if tenants.is_empty() || end <= start {
        return 0.0;
    }
    share_all_running(tenants, start, end)
}

/// Share of the window in which all were active that all really ran: the steady protocol's overlap.
pub fn overlap_in_window(tenants: &[TenantRun]) -> f64 {
    window(tenants).map_or(0.0, |(s, e)| share_all_running(tenants, s, e))
}

fn share_all_running(tenants: &[TenantRun], start: u64, end: u64) -> f64 {
    // Sweep: +1 where a tenant's merged busy interval starts, -1 where it ends; count time at full height.
    let mut edges: Vec<(u64, i32)> = Vec::new();
    for t in tenants {
        for (s, e) in merged(&t.spans) {
            let (s, e) = (s.clamp(start, end), e.clamp(start, end));
            if e > s {
                edges.push((s, 1));
                edges.push((e, -1));
            }
        }
    }
    edges.sort_unstable();
    let full = tenants.len() as i32;
    let (mut height, mut since, mut total) = (0, start, 0u64);
    for (at, step) in edges {
        if height == full {
            total += at - since;
        }
        height += step;
        since = at;
    }
    total as f64 / (end - start) as f64
}

fn merged(spans: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
    for (s, e) in sorted {
        match out.last_mut() {
            Some(last) if s <= last.1 => last.1 = last.1.max(e),
            _ => out.push((s, e)),
        }
    }
    out
}

/// Time of one launch of a tenant in a phase, ns, and how many launches it is the mean of.
///
/// Fixed protocol: from the *phase's* first start to the tenant's last end, so that waiting for a place on an
/// SM counts as part of its latency (paper §4.1.1). Steady: over the launches that lie wholly inside the
/// window in which all tenants were active.
pub fn launch_time(protocol: Protocol, tenants: &[TenantRun], which: usize) -> Option<(f64, u32)> {
    let run = tenants.get(which)?;
    let (_, end) = extent(&run.spans)?;
    let alone = tenants.len() == 1;
    if alone || protocol == Protocol::Fixed {
        let start = tenants.iter().filter_map(|t| extent(&t.spans)).map(|e| e.0).min()?;
        let n = run.spans.len() as u32;
        return Some(((end - start) as f64 / f64::from(n), n));
    }
    let (from, to) = window(tenants)?;
    let inside: Vec<_> = run.spans.iter().filter(|(s, e)| *s >= from && *e <= to).copied().collect();
    let (s, e) = extent(&inside)?;
    let n = inside.len() as u32;
    Some(((e - s) as f64 / f64::from(n), n))
}

/// Which of a program's iterations count, as a range of its spans: all under the fixed protocol and alone; under the
/// steady one those that lie wholly inside the window in which every tenant was active.
pub fn counted(protocol: Protocol, tenants: &[TenantRun], which: usize) -> std::ops::Range<usize> {
    let Some(run) = tenants.get(which) else { return 0..0 };
    if tenants.len() == 1 || protocol == Protocol::Fixed {
        return 0..run.spans.len();
    }
    let Some((from, to)) = window(tenants) else { return 0..0 };
    let first = run.spans.iter().position(|s| s.0 >= from).unwrap_or(run.spans.len());
    let inside = run.spans[first..].iter().take_while(|s| s.1 <= to).count();
    first..first + inside
}

/// The stretch of a phase that counts for its servers: all tenants are active, and each server is under its whole load.
/// A closed loop is that from its first request to its last sent one (after that users run out), an open one from its
/// first arrival to its last. `None` where there is no such stretch.
pub fn loaded_window(tenants: &[TenantRun]) -> Option<(u64, u64)> {
    let mut w: Option<(u64, u64)> = None;
    for t in tenants {
        let (from, mut to) = extent(&t.spans)?;
        if t.served.is_some() {
            to = t.spans.iter().map(|s| s.0).max()?;
        }
        w = Some(w.map_or((from, to), |(a, b)| (a.max(from), b.min(to))));
    }
    w.filter(|(from, to)| to > from)
}

/// Which of a server's requests, in the order of their starts, count: those that started within the window.
pub fn started_within(spans: &[(u64, u64)], (from, to): (u64, u64)) -> std::ops::Range<usize> {
    spans.partition_point(|s| s.0 < from)..spans.partition_point(|s| s.0 < to)
}

/// A stretch of a phase by how many tenants were active (between their first start and last end).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// `all`, `some` or `one`.
    pub active: &'static str,
    /// Begin.
    pub from: u64,
    /// End.
    pub to: u64,
}

/// Shorter parts belong to the one before: the tenants' starts and stops are that far apart anyway, ns.
const SHORTEST_PART_NS: u64 = 100_000;

/// The parts of a phase in time order; stretches without any tenant are left out.
pub fn parts(tenants: &[TenantRun]) -> Vec<Part> {
    parts_of(tenants, SHORTEST_PART_NS)
}

fn parts_of(tenants: &[TenantRun], shortest: u64) -> Vec<Part> {
    let extents: Vec<(u64, u64)> = tenants.iter().filter_map(|t| extent(&t.spans)).collect();
    let mut edges: Vec<u64> = extents.iter().flat_map(|e| [e.0, e.1]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut out: Vec<Part> = Vec::new();
    for pair in edges.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let n = extents.iter().filter(|e| e.0 <= from && e.1 >= to).count();
        let active = match n {
            0 => continue,
            n if n == extents.len() => "all",
            1 => "one",
            _ => "some",
        };
        match out.last_mut() {
            Some(last) if last.active == active && last.to == from => last.to = to,
            _ => out.push(Part { active, from, to }),
        }
    }
    let mut merged: Vec<Part> = Vec::with_capacity(out.len());
    let mut lead = None;
    for p in out {
        match merged.last_mut() {
            Some(last) if p.to - p.from < shortest || last.active == p.active => last.to = p.to,
            None if p.to - p.from < shortest => lead = lead.or(Some(p.from)),
            _ => merged.push(Part { from: lead.take().unwrap_or(p.from), ..p }),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(spans: &[(u64, u64)]) -> TenantRun {
        TenantRun { spans: spans.to_vec(), ..TenantRun::default() }
    }

    #[test]
    fn parts_follow_the_number_of_active_tenants() {
        let small = run(&[(0, 10), (10, 20)]);
        let other = run(&[(5, 30)]);
        let large = run(&[(0, 50), (50, 100)]);
        let words: Vec<(&str, u64, u64)> =
            parts_of(&[small, other, large], 0).into_iter().map(|p| (p.active, p.from, p.to)).collect();
        assert_eq!(words, [("some", 0, 5), ("all", 5, 20), ("some", 20, 30), ("one", 30, 100)]);
        // A start that others follow within microseconds is no part of its own, and no gap in the next.
        let late = [run(&[(0, 900_000)]), run(&[(1_000, 900_500), (900_500, 2_000_000)])];
        let words: Vec<(&str, u64, u64)> =
            parts(&late).into_iter().map(|p| (p.active, p.from, p.to)).collect();
        assert_eq!(words, [("all", 0, 900_000), ("one", 900_000, 2_000_000)]);
    }

    #[test]
    fn a_server_counts_while_it_and_all_others_are_under_load() {
        let served = |spans: &[(u64, u64)]| {
            let (requests, client) = (Vec::new(), crate::serving::ServedClient::default());
            TenantRun { served: Some(Box::new(crate::serving::Served { requests, client })), ..run(spans) }
        };
        let a = served(&[(0, 10), (0, 12), (10, 20), (12, 30)]);
        assert_eq!(loaded_window(std::slice::from_ref(&a)), Some((0, 12)), "nobody asks after 12");
        assert_eq!(started_within(&a.spans, (0, 12)), 0..3);
        let b = run(&[(2, 11)]);
        assert_eq!(loaded_window(&[a.clone(), b]), Some((2, 11)));
        assert_eq!(started_within(&a.spans, (2, 11)), 2..3);
        assert_eq!(loaded_window(&[a, run(&[(40, 50)])]), None);
    }

    #[test]
    fn only_iterations_within_the_window_count() {
        let a = run(&[(0, 10), (10, 20), (20, 30), (30, 40)]);
        let b = run(&[(12, 33)]);
        let both = [a, b];
        assert_eq!(counted(Protocol::Steady, &both, 0), 2..3);
        assert_eq!(counted(Protocol::Fixed, &both, 0), 0..4);
        assert_eq!(counted(Protocol::Steady, &both[..1], 0), 0..4);
        assert_eq!(counted(Protocol::Steady, &both, 1), 0..1);
    }

    #[test]
    fn full_overlap_is_one_and_serial_is_zero() {
        assert_eq!(overlap(&[run(&[(0, 100)]), run(&[(0, 100)])]), 1.0);
        assert_eq!(overlap(&[run(&[(0, 100)]), run(&[(100, 200)])]), 0.0);
        assert_eq!(overlap(&[run(&[(0, 100)]), run(&[(50, 150)])]), 50.0 / 150.0);
    }

    #[test]
    fn gaps_between_launches_are_not_running() {
        let a = run(&[(0, 40), (60, 100)]);
        let b = run(&[(0, 100)]);
        assert!((overlap(&[a, b]) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_waiting_tenant_is_charged_for_the_wait() {
        let t = [run(&[(0, 100)]), run(&[(100, 200)])];
        assert_eq!(launch_time(Protocol::Fixed, &t, 0), Some((100.0, 1)));
        assert_eq!(launch_time(Protocol::Fixed, &t, 1), Some((200.0, 1)));
    }

    #[test]
    fn steady_counts_only_fully_shared_launches() {
        let a = run(&[(0, 10), (10, 20), (20, 30), (30, 40)]);
        let b = run(&[(5, 25), (25, 38)]);
        let t = [a, b];
        // Window 5..38: of a, (10,20) and (20,30) lie inside.
        assert_eq!(launch_time(Protocol::Steady, &t, 0), Some((10.0, 2)));
        assert_eq!(launch_time(Protocol::Steady, &t, 1), Some((16.5, 2)));
    }

    #[test]
    fn a_tenant_without_launches_yields_nothing() {
        assert_eq!(launch_time(Protocol::Fixed, &[run(&[])], 0), None);
        assert_eq!(overlap(&[run(&[]), run(&[(0, 1)])]), 0.0);
        assert_eq!(overlap(&[]), 0.0);
        assert_eq!(window(&[run(&[(0, 1)]), run(&[(2, 3)])]), None);
    }
}
