//! The stopping rule, calibration and warnings, on a session whose truth is known.

use cotenant_kernels::{Launch, Module, Resolved};
use cotenant_lab::backend::{Phase, PhaseRun, Session, TenantRun, TrialError};
use cotenant_lab::measure::run_trial;
use cotenant_lab::sharing;
use cotenant_model::demand::{Demand, LaunchShape};
use cotenant_spec::plan::*;
use cotenant_store::format::{GpuState, Grant, RepeatRecord};
use cotenant_units::{Bytes, Nanos};
use std::collections::BTreeMap;

/// Launches cost `per_turn` ns a turn plus `fixed`; together everything takes `slow` times as long.
struct Known {
    now: u64,
    per_turn: Vec<f64>,
    turns: Vec<u64>,
    slow: f64,
    serial: bool,
    noise: Vec<f64>,
    step: usize,
    clock: Vec<f64>,
    /// SM clock of shared phases, if it is another.
    shared_clock: Option<f64>,
    order: Vec<String>,
}

impl Known {
    fn new(per_turn: &[f64]) -> Known {
        Known {
            now: 1_000_000,
            per_turn: per_turn.to_vec(),
            turns: vec![1; per_turn.len()],
            slow: 1.0,
            serial: false,
            noise: vec![1.0],
            step: 0,
            clock: vec![1900.0],
            shared_clock: None,
            order: Vec::new(),
        }
    }

    fn length(&mut self, t: usize) -> u64 {
        self.step += 1;
        let noise = self.noise[self.step % self.noise.len()];
        ((self.per_turn[t] * self.turns[t] as f64 + 2_000.0) * noise) as u64
    }
}

impl Session for Known {
    fn grants(&self) -> Vec<Grant> {
        vec![Grant {
            tenant: "t0".into(),
            asked_sms: Some(12),
            given_sms: Some(16),
            percentage: None,
            priority: None,
        }]
    }
    fn set_iterations(&mut self, tenant: usize, n: u64) -> Result<(), TrialError> {
        self.turns[tenant] = n;
        Ok(())
    }
    fn run(&mut self, phase: Phase) -> Result<PhaseRun, TrialError> {
        self.order.push(phase.name().into());
        let who: Vec<usize> = match phase {
            Phase::Solo(t) => vec![t],
            _ => (0..self.turns.len()).collect(),
        };
        let serial = phase == Phase::Sequential || (phase == Phase::Shared && self.serial);
        let mut at = self.now;
        let mut tenants = Vec::new();
        for t in who {
            let mut len = self.length(t);
            if phase == Phase::Shared && !self.serial {
                len = (len as f64 * self.slow) as u64;
            }
            let start = if serial { at } else { self.now };
            at = at.max(start + len);
            tenants.push(TenantRun { tenant: t, spans: vec![(start, start + len)], ..TenantRun::default() });
        }
        self.now = at + 50_000;
        let mhz = match phase {
            Phase::Shared => self.shared_clock,
            _ => None,
        };
        let mhz = mhz.unwrap_or(self.clock[self.step % self.clock.len()]);
        Ok(PhaseRun { tenants, state: Some(GpuState { sm_clock_mhz: Some(mhz), ..GpuState::default() }) })
    }
}

fn tenant(name: &str, work: Work) -> TenantPlan {
    let kernel = KernelPlan {
        kernel: Resolved {
            kernel: "sleep",
            launch: Launch::Kernel,
            module: Module::Portable,
            entry: "sleep".into(),
            shape: LaunchShape { blocks: 1, threads: 32, registers: 16, shared_bytes: Bytes(0) },
            dynamic_shared: Bytes(0),
            buffer_a: Bytes(0),
            buffer_b: Bytes(0),
            bytes: Bytes(0),
            p0: 0,
            p1: 0,
            demand: Demand::default(),
            params: BTreeMap::new(),
        },
        work,
        launches: 1,
        request: 1,
        carveout: Bytes(0),
    };
    TenantPlan {
        name: name.into(),
        role: String::new(),
        workload: Workload::Kernel(kernel),
        load: Load { iterations: 1, warmup: 0, gap: Nanos(0), arrivals: None },
    }
}

fn trial(n: usize, work: Work) -> TrialPlan {
    TrialPlan {
        id: "x".into(),
        series: "s".into(),
        x: None,
        vars: BTreeMap::new(),
        sharing: Sharing::Streams { priority: vec![] },
        tenants: (0..n).map(|i| tenant(&format!("t{i}"), work)).collect(),
        protocol: Protocol::Fixed,
        baseline: Baseline::SameShare,
        sequential: true,
        references: vec![],
        host_bound: false,
        pin: false,
    }
}

fn stopping(min: u32, max: u32) -> Stopping {
    Stopping {
        min_repeats: min,
        max_repeats: max,
        precision: 0.01,
        budget_ns: Nanos::from_secs(60.0),
        warmup: 1,
        setups: 1,
        traced: 0,
        watchdog_ns: Nanos::from_secs(60.0),
    }
}

fn measure(
    s: &mut Known,
    t: &TrialPlan,
    stop: &Stopping,
) -> (Vec<RepeatRecord>, cotenant_lab::measure::Measured) {
    let layout = sharing::mode(&t.sharing).layout(t);
    let mut records = Vec::new();
    let m = run_trial(s, t, &layout, stop, 1, &mut |r, _| {
        records.push(r);
        Ok(())
    })
    .unwrap();
    (records, m)
}

fn kinds(m: &cotenant_lab::measure::Measured) -> Vec<&str> {
    m.warnings.iter().map(|w| w.kind.as_str()).collect()
}

#[test]
fn calibration_finds_the_turns_for_the_length_asked() {
    for per_turn in [3.0, 700.0, 90_000.0] {
        let mut s = Known::new(&[per_turn]);
        let t = trial(1, Work::Duration(Nanos(10_000_000)));
        let (records, m) = measure(&mut s, &t, &stopping(3, 3));
        let got = records[0].phases[0].tenants[0].time_ns;
        assert!((got / 1e7 - 1.0).abs() < 0.02, "{per_turn}: {got} ns with {:?} turns", m.iterations);
    }
}

#[test]
fn one_turn_longer_than_asked_stays_one_turn() {
    let mut s = Known::new(&[5e7]);
    let (_, m) = measure(&mut s, &trial(1, Work::Duration(Nanos(1_000_000))), &stopping(3, 3));
    assert_eq!(m.iterations, [1]);
}

#[test]
fn fixed_iterations_are_left_alone() {
    let mut s = Known::new(&[100.0]);
    let (_, m) = measure(&mut s, &trial(1, Work::Iterations(77)), &stopping(3, 3));
    assert_eq!(m.iterations, [77]);
    assert_eq!(s.turns, [77]);
}

#[test]
fn steady_numbers_stop_early_and_noisy_ones_at_the_bound() {
    let t = trial(2, Work::Iterations(1000));
    let (records, m) = measure(&mut Known::new(&[1000.0, 1000.0]), &t, &stopping(6, 50));
    assert_eq!((records.len(), m.stopped_by), (6, "precision"));
    let mut noisy = Known::new(&[1000.0, 1000.0]);
    noisy.noise = vec![1.0, 1.3, 0.8, 1.1, 0.7, 1.25, 0.9];
    let (records, m) = measure(&mut noisy, &t, &stopping(6, 25));
    assert_eq!((records.len(), m.stopped_by), (25, "max-repeats"));
    assert!(kinds(&m).contains(&"imprecise"));
}

#[test]
fn phases_rotate_from_repeat_to_repeat() {
    let mut s = Known::new(&[1000.0, 1000.0]);
    let mut stop = stopping(4, 4);
    stop.warmup = 0;
    measure(&mut s, &trial(2, Work::Iterations(10)), &stop);
    assert_eq!(s.order[..4], ["solo", "solo", "sequential", "shared"]);
    assert_eq!(s.order[4..8], ["solo", "sequential", "shared", "solo"]);
    assert_eq!(s.order[8..12], ["sequential", "shared", "solo", "solo"]);
}

#[test]
fn serial_execution_is_not_called_colocated() {
    let t = trial(2, Work::Iterations(1000));
    let mut s = Known::new(&[1000.0, 1000.0]);
    s.serial = true;
    let (records, m) = measure(&mut s, &t, &stopping(3, 3));
    let shared = records[0].phases.iter().find(|p| p.phase == "shared").unwrap();
    assert_eq!(shared.overlap, Some(0.0));
    // The one that waited is charged for its wait: twice its solo time.
    let solo = records[0].phases.iter().find(|p| p.phase == "solo").unwrap().tenants[0].time_ns;
    assert!((shared.tenants[1].time_ns / solo - 2.0).abs() < 0.01);
    assert!(kinds(&m).contains(&"low-overlap"));
    let (_, m) = measure(&mut Known::new(&[1000.0, 1000.0]), &t, &stopping(3, 3));
    assert!(!kinds(&m).contains(&"low-overlap"));
}

#[test]
fn clock_drops_are_marked_and_grants_compared() {
    let mut s = Known::new(&[1000.0]);
    s.clock = vec![1900.0, 1900.0, 1900.0, 1900.0, 1900.0, 1900.0, 1700.0];
    let (records, m) = measure(&mut s, &trial(1, Work::Iterations(10)), &stopping(12, 12));
    assert!(records.iter().any(|r| r.marked.iter().any(|w| w.contains("1700 MHz"))));
    assert!(records.iter().any(|r| r.marked.is_empty()));
    assert!(kinds(&m).contains(&"clock-drop") && kinds(&m).contains(&"grant-differs"));
}

#[test]
fn clocks_that_differ_together_and_alone_are_told() {
    let two = trial(2, Work::Iterations(10));
    let told = |shared: f64| {
        let mut s = Known::new(&[1000.0, 1000.0]);
        s.shared_clock = Some(shared);
        let (records, m) = measure(&mut s, &two, &stopping(8, 8));
        assert!(records[0].phases.iter().any(|p| p.phase == "shared"));
        m.warnings.into_iter().find(|w| w.kind == "clock-differs")
    };
    let w = told(1600.0).expect("told");
    assert!(w.message.contains("1600 MHz together and 1900 MHz alone (-16 %)"), "{}", w.message);
    assert!(told(1850.0).is_none());
}

#[test]
fn a_sink_that_fails_ends_the_trial() {
    let t = trial(1, Work::Iterations(10));
    let layout = sharing::mode(&t.sharing).layout(&t);
    let mut n = 0;
    let r = run_trial(&mut Known::new(&[1.0]), &t, &layout, &stopping(5, 5), 1, &mut |_, _| {
        n += 1;
        if n == 2 { Err(TrialError::Failed("disk full".into())) } else { Ok(()) }
    });
    assert_eq!(r.unwrap_err(), TrialError::Failed("disk full".into()));
}
