//! Texts of given lengths.

use cotenant_prompts::{Calibration, Plain, PromptError, Vocabulary, Words};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_pcg::Pcg64;

fn rng(seed: u64) -> Pcg64 {
    Pcg64::seed_from_u64(seed)
}

#[test]
fn words_are_one_token_each_and_have_ids() {
    let words = Words::new(5, 32_000).expect("words");
    let text = words.text(1000, &mut rng(1)).expect("a text");
    let ids = words.ids(&text).expect("ids");
    assert_eq!(ids.len(), 1000);
    assert!(ids.iter().all(|id| (5..32_000).contains(id)));
    assert_eq!(words.ids("t17 t3"), Ok(vec![17, 3]));
    assert_eq!(words.ids("t17 x3"), Err(PromptError::Word("x3".to_owned())));
    assert_eq!(words.text(0, &mut rng(1)), Ok(String::new()));
    assert_eq!(words.extend("t1 t2 t3", 2, &mut rng(1)), Err(PromptError::Short { asked: 2, least: 3 }));
    assert!(Words::new(3, 3).expect_err("refused").to_string().contains("above the first id"));
}

#[test]
fn a_calibration_is_the_line_through_the_measurements() {
    let exact: Vec<(u32, u32)> = [10, 100, 1000].map(|w| (w, 2 * w + 17)).into();
    let c = Calibration::fit(&exact).expect("a calibration");
    assert!((c.tokens_per_word - 2.0).abs() < 1e-12 && (c.overhead - 17.0).abs() < 1e-9, "{c:?}");
    // By hand: means 2 and 5, products 1·(3 − 5)·… = 4, squares 2.
    let c = Calibration::fit(&[(1, 3), (2, 5), (3, 7), (2, 5)]).expect("a calibration");
    assert!((c.tokens_per_word - 2.0).abs() < 1e-12 && (c.overhead - 1.0).abs() < 1e-12, "{c:?}");
}

#[test]
fn measurements_without_a_ratio_are_refused() {
    let words = |pairs: &[(u32, u32)]| Calibration::fit(pairs).expect_err("refused").to_string();
    assert!(words(&[]).contains("0 measurement(s)"));
    assert!(words(&[(10, 20)]).contains("measure texts of two lengths or more"));
    assert!(words(&[(10, 20), (10, 22)]).contains("all texts have as many words"));
    assert!(words(&[(10, 20), (20, 20)]).contains("tokens do not grow with words"));
    assert!(words(&[(10, 20), (20, 10)]).contains("tokens do not grow with words"));
}

#[test]
fn plain_texts_follow_the_calibration() {
    let plain = Plain::new(Calibration { tokens_per_word: 1.3, overhead: 12.0 }).expect("a vocabulary");
    let text = plain.text(1312, &mut rng(2)).expect("a text");
    assert_eq!(text.split(' ').count(), 1000);
    assert_eq!(plain.count(&text), Ok(1312));
    assert_eq!(plain.overhead(), 12);
    assert!(!plain.has_ids());
    assert_eq!(plain.ids(&text), Err(PromptError::NoIds));
    assert!(matches!(plain.text(5, &mut rng(2)), Err(PromptError::Short { asked: 5, least: 12 })));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Plain::new(Calibration { tokens_per_word: bad, overhead: 0.0 }).is_err());
        assert!(Plain::new(Calibration { tokens_per_word: 1.0, overhead: bad - 1e5 }).is_err());
    }
    assert_eq!(Plain::words(40, &mut rng(3)).split(' ').count(), 40);
}

proptest! {
    #[test]
    fn words_have_exactly_the_length_and_begin_alike(seed: u64, a in 0u32..300, b in 0u32..300) {
        let words = Words::new(0, 100).expect("words");
        let short = words.text(a.min(b), &mut rng(seed)).expect("a text");
        let long = words.text(a.max(b), &mut rng(seed)).expect("a text");
        prop_assert_eq!(words.count(&long), Ok(a.max(b)));
        prop_assert!(long.starts_with(&short));
        let extended = words.extend(&short, a.max(b), &mut rng(seed ^ 1)).expect("a text");
        prop_assert!(extended.starts_with(&short));
        prop_assert_eq!(words.count(&extended), Ok(a.max(b)));
    }

    #[test]
    fn a_fit_finds_the_line_again(ratio in 0.5f64..4.0, overhead in 0f64..100.0) {
        let pairs: Vec<(u32, u32)> =
            (1..20).map(|i| (i * 50, (f64::from(i * 50) * ratio + overhead).round() as u32)).collect();
        let c = Calibration::fit(&pairs).expect("a calibration");
        prop_assert!((c.tokens_per_word - ratio).abs() < 2e-3 && (c.overhead - overhead).abs() < 1.0);
    }
}
