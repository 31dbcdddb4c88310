//! Arrival processes: rates, coefficients of variation, and what must hold for every seed.

use cotenant_load::{Arrivals, Lengths, LoadError, Process, Profile, Step, Until, stream_seed, stretch};
use proptest::prelude::*;

const S: u64 = 1_000_000_000;

fn load(process: Process, profile: Profile, rate_per_s: f64, seed: u64) -> Arrivals {
    Arrivals { process, profile, rate_per_s, seed }
}

fn flat(process: Process, rate_per_s: f64) -> Arrivals {
    load(process, Profile::Flat, rate_per_s, stream_seed(2026, "tenant", 0))
}

/// Mean and coefficient of variation of the distances.
fn moments(offsets: &[u64]) -> (f64, f64) {
    let gaps: Vec<f64> = offsets.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / (gaps.len() - 1) as f64;
    (mean, variance.sqrt() / mean)
}

#[test]
fn distances_have_the_stated_mean_and_variation() {
    let n = 400_000;
    let mut cases = vec![(Process::Constant, 0.0), (Process::Poisson, 1.0)];
    for cv in [0.1, 0.5, 1.0, 2.0, 4.0] {
        cases.extend([(Process::Gamma { cv }, cv), (Process::Weibull { cv }, cv)]);
    }
    for (process, cv) in cases {
        let offsets = flat(process, 250.0).offsets(Until::Count(n)).expect("offsets");
        assert_eq!(offsets.len(), n);
        let (mean, got) = moments(&offsets);
        // Five standard errors of the mean; the variation of heavy tails converges more slowly.
        let tolerance = 5.0 * cv / (n as f64).sqrt() + 1e-9;
        assert!((mean / 4e6 - 1.0).abs() < tolerance, "{process:?}: mean {mean}");
        assert!((got - cv).abs() <= 0.06 * cv + 1e-6, "{process:?}: cv {got}");
    }
}

#[test]
fn offsets_of_a_seed_are_fixed_for_good() {
    let first =
        |process, profile| load(process, profile, 100.0, 42).offsets(Until::Count(5)).expect("offsets");
    assert_eq!(first(Process::Constant, Profile::Flat), [0, 10_000_000, 20_000_000, 30_000_000, 40_000_000]);
    let bursts = Profile::OnOff { on_s: 0.02, off_s: 0.05, lengths: Lengths::Exponential };
    let recorded = [
        (Process::Poisson, Profile::Flat, [11_736_717, 22_270_055, 46_343_230, 48_683_290, 75_638_330]),
        (Process::Gamma { cv: 2.0 }, Profile::Flat, [13_035, 13_414_984, 13_462_457, 14_082_708, 14_147_597]),
        (
            Process::Gamma { cv: 0.5 },
            Profile::Flat,
            [3_430_015, 19_345_854, 41_305_299, 48_125_573, 60_821_600],
        ),
        (
            Process::Weibull { cv: 2.0 },
            Profile::Flat,
            [11_919_724, 23_051_422, 23_578_520, 26_098_593, 26_107_564],
        ),
        (Process::Poisson, bursts, [3_353_348, 6_362_873, 13_240_923, 13_909_512, 21_610_951]),
    ];
    for (process, profile, offsets) in recorded {
        assert_eq!(first(process, profile), offsets, "{process:?}: a library draws differently than it did");
    }
}

#[test]
fn a_horizon_holds_about_rate_times_time_and_ends_before_it() {
    for process in
        [Process::Constant, Process::Poisson, Process::Gamma { cv: 0.5 }, Process::Weibull { cv: 2.0 }]
    {
        let offsets = flat(process, 1000.0).offsets(Until::Horizon(100 * S)).expect("offsets");
        assert!((offsets.len() as f64 / 1e5 - 1.0).abs() < 0.02, "{process:?}: {}", offsets.len());
        assert!(offsets.iter().all(|&at| at < 100 * S));
    }
    assert_eq!(flat(Process::Constant, 1.0).offsets(Until::Horizon(3 * S)).expect("offsets"), [0, S, 2 * S]);
    assert_eq!(flat(Process::Poisson, 1.0).offsets(Until::Horizon(0)).expect("offsets"), [0; 0]);
}

#[test]
fn bursts_keep_the_mean_rate_and_leave_the_pauses_empty() {
    let p = Profile::OnOff { on_s: 0.2, off_s: 0.6, lengths: Lengths::Fixed };
    let offsets = load(Process::Poisson, p, 500.0, 3).offsets(Until::Horizon(400 * S)).expect("offsets");
    assert!((offsets.len() as f64 / 2e5 - 1.0).abs() < 0.01, "{}", offsets.len());
    assert!(offsets.iter().all(|at| at % 800_000_000 <= 200_000_000), "an arrival in a pause");
    let p = Profile::OnOff { on_s: 0.2, off_s: 0.6, lengths: Lengths::Exponential };
    let random = load(Process::Poisson, p, 500.0, 3).offsets(Until::Horizon(400 * S)).expect("offsets");
    assert!((random.len() as f64 / 2e5 - 1.0).abs() < 0.15, "{}", random.len());
    let (_, cv) = moments(&random);
    assert!(cv > 2.0, "bursts are burstier than Poisson: {cv}");
}

#[test]
fn ramps_and_steps_have_the_rate_of_their_moment() {
    let count = |offsets: &[u64], from: u64, to: u64| {
        offsets.iter().filter(|&&at| (from * S..to * S).contains(&at)).count() as f64
    };
    let ramp = Profile::Ramp { from: 0.5, to: 1.5, over_s: 100.0 };
    let o = load(Process::Poisson, ramp, 1000.0, 5).offsets(Until::Horizon(150 * S)).expect("offsets");
    for (from, to, rate) in [(0, 10, 550.0), (45, 55, 1000.0), (90, 100, 1450.0), (120, 150, 1500.0)] {
        let got = count(&o, from, to) / (to - from) as f64;
        assert!((got / rate - 1.0).abs() < 0.05, "{from} to {to} s: {got}");
    }
    let steps = Profile::Steps {
        first: 1.0,
        then: vec![Step { at_s: 10.0, factor: 3.0 }, Step { at_s: 20.0, factor: 0.0 }],
    };
    let o =
        load(Process::Constant, steps.clone(), 100.0, 5).offsets(Until::Horizon(60 * S)).expect("offsets");
    assert_eq!((count(&o, 0, 10), count(&o, 10, 20), count(&o, 20, 60)), (1000.0, 3000.0, 0.0));
    let short = load(Process::Constant, steps, 100.0, 5).offsets(Until::Count(5000));
    assert_eq!(short, Err(LoadError::Ends { have: 4000, asked: 5000 }));
}

#[test]
fn tenants_are_independent_and_do_not_depend_on_each_other() {
    let of = |tenant| {
        load(Process::Poisson, Profile::Flat, 100.0, stream_seed(7, tenant, 0))
            .offsets(Until::Count(20_000))
            .expect("offsets")
    };
    let (a, b) = (of("llama"), of("distilbert"));
    assert_ne!(a, b);
    let gaps = |o: &[u64]| -> Vec<f64> { o.windows(2).map(|w| (w[1] - w[0]) as f64 / 1e7 - 1.0).collect() };
    let (a, b) = (gaps(&a), gaps(&b));
    let correlation = a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>() / a.len() as f64;
    assert!(correlation.abs() < 0.03, "{correlation}");
}

#[test]
fn what_cannot_be_is_refused() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = flat(Process::Poisson, rate).offsets(Until::Count(1));
        assert!(matches!(refused, Err(LoadError::Rate(_))), "{rate}");
    }
    let many = flat(Process::Poisson, 1e9).offsets(Until::Horizon(10 * S));
    assert!(matches!(many, Err(LoadError::TooMany(_))), "{many:?}");
    let many = flat(Process::Poisson, 1.0).offsets(Until::Count(usize::MAX));
    assert!(matches!(many, Err(LoadError::TooMany(_))), "{many:?}");
}

fn processes() -> impl Strategy<Value = Process> {
    prop_oneof![
        Just(Process::Constant),
        Just(Process::Poisson),
        (0.01f64..20.0).prop_map(|cv| Process::Gamma { cv }),
        (0.01f64..20.0).prop_map(|cv| Process::Weibull { cv }),
    ]
}

fn profiles() -> impl Strategy<Value = Profile> {
    prop_oneof![
        Just(Profile::Flat),
        (0.001f64..1.0, 0.0f64..1.0, any::<bool>()).prop_map(|(on_s, off_s, random)| Profile::OnOff {
            on_s,
            off_s,
            lengths: if random { Lengths::Exponential } else { Lengths::Fixed },
        }),
        (0.0f64..3.0, 0.1f64..3.0, 0.01f64..5.0).prop_map(|(from, to, over_s)| Profile::Ramp {
            from,
            to,
            over_s
        }),
        (0.0f64..3.0, prop::collection::vec((0.0f64..1.0, 0.1f64..3.0), 1..4)).prop_map(|(first, steps)| {
            let mut at_s = 0.0;
            let then = steps.into_iter().map(|(wait, factor)| {
                at_s += wait;
                Step { at_s, factor }
            });
            Profile::Steps { first, then: then.collect() }
        }),
    ]
}

proptest! {
    #[test]
    fn streams_are_sorted_complete_and_grow_at_their_end(
        process in processes(), profile in profiles(), rate in 1.0f64..1000.0, seed: u64, n in 1usize..400,
    ) {
        let l = load(process, profile, rate, seed);
        let all = l.offsets(Until::Count(n)).expect("offsets");
        prop_assert_eq!(all.len(), n);
        prop_assert!(all.is_sorted());
        prop_assert_eq!(&l.offsets(Until::Count(n)).expect("again"), &all);
        prop_assert_eq!(&l.offsets(Until::Count(n / 2)).expect("shorter")[..], &all[..n / 2]);
        let middle = all[n / 2];
        let before = l.offsets(Until::Horizon(middle)).expect("a horizon");
        prop_assert_eq!(&before[..], &all[..all.partition_point(|&at| at < middle)]);
    }

    #[test]
    fn a_load_survives_json(process in processes(), profile in profiles(), seed: u64) {
        let l = load(process, profile, 12.5, seed);
        let text = serde_json::to_string(&l).expect("text");
        let back: Arrivals = serde_json::from_str(&text).expect("a load");
        prop_assert_eq!(back.offsets(Until::Count(20)), l.offsets(Until::Count(20)));
    }
}

#[test]
fn stretched_arrivals_have_the_rate_and_their_shape() {
    for seed in 0..20 {
        let drawn = load(Process::Gamma { cv: 4.0 }, Profile::Flat, 16.0, seed);
        let drawn = drawn.offsets(Until::Count(160)).expect("offsets");
        let mut stretched = drawn.clone();
        stretch(&mut stretched, 16.0).expect("a rate");
        let span = stretched[159] - stretched[0];
        assert!(span.abs_diff(159 * S / 16) <= 1, "{span}");
        let ((_, before), (_, after)) = (moments(&drawn), moments(&stretched));
        assert!((before / after - 1.0).abs() < 1e-6, "{before} and {after}");
        assert!(stretched.is_sorted());
    }
}

#[test]
fn arrivals_without_a_rate_are_not_stretched() {
    assert_eq!(stretch(&mut [], 1.0), Err(LoadError::NoMean(0)));
    assert_eq!(stretch(&mut [5, 5], 1.0), Err(LoadError::NoMean(2)));
    assert_eq!(stretch(&mut [5, 6], 0.0), Err(LoadError::Rate(0.0)));
}
