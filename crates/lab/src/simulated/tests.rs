//! Model tenants through the backend: the session's records, and trials that cannot run.

use super::SimBackend;
use crate::backend::{Backend, Phase, PhaseRun, TrialError};
use cotenant_model::builtin;
use cotenant_spec::plan::{
    Baseline, Load, ModelSetup, Protocol, Sharing, TenantPlan, TorchPlan, TrialPlan, Workload,
};
use cotenant_units::Nanos;
use std::collections::BTreeMap;
use std::sync::Arc;

fn tenant(name: &str, model: &str, iterations: u32) -> TenantPlan {
    let setup = ModelSetup {
        model: model.into(),
        weights: "random".into(),
        dtype: "fp16".into(),
        batch: 8,
        sequence: 128,
        mode: "forward".into(),
        tokens: 128,
        cuda_graph: false,
        compile: false,
        attention: "sdpa".into(),
        device: "cuda".into(),
        seed: 1,
    };
    TenantPlan {
        name: name.into(),
        role: String::new(),
        workload: Workload::Torch(TorchPlan { setup, python: "python3".into(), env: BTreeMap::new() }),
        load: Load { iterations, warmup: 10, gap: Nanos(0), arrivals: None },
    }
}

fn trial(sharing: Sharing, protocol: Protocol, tenants: Vec<TenantPlan>) -> TrialPlan {
    TrialPlan {
        id: "t".into(),
        series: String::new(),
        x: None,
        vars: BTreeMap::new(),
        sharing,
        tenants,
        protocol,
        baseline: Baseline::SameShare,
        sequential: false,
        references: Vec::new(),
        host_bound: false,
        pin: false,
    }
}

fn backend() -> SimBackend {
    SimBackend::new(builtin("h100-sxm5-80gb").expect("built in"), Arc::default())
}

fn mps(percentage: Vec<f64>, priority: Vec<u32>) -> Sharing {
    Sharing::Mps { percentage, priority, pinned_memory: Vec::new() }
}

fn shared(sharing: Sharing, protocol: Protocol, tenants: Vec<TenantPlan>) -> PhaseRun {
    let mut b = backend();
    let mut s = b.open(&trial(sharing, protocol, tenants), 0).expect("opens");
    s.run(Phase::Shared).expect("runs")
}

fn p50(v: &[u64]) -> f64 {
    let mut v = v.to_vec();
    v.sort_unstable();
    v[v.len() / 2] as f64 / 1e6
}

#[test]
fn a_model_alone_tells_iterations_events_tokens_and_kernel_time() {
    let mut b = backend();
    let t = trial(Sharing::Solo, Protocol::Fixed, vec![tenant("a", "distilgpt2", 30)]);
    let mut s = b.open(&t, 0).expect("opens");
    let run = s.run(Phase::Solo(0)).expect("runs");
    let a = &run.tenants[0];
    assert_eq!((a.spans.len(), a.requests.len(), a.events.len(), a.tokens), (30, 30, 30, 30 * 1024));
    assert!(a.device.is_empty());
    let recorded = cotenant_sim::recorded::builtin("h100-sxm5-80gb", "distilgpt2-forward-fp16-b8-s128");
    let wall_ms = recorded.expect("built in").wall_ns as f64 / 1e6;
    assert!((p50(&a.requests) / wall_ms - 1.0).abs() < 0.02, "{} for {wall_ms}", p50(&a.requests));
    assert!(a.spans.iter().zip(&a.events).all(|(s, &e)| e > 0 && e < s.1 - s.0));
    let traced = s.run_traced(Phase::Solo(0)).expect("runs").expect("has a kernel clock");
    let d = &traced.tenants[0].device;
    assert_eq!((d.len(), d[0].kernels), (30, 117));
    assert!((d[0].sum_ns as f64 / 1.38e6 - 1.0).abs() < 0.03, "{}", d[0].sum_ns);
    // The clock goes on from phase to phase.
    assert!(traced.tenants[0].spans[0].0 > a.spans[29].1);
}

#[test]
fn workloads_without_a_time_line_are_skipped_in_words() {
    let skipped = |change: &dyn Fn(&mut ModelSetup)| {
        let mut t = tenant("a", "distilgpt2", 3);
        if let Workload::Torch(p) = &mut t.workload {
            change(&mut p.setup);
        }
        match backend().open(&trial(Sharing::Solo, Protocol::Fixed, vec![t]), 0).err() {
            Some(TrialError::Unavailable(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let why = skipped(&|s| s.batch = 64);
    assert!(why.contains("distilgpt2-forward-fp16-b64-s128") && why.contains("b8-s128"), "{why}");
    assert!(why.contains("xtask timelines"), "{why}");
    assert!(skipped(&|s| s.device = "cpu".into()).contains("cpu"));
}

#[test]
fn every_sharing_mode_of_programs_runs_and_a_small_share_costs() {
    let pair = || vec![tenant("a", "distilbert", 12), tenant("b", "llama-3.2-3b", 3)];
    for sharing in
        [Sharing::Processes, mps(vec![], vec![]), mps(vec![], vec![0, 1]), mps(vec![50.0, 50.0], vec![])]
    {
        for protocol in [Protocol::Fixed, Protocol::Steady] {
            let run = shared(sharing.clone(), protocol, pair());
            let n: Vec<usize> = run.tenants.iter().map(|t| t.spans.len()).collect();
            assert!(n[0] >= 12 && n[1] >= 3, "{sharing:?} {protocol:?}: {n:?}");
            assert!(protocol == Protocol::Steady || n == [12, 3], "{n:?}");
        }
    }
    let large = |p: f64| {
        let run = shared(mps(vec![100.0, p], vec![]), Protocol::Steady, pair());
        p50(&run.tenants[1].requests)
    };
    assert!(large(12.5) > 1.5 * large(100.0));
}

#[test]
fn arrivals_make_latencies_from_the_schedule() {
    let mut b = backend();
    let t = trial(Sharing::Solo, Protocol::Fixed, vec![tenant("a", "distilbert", 3)]);
    let mut s = b.open(&t, 0).expect("opens");
    s.set_schedule(0, &[0, 0, 50_000_000]).expect("set");
    let run = s.run(Phase::Solo(0)).expect("runs");
    let a = &run.tenants[0];
    assert_eq!(a.requests.len(), 3);
    assert!(a.requests[1] > a.requests[0] + 1_000_000, "the second waits for the first: {:?}", a.requests);
    assert!(a.spans[2].0 - a.spans[0].0 >= 49_000_000);
    s.set_schedule(0, &[]).expect("set");
    assert_eq!(s.run(Phase::Solo(0)).expect("runs").tenants[0].requests.len(), 3);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let pair = || vec![tenant("a", "distilbert", 8), tenant("b", "roberta", 8)];
    let run = || shared(mps(vec![], vec![]), Protocol::Steady, pair());
    assert_eq!(run(), run());
}
