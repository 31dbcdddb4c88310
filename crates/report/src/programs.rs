//! Metrics of models and programs: iteration by iteration, by three clocks, in time, tokens and joules.
//!
//! What is one value per repeat (ratios, rates, energy) joins the other per-repeat values of [`TrialSamples`]; what is
//! a statistic of iterations is taken over all repeats together, with intervals bootstrapped over whole repeats.

use crate::iterations::{
    Clock, durations, equal_group, has_programs, is_program, median, of_repeat, part_of, rate_per_s, runs,
    tokens_per_s,
};
use crate::samples::TrialSamples;
use crate::state;
use cotenant_stats::{Bootstrap, Bounded, Grouped, antt, jain_index, quantile};
use cotenant_store::format::{Distribution, Estimate, PartSummary, PhaseRecord, RepeatRecord};
use std::collections::BTreeMap;

/// Resamples behind the interval of a statistic of iterations. Fewer than for means: each one passes over all
/// iterations.
pub(crate) const RESAMPLES: usize = 400;

/// How the statistics of iterations are resampled.
pub(crate) fn bootstrap(seed: u64) -> Bootstrap {
    Bootstrap { resamples: RESAMPLES, seed, level: 0.95 }
}

/// The phase in which the trial's tenants are together: `shared`; or `solo` where a trial has but one tenant and no
/// shared phase, since being together with nobody is being alone. `None` where they never are.
pub fn together(s: &TrialSamples) -> Option<&'static str> {
    let has = |kind: &str| s.repeats.iter().any(|r| r.phases.iter().any(|p| p.phase == kind));
    if has("shared") { Some("shared") } else { (s.trial.tenants.len() == 1 && has("solo")).then_some("solo") }
}

/// Adds the per-repeat values of one repeat to `s`.
pub(crate) fn observe(s: &mut TrialSamples, repeat: &RepeatRecord) {
    let trial = s.trial;
    if !has_programs(trial) {
        return;
    }
    let together = together(s);
    for tenant in trial.tenants.iter().filter(|t| is_program(t)) {
        observe_tenant(s, repeat, &tenant.name, together);
    }
    crate::servers::observe(s, repeat, together);
    let of_medians = |name: &str| {
        let of = |phase: &str| median(&of_repeat(repeat, phase, name, Clock::Latency));
        Some(of("shared")? / of("solo")?)
    };
    let medians: Vec<f64> = trial.tenants.iter().filter_map(|t| of_medians(&t.name)).collect();
    if !medians.is_empty() && medians.len() == trial.tenants.len() {
        s.push("slowdown_p50", medians.iter().sum::<f64>() / medians.len() as f64);
    }
    let slowdowns: Vec<f64> = trial.tenants.iter().filter_map(|t| s.slowdown_in(repeat, &t.name)).collect();
    if slowdowns.len() > 1 && slowdowns.len() == trial.tenants.len() {
        let progress: Vec<f64> = slowdowns.iter().map(|x| 1.0 / x).collect();
        s.push_ok("antt", antt(&slowdowns));
        s.push_ok("jain", jain_index(&progress));
    }
    if let Some(phase) = together {
        observe_together(s, repeat, phase);
    }
}

fn observe_tenant(s: &mut TrialSamples, repeat: &RepeatRecord, name: &str, together: Option<&str>) {
    let of = |phase: &str, clock| of_repeat(repeat, phase, name, clock);
    let (alone, shared) = (of("solo", Clock::Latency), of("shared", Clock::Latency));
    for (metric, p) in [("slowdown_p50", 0.5), ("slowdown_p99", 0.99)] {
        if let (Ok(a), Ok(b)) = (quantile(&alone, p), quantile(&shared, p)) {
            s.push(format!("{metric}.{name}"), b / a);
        }
    }
    if let (Some(traced), Some(plain)) =
        (median(&of("solo-traced", Clock::Wall)), median(&of("solo", Clock::Wall)))
    {
        s.push(format!("trace_overhead.{name}"), traced / plain - 1.0);
    }
    // Kernels from the traced phases, wall time from the others: the kernel clock makes the host slower and not the
    // kernels. Means and not medians: some iterations may be bound by launches and some not.
    let mean = |v: Vec<f64>| (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64);
    if let (Some(busy), Some(wall)) = (mean(of("solo-traced", Clock::Busy)), mean(of("solo", Clock::Wall))) {
        s.push(format!("launch_bound.{name}"), (1.0 - busy / wall).max(0.0));
    }
    for (phase, prefix) in [(Some("solo"), "solo_"), (together, "")] {
        let Some(phase) = phase else { continue };
        let Some((record, run)) = runs(repeat, phase, name).next() else { continue };
        if let Some(rate) = rate_per_s(run) {
            s.push(format!("{prefix}throughput.{name}"), rate);
            if let Some(tokens) = tokens_per_s(run) {
                s.push(format!("{prefix}tokens_per_s.{name}"), tokens);
            }
        }
        if prefix == "solo_" {
            // Alone, all of the GPU's energy is the tenant's.
            let energy = energy(record);
            if let (Some(joules), true) = (energy, run.launches > 0) {
                s.push(format!("solo_joules_per_iteration.{name}"), joules / f64::from(run.launches));
            }
            if let (Some(joules), true) = (energy, run.tokens > 0) {
                s.push(format!("solo_joules_per_token.{name}"), joules / run.tokens as f64);
            }
            for (gauge, value) in
                record.state.iter().flat_map(|s| [state::counters(s), state::clock_and_power(s)].concat())
            {
                s.push(format!("solo_{gauge}.{name}"), value);
            }
        }
        for (prefix, p) in [("p50_ms", 0.5), ("p99_ms", 0.99)] {
            let metric = if phase == "solo" && together != Some("solo") { "solo_" } else { "" };
            if let Ok(v) = quantile(&durations(run, Clock::Latency), p) {
                s.by_repeat.entry(format!("{metric}{prefix}.{name}")).or_default().push(v);
            }
        }
    }
}

/// What is of the whole trial: rates and energy of all tenants together, and how far equal tenants lie apart.
fn observe_together(s: &mut TrialSamples, repeat: &RepeatRecord, phase: &'static str) {
    let trial = s.trial;
    let programs: Vec<&str> =
        trial.tenants.iter().filter(|t| is_program(t)).map(|t| t.name.as_str()).collect();
    let Some(record) = repeat.phases.iter().find(|p| p.phase == phase) else { return };
    let ran: Vec<_> = programs.iter().filter_map(|n| Some(runs(repeat, phase, n).next()?.1)).collect();
    if ran.len() == programs.len() {
        let rates: Vec<f64> = ran.iter().filter_map(|r| rate_per_s(r)).collect();
        if rates.len() == ran.len() {
            s.push("throughput", rates.iter().sum());
            let tokens: Vec<f64> = ran.iter().filter_map(|r| tokens_per_s(r)).collect();
            if tokens.len() == ran.len() {
                s.push("tokens_per_s", tokens.iter().sum());
            }
        }
        for (metric, clock, p) in [
            ("p50_ms", Clock::Latency, 0.5),
            ("p99_ms", Clock::Latency, 0.99),
            ("event_ms", Clock::Event, 0.5),
        ] {
            let of_tenants: Vec<f64> =
                ran.iter().filter_map(|r| quantile(&durations(r, clock), p).ok()).collect();
            if of_tenants.len() == ran.len() {
                s.push(metric, of_tenants.iter().sum::<f64>() / ran.len() as f64);
            }
        }
        // Energy cannot be told apart by tenant: only where all are counted in iterations has it a divisor.
        if let (Some(joules), true) = (energy(record), programs.len() == trial.tenants.len()) {
            let iterations: f64 = ran.iter().map(|r| f64::from(r.launches)).sum();
            if iterations > 0.0 {
                s.push("joules_per_iteration", joules / iterations);
            }
            if ran.iter().all(|r| r.tokens > 0) {
                let tokens = ran.iter().map(|r| r.tokens as f64).sum::<f64>();
                s.push("joules_per_token", joules / tokens);
                s.push("tokens_per_joule", tokens / joules);
            }
            let alone: Vec<f64> = programs
                .iter()
                .zip(&ran)
                .filter_map(|(n, r)| {
                    let (solo, run) = runs(repeat, "solo", n).next()?;
                    (run.launches > 0).then_some(())?;
                    Some(energy(solo)? / f64::from(run.launches) * f64::from(r.launches))
                })
                .collect();
            if phase == "shared" && alone.len() == ran.len() {
                s.push("energy_ratio", joules / alone.iter().sum::<f64>());
            }
        }
    }
    let clock = |p: &PhaseRecord| p.state.as_ref()?.sm_clock_mhz.filter(|c| *c > 0.0);
    let alone: Vec<f64> = repeat.phases.iter().filter(|p| p.phase == "solo").filter_map(clock).collect();
    if let (Some(together), "shared", false) = (clock(record), phase, alone.is_empty()) {
        s.push("clock_ratio", together * alone.len() as f64 / alone.iter().sum::<f64>());
    }
    let medians: Vec<f64> = equal_group(trial)
        .iter()
        .filter_map(|t| median(&of_repeat(repeat, phase, &t.name, Clock::Latency)))
        .filter(|m| *m > 0.0)
        .collect();
    if medians.len() > 1 {
        let (low, high) = medians.iter().fold((f64::MAX, 0f64), |(a, b), m| (a.min(*m), b.max(*m)));
        s.push("spread", high / low - 1.0);
    }
    // Under an open loop the first requests are meant to come apart.
    let closed = trial.tenants.iter().all(|t| t.load.arrivals.is_null());
    if let (Some(ns), "shared", true) = (record.start_spread_ns, phase, closed) {
        s.push("start_spread_us", ns as f64 / 1e3);
    }
}

/// Joules that the GPU used in a phase.
fn energy(phase: &PhaseRecord) -> Option<f64> {
    phase.state.as_ref().and_then(state::energy_j)
}

/// Durations by this clock in phases of this kind, one list for each repeat that has some.
fn groups(s: &TrialSamples, phase: &str, tenant: &str, clock: Clock) -> Vec<Vec<f64>> {
    let lists = s.repeats.iter().map(|r| of_repeat(r, phase, tenant, clock));
    lists.filter(|l| !l.is_empty()).collect()
}

fn views(groups: &[Vec<f64>]) -> Vec<&[f64]> {
    groups.iter().map(Vec::as_slice).collect()
}

fn estimate(b: Bounded, n: usize) -> Estimate {
    Estimate { value: b.value, low: b.low, high: b.high, n: n as u32 }
}

/// Distributions of the iterations of every model and program, by phase and clock.
pub fn distributions(s: &TrialSamples, seed: u64) -> Vec<Distribution> {
    let mut out = Vec::new();
    for tenant in s.trial.tenants.iter().filter(|t| is_program(t)) {
        for phase in ["solo", "shared", "solo-traced", "shared-traced"] {
            for clock in Clock::ALL {
                if clock == Clock::Latency && !crate::iterations::open_loop(tenant) {
                    continue;
                }
                out.extend(distribution(s, phase, &tenant.name, clock, seed));
            }
        }
    }
    out
}

fn distribution(
    s: &TrialSamples,
    phase: &str,
    tenant: &str,
    clock: Clock,
    seed: u64,
) -> Option<Distribution> {
    let groups = groups(s, phase, tenant, clock);
    let d = Grouped::new(&views(&groups)).ok()?.describe(&bootstrap(seed)).ok()?;
    let dependence = cotenant_stats::dependence(&views(&groups)).ok()?;
    let e = |b| estimate(b, d.n);
    Some(Distribution {
        tenant: tenant.to_owned(),
        phase: phase.to_owned(),
        clock: clock.name().to_owned(),
        n: d.n as u32,
        repeats: d.groups as u32,
        mean_ms: e(d.mean),
        std_ms: e(d.deviation),
        min_ms: d.min,
        max_ms: d.max,
        p50_ms: e(d.p50),
        p90_ms: e(d.p90),
        p95_ms: e(d.p95),
        p99_ms: e(d.p99),
        lag1: dependence.lag1,
        effective_n: dependence.effective,
    })
}

/// Whether the parts of a trial's shared phases say what its percentiles do not: at times not all tenants were active,
/// beyond the last iteration of each.
pub(crate) fn uneven(parts: &[PartSummary]) -> bool {
    parts.iter().any(|p| p.active != "all" && p.share > 0.05)
}

/// Adds the metrics that are statistics of iterations: those of the distributions, kernels per iteration, and medians
/// by who was active.
pub(crate) fn pooled(
    s: &TrialSamples,
    distributions: &[Distribution],
    parts: &[PartSummary],
    seed: u64,
    metrics: &mut BTreeMap<String, Estimate>,
) {
    let together = together(s);
    for tenant in s.trial.tenants.iter().filter(|t| is_program(t)) {
        let name = &tenant.name;
        let find = |phase: &str, clock: Clock| {
            distributions.iter().find(|d| d.tenant == *name && d.phase == phase && d.clock == clock.name())
        };
        let latency = if crate::iterations::open_loop(tenant) { Clock::Latency } else { Clock::Wall };
        for (prefix, phase) in [("solo_", Some("solo")), ("", together)] {
            let Some(phase) = phase else { continue };
            if let Some(d) = find(phase, latency) {
                let exact = |v| Estimate { value: v, low: v, high: v, n: d.n };
                for (metric, e) in [
                    ("p50_ms", d.p50_ms),
                    ("p90_ms", d.p90_ms),
                    ("p95_ms", d.p95_ms),
                    ("p99_ms", d.p99_ms),
                    ("mean_ms", d.mean_ms),
                    ("std_ms", d.std_ms),
                    ("min_ms", exact(d.min_ms)),
                    ("max_ms", exact(d.max_ms)),
                ] {
                    metrics.insert(format!("{prefix}{metric}.{name}"), e);
                }
            }
            if let Some(d) = find(phase, Clock::Event) {
                metrics.insert(format!("{prefix}event_ms.{name}"), d.p50_ms);
            }
            let traced = format!("{phase}-traced");
            for (metric, clock) in [("kernel_ms", Clock::Kernel), ("busy_ms", Clock::Busy)] {
                if let Some(d) = find(&traced, clock) {
                    metrics.insert(format!("{prefix}{metric}.{name}"), d.p50_ms);
                }
            }
        }
        let kernels: Vec<Vec<f64>> = s
            .repeats
            .iter()
            .map(|r| {
                let traced = runs(r, "solo-traced", name).chain(runs(r, "shared-traced", name)).next();
                let counted = |run| crate::iterations::counted(run);
                traced.map_or_else(Vec::new, |(_, run)| {
                    counted(run).filter_map(|i| run.kernels.get(i)).map(|k| f64::from(*k)).collect()
                })
            })
            .collect();
        if let Ok(g) = Grouped::new(&views(&kernels))
            && let Ok(q) = g.quantiles(&[0.5], &bootstrap(seed))
        {
            metrics.insert(format!("kernels.{name}"), estimate(q[0], g.len()));
        }
        for part in parts.iter().filter(|_| uneven(parts)) {
            if let Some(e) = part.p50_ms.get(name) {
                metrics.insert(format!("p50_{}_ms.{name}", part.active), *e);
            }
        }
    }
}

/// Shared phases by who was active, in the order `all`, `some`, `one`.
pub fn parts(s: &TrialSamples, seed: u64) -> Vec<PartSummary> {
    let shared = || s.repeats.iter().flat_map(|r| r.phases.iter().filter(|p| p.phase == "shared"));
    let length = |from: u64, to: u64| to.saturating_sub(from) as f64;
    let whole: f64 = shared().flat_map(|p| &p.parts).map(|p| length(p.from_ns.0, p.to_ns.0)).sum();
    let mut out = Vec::new();
    for active in ["all", "some", "one"] {
        let time: f64 = shared()
            .flat_map(|p| &p.parts)
            .filter(|p| p.active == active)
            .map(|p| length(p.from_ns.0, p.to_ns.0))
            .sum();
        if time <= 0.0 {
            continue;
        }
        let mut gauges: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for phase in shared() {
            // Several stretches of a kind in one repeat: weighted by their length.
            let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
            for part in phase.parts.iter().filter(|p| p.active == active) {
                let weight = length(part.from_ns.0, part.to_ns.0);
                for (name, value) in part.state.as_ref().map(state::gauges).unwrap_or_default() {
                    let sum = sums.entry(name).or_default();
                    *sum = (sum.0 + weight * value, sum.1 + weight);
                }
            }
            for (name, (sum, weight)) in sums.into_iter().filter(|s| s.1.1 > 0.0) {
                gauges.entry(name).or_default().push(sum / weight);
            }
        }
        let of_tenant = |name: &str| -> Option<Estimate> {
            let groups: Vec<Vec<f64>> = s
                .repeats
                .iter()
                .map(|r| {
                    let runs = runs(r, "shared", name);
                    let inside = runs.flat_map(|(phase, run)| {
                        let within =
                            move |i: &usize| part_of(phase, run, *i).is_some_and(|p| p.active == active);
                        (0..run.spans_ns.len())
                            .filter(within)
                            .filter_map(|i| crate::iterations::duration(run, i, Clock::Latency))
                    });
                    inside.collect()
                })
                .collect();
            let g = Grouped::new(&views(&groups)).ok()?;
            Some(estimate(*g.quantiles(&[0.5], &bootstrap(seed)).ok()?.first()?, g.len()))
        };
        let programs = s.trial.tenants.iter().filter(|t| is_program(t));
        out.push(PartSummary {
            active: active.to_owned(),
            share: time / whole,
            p50_ms: programs.filter_map(|t| Some((t.name.clone(), of_tenant(&t.name)?))).collect(),
            state: gauges
                .into_iter()
                .filter_map(|(name, v)| Some((name.to_owned(), crate::summary::estimate(&v)?)))
                .collect(),
        });
    }
    out
}
