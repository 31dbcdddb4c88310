//! From one experiment seed to a stream of random numbers for each tenant.

use sha2::{Digest, Sha256};

/// Seed of the arrivals of one tenant in one repeat.
///
/// The first eight bytes, little-endian, of SHA-256 over `cotenant-load 1`, a zero byte, `experiment` and `repeat` as
/// eight little-endian bytes each, and the tenant's name in UTF-8. Only the name counts, not the tenant's place: a
/// tenant added to an experiment leaves the arrivals of the others as they were.
pub fn stream_seed(experiment: u64, tenant: &str, repeat: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"cotenant-load 1\0");
    hash.update(experiment.to_le_bytes());
    hash.update(repeat.to_le_bytes());
    hash.update(tenant.as_bytes());
    let digest = hash.finalize();
    digest.iter().take(8).rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_is_the_documented_hash() {
        // python3: int.from_bytes(hashlib.sha256(b"cotenant-load 1\0" + (7).to_bytes(8, "little")
        //          + (0).to_bytes(8, "little") + b"chat").digest()[:8], "little")
        assert_eq!(stream_seed(7, "chat", 0), 8_814_989_875_735_934_830);
    }

    #[test]
    fn names_repeats_and_experiments_give_different_streams() {
        let mut seen = BTreeSet::new();
        for experiment in [0, 1, 7, u64::MAX] {
            for tenant in ["", "a", "b", "chat", "chat-1", "chat-2"] {
                for repeat in 0..10 {
                    assert!(seen.insert(stream_seed(experiment, tenant, repeat)));
                }
            }
        }
    }
}
