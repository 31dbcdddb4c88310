//! What a server says about itself: the Prometheus text format, and the few values that all kinds of servers have.

use std::fmt;

/// One value of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name, such as `vllm:num_requests_running`.
    pub name: String,
    /// Names and values of labels in the order of the text.
    pub labels: Vec<(String, String)>,
    /// Value; may be infinite or not a number.
    pub value: f64,
}

impl fmt::Display for Sample {
    /// As a line of the text format, without the line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (k, v)) in self.labels.iter().enumerate() {
            let v = v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{}{k}=\"{v}\"", if i == 0 { "{" } else { "," })?;
        }
        if !self.labels.is_empty() {
            f.write_str("}")?;
        }
        match self.value {
            v if v.is_nan() => f.write_str(" NaN"),
            v if v == f64::INFINITY => f.write_str(" +Inf"),
            v if v == f64::NEG_INFINITY => f.write_str(" -Inf"),
            v => write!(f, " {v}"),
        }
    }
}

/// Reads the text format. Comments, and lines that are not of the format, are left out; time stamps are ignored.
pub fn parse(text: &str) -> Vec<Sample> {
    text.lines().filter_map(sample).collect()
}

fn name_end(s: &str) -> usize {
    s.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(s.len())
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    let (name, rest) = line.split_at(name_end(line));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut rest = rest.trim_start();
    let mut found = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        (found, rest) = labels(inner)?;
    }
    let value = rest.split_ascii_whitespace().next()?;
    // Rust reads `Inf`, `+Inf` and `NaN` in any case, as the format writes them.
    Some(Sample { name: name.to_owned(), labels: found, value: value.parse().ok()? })
}

type Labels = Vec<(String, String)>;

/// Labels after the opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut out = Vec::new();
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((out, after));
        }
        let (name, after) = rest.split_at(name_end(rest));
        let quoted = after.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        if name.is_empty() {
            return None;
        }
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (i, '"') => break i,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    c => value.push(c),
                },
                (_, c) => value.push(c),
            }
        };
        out.push((name.to_owned(), value));
        rest = &quoted[end + 1..];
    }
}

/// What a server says of its queue and its cache; `None` where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ServerState {
    /// Requests that are being worked on.
    pub running: Option<f64>,
    /// Requests that wait for a place.
    pub waiting: Option<f64>,
    /// Part of the KV cache that is in use, 0 to 1; the fullest where a server has several.
    pub kv_usage: Option<f64>,
    /// Requests that lost their place to others so far.
    pub preemptions: Option<f64>,
    /// Prompt tokens so far.
    pub prompt_tokens: Option<f64>,
    /// Generated tokens so far.
    pub generation_tokens: Option<f64>,
    /// Time that requests waited for their place so far, all together, s.
    pub queue_time_s: Option<f64>,
    /// Requests that `queue_time_s` is of.
    pub queued: Option<f64>,
}

impl ServerState {
    /// From a server's samples, whichever kind it is. Counts of several engines in one server are added.
    ///
    /// Names are those of the documentation of vLLM (and the older `gpu_cache_usage_perc`), SGLang, TGI and
    /// llama.cpp; a `:` in a name may also be a `_`. SGLang's `num_retracted_reqs` is no count of all so far and is not
    /// taken for one.
    pub fn from_samples(samples: &[Sample]) -> ServerState {
        let values = |wanted: &[&str]| -> Option<Vec<f64>> {
            wanted.iter().find_map(|w| {
                let of = |s: &&Sample| s.name == *w || (w.contains(':') && s.name == w.replace(':', "_"));
                let v: Vec<f64> =
                    samples.iter().filter(of).map(|s| s.value).filter(|v| !v.is_nan()).collect();
                (!v.is_empty()).then_some(v)
            })
        };
        let sum = |wanted: &[&str]| values(wanted).map(|v| v.iter().sum());
        ServerState {
            running: sum(&[
                "vllm:num_requests_running",
                "sglang:num_running_reqs",
                "tgi_batch_current_size",
                "llamacpp:requests_processing",
            ]),
            waiting: sum(&[
                "vllm:num_requests_waiting",
                "sglang:num_queue_reqs",
                "tgi_queue_size",
                "llamacpp:requests_deferred",
            ]),
            kv_usage: values(&[
                "vllm:kv_cache_usage_perc",
                "vllm:gpu_cache_usage_perc",
                "sglang:token_usage",
                "llamacpp:kv_cache_usage_ratio",
            ])
            .map(|v| v.into_iter().fold(0.0, f64::max)),
            preemptions: sum(&[
                "vllm:num_preemptions_total",
                "vllm:num_preemptions",
                "sglang:num_retracted_requests_total",
                "sglang:num_retracted_reqs_total",
            ]),
            prompt_tokens: sum(&[
                "vllm:prompt_tokens_total",
                "sglang:prompt_tokens_total",
                "tgi_request_input_length_sum",
                "llamacpp:prompt_tokens_total",
            ]),
            generation_tokens: sum(&[
                "vllm:generation_tokens_total",
                "sglang:generation_tokens_total",
                "tgi_request_generated_tokens_sum",
                "llamacpp:tokens_predicted_total",
            ]),
            queue_time_s: sum(&["vllm:request_queue_time_seconds_sum", "tgi_request_queue_duration_sum"]),
            queued: sum(&["vllm:request_queue_time_seconds_count", "tgi_request_queue_duration_count"]),
        }
    }

    /// From the text of a metrics page.
    pub fn from_text(text: &str) -> ServerState {
        ServerState::from_samples(&parse(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vllm_new_and_old_names() {
        let text = "# HELP vllm:num_requests_running Number of requests in model execution batches.\n\
                    # TYPE vllm:num_requests_running gauge\n\
                    vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n\
                    vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 4.0\n\
                    vllm:num_requests_waiting{model_name=\"m\"} 2.0 1700000000000\n\
                    vllm:num_preemptions_total{model_name=\"m\"} 0.0\n\
                    vllm:prompt_tokens_total{model_name=\"m\"} 8.128902e+06\n\
                    vllm:prompt_tokens_created{model_name=\"m\"} 1.7e9\n\
                    vllm:generation_tokens_total{model_name=\"m\"} 12.0\n\
                    # TYPE vllm:request_queue_time_seconds histogram\n\
                    vllm:request_queue_time_seconds_bucket{engine=\"0\",le=\"0.3\",model_name=\"m\"} 2.0\n\
                    vllm:request_queue_time_seconds_bucket{engine=\"0\",le=\"+Inf\",model_name=\"m\"} 4.0\n\
                    vllm:request_queue_time_seconds_count{engine=\"0\",model_name=\"m\"} 4.0\n\
                    vllm:request_queue_time_seconds_sum{engine=\"0\",model_name=\"m\"} 1.5\n\
                    vllm:request_queue_time_seconds_count{engine=\"1\",model_name=\"m\"} 2.0\n\
                    vllm:request_queue_time_seconds_sum{engine=\"1\",model_name=\"m\"} 0.25\n";
        let new = format!("{text}vllm:kv_cache_usage_perc{{engine=\"0\"}} 0.25\n");
        let old = format!("{text}vllm:gpu_cache_usage_perc 0.25\n");
        for t in [new, old] {
            let expected = ServerState {
                running: Some(7.0),
                waiting: Some(2.0),
                kv_usage: Some(0.25),
                preemptions: Some(0.0),
                prompt_tokens: Some(8_128_902.0),
                generation_tokens: Some(12.0),
                queue_time_s: Some(1.75),
                queued: Some(6.0),
            };
            assert_eq!(ServerState::from_text(&t), expected);
        }
    }

    #[test]
    fn the_other_kinds() {
        let s = ServerState::from_text(
            "sglang:num_running_reqs{model_name=\"m\"} 5\nsglang:num_queue_reqs 1\nsglang_token_usage 0.5\n\
             sglang:num_retracted_reqs 9\n",
        );
        assert_eq!(
            (s.running, s.waiting, s.kv_usage, s.preemptions),
            (Some(5.0), Some(1.0), Some(0.5), None)
        );
        let s = ServerState::from_text(
            "tgi_queue_size 7\ntgi_batch_current_size 4\ntgi_request_generated_tokens_sum 8\n",
        );
        assert_eq!((s.running, s.waiting, s.generation_tokens), (Some(4.0), Some(7.0), Some(8.0)));
        let s = ServerState::from_text("llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n");
        assert_eq!((s.running, s.waiting, s.kv_usage), (Some(2.0), Some(1.0), None));
        assert_eq!(ServerState::from_text("<html>no metrics</html>"), ServerState::default());
    }

    #[test]
    fn lines_that_are_not_of_the_format_are_left_out() {
        let text =
            "a 1\nb{x=\"1\n{} 3\n9a 1\nc{x=y} 1\nd nothing\ne{x=\"\\\"\\\\\\n\",} +Inf\nf{} NaN # {} 1\n";
        let got = parse(text);
        assert_eq!(got.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "e", "f"]);
        assert_eq!(got[1].labels, [("x".to_owned(), "\"\\\n".to_owned())]);
        assert_eq!(got[1].value, f64::INFINITY);
        assert!(got[2].value.is_nan());
    }

    proptest! {
        #[test]
        fn never_panics(s in "\\PC*", lines in proptest::collection::vec("[a{}=\"\\\\,1 #é.]{0,30}", 0..8)) {
            let _ = ServerState::from_text(&s);
            let _ = ServerState::from_text(&lines.join("\n"));
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
            labels in proptest::collection::vec(("[a-z_][a-z0-9_]{0,8}", "[ -~é\\n]{0,20}"), 0..4),
            value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO | proptest::num::f64::INFINITE,
        ) {
            let s = Sample { name, labels, value };
            prop_assert_eq!(parse(&s.to_string()), vec![s]);
        }
    }
}
