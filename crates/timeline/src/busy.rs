//! From executions on the device to the device time of each iteration.
//!
//! Given are the iterations' intervals, in order and not overlapping, and executions in any order, all on one
//! clock. Wanted is, for each iteration, the *sum* of its executions' durations and their *union*: the time during
//! which at least one was running. The sum is larger than the union where streams overlap.
//!
//! An execution belongs to the iteration in which it started, whole. A program that waits for the device before
//! it ends an iteration (as the tenant protocol asks) has all of an iteration's executions inside it; cutting
//! them at the end would turn an error of a microsecond between the clocks into lost time. What lies beyond the
//! interval's end is reported as `late_ns`, so that a program that does not wait is seen.

/// An iteration: begin and end, ns. The end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Begin, ns.
    pub start_ns: u64,
    /// End, ns.
    pub end_ns: u64,
}

/// What ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A kernel.
    Kernel,
    /// A copy.
    Copy,
    /// A setting of memory.
    Set,
}

/// One execution on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// What ran.
    pub class: Class,
    /// Start, ns.
    pub start_ns: u64,
    /// Duration, ns.
    pub duration_ns: u64,
}

/// Number, sum and union of executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Executions.
    pub count: u64,
    /// Sum of their durations, ns.
    pub sum_ns: u64,
    /// Time during which at least one ran, ns.
    pub union_ns: u64,
}

/// The device time of one iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceTime {
    /// Kernels.
    pub kernels: Total,
    /// Copies.
    pub copies: Total,
    /// Settings of memory.
    pub sets: Total,
    /// Time during which anything ran, ns.
    pub union_ns: u64,
    /// How far the last execution reached beyond the iteration's end, ns.
    pub late_ns: u64,
}

/// The device time of all iterations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attribution {
    /// One per interval, in their order.
    pub iterations: Vec<DeviceTime>,
    /// Executions that started in no interval.
    pub outside: u64,
}

/// Intervals that cannot be iterations of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "host", derive(thiserror::Error))]
pub enum IntervalError {
    /// It ends before it begins.
    #[cfg_attr(feature = "host", error("use iteration {0}: it ends before it begins"))]
    Backwards(usize),
    /// It begins before the one before it has ended.
    #[cfg_attr(feature = "host", error("use iteration {0}: it begins before the one before it ends"))]
    Overlapping(usize),
}

/// A union that grows while spans come in the order of their starts.
#[derive(Default)]
struct Union {
    total: u64,
    reach: u64,
}

impl Union {
    fn add(&mut self, start: u64, end: u64) {
        let fresh = end.saturating_sub(start.max(self.reach));
        self.total = self.total.saturating_add(fresh);
        self.reach = self.reach.max(end);
    }
}

#[derive(Default)]
struct Unions {
    classes: [Union; 3],
    any: Union,
}

/// Gives each execution to the iteration in which it started. Takes `n log n` time for `n` executions.
///
/// # Errors
/// Intervals that run backwards or overlap.
pub fn attribute(intervals: &[Interval], executions: &[Execution]) -> Result<Attribution, IntervalError> {
    for (index, interval) in intervals.iter().enumerate() {
        if interval.end_ns < interval.start_ns {
            return Err(IntervalError::Backwards(index));
        }
        if index > 0 && interval.start_ns < intervals[index - 1].end_ns {
            return Err(IntervalError::Overlapping(index));
        }
    }
    let mut order: Vec<&Execution> = executions.iter().collect();
    order.sort_by_key(|execution| execution.start_ns);

    let mut out = Attribution { iterations: vec![DeviceTime::default(); intervals.len()], outside: 0 };
    let mut at = 0;
    let mut unions = Unions::default();
    for execution in order {
        while at < intervals.len() && intervals[at].end_ns <= execution.start_ns {
            close(&mut out.iterations[at], &mut unions);
            at += 1;
        }
        if intervals.get(at).is_none_or(|interval| execution.start_ns < interval.start_ns) {
            out.outside += 1;
            continue;
        }
        let end_ns = execution.start_ns.saturating_add(execution.duration_ns);
        let time = &mut out.iterations[at];
        let total = match execution.class {
            Class::Kernel => &mut time.kernels,
            Class::Copy => &mut time.copies,
            Class::Set => &mut time.sets,
        };
        total.count += 1;
        total.sum_ns = total.sum_ns.saturating_add(execution.duration_ns);
        time.late_ns = time.late_ns.max(end_ns.saturating_sub(intervals[at].end_ns));
        unions.classes[execution.class as usize].add(execution.start_ns, end_ns);
        unions.any.add(execution.start_ns, end_ns);
    }
    if let Some(time) = out.iterations.get_mut(at) {
        close(time, &mut unions);
    }
    Ok(out)
}

fn close(time: &mut DeviceTime, unions: &mut Unions) {
    let done = std::mem::take(unions);
    time.kernels.union_ns = done.classes[Class::Kernel as usize].total;
    time.copies.union_ns = done.classes[Class::Copy as usize].total;
    time.sets.union_ns = done.classes[Class::Set as usize].total;
    time.union_ns = done.any.total;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(start_ns: u64, end_ns: u64) -> Interval {
        Interval { start_ns, end_ns }
    }

    fn kernel(start_ns: u64, duration_ns: u64) -> Execution {
        Execution { class: Class::Kernel, start_ns, duration_ns }
    }

    #[test]
    fn overlapping_kernels_sum_twice_and_unite_once() {
        let out = attribute(&[interval(0, 100)], &[kernel(50, 10), kernel(10, 20), kernel(20, 20)]).unwrap();
        assert_eq!(out.iterations[0].kernels, Total { count: 3, sum_ns: 50, union_ns: 40 });
        assert_eq!(out.iterations[0].union_ns, 40);
    }

    #[test]
    fn a_kernel_within_another_adds_nothing_to_the_union() {
        let out = attribute(&[interval(0, 100)], &[kernel(10, 50), kernel(20, 5), kernel(55, 10)]).unwrap();
        assert_eq!(out.iterations[0].kernels.union_ns, 55);
    }

    #[test]
    fn an_execution_belongs_to_the_iteration_in_which_it_started() {
        let out = attribute(&[interval(0, 10), interval(10, 20)], &[kernel(9, 5), kernel(10, 3)]).unwrap();
        assert_eq!(out.iterations[0].kernels, Total { count: 1, sum_ns: 5, union_ns: 5 });
        assert_eq!(out.iterations[0].late_ns, 4);
        assert_eq!(out.iterations[1].kernels, Total { count: 1, sum_ns: 3, union_ns: 3 });
        assert_eq!(out.iterations[1].late_ns, 0);
    }

    #[test]
    fn between_and_beyond_iterations_counts_as_outside() {
        let spans = [kernel(0, 1), kernel(15, 1), kernel(25, 1), kernel(30, 1), kernel(99, 1)];
        let out = attribute(&[interval(10, 20), interval(30, 40), interval(50, 60)], &spans).unwrap();
        assert_eq!(out.outside, 3);
        let counts: Vec<u64> = out.iterations.iter().map(|time| time.kernels.count).collect();
        assert_eq!(counts, [1, 1, 0]);
    }

    #[test]
    fn classes_are_apart_and_united() {
        let spans = [
            kernel(0, 10),
            Execution { class: Class::Copy, start_ns: 5, duration_ns: 10 },
            Execution { class: Class::Set, start_ns: 30, duration_ns: 1 },
        ];
        let time = attribute(&[interval(0, 100)], &spans).unwrap().iterations[0];
        assert_eq!(
            (time.kernels.union_ns, time.copies.union_ns, time.sets.union_ns, time.union_ns),
            (10, 10, 1, 16)
        );
    }

    #[test]
    fn impossible_intervals_are_refused() {
        assert_eq!(attribute(&[interval(5, 4)], &[]), Err(IntervalError::Backwards(0)));
        assert_eq!(attribute(&[interval(0, 4), interval(3, 9)], &[]), Err(IntervalError::Overlapping(1)));
        assert_eq!(attribute(&[], &[kernel(0, 1)]).unwrap().outside, 1);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let out = attribute(&[interval(0, u64::MAX)], &[kernel(5, u64::MAX), kernel(6, u64::MAX)]).unwrap();
        assert_eq!(out.iterations[0].kernels.sum_ns, u64::MAX);
        assert_eq!(out.iterations[0].kernels.union_ns, u64::MAX - 5);
    }

    proptest! {
        /// Against counting nanosecond by nanosecond.
        #[test]
        fn agrees_with_counting_each_nanosecond(
            cuts in proptest::collection::vec(0u64..200, 0..12),
            spans in proptest::collection::vec((0u64..200, 0u64..40, 0u8..3), 0..40),
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let intervals: Vec<Interval> = cuts.chunks_exact(2).map(|pair| interval(pair[0], pair[1])).collect();
            let spans: Vec<Execution> = spans.iter().map(|&(start_ns, duration_ns, class)| Execution {
                class: [Class::Kernel, Class::Copy, Class::Set][class as usize], start_ns, duration_ns,
            }).collect();
            let out = attribute(&intervals, &spans).unwrap();
            let mut outside = spans.len() as u64;
            for (interval, time) in intervals.iter().zip(&out.iterations) {
                let inside = |span: &&Execution| (interval.start_ns..interval.end_ns).contains(&span.start_ns);
                let covered = |want: Option<Class>| (0..400u64).filter(|&t| spans.iter().filter(inside).any(|span| {
                    want.is_none_or(|class| class == span.class)
                        && (span.start_ns..span.start_ns + span.duration_ns).contains(&t)
                })).count() as u64;
                for (class, total) in [(Class::Kernel, time.kernels), (Class::Copy, time.copies), (Class::Set, time.sets)] {
                    let mine: Vec<&Execution> = spans.iter().filter(inside).filter(|span| span.class == class).collect();
                    prop_assert_eq!(total.count, mine.len() as u64);
                    prop_assert_eq!(total.sum_ns, mine.iter().map(|span| span.duration_ns).sum::<u64>());
                    prop_assert_eq!(total.union_ns, covered(Some(class)));
                    outside -= total.count;
                }
                prop_assert_eq!(time.union_ns, covered(None));
            }
            prop_assert_eq!(out.outside, outside);
        }
    }
}
