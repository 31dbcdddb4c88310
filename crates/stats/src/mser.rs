//! Where a series becomes steady: the marginal standard error rule.
//!
//! The problem: the first observations of a run belong to its start-up. Cutting too few biases the mean, cutting too
//! many wastes data. MSER (White 1997, "An effective truncation heuristic for bias reduction in simulation output")
//! takes the cut that makes the standard error of the mean of the rest smallest; MSER-5 (White, Cobb and Spratt 2000)
//! does so on means of five observations each, which makes it robust against dependence.

/// Observations in one batch.
const BATCH: usize = 5;

/// How many observations at the start to leave out: a multiple of five, at most half of them. `None`: fewer than ten
/// batches, or the best cut is the latest that is allowed, so nothing says that the series has become steady.
pub fn mser5(series: &[f64]) -> Option<usize> {
    let batches: Vec<f64> =
        series.chunks_exact(BATCH).map(|b| b.iter().sum::<f64>() / BATCH as f64).collect();
    mser(&batches).map(|cut| cut * BATCH)
}

/// The same rule on means of batches: how many of them to leave out at the start.
pub fn mser(batches: &[f64]) -> Option<usize> {
    let n = batches.len();
    if n < 10 || batches.iter().any(|b| !b.is_finite()) {
        return None;
    }
    // From the end: mean and sum of squares of what follows each cut, by Welford's update.
    let (mut mean, mut squares, mut count) = (0.0, 0.0, 0.0);
    let mut best: Option<(usize, f64)> = None;
    for cut in (0..n).rev() {
        count += 1.0;
        let delta = batches[cut] - mean;
        mean += delta / count;
        squares += delta * (batches[cut] - mean);
        if cut <= n / 2 {
            let error = squares / (count * count);
            // On a tie the earlier cut, which keeps more.
            if best.is_none_or(|(_, least)| error <= least) {
                best = Some((cut, error));
            }
        }
    }
    best.map(|(cut, _)| cut).filter(|cut| *cut < n / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// Independent noise of mean 0, uniform.
    fn noise(n: usize) -> Vec<f64> {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(11);
        (0..n).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).collect()
    }

    #[test]
    fn a_start_up_is_cut_and_a_steady_series_is_kept() {
        let steady = noise(1000);
        assert!(mser5(&steady).is_some_and(|cut| cut < 200), "{:?}", mser5(&steady));
        assert_eq!(mser5(&vec![3.0; 200]), Some(0));
        let start: Vec<f64> =
            noise(1000).iter().enumerate().map(|(i, x)| x + 20.0 * (-(i as f64) / 40.0).exp()).collect();
        let cut = mser5(&start).expect("steady later");
        assert!((80..400).contains(&cut), "{cut}");
    }

    #[test]
    fn what_never_becomes_steady_says_so() {
        let growing: Vec<f64> = noise(1000).iter().enumerate().map(|(i, x)| x + i as f64).collect();
        assert_eq!(mser5(&growing), None);
        assert_eq!(mser5(&[1.0; 49]), None);
        assert_eq!(mser5(&[]), None);
        assert_eq!(mser5(&[f64::NAN; 100]), None);
    }
}
