//! Synthetic runs: made-up numbers in the shape of real records, the same on every machine.

use cotenant_report::RunData;
use cotenant_store::format::*;
use cotenant_units::{Bytes, Nanos};
use std::collections::BTreeMap;

/// A small noise, by position: no generator whose version could change.
pub fn jitter(i: u64) -> f64 {
    let h = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (i << 17);
    let h = (h ^ (h >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((h >> 40) as f64 / (1u64 << 24) as f64) - 0.5
}

pub fn manifest(name: &str, simulated: bool) -> Manifest {
    Manifest {
        format: FORMAT,
        name: name.into(),
        title: "Issue slots: a copy beside a multiply kernel of growing ILP".into(),
        summary: "An SM issues at most four instructions per cycle. A copy that needs only a few of them shares the \
                  SM well with a multiply kernel of one warp per scheduler, until the multiply kernel's own \
                  parallelism takes all four slots."
            .into(),
        section: "4.2.2, Table 3".into(),
        simulated,
        device: DeviceRecord {
            name: if simulated { "H100 SXM5 80 GB".into() } else { "NVIDIA H100 80GB HBM3".into() },
            selector: if simulated { "sim:h100-sxm5-80gb".into() } else { "cuda:0".into() },
            uuid_hash: (!simulated).then(|| "0123456789abcdef".into()),
            sms: 132,
            l2_bytes: Bytes::mib(50),
            l1_bytes: Bytes::kib(256),
            memory_bytes: Bytes::gib(80),
            capability: "9.0".into(),
            driver: (!simulated).then(|| "580.159.04".into()),
            cuda: (!simulated).then(|| "13.0".into()),
            max_sm_clock_mhz: 1980.0,
            max_memory_clock_mhz: 2619.0,
            card: simulated.then(|| "h100-sxm5-80gb 1".into()),
        },
        trials: Vec::new(),
        figures: Vec::new(),
        stopping: StoppingRecord {
            min_repeats: 8,
            max_repeats: 20,
            precision: 0.01,
            budget_ns: Nanos(8_000_000_000),
            warmup: 2,
            setups: 1,
            traced: 0,
            watchdog_ns: Nanos(0),
        },
        provenance: Provenance {
            version: "0.1.0".into(),
            git_revision: "100fe94c0ffee".into(),
            ptx_sha256: "ab".repeat(32),
            seed: 7,
            started: "2026-11-22T10:00:00Z".into(),
            os: "Linux 6.8".into(),
            cpu: "16 cores".into(),
        },
        spec_text: "format = 1\nname = \"issue-slots\"\n\n[tenants.copy]\nkernel = \"copy-paper\"\n".into(),
        overrides: vec!["measure.budget=\"5s\"".into()],
    }
}

pub fn tenant(name: &str, kernel: &str) -> TenantRecord {
    TenantRecord {
        name: name.into(),
        kernel: kernel.into(),
        blocks: 132,
        threads: 1024,
        launches: 8,
        request: 1,
        params: BTreeMap::from([("bytes".into(), 4294967296.0)]),
        kind: "kernel".into(),
        role: String::new(),
        workload: serde_json::Value::Null,
        load: LoadRecord::default(),
    }
}

pub fn trial(id: &str, series: &str, x: Option<f64>, mode: &str) -> TrialRecord {
    TrialRecord {
        id: id.into(),
        series: series.into(),
        x,
        vars: BTreeMap::new(),
        sharing: serde_json::json!({ "mode": mode, "priority": [] }),
        protocol: "steady".into(),
        baseline: "same-share".into(),
        tenants: vec![tenant("copy", "copy-paper"), tenant("mul", "fp32-mul")],
        references: Vec::new(),
        host_bound: false,
        pin: false,
    }
}

pub fn reference(source: &str, metric: &str, value: f64) -> ReferenceRecord {
    ReferenceRecord { source: source.into(), metric: metric.into(), value }
}

fn state(i: u64) -> GpuState {
    GpuState {
        sm_clock_mhz: Some(1980.0 - 15.0 * (i / 30) as f64),
        memory_clock_mhz: Some(2619.0),
        power_w: Some(430.0 + 40.0 * jitter(i)),
        temperature_c: Some(41.0 + (i / 12) as f64),
        throttle: Vec::new(),
        utilization_pct: Some(100.0),
        ..GpuState::default()
    }
}

fn ran(name: &str, ms: f64, offset: u64, launches: u32) -> PhaseTenant {
    let ns = (ms * 1e6) as u64;
    let spans: Vec<(u64, u64)> =
        (0..u64::from(launches)).map(|l| (offset + l * ns, offset + (l + 1) * ns - 900)).collect();
    PhaseTenant {
        name: name.into(),
        time_ns: ms * 1e6,
        start_ns: Nanos(offset),
        end_ns: Nanos(spans.last().map_or(offset, |s| s.1)),
        launches,
        counted: launches.saturating_sub(1),
        spans_ns: spans,
        requests_ns: Vec::new(),
        sm_clock_mhz: None,
        counted_from: 0,
        event_ns: Vec::new(),
        kernel_ns: Vec::new(),
        busy_ns: Vec::new(),
        kernels: Vec::new(),
        tokens: 0,
        cpu_ns: None,
        cpu_wait_ns: None,
        served: None,
    }
}

fn phase(kind: &str, overlap: Option<f64>, tenants: Vec<PhaseTenant>, i: u64) -> PhaseRecord {
    let end = tenants.iter().map(|t| t.end_ns.0).max().unwrap_or(0);
    PhaseRecord {
        phase: kind.into(),
        makespan_ns: Nanos(end),
        overlap,
        tenants,
        state: Some(state(i)),
        begun_ns: None,
        start_spread_ns: None,
        parts: Vec::new(),
    }
}

/// One repeat of two tenants with these solo times (ms) and slowdowns.
pub fn repeat(id: &str, n: u32, solo: [f64; 2], slowdown: [f64; 2], seed: u64) -> RepeatRecord {
    let i = seed * 100 + u64::from(n);
    let noise = |k: u64| 1.0 + 0.006 * jitter(i * 7 + k);
    let (a, b) = (solo[0] * noise(1), solo[1] * noise(2));
    let (sa, sb) = (a * slowdown[0] * noise(3), b * slowdown[1] * noise(4));
    let second = (8.0 * a * 1e6) as u64;
    RepeatRecord {
        format: FORMAT,
        trial: id.into(),
        attempt: 1,
        repeat: n,
        setup: 0,
        phases: vec![
            phase("solo", None, vec![ran("copy", a, 0, 8)], i),
            phase("solo", None, vec![ran("mul", b, 0, 8)], i),
            phase("sequential", None, vec![ran("copy", a, 0, 8), ran("mul", b, second, 8)], i),
            phase(
                "shared",
                Some(0.97 + 0.02 * jitter(i)),
                vec![ran("copy", sa, 0, 8), ran("mul", sb, 40_000, 8)],
                i,
            ),
        ],
        marked: Vec::new(),
    }
}

pub fn done(id: &str) -> OutcomeRecord {
    OutcomeRecord {
        format: FORMAT,
        trial: id.into(),
        attempt: 1,
        status: "done".into(),
        reason: None,
        stopped_by: Some("precision".into()),
        iterations: vec![12, 48_000],
        grants: vec![Grant {
            tenant: "copy".into(),
            asked_sms: Some(66),
            given_sms: Some(72),
            percentage: None,
            priority: Some(0),
        }],
        facts: BTreeMap::new(),
        capacity_per_s: BTreeMap::new(),
        timing: None,
    }
}

/// Five bars of a speedup with the values of a paper and a peer.
pub fn issue_slots(simulated: bool) -> RunData {
    let mut m = manifest("issue-slots", simulated);
    m.figures = vec![FigureRecord {
        kind: "bars".into(),
        metric: "speedup".into(),
        x_label: "independent multiply instructions per scheduler".into(),
        y_label: "speedup, sequential / colocated".into(),
        log_x: false,
        trials: Vec::new(),
    }];
    let (mut repeats, mut outcomes) = (Vec::new(), Vec::new());
    let cells = [
        (1.0, 1.04, 1.915, 1.964),
        (2.0, 1.05, 1.896, 1.943),
        (3.0, 1.06, 1.893, 1.948),
        (4.0, if simulated { 1.2 } else { 1.13 }, 1.65, 1.803),
        (8.0, 2.0, 1.001, 1.002),
    ];
    for (i, (x, slowdown, paper, peer)) in cells.into_iter().enumerate() {
        let id = format!("ilp{}-t{}", if x > 4.0 { 4.0 } else { x }, if x > 4.0 { 256 } else { 128 });
        let mut t = trial(&id, "copy + multiply", Some(x), "streams");
        t.references = vec![
            reference("paper, H100 NVL", "speedup", paper),
            reference("peer's code, H100 SXM", "speedup", peer),
        ];
        m.trials.push(t);
        for n in 0..12 {
            repeats.push(repeat(&id, n, [5.2, 5.25], [slowdown, slowdown * 0.99], i as u64));
        }
        outcomes.push(done(&id));
    }
    repeats[40].marked = vec!["SM clock 1,785 MHz, 10 % below the trial's median".into()];
    let warnings = vec![WarningRecord {
        format: FORMAT,
        trial: Some("ilp4-t128".into()),
        kind: "clock-drop".into(),
        message: "one repeat of 12 ran at 1,785 MHz, 10 % below the median of 1,980 MHz; it is left out"
            .into(),
        advice: "let the GPU cool down, or look at the power limit with `nvidia-smi -q -d POWER`".into(),
    }];
    RunData::new(m, repeats, outcomes, warnings)
}

/// A line over sizes, two series, one with references.
pub fn l2_sweep() -> RunData {
    let mut m = manifest("l2-size", false);
    m.title = "L2 cache: slowdown of a copy by the size of its arrays".into();
    m.section = "4.1.2, Figure 2".into();
    m.figures = vec![FigureRecord {
        kind: "line".into(),
        metric: "slowdown".into(),
        x_label: "size of one array, MiB".into(),
        y_label: "slowdown, colocated / alone".into(),
        log_x: true,
        trials: Vec::new(),
    }];
    let peer = [1.65, 1.10, 1.23, 1.45, 1.66, 2.09, 2.13, 1.63, 1.22, 1.23, 1.22, 1.22, 1.24];
    let sizes = [4.0, 8.0, 12.0, 16.0, 18.0, 20.0, 22.5, 25.0, 28.0, 32.0, 40.0, 48.0, 64.0];
    let (mut repeats, mut outcomes) = (Vec::new(), Vec::new());
    for (k, series) in ["copy + copy", "copy + copy, disjoint SMs"].into_iter().enumerate() {
        for (i, x) in sizes.into_iter().enumerate() {
            let id = format!("l2-{x}{}", if k == 0 { "" } else { "-green" });
            let mut t = trial(&id, series, Some(x), if k == 0 { "streams" } else { "green" });
            if k == 0 {
                t.references.push(reference("peer's code, H100 SXM", "slowdown", peer[i]));
                if x == 22.5 {
                    t.references.push(reference("paper, H100 NVL", "slowdown", 1.79));
                }
            }
            m.trials.push(t);
            let slowdown = 1.0 + (peer[i] - 1.0) * if k == 0 { 0.97 } else { 0.8 } + 0.02 * jitter(i as u64);
            for n in 0..10 {
                repeats.push(repeat(&id, n, [0.1 * x, 0.1 * x], [slowdown, slowdown], (i + 50 * k) as u64));
            }
            outcomes.push(done(&id));
        }
    }
    RunData::new(m, repeats, outcomes, Vec::new())
}

/// Sharing modes as bars by name, with a failed, a skipped and an unfinished trial, and requests.
pub fn modes() -> RunData {
    let mut m = manifest("mode-matrix", false);
    m.title = "One pair in every sharing mode".into();
    m.section = String::new();
    let figure = |metric: &str, y: &str| FigureRecord {
        kind: "bars".into(),
        metric: metric.into(),
        x_label: "sharing mode".into(),
        y_label: y.into(),
        log_x: false,
        trials: Vec::new(),
    };
    m.figures = vec![
        figure("slowdown.*", "slowdown against alone on the whole GPU"),
        figure("p99_ms.copy", "p99 latency of a request, ms"),
    ];
    let (mut repeats, mut outcomes) = (Vec::new(), Vec::new());
    let cells = [
        ("streams", "streams", 1.3, 1.1),
        ("streams-priority", "streams, copy first", 1.02, 1.4),
        ("processes", "processes", 2.1, 2.05),
        ("mps-50", "MPS, 50 % each", 1.6, 2.0),
        ("green", "green contexts, halves", 1.58, 1.0),
    ];
    for (i, (id, series, a, b)) in cells.into_iter().enumerate() {
        m.trials.push(trial(id, series, None, id.split('-').next().unwrap_or(id)));
        for n in 0..9 {
            let mut r = repeat(id, n, [20.0, 20.0], [a, b], 10 + i as u64);
            for (p, factor) in [(0, 1.0), (3, a)] {
                r.phases[p].tenants[0].requests_ns = (0..40)
                    .map(|k| {
                        (2e7 * factor * (1.0 + 0.2 * (jitter(k + 1000 * u64::from(n)) + 0.5).powi(6))) as u64
                    })
                    .collect();
            }
            repeats.push(r);
        }
        outcomes.push(done(id));
    }
    for (id, status, reason) in [
        ("mps-memory", Some("failed"), "tenant mul was killed by signal 9"),
        ("mig", Some("skipped"), "MIG is off on this GPU"),
        ("mps", None, ""),
    ] {
        m.trials.push(trial(id, id, None, "mps"));
        if let Some(status) = status {
            outcomes.push(OutcomeRecord {
                status: status.into(),
                reason: Some(reason.into()),
                stopped_by: None,
                ..done(id)
            });
        }
    }
    let warnings = vec![
        WarningRecord {
            format: FORMAT,
            trial: Some("green".into()),
            kind: "grant-differs".into(),
            message: "copy asked for 66 SMs and was given 72".into(),
            advice: "ask for a multiple of 8".into(),
        },
        WarningRecord {
            format: FORMAT,
            trial: None,
            kind: "self-test".into(),
            message: "a sleep of 1 ms was measured as 1.03 ms (3 % off)".into(),
            advice: "close other users of the GPU".into(),
        },
    ];
    RunData::new(m, repeats, outcomes, warnings)
}

/// Text that breaks out of whatever does not escape it.
pub const HOSTILE: &str =
    "</style></title><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}\u{1b}[31m\u{0}";

/// Every name and text is hostile, some numbers are not finite.
pub fn hostile() -> RunData {
    let mut run = issue_slots(true);
    let evil = || HOSTILE.to_owned();
    let m = &mut run.manifest;
    (m.name, m.title, m.summary, m.section) = (evil(), evil(), evil(), evil());
    (m.device.name, m.device.selector, m.spec_text) = (evil(), evil(), evil());
    (m.provenance.started, m.provenance.os, m.provenance.git_revision) = (evil(), evil(), evil());
    m.overrides = vec![evil()];
    m.figures[0].x_label = evil();
    m.figures[0].y_label = evil();
    for (i, t) in m.trials.iter_mut().enumerate() {
        t.series = evil();
        t.sharing = serde_json::json!({ "mode": HOSTILE, HOSTILE: [HOSTILE] });
        t.id = format!("{HOSTILE}{i}");
        t.tenants[0].name = evil();
        t.tenants[0].kernel = evil();
        t.references[0].source = evil();
        t.references[0].value = f64::NAN;
        t.vars = BTreeMap::from([(evil(), f64::INFINITY)]);
        for r in run.repeats.iter_mut().filter(|r| r.trial.starts_with("ilp")).take(12) {
            r.trial = t.id.clone();
            r.marked = if r.repeat % 6 == 0 { vec![evil()] } else { Vec::new() };
            for p in &mut r.phases {
                p.tenants.iter_mut().filter(|t| t.name == "copy").for_each(|t| t.name = evil());
            }
        }
        run.outcomes[i].trial = t.id.clone();
        run.outcomes[i].reason = Some(evil());
    }
    run.outcomes[4].status = evil();
    for w in &mut run.warnings {
        (w.trial, w.kind, w.message, w.advice) = (Some(evil()), evil(), evil(), evil());
    }
    RunData::new(run.manifest, run.repeats, run.outcomes, run.warnings)
}

/// A run that ended before its first repeat.
pub fn empty() -> RunData {
    let mut m = manifest("empty", false);
    m.trials.push(trial("a", "a", None, "streams"));
    m.figures = vec![FigureRecord {
        kind: "line".into(),
        metric: "speedup".into(),
        x_label: "x".into(),
        y_label: "y".into(),
        log_x: true,
        trials: Vec::new(),
    }];
    RunData::new(m, Vec::new(), Vec::new(), Vec::new())
}
