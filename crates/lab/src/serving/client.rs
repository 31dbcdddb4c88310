//! Whether the numbers of servers are the client's.

use cotenant_store::format::{FORMAT, PhaseRecord, WarningRecord};
use cotenant_store::serving::{LATE_MS, SATURATED};
use std::collections::BTreeMap;

/// How the clients of a trial's servers did.
#[derive(Debug, Default)]
pub struct Clients {
    late_ns: BTreeMap<String, Vec<u64>>,
    busiest: BTreeMap<String, f64>,
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

    /// What says that numbers are the client's.
    pub fn warnings(&mut self, trial: &str) -> Vec<WarningRecord> {
        let mut out = Vec::new();
        let mut warn = |message: String, advice: &str| {
            out.push(WarningRecord {
                format: FORMAT,
                trial: Some(trial.to_owned()),
                kind: "client".into(),
                message: format!("these numbers are the client's: {message}"),
                advice: advice.into(),
            });
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
}
