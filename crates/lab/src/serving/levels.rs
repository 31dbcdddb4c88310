//! Several levels of one load: each of a list, or the highest that keeps its limits.

use super::options::LoadOptionError;
use cotenant_store::serving::{Goodput, LevelVerdict, SearchRecord};

/// How much: one level, several, or a range in which the highest that keeps the limits is looked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Levels {
    /// `8`.
    One(f64),
    /// `8,16,32`.
    Each(Vec<f64>),
    /// `1..64`.
    Between(f64, f64),
}

/// Reads `8`, `8,16,32` or `1..64`; `whole`: only whole numbers.
///
/// # Errors
/// Anything else, a number that is not above 0, the same number twice, or a range that does not go up.
pub fn parse_levels(option: &'static str, text: &str, whole: bool) -> Result<Levels, LoadOptionError> {
    let kind = if whole { "whole numbers above 0" } else { "numbers above 0" };
    let wrong = |why: String| LoadOptionError::Value { option, value: text.to_owned(), why };
    let number = |t: &str| match t.trim().parse::<f64>() {
        Ok(v) if v > 0.0 && v.is_finite() && v <= f64::from(u32::MAX) && (!whole || v.fract() == 0.0) => {
            Ok(v)
        }
        _ => Err(wrong(format!(
            "it is one level, such as 8, several, such as 8,16,32, or a range, such as 1..64, of {kind}"
        ))),
    };
    if let Some((low, high)) = text.split_once("..") {
        let (low, high) = (number(low)?, number(high)?);
        if low >= high {
            return Err(wrong("a range goes up, such as 1..64".into()));
        }
        return Ok(Levels::Between(low, high));
    }
    let all = text.split(',').map(number).collect::<Result<Vec<f64>, _>>()?;
    match all[..] {
        [one] => Ok(Levels::One(one)),
        _ if (1..all.len()).any(|i| all[..i].contains(&all[i])) => {
            Err(wrong("each level stands in it once, such as 8,16,32".into()))
        }
        _ => Ok(Levels::Each(all)),
    }
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Highest level that kept the limits, if one did.
    pub kept: Option<f64>,
    /// Lowest level above it that did not, if one did not.
    pub broken: Option<f64>,
}

/// Whether the loads of one level keep the limits: their mean share is the estimate; the interval is that of the mean of independent
/// loads.
pub fn verdict(loads: &[Goodput], attain: f64) -> LevelVerdict {
    let n = loads.len() as f64;
    let mean = loads.iter().map(|g| g.share.value).sum::<f64>() / n;
    let below = loads.iter().map(|g| (g.share.value - g.share.low).powi(2)).sum::<f64>().sqrt() / n;
    let above = loads.iter().map(|g| (g.share.high - g.share.value).powi(2)).sum::<f64>().sqrt() / n;
    let asked = loads.iter().map(|g| g.of).sum::<u64>();
    match () {
        // Nothing counted is nothing known.
        () if asked == 0 => LevelVerdict::Broken,
        () if mean - below >= attain => LevelVerdict::Kept,
        () if mean + above < attain => LevelVerdict::Broken,
        () if mean >= attain => LevelVerdict::KeptPerhaps,
        () => LevelVerdict::BrokenPerhaps,
    }
}

/// Searches by doubling from the lowest level on and then by halving the distance; `drive` puts a load of a level on the
/// server, for the first (0), second, … time; `whole`: levels are whole numbers. It is taken for granted that a higher load never keeps limits that a lower one breaks.
///
/// # Errors
/// Those of `drive`.
pub fn search<E>(
    s: &SearchRecord,
    whole: bool,
    drive: &mut dyn FnMut(f64, u32) -> Result<Goodput, E>,
) -> Result<Found, E> {
    let mut kept = |level: f64| -> Result<bool, E> {
        let mut loads = Vec::new();
        loop {
            loads.push(drive(level, loads.len() as u32)?);
            let found = verdict(&loads, s.attain);
            let decided = matches!(found, LevelVerdict::Kept | LevelVerdict::Broken);
            if decided || loads.len() >= s.repeats.max(1) as usize {
                return Ok(found.kept());
            }
        }
    };
    if !kept(s.low)? {
        return Ok(Found { kept: None, broken: Some(s.low) });
    }
    let mut low = s.low;
    let mut high = loop {
        let next = (2.0 * low).min(s.high);
        if !kept(next)? {
            break next;
        }
        low = next;
        if next >= s.high {
            return Ok(Found { kept: Some(next), broken: None });
        }
    };
    while high - low > s.within * high {
        let middle = (low + high) / 2.0;
        let middle = if whole { middle.floor() } else { middle };
        if middle <= low || middle >= high {
            break;
        }
        if kept(middle)? { low = middle } else { high = middle }
    }
    Ok(Found { kept: Some(low), broken: Some(high) })
}
#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_store::serving::{Ranged, Slo};
    use proptest::prelude::*;

    fn shared(value: f64, half: f64) -> Goodput {
        let share = Ranged { value, low: (value - half).max(0.0), high: (value + half).min(1.0) };
        Goodput { slo: Slo::default(), good: 0, of: 100, share, per_s: 0.0 }
    }

    fn between(low: f64, high: f64) -> SearchRecord {
        SearchRecord { low, high, attain: 0.95, within: 0.05, repeats: 3 }
    }

    /// What a search finds where levels up to `knee` keep the limits, and at which levels it asked.
    fn found(s: SearchRecord, whole: bool, knee: f64) -> (Found, Vec<f64>) {
        let mut asked = Vec::new();
        let found = search::<()>(&s, whole, &mut |level, repeat| {
            assert_eq!(repeat, 0, "what is clear is asked once");
            asked.push(level);
            Ok(if level <= knee { shared(1.0, 0.0) } else { shared(0.5, 0.1) })
        });
        (found.expect("no load fails"), asked)
    }

    #[test]
    fn levels_are_read() {
        let read = |t| parse_levels("--rate", t, false);
        assert_eq!(read("2.5"), Ok(Levels::One(2.5)));
        assert_eq!(read("1, 2,4"), Ok(Levels::Each(vec![1.0, 2.0, 4.0])));
        assert_eq!(read("0.5..64"), Ok(Levels::Between(0.5, 64.0)));
        for bad in ["", "0", "-1", "1,", "4..4", "8..2", "1..", "nan", "inf", "1,2,1", "1..2,3"] {
            let e = read(bad).expect_err(bad).to_string();
            assert!(e.contains("--rate") && e.contains("such as"), "{e}");
        }
        assert!(parse_levels("--concurrency", "1.5", true).is_err());
    }

    #[test]
    fn whole_levels_end_at_neighbours() {
        let (f, asked) = found(between(1.0, 64.0), true, 21.0);
        assert_eq!(f, Found { kept: Some(21.0), broken: Some(22.0) });
        assert_eq!(asked, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 24.0, 20.0, 22.0, 21.0]);
    }

    #[test]
    fn a_range_that_keeps_or_breaks_the_limits_everywhere_says_so() {
        assert_eq!(found(between(2.0, 30.0), false, 99.0).0, Found { kept: Some(30.0), broken: None });
        assert_eq!(found(between(2.0, 30.0), false, 1.0).0, Found { kept: None, broken: Some(2.0) });
    }

    #[test]
    fn what_is_unclear_is_asked_again_and_then_taken_by_its_mean() {
        let mut asked = Vec::new();
        let s = between(10.0, 11.0);
        let found = search::<()>(&s, false, &mut |level, repeat| {
            asked.push((level, repeat));
            Ok(if level < 10.5 { shared(0.96, 0.03) } else { shared(0.94, 0.04) })
        });
        assert_eq!(found, Ok(Found { kept: Some(10.0), broken: Some(10.5) }));
        assert_eq!(asked[..4], [(10.0, 0), (10.0, 1), (10.0, 2), (11.0, 0)]);
        assert_eq!(verdict(&[shared(0.96, 0.03)], 0.95), LevelVerdict::KeptPerhaps);
        // Four loads halve the interval.
        assert_eq!(verdict(&[shared(0.97, 0.03); 4], 0.95), LevelVerdict::Kept);
        let none = Goodput { of: 0, ..shared(1.0, 0.0) };
        assert_eq!(verdict(&[none], 0.95), LevelVerdict::Broken);
    }

    #[test]
    fn a_load_that_fails_ends_the_search() {
        assert_eq!(
            search(&between(1.0, 8.0), true, &mut |l, _| if l > 3.0 { Err(l) } else { Ok(shared(1.0, 0.0)) }),
            Err(4.0)
        );
    }

    proptest! {
        #[test]
        fn the_knee_lies_between(low in 0.5..20.0f64, times in 1.1..100.0f64, at in 0.0..1.2f64) {
            let s = between(low, low * times);
            let knee = low * times * at;
            let (f, asked) = found(s, false, knee);
            prop_assert!(f.kept.is_none_or(|k| k <= knee) && f.broken.is_none_or(|b| b > knee));
            if let (Some(k), Some(b)) = (f.kept, f.broken) {
                prop_assert!(b - k <= 0.05 * b, "{k} to {b}");
            }
            prop_assert!(asked.iter().all(|&a| a >= s.low && a <= s.high) && asked.len() < 16);
        }
    }
}
