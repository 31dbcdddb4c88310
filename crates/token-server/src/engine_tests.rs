use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Takes 1 ms and notes what it was asked.
#[derive(Default)]
struct Noted(Mutex<Vec<Step>>);

impl StepTime for Noted {
    fn step_ns(&self, step: &Step) -> u64 {
        self.0.lock().unwrap().push(*step);
        1_000_000
    }
}

fn engine(running: u32, blocks: u32, block_tokens: u32, budget: u32) -> (Engine<u64>, Arc<Noted>) {
    let noted = Arc::new(Noted::default());
    let batching = Batching {
        max_running: running,
        kv_blocks: blocks,
        block_tokens,
        max_batched_tokens: budget,
        step: Arc::<Noted>::clone(&noted),
    };
    (Engine::new(&batching), noted)
}

fn step(prefill_tokens: u32, decode_sequences: u32, context_tokens: u64) -> Step {
    Step { prefill_tokens, decode_sequences, context_tokens }
}

fn turn(e: &mut Engine<u64>) -> Vec<(u64, bool)> {
    e.start_step(0).expect("there is work");
    e.finish_step().iter().map(|t| (t.key, t.finished)).collect()
}

#[test]
fn a_linear_step_adds_its_terms() {
    let l = LinearStep {
        base_ns: 100.0,
        per_prefill_token_ns: 10.0,
        per_sequence_ns: 1.0,
        per_context_token_ns: 0.25,
    };
    assert_eq!(l.step_ns(&step(3, 2, 8)), 100 + 30 + 2 + 2);
    assert_eq!(LinearStep { base_ns: -1e9, ..l }.step_ns(&step(0, 0, 0)), 0);
    assert_eq!(LinearStep { base_ns: f64::NAN, ..l }.step_ns(&step(0, 0, 0)), 0);
}

#[test]
fn a_prompt_longer_than_the_budget_is_computed_in_chunks() {
    let (mut e, noted) = engine(8, 100, 16, 10);
    assert!(e.add(1, 25, 3));
    assert_eq!(e.start_step(7), Some(1_000_007));
    assert_eq!(e.start_step(8), None, "an iteration is under way");
    assert_eq!(e.finish_step(), []);
    assert_eq!(turn(&mut e), []);
    assert_eq!(turn(&mut e), [(1, false)]);
    assert_eq!(turn(&mut e), [(1, false)]);
    assert_eq!(turn(&mut e), [(1, true)]);
    assert_eq!(e.start_step(0), None);
    assert_eq!(
        *noted.0.lock().unwrap(),
        [step(10, 0, 0), step(10, 0, 0), step(5, 0, 0), step(0, 1, 26), step(0, 1, 27)]
    );
    assert_eq!(e.kv_usage(), 0.0);
}

#[test]
fn decodes_go_before_prompts() {
    let (mut e, noted) = engine(8, 100, 16, 10);
    assert!(e.add(1, 4, 3));
    turn(&mut e);
    assert!(e.add(2, 12, 2));
    assert_eq!(turn(&mut e), [(1, false)]);
    assert_eq!(turn(&mut e), [(1, true), (2, false)]);
    assert_eq!(noted.0.lock().unwrap()[1..], [step(9, 1, 5), step(3, 1, 6)]);
}

#[test]
fn more_requests_than_run_wait_in_order() {
    let (mut e, _) = engine(1, 100, 16, 100);
    assert!(e.add(1, 4, 1) && e.add(2, 4, 1));
    e.start_step(0);
    assert_eq!((e.running(), e.waiting()), (1, 1));
    assert_eq!(e.finish_step(), [Emitted { key: 1, finished: true }]);
    assert_eq!(turn(&mut e), [(2, true)]);
}

#[test]
fn the_sequence_admitted_last_gives_up_its_blocks() {
    // Three blocks of two tokens; each prompt fills one, and each answer of four tokens wants one and a half more.
    let (mut e, noted) = engine(8, 3, 2, 100);
    assert!(e.add(1, 2, 4) && e.add(2, 2, 4));
    assert_eq!(turn(&mut e), [(1, false), (2, false)]);
    assert!((e.kv_usage() - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(turn(&mut e), [(1, false)], "the last block went to the first");
    assert_eq!((e.preemptions(), e.running(), e.waiting()), (1, 1, 1));
    assert_eq!(turn(&mut e), [(1, false)], "two blocks are needed to come back, one is free");
    assert_eq!(turn(&mut e), [(1, true)]);
    assert_eq!(turn(&mut e), [(2, false)], "prompt and answer so far are computed again");
    assert_eq!(noted.0.lock().unwrap().last(), Some(&step(3, 0, 0)));
    assert_eq!(turn(&mut e), [(2, false)]);
    assert_eq!(turn(&mut e), [(2, true)]);
    assert_eq!((e.kv_usage(), e.preemptions()), (0.0, 1));
}

#[test]
fn what_can_never_fit_is_refused() {
    let (mut e, _) = engine(8, 2, 4, 100);
    assert!(!e.add(1, 8, 2));
    assert!(!e.add(1, u32::MAX, 2));
    assert!(e.add(1, 8, 1), "the last token needs no room");
    assert_eq!(turn(&mut e), [(1, true)]);
}

#[test]
fn a_cancelled_request_frees_its_blocks_even_within_an_iteration() {
    let (mut e, _) = engine(1, 4, 4, 100);
    assert!(e.add(1, 16, 1) && e.add(2, 16, 1) && e.add(3, 16, 1));
    e.start_step(0);
    e.cancel(1);
    e.cancel(2);
    assert_eq!(e.kv_usage(), 0.0);
    assert_eq!(e.finish_step(), []);
    assert_eq!(turn(&mut e), [(3, true)]);
}

proptest! {
    #[test]
    fn blocks_are_conserved_and_every_request_ends_with_its_tokens(
        running in 1_u32..6,
        blocks in 1_u32..12,
        block_tokens in 1_u32..6,
        budget in 1_u32..24,
        requests in prop::collection::vec((1_u32..20, 1_u32..20, 0_u32..4, prop::bool::weighted(0.1)), 1..24),
    ) {
        let (mut e, _) = engine(running, blocks, block_tokens, budget);
        let mut wanted = BTreeMap::new();
        let mut got: BTreeMap<u64, u32> = BTreeMap::new();
        let mut left: VecDeque<_> = requests.iter().copied().zip(0_u64..).collect();
        let mut pause = 0;
        for turns in 0.. {
            prop_assert!(turns < 100_000, "no progress");
            while pause == 0 && let Some(((prompt, target, gap, cancel), key)) = left.pop_front() {
                pause = gap;
                let fits = (prompt + target - 1).div_ceil(block_tokens) <= blocks;
                prop_assert_eq!(e.add(key, prompt, target), fits);
                if cancel {
                    e.cancel(key / 2);
                    wanted.remove(&(key / 2));
                }
                if fits && !(cancel && key / 2 == key) {
                    wanted.insert(key, target);
                }
            }
            pause = pause.saturating_sub(1);
            let started = e.start_step(turns).is_some();
            let held: u32 = e.running.iter().map(|s| s.blocks).sum();
            prop_assert_eq!(held + e.free_blocks, e.kv_blocks);
            prop_assert!(e.running.len() <= running as usize);
            prop_assert!(e.waiting.iter().all(|s| s.blocks == 0 && s.scheduled == 0));
            for s in &e.running {
                prop_assert!(s.computed + s.scheduled <= s.blocks * block_tokens);
            }
            if !started {
                prop_assert!(e.running() == 0 && e.waiting() == 0, "stuck");
                if left.is_empty() {
                    break;
                }
                continue;
            }
            for t in e.finish_step().to_vec() {
                *got.entry(t.key).or_default() += 1;
                if let Some(&target) = wanted.get(&t.key) {
                    prop_assert_eq!(t.finished, got[&t.key] == target);
                }
            }
        }
        for (key, target) in &wanted {
            prop_assert_eq!(got.get(key), Some(target));
        }
        prop_assert_eq!(e.free_blocks, e.kv_blocks);
    }
}
