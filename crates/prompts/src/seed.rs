//! A generator for each thing that is drawn, so that none depends on how much another draws.

use cotenant_load::stream_seed;
use rand::SeedableRng;
use rand_pcg::Pcg64;

/// Generator of the `index`-th thing of a kind.
pub(crate) fn generator(seed: u64, kind: &str, index: u64) -> Pcg64 {
    Pcg64::seed_from_u64(stream_seed(seed, kind, index))
}
