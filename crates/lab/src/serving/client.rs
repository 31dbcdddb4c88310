//! Whether the numbers of servers are the client's, and whether the load was the one that was asked for.

use cotenant_store::format::{FORMAT, PhaseRecord, WarningRecord};
use cotenant_store::serving::{LATE_MS, SATURATED};
use std::collections::{BTreeMap, BTreeSet};

/// How the clients of a trial's servers did.
#[derive(Debug, Default)]
pub struct Clients {
    late_ns: BTreeMap<String, Vec<u64>>,
    busiest: BTreeMap<String, f64>,
    /// By tenant: repeats whose arrivals differ beyond chance from what was asked, and in what the first of them does.
    departed: BTreeMap<String, (BTreeSet<u32>, String)>,
    repeats: u32,
}

impl Clients {
    /// Notes a phase.
    pub fn note(&mut self, phase: &PhaseRecord) {
        for t in &phase.tenants {
            let Some(served) = &t.served else { continue };
            if served.open {
                self.late_ns.entry(t.name.clone()).or_default().extend(&served.late_ns);
            }
            let busiest = self.busiest.entry(t.name.clone()).or_default();
            *busiest = busiest.max(served.client_busiest);
        }
    }

    /// Notes in what a tenant's drawn arrivals differ from what was asked. Those of all phases of a repeat are the same.
    pub fn note_arrivals(&mut self, tenant: &str, repeat: u32, departures: &[String]) {
        self.repeats = self.repeats.max(repeat + 1);
        if !departures.is_empty() {
            let first = || (BTreeSet::new(), departures.join("; "));
            self.departed.entry(tenant.to_owned()).or_insert_with(first).0.insert(repeat);
        }
    }

    /// What says that numbers are the client's, or of another load than was asked for.
    pub fn warnings(&mut self, trial: &str) -> Vec<WarningRecord> {
        let mut out = Vec::new();
        let mut tell = |kind: &str, message: String, advice: &str| {
            out.push(WarningRecord {
                format: FORMAT,
                trial: Some(trial.to_owned()),
                kind: kind.into(),
                message,
                advice: advice.into(),
            });
        };
        for (name, (repeats, first)) in &self.departed {
            tell(
                "arrivals",
                format!(
                    "the arrivals of {name} differ beyond chance from what was asked in {} of {} repeats: {first}",
                    repeats.len(),
                    self.repeats
                ),
                "take the load for what it was: rare bursts and long gaps need many requests, or another `seed`; `exact_rate` \
                 keeps the rate",
            );
        }
        let mut warn = |message: String, advice: &str| {
            tell("client", format!("these numbers are the client's: {message}"), advice);
        };
        for (name, late) in &mut self.late_ns {
            late.sort_unstable();
            // Nearest rank.
            let p99 = late
                .get((late.len() * 99).div_ceil(100).saturating_sub(1))
                .map_or(0.0, |ns| *ns as f64 / 1e6);
            if p99 > LATE_MS {
                warn(
                    format!("requests to {name} were sent {p99:.2} ms late (99th percentile)"),
                    "give the host more cores, or ask less",
                );
            }
        }
        for (name, busiest) in &self.busiest {
            if *busiest > SATURATED {
                warn(
                    format!("the client of {name} used {:.0} % of a core", 100.0 * busiest),
                    "ask less, or spread the load over several tenants",
                );
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_store::format::PhaseTenant;
    use cotenant_store::serving::ServedPhase;

    fn phase(late_ns: Vec<u64>, busiest: f64, open: bool) -> PhaseRecord {
        let served = ServedPhase { open, late_ns, client_busiest: busiest, ..ServedPhase::default() };
        let tenant: PhaseTenant = serde_json::from_value(serde_json::json!({
            "name": "a", "time_ns": 1.0, "start_ns": 0, "end_ns": 1, "launches": 1, "counted": 1,
            "spans_ns": [], "requests_ns": [], "sm_clock_mhz": null, "served": served,
        }))
        .expect("a tenant");
        serde_json::from_value(serde_json::json!({
            "phase": "shared", "makespan_ns": 1, "overlap": null, "tenants": [tenant], "state": null,
        }))
        .expect("a phase")
    }

    #[test]
    fn a_late_or_busy_client_says_so() {
        let told = |p: PhaseRecord| {
            let mut c = Clients::default();
            c.note(&p);
            c.warnings("t").into_iter().map(|w| w.message).collect::<Vec<_>>()
        };
        assert!(told(phase(vec![100_000; 100], 0.3, true)).is_empty());
        let late = told(phase([vec![0; 90], vec![3_000_000; 10]].concat(), 0.3, true));
        assert!(late[0].contains("sent 3.00 ms late"), "{late:?}");
        // Users of a closed loop have no time of their own to be late for.
        assert!(told(phase(vec![3_000_000; 10], 0.3, false)).is_empty());
        assert!(told(phase(vec![0; 10], 0.97, false))[0].contains("97 % of a core"));
    }

    #[test]
    fn arrivals_that_are_not_what_was_asked_are_told_by_repeats() {
        let mut c = Clients::default();
        for repeat in [0, 0, 1, 2, 2] {
            let told: &[String] = if repeat == 1 { &[] } else { &["rate 2.0/s".into(), "cv 3".into()] };
            c.note_arrivals("a", repeat, told);
            c.note_arrivals("b", repeat, &[]);
        }
        let told = c.warnings("t");
        assert_eq!((told.len(), told[0].kind.as_str()), (1, "arrivals"));
        assert!(told[0].message.contains("of a differ beyond chance"), "{}", told[0].message);
        assert!(told[0].message.ends_with("in 2 of 3 repeats: rate 2.0/s; cv 3"), "{}", told[0].message);
    }
}
