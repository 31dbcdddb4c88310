//! How often to read what.
//!
//! The problem: reads differ by three orders of magnitude in what they cost, and cost differs between GPUs, drivers and
//! the host's clock. Each group of reads has a shortest period, below which nothing new would be learnt, and a share of
//! a core that it may take. Unused time is saved up to a second's worth, so that reads may bunch; whoever has
//! overdrawn waits until it is earned again, but not for ever.

/// Time that unused credit is kept for, ns.
const SAVED: f64 = 1e9;

/// The rhythm of one group of reads. Times are ns on one clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    shortest: u64,
    longest: u64,
    share: f64,
    /// CPU time that may be taken, ns, at the moment `at`.
    credit: f64,
    at: u64,
}

impl Pace {
    /// A group that is read at once, then every `shortest` ns, or less often to keep to the share of a core, but at
    /// least every `longest` ns: one slow read (drivers have some of 20 ms) must not blind a whole phase.
    pub(super) fn new(shortest: u64, longest: u64, share: f64) -> Pace {
        Pace { shortest, longest, share, credit: 0.0, at: 0 }
    }

    /// When the next read is due.
    pub(super) fn due(&self) -> u64 {
        if self.at == 0 {
            return 0;
        }
        let earned_after = (-self.credit / self.share).max(0.0) as u64;
        self.at + earned_after.clamp(self.shortest, self.longest)
    }

    /// Whether it is time.
    pub(super) fn is_due(&self, now: u64) -> bool {
        now >= self.due()
    }

    /// After a read at `now` that took so much CPU time.
    pub(super) fn done(&mut self, now: u64, cpu: u64) {
        let earned = self.share * now.saturating_sub(self.at) as f64;
        self.credit = (self.credit + earned).min(self.share * SAVED) - cpu as f64;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    /// Reads for `ms` milliseconds at a cost of `cpu`, asking every millisecond; the number of reads.
    fn reads(pace: &mut Pace, ms: u64, cpu: u64) -> u64 {
        let mut n = 0;
        for now in (1..=ms).map(|t| t * MS) {
            if pace.is_due(now) {
                pace.done(now, cpu);
                n += 1;
            }
        }
        n
    }

    #[test]
    fn cheap_reads_keep_the_shortest_period() {
        assert_eq!(reads(&mut Pace::new(10 * MS, 1000 * MS, 0.002), 1000, 5_000), 100);
    }

    #[test]
    fn dear_reads_keep_to_the_share() {
        let n = reads(&mut Pace::new(100 * MS, 9000 * MS, 0.002), 60_000, 3 * MS);
        assert!((39..=41).contains(&n), "3 ms every 1.5 s is 0.2 %: {n}");
    }

    #[test]
    fn saved_time_lets_reads_bunch() {
        let mut p = Pace::new(MS, 1000 * MS, 0.002);
        p.done(MS, 0);
        let mut bunch = 0;
        for now in (1000..1100).map(|t| t * MS) {
            if p.is_due(now) {
                p.done(now, 200_000);
                bunch += 1;
            }
        }
        assert_eq!(bunch, 11, "2 ms were saved in a second and 0.2 ms come in meanwhile");
    }

    #[test]
    fn one_slow_read_does_not_stop_the_others_for_long() {
        let mut p = Pace::new(10 * MS, 100 * MS, 0.002);
        p.done(1000 * MS, 20 * MS);
        assert!(!p.is_due(1099 * MS) && p.is_due(1100 * MS), "10 s would have to be earned");
    }

    proptest! {
        #[test]
        fn the_share_is_kept_whatever_reads_cost(
            costs in prop::collection::vec(1_000u64..5 * MS, 50), share in 0.0005f64..0.01,
        ) {
            let mut p = Pace::new(10 * MS, u64::MAX / 2, share);
            let (mut taken, mut n) = (0, 0);
            let time = 120_000;
            for now in (1..=time).map(|t| t * MS) {
                if p.is_due(now) {
                    let cost = costs[n % costs.len()];
                    p.done(now, cost);
                    (taken, n) = (taken + cost, n + 1);
                }
            }
            let most = share * (time * MS) as f64 + share * SAVED + (5 * MS) as f64;
            prop_assert!(n > 1 && taken as f64 <= most, "{} of {}", taken, most);
        }
    }
}
