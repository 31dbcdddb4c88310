//! Small seeded noise on the length of launches, so that statistics over repeats are not degenerate.

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;

/// A factor near 1 with standard deviation `sd`, within four of them; the same for the same arguments, whatever
/// happened before.
pub(crate) fn factor(seed: u64, stream: usize, launch: u64, sd: f64) -> f64 {
    if sd <= 0.0 {
        return 1.0;
    }
    let mut rng = generator(seed, stream, launch);
    1.0 + sd * normal(&mut rng)
}

/// A number evenly from 0 to 1 for one request; the same for the same arguments.
pub(crate) fn uniform(seed: u64, stream: usize, request: u64) -> f64 {
    let mut rng = generator(seed ^ 0x5851_f42d_4c95_7f2d, stream, request);
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Random numbers for one launch.
pub(crate) fn generator(seed: u64, stream: usize, launch: u64) -> Pcg64Mcg {
    let mix = seed
        ^ (stream as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (launch + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    Pcg64Mcg::seed_from_u64(mix)
}

/// Standard normal, within ±4.
pub(crate) fn normal(rng: &mut Pcg64Mcg) -> f64 {
    // Box–Muller; 53 random bits each, the first never zero.
    let unit = |x: u64| ((x >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let (u, v) = (unit(rng.next_u64()), unit(rng.next_u64()));
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).clamp(-4.0, 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_are_as_asked() {
        let x: Vec<f64> = (0..20_000).map(|i| factor(1, 0, i, 0.01)).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let sd = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
        assert!((mean - 1.0).abs() < 3e-4 && (sd - 0.01).abs() < 3e-4, "{mean} {sd}");
    }

    #[test]
    fn depends_on_all_arguments_and_on_nothing_else() {
        assert_eq!(factor(1, 2, 3, 0.01), factor(1, 2, 3, 0.01));
        assert_ne!(factor(1, 2, 3, 0.01), factor(2, 2, 3, 0.01));
        assert_ne!(factor(1, 2, 3, 0.01), factor(1, 3, 3, 0.01));
        assert_ne!(factor(1, 2, 3, 0.01), factor(1, 2, 4, 0.01));
        assert_eq!(factor(1, 2, 3, 0.0), 1.0);
    }
}
