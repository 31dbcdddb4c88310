//! Lengths and times: written, read and drawn.

use cotenant_prompts::{Asks, DistributionError, Form, Length, MOST_TOKENS, Seconds, Synthetic, Words};
use proptest::prelude::*;
use std::sync::Arc;

fn words(text: &str) -> String {
    text.parse::<Length>().expect_err("refused").to_string()
}

#[test]
fn lengths_are_read_as_they_are_documented() {
    let read = |text: &str| text.parse::<Length>().expect("a length");
    assert_eq!(read(" 512 "), Length::Exact(512));
    assert_eq!(read("uniform(100, 200)"), Length::Uniform { low: 100, high: 200 });
    let normal = Length::Normal { mean: 512.0, std: 64.0, low: 1, high: MOST_TOKENS };
    assert_eq!(read("Normal(512,64)"), normal);
    let log = Length::LogNormal { median: 400.0, sigma: 0.8, low: 16, high: 8192 };
    assert_eq!(read("lognormal(400,0.8,16,8192)"), log);
    assert_eq!(read("empirical(3,1,2)"), Length::Empirical([3, 1, 2].into()));
    assert_eq!(read("trace"), Length::Trace);
}

#[test]
fn what_is_wrong_with_a_length_is_said() {
    assert!(words("").contains("`` is not a number of tokens such as `512`"));
    assert!(words("-5").contains("`-5` is not a number of tokens"));
    assert!(words("1.5").contains("`1.5` is not a number of tokens"));
    assert!(words("uniform(1,2").contains("is not a number of tokens such as `512` or a distribution"));
    assert!(words("pareto(1,2)").contains("there is no distribution `pareto`; there are `uniform`"));
    assert!(words("uniform(1)").contains("`uniform` has 1 number(s); it takes two: smallest, largest"));
    assert!(words("normal(1,2,3)").contains("has 3 number(s)"));
    assert!(words("uniform(1,x)").contains("`x` in `uniform` is not a whole number of tokens"));
    assert!(words("normal(NaN,1)").contains("`NaN` in `normal` is not a number"));
    assert!(words("uniform(9,2)").contains("the largest length of `uniform` is 2"));
    assert!(words("normal(5,1,10,20)").contains("the mean of `normal` is 5"));
    assert!(words("lognormal(400,-1)").contains("the sigma of `lognormal` is -1"));
    assert!(words("0").contains("it must be a whole number from 1"));
    assert!(words("99999999").contains("16777216"));
    assert!(words("trace(1)").contains("takes none"));
    assert_eq!("empirical()".parse::<Length>(), Err(DistributionError::NoLengths));
}

#[test]
fn times_are_read_and_refused_with_words() {
    let read = |text: &str| text.parse::<Seconds>();
    assert_eq!(read("2.5"), Ok(Seconds::Exact(2.5)));
    assert_eq!(read("uniform(1,3)"), Ok(Seconds::Uniform { low: 1.0, high: 3.0 }));
    assert_eq!(read("exponential(5)"), Ok(Seconds::Exponential { mean: 5.0 }));
    assert_eq!(read("lognormal(4,0.8)"), Ok(Seconds::LogNormal { median: 4.0, sigma: 0.8 }));
    let words = |text: &str| read(text).expect_err("refused").to_string();
    assert!(words("soon").contains("there is no distribution `soon`"));
    assert!(words("-1").contains("must be a number of seconds from 0"));
    assert!(words("1e400").contains("must be a number of seconds"));
    assert!(words("exponential(1,2)").contains("it takes one: the mean"));
    assert!(words("uniform(3,1)").contains("the longest time of `uniform` is 1"));
}

#[test]
fn specifications_give_numbers_or_text() {
    let read = |json: &str| serde_json::from_str::<Length>(json);
    assert_eq!(read("512").expect("a length"), Length::Exact(512));
    assert_eq!(read("\"uniform(1,2)\"").expect("a length"), Length::Uniform { low: 1, high: 2 });
    assert!(read("\"uniform(1)\"").expect_err("refused").to_string().contains("takes two"));
    assert!(read("[]").expect_err("refused").to_string().contains("a number of tokens such as 512"));
    assert_eq!(
        serde_json::to_string(&Length::Uniform { low: 1, high: 2 }).expect("text"),
        "\"uniform(1,2)\""
    );
    assert_eq!(serde_json::from_str::<Seconds>("2").expect("a time"), Seconds::Exact(2.0));
}

/// Lengths that prompts have when drawn from a distribution.
fn drawn(text: &str, n: u64) -> Vec<f64> {
    let asks = Asks::synthetic(Synthetic {
        prompt: "1".parse().expect("a length"),
        output: text.parse().expect("a length"),
        prefix: None,
        replay: None,
        vocabulary: Arc::new(Words::new(0, 10).expect("words")),
        form: Form::Text,
        seed: 5,
    })
    .expect("asks");
    (0..n).map(|i| f64::from(asks.at(i).expect("an ask").max_tokens)).collect()
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}

#[test]
fn means_are_those_of_the_distributions() {
    let n = 20_000;
    for (text, wanted, error) in [
        ("uniform(100,200)", 150.0, 29.2),
        ("normal(512,64)", 512.0, 64.0),
        // The mean of a log-normal is the median times exp(σ²/2).
        ("lognormal(400,0.8)", 400.0 * 0.32f64.exp(), 400.0 * 0.32f64.exp() * (0.64f64.exp_m1()).sqrt()),
        ("empirical(10,20,60)", 30.0, 21.6),
    ] {
        let all = drawn(text, n);
        let within = 4.0 * error / (n as f64).sqrt();
        assert!((mean(&all) - wanted).abs() < within, "{text}: {} and {wanted}", mean(&all));
    }
    let all = drawn("uniform(1,4)", 4000);
    for value in 1..=4 {
        let share = all.iter().filter(|v| **v == f64::from(value)).count() as f64 / 4000.0;
        assert!((share - 0.25).abs() < 0.03, "{value}: {share}");
    }
}

#[test]
fn bounds_hold_also_where_they_are_hardly_ever_met() {
    for text in ["normal(100,50,90,300)", "normal(512,1000000,510,514)", "lognormal(500,10,499,501)"] {
        let all = drawn(text, 500);
        let (low, high) =
            (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
        let wanted = match text.parse().expect("a length") {
            Length::Normal { low, high, .. } | Length::LogNormal { low, high, .. } => low..=high,
            _ => unreachable!(),
        };
        assert!(wanted.contains(&(low as u32)) && wanted.contains(&(high as u32)), "{text}: {low} to {high}");
        assert!(low < high, "{text}");
    }
}

fn lengths() -> impl Strategy<Value = Length> {
    let bounds = (1..=MOST_TOKENS, 1..=MOST_TOKENS).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        (1..=MOST_TOKENS).prop_map(Length::Exact),
        bounds.clone().prop_map(|(low, high)| Length::Uniform { low, high }),
        (bounds.clone(), 0.0..1.0, 0.0..1e9).prop_map(|((low, high), at, std)| {
            let mean = f64::from(low) + at * f64::from(high - low);
            Length::Normal { mean, std, low, high }
        }),
        (bounds, 0.0..1.0, 0.0..10.0).prop_map(|((low, high), at, sigma)| {
            let median = f64::from(low) + at * f64::from(high - low);
            Length::LogNormal { median, sigma, low, high }
        }),
        prop::collection::vec(1..=MOST_TOKENS, 1..20).prop_map(|v| Length::Empirical(v.into())),
        Just(Length::Trace),
    ]
}

fn seconds() -> impl Strategy<Value = Seconds> {
    prop_oneof![
        (0.0..86_400.0).prop_map(Seconds::Exact),
        (0.0..86_400.0, 0.0..1.0).prop_map(|(high, part)| Seconds::Uniform { low: high * part, high }),
        (0.0..86_400.0).prop_map(|mean| Seconds::Exponential { mean }),
        (0.0..86_400.0, 0.0..10.0).prop_map(|(median, sigma)| Seconds::LogNormal { median, sigma }),
    ]
}

proptest! {
    #[test]
    fn written_lengths_are_read_back(length in lengths()) {
        prop_assert_eq!(length.to_string().parse::<Length>(), Ok(length));
    }

    #[test]
    fn written_times_are_read_back(time in seconds()) {
        prop_assert_eq!(time.to_string().parse::<Seconds>(), Ok(time));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z]{0,9}[(]?[-0-9.,eN]{0,12}[)]?|\\PC{0,20}") {
        for shown in [
            text.parse::<Length>().map(|l| l.to_string()).unwrap_or_else(|e| e.to_string()),
            text.parse::<Seconds>().map(|l| l.to_string()).unwrap_or_else(|e| e.to_string()),
        ] {
            prop_assert!(!shown.is_empty());
        }
    }
}
