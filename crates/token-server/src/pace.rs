//! When the tokens of one answer may be sent.

use std::time::Duration;

/// `duration` in nanoseconds; more than 584 years count as that.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a token may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// It is due, and was at the given time.
    Now(u64),
    /// Not before the given time.
    At(u64),
    /// Somebody else will say so.
    Unknown,
}

/// What says when tokens are due. Times are on the clock of [`now_ns`](crate::now_ns).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// All at once.
    Unpaced,
    /// The first at `start_ns` + `ttft_ns`, if the request has started, and one each `itl_ns` from there.
    Fixed { start_ns: Option<u64>, ttft_ns: u64, itl_ns: u64 },
    /// As many as have been granted, since `since_ns`.
    Granted { tokens: u32, since_ns: u64 },
}

/// The schedule of one answer. It is absolute: a token that was sent late does not delay the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) source: Source,
    /// From this token on ...
    stall_at: u32,
    /// ... everything waits for this long.
    stall_ns: u64,
    /// When a stall without a fixed schedule ends, once it has begun.
    stalled_until: Option<u64>,
}

impl Schedule {
    pub(crate) fn new(source: Source, stall: Option<(u32, Duration)>) -> Self {
        let (stall_at, stall_ns) = stall.map_or((u32::MAX, 0), |(at, d)| (at, nanos(d)));
        Schedule { source, stall_at, stall_ns, stalled_until: None }
    }

    /// Whether token `i` (from 0) may be sent at `now`.
    pub(crate) fn when(&mut self, i: u32, now: u64) -> When {
        let stalls = self.stall_ns > 0 && i >= self.stall_at;
        let due = match self.source {
            Source::Unpaced => now,
            Source::Granted { tokens, since_ns } if i < tokens => since_ns.min(now),
            Source::Granted { .. } | Source::Fixed { start_ns: None, .. } => return When::Unknown,
            Source::Fixed { start_ns: Some(start), ttft_ns, itl_ns } => {
                let stall = if stalls { self.stall_ns } else { 0 };
                let due = start
                    .saturating_add(ttft_ns)
                    .saturating_add(itl_ns.saturating_mul(u64::from(i)))
                    .saturating_add(stall);
                return if due <= now { When::Now(due) } else { When::At(due) };
            }
        };
        if !stalls {
            return When::Now(due);
        }
        let until = *self.stalled_until.get_or_insert(now.saturating_add(self.stall_ns));
        if until <= now { When::Now(until.max(due)) } else { When::At(until) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_times_do_not_depend_on_when_they_are_asked_for() {
        let source = Source::Fixed { start_ns: Some(1000), ttft_ns: 50, itl_ns: 10 };
        let mut s = Schedule::new(source, Some((2, Duration::from_nanos(500))));
        assert_eq!(s.when(0, 1049), When::At(1050));
        assert_eq!(s.when(0, 1050), When::Now(1050));
        assert_eq!(s.when(1, 9999), When::Now(1060));
        assert_eq!(s.when(2, 1060), When::At(1570));
        assert_eq!(s.when(3, 9999), When::Now(1580));
    }

    #[test]
    fn a_request_that_has_not_started_has_no_times() {
        let mut s = Schedule::new(Source::Fixed { start_ns: None, ttft_ns: 0, itl_ns: 0 }, None);
        assert_eq!(s.when(0, 5), When::Unknown);
    }

    #[test]
    fn granted_tokens_stall_once() {
        let mut s =
            Schedule::new(Source::Granted { tokens: 2, since_ns: 100 }, Some((1, Duration::from_nanos(50))));
        assert_eq!(s.when(0, 110), When::Now(100));
        assert_eq!(s.when(2, 110), When::Unknown, "a stall begins when its token is there");
        assert_eq!(s.when(1, 110), When::At(160));
        assert_eq!(s.when(1, 170), When::Now(160));
        s.source = Source::Granted { tokens: 3, since_ns: 180 };
        assert_eq!(s.when(2, 185), When::Now(180));
    }

    #[test]
    fn unpaced_tokens_stall_too() {
        let mut s = Schedule::new(Source::Unpaced, Some((1, Duration::from_nanos(50))));
        assert_eq!(s.when(0, 7), When::Now(7));
        assert_eq!(s.when(1, 7), When::At(57));
        assert_eq!(s.when(9, 60), When::Now(60));
    }
}
