//! Shapes of streams: what was asked for passes, what was not is told.

use cotenant_load::{Arrivals, Departure, Process, Profile, Shape, Until, departs, expected, shape};

const S: u64 = 1_000_000_000;

fn stream(process: Process, seed: u64, n: usize) -> Vec<u64> {
    let a = Arrivals { process, profile: Profile::Flat, rate_per_s: 100.0, seed };
    a.offsets(Until::Count(n)).expect("a stream")
}

fn measured(process: Process, seed: u64, n: usize) -> Shape {
    shape(&stream(process, seed, n), S / 10).expect("a shape")
}

/// A stream of given gaps.
fn summed(gaps: impl Iterator<Item = u64>) -> Vec<u64> {
    gaps.scan(0, |at, gap| {
        *at += gap;
        Some(*at)
    })
    .collect()
}

#[test]
fn streams_of_all_processes_pass_as_what_they_are() {
    let all = [
        Process::Constant,
        Process::Poisson,
        Process::Gamma { cv: 0.3 },
        Process::Gamma { cv: 2.0 },
        Process::Gamma { cv: 4.0 },
        Process::Gamma { cv: 6.0 },
        Process::Weibull { cv: 0.5 },
        Process::Weibull { cv: 1.5 },
        Process::Weibull { cv: 3.0 },
    ];
    for process in all {
        // At four errors of a normal distribution 1 in 16 000 numbers would be told; of the 2 400 here, whose
        // distributions are skewed, 3 may.
        let mut told = Vec::new();
        for n in [100, 1000, 10_000] {
            let runs = if n == 10_000 { 20 } else { 140 };
            for seed in 0..runs {
                told.extend(departs(&measured(process, seed, n), &process, Some(100.0)));
            }
        }
        assert!(told.len() <= 3, "{process:?}: {told:?}");
    }
}

#[test]
fn the_numbers_are_those_of_a_small_stream() {
    // Gaps of 1 and 3 s in turn: mean 2, sample variance 8/7, lag 1 negative.
    let s = shape(&summed([1, 3, 1, 3, 1, 3, 1, 3, 1].map(|g| g * S).into_iter()), 4 * S).expect("a shape");
    assert_eq!((s.gaps, s.windows), (8, 4));
    assert!((s.rate_per_s - 0.5).abs() < 1e-12);
    assert!((s.cv - (8.0f64 / 7.0).sqrt() / 2.0).abs() < 1e-12);
    assert!((s.autocorrelation[0] + 7.0 / 8.0).abs() < 1e-12, "{:?}", s.autocorrelation);
    assert!((s.autocorrelation[1] - 6.0 / 8.0).abs() < 1e-12);
}

#[test]
fn nothing_is_said_of_streams_without_a_shape() {
    assert_eq!(shape(&[], S), None);
    assert_eq!(shape(&[1; 20], S), None);
    assert_eq!(shape(&[0, 1, 2, 3, 4, 5, 6, 7], S), None);
    assert_eq!(shape(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0], S), None);
    assert_eq!(shape(&(0..20).collect::<Vec<u64>>(), 0), None);
}

#[test]
fn repeated_gaps_are_told_by_their_correlation() {
    let poisson = stream(Process::Poisson, 1, 2000);
    let gaps: Vec<u64> = poisson.windows(2).map(|w| w[1] - w[0]).collect();
    let repeated = summed(gaps.into_iter().flat_map(|g| [g; 4]));
    let s = shape(&repeated, S / 10).expect("a shape");
    let told = departs(&s, &Process::Poisson, None);
    for lag in 1..=3 {
        assert!(
            told.iter().any(|d| matches!(d, Departure::Autocorrelation { lag: l, .. } if *l == lag)),
            "{told:?}"
        );
    }
    assert!(told[0].to_string().contains("should be independent") || told.len() > 3);
}

#[test]
fn exponential_gaps_are_no_clock_and_a_clock_is_no_poisson_process() {
    let told = departs(&measured(Process::Poisson, 3, 500), &Process::Constant, Some(100.0));
    assert!(told.iter().any(|d| matches!(d, Departure::Cv { .. })), "{told:?}");
    let told = departs(&measured(Process::Constant, 3, 500), &Process::Poisson, None);
    assert!(told.iter().any(|d| matches!(d, Departure::Cv { .. })), "{told:?}");
    assert!(told.iter().any(|d| matches!(d, Departure::Dispersion { .. })), "{told:?}");
}

#[test]
fn a_wrong_rate_is_told_with_both_rates() {
    let told = departs(&measured(Process::Poisson, 4, 5000), &Process::Poisson, Some(120.0));
    let [Departure::Rate { .. }] = told[..] else { panic!("{told:?}") };
    assert!(told[0].to_string().contains("120.0000 was asked for"), "{}", told[0]);
}

#[test]
fn the_expected_variation_is_that_of_the_process() {
    assert_eq!(expected(&Process::Constant), 0.0);
    assert_eq!(expected(&Process::Poisson), 1.0);
    assert_eq!(expected(&Process::Weibull { cv: 3.0 }), 3.0);
}
