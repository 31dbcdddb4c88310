//! From many traced iterations to the median one.
//!
//! Given are the iterations' intervals and, on the same clock, every launch (which kernel, start, duration) and
//! every copy or setting of memory. Iterations whose sequence of kernels is the most frequent one are aligned
//! position by position; the others are left out and counted. Of each position the median duration and the median
//! gap to the launch before are kept. Medians of positions do not add up to the median of the whole exactly; the
//! simulator fits the host's share so that they do ([`super::pace`]).

use super::format::Step;
use std::collections::HashMap;

/// A gap of at most this much per hop is the device's own: it had the next launch at hand, ns. Back to back it was
/// 0.9 to 1.6 µs on the H100; what an eager host causes begins at 4 µs.
const BACK_TO_BACK_NS: u64 = 2_500;
/// What the device takes from one launch to the next, where the host was the later one, ns.
const HOP_NS: u64 = 1_200;

/// A launch: which kernel (any number, one per kernel and shape), start and duration in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Launch {
    /// Start.
    pub start_ns: u64,
    /// Duration.
    pub duration_ns: u64,
    /// Kernel.
    pub kernel: u32,
}

/// A copy or setting of memory by the device, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transfer {
    /// Start.
    pub start_ns: u64,
    /// Duration.
    pub duration_ns: u64,
    /// A copy from the device to the host.
    pub to_host: bool,
}

/// The median iteration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Median {
    /// Launches in order; `kernel` as in the input.
    pub steps: Vec<Step>,
    /// Iterations it is from.
    pub iterations: u32,
    /// Iterations left out.
    pub dropped: u32,
    /// From the end of the last launch to the end of the iteration, ns.
    pub tail_ns: u64,
    /// From the end of an iteration to the beginning of the next, ns; pauses between phases are left out.
    pub between_ns: u64,
    /// Wall time, ns.
    pub wall_ns: u64,
    /// Steps before which most iterations copied something to the host, and the device then waited for the host.
    pub host_reads: Vec<u32>,
}

/// Median of a list, the lower of two middle ones; 0 of none.
pub fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Aligns the launches of iterations `(begin, end)` that follow each other. `None` where no iteration has a launch.
pub fn align(iterations: &[(u64, u64)], launches: &[Launch], transfers: &[Transfer]) -> Option<Median> {
    let mut launches = launches.to_vec();
    launches.sort_unstable();
    let mut transfers = transfers.to_vec();
    transfers.sort_unstable();
    let of = |&(begin, end): &(u64, u64)| {
        let from = launches.partition_point(|l| l.start_ns < begin);
        let to = launches.partition_point(|l| l.start_ns < end);
        &launches[from..to.max(from)]
    };
    let mut seen: HashMap<Vec<u32>, (u32, usize)> = HashMap::new();
    let signature = |l: &[Launch]| l.iter().map(|l| l.kernel).collect::<Vec<u32>>();
    for (i, span) in iterations.iter().enumerate() {
        seen.entry(signature(of(span))).or_insert((0, i)).0 += 1;
    }
    // The most frequent sequence; of equally frequent ones the first seen.
    let (usual, _) = seen
        .into_iter()
        .filter(|s| !s.0.is_empty())
        .max_by_key(|(_, (n, first))| (*n, usize::MAX - first))?;
    let kept: Vec<(&(u64, u64), &[Launch])> = iterations
        .iter()
        .map(|span| (span, of(span)))
        .filter(|(_, l)| l.iter().map(|l| l.kernel).eq(usual.iter().copied()))
        .collect();
    let mut steps = Vec::with_capacity(usual.len());
    let mut host_reads = Vec::new();
    let (mut durations, mut gaps, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for (i, &kernel) in usual.iter().enumerate() {
        durations.clear();
        gaps.clear();
        waits.clear();
        let mut reads = 0;
        for (span, l) in &kept {
            let before = if i == 0 { span.0 } else { l[i - 1].start_ns + l[i - 1].duration_ns };
            durations.push(l[i].duration_ns);
            gaps.push(l[i].start_ns.saturating_sub(before));
            if i > 0 {
                let from = transfers.partition_point(|t| t.start_ns < l[i - 1].start_ns);
                let to = transfers.partition_point(|t| t.start_ns < l[i].start_ns);
                let between = &transfers[from..to.max(from)];
                reads += usize::from(between.iter().any(|t| t.to_host));
                waits.push((between.iter().map(|t| t.duration_ns).sum::<u64>(), between.len() as u64 + 1));
            }
        }
        let gap_ns = median(&mut gaps);
        let lag_ns = if i == 0 {
            0
        } else {
            let moved = median(&mut waits.iter().map(|w| w.0).collect::<Vec<u64>>());
            let hops = median(&mut waits.iter().map(|w| w.1).collect::<Vec<u64>>());
            let at_hand = gap_ns <= moved + hops * BACK_TO_BACK_NS;
            if at_hand { gap_ns } else { (moved + hops * HOP_NS).min(gap_ns) }
        };
        if 2 * reads > kept.len() && gap_ns > lag_ns {
            host_reads.push(i as u32);
        }
        steps.push(Step { kernel, duration_ns: median(&mut durations), gap_ns, lag_ns });
    }
    let end = |l: &[Launch]| l.last().map_or(0, |l| l.start_ns + l.duration_ns);
    let mut tails: Vec<u64> = kept.iter().map(|(span, l)| span.1.saturating_sub(end(l))).collect();
    let mut walls: Vec<u64> = kept.iter().map(|(span, _)| span.1.saturating_sub(span.0)).collect();
    let wall_ns = median(&mut walls);
    // Longer than an iteration: a phase ended in between.
    let mut between: Vec<u64> =
        iterations.windows(2).map(|w| w[1].0.saturating_sub(w[0].1)).filter(|&b| b < wall_ns).collect();
    Some(Median {
        iterations: kept.len() as u32,
        dropped: (iterations.len() - kept.len()) as u32,
        tail_ns: median(&mut tails),
        between_ns: median(&mut between),
        wall_ns,
        host_reads,
        steps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An iteration from `begin`: launches of `(kernel, gap, duration)`, and the end 10 later.
    fn iteration(begin: u64, list: &[(u32, u64, u64)]) -> ((u64, u64), Vec<Launch>) {
        let mut at = begin;
        let launches = list
            .iter()
            .map(|&(kernel, gap, duration_ns)| {
                let start_ns = at + gap;
                at = start_ns + duration_ns;
                Launch { start_ns, duration_ns, kernel }
            })
            .collect();
        ((begin, at + 10), launches)
    }

    fn all(parts: &[((u64, u64), Vec<Launch>)]) -> (Vec<(u64, u64)>, Vec<Launch>) {
        // The file's order is not that of time.
        (parts.iter().map(|p| p.0).collect(), parts.iter().rev().flat_map(|p| p.1.clone()).collect())
    }

    #[test]
    fn medians_stand_at_their_positions() {
        let parts = [
            iteration(0, &[(7, 100, 50), (8, 5_000, 20)]),
            iteration(100_000, &[(7, 300, 52), (8, 7_000, 90)]),
            iteration(200_000, &[(7, 200, 51), (8, 6_000, 30)]),
        ];
        let (spans, launches) = all(&parts);
        let m = align(&spans, &launches, &[]).expect("aligned");
        assert_eq!((m.iterations, m.dropped, m.tail_ns), (3, 0, 10));
        assert_eq!(m.steps[0], Step { kernel: 7, duration_ns: 51, gap_ns: 200, lag_ns: 0 });
        assert_eq!(m.steps[1], Step { kernel: 8, duration_ns: 30, gap_ns: 6_000, lag_ns: HOP_NS });
        assert!(m.steps[1].waits_for_host());
    }

    #[test]
    fn iterations_with_other_kernels_are_left_out_and_counted() {
        let parts = [
            iteration(0, &[(1, 100, 50), (2, 1_000, 20)]),
            iteration(100_000, &[(1, 100, 50), (3, 1_000, 20)]),
            iteration(200_000, &[(1, 100, 50)]),
            iteration(300_000, &[(1, 100, 50), (2, 1_000, 20)]),
        ];
        let (spans, launches) = all(&parts);
        let m = align(&spans, &launches, &[]).expect("aligned");
        assert_eq!((m.iterations, m.dropped, m.steps.len()), (2, 2, 2));
        assert_eq!(align(&[(0, 10)], &[], &[]), None);
        assert_eq!(align(&[], &launches, &[]), None);
    }

    #[test]
    fn transfers_between_launches_are_the_devices_lag() {
        let parts = [iteration(0, &[(1, 100, 50), (2, 4_000, 20), (2, 30_000, 20)])];
        let (spans, launches) = all(&parts);
        let between = [Transfer { start_ns: 1_500, duration_ns: 900, to_host: false }];
        let m = align(&spans, &launches, &between).expect("aligned");
        // 4,000 ns with a setting of 900 in between is back to back; without it the host was late.
        assert_eq!((m.steps[1].gap_ns, m.steps[1].lag_ns), (4_000, 4_000));
        assert!(align(&spans, &launches, &[]).expect("aligned").steps[1].waits_for_host());
        assert_eq!((m.steps[2].gap_ns, m.steps[2].lag_ns), (30_000, HOP_NS));
        assert!(m.host_reads.is_empty());
    }

    #[test]
    fn a_copy_to_the_host_before_a_late_launch_is_a_read() {
        let parts: Vec<_> = (0..3)
            .map(|i| iteration(i * 100_000, &[(1, 100, 50), (2, 30_000, 20), (3, 1_000, 20), (4, 9_000, 5)]))
            .collect();
        let (spans, launches) = all(&parts);
        let copy = |start_ns, to_host| Transfer { start_ns, duration_ns: 900, to_host };
        // Before the second launch of all iterations; before the third, where the host was not late; before the
        // fourth of one iteration only, and of all in the other direction.
        let mut copies: Vec<Transfer> = (0..3)
            .flat_map(|i| [copy(i * 100_000 + 1_000, true), copy(i * 100_000 + 30_500, true)])
            .collect();
        copies.push(copy(32_000, true));
        copies.extend((0..3).map(|i| copy(i * 100_000 + 33_000, false)));
        assert_eq!(align(&spans, &launches, &copies).expect("aligned").host_reads, [1]);
    }

    #[test]
    fn the_pause_between_phases_is_no_pause_between_iterations() {
        let parts = [
            iteration(0, &[(1, 100, 900)]),
            iteration(1_030, &[(1, 100, 900)]),
            iteration(9_000_000, &[(1, 100, 900)]),
            iteration(9_001_030, &[(1, 100, 900)]),
        ];
        let (spans, launches) = all(&parts);
        assert_eq!(align(&spans, &launches, &[]).expect("aligned").between_ns, 20);
    }

    proptest! {
        #[test]
        fn equal_iterations_give_themselves(list in prop::collection::vec((0u32..5, 1u64..9_000, 1u64..9_000), 1..40),
                                            n in 1u64..6) {
            let parts: Vec<_> = (0..n).map(|i| iteration(i * 10_000_000, &list)).collect();
            let (spans, launches) = all(&parts);
            let m = align(&spans, &launches, &[]).expect("aligned");
            prop_assert_eq!(u64::from(m.iterations), n);
            for (s, &(kernel, gap, duration)) in m.steps.iter().zip(&list) {
                prop_assert_eq!((s.kernel, s.gap_ns, s.duration_ns), (kernel, gap, duration));
                prop_assert!(s.lag_ns <= s.gap_ns);
            }
        }
    }
}
