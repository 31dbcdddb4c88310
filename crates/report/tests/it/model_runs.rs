//! Synthetic runs of models: iterations drawn one after the other in virtual time, the same on every machine.

use crate::common::{done, jitter, manifest, reference, trial};
use cotenant_report::RunData;
use cotenant_store::Telemetry;
use cotenant_store::format::*;
use cotenant_units::Nanos;
use serde_json::json;
use std::collections::BTreeMap;

/// A model and how it behaves alone.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    pub model: &'static str,
    pub role: &'static str,
    /// Median iteration alone, ms.
    pub ms: f64,
    /// Share of an iteration in which a kernel runs.
    pub busy: f64,
    /// Every so many-th iteration alone takes half as long again.
    pub spike: Option<u64>,
}

pub const GPT2: Model =
    Model { model: "distilbert/distilgpt2", role: "decoder", ms: 4.65, busy: 0.35, spike: Some(17) };
pub const BERT: Model = Model { model: "distilbert-base", role: "encoder", ms: 2.72, busy: 0.4, spike: None };
pub const ROBERTA: Model =
    Model { model: "roberta-base", role: "encoder", ms: 11.5, busy: 0.5, spike: Some(40) };
pub const MISTRAL: Model =
    Model { model: "mistralai/Mistral-7B", role: "decoder", ms: 93.0, busy: 0.97, spike: Some(5) };

pub fn tenant(name: &str, m: Model, iterations: u32) -> TenantRecord {
    TenantRecord {
        name: name.into(),
        kernel: String::new(),
        blocks: 0,
        threads: 0,
        launches: iterations,
        request: 1,
        params: BTreeMap::new(),
        kind: "torch".into(),
        role: m.role.into(),
        workload: json!({"model": m.model, "weights": "random", "dtype": "fp16", "batch": 8, "sequence": 128,
                         "mode": "forward", "tokens": 0, "cuda_graph": false, "compile": false, "device": "cuda"}),
        load: LoadRecord { iterations, warmup: 10, ..LoadRecord::default() },
    }
}

/// How a phase is to be drawn.
pub struct Draw<'a> {
    pub tenants: &'a [(String, Model)],
    pub iterations: u32,
    /// All go on until the last has its iterations.
    pub steady: bool,
    pub traced: bool,
    /// Slowdown of tenant `i` while so many are active.
    pub slow: &'a dyn Fn(usize, usize) -> f64,
    pub seed: u64,
}

impl Draw<'_> {
    fn duration(&self, i: usize, k: u64, active: usize, alone: bool) -> u64 {
        let m = self.tenants[i].1;
        let at = self.seed * 7919 + i as u64 * 131 + k;
        // Neighbours share part of their noise, and so do the iterations of a repeat.
        let noise = 0.05 * jitter(at) + 0.04 * jitter(at / 6) + 0.01 * jitter(self.seed);
        let spike = match m.spike {
            Some(every) if alone && at.is_multiple_of(every) => 1.5,
            _ => 1.0,
        };
        let traced = if self.traced { 1.02 } else { 1.0 };
        (m.ms * 1e6 * (self.slow)(i, active) * (1.0 + noise) * spike * traced) as u64
    }

    pub fn phase(&self, kind: &str, begun: u64) -> PhaseRecord {
        let n = self.tenants.len();
        let (mut spans, mut at): (Vec<Vec<(u64, u64)>>, Vec<u64>) =
            (vec![Vec::new(); n], (0..n as u64).map(|i| i * 4_000).collect());
        let finished = |s: &Vec<(u64, u64)>| s.len() >= self.iterations as usize;
        loop {
            let over = spans.iter().all(finished);
            let next =
                (0..n).filter(|&i| !over && (self.steady || !finished(&spans[i]))).min_by_key(|&i| at[i]);
            let Some(i) = next else { break };
            let active = spans.iter().filter(|s| self.steady || !finished(s)).count();
            let took = self.duration(i, spans[i].len() as u64, active, kind.starts_with("solo"));
            spans[i].push((at[i], at[i] + took - 20_000));
            at[i] += took;
        }
        let end = |s: &Vec<(u64, u64)>| s.last().map_or(0, |s| s.1);
        let stop = spans.iter().map(|s| s[self.iterations as usize - 1].1).max().unwrap_or(0);
        let makespan = spans.iter().map(end).max().unwrap_or(0);
        let mut ends: Vec<u64> = spans.iter().map(end).collect();
        ends.sort_unstable();
        let tenants = self.tenants.iter().zip(&spans).map(|((name, m), spans)| {
            let counted = spans.iter().filter(|s| !self.steady || s.1 <= stop).count();
            let wall = |s: &(u64, u64)| s.1 - s.0;
            let sum: u64 = spans[..counted].iter().map(wall).sum();
            let device = |share: f64| -> Vec<u64> {
                if self.traced {
                    spans.iter().map(|s| (wall(s) as f64 * share) as u64).collect()
                } else {
                    Vec::new()
                }
            };
            PhaseTenant {
                name: name.clone(),
                time_ns: sum as f64 / counted as f64,
                start_ns: Nanos(spans[0].0),
                end_ns: Nanos(end(spans)),
                launches: spans.len() as u32,
                counted: counted as u32,
                spans_ns: spans.clone(),
                requests_ns: spans.iter().map(wall).collect(),
                sm_clock_mhz: None,
                counted_from: 0,
                event_ns: spans.iter().map(|s| wall(s) - 60_000).collect(),
                kernel_ns: device(m.busy * 1.04),
                busy_ns: device(m.busy),
                kernels: if self.traced { vec![84; spans.len()] } else { Vec::new() },
                tokens: 1024 * spans.len() as u64,
                cpu_ns: None,
                cpu_wait_ns: None,
                served: None,
            }
        });
        let parts = if kind == "shared" && n > 1 { self.parts(&ends, makespan) } else { Vec::new() };
        PhaseRecord {
            phase: kind.into(),
            makespan_ns: Nanos(makespan),
            overlap: kind.starts_with("shared").then(|| ends[0] as f64 / makespan as f64),
            tenants: tenants.collect(),
            state: Some(state(n, makespan)),
            begun_ns: Some(begun),
            start_spread_ns: (n > 1).then_some(4_000 * (n as u64 - 1)),
            parts,
        }
    }

    fn parts(&self, ends: &[u64], makespan: u64) -> Vec<PhasePart> {
        let n = ends.len();
        let mut out = Vec::new();
        let mut add = |active: &str, tenants, from: u64, to: u64| {
            if to > from {
                let state = Some(state(tenants, to - from));
                out.push(PhasePart { active: active.into(), from_ns: Nanos(from), to_ns: Nanos(to), state });
            }
        };
        add("all", n, 0, ends[0]);
        for k in 1..n - 1 {
            add("some", n - k, ends[k - 1], ends[k]);
        }
        add("one", 1, ends[n - 2], makespan);
        out
    }
}

fn state(tenants: usize, ns: u64) -> GpuState {
    let t = tenants as f64;
    GpuState {
        sm_clock_mhz: Some(1980.0),
        power_w: Some(220.0 + 25.0 * t),
        utilization_pct: Some(99.0),
        energy_j: Some((220.0 + 25.0 * t) * ns as f64 / 1e9),
        sm_active_pct: Some(100.0 * (1.0 - 0.6f64.powf(t))),
        sm_occupancy_pct: Some(16.0 * (1.0 - 0.5f64.powf(t))),
        dram_pct: Some(20.0 * (1.0 - 0.6f64.powf(t))),
        gpm_share: Some(0.98),
        ..GpuState::default()
    }
}

/// A trial of these models with its repeats: each alone, then together, `traced` of them with the kernel clock.
pub struct Cell<'a> {
    pub id: &'a str,
    pub series: &'a str,
    pub x: Option<f64>,
    pub models: &'a [Model],
    pub iterations: u32,
    pub steady: bool,
    pub repeats: u32,
    pub traced: u32,
    pub slow: &'a dyn Fn(usize, usize) -> f64,
}

impl Cell<'_> {
    pub fn add(&self, run: &mut RunData) {
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        let tenants: Vec<(String, Model)> = self
            .models
            .iter()
            .map(|m| {
                let short = m.model.rsplit('/').next().unwrap_or(m.model);
                let short = short.split('-').next().unwrap_or(short).to_lowercase();
                let n = count.entry(m.model).or_insert(0);
                *n += 1;
                (format!("{short}{n}"), *m)
            })
            .collect();
        let mut t = trial(self.id, self.series, self.x, "mps");
        t.protocol = if self.steady { "steady" } else { "fixed" }.into();
        t.tenants = tenants.iter().map(|(n, m)| tenant(n, *m, self.iterations)).collect();
        let alone = |_: usize, _: usize| 1.0;
        for n in 0..self.repeats {
            let seed = 1000 * run.manifest.trials.len() as u64 + u64::from(n);
            let mut begun = 1_000_000_000_000 + seed * 10_000_000_000;
            let mut phases = Vec::new();
            for traced in [false, true] {
                if traced && n >= self.traced {
                    continue;
                }
                let suffix = if traced { "-traced" } else { "" };
                let mut draw =
                    |tenants: &[(String, Model)], kind: &str, slow: &dyn Fn(usize, usize) -> f64| {
                        let draw = Draw {
                            tenants,
                            iterations: self.iterations,
                            steady: self.steady,
                            traced,
                            slow,
                            seed,
                        };
                        let phase = draw.phase(&format!("{kind}{suffix}"), begun);
                        begun += phase.makespan_ns.0 + 50_000_000;
                        phase
                    };
                for one in &tenants {
                    phases.push(draw(std::slice::from_ref(one), "solo", &alone));
                }
                if tenants.len() > 1 {
                    phases.push(draw(&tenants, "shared", self.slow));
                }
            }
            run.repeats.push(RepeatRecord {
                format: FORMAT,
                trial: self.id.into(),
                attempt: 1,
                repeat: n,
                setup: 0,
                phases,
                marked: Vec::new(),
            });
        }
        let told = |m: &Model| {
            BTreeMap::from([
                ("parameters".to_owned(), json!((m.ms * 1e7) as u64)),
                ("weights".to_owned(), json!("random")),
            ])
        };
        run.outcomes.push(OutcomeRecord {
            iterations: Vec::new(),
            grants: Vec::new(),
            facts: tenants.iter().map(|(n, m)| (n.clone(), told(m))).collect(),
            timing: Some(TimingRecord {
                setup_ns: Nanos(21_000_000_000),
                phases_ns: Nanos(9_000_000_000),
                own_ns: Nanos(400_000_000),
                phases_cpu_ns: Nanos(90_000_000),
                telemetry_cpu_share: None,
                gpm_age_ns: None,
            }),
            ..done(self.id)
        });
        run.manifest.trials.push(t);
    }
}

/// A run without trials.
pub fn blank(name: &str, title: &str) -> RunData {
    let mut m = manifest(name, false);
    m.title = title.into();
    m.section = String::new();
    m.summary = "Models of Hugging Face with random weights, fp16, batch 8, 128 tokens, under MPS.".into();
    m.stopping.traced = 2;
    RunData::new(m, Vec::new(), Vec::new(), Vec::new())
}

/// Computes the summary of a run built from cells.
pub fn finish(run: RunData) -> RunData {
    let telemetry = run.telemetry;
    RunData { telemetry, ..RunData::new(run.manifest, run.repeats, run.outcomes, run.warnings) }
}

pub fn figure(kind: &str, metric: &str, x: &str, y: &str) -> FigureRecord {
    FigureRecord {
        kind: kind.into(),
        metric: metric.into(),
        x_label: x.into(),
        y_label: y.into(),
        log_x: false,
        trials: Vec::new(),
    }
}

/// Two of a kind, one of them favoured.
pub fn pair() -> RunData {
    let mut run = blank("pair-distilgpt2", "Two DistilGPT2 share a GPU");
    Cell {
        id: "distilgpt2-x2",
        series: "pair",
        x: None,
        models: &[GPT2, GPT2],
        iterations: 100,
        steady: true,
        repeats: 8,
        traced: 2,
        slow: &|i, _| if i == 0 { 1.45 } else { 1.6 },
    }
    .add(&mut run);
    run.manifest.trials[0].references = vec![reference("report, A100", "solo_p50_ms.distilgpt21", 4.653)];
    finish(run)
}

/// Four small models and a large one, which is the last to run, under the protocol that shows it.
pub fn four_and_one() -> RunData {
    let mut run = blank("4-distilbert-mistral", "Four DistilBERT beside Mistral 7B");
    Cell {
        id: "4distilbert-mistral",
        series: "mix",
        x: None,
        models: &[BERT, BERT, BERT, BERT, MISTRAL],
        iterations: 100,
        steady: false,
        repeats: 6,
        traced: 1,
        slow: &|i, active| match (i, active) {
            (4, 1) => 0.92,
            (4, n) => 1.0 + 0.26 * n as f64,
            (i, n) => 2.0 + 0.5 * n as f64 + 0.1 * i as f64,
        },
    }
    .add(&mut run);
    run.telemetry = Some(telemetry(&run));
    finish(run)
}

/// Samples every 100 ms beside the shared phases.
fn telemetry(run: &RunData) -> Telemetry {
    let mut t = Telemetry::default();
    let mut row = |at: u64, cells: &[(&str, f64)]| {
        t.at_ns.push(at);
        for (name, value) in cells {
            t.columns.entry((*name).to_owned()).or_default().push(Some(*value));
        }
    };
    for phase in run.repeats.iter().flat_map(|r| &r.phases).filter(|p| p.phase == "shared") {
        for at in (0..phase.makespan_ns.0).step_by(100_000_000) {
            let active = phase.parts.iter().find(|p| at <= p.to_ns.0).map_or("one", |p| p.active.as_str());
            let n = if active == "one" { 1.0 } else { 4.0 };
            let noise = 1.0 + 0.1 * jitter(at / 1_000_000);
            row(
                phase.begun_ns.unwrap_or(0) + at,
                &[
                    ("power_w", (250.0 + 40.0 * n) * noise),
                    ("sm_clock_mhz", 1980.0),
                    ("sm_active_pct", (40.0 + 12.0 * n) * noise),
                    ("sm_occupancy_pct", (22.0 - 1.8 * n) * noise),
                    ("dram_pct", (20.0 - n) * noise),
                    ("tensor_pct", (30.0 - 2.0 * n) * noise),
                    ("fp64_pct", 0.0),
                ],
            );
        }
    }
    t
}

/// More and more of one model.
pub fn copies() -> RunData {
    let mut run = blank("distilgpt2-copies", "DistilGPT2: how many fit");
    run.manifest.figures = vec![
        figure("line", "p50_ms", "DistilGPT2 on one GPU", "median iteration [ms]"),
        figure("line", "throughput", "DistilGPT2 on one GPU", "iterations per second, all together"),
    ];
    for n in [1usize, 2, 3, 4, 6, 10] {
        let models = vec![GPT2; n];
        Cell {
            id: &format!("x{n}"),
            series: "MPS",
            x: Some(n as f64),
            models: &models,
            iterations: 40,
            steady: true,
            repeats: 6,
            traced: 0,
            slow: &move |i, active| (0.62 + 0.38 * active as f64) * (1.0 + 0.02 * i as f64),
        }
        .add(&mut run);
    }
    finish(run)
}

/// All pairs of four models.
pub fn all_pairs() -> RunData {
    let mut run = blank("all-pairs", "All pairs of four models");
    let models = [BERT, GPT2, ROBERTA, MISTRAL];
    for (i, a) in models.iter().enumerate() {
        for b in &models[i..] {
            let short = |m: &Model| m.model.rsplit('/').next().unwrap_or(m.model).to_lowercase();
            let (wa, wb) = (a.busy, b.busy);
            Cell {
                id: &format!("{}+{}", short(a), short(b)),
                series: "pairs",
                x: None,
                models: &[*a, *b],
                iterations: 20,
                steady: true,
                repeats: 6,
                traced: 0,
                slow: &move |i, _| 1.0 + if i == 0 { wb } else { wa },
            }
            .add(&mut run);
        }
    }
    finish(run)
}

/// A model beside a kernel, and one under an open loop.
pub fn mixed() -> RunData {
    let mut run = blank("mixed", "A stressor beside a model, and requests that do not wait");
    let cell = |id, models| Cell {
        id,
        series: "mixed",
        x: None,
        models,
        iterations: 60,
        steady: true,
        repeats: 5,
        traced: 0,
        slow: &|_, n| 0.7 + 0.4 * n as f64,
    };
    cell("roberta-copy", &[ROBERTA]).add(&mut run);
    run.manifest.trials[0].tenants.push(crate::common::tenant("copy", "copy"));
    for r in &mut run.repeats {
        let slowed = Draw {
            tenants: &[("roberta1".to_owned(), ROBERTA)],
            iterations: 60,
            steady: true,
            traced: false,
            slow: &|_, _| 1.7,
            seed: u64::from(r.repeat) + 50,
        };
        let kernel = |ms: f64| PhaseTenant {
            name: "copy".into(),
            time_ns: ms * 1e6,
            start_ns: Nanos(0),
            end_ns: Nanos((60.0 * ms * 1e6) as u64),
            launches: 60,
            counted: 60,
            spans_ns: (0..60)
                .map(|k| ((k as f64 * ms * 1e6) as u64, ((k + 1) as f64 * ms * 1e6) as u64 - 900))
                .collect(),
            ..r.phases[0].tenants[0].clone()
        };
        let kernel =
            |ms| PhaseTenant { requests_ns: Vec::new(), event_ns: Vec::new(), tokens: 0, ..kernel(ms) };
        let solo = PhaseRecord { tenants: vec![kernel(10.0)], begun_ns: None, ..r.phases[0].clone() };
        let mut shared = slowed.phase("shared", 5);
        shared.tenants.push(kernel(14.0));
        r.phases.extend([solo, shared]);
    }
    cell("gpt2-open", &[GPT2, BERT]).add(&mut run);
    if let Some(t) = run.manifest.trials.last_mut() {
        t.tenants[0].load.arrivals = json!({"process": {"process": "poisson"}, "rate": {"of_capacity": 0.6}});
    }
    for r in run.repeats.iter_mut().filter(|r| r.trial == "gpt2-open") {
        for p in r.phases.iter_mut().flat_map(|p| &mut p.tenants).filter(|p| p.name == "distilgpt21") {
            // Each waited half as long as it ran.
            p.requests_ns.iter_mut().for_each(|ns| *ns += *ns / 2);
        }
    }
    finish(run)
}
