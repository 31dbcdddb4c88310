//! What a tenant is called in print: its model or program, and how it runs.

use cotenant_store::format::{TenantRecord, TrialRecord};
use serde_json::Value;

/// Characters of a list of arguments before it is cut.
const ARGUMENTS: usize = 60;

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Last part of a path or hub id.
fn last(path: &str) -> &str {
    path.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(path)
}

fn arguments(t: &TenantRecord) -> Vec<&str> {
    let list = t.workload.get("argv").and_then(Value::as_array);
    list.map_or_else(Vec::new, |l| l.iter().filter_map(Value::as_str).collect())
}

/// Model, program or kernel: `Llama-3.2-3B`, `serve.py`, `copy`.
pub fn model(t: &TenantRecord) -> String {
    let name = match t.kind.as_str() {
        "kernel" => t.kernel.as_str(),
        "torch" => last(text(&t.workload, "model")).trim_end_matches(".json"),
        _ => {
            let argv = arguments(t);
            let interpreter = argv.first().is_some_and(|p| last(p).starts_with("python"));
            let script = argv.iter().skip(1).find(|a| !a.starts_with('-'));
            match script {
                Some(script) if interpreter => last(script),
                _ => argv.first().map_or("", |p| last(p)),
            }
        }
    };
    if name.is_empty() { t.name.clone() } else { name.to_owned() }
}

/// How it runs: `forward, fp16, 8 × 128`, arguments of a program, shape of a kernel.
pub fn runs_as(t: &TenantRecord) -> String {
    match t.kind.as_str() {
        "kernel" => format!("{} × {}", t.blocks, t.threads),
        "torch" => {
            let w = &t.workload;
            let mut parts: Vec<String> = [text(w, "mode"), text(w, "dtype")]
                .iter()
                .filter(|s| !s.is_empty())
                .map(|s| (*s).into())
                .collect();
            if let (Some(batch), Some(sequence)) =
                (w.get("batch").and_then(Value::as_u64), w.get("sequence").and_then(Value::as_u64))
            {
                parts.push(format!("{batch} × {sequence}"));
            }
            for (key, word) in [("cuda_graph", "CUDA graph"), ("compile", "compiled")] {
                if w.get(key).and_then(Value::as_bool) == Some(true) {
                    parts.push(word.into());
                }
            }
            if text(w, "device") == "cpu" {
                parts.push("on the CPU".into());
            }
            parts.join(", ")
        }
        _ => {
            let mut line = arguments(t).get(1..).unwrap_or_default().join(" ");
            if let Some((cut, _)) = line.char_indices().nth(ARGUMENTS) {
                line.truncate(cut);
                line.push('…');
            }
            line
        }
    }
}

/// When it starts its requests: `100 iterations`, `100 iterations, poisson at 60 % of capacity`.
pub fn load(t: &TenantRecord) -> String {
    let mut parts = vec![match t.load.iterations {
        1 => "1 iteration".to_owned(),
        n => format!("{n} iterations"),
    }];
    if t.load.warmup > 0 {
        parts.push(format!("{} warm-up", t.load.warmup));
    }
    if t.load.gap_ns.0 > 0 {
        parts.push(format!("{} between", t.load.gap_ns));
    }
    if !t.load.arrivals.is_null() {
        parts.push(arrivals(&t.load.arrivals));
    }
    parts.join(", ")
}

fn arrivals(a: &Value) -> String {
    // The process is a word, or an object that names itself beside its numbers.
    let process = &a["process"];
    let name = process.as_str().or_else(|| process["process"].as_str()).unwrap_or("open loop");
    let mut out = name.to_owned();
    if let Some(cv) = process["cv"].as_f64() {
        out.push_str(&format!(" (CV {})", crate::scale::plain(cv)));
    }
    let rate = &a["rate"];
    if let Some(r) = rate["per_second"].as_f64() {
        out.push_str(&format!(" at {} per second", crate::scale::plain(r)));
    } else if let Some(share) = rate["of_capacity"].as_f64() {
        out.push_str(&format!(" at {} % of capacity", crate::scale::plain(100.0 * share)));
    }
    out
}

/// Names of the different workloads of some trials, in order of appearance: the model alone where that tells them
/// apart, else with how it runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Workloads {
    known: Vec<(TenantRecord, String)>,
}

impl Workloads {
    /// The workloads of `trials`.
    pub fn of<'a>(trials: impl IntoIterator<Item = &'a TrialRecord>) -> Self {
        let mut known: Vec<(TenantRecord, String)> = Vec::new();
        for t in trials.into_iter().flat_map(|t| &t.tenants) {
            if !known.iter().any(|(k, _)| same(k, t)) {
                known.push((t.clone(), model(t)));
            }
        }
        let short: Vec<String> = known.iter().map(|(_, name)| name.clone()).collect();
        for (t, name) in &mut known {
            if short.iter().filter(|s| *s == name).count() > 1 {
                let how = runs_as(t);
                if !how.is_empty() {
                    *name = format!("{name}, {how}");
                }
            }
        }
        Workloads { known }
    }

    /// Name of a tenant's workload.
    pub fn name(&self, t: &TenantRecord) -> String {
        self.known.iter().find(|(k, _)| same(k, t)).map_or_else(|| model(t), |(_, name)| name.clone())
    }

    /// All names, each once.
    pub fn names(&self) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for (_, name) in &self.known {
            if !out.contains(name) {
                out.push(name.clone());
            }
        }
        out
    }
}

/// Two tenants run the same thing.
fn same(a: &TenantRecord, b: &TenantRecord) -> bool {
    let kernel = |t: &TenantRecord| (t.kernel.clone(), t.blocks, t.threads, t.params.clone());
    a.kind == b.kind && a.workload == b.workload && kernel(a) == kernel(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_store::format::LoadRecord;
    use serde_json::json;

    fn tenant(kind: &str, workload: Value) -> TenantRecord {
        TenantRecord {
            name: "t".into(),
            kernel: String::new(),
            blocks: 0,
            threads: 0,
            launches: 0,
            request: 1,
            params: Default::default(),
            kind: kind.into(),
            role: String::new(),
            workload,
            load: LoadRecord { iterations: 100, warmup: 10, ..LoadRecord::default() },
        }
    }

    #[test]
    fn models_and_programs_are_named_by_their_last_word() {
        let llama = tenant(
            "torch",
            json!({"model": "meta-llama/Llama-3.2-3B", "mode": "decode", "dtype": "fp16", "batch": 8, "sequence": 128,
                   "cuda_graph": true}),
        );
        assert_eq!(model(&llama), "Llama-3.2-3B");
        assert_eq!(runs_as(&llama), "decode, fp16, 8 × 128, CUDA graph");
        let serve = tenant("command", json!({"argv": ["/usr/bin/python3", "-u", "tools/serve.py", "--x"]}));
        assert_eq!(model(&serve), "serve.py");
        assert_eq!(model(&tenant("command", json!({"argv": ["./bench", "1"]}))), "bench");
        assert_eq!(model(&tenant("command", Value::Null)), "t");
        let long = tenant("command", json!({"argv": ["a", "é".repeat(99)]}));
        assert_eq!(runs_as(&long).chars().count(), ARGUMENTS + 1);
    }

    #[test]
    fn loads_are_in_words() {
        let mut t = tenant("torch", json!({}));
        assert_eq!(load(&t), "100 iterations, 10 warm-up");
        t.load.arrivals = json!({"process": {"process": "gamma", "cv": 2.0}, "rate": {"of_capacity": 0.6}});
        assert_eq!(load(&t), "100 iterations, 10 warm-up, gamma (CV 2) at 60 % of capacity");
    }

    #[test]
    fn one_model_in_two_shapes_has_two_names() {
        let shape = |batch: u64| tenant("torch", json!({"model": "gpt2", "batch": batch, "sequence": 128}));
        let trial = TrialRecord {
            id: "a".into(),
            series: "a".into(),
            x: None,
            vars: Default::default(),
            sharing: Value::Null,
            protocol: "steady".into(),
            baseline: "whole-gpu".into(),
            tenants: vec![shape(1), shape(8), tenant("torch", json!({"model": "bert"})), shape(1)],
            references: Vec::new(),
            host_bound: false,
            pin: false,
        };
        let w = Workloads::of([&trial]);
        assert_eq!(w.names(), ["gpt2, 1 × 128", "gpt2, 8 × 128", "bert"]);
        assert_eq!(w.name(&shape(8)), "gpt2, 8 × 128");
    }
}
