//! The tables of runs with models and programs: one row per tenant, per trial, and per role.
//!
//! Plain rows of text, so that the terminal and the page show the same.

use crate::iterations::{has_programs, is_program, open_loop};
use crate::labels;
use crate::metric::{self, percent};
use crate::page::TableBlock;
use crate::pairs::{SHARED_SOLO, TENANTS};
use crate::scale::significant;
use cotenant_store::format::{
    Distribution, Estimate, Manifest, PairTest, Summary, TenantRecord, TrialRecord, TrialSummary,
};

/// A table with a heading.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Titled {
    /// Heading.
    pub title: String,
    /// One line below the table; may be empty.
    pub note: String,
    /// The table.
    pub table: TableBlock,
}

/// A table in the making: columns without any content are left out.
struct Columns {
    head: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Column heads; `true`: numbers, set to the right.
    fn new(head: &[(&'static str, bool)]) -> Self {
        Columns { head: head.to_vec(), rows: Vec::new() }
    }

    fn finish(self) -> TableBlock {
        let used: Vec<usize> =
            (0..self.head.len()).filter(|&c| self.rows.iter().any(|r| !r[c].is_empty())).collect();
        TableBlock {
            head: used.iter().map(|&c| self.head[c].0.to_owned()).collect(),
            numeric: used.iter().enumerate().filter(|(_, c)| self.head[**c].1).map(|(i, _)| i).collect(),
            rows: self.rows.iter().map(|r| used.iter().map(|&c| r[c].clone()).collect()).collect(),
        }
    }
}

fn number(e: Option<&Estimate>) -> String {
    e.map_or_else(String::new, |e| metric::value(e.value))
}

/// `1.900× [1.880, 1.920]`.
fn with_interval(name: &str, e: Option<&Estimate>) -> String {
    e.map_or_else(String::new, |e| {
        format!("{} {}", metric::with_unit(name, e.value), metric::interval_of(name, e))
    })
}

/// The tables of a run's trials with models or programs: tenants, trials, roles. Empty for runs without any.
pub fn tables(manifest: &Manifest, summary: &Summary) -> Vec<Titled> {
    let trials: Vec<(&TrialRecord, &TrialSummary)> = summary
        .trials
        .iter()
        .filter_map(|s| Some((manifest.trials.iter().find(|t| t.id == s.trial)?, s)))
        .filter(|(t, _)| has_programs(t))
        .collect();
    if trials.is_empty() {
        return Vec::new();
    }
    let note = "Times in ms: median and 99th percentile of iterations (under an open loop from the intended arrival), \
                alone and together. Slowdown: median shared over median alone in the same repeat, with its 95 % interval.";
    // What all of them have in common stands once, above the table.
    let mut ways: Vec<String> = trials.iter().flat_map(|t| &t.0.tenants).map(labels::runs_as).collect();
    ways.sort();
    ways.dedup();
    let common = ways.len() == 1 && !ways[0].is_empty();
    let title = if common { format!("Tenants, all {}", ways[0]) } else { "Tenants".to_owned() };
    let mut out = vec![Titled { title, note: note.into(), table: tenants(&trials, common) }];
    if let Some(table) = crate::servers::table(&trials) {
        let note = "Times in ms, medians over repeats of each repeat's percentile. TTFT: to the first content, from the \
                    intended time of an open loop, else from sent. TPOT: last less first content over the tokens after \
                    the first. Slowdown: median together over median alone in the same repeat, with its 95 % interval.";
        out.push(Titled { title: "Servers".into(), note: note.into(), table });
    }
    let together = together(&trials);
    if !together.rows.is_empty() {
        let note = "Sums and means over the tenants of a trial. Spread: largest over smallest median of equal tenants, \
                    less 1. Counters: mean while they share.";
        out.push(Titled { title: "Together".into(), note: note.into(), table: together });
    }
    if let Some(table) = crate::regimes::table(manifest, summary) {
        let note = "All servers of a trial together, regimes beside each other at the same total load. Of the first: tokens per second over \
                    those of the first regime at that load. STP: the sum of each server's rate over its rate alone under the same regime.";
        out.push(Titled { title: "By regime".into(), note: note.into(), table });
    }
    let roles = roles(&trials);
    if !roles.rows.is_empty() {
        let note = "Mean over tenants and trials of the slowdown, by what a tenant is and \
                    what it runs beside.";
        out.push(Titled { title: "By role".into(), note: note.into(), table: roles });
    }
    out
}

fn tenants(trials: &[(&TrialRecord, &TrialSummary)], common: bool) -> TableBlock {
    let mut t = Columns::new(&[
        ("trial", false),
        ("tenant", false),
        ("role", false),
        ("model", false),
        ("runs as", false),
        ("p50 alone", true),
        ("p50", true),
        ("slowdown", true),
        ("verdict", false),
        ("p99 alone", true),
        ("p99", true),
        ("it/s", true),
        ("tok/s", true),
        ("overlap", true),
    ]);
    for (trial, summary) in trials {
        if summary.metrics.is_empty() {
            let mut row = vec![String::new(); t.head.len()];
            (row[0], row[1]) = (summary.trial.clone(), format!("({})", summary.status));
            t.rows.push(row);
            continue;
        }
        // Where nobody shared, "together" would only repeat "alone".
        let shares = summary.distributions.iter().any(|d| d.phase == "shared");
        for (i, tenant) in trial.tenants.iter().enumerate() {
            let of = |name: &str| summary.metrics.get(&format!("{name}.{}", tenant.name));
            let mut row = vec![
                if i == 0 { trial.id.clone() } else { String::new() },
                tenant.name.clone(),
                tenant.role.clone(),
                labels::model(tenant),
                if common { String::new() } else { labels::runs_as(tenant) },
            ];
            // A kernel beside a model: its launches are its iterations.
            let (alone, shared, slowdown) = if is_program(tenant) {
                ("solo_p50_ms", "p50_ms", "slowdown")
            } else {
                ("solo_ms", "shared_ms", "slowdown")
            };
            row.extend([
                number(of(alone)),
                if shares { number(of(shared)) } else { String::new() },
                with_interval(slowdown, of(slowdown)),
                verdict(summary, slowdown, tenant),
                number(of("solo_p99_ms")),
                if shares { number(of("p99_ms")) } else { String::new() },
                number(of("throughput")),
                number(of("tokens_per_s")),
                match summary.overlap {
                    Some(o) if i == 0 => format!("{:.1} %", 100.0 * o),
                    _ => String::new(),
                },
            ]);
            t.rows.push(row);
        }
    }
    t.finish()
}

fn verdict(summary: &TrialSummary, slowdown: &str, tenant: &TenantRecord) -> String {
    summary.verdicts.get(&format!("{slowdown}.{}", tenant.name)).cloned().unwrap_or_default()
}

fn together(trials: &[(&TrialRecord, &TrialSummary)]) -> TableBlock {
    const SHOWN: [(&str, &str); 14] = [
        ("it/s", "throughput"),
        ("tok/s", "tokens_per_s"),
        ("ANTT", "antt"),
        ("STP", "stp"),
        ("min/max", "fairness"),
        ("Jain", "jain"),
        ("spread", "spread"),
        ("J/it", "joules_per_iteration"),
        ("J/tok", "joules_per_token"),
        ("energy/alone", "energy_ratio"),
        ("start spread", "start_spread_us"),
        ("SM occupancy", "sm_occupancy_pct"),
        ("DRAM", "dram_pct"),
        ("tensor", "tensor_pct"),
    ];
    let mut head = vec![("trial", false), ("tenants", true)];
    head.extend(SHOWN.iter().map(|(name, _)| (*name, true)));
    let mut t = Columns::new(&head);
    for (trial, summary) in trials {
        let cells: Vec<String> = SHOWN
            .iter()
            .map(|(_, m)| summary.metrics.get(*m).map_or_else(String::new, |e| shared_value(m, e)))
            .collect();
        if cells.iter().any(|c| !c.is_empty()) {
            let mut row = vec![trial.id.clone(), trial.tenants.len().to_string()];
            row.extend(cells);
            t.rows.push(row);
        }
    }
    t.finish()
}

/// Units stand in the heads, save where values are percentages or times.
fn shared_value(name: &str, e: &Estimate) -> String {
    match metric::unit(name) {
        "%" | "µs" | "×" => metric::with_unit(name, e.value),
        _ => metric::value(e.value),
    }
}

/// Mean slowdown by role and by the roles beside it.
fn roles(trials: &[(&TrialRecord, &TrialSummary)]) -> TableBlock {
    let mut groups: Vec<((String, String), Vec<f64>)> = Vec::new();
    for (trial, summary) in trials {
        for (i, tenant) in trial.tenants.iter().enumerate().filter(|(_, t)| !t.role.is_empty()) {
            let Some(e) = summary.metrics.get(&format!("slowdown.{}", tenant.name)) else { continue };
            let others = trial.tenants.iter().enumerate().filter(|(j, _)| *j != i);
            let mut beside: Vec<String> = others
                .map(|(_, t)| if t.role.is_empty() { labels::model(t) } else { t.role.clone() })
                .collect();
            beside.sort();
            beside.dedup();
            let key = (tenant.role.clone(), beside.join(" and "));
            match groups.iter_mut().find(|g| g.0 == key) {
                Some(group) => group.1.push(e.value),
                None => groups.push((key, vec![e.value])),
            }
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    let mut t = Columns::new(&[
        ("role", false),
        ("beside", false),
        ("tenants", true),
        ("mean slowdown", true),
        ("least", true),
        ("most", true),
    ]);
    for ((role, beside), values) in groups {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let times = |v: f64| metric::with_unit("slowdown", v);
        t.rows.push(vec![role, beside, values.len().to_string(), times(mean), times(low), times(high)]);
    }
    t.finish()
}

/// Distributions of a trial's iterations: the report's table of means and percentiles, by phase and clock.
pub fn distributions(summary: &TrialSummary) -> TableBlock {
    let mut t = Columns::new(&[
        ("Tenant", false),
        ("Phase", false),
        ("Clock", false),
        ("n", true),
        ("Mean [ms]", true),
        ("Std", true),
        ("Min", true),
        ("p50", true),
        ("95 % interval", true),
        ("p90", true),
        ("p95", true),
        ("p99", true),
        ("Max", true),
        ("Lag 1", true),
        ("Effective n", true),
    ]);
    for d in &summary.distributions {
        let Distribution { tenant, phase, clock, n, .. } = d;
        let v = |e: &Estimate| metric::value(e.value);
        t.rows.push(vec![
            tenant.clone(),
            phase.clone(),
            clock.clone(),
            n.to_string(),
            v(&d.mean_ms),
            v(&d.std_ms),
            metric::value(d.min_ms),
            v(&d.p50_ms),
            metric::interval(&d.p50_ms),
            v(&d.p90_ms),
            v(&d.p95_ms),
            v(&d.p99_ms),
            metric::value(d.max_ms),
            format!("{:.2}", d.lag1).replace('-', "−"),
            format!("{:.0}", d.effective_n),
        ]);
    }
    t.finish()
}

/// A p-value: `0.031`, `< 0.001`.
fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// Pairwise tests of a trial.
pub fn tests(summary: &TrialSummary) -> TableBlock {
    let mut t = Columns::new(&[
        ("Comparison", false),
        ("Clock", false),
        ("Ratio of medians", true),
        ("Verdict", false),
        ("Paired p", true),
        ("Shift [ms]", true),
        ("Shift", true),
        ("P(longer)", true),
        ("Welch p", true),
        ("MWU p", true),
        ("KS p", true),
        ("n", true),
    ]);
    for test in &summary.tests {
        let PairTest { a, b, by_iteration: l, .. } = test;
        let what = match test.kind.as_str() {
            SHARED_SOLO => format!("{a}: shared / alone"),
            TENANTS => format!("{a} / {b}"),
            other => format!("{a}, {b}: {other}"),
        };
        t.rows.push(vec![
            what,
            test.clock.clone(),
            format!("{} {}", significant(test.ratio.value, 4), metric::interval(&test.ratio)),
            test.verdict.clone(),
            p_value(test.paired.adjusted_p),
            format!("{} {}", metric::value(l.shift_ms.value), metric::interval(&l.shift_ms)),
            percent(l.shift_relative),
            format!("{:.2}", l.superiority),
            l.welch.map_or_else(String::new, |w| p_value(w.adjusted_p)),
            p_value(l.mann_whitney.adjusted_p),
            p_value(l.kolmogorov_smirnov.adjusted_p),
            format!("{} · {}", l.n_a, l.n_b),
        ]);
    }
    t.finish()
}

/// Parts of a trial's shared phases by who was active. Empty where all were nearly all the time.
pub fn parts(trial: &TrialRecord, summary: &TrialSummary) -> TableBlock {
    if !crate::programs::uneven(&summary.parts) {
        return TableBlock::default();
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |name: String, cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = (0..summary.parts.len()).map(cell).collect();
        if cells.iter().any(|c| !c.is_empty()) {
            rows.push(std::iter::once(name).chain(cells).collect());
        }
    };
    add("share of the time".into(), &|i| format!("{:.1} %", 100.0 * summary.parts[i].share));
    for tenant in trial.tenants.iter().filter(|t| is_program(t)) {
        let what = if open_loop(tenant) { "latency" } else { "iteration" };
        add(format!("{}: median {what} [ms]", tenant.name), &|i| {
            with_interval("", summary.parts[i].p50_ms.get(&tenant.name))
        });
    }
    let mut gauges: Vec<&String> = summary.parts.iter().flat_map(|p| p.state.keys()).collect();
    gauges.sort_by_key(|g| (metric::rank(g), g.as_str()));
    gauges.dedup();
    for gauge in gauges {
        add(metric::words(gauge), &|i| {
            summary.parts[i].state.get(gauge).map_or_else(String::new, |e| metric::with_unit(gauge, e.value))
        });
    }
    let mut head = vec!["While active".to_owned()];
    head.extend(summary.parts.iter().map(|p| p.active.clone()));
    TableBlock { numeric: (1..head.len()).collect(), head, rows }
}

/// Models and programs of a trial as planned and as they told of themselves.
pub fn programs(
    trial: &TrialRecord,
    facts: impl Fn(&str) -> Vec<(String, String)>,
    sms: impl Fn(&str) -> String,
) -> TableBlock {
    let mut t = Columns::new(&[
        ("Tenant", false),
        ("Role", false),
        ("Model", false),
        ("Runs as", false),
        ("Load", false),
        ("SMs", true),
        ("Told of itself", false),
    ]);
    for tenant in trial.tenants.iter().filter(|t| is_program(t)) {
        let told: Vec<String> = facts(&tenant.name).into_iter().map(|(k, v)| format!("{k} {v}")).collect();
        t.rows.push(vec![
            tenant.name.clone(),
            tenant.role.clone(),
            labels::model(tenant),
            labels::runs_as(tenant),
            labels::load(tenant),
            sms(&tenant.name),
            told.join(", "),
        ]);
    }
    t.finish()
}
