//! How fast each resident block runs: the model solved for what is on the SMs, and remembered.

use crate::SmSet;
use crate::floor::Floor;
use crate::scenario::Stream;
use cotenant_model::demand::KernelLoad;
use cotenant_model::{Machine, Resident, solve};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// SMs with the same kernels: their number, and for each kernel its key, blocks and place in the order of arrival.
type Class = (u32, Vec<(u32, u32, u32)>);

/// Up to so many different kernels in a run the model is solved for exactly what is resident.
const FEW_KERNELS: usize = 16;
/// With more of them (models), only in runs of two streams, and where SMs hold at most so many different mixtures:
/// three and more tenants of many short kernels leave mixtures that hardly ever come again.
const MOST_CLASSES: usize = 3;
/// Compositions remembered at most; then all are forgotten, which costs time and nothing else.
const MOST_KNOWN: usize = 400_000;

/// What is remembered from run to run of one GPU: rates by composition.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Kernels met, without their number of turns where that does not matter.
    met: Vec<KernelLoad>,
    /// Composition, flattened → rates in its order.
    known: HashMap<Vec<u32>, Vec<f64>>,
    /// SMs, kernel, blocks on each → its rate there alone, and what it draws from device memory and L2, GB/s.
    alone: HashMap<[u32; 3], [f64; 3]>,
}

impl Memory {
    fn number(&mut self, k: &KernelLoad) -> u32 {
        let at = self.met.iter().position(|o| same_speed(o, k)).unwrap_or_else(|| {
            self.met.push(*k);
            self.met.len() - 1
        });
        at as u32
    }
}

/// Launches that differ only in their number of turns run at the same speed, unless their first turn counts for the
/// cache.
pub(crate) fn same_speed(a: &KernelLoad, b: &KernelLoad) -> bool {
    a.shape == b.shape && a.demand == b.demand && (a.iterations == b.iterations || !b.demand.caches_in_l1)
}

/// A kernel of a run, as [`Rates`] needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Of a recorded model: what it asks of the machine is an estimate.
    pub recorded: bool,
    /// Blocks of its launch that are on the device, of those that would be if it had its SMs to itself, 0..1.
    pub share: f64,
    /// SMs that it may use.
    pub sms: SmSet,
}

/// Rates of one run.
pub(crate) struct Rates<'a> {
    memory: MutexGuard<'a, Memory>,
    /// Of each kernel of the run, its number in the memory.
    numbers: Vec<u32>,
    /// See [`FEW_KERNELS`]; and always for several recorded models, which hardly gain by overlap ([`turns`]).
    coarse: bool,
    /// Times the model was solved.
    pub solves: u64,
}

impl<'a> Rates<'a> {
    /// Rates for a run with these kernels.
    pub fn new(memory: &'a Mutex<Memory>, kernels: &[KernelLoad], streams: &[Stream]) -> Rates<'a> {
        // A panic elsewhere leaves the memory sound: entries are added whole.
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.known.len() + memory.alone.len() > MOST_KNOWN {
            *memory = Memory::default();
        }
        let numbers = kernels.iter().map(|k| memory.number(k)).collect();
        let models = streams.iter().filter(|s| s.pacing.is_some()).count();
        let coarse = models > 1 || (streams.len() > 2 && kernels.len() > FEW_KERNELS);
        Rates { memory, numbers, coarse, solves: 0 }
    }

    /// Sets the rate of every cohort on `floor`. `kernels`, `arrivals` (when the launch reached the device) and `parts`
    /// are indexed by [`crate::floor::Cohort::kernel`].
    pub fn assign(
        &mut self,
        m: &Machine,
        kernels: &[KernelLoad],
        arrivals: &[u64],
        parts: &[Part],
        floor: &mut Floor,
    ) {
        let (classes, class_of) = classes(floor, arrivals);
        if classes.is_empty() {
            return;
        }
        if self.coarse || (kernels.len() > FEW_KERNELS && classes.len() > MOST_CLASSES) {
            return self.assign_coarsely(m, kernels, &classes, parts, floor);
        }
        let mut key = Vec::with_capacity(classes.len() * 8);
        let mut met: Vec<u32> = Vec::new();
        for (sms, blocks) in &classes {
            key.push(*sms);
            key.push(blocks.len() as u32);
            for &(k, b, rank) in blocks {
                let number = self.numbers.get(k as usize).copied().unwrap_or(u32::MAX);
                // Kernels that only look the same share no data: which of those here it is.
                let which = match met.iter().position(|m| *m == k) {
                    Some(i) => i,
                    None => {
                        met.push(k);
                        met.len() - 1
                    }
                };
                key.extend([number, which as u32, b, rank]);
            }
        }
        let rates = self.memory.known.entry(key).or_insert_with(|| {
            self.solves += 1;
            solved(m, kernels, &classes)
        });
        spread(&classes, &class_of, rates, floor);
    }

    /// Rates where the SMs hold too many different things: each kernel has those that it would have on its SMs alone,
    /// less what recorded models take from each other ([`turns`]), and all that draw on device memory (or L2) slow
    /// down together once they ask for more than there is. What other kernels on the same SM take from each other is
    /// left out.
    fn assign_coarsely(
        &mut self,
        m: &Machine,
        kernels: &[KernelLoad],
        classes: &[Class],
        parts: &[Part],
        floor: &mut Floor,
    ) {
        let apart = apart(classes);
        let mut alone: Vec<[f64; 3]> = Vec::with_capacity(apart.len());
        for one in &apart {
            let (sms, blocks) = one;
            let (k, b, _) = blocks.first().copied().unwrap_or_default();
            let number = self.numbers.get(k as usize).copied().unwrap_or(u32::MAX);
            alone.push(*self.memory.alone.entry([*sms, number, b]).or_insert_with(|| {
                self.solves += 1;
                let r = solve(m, &residents(kernels, std::slice::from_ref(one)));
                [r.of.first().map_or(0.0, |r| r.per_ns), r.dram_gbs, r.l2_gbs]
            }));
        }
        let of = |one: &Class| one.1.first().and_then(|b| parts.get(b.0 as usize)).filter(|p| p.recorded);
        for (one, a) in apart.iter().zip(&mut alone) {
            if let Some(part) = of(one) {
                let factor = turns(part, apart.iter().filter_map(of), m.model_overlap);
                a.iter_mut().for_each(|v| *v *= factor);
            }
        }
        let sum = |i: usize| alone.iter().map(|a| a[i]).sum::<f64>();
        let over = (sum(1) / m.dram.copy_gbs()).max(sum(2) / m.l2.copy_gbs()).max(1.0);
        for c in floor.groups.iter_mut().flat_map(|g| &mut g.cohorts) {
            if let Some(i) = apart.iter().position(|a| a.1.first().is_some_and(|b| b.0 == c.kernel)) {
                let [rate, dram, l2] = alone[i];
                c.rate = if dram + l2 > 0.0 { rate / over } else { rate };
            }
        }
    }
}

/// Factor on the rate of a launch of a recorded model among `all` that are on the device, itself included. Launches
/// that took turns would have rates that sum to one launch's; of what they have beyond that when each keeps its own
/// rate, the part `overlap` remains. A launch counts as far as its SMs are those of `this` one, and its blocks there.
///
/// Why such a rule and not the laws of resources: what recorded kernels do to each other in L2 and at the
/// SMs is not known, and on the H100 it eats most of what filling idle SMs brings (`docs/design/simulated-models.md`).
fn turns<'p>(this: &Part, all: impl Iterator<Item = &'p Part>, overlap: f64) -> f64 {
    let common = |p: &Part| f64::from(p.sms.and(&this.sms).len()) / f64::from(this.sms.len().max(1));
    let sum: f64 = all.map(|p| p.share * common(p)).sum();
    if sum > 1.0 { (1.0 + overlap * (sum - 1.0)) / sum } else { 1.0 }
}

/// Gives each cohort the rate of its kernel in its class.
fn spread(classes: &[Class], class_of: &[usize], rates: &[f64], floor: &mut Floor) {
    // Where the rates of each class begin.
    let mut starts = Vec::with_capacity(classes.len());
    let mut at = 0;
    for (_, blocks) in classes {
        starts.push(at);
        at += blocks.len();
    }
    for (g, &class) in floor.groups.iter_mut().zip(class_of) {
        for c in &mut g.cohorts {
            let blocks = &classes[class].1;
            if let Some(i) = blocks.iter().position(|b| b.0 == c.kernel) {
                c.rate = rates[starts[class] + i];
            }
        }
    }
}

/// Kernels as if each had its SMs to itself: of each its key, SMs in steps and blocks on each, in order of arrival.
/// Steps keep the different ones few: one SM up to 12, then 12.
fn apart(classes: &[Class]) -> Vec<Class> {
    // Kernel → SMs, blocks, place in the order of arrival.
    let mut of: Vec<(u32, u32, u32, u32)> = Vec::new();
    for (sms, blocks) in classes {
        for &(k, b, rank) in blocks {
            match of.iter_mut().find(|o| o.0 == k) {
                Some(o) => {
                    o.1 += sms;
                    o.2 += sms * b;
                    o.3 = o.3.max(rank);
                }
                None => of.push((k, *sms, sms * b, rank)),
            }
        }
    }
    of.sort_unstable();
    of.into_iter()
        .map(|(k, sms, blocks, _)| {
            let each = ((blocks + sms / 2) / sms).max(1);
            let steps = if sms > 12 { (sms + 6) / 12 * 12 } else { sms };
            (steps, vec![(k, each, 0)])
        })
        .collect()
}

/// Classes in a canonical order, and the class of each group (any number for empty groups).
fn classes(floor: &Floor, arrivals: &[u64]) -> (Vec<Class>, Vec<usize>) {
    let mut classes: Vec<Class> = Vec::new();
    let mut of = Vec::with_capacity(floor.groups.len());
    for g in &floor.groups {
        let mut blocks: Vec<(u32, u32, u32)> = Vec::with_capacity(g.cohorts.len());
        for c in &g.cohorts {
            match blocks.iter_mut().find(|b| b.0 == c.kernel) {
                Some(b) => b.1 += c.blocks,
                None => blocks.push((c.kernel, c.blocks, 0)),
            }
        }
        if blocks.is_empty() {
            of.push(usize::MAX);
            continue;
        }
        let arrival = |k: u32| arrivals.get(k as usize).copied().unwrap_or(0);
        blocks.sort_unstable_by_key(|b| arrival(b.0));
        blocks.iter_mut().zip(0..).for_each(|(b, rank)| b.2 = rank);
        blocks.sort_unstable();
        match classes.iter().position(|c| c.1 == blocks) {
            Some(i) => {
                classes[i].0 += g.sms.len();
                of.push(i);
            }
            None => {
                classes.push((g.sms.len(), blocks));
                of.push(classes.len() - 1);
            }
        }
    }
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_unstable_by(|&a, &b| classes[a].1.cmp(&classes[b].1));
    let mut rank = vec![0; classes.len()];
    for (r, &i) in order.iter().enumerate() {
        rank[i] = r;
    }
    classes.sort_unstable_by(|a, b| a.1.cmp(&b.1));
    (classes, of.into_iter().map(|i| rank.get(i).copied().unwrap_or(usize::MAX)).collect())
}

fn solved(m: &Machine, kernels: &[KernelLoad], classes: &[Class]) -> Vec<f64> {
    solve(m, &residents(kernels, classes)).of.iter().map(|r| r.per_ns).collect()
}

fn residents<'k>(kernels: &'k [KernelLoad], classes: &[Class]) -> Vec<Resident<'k>> {
    let mut residents = Vec::new();
    for (class, (sms, blocks)) in classes.iter().enumerate() {
        for &(k, n, arrival) in blocks {
            let load = &kernels[k as usize];
            residents.push(Resident {
                demand: &load.demand,
                kernel: k,
                grid_blocks: load.shape.blocks,
                class: class as u32,
                sms: *sms,
                blocks: n,
                warps: load.shape.warps(),
                shared_bytes: load.shape.shared_bytes.0,
                turns: load.iterations,
                arrival,
            });
        }
    }
    residents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_that_take_turns_are_as_fast_as_one() {
        let part = |share, sms| Part { recorded: true, share, sms };
        let all = SmSet::range(0, 132);
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got}, not {want}");
        let whole = part(1.0, all);
        for (overlap, want) in [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)] {
            near(turns(&whole, [whole, whole].iter(), overlap), want);
        }
        // A launch of which few blocks found room takes little from the other.
        near(turns(&whole, [whole, part(0.25, all)].iter(), 0.0), 0.8);
        // Alone, however few of its blocks are there, a launch is as fast as alone.
        near(turns(&part(0.3, all), [part(0.3, all)].iter(), 0.0), 1.0);
        // On SMs of their own they do not meet; beside one that may be anywhere, half of the GPU gives half its time.
        let halves = [part(1.0, SmSet::range(0, 66)), part(1.0, SmSet::range(66, 132))];
        near(turns(&halves[0], halves.iter(), 0.0), 1.0);
        near(turns(&halves[0], [halves[0], whole].iter(), 0.0), 0.5);
        near(turns(&whole, [halves[0], whole].iter(), 0.0), 1.0 / 1.5);
    }
}
