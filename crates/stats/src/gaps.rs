//! Distances between moments of many series, kept as sketches by second, since there may be more of them than can be
//! kept.

use crate::Sketch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SLOT_NS: u64 = 1_000_000_000;

/// Gaps between the chunks of streams, by the second in which they ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gaps {
    /// Between chunks with content, ms, each chunk once.
    chunk: BTreeMap<u64, Sketch>,
    /// Between tokens, ms: a gap before a chunk of k tokens counts k times a k-th of it.
    token: BTreeMap<u64, Sketch>,
}

impl Gaps {
    /// Adds a stream of `tokens` tokens whose chunks came at these times, ns. Tokens of single chunks are not told, so
    /// each chunk has the mean of its stream.
    pub fn add(&mut self, tokens: u32, stamps: &[u64]) {
        if stamps.len() < 2 {
            return;
        }
        let tokens = (f64::from(tokens) / stamps.len() as f64).max(1.0);
        for pair in stamps.windows(2) {
            let ms = pair[1].saturating_sub(pair[0]) as f64 / 1e6;
            let slot = pair[1] / SLOT_NS;
            self.chunk.entry(slot).or_default().add(ms, 1.0);
            self.token.entry(slot).or_default().add(ms / tokens, tokens);
        }
    }

    /// Sketches of `blocks` equal stretches of a window, by chunk and by token. Seconds are not divided: one counts
    /// where its middle lies.
    pub fn blocks(&self, from_ns: u64, to_ns: u64, blocks: usize) -> (Vec<Sketch>, Vec<Sketch>) {
        let of = |by_second: &BTreeMap<u64, Sketch>| {
            let mut out = vec![Sketch::default(); blocks.max(1)];
            let length = to_ns.saturating_sub(from_ns).max(1);
            for (second, sketch) in by_second {
                let middle = second * SLOT_NS + SLOT_NS / 2;
                // A window shorter than a second has no middle of one within it: then the whole phase counts.
                let at = middle.saturating_sub(from_ns);
                let within = middle >= from_ns && middle < to_ns;
                if within || length < 2 * SLOT_NS {
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
}
