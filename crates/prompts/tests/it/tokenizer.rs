//! Texts counted by a tokenizer of its own kind: byte pairs, with a space as part of the word after it.

use cotenant_prompts::{Asks, Choice, Form, Prefix, Prompt, PromptError, Synthetic, Tokenizer, Vocabulary};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use serde_json::{Value, json};
use std::sync::Arc;

/// A tokenizer with these words; it puts `<s>` before each text.
fn tokenizer(words: &[&str]) -> String {
    let mut tokens: Vec<String> = vec!["<s>".to_owned(), "Ġ".to_owned()];
    tokens.extend(('a'..='z').map(String::from));
    let mut merges: Vec<Value> = Vec::new();
    for word in words {
        for end in 2..=word.len() {
            if !tokens.contains(&word[..end].to_owned()) {
                tokens.push(word[..end].to_owned());
                merges.push(json!([word[..end - 1], word[end - 1..end]]));
            }
        }
    }
    for word in words {
        tokens.push(format!("Ġ{word}"));
        merges.push(json!(["Ġ", word]));
    }
    let vocab: serde_json::Map<String, Value> =
        tokens.into_iter().zip(0..).map(|(t, i)| (t, json!(i))).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                  "merges": merges}
    })
    .to_string()
}

const WORDS: [&str; 12] = [
    "about", "between", "candle", "dozen", "every", "forest", "garden", "house", "island", "jungle",
    "kitchen", "lemon",
];

fn read(special: bool) -> Tokenizer {
    Tokenizer::parse(&tokenizer(&WORDS), special).expect("a tokenizer")
}

#[test]
fn special_tokens_count_where_they_are_asked_for() {
    assert_eq!((read(false).overhead(), read(true).overhead()), (0, 1));
    let t = read(true);
    assert_eq!(t.count("about between zz"), Ok(6), "<s>, two words, a space and two letters");
    assert!(matches!(
        t.text(0, &mut Pcg64::seed_from_u64(1)),
        Err(PromptError::Short { asked: 0, least: 1 })
    ));
    assert_eq!(t.ids("").expect("ids"), [0]);
}

#[test]
fn asks_are_exact_with_and_without_prefixes() {
    for special in [false, true] {
        let t = Arc::new(read(special));
        let s = Synthetic {
            prompt: "uniform(1,60)".parse().expect("a length"),
            output: "1".parse().expect("a length"),
            prefix: Some(Prefix { count: 2, tokens: 20, share: 0.5, choice: Choice::Uniform }),
            replay: None,
            vocabulary: t.clone(),
            form: Form::Text,
            seed: 1,
        };
        let ids = Asks::synthetic(Synthetic { form: Form::TokenIds, ..s.clone() }).expect("asks");
        let asks = Asks::synthetic(s).expect("asks");
        for i in 0..100 {
            let (ask, same) = (asks.at(i).expect("an ask"), ids.at(i).expect("an ask"));
            let (Prompt::Text(text), Prompt::TokenIds(ids)) = (&ask.prompt, &same.prompt) else { panic!() };
            assert_eq!(t.count(text).ok(), ask.target_prompt_tokens);
            assert_eq!(Some(ids.len() as u32), ask.target_prompt_tokens);
        }
    }
}

#[test]
fn files_that_are_no_tokenizers_are_refused() {
    let words = |json: &str| Tokenizer::parse(json, true).expect_err("refused").to_string();
    assert!(words("{}").starts_with("the tokenizer cannot be used: "));
    let few = words(&tokenizer(&["about", "between"]));
    assert!(few.contains("words of three or more letters"), "{few}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn texts_have_exactly_the_length(seed: u64, n in 1u32..400, special: bool) {
        let t = read(special);
        let text = t.text(n, &mut Pcg64::seed_from_u64(seed)).expect("a text");
        prop_assert_eq!(t.count(&text), Ok(n));
        prop_assert_eq!(&text, &t.text(n, &mut Pcg64::seed_from_u64(seed)).expect("a text"));
        // Whatever stands before, such as half a word.
        let more = t.extend("zq abo", n + 20, &mut Pcg64::seed_from_u64(seed)).expect("a text");
        prop_assert!(more.starts_with("zq abo"));
        prop_assert_eq!(t.count(&more), Ok(n + 20));
    }
}
