//! The joint fixed point: how fast each of a set of kernels runs while all of them are resident.
//!
//! A kernel's warps take turns of `T` ns when nothing holds them back: arithmetic chain, sleep, and one memory
//! latency for each round of loads. `T` depends on the caches (law `capacity`) and on the bandwidth that all draw
//! together (law `bandwidth`); on each SM, issue slots (law `issue`), pipes and the paths to L1 and L2 (law
//! `fill`) stretch it further. Two unknowns tie the SMs together, the load of L2 and that of device memory; both
//! are found by a bracketing search on functions that fall. The time of a kernel alone comes from the same solver
//! with one resident, so ratios are consistent with it.

use crate::demand::Demand;
use crate::law::capacity::{self, Tenant};
use crate::law::fill::{Pressure, fill, knee};
use crate::law::{first, issue};
use crate::machine::{Machine, STATIONS, Station};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Blocks of one launch on a set of SMs that all hold the same blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resident<'a> {
    /// What one warp does in an iteration.
    pub demand: &'a Demand,
    /// Identity of the launch: residents with the same number share buffers and therefore footprint.
    pub kernel: u32,
    /// Blocks of the whole grid, resident or not.
    pub grid_blocks: u32,
    /// Which set of SMs; residents with the same number are on the same SMs.
    pub class: u32,
    /// SMs in that set (equal for all residents of a class).
    pub sms: u32,
    /// Blocks on each of them.
    pub blocks: u32,
    /// Warps of each block.
    pub warps: u32,
    /// Shared memory of each block, bytes (it shrinks L1).
    pub shared_bytes: u64,
    /// Turns that each block makes over its data: the first of them misses L1 whatever fits.
    pub turns: u64,
    /// Place in the order of arrival: the resident with the lowest number on an SM came there first.
    pub arrival: u32,
}

/// What limits a kernel's speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Issue slots.
    Issue,
    /// fp32 pipe.
    Fma,
    /// fp64 pipe.
    Fp64,
    /// int32 pipe.
    Alu,
    /// Packed fp16 pipe.
    Fp16,
    /// Special functions.
    Xu,
    /// Tensor cores.
    Tensor,
    /// Address path of loads and stores.
    Lsu,
    /// Data path of L1 and shared memory.
    L1Bandwidth,
    /// Port between SM and L2.
    L2Port,
    /// L2 latency (few bytes in flight).
    L2Latency,
    /// L2 bandwidth.
    L2Bandwidth,
    /// Latency of device memory (few bytes in flight).
    DramLatency,
    /// Bandwidth of device memory.
    DramBandwidth,
    /// Dependent arithmetic, or latency of L1.
    Chain,
    /// Sleeping.
    Sleep,
}

impl Bound {
    const STATION: [Bound; STATIONS] = [
        Bound::Issue,
        Bound::Fma,
        Bound::Fp64,
        Bound::Alu,
        Bound::Fp16,
        Bound::Xu,
        Bound::Tensor,
        Bound::Lsu,
        Bound::L1Bandwidth,
        Bound::L2Port,
    ];
}

/// Speed of one resident.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Iterations of one warp per ns.
    pub per_ns: f64,
    /// What limits it.
    pub bound: Bound,
    /// Share of its loads that miss in L1.
    pub l1_miss: f64,
    /// Share of its accesses to L2 that miss there.
    pub l2_miss: f64,
}

/// Speeds of all residents, in the order given, and what they draw together.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// One for each resident.
    pub of: Vec<Rate>,
    /// Read and written at L2, GB/s.
    pub l2_gbs: f64,
    /// Read and written at device memory, GB/s.
    pub dram_gbs: f64,
}

/// Index of the issue slots left to waiting kernels, behind the machine's own stations.
const LEFT: usize = STATIONS;
const ALL: usize = STATIONS + 1;

/// Independent stores that a warp has under way before the memory system holds it up, bytes.
const STORES_INFLIGHT: f64 = 512.0;
/// What a load keeps in flight where the demand does not say: one 128-byte line.
const LINE: f64 = 128.0;

/// A resident with what does not change during the search.
struct Part {
    class: usize,
    sms: f64,
    warps: f64,
    /// ns without memory beyond L1.
    base: f64,
    sleep: f64,
    /// Rounds of loads, and of stores beyond the loads.
    rounds: f64,
    store_rounds: f64,
    atomic_rounds: f64,
    load: f64,
    store: f64,
    /// Bytes of L2 load that its atomics stand for.
    atomic_bytes: f64,
    issue: f64,
    m1: f64,
    m2: f64,
    /// ns of service of each station of one SM for one iteration of one warp.
    service: [f64; STATIONS],
    hog: bool,
    arrival: u32,
    /// 128-byte wavefronts of one access to L1 or shared memory.
    wavefronts: f64,
    /// Share of its instructions that are FMAs.
    fma: f64,
    /// Shares of the issue slots and of the FMA pipe that it uses alone.
    alone_use: (f64, f64),
    /// Share of its instructions that are fp64.
    fp64: f64,
}

/// Time parts of one iteration at given latencies, ns.
#[derive(Clone, Copy, Default)]
struct Turn {
    total: f64,
    l2: f64,
    dram: f64,
}

/// State of an evaluation, reused through the search.
#[derive(Default)]
struct Work {
    turn: Vec<Turn>,
    rate: Vec<f64>,
    pressure: Vec<Pressure>,
    wants: Vec<[f64; ALL]>,
    weights: Vec<f64>,
    /// Pressure of each member with none but itself on the SM.
    alone: Vec<Pressure>,
    out: Vec<Pressure>,
    member: Vec<usize>,
    /// Read and written at L2 and DRAM, bytes per ns.
    l2: (f64, f64),
    dram: (f64, f64),
    /// L2 load of the atomics, GB/s as a copy.
    atomics: f64,
}

/// Speeds of all residents while exactly these are resident.
///
/// Residents without warps or SMs get the speed of a lone warp. Takes microseconds; allocates a few small vectors.
pub fn solve(m: &Machine, residents: &[Resident<'_>]) -> Rates {
    let mut parts = parts(m, residents);
    set_misses(m, residents, &mut parts);
    let classes = parts.iter().map(|p| p.class + 1).max().unwrap_or(0);
    let mut w = Work::default();
    let uses_dram = parts.iter().any(|p| p.m2 > 0.0 && (p.load * p.m1 + p.store) > 0.0);
    let inner = |dram_ns: f64, w: &mut Work| {
        m.l2.balance(|l2_ns| {
            evaluate(m, &parts, classes, l2_ns, dram_ns, w);
            m.l2.equivalent(w.l2.0, w.l2.1) + w.atomics
        })
    };
    let (x2, xd) = if uses_dram {
        let mut x2 = 0.0;
        let xd = m.dram.balance(|dram_ns| {
            x2 = inner(dram_ns, &mut w);
            m.dram.equivalent(w.dram.0, w.dram.1)
        });
        (x2, xd)
    } else {
        (inner(m.dram.idle_ns(), &mut w), 0.0)
    };
    let (l2_ns, dram_ns) = (m.l2.latency(x2), m.dram.latency(xd));
    evaluate(m, &parts, classes, l2_ns, dram_ns, &mut w);
    let of = parts
        .iter()
        .enumerate()
        .map(|(i, p)| Rate {
            per_ns: w.rate[i],
            bound: bound(m, p, &w.turn[i], &w.pressure[i], l2_ns, dram_ns),
            l1_miss: p.m1,
            l2_miss: p.m2,
        })
        .collect();
    Rates { of, l2_gbs: w.l2.0 + w.l2.1, dram_gbs: w.dram.0 + w.dram.1 }
}

fn parts(m: &Machine, residents: &[Resident<'_>]) -> Vec<Part> {
    let mut ids: Vec<u32> = Vec::new();
    residents
        .iter()
        .map(|r| {
            let d = r.demand;
            let class = ids.iter().position(|&c| c == r.class).unwrap_or_else(|| {
                ids.push(r.class);
                ids.len() - 1
            });
            let flight = if d.inflight_bytes > 0.0 { d.inflight_bytes } else { LINE };
            let rounds = d.load_bytes / flight;
            // A warp issues at most one instruction per cycle, and waits for each round of loads in turn.
            let base = d.chain_cycles.max(d.issue.max(1.0) + rounds * m.l1_ns * m.ghz) / m.ghz;
            Part {
                class,
                sms: f64::from(r.sms),
                warps: f64::from(r.blocks * r.warps).max(1.0),
                base,
                sleep: d.sleep_ns,
                rounds,
                store_rounds: (d.store_bytes - d.load_bytes).max(0.0) / d.inflight_bytes.max(STORES_INFLIGHT),
                atomic_rounds: d.l2_atomics / m.atomics_inflight,
                load: d.load_bytes,
                store: d.store_bytes,
                atomic_bytes: d.l2_atomics * m.l2.copy_gbs() / m.atomics_per_ns,
                issue: d.issue,
                m1: 0.0,
                m2: 0.0,
                service: service(m, d),
                hog: false,
                arrival: r.arrival,
                wavefronts: ((d.load_bytes + d.store_bytes) / 128.0 + d.smem_wavefronts)
                    / d.pipes.lsu.max(f64::MIN_POSITIVE),
                fma: (d.pipes.fma / d.issue.max(f64::MIN_POSITIVE)).min(1.0),
                alone_use: (0.0, 0.0),
                fp64: (d.pipes.fp64 / d.issue.max(f64::MIN_POSITIVE)).min(1.0),
            }
        })
        .collect()
}

/// ns of service of each station of one SM for one iteration of one warp, without the port to L2 (it depends on
/// the misses).
fn service(m: &Machine, d: &Demand) -> [f64; STATIONS] {
    let p = &d.pipes;
    let mut amount = [0.0; STATIONS];
    amount[Station::Issue as usize] = d.issue;
    amount[Station::Fma as usize] = p.fma;
    amount[Station::Fp64 as usize] = p.fp64;
    amount[Station::Alu as usize] = p.alu;
    amount[Station::Xu as usize] = p.xu;
    // A product by `mma.sync` occupies the core for longer.
    amount[Station::Tensor as usize] = p.tensor + p.tensor_sync * (1.0 / m.tensor_mma_share - 1.0);
    amount[Station::Lsu as usize] = p.lsu;
    amount[Station::L1 as usize] = (d.load_bytes + d.store_bytes) / 128.0 + d.smem_wavefronts;
    if m.spec.pipes.fp16_on_fma {
        let (fma, fp16) = (m.capacity[Station::Fma as usize], m.capacity[Station::Fp16 as usize]);
        amount[Station::Fma as usize] += p.fp16 * fma / fp16;
    } else {
        amount[Station::Fp16 as usize] = p.fp16;
    }
    for (a, c) in amount.iter_mut().zip(&m.capacity) {
        *a /= c * m.ghz;
    }
    amount
}

/// Share of accesses that are a block's first to their line.
fn first_turn(r: &Resident<'_>) -> f64 {
    1.0 / r.turns.max(1) as f64
}

/// Misses of all parts, which of them are always ready, and the service of the port to L2.
///
/// The access rates that decide who keeps its lines are those of each kernel alone.
fn set_misses(m: &Machine, residents: &[Resident<'_>], parts: &mut [Part]) {
    let (l2, dram) = (m.l2.idle_ns(), m.dram.idle_ns());
    // Alone: own misses, idle latencies.
    let mut l1_tenants = Vec::with_capacity(parts.len());
    let mut l2_tenants: Vec<(u32, Tenant)> = Vec::new();
    let mut index = Vec::with_capacity(parts.len());
    for (p, r) in parts.iter_mut().zip(residents) {
        let d = r.demand;
        let l1_footprint = if d.caches_in_l1 {
            f64::from(r.blocks) * d.block_footprint_bytes * l1_shrink(m, r, residents)
        } else {
            0.0
        };
        p.m1 = if d.caches_in_l1 {
            m.l1_alone.at(l1_footprint).max(first_turn(r)).max(uneven(m, r, l1_footprint))
        } else {
            1.0
        };
        let on_gpu: u64 = residents
            .iter()
            .filter(|o| o.kernel == r.kernel)
            .map(|o| u64::from(o.blocks) * u64::from(o.sms))
            .sum();
        let share = (on_gpu as f64 / f64::from(r.grid_blocks.max(1))).min(1.0);
        let footprint = d.footprint_bytes * share;
        p.m2 = m.l2_alone.at(footprint);
        let turn = turn(p, l2, dram, m, 0.0);
        let service = p.service.iter().fold(0.0f64, |a, &b| a.max(b)) * p.warps;
        let alone = turn.total.max(service);
        let waiting = turn.l2 + turn.dram + p.sleep + p.rounds * m.l1_ns;
        p.hog = issue::always_ready((turn.total - waiting).max(service), waiting);
        let rate = p.warps / alone;
        let use_of = |station: Station| rate * p.service[station as usize];
        p.alone_use = (use_of(Station::Issue), use_of(Station::Fma));
        l1_tenants.push(Tenant { footprint: l1_footprint, rate: rate * (d.load_bytes + d.store_bytes) });
        let l2_rate = rate * p.sms * (d.load_bytes * p.m1 + d.store_bytes);
        match l2_tenants.iter().position(|t| t.0 == r.kernel) {
            Some(i) => {
                l2_tenants[i].1.rate += l2_rate;
                index.push(i);
            }
            None => {
                l2_tenants.push((r.kernel, Tenant { footprint, rate: l2_rate }));
                index.push(l2_tenants.len() - 1);
            }
        }
    }
    let mut miss = Vec::new();
    let l2_list: Vec<Tenant> = l2_tenants.iter().map(|t| t.1).collect();
    capacity::misses(&l2_list, &m.l2_alone, &m.l2_shared, &mut miss);
    for (p, &i) in parts.iter_mut().zip(&index) {
        p.m2 = miss[i];
    }
    for i in 0..parts.len() {
        if !residents[i].demand.caches_in_l1 {
            continue;
        }
        let same: Vec<usize> = (0..parts.len()).filter(|&j| parts[j].class == parts[i].class).collect();
        if same.len() > 1 {
            let list: Vec<Tenant> = same.iter().map(|&j| l1_tenants[j]).collect();
            capacity::misses(&list, &m.l1_alone, &m.l1_shared, &mut miss);
            if let Some(k) = same.iter().position(|&j| j == i) {
                let r = &residents[i];
                parts[i].m1 = miss[k].max(first_turn(r)).max(uneven(m, r, capacity::window(&list, k)));
            }
        }
    }
    for p in parts.iter_mut() {
        let port = Station::L2Port as usize;
        p.service[port] = (p.load * p.m1 + p.store) / (m.capacity[port] * m.ghz);
    }
}

/// Share of accesses that miss L1 because a scattered footprint fills its sets unevenly.
fn uneven(m: &Machine, r: &Resident<'_>, footprint: f64) -> f64 {
    if r.demand.l1_scatter {
        capacity::scattered(footprint, m.spec.l1_bytes.0 as f64, m.l1_scatter)
    } else {
        0.0
    }
}

/// By how much footprints in L1 weigh more because shared memory took a part of it.
fn l1_shrink(m: &Machine, r: &Resident<'_>, residents: &[Resident<'_>]) -> f64 {
    let used: u64 = residents
        .iter()
        .filter(|o| o.class == r.class)
        .map(|o| u64::from(o.blocks) * (o.shared_bytes + m.spec.shared_reserved_per_block.0))
        .sum();
    let all = m.spec.l1_bytes.0 as f64;
    // The curves were measured with next to none in use: the system's reserve of two blocks.
    let usual = 2.0 * m.spec.shared_reserved_per_block.0 as f64;
    let left = (all - used as f64).max(all / 64.0);
    ((all - usual) / left).max(1.0)
}

/// One iteration at these latencies; `wait_ns` is added for waits at the issue slots.
fn turn(p: &Part, l2_ns: f64, dram_ns: f64, m: &Machine, wait_ns: f64) -> Turn {
    let (l2_excess, dram_excess) = (l2_ns - m.l2.idle_ns(), dram_ns - m.dram.idle_ns());
    let l2 = p.rounds * p.m1 * (1.0 - p.m2) * (l2_ns - m.l1_ns).max(0.0)
        + p.rounds * p.m1 * p.m2 * l2_excess
        + (p.store_rounds + p.atomic_rounds) * l2_excess;
    let dram = p.rounds * p.m1 * p.m2 * (dram_ns - m.l1_ns).max(0.0) + p.store_rounds * p.m2 * dram_excess;
    Turn { total: p.base + p.sleep + l2 + dram + wait_ns, l2, dram }
}

/// Rates of all parts at these latencies, and what they draw.
fn evaluate(m: &Machine, parts: &[Part], classes: usize, l2_ns: f64, dram_ns: f64, w: &mut Work) {
    w.turn.clear();
    w.turn.extend(parts.iter().map(|p| turn(p, l2_ns, dram_ns, m, 0.0)));
    w.rate.clear();
    w.rate.resize(parts.len(), 0.0);
    w.pressure.clear();
    w.pressure.resize(parts.len(), Pressure { u: 0.0, station: usize::MAX });
    for class in 0..classes {
        w.member.clear();
        w.member.extend((0..parts.len()).filter(|&i| parts[i].class == class));
        one_sm(m, parts, w);
    }
    w.l2 = (0.0, 0.0);
    w.dram = (0.0, 0.0);
    w.atomics = 0.0;
    for (p, &rate) in parts.iter().zip(&w.rate) {
        let all = p.sms * p.warps * rate;
        let (read, write) = (all * p.load * p.m1, all * p.store);
        w.l2.0 += read;
        w.l2.1 += write;
        w.atomics += all * p.atomic_bytes;
        w.dram.0 += read * p.m2;
        w.dram.1 += write * p.m2;
    }
}

/// Rates of the parts `w.member`, all on one SM.
fn one_sm(m: &Machine, parts: &[Part], w: &mut Work) {
    let hogs = w.member.iter().filter(|&&i| parts[i].hog).count();
    let mut used = 0.0;
    if hogs > 0 && hogs < w.member.len() {
        // What the always-ready ones use without the others.
        w.wants.clear();
        w.wants
            .extend(w.member.iter().filter(|&&i| parts[i].hog).map(|&i| wants(&parts[i], &w.turn[i], 1.0)));
        fill(&w.wants, &[], &mut w.out);
        let mut k = 0;
        for &i in &w.member {
            if parts[i].hog {
                let (rate, _) = slowed(m, &parts[i], &w.turn[i], w.out[k]);
                used += parts[i].warps * rate * parts[i].service[Station::Issue as usize];
                k += 1;
            }
        }
        let wait = issue::wait_cycles(used, m.hog_share, m.wait_factor) / m.ghz;
        for &i in &w.member {
            if !parts[i].hog {
                w.turn[i].total += wait * parts[i].issue;
            }
        }
    }
    let left = issue::left(used, m.hog_share);
    w.wants.clear();
    w.wants.extend(w.member.iter().map(|&i| wants(&parts[i], &w.turn[i], left)));
    weights(m, parts, w);
    fill(&w.wants, &w.weights, &mut w.out);
    let together = |f: fn(&Part) -> f64| w.member.iter().map(|&i| f(&parts[i])).sum::<f64>();
    let (all_issue, all_fma) = (together(|p| p.alone_use.0), together(|p| p.alone_use.1));
    for k in 0..w.member.len() {
        let i = w.member[k];
        let p = &parts[i];
        let (mut rate, pressure) = slowed(m, p, &w.turn[i], w.out[k]);
        if p.hog && w.member.len() > 1 {
            // Collisions cost time where there is some to lose: they and saturation do not add up.
            let (own_issue, own_fma) = p.alone_use;
            let colliding = own_issue * (1.0 - p.fp64);
            let stretch = issue::collisions(m.issue_collision, colliding, all_issue - own_issue)
                + m.fma_collision * p.fma * (all_fma - own_fma).clamp(0.0, 1.0);
            let alone = slowed(m, p, &w.turn[i], w.alone[k]).0;
            rate = rate.min(alone / (1.0 + stretch));
        }
        w.rate[i] = rate;
        w.pressure[i] = pressure;
    }
}

/// How fast each of `w.member` comes up at the stations that it contends for (law `first`).
fn weights(m: &Machine, parts: &[Part], w: &mut Work) {
    w.weights.clear();
    w.alone.clear();
    let first = w.member.iter().map(|&i| parts[i].arrival).min().unwrap_or(0);
    let mut asked = [0.0; ALL];
    for u in &w.wants {
        for (a, u) in asked.iter_mut().zip(u) {
            *a += u;
        }
    }
    for (u, &i) in w.wants.iter().zip(&w.member) {
        let p = &parts[i];
        // The station at which it meets the most demand.
        let contended = (0..ALL)
            .filter(|&s| u[s] > 0.0)
            .fold(usize::MAX, |best, s| if best == usize::MAX || asked[s] > asked[best] { s } else { best });
        let came_first =
            p.arrival == first && w.member.iter().filter(|&&j| parts[j].arrival == first).count() == 1;
        let weight = match contended {
            s if s == Station::L1 as usize => first::at_l1(p.wavefronts, came_first, m.l1_first_share),
            s if (Station::Fma as usize..=Station::Xu as usize).contains(&s) => {
                first::at_pipe(u[s], came_first, m.pipe_first_share)
            }
            _ => 1.0,
        };
        w.weights.push(weight);
        let fullest = (0..ALL).fold(0, |a, b| if u[b] > u[a] { b } else { a });
        w.alone.push(Pressure { u: u[fullest].min(1.0), station: fullest });
    }
}

/// Speed alone on the SM over unhindered speed: what its fullest station allows.
fn alone(p: &Part, t: &Turn) -> f64 {
    let x = p.warps / t.total;
    1.0 / p.service.iter().fold(1.0f64, |a, &s| a.max(x * s))
}

/// What a part would use of each station at the speed that it has alone on the SM.
fn wants(p: &Part, t: &Turn, left: f64) -> [f64; ALL] {
    let x = p.warps / t.total * alone(p, t);
    let mut u = [0.0; ALL];
    for (u, s) in u.iter_mut().zip(&p.service) {
        *u = x * s;
    }
    if !p.hog {
        u[LEFT] = u[Station::Issue as usize] / left;
        u[Station::Issue as usize] = 0.0;
    }
    u
}

/// Rate of a warp (iterations per ns) under a joint pressure, and the pressure in total.
fn slowed(m: &Machine, p: &Part, t: &Turn, joint: Pressure) -> (f64, Pressure) {
    let own = 1.0 / alone(p, t);
    let mut total = joint;
    if own > 1.0 || joint.u > 1.0 {
        total.u = own * joint.u.max(1.0);
        if joint.u <= 1.0 {
            let x = p.warps / t.total;
            let fullest = |a: usize, b: usize| if x * p.service[b] > x * p.service[a] { b } else { a };
            total.station = (1..STATIONS).fold(0, fullest);
        }
    }
    if total.station == LEFT {
        total.station = Station::Issue as usize;
    }
    let sharpness = m.knee.get(total.station).copied().unwrap_or(1.0);
    (1.0 / (t.total * knee(total.u, sharpness)), total)
}

fn bound(m: &Machine, p: &Part, t: &Turn, pressure: &Pressure, l2_ns: f64, dram_ns: f64) -> Bound {
    if pressure.u >= 0.95
        && let Some(&b) = Bound::STATION.get(pressure.station)
    {
        return b;
    }
    let arithmetic = t.total - t.l2 - t.dram - p.sleep;
    let most = arithmetic.max(t.l2).max(t.dram).max(p.sleep);
    if most == t.dram {
        if dram_ns > 1.5 * m.dram.idle_ns() { Bound::DramBandwidth } else { Bound::DramLatency }
    } else if most == t.l2 {
        if l2_ns > 1.5 * m.l2.idle_ns() { Bound::L2Bandwidth } else { Bound::L2Latency }
    } else if most == p.sleep {
        Bound::Sleep
    } else {
        Bound::Chain
    }
}

#[cfg(test)]
mod tests;
