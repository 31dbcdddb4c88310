//! Whether the shares of GPU memory of several servers fit on one card, or on one part of it.

const GIB: f64 = (1u64 << 30) as f64;
/// What rounding of decimal fractions may add up to.
const ROUNDING: f64 = 1e-9;

/// Why shares of memory do not fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MemoryError {
    /// A share outside (0, 1].
    #[error("give server `{server}` the share {share} of GPU memory: a share is above 0 and at most 1")]
    Share {
        /// Server's name.
        server: String,
        /// Its share.
        share: f64,
    },
    /// Several servers without a share: each takes nearly the whole card by default.
    #[error(
        "share the GPU's memory: set `memory_share` of {}; a server without one takes most of the card, and at \
         most one server can do so",
        .servers.iter().map(|s| format!("`{s}`")).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// Names of all servers without a share.
        servers: Vec<String>,
    },
    /// More is asked for than there is.
    #[error(
        "share the GPU's memory: {} {:.2} of it{}{}",
        describe(shares), sum, sizes(*sum, *total, *in_use), most(*total, *in_use)
    )]
    TooMuch {
        /// Servers and their shares.
        shares: Vec<(String, f64)>,
        /// Sum of the shares.
        sum: f64,
        /// Memory of the card in bytes; 0: not known.
        total: u64,
        /// Memory that others use in bytes.
        in_use: u64,
    },
    /// All is given away, and there is a server without a share.
    #[error(
        "share the GPU's memory: server `{server}` has no share and the others leave {:.1} GiB of {:.1} GiB; lower their \
         shares",
        (*left as f64) / GIB, *total as f64 / GIB
    )]
    NothingLeft {
        /// The server without a share.
        server: String,
        /// What is left in bytes.
        left: u64,
        /// Memory of the card in bytes.
        total: u64,
    },
}

fn describe(shares: &[(String, f64)]) -> String {
    let each: Vec<String> = shares.iter().map(|(n, s)| format!("`{n}` {s}")).collect();
    format!("{} {}", each.join(", "), if shares.len() > 1 { "together ask for" } else { "asks for" })
}

fn sizes(sum: f64, total: u64, in_use: u64) -> String {
    if total == 0 {
        return String::new();
    }
    let [asked, used, all] = [sum * total as f64, in_use as f64, total as f64].map(|bytes| bytes / GIB);
    format!(" ({asked:.1} GiB), in use are {used:.1} GiB, the card has {all:.1} GiB")
}

fn most(total: u64, in_use: u64) -> String {
    let most = if total == 0 { 1.0 } else { total.saturating_sub(in_use) as f64 / total as f64 };
    // Rounded down: what is advised must fit.
    format!("; the shares may add up to at most {:.2}", (most * 100.0).floor() / 100.0)
}

/// Checks shares of one card's memory. A share is a part of the whole card (as vLLM takes it), not of what is free;
/// `total` and `in_use` are in bytes, `in_use` without these servers; `total` is 0 where it is not known. A MIG instance is a card
/// of its own.
///
/// One server may be without a share: it gets what the others leave.
///
/// # Errors
/// A share outside (0, 1], several servers without one, or a sum that with `in_use` exceeds the card. The message
/// gives GiB.
pub fn check_shares(shares: &[(&str, Option<f64>)], total: u64, in_use: u64) -> Result<(), MemoryError> {
    let mut given = Vec::new();
    let mut missing = Vec::new();
    for &(name, share) in shares {
        match share {
            Some(s) if s > 0.0 && s <= 1.0 => given.push((name.to_owned(), s)),
            Some(share) => return Err(MemoryError::Share { server: name.to_owned(), share }),
            None => missing.push(name.to_owned()),
        }
    }
    if missing.len() > 1 {
        return Err(MemoryError::Missing { servers: missing });
    }
    let sum: f64 = given.iter().map(|(_, s)| s).sum();
    let used = in_use as f64 / total.max(1) as f64;
    if !given.is_empty() && sum + used > 1.0 + ROUNDING {
        return Err(MemoryError::TooMuch { shares: given, sum, total, in_use });
    }
    if let Some(server) = missing.pop()
        && sum + used > 1.0 - ROUNDING
    {
        let left = ((1.0 - sum - used).max(0.0) * total as f64) as u64;
        return Err(MemoryError::NothingLeft { server, left, total });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    const TOTAL: u64 = 80 << 30;

    #[test]
    fn what_fits_passes() {
        assert_eq!(check_shares(&[("a", Some(0.45)), ("b", Some(0.45))], TOTAL, 4 << 30), Ok(()));
        // 0.1 + 0.2 + 0.7 is not quite 1 in binary.
        assert_eq!(check_shares(&[("a", Some(0.1)), ("b", Some(0.2)), ("c", Some(0.7))], TOTAL, 0), Ok(()));
        assert_eq!(check_shares(&[("a", None)], TOTAL, 4 << 30), Ok(()));
        assert_eq!(check_shares(&[("a", Some(0.5)), ("b", None)], TOTAL, 4 << 30), Ok(()));
        assert_eq!(check_shares(&[], 0, 0), Ok(()));
        // Without a size there is still a whole that shares are of.
        assert_eq!(check_shares(&[("a", Some(0.6)), ("b", Some(0.4))], 0, 0), Ok(()));
        let e = check_shares(&[("a", Some(0.6)), ("b", Some(0.6))], 0, 0).unwrap_err().to_string();
        assert_eq!(
            e,
            "share the GPU's memory: `a` 0.6, `b` 0.6 together ask for 1.20 of it; the shares may add up to at most 1.00"
        );
    }

    #[test]
    fn what_does_not_fit_is_told_in_gib() {
        let e = check_shares(&[("a", Some(0.6)), ("b", Some(0.4))], TOTAL, 8 << 30).unwrap_err().to_string();
        assert_eq!(
            e,
            "share the GPU's memory: `a` 0.6, `b` 0.4 together ask for 1.00 of it (80.0 GiB), in use are 8.0 GiB, \
             the card has 80.0 GiB; the shares may add up to at most 0.90"
        );
    }

    #[test]
    fn shares_outside_their_range_are_refused() {
        for s in [0.0, -0.1, 1.01, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(check_shares(&[("a", Some(s))], TOTAL, 0), Err(MemoryError::Share { .. })),
                "{s}"
            );
        }
    }

    #[test]
    fn servers_without_a_share_are_named() {
        let e = check_shares(&[("a", None), ("b", Some(0.3)), ("c", None)], TOTAL, 0).unwrap_err();
        assert_eq!(e, MemoryError::Missing { servers: vec!["a".into(), "c".into()] });
        assert!(e.to_string().contains("`memory_share` of `a`, `c`"), "{e}");
        let e = check_shares(&[("a", None), ("b", Some(1.0))], TOTAL, 0).unwrap_err();
        assert!(matches!(e, MemoryError::NothingLeft { .. }), "{e}");
    }
}
