//! Distances between moments of many series, kept as sketches by second, since there may be more of them than can be
//! kept. Where there are more seconds than can be kept, two become one, as often as is needed.

use crate::Sketch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SECOND_NS: u64 = 1_000_000_000;
/// Most slots: ten minutes of seconds. Then slots are twice as long, and half as many.
const SLOTS: usize = 600;

/// Gaps between the chunks of streams, by the second in which they ended, or by 2, 4, … seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gaps {
    /// How often slots were made twice as long: they are of 2 to the power of this many seconds, and are named by their first.
    #[serde(default, skip_serializing_if = "is_zero")]
    doublings: u32,
    /// Between chunks with content, ms, each chunk once.
    chunk: BTreeMap<u64, Sketch>,
    /// Between tokens, ms: a gap before a chunk of k tokens counts k times a k-th of it.
    token: BTreeMap<u64, Sketch>,
}

fn is_zero(v: &u32) -> bool {
    *v == 0
}

impl Gaps {
    /// Seconds of a slot; no time of 64 bits of nanoseconds has more than 2 to the power of 34 of them.
    fn slot_s(&self) -> u64 {
        1 << self.doublings.min(34)
    }

    /// Adds a stream of `tokens` tokens whose chunks came at these times, ns. Tokens of single chunks are not told, so
    /// each chunk has the mean of its stream.
    pub fn add(&mut self, tokens: u32, stamps: &[u64]) {
        if stamps.len() < 2 {
            return;
        }
        let tokens = (f64::from(tokens) / stamps.len() as f64).max(1.0);
        for pair in stamps.windows(2) {
            let ms = pair[1].saturating_sub(pair[0]) as f64 / 1e6;
            let second = pair[1] / SECOND_NS;
            let slot = second - second % self.slot_s();
            self.chunk.entry(slot).or_default().add(ms, 1.0);
            self.token.entry(slot).or_default().add(ms / tokens, tokens);
            while self.chunk.len() > SLOTS {
                self.doublings += 1;
                let slot_s = self.slot_s();
                for by_slot in [&mut self.chunk, &mut self.token] {
                    for (slot, sketch) in std::mem::take(by_slot) {
                        by_slot.entry(slot - slot % slot_s).or_default().merge(&sketch, 1.0);
                    }
                }
            }
        }
    }

    /// Gaps between chunks in a window, ms.
    pub fn by_chunk(&self, from_ns: u64, to_ns: u64) -> Sketch {
        self.blocks(from_ns, to_ns, 1).0.into_iter().next().unwrap_or_default()
    }

    /// Sketches of `blocks` equal stretches of a window, by chunk and by token. Slots are not divided: one counts
    /// where its middle lies.
    pub fn blocks(&self, from_ns: u64, to_ns: u64, blocks: usize) -> (Vec<Sketch>, Vec<Sketch>) {
        let slot_ns = self.slot_s() * SECOND_NS;
        let of = |by_slot: &BTreeMap<u64, Sketch>| {
            let mut out = vec![Sketch::default(); blocks.max(1)];
            let length = to_ns.saturating_sub(from_ns).max(1);
            for (slot, sketch) in by_slot {
                let middle = slot.saturating_mul(SECOND_NS).saturating_add(slot_ns / 2);
                // A window shorter than a slot has no middle of one within it: then the whole phase counts.
                let at = middle.saturating_sub(from_ns);
                let within = middle >= from_ns && middle < to_ns;
                if within || length / 2 < slot_ns {
                    let block =
                        (at.min(length - 1) as u128 * out.len() as u128 / u128::from(length)) as usize;
                    out[block].merge(sketch, 1.0);
                }
            }
            out
        };
        (of(&self.chunk), of(&self.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_by_chunk_and_by_token_fall_into_their_stretch() {
        let ms = |v: u64| v * 1_000_000;
        let mut gaps = Gaps::default();
        gaps.add(9, &[ms(1000), ms(1040), ms(1080)]);
        gaps.add(1, &[ms(5000)]);
        gaps.add(3, &[ms(7000), ms(7010), ms(7020)]);
        let (chunk, token) = gaps.blocks(0, ms(10_000), 10);
        let weights = |b: &[Sketch]| b.iter().map(Sketch::weight).collect::<Vec<_>>();
        assert_eq!(weights(&chunk), [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
        assert_eq!(weights(&token), [0.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
        let near =
            |q: Option<f64>, want: f64| assert!(q.is_some_and(|q| (q / want - 1.0).abs() < 0.004), "{q:?}");
        near(chunk[1].quantile(0.5), 40.0);
        near(token[1].quantile(0.5), 40.0 / 3.0);
        near(token[7].quantile(0.5), 10.0);
        // Outside of the window nothing counts; a window of under two seconds takes all.
        assert_eq!(weights(&gaps.blocks(ms(2000), ms(6000), 1).0), [0.0]);
        assert_eq!(weights(&gaps.blocks(ms(1000), ms(1500), 1).0), [4.0]);
        let text = serde_json::to_string(&gaps).expect("printed");
        assert_eq!(serde_json::from_str::<Gaps>(&text).expect("read"), gaps);
    }

    #[test]
    fn hours_are_kept_in_longer_slots_and_lose_nothing() {
        let mut gaps = Gaps::default();
        for second in 0..5000 {
            gaps.add(2, &[second * SECOND_NS, second * SECOND_NS + 20_000_000]);
        }
        assert_eq!((gaps.doublings, gaps.chunk.len(), gaps.token.len()), (4, 313, 313));
        let (chunk, token) = gaps.blocks(0, 4800 * SECOND_NS, 20);
        for block in chunk.iter().chain(&token) {
            assert_eq!(block.weight(), 240.0);
            assert!(block.quantile(0.5).is_some_and(|q| (q / 20.0 - 1.0).abs() < 0.004));
        }
        let text = serde_json::to_string(&gaps).expect("printed");
        assert_eq!(serde_json::from_str::<Gaps>(&text).expect("read"), gaps);
    }
}
