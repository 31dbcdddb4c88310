//! Streams of made-up prompts, mixes, prefixes and traces.

use cotenant_load::Trace;
use cotenant_prompts::{
    Ask, Asks, Calibration, Choice, Class, Form, Length, Mix, Order, Plain, Prefix, Prompt, PromptError,
    Replay, Synthetic, Vocabulary, Words,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn length(text: &str) -> Length {
    text.parse().expect("a length")
}

#[test]
fn other_texts_have_the_same_lengths() {
    let one = Asks::synthetic(made_up("uniform(20,100)", 4)).expect("asks");
    let other = one.clone().with_texts(99);
    for i in 0..50 {
        let (a, b) = (one.at(i).expect("ask"), other.at(i).expect("ask"));
        assert_eq!((a.target_prompt_tokens, a.max_tokens), (b.target_prompt_tokens, b.max_tokens));
        assert_ne!(a.prompt, b.prompt);
    }
}

fn made_up(prompt: &str, seed: u64) -> Synthetic {
    Synthetic {
        prompt: length(prompt),
        output: length("uniform(1,64)"),
        prefix: None,
        replay: None,
        vocabulary: Arc::new(Words::new(0, 1000).expect("words")),
        form: Form::Text,
        seed,
    }
}

fn text(ask: &Ask) -> &str {
    let Prompt::Text(text) = &ask.prompt else { panic!("{:?}", ask.prompt) };
    text
}

fn counted(ask: &Ask) -> u32 {
    text(ask).split_whitespace().count() as u32
}

fn run(s: &Synthetic, n: u64) -> Vec<Ask> {
    let mut asks = Asks::synthetic(s.clone()).expect("asks");
    (0..n).map(|_| asks.get().expect("an ask")).collect()
}

#[test]
fn prompts_have_exactly_their_lengths_in_every_form() {
    for ask in run(&made_up("lognormal(60,0.8)", 1), 300) {
        assert_eq!(Some(counted(&ask)), ask.target_prompt_tokens);
    }
    let ids = Synthetic { form: Form::TokenIds, ..made_up("31", 1) };
    let Prompt::TokenIds(ids) = &run(&ids, 1)[0].prompt else { panic!() };
    assert_eq!(ids.len(), 31);
    let chat = Synthetic { form: Form::Chat, ..made_up("31", 1) };
    let Prompt::Messages(all) = &run(&chat, 1)[0].prompt else { panic!() };
    assert_eq!((all.len(), all[0].content.split(' ').count()), (1, 31));
    assert_eq!(all[0].content, text(&run(&made_up("31", 1), 1)[0]), "the form changes nothing else");
}

#[test]
fn ids_need_a_vocabulary_that_has_them() {
    let plain = Plain::new(Calibration { tokens_per_word: 1.3, overhead: 3.0 }).expect("a vocabulary");
    let s = Synthetic { form: Form::TokenIds, vocabulary: Arc::new(plain.clone()), ..made_up("31", 1) };
    assert_eq!(Asks::synthetic(s).map(|_| ()), Err(PromptError::NoIds));
    let s = Synthetic { vocabulary: Arc::new(plain), ..made_up("1", 1) };
    assert_eq!(run(&s, 1)[0].target_prompt_tokens, Some(4), "one beside what the server adds");
}

#[test]
fn prefixes_are_shared_exactly() {
    let prefix = Prefix { count: 3, tokens: 40, share: 0.5, choice: Choice::Uniform };
    let s = Synthetic { prefix: Some(prefix), ..made_up("uniform(20,100)", 2) };
    let mut by_start: BTreeMap<Vec<String>, u32> = BTreeMap::new();
    for ask in run(&s, 1000) {
        assert_eq!(Some(counted(&ask)), ask.target_prompt_tokens, "the prefix is part of the length");
        if counted(&ask) > 40 {
            let start = text(&ask).split(' ').take(40).map(str::to_owned).collect();
            *by_start.entry(start).or_default() += 1;
        }
    }
    let shared: Vec<u32> = by_start.values().copied().filter(|n| *n > 1).collect();
    assert_eq!(shared.len(), 3);
    let (with, all) = (f64::from(shared.iter().sum::<u32>()), f64::from(by_start.values().sum::<u32>()));
    assert!((with / all - 0.5).abs() < 0.08, "{with} of {all}");
}

#[test]
fn prompts_not_longer_than_the_prefix_keep_a_token_of_their_own() {
    let prefix = Prefix { count: 1, tokens: 40, share: 1.0, choice: Choice::Uniform };
    let s = Synthetic { prefix: Some(prefix), ..made_up("10", 2) };
    let asks = run(&s, 20);
    let start = |a: &Ask| text(a).split(' ').take(9).collect::<Vec<_>>().join(" ");
    assert!(asks.iter().all(|a| start(a) == start(&asks[0]) && counted(a) == 10));
    assert!(asks.iter().map(|a| text(a).to_owned()).collect::<BTreeSet<_>>().len() > 10);
}

#[test]
fn zipf_prefers_the_first_prefixes() {
    let choice = Choice::Zipf { exponent: 1.0 };
    let s = Synthetic { prefix: Some(Prefix { count: 4, tokens: 5, share: 1.0, choice }), ..made_up("6", 2) };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for ask in run(&s, 2000) {
        let start = text(&ask).split(' ').take(5).collect::<Vec<_>>().join(" ");
        *counts.entry(start).or_default() += 1;
    }
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort_unstable();
    // 1, 1/2, 1/3, 1/4 of 25/12.
    for (count, share) in counts.into_iter().rev().zip([0.48, 0.24, 0.16, 0.12]) {
        assert!((f64::from(count) / 2000.0 - share).abs() < 0.05, "{count}: {share}");
    }
}

const TRACE: &str = r#"{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 5, "input_length": 1300, "output_length": 0, "hash_ids": [0, 1, 3]}
{"timestamp": 9, "input_length": 1024, "output_length": 7, "hash_ids": [0, 4]}
{"timestamp": 9, "input_length": 600, "output_length": 7, "hash_ids": [8]}
"#;

fn replay(order: Order, blocks: bool) -> Option<Replay> {
    Some(Replay { trace: Arc::new(Trace::parse(TRACE).expect("a trace")), order, blocks })
}

#[test]
fn traces_give_lengths_together() {
    let s = Synthetic { output: Length::Trace, replay: replay(Order::InOrder, false), ..made_up("trace", 3) };
    let pairs: Vec<(u32, u32)> = run(&s, 5).iter().map(|a| (counted(a), a.max_tokens)).collect();
    assert_eq!(pairs, [(1100, 5), (1300, 1), (1024, 7), (600, 7), (1100, 5)]);
    let s = Synthetic { replay: replay(Order::Drawn, false), ..s };
    let pairs: BTreeSet<(u32, u32)> = run(&s, 100).iter().map(|a| (counted(a), a.max_tokens)).collect();
    assert_eq!(pairs, BTreeSet::from([(1100, 5), (1300, 1), (1024, 7), (600, 7)]));
}

#[test]
fn equal_blocks_have_equal_text() {
    let s = Synthetic { replay: replay(Order::InOrder, true), ..made_up("trace", 3) };
    let all = run(&s, 8);
    let part =
        |i: usize, from: usize, n: usize| text(&all[i]).split(' ').skip(from).take(n).collect::<Vec<_>>();
    assert_eq!(all.iter().map(counted).collect::<Vec<_>>()[..4], [1100, 1300, 1024, 600]);
    assert_eq!(part(0, 0, 1024), part(1, 0, 1024));
    assert_ne!(part(0, 1024, 76), part(1, 1024, 76));
    assert_eq!(part(0, 0, 512), part(2, 0, 512));
    assert_ne!(part(0, 512, 512), part(2, 512, 512));
    for i in 0..3 {
        assert_eq!(text(&all[i]), text(&all[i + 4]), "the trace starts over");
    }
    assert_eq!(part(3, 0, 512), part(7, 0, 512));
    assert_ne!(text(&all[3]), text(&all[7]), "what no block covers is the request's own");
}

#[test]
fn parts_that_do_not_fit_together_are_refused() {
    let refused = |s: Synthetic| Asks::synthetic(s).expect_err("refused").to_string();
    assert!(refused(made_up("trace", 1)).contains("the prompt length is `trace` and there is no trace"));
    let s = Synthetic { output: Length::Trace, ..made_up("1", 1) };
    assert!(refused(s).contains("the output length is `trace`"));
    let bare = Replay {
        trace: Arc::new(Trace::parse("t_s,prompt_tokens\n0,5\n1,\n").expect("a trace")),
        order: Order::InOrder,
        blocks: false,
    };
    let s = Synthetic { replay: Some(bare.clone()), ..made_up("trace", 1) };
    assert!(refused(s).contains("record 1 of the trace has no prompt tokens"));
    let s = Synthetic { replay: Some(Replay { blocks: true, ..bare }), ..made_up("trace", 1) };
    assert!(refused(s).contains("only Mooncake traces have them"));
    let prefix = Prefix { count: 1, tokens: 1, share: 1.0, choice: Choice::Uniform };
    let s = Synthetic { prefix: Some(prefix), replay: replay(Order::InOrder, true), ..made_up("trace", 1) };
    assert!(refused(s).contains("there can be no prefix"));
    for bad in [
        Prefix { count: 0, ..prefix },
        Prefix { tokens: 0, ..prefix },
        Prefix { share: 1.5, ..prefix },
        Prefix { share: f64::NAN, ..prefix },
        Prefix { choice: Choice::Zipf { exponent: -1.0 }, ..prefix },
    ] {
        assert!(!refused(Synthetic { prefix: Some(bad), ..made_up("9", 1) }).is_empty());
    }
    let wrong = Length::Uniform { low: 5, high: 1 };
    assert!(
        refused(Synthetic { prompt: wrong, ..made_up("1", 1) }).starts_with("prompt: the largest length")
    );
}

#[test]
fn mixes_draw_by_weight() {
    let vocabulary: Arc<dyn Vocabulary> = Arc::new(Words::new(0, 1000).expect("words"));
    let mix = |classes| Mix::new(classes, &vocabulary, Form::Text, 4);
    let class = |name: &str, weight, n| Class {
        name: name.to_owned(),
        weight,
        prompt: Length::Exact(n),
        output: Length::Exact(1),
        prefix: None,
    };
    let asks = Asks::mix(mix(vec![class("a", 3.0, 5), class("b", 1.0, 9)]).expect("a mix"));
    assert_eq!(asks.classes(), ["a", "b"]);
    let all: Vec<Ask> = (0..2000).map(|i| asks.at(i).expect("an ask")).collect();
    let first = all.iter().filter(|a| a.class == Some(0)).count();
    assert!((1420..1580).contains(&first), "{first}");
    assert!(all.iter().all(|a| counted(a) == [5, 9][usize::from(a.class.unwrap_or(9))]));
    let words = |classes| mix(classes).expect_err("refused").to_string();
    assert!(words(vec![]).contains("the mix has 0 classes"));
    assert!(
        words(vec![class("a", 1.0, 1), class("a", 1.0, 1)]).contains("two classes of the mix are called `a`")
    );
    assert!(words(vec![class("a", 0.0, 1)]).contains("the weight of a class is 0"));
    assert!(words(vec![class("a", 1.0, 0)]).contains("prompt: the length of `exact` is 0"));
    let presets =
        Asks::mix(mix(vec![Class::short(1.0), Class::medium(1.0), Class::long(1.0)]).expect("a mix"));
    for i in 0..60 {
        let ask = presets.at(i).expect("an ask");
        let (low, high) = [(8, 512), (128, 4096), (2048, 32_768)][usize::from(ask.class.unwrap_or(9))];
        assert!((low..=high).contains(&counted(&ask)));
    }
}

#[test]
fn asks_survive_being_written_and_read() {
    for form in [Form::Text, Form::Chat, Form::TokenIds] {
        let ask = run(&Synthetic { form, ..made_up("7", 1) }, 1).remove(0);
        let json = serde_json::to_string(&ask).expect("text");
        assert_eq!(serde_json::from_str::<Ask>(&json).expect("an ask"), ask);
    }
}

proptest! {
    #[test]
    fn the_seed_decides_and_places_do_not(seed: u64, index in 0u64..50) {
        let s = made_up("uniform(1,50)", seed);
        let all = run(&s, index + 1);
        prop_assert_eq!(&all, &run(&s, index + 1));
        let asks = Asks::synthetic(s).expect("asks");
        prop_assert_eq!(&asks.at(index).expect("an ask"), &all[index as usize]);
        let other = Asks::synthetic(made_up("50", seed ^ 1)).expect("asks").at(index).expect("an ask");
        let this = Asks::synthetic(made_up("50", seed)).expect("asks").at(index).expect("an ask");
        prop_assert_ne!(other.prompt, this.prompt);
    }
}
