//! Experiments that the tests run.

/// A pair of sleeping kernels: its numbers depend on the noise of the seed, and on no contention law.
pub const PAIR: &str = r#"format = 1
name = "pair"
title = "A pair"
summary = "Two kernels that sleep."

[measure]
repeats = [3, 3]
precision = 0.5
budget = "10s"
warmup = 0

[tenants.a]
kernel = "sleep"
blocks = "sms"
threads = 256
params = { ns = "10us" }
iterations = 100

[tenants.b]
kernel = "sleep"
blocks = 8
threads = 128
params = { ns = "10us" }
iterations = 50

[[trial]]
name = "both"
sharing = "streams"
tenants = ["a", "b"]
"#;

/// [`PAIR`] with something replaced, which must stand there once.
#[track_caller]
pub fn pair(from: &str, to: &str) -> String {
    assert_eq!(PAIR.matches(from).count(), 1, "`{from}` must stand once in the pair");
    PAIR.replace(from, to)
}

/// Trials of [`many`].
pub const MANY: usize = 16;

/// An experiment with [`MANY`] trials of `repeats` repeats each. No wall-clock rule takes part, so that two runs of
/// one seed are the same run whatever interrupts them.
pub fn many(repeats: u32) -> String {
    let values: Vec<String> = (1..=MANY).map(|n| n.to_string()).collect();
    format!(
        r#"format = 1
name = "many"
title = "Many trials"
summary = "Trials enough to be interrupted."

[measure]
repeats = [{repeats}, {repeats}]
precision = 0.5
budget = "1000s"
warmup = 1

[tenants.a]
kernel = "sleep"
blocks = "sms"
threads = 256
params = {{ ns = "10us" }}
iterations = "100*n"

[tenants.b]
kernel = "fp32-mul"
blocks = "sms/2"
threads = 128
iterations = "1000*n"

[[trial]]
name = "t{{n}}"
sharing = "streams"
tenants = ["a", "b"]
sweep = {{ n = [{}] }}
"#,
        values.join(", ")
    )
}
