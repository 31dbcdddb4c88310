//! How late GPM's windows are, found from pulses of known times.
//!
//! Given windows that each tell the share of their time in which the SMs were active, stated with some age, and the
//! stretches in which a kernel really kept them busy: by how much must the windows be moved so that they tell of the
//! pulses? The GPU publishes a window some tens of milliseconds after it ends, more after one start of the host than after
//! another, and NVML does not say when.

/// Shifts that are tried, ns: the statement may be this much too late or too early.
const RANGE: std::ops::RangeInclusive<i64> = -60_000_000..=400_000_000;
/// Distance of two shifts that are tried, ns.
const STEP: usize = 1_000_000;
/// Share of the windows' variance that pulses must explain, or the shift says nothing.
const EXPLAINED: f64 = 0.9;
/// Fewest windows.
const WINDOWS: usize = 10;

/// A window: begin and end as stated, ns, and the share of it in which the SMs were active (any unit).
pub(super) type Window = (u64, u64, f64);

/// By how much earlier than stated the windows were, ns; `None` where the pulses do not explain them.
pub(super) fn lag(windows: &[Window], busy: &[(u64, u64)]) -> Option<i64> {
    if windows.len() < WINDOWS || busy.is_empty() {
        return None;
    }
    let n = windows.len() as f64;
    let mean = windows.iter().map(|w| w.2).sum::<f64>() / n;
    let variance: f64 = windows.iter().map(|w| (w.2 - mean).powi(2)).sum();
    let error = |shift: i64| -> f64 {
        // The height of the pulses is not known, but is the same for all: the one that fits best.
        let share = |w: &Window| {
            let (from, to) = (w.0.saturating_add_signed(-shift), w.1.saturating_add_signed(-shift));
            let covered: u64 = busy.iter().map(|b| to.min(b.1).saturating_sub(from.max(b.0))).sum();
            covered as f64 / (to.saturating_sub(from)).max(1) as f64
        };
        let shares: Vec<f64> = windows.iter().map(share).collect();
        let (xy, xx) =
            shares.iter().zip(windows).fold((0.0, 0.0), |(xy, xx), (x, w)| (xy + x * w.2, xx + x * x));
        let height = if xx > 0.0 { xy / xx } else { 0.0 };
        shares.iter().zip(windows).map(|(x, w)| (w.2 - height * x).powi(2)).sum()
    };
    let best = RANGE.step_by(STEP).map(|s| (s, error(s))).min_by(|a, b| a.1.total_cmp(&b.1))?;
    (variance > 0.0 && best.1 < (1.0 - EXPLAINED) * variance).then_some(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Windows of 100 ms of a GPU that is busy in `busy`, published `late` ms after they end and stated with an age of
    /// 50 ms.
    fn windows(busy: &[(u64, u64)], late: u64) -> Vec<Window> {
        (1_000..4_000u64)
            .step_by(100)
            .map(|end| {
                let (from, to) = ((end - 100) * MS, end * MS);
                let covered: u64 = busy.iter().map(|b| to.min(b.1).saturating_sub(from.max(b.0))).sum();
                let value = 97.0 * covered as f64 / (100 * MS) as f64;
                (from + late * MS - 50 * MS, to + late * MS - 50 * MS, value)
            })
            .collect()
    }

    #[test]
    fn the_lag_of_pulses_is_found() {
        let busy: Vec<(u64, u64)> = [(1_130, 1_480), (1_770, 2_050), (2_430, 2_790), (3_040, 3_390)]
            .map(|(a, b)| (a * MS, b * MS))
            .to_vec();
        for late in [15, 50, 120, 300] {
            let shift = lag(&windows(&busy, late), &busy).expect("a lag");
            let expected = late as i64 - 50;
            assert!((shift / 1_000_000 - expected).abs() <= 2, "{late}: {shift}");
        }
    }

    #[test]
    fn what_pulses_do_not_explain_has_no_lag() {
        let busy = [(1_130 * MS, 1_480 * MS), (2_430 * MS, 2_790 * MS)];
        let steady: Vec<Window> = windows(&busy, 50).into_iter().map(|w| (w.0, w.1, 40.0)).collect();
        assert_eq!(lag(&steady, &busy), None);
        assert_eq!(lag(&windows(&busy, 50)[..5], &busy), None);
        assert_eq!(lag(&windows(&busy, 50), &[]), None);
    }
}
