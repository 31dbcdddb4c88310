//! The SMs of one context at a time: which blocks are resident where, and where the next ones go.
//!
//! SMs that hold the same blocks with the same work left form a *group*, and blocks of one launch that were placed
//! there at the same instant a *cohort*; both split and merge as blocks come and go. A wave of 264 equal blocks is
//! then one cohort instead of 264 objects, while every block still has an SM, a start and an end of its own.

use crate::SmSet;
use cotenant_model::card::Order;
use cotenant_model::residency::Holding;

/// Work left below this many ns at the current rate counts as done: times are sums of 64-bit floats.
const DONE_NS: f64 = 1e-3;

/// Domains of SMs in which blocks of one instant share a length, where lengths vary.
const DOMAINS: u32 = 12;

/// Blocks of one launch placed at the same instant on each SM of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Cohort {
    /// Key of the launch.
    pub launch: u32,
    /// Key of its kernel, for the rates.
    pub kernel: u32,
    /// Blocks on each SM.
    pub blocks: u32,
    /// What each block holds.
    pub holding: Holding,
    /// When they were placed, ns.
    pub started: f64,
    /// ns until their first instruction.
    pub delay: f64,
    /// Iterations left.
    pub remaining: f64,
    /// Iterations per ns, set from outside.
    pub rate: f64,
}

impl Cohort {
    /// ns until it ends at its rate.
    fn left_ns(&self) -> f64 {
        if self.remaining <= 0.0 { self.delay } else { self.delay + self.remaining / self.rate }
    }

    fn same(&self, o: &Cohort) -> bool {
        self.launch == o.launch
            && self.blocks == o.blocks
            && self.started == o.started
            && self.delay == o.delay
            && (self.remaining - o.remaining).abs() <= 1e-9 * self.remaining.abs().max(1e-9)
    }
}

/// SMs that hold the same.
#[derive(Debug, Clone)]
pub struct Group {
    /// The SMs.
    pub sms: SmSet,
    /// What is free on each.
    pub free: Holding,
    /// What is there.
    pub cohorts: Vec<Cohort>,
    /// Blocks came or went since groups were last joined.
    changed: bool,
}

/// Blocks to place.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Key of the launch.
    pub launch: u32,
    /// Key of its kernel.
    pub kernel: u32,
    /// What one block holds.
    pub holding: Holding,
    /// SMs it may use.
    pub mask: SmSet,
    /// Blocks.
    pub blocks: u32,
    /// Iterations of each.
    pub iterations: f64,
    /// ns from placement to first instruction.
    pub delay: f64,
}

/// Blocks that ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The cohort.
    pub cohort: Cohort,
    /// The SMs that held it.
    pub sms: SmSet,
}

/// All SMs.
#[derive(Debug, Clone)]
pub struct Floor {
    /// Groups; every SM is in exactly one.
    pub groups: Vec<Group>,
    /// Sets of neighbouring SMs whose blocks end together where lengths vary.
    domains: Vec<SmSet>,
}

impl Floor {
    /// `sms` empty SMs that each have `each`.
    pub fn new(sms: u32, each: Holding) -> Floor {
        let size = sms.div_ceil(DOMAINS).max(1);
        Floor {
            groups: vec![Group {
                sms: SmSet::range(0, sms),
                free: each,
                cohorts: Vec::new(),
                changed: false,
            }],
            domains: (0..sms).step_by(size as usize).map(|i| SmSet::range(i, (i + size).min(sms))).collect(),
        }
    }

    /// Places up to `r.blocks` blocks now; returns how many found room.
    ///
    /// `spread` gives a factor on the iterations of the blocks that it is asked for: one draw for the blocks that
    /// are placed together in a domain of SMs. `None`: all take the same.
    pub fn place(
        &mut self,
        r: &Request,
        now: f64,
        order: Order,
        mut spread: Option<&mut dyn FnMut() -> f64>,
    ) -> u32 {
        let mut placed = if spread.is_none() { self.fill(r, now) } else { 0 };
        while placed < r.blocks {
            let left = r.blocks - placed;
            let Some((at, room)) = self.choose(r, order) else { break };
            let mut usable = self.groups[at].sms.and(&r.mask);
            if spread.is_some()
                && let Some(first) = usable.first()
                && let Some(domain) = self.domains.iter().find(|d| d.contains(first))
            {
                usable = usable.and(domain);
            }
            let (take, each) = match order {
                Order::MostRoom => (usable.lowest(left), 1),
                Order::Packed => (usable.lowest(1), room.min(left)),
            };
            placed += self.put(at, &take, each, r, now, &mut spread);
        }
        if placed > 0 {
            self.merge();
        }
        placed
    }

    /// Fills all SMs at once where the blocks are enough for that, in whatever order; returns how many went there.
    fn fill(&mut self, r: &Request, now: f64) -> u32 {
        let room = |g: &Group| (g.free.fit(&r.holding).0, g.sms.and(&r.mask));
        let all: u64 =
            self.groups.iter().map(room).map(|(each, sms)| u64::from(each) * u64::from(sms.len())).sum();
        if all == 0 || all > u64::from(r.blocks) {
            return 0;
        }
        let mut placed = 0;
        // Groups that a split adds lie behind these and have nothing to do with the mask.
        for at in 0..self.groups.len() {
            let (each, sms) = room(&self.groups[at]);
            if each > 0 && !sms.is_empty() {
                placed += self.put(at, &sms, each, r, now, &mut None);
            }
        }
        placed
    }

    /// Puts `each` blocks on each SM of `take`, a part of group `at`; returns how many that are.
    fn put(
        &mut self,
        at: usize,
        take: &SmSet,
        each: u32,
        r: &Request,
        now: f64,
        spread: &mut Option<&mut dyn FnMut() -> f64>,
    ) -> u32 {
        let at = self.split(at, take);
        let g = &mut self.groups[at];
        g.changed = true;
        g.free = g.free.minus(&r.holding, each);
        match g.cohorts.last_mut() {
            Some(c) if c.launch == r.launch && c.started == now => c.blocks += each,
            _ => g.cohorts.push(Cohort {
                launch: r.launch,
                kernel: r.kernel,
                blocks: each,
                holding: r.holding,
                started: now,
                delay: r.delay,
                remaining: r.iterations * spread.as_mut().map_or(1.0, |f| f()),
                rate: 0.0,
            }),
        }
        take.len() * each
    }

    /// The group for the next block and how many fit on each of its SMs: the most room (ties: the lowest SM), or
    /// the lowest SM with any.
    fn choose(&self, r: &Request, order: Order) -> Option<(usize, u32)> {
        let mut best: Option<(usize, u32, u32)> = None;
        for (i, g) in self.groups.iter().enumerate() {
            let room = g.free.fit(&r.holding).0;
            if room == 0 {
                continue;
            }
            let Some(first) = g.sms.and(&r.mask).first() else { continue };
            let better = match (order, best) {
                (_, None) => true,
                (Order::MostRoom, Some((_, n, f))) => room > n || (room == n && first < f),
                (Order::Packed, Some((_, _, f))) => first < f,
            };
            if better {
                best = Some((i, room, first));
            }
        }
        best.map(|(i, room, _)| (i, room))
    }

    /// Makes `part`, a subset of group `at`, a group of its own; returns its index.
    fn split(&mut self, at: usize, part: &SmSet) -> usize {
        if self.groups[at].sms == *part {
            return at;
        }
        let mut g = self.groups[at].clone();
        g.sms = *part;
        self.groups[at].sms = self.groups[at].sms.minus(part);
        self.groups.push(g);
        self.groups.len() - 1
    }

    /// Joins groups that hold the same. Only those that changed can have become equal to another.
    fn merge(&mut self) {
        let same = |a: &Group, b: &Group| {
            a.cohorts.len() == b.cohorts.len() && a.cohorts.iter().zip(&b.cohorts).all(|(x, y)| x.same(y))
        };
        let mut i = 0;
        while i < self.groups.len() {
            if !self.groups[i].changed {
                i += 1;
                continue;
            }
            let equal = (0..self.groups.len()).find(|&j| j != i && same(&self.groups[i], &self.groups[j]));
            let Some(j) = equal else {
                self.groups[i].changed = false;
                i += 1;
                continue;
            };
            // The last group takes this one's place, and may be the equal one.
            let gone = self.groups.swap_remove(i);
            let j = if j == self.groups.len() { i } else { j };
            self.groups[j].sms = self.groups[j].sms.or(&gone.sms);
        }
    }

    /// ns until the next block ends, at the current rates; infinite if none will.
    pub fn next_end(&self) -> f64 {
        self.groups.iter().flat_map(|g| &g.cohorts).map(Cohort::left_ns).fold(f64::INFINITY, f64::min)
    }

    /// Lets `dt` ns pass.
    pub fn advance(&mut self, dt: f64) {
        for c in self.groups.iter_mut().flat_map(|g| &mut g.cohorts) {
            let waited = c.delay.min(dt);
            c.delay -= waited;
            c.remaining -= (dt - waited) * c.rate;
        }
    }

    /// Takes away blocks that are done and frees what they held.
    pub fn take_ended(&mut self, ended: &mut Vec<Ended>) {
        ended.clear();
        for g in &mut self.groups {
            let sms = g.sms;
            let free = &mut g.free;
            let before = g.cohorts.len();
            g.cohorts.retain(|c| {
                let done = c.delay <= DONE_NS && c.remaining <= c.rate * DONE_NS;
                if done {
                    *free = free.plus(&c.holding, c.blocks);
                    ended.push(Ended { cohort: c.clone(), sms });
                }
                !done
            });
            g.changed |= g.cohorts.len() != before;
        }
        if !ended.is_empty() {
            self.merge();
        }
    }

    /// No block is resident.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|g| g.cohorts.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sm() -> Holding {
        Holding { threads: 2048, warps: 64, registers: 65536, shared: 233_472, blocks: 32 }
    }

    fn request(launch: u32, threads: u32, blocks: u32, mask: SmSet) -> Request {
        let warps = threads / 32;
        let holding = Holding { threads, warps, registers: warps * 512, shared: 1024, blocks: 1 };
        Request { launch, kernel: launch, holding, mask, blocks, iterations: 1.0, delay: 0.0 }
    }

    fn blocks_on(f: &Floor, sm: u32, launch: u32) -> u32 {
        let g = f.groups.iter().find(|g| g.sms.contains(sm)).expect("every SM is in a group");
        g.cohorts.iter().filter(|c| c.launch == launch).map(|c| c.blocks).sum()
    }

    #[test]
    fn most_room_spreads_and_prefers_empty_sms() {
        let mut f = Floor::new(4, sm());
        let all = SmSet::range(0, 4);
        assert_eq!(f.place(&request(0, 1024, 3, all), 0.0, Order::MostRoom, None), 3);
        assert_eq!((0..4).map(|i| blocks_on(&f, i, 0)).collect::<Vec<_>>(), [1, 1, 1, 0]);
        // The empty SM has room for two of the next, so it gets the first, then all are equal.
        assert_eq!(f.place(&request(1, 1024, 2, all), 0.0, Order::MostRoom, None), 2);
        assert_eq!((0..4).map(|i| blocks_on(&f, i, 1)).collect::<Vec<_>>(), [1, 0, 0, 1]);
        assert_eq!(f.place(&request(2, 1024, 9, all), 0.0, Order::MostRoom, None), 3);
    }

    #[test]
    fn packed_fills_one_sm_after_the_other() {
        let mut f = Floor::new(4, sm());
        assert_eq!(f.place(&request(0, 1024, 3, SmSet::range(0, 4)), 0.0, Order::Packed, None), 3);
        assert_eq!((0..4).map(|i| blocks_on(&f, i, 0)).collect::<Vec<_>>(), [2, 1, 0, 0]);
    }

    #[test]
    fn a_mask_is_kept() {
        let mut f = Floor::new(8, sm());
        let mask = SmSet::range(2, 5);
        assert_eq!(f.place(&request(0, 1024, 100, mask), 0.0, Order::MostRoom, None), 6);
        assert!((0..8).all(|i| blocks_on(&f, i, 0) == if mask.contains(i) { 2 } else { 0 }));
        assert_eq!(f.groups.len(), 2);
    }

    #[test]
    fn ended_blocks_free_their_room_and_groups_merge() {
        let mut f = Floor::new(132, sm());
        let all = SmSet::range(0, 132);
        f.place(&request(0, 1024, 132, all), 0.0, Order::MostRoom, None);
        f.place(&request(1, 1024, 66, all), 0.0, Order::MostRoom, None);
        assert_eq!(f.groups.len(), 2);
        for c in f.groups.iter_mut().flat_map(|g| &mut g.cohorts) {
            c.rate = if c.launch == 1 { 1.0 } else { 0.5 };
        }
        assert!((f.next_end() - 1.0).abs() < 1e-12);
        f.advance(1.0);
        let mut ended = Vec::new();
        f.take_ended(&mut ended);
        assert_eq!(ended.iter().map(|e| e.sms.len() * e.cohort.blocks).sum::<u32>(), 66);
        assert_eq!(f.groups.len(), 1);
        f.advance(1.0);
        f.take_ended(&mut ended);
        assert!(f.is_empty());
        assert_eq!(f.groups[0].free, sm());
    }

    #[test]
    fn filling_at_once_is_placing_one_by_one() {
        for (before, blocks) in [(0, 264), (50, 214), (50, 900), (132, 131), (7, 256), (200, 64)] {
            let mask = SmSet::range(10, 110);
            let mut floors = [Floor::new(132, sm()), Floor::new(132, sm())];
            for f in &mut floors {
                f.place(&request(0, 1024, before, SmSet::range(0, 132)), 0.0, Order::MostRoom, None);
            }
            let [at_once, singly] = &mut floors;
            let placed = at_once.place(&request(1, 1024, blocks, mask), 1.0, Order::MostRoom, None);
            let one = |f: &mut Floor| f.place(&request(1, 1024, 1, mask), 1.0, Order::MostRoom, None);
            let mut by_one = 0;
            while by_one < blocks && one(singly) == 1 {
                by_one += 1;
            }
            assert_eq!(placed, by_one, "{blocks} beside {before}");
            for i in 0..132 {
                assert_eq!(
                    blocks_on(at_once, i, 1),
                    blocks_on(singly, i, 1),
                    "SM {i}, {blocks} beside {before}"
                );
            }
        }
    }
}
