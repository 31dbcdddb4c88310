//! Windows of measured clients.

use cotenant_load::{Process, Until, Windows, WindowsError, shape};
use proptest::prelude::*;

const S: u64 = 1_000_000_000;

const CLIENT: &str = "0,0,0,,0,0
600,2,1.5,Gamma,0.44,1.1
1200,0.5,4,Weibull,0.34,0.3

1800,1,0,,0,0
2400,0,0,,0,0
";

fn client() -> Windows {
    Windows::parse(CLIENT).expect("windows")
}

#[test]
fn windows_are_read_with_their_processes() {
    let w = client();
    assert_eq!(w.length_s(), 600.0);
    let processes: Vec<Process> = w.windows().iter().map(|w| w.process).collect();
    assert_eq!(processes[1..4], [Process::Gamma { cv: 1.5 }, Process::Weibull { cv: 4.0 }, Process::Poisson]);
    assert!((w.rate_per_s() - 0.7).abs() < 1e-12);
    assert_eq!(
        Windows::parse("600,1,500,Weibull,0.1,1").expect("one").windows()[0].process,
        Process::Weibull { cv: 100.0 }
    );
}

#[test]
fn each_window_has_the_arrivals_of_its_rate() {
    let at = client().offsets(7, Until::Horizon(u64::MAX)).expect("offsets");
    assert!(at.is_sorted());
    let counts: Vec<usize> = (0..5)
        .map(|i| at.iter().filter(|&&t| (i * 600 * S..(i + 1) * 600 * S).contains(&t)).count())
        .collect();
    assert_eq!(counts, [0, 1200, 300, 600, 0]);
    assert_eq!(at.len(), 2100);
}

#[test]
fn the_variation_within_a_window_is_the_one_asked_for() {
    let w = Windows::parse("0,50,2,Gamma,0,0").expect("a window");
    let s = shape(&w.offsets(1, Until::Horizon(u64::MAX)).expect("offsets"), S).expect("a shape");
    assert!((s.cv - 2.0).abs() < 0.1, "{s:?}");
    assert!((s.rate_per_s - 50.0).abs() < 0.1, "{s:?}");
}

#[test]
fn the_heaviest_tails_still_give_every_arrival() {
    for family in ["Gamma", "Weibull"] {
        let w =
            Windows::parse(&format!("0,0.05,100,{family},0,0\n600,0.005,100,{family},0,0")).expect("windows");
        let at = w.offsets(3, Until::Horizon(1200 * S)).expect("offsets");
        assert_eq!(at.len(), 33);
        assert!(at.is_sorted() && at.iter().all(|&t| t < 1200 * S));
    }
}

#[test]
fn scaling_multiplies_rates_and_rounds_by_chance() {
    let w = client().at_rate(0.07).expect("a rate");
    assert_eq!(w.windows()[1].process, Process::Gamma { cv: 1.5 });
    let n: usize = (0..400)
        .map(|seed| {
            let third = Windows::parse("0,0.0005,1,Gamma,1,1").expect("a window");
            third.offsets(seed, Until::Horizon(600 * S)).expect("offsets").len()
        })
        .sum();
    assert!((90..150).contains(&n), "0.3 arrivals on average: {n}");
    assert!(matches!(w.at_rate(0.0), Err(WindowsError::Rate(_))));
    assert!(matches!(w.slice(0, 1).expect("a slice").at_rate(1.0), Err(WindowsError::NoRate(1))));
}

#[test]
fn slices_and_counts_end_where_they_must() {
    let w = client();
    let part = w.slice(1, 2).expect("a slice");
    assert_eq!(part.windows().len(), 2);
    assert!(w.slice(4, 2).expect_err("beyond").to_string().contains("windows 4 to 5"));
    assert!(w.slice(0, 0).is_err());
    assert_eq!(w.offsets(1, Until::Count(2101)), Err(WindowsError::Ends { have: 2100, asked: 2101 }));
    assert_eq!(w.offsets(1, Until::Count(0)), Ok(Vec::new()));
    let much = Windows::parse("0,900000000,1,Gamma,1,1").expect("a window");
    assert!(matches!(much.offsets(1, Until::Count(1)), Err(WindowsError::TooMany(_))));
}

#[test]
fn lines_that_are_wrong_are_named() {
    let words = |text: &str| Windows::parse(text).expect_err("refused").to_string();
    assert!(words("").contains("no windows"));
    assert!(words("0,0,0,,0,0\n600,1,1").contains("line 2: there are 3 cells"));
    assert!(words("0,0,0,,0,0\n\n600,fast,1,Gamma,1,1").contains("line 3, cell 2 (rate): `fast`"));
    assert!(words("0,-1,0,,0,0").contains("line 1, cell 2"));
    assert!(words("0,1,NaN,Gamma,1,1").contains("cell 3 (CV)"));
    assert!(words("0,1,1,Pareto,1,1").contains("`Pareto` is not `Gamma`, `Weibull` or empty"));
    assert!(words("0,0,0,,0,0\n600,0,0,,0,0\n1300,0,0,,0,0").contains("line 3: the window begins at 1300 s"));
    assert!(words("600,0,0,,0,0\n0,0,0,,0,0").contains("line 2: the window begins at 0 s"));
}

proptest! {
    #[test]
    fn longer_streams_begin_with_the_shorter_ones(seed: u64, short in 0usize..2100, more in 0usize..2100) {
        let long = client().offsets(seed, Until::Count((short + more).min(2100))).expect("offsets");
        let short = client().offsets(seed, Until::Count(short)).expect("offsets");
        prop_assert_eq!(&long[..short.len()], &short[..]);
    }

    #[test]
    fn horizons_cut_the_same_stream(seed: u64, ns in 0u64..3000 * S) {
        let all = client().offsets(seed, Until::Horizon(u64::MAX)).expect("offsets");
        let cut = client().offsets(seed, Until::Horizon(ns)).expect("offsets");
        prop_assert_eq!(&all[..all.partition_point(|&t| t < ns)], &cut[..]);
    }
}
