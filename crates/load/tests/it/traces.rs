//! Traces: each format, slicing and scaling, and what is said of files that are wrong.

use cotenant_load::{Format, Record, Trace, TraceError, Until};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn times(t: &Trace) -> Vec<u64> {
    t.records().iter().map(|r| r.at_ns).collect()
}

fn tokens(t: &Trace) -> Vec<(Option<u64>, Option<u64>)> {
    t.records().iter().map(|r| (r.prompt_tokens, r.output_tokens)).collect()
}

#[test]
fn our_own_csv_is_read() {
    let t = Trace::parse(include_str!("fixtures/own.csv")).expect("a trace");
    assert_eq!(t.format(), Format::Csv);
    assert_eq!(times(&t), [0, 250 * MS, 2500 * MS + 1]);
    assert_eq!(tokens(&t), [(Some(100), Some(20)), (None, None), (Some(7), Some(0))]);
}

#[test]
fn our_own_json_lines_are_read_and_put_in_order() {
    let t = Trace::parse(include_str!("fixtures/own.jsonl")).expect("a trace");
    assert_eq!((t.format(), t.reordered()), (Format::JsonLines, 1));
    assert_eq!(times(&t), [0, 250 * MS, S]);
    assert_eq!(tokens(&t), [(Some(5), None), (None, None), (None, Some(9))]);
    let seconds = Trace::parse("{\"timestamp\": 1.5}\n{\"timestamp\": 2}\n").expect("a trace");
    assert_eq!(times(&seconds), [0, 500 * MS]);
    let t_s = Trace::parse("{\"t_s\": 1, \"timestamp\": 99}\n{\"t_s\": 3}").expect("a trace");
    assert_eq!(times(&t_s), [0, 2 * S]);
}

#[test]
fn azure_traces_are_read_across_midnight_and_with_offsets() {
    let t = Trace::parse(include_str!("fixtures/azure.csv")).expect("a trace");
    assert_eq!(t.format(), Format::Azure);
    assert_eq!(times(&t), [0, 500 * MS + 100, 3 * S]);
    assert_eq!(tokens(&t)[1], (Some(64), Some(300)));
    let t = Trace::parse(include_str!("fixtures/azure-2024.csv")).expect("a trace");
    assert_eq!(times(&t), [0, 250 * MS]);
}

#[test]
fn mooncake_and_burstgpt_traces_are_read() {
    let t = Trace::parse(include_str!("fixtures/mooncake.jsonl")).expect("a trace");
    assert_eq!(t.format(), Format::Mooncake);
    assert_eq!(times(&t), [0, 27 * MS, 3054 * MS]);
    assert_eq!(tokens(&t)[2], (Some(81), Some(52)));
    let t = Trace::parse(include_str!("fixtures/burstgpt.csv")).expect("a trace");
    assert_eq!(t.format(), Format::BurstGpt);
    assert_eq!(times(&t), [0, 40 * S, 113_250 * MS]);
    assert_eq!(tokens(&t)[0], (Some(300), Some(25)));
}

#[test]
fn scaling_sets_the_mean_rate_and_keeps_the_variation() {
    let t = Trace::parse(include_str!("fixtures/burstgpt.csv")).expect("a trace");
    let scaled = t.at_rate(4.0).expect("a rate");
    assert!((scaled.rate_per_s().expect("a rate") - 4.0).abs() < 1e-6);
    assert!((scaled.cv().expect("a variation") - t.cv().expect("a variation")).abs() < 1e-6);
    assert_eq!(tokens(&scaled), tokens(&t));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(t.at_rate(rate), Err(TraceError::Rate(_))), "{rate}");
    }
    let still = Trace::parse("t_s\n1\n1\n").expect("a trace");
    assert_eq!(still.at_rate(1.0), Err(TraceError::NoRate(2)));
}

#[test]
fn parts_are_every_nth_record_with_their_blocks_and_cover_the_trace() -> Result<(), Box<dyn std::error::Error>>
{
    let line = |t: u32, hash: u32| {
        format!(
            "{{\"timestamp\": {}, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [{hash}]}}\n",
            t * 1000
        )
    };
    let text: String = (0..5).map(|i| line(i, 10 + i)).collect();
    let trace = Trace::parse(&text)?;
    let (first, second) = (trace.part(0, 2)?, trace.part(1, 2)?);
    let times = |t: &Trace| t.records().iter().map(|r| r.at_ns / 1_000_000_000).collect::<Vec<_>>();
    assert_eq!((times(&first), times(&second)), (vec![0, 2, 4], vec![1, 3]));
    assert_eq!((first.blocks(2), second.blocks(0)), (&[14][..], &[11][..]));
    assert_eq!(trace.part(0, 1)?, trace);
    assert!(trace.part(5, 6).is_err());
    Ok(())
}

#[test]
fn slices_by_time_keep_the_wait_and_slices_by_count_do_not() {
    let t = Trace::parse(include_str!("fixtures/mooncake.jsonl")).expect("a trace");
    let by_time = t.between(20 * MS, 4 * S).expect("a slice");
    assert_eq!(times(&by_time), [7 * MS, 3034 * MS]);
    assert_eq!(times(&t.slice(1, 2).expect("a slice")), [0, 3027 * MS]);
    assert!(matches!(t.between(30 * MS, 31 * MS), Err(TraceError::NothingThere { .. })));
    assert!(matches!(t.between(5, 2), Err(TraceError::NothingThere { .. })));
    assert_eq!(t.slice(2, 2), Err(TraceError::Ends { have: 1, asked: 2 }));
    assert_eq!(t.slice(usize::MAX, 2), Err(TraceError::Ends { have: 0, asked: 2 }));
}

#[test]
fn offsets_end_with_the_trace_or_start_over() {
    let t = Trace::parse("t_s\n0\n1\n4\n").expect("a trace"); // mean distance 2 s
    assert_eq!(t.offsets(Until::Count(2)), Ok(vec![0, S]));
    assert_eq!(t.offsets(Until::Horizon(4 * S)), Ok(vec![0, S]));
    assert_eq!(t.offsets(Until::Count(4)), Err(TraceError::Ends { have: 3, asked: 4 }));
    assert_eq!(t.cycled(Until::Count(5)), Ok(vec![0, S, 4 * S, 6 * S, 7 * S]));
    assert_eq!(t.cycled(Until::Horizon(7 * S)), Ok(vec![0, S, 4 * S, 6 * S]));
    assert!(matches!(t.cycled(Until::Horizon(u64::MAX)), Err(TraceError::TooMany(_))));
    let one = Trace::parse("t_s\n3\n").expect("a trace");
    assert_eq!(one.cycled(Until::Count(2)), Err(TraceError::NoRate(1)));
}

#[test]
fn wrong_files_are_refused_with_line_and_column() {
    let cases = [
        ("", "the trace has no records"),
        ("\n \n", "the trace has no records"),
        ("t_s\n", "the trace has no records"),
        ("a,b\n1,2\n", "line 1: the columns are `a`, `b`"),
        ("t_s,x\n1,2\n3\n", "line 3: there are 1 cells and the header has 2"),
        ("t_s\n1\n\nsoon\n", "line 4, column `t_s`: `soon` is not a time in seconds"),
        ("t_s\n-1\n", "line 2, column `t_s`: `-1` is not a time in seconds"),
        ("t_s\nNaN\n", "`NaN` is not a time in seconds"),
        ("t_s\n1e300\n", "`1e300` is not a time in seconds"),
        ("t_s,prompt_tokens\n1,2.5\n", "line 2, column `prompt_tokens`: `2.5` is not a number of tokens"),
        (
            "timestamp\n1\n2024-01-01 00:00:00\n",
            "line 3, column `timestamp`: `2024-01-01 00:00:00` is not a time in seconds",
        ),
        ("timestamp\nnoon\n", "`noon` is not a time in seconds, or a date"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-01 00:00:00,1,1\n", "line 2, column `TIMESTAMP`"),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-01 00:00:00,-4,1\n",
            "column `ContextTokens`: `-4`",
        ),
        ("Timestamp,Model,Request tokens,Response tokens\nx,m,1,1\n", "line 2, column `Timestamp`: `x`"),
        ("{\"t_s\": 1}\n{\"t_s\": }\n", "line 2, character 9: not a JSON object: expected value"),
        ("{\"t_s\": 1}\n[1]\n", "line 2, character 0: not a JSON object"),
        ("{\"t_s\": 1}\n{\"x\": 1}\n", "line 2: there is no field `t_s`"),
        ("{\"when\": 1}\n", "line 1: there is no field `timestamp`"),
        ("{\"timestamp\": \"x\", \"input_length\": 3}\n", "`x` is not a time in milliseconds"),
        (
            "{\"timestamp\": 1, \"input_length\": \"many\"}\n",
            "column `input_length`: `many` is not a number of tokens",
        ),
        ("{\"timestamp\": true}\n", "line 1, column `timestamp`: `true` is not a time"),
    ];
    for (text, words) in cases {
        let e = Trace::parse(text).expect_err(text).to_string();
        assert!(e.contains(words), "{text:?}: {e}");
    }
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record =
        (0u64..30 * 86_400 * S, any::<Option<u32>>(), any::<Option<u32>>()).prop_map(|(at_ns, p, o)| {
            Record { at_ns, prompt_tokens: p.map(u64::from), output_tokens: o.map(u64::from) }
        });
    prop::collection::vec(record, 1..60)
}

proptest! {
    #[test]
    fn csv_gives_back_what_was_written(records in records()) {
        let t = Trace::of(Format::Csv, records).expect("a trace");
        let back = Trace::parse(&t.to_csv()).expect("our own file");
        let start = t.records()[0].at_ns;
        let moved: Vec<Record> =
            t.records().iter().map(|r| Record { at_ns: r.at_ns - start, ..*r }).collect();
        prop_assert_eq!(back.records(), &moved[..]);
        prop_assert_eq!(back.reordered(), 0);
    }

    #[test]
    fn scaled_and_sliced_traces_stay_in_order(records in records(), rate in 0.01f64..1e4, from: u32, len: u32) {
        let t = Trace::of(Format::Csv, records).expect("a trace");
        if let Ok(s) = t.at_rate(rate) {
            prop_assert!(times(&s).is_sorted());
            prop_assert_eq!(s.records().len(), t.records().len());
            let got = s.rate_per_s().expect("a rate");
            prop_assert!((got / rate - 1.0).abs() < 1e-4, "{} for {}", got, rate);
        }
        let (from, to) = (u64::from(from) * MS, u64::from(from) * MS + u64::from(len) * MS);
        if let Ok(s) = t.between(from, to) {
            prop_assert!(times(&s).is_sorted());
            prop_assert!(times(&s).iter().all(|&at| at < to - from));
            let inside = t.records().iter().filter(|r| (from..to).contains(&r.at_ns)).count();
            prop_assert_eq!(s.records().len(), inside);
        }
    }

    #[test]
    fn turns_of_a_trace_follow_each_other(records in records(), n in 1usize..300) {
        let t = Trace::of(Format::Csv, records).expect("a trace");
        if let Ok(o) = t.cycled(Until::Count(n)) {
            prop_assert_eq!(o.len(), n);
            prop_assert!(o.is_sorted());
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,40}(\n\\PC{0,40}){0,4}") {
        let _ = Trace::parse(&text);
    }

    #[test]
    fn no_broken_trace_makes_the_reader_panic(
        head in "(t_s|timestamp|TIMESTAMP,ContextTokens|Timestamp,Request tokens)",
        rows in prop::collection::vec("[0-9a-z:. ,\"{}+-]{0,30}", 0..5),
    ) {
        let _ = Trace::parse(&format!("{head}\n{}", rows.join("\n")));
    }
}

#[test]
fn blocks_stay_with_their_records() {
    let text = "{\"timestamp\": 900, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [7, 9]}
{\"timestamp\": 0, \"input_length\": 100, \"output_length\": 1, \"hash_ids\": [3]}
{\"timestamp\": 500, \"input_length\": 100, \"output_length\": 1}
";
    let t = Trace::parse(text).expect("a trace");
    let blocks = |t: &Trace| (0..t.records().len()).map(|i| t.blocks(i).to_vec()).collect::<Vec<_>>();
    assert_eq!(blocks(&t), [vec![3], vec![], vec![7, 9]]);
    assert!(t.has_blocks() && t.blocks(3).is_empty());
    assert_eq!(blocks(&t.at_rate(1.0).expect("a rate")), blocks(&t));
    let late = t.between(400 * MS, S).expect("a slice");
    assert_eq!(blocks(&late), [vec![], vec![7, 9]]);
    assert_eq!(blocks(&late.slice(1, 1).expect("a slice")), [vec![7, 9]]);
    assert_ne!(t, Trace::parse(&text.replace("[3]", "[4]")).expect("a trace"));
    assert_eq!(late.slice(1, 1), t.slice(2, 1), "wherever the ids are kept");
    assert!(!Trace::parse("t_s\n1\n").expect("a trace").has_blocks());
    let e =
        Trace::parse("{\"timestamp\": 0, \"input_length\": 1, \"hash_ids\": [1, -2]}").expect_err("refused");
    assert!(e.to_string().contains("line 1, column `hash_ids`: `[1,-2]` is not a list of block ids"), "{e}");
}
