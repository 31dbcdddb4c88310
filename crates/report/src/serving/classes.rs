//! A load by the classes of its requests.

use super::sample::{Blocks, Stretches};
use super::summary::{E2E, TIMES, TPOT, TTFT};
use super::window::Survey;
use cotenant_store::serving::{ClassSummary, RequestRecord};

/// Most classes that are told apart: each has values of its own to be held.
const MOST: usize = 32;
/// The times that are told of each, by their place in [`TIMES`].
const TOLD: [usize; 3] = [TTFT, TPOT, E2E];

/// What is added up of a class.
struct Class {
    name: String,
    requests: u64,
    failed: u64,
    times: [Option<Blocks>; TOLD.len()],
}

/// What is added up of each class; nothing where there are fewer than two.
pub(super) struct Classes(Vec<Class>);

impl Classes {
    /// Of these names, by [`RequestRecord::tag`].
    pub fn new(names: &[String]) -> Classes {
        let names = if names.len() > 1 { &names[..names.len().min(MOST)] } else { &[] };
        let class = |name: &String| Class {
            name: name.clone(),
            requests: 0,
            failed: 0,
            times: [const { None }; TOLD.len()],
        };
        Classes(names.iter().map(class).collect())
    }

    /// Adds a request that counts, with its times.
    pub fn add(&mut self, survey: &Survey, r: &RequestRecord, times: &[Option<f64>; TIMES.len()]) {
        let Some(class) = self.0.get_mut(r.tag as usize) else { return };
        class.requests += 1;
        class.failed += u64::from(!r.ok());
        for (blocks, at) in class.times.iter_mut().zip(TOLD) {
            let Some(value) = times[at] else { continue };
            let blocks =
                blocks.get_or_insert_with(|| Blocks::new(Stretches::of(&survey.window), survey.each));
            blocks.push(r.intended_ns, value);
        }
    }

    /// What each class gave, in the order of their names in the load; those without a request are left out.
    pub fn summaries(&self) -> Vec<ClassSummary> {
        let some = self.0.iter().filter(|c| c.requests > 0);
        let summary = |c: &Class| {
            let named = TOLD.iter().zip(&c.times);
            ClassSummary {
                name: c.name.clone(),
                requests: c.requests,
                failed: c.failed,
                times: named
                    .filter_map(|(&at, b)| Some((TIMES[at].to_owned(), b.as_ref()?.spread()?)))
                    .collect(),
            }
        };
        some.map(summary).collect()
    }
}
