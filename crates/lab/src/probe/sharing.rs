//! What launching costs, what the sharing modes grant, how long a time slice is, and where blocks go.

use super::bench::{Load, group, trial};
use super::source;
use crate::backend::{Backend, Phase, TrialError};
use cotenant_model::DeviceCard;
use cotenant_model::card::Order;
use cotenant_model::machine::SWITCH_NS;
use cotenant_spec::plan::{Protocol, Sharing, Work};

/// Percentages asked for. Each costs a process start.
const PERCENTAGES: [f64; 9] = [5.0, 6.25, 12.5, 25.0, 30.0, 50.0, 75.0, 90.0, 100.0];
/// SMs asked for as green contexts.
const GREEN: [u32; 6] = [1, 8, 16, 33, 64, 66];

fn spin(blocks: u32, threads: u32, ns: f64, launches: u32) -> Load {
    Load { kernel: "spin", blocks, threads, params: vec![("ns", ns)], work: Work::Iterations(1), launches }
}

/// Launch costs, by the driver's three ways.
pub fn launching(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let c = b.launch_costs()?;
    card.launch.plain_ns = Some(c.plain_ns);
    card.launch.ex_ns = Some(c.ex_ns);
    card.launch.graph_ns = Some(c.graph_ns);
    card.launch.gap_ns = Some(c.gap_ns);
    card.launch.empty_ns = Some(c.empty_ns);
    card.launch.source = source(b, "256 empty kernels a batch, median of 15 batches");
    Ok(())
}

/// MPS percentages, green contexts, time slice, priority.
pub fn grants(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let sms = b.sizes().sms;
    let one = spin(1, 32, 20_000.0, 1);
    let mut greens = Vec::new();
    for asked in GREEN.into_iter().filter(|&g| g < sms) {
        let sharing = Sharing::Green { sms: vec![asked], priority: Vec::new() };
        let t = trial(sharing, Protocol::Fixed, std::slice::from_ref(&one))?;
        greens.extend(b.open(&t, 0)?.grants().first().and_then(|g| Some((asked, g.given_sms?))));
    }
    card.sharing.green_asked_given = greens;
    // Nine tenants under one daemon: each client with a percentage of its own.
    let loads = vec![one; PERCENTAGES.len()];
    let sharing =
        Sharing::Mps { percentage: PERCENTAGES.to_vec(), priority: Vec::new(), pinned_memory: Vec::new() };
    let t = trial(sharing, Protocol::Fixed, &loads)?;
    let given: Vec<_> = b.open(&t, 0)?.grants().iter().filter_map(|g| g.given_sms).collect();
    if given.len() == PERCENTAGES.len() {
        card.sharing.mps_percentage_sms = PERCENTAGES.into_iter().zip(given).collect();
    }
    card.sharing.mps_half_common_sms = common_sms(b, sms)?;
    // A pause is the other's slice and the switches to it and back.
    let switches = 2.0 * card.sharing.switch_ns.unwrap_or(SWITCH_NS);
    card.sharing.time_slice_ns = pause(b)?.map(|p| p - switches).filter(|&slice| slice > 0.0);
    card.sharing.priority_per_block = Some(priority(b, sms)?);
    card.sharing.priority_preempts = Some(false);
    card.sharing.source = source(
        b,
        "SMs that each client or context sees; slice: median pause of 20 µs kernels beside a process of 40 ms \
         kernels, less two switches; priority: one-block kernels beside 40 waves, high against low",
    );
    Ok(())
}

/// SMs that two clients at 50 % have in common. Each fills every SM it sees (two blocks of 1024 threads), so a
/// block on a common SM finds no room and starts late. (`%smid` is virtual under MPS and cannot tell.)
fn common_sms(b: &mut dyn Backend, sms: u32) -> Result<Option<u32>, TrialError> {
    const LENGTH: f64 = 2_000_000.0;
    let half = spin(sms / 2 * 2, 1024, LENGTH, 1);
    let sharing =
        Sharing::Mps { percentage: vec![50.0, 50.0], priority: Vec::new(), pinned_memory: Vec::new() };
    let t = trial(sharing, Protocol::Fixed, &[half.clone(), half])?;
    let traces = match b.traced(&t, &[1, 1]) {
        Ok(t) => t,
        Err(TrialError::Unavailable(_)) => return Ok(None),
        Err(e) => return Err(e),
    };
    let first = traces.iter().flatten().map(|block| block.1).min();
    Ok(first.map(|first| {
        let late = traces.iter().flatten().filter(|block| block.1 > first + LENGTH as u64 / 2).count();
        late as u32 / 2
    }))
}

/// A loop of short kernels beside a process of long ones: its longer pauses, which are the other's slices, ns.
fn pause(b: &mut dyn Backend) -> Result<Option<f64>, TrialError> {
    let loads = [spin(1, 32, 20_000.0, 2000), spin(1, 32, 40_000_000.0, 4)];
    let t = trial(Sharing::Processes, Protocol::Steady, &loads)?;
    let run = b.open(&t, 0)?.run(Phase::Shared)?;
    let mut spans = run.tenants.first().map(|t| t.spans.clone()).unwrap_or_default();
    spans.sort_unstable();
    // A kernel that a slice's end cuts in two shows the pause inside it, one between kernels beside it.
    let pauses: Vec<f64> = spans
        .iter()
        .map(|(s, e)| (e - s) as f64)
        .chain(spans.windows(2).map(|w| w[1].0.saturating_sub(w[0].1) as f64))
        .filter(|&p| p > 200_000.0)
        .collect();
    Ok(if pauses.len() >= 5 { cotenant_stats::median(&pauses).ok() } else { None })
}

/// Whether a high-priority stream's blocks go before waiting blocks of a low one.
fn priority(b: &mut dyn Backend, sms: u32) -> Result<bool, TrialError> {
    let mut wait = |priority: Vec<i32>| -> Result<f64, TrialError> {
        let loads = [spin(1, 32, 20_000.0, 20), spin(sms * 2 * 40, 1024, 50_000.0, 2)];
        let g = group(b, Sharing::Streams { priority }, Protocol::Steady, &loads)?;
        Ok(g.together_ns[0])
    };
    let (high, low) = (wait(vec![-5, 0])?, wait(vec![0, 0])?);
    Ok(high < low * 0.7)
}

/// Where the blocks of a kernel go, and whether a second kernel waits for the first one's last block.
pub fn placement(b: &mut dyn Backend, card: &mut DeviceCard) -> Result<(), TrialError> {
    let sms = b.sizes().sms;
    let streams = || Sharing::Streams { priority: Vec::new() };
    // Two blocks per SM would fit: most-room uses every SM once before any twice.
    let t = trial(streams(), Protocol::Fixed, &[spin(sms, 512, 300_000.0, 1)])?;
    let traces = b.traced(&t, &[1])?;
    let mut used: Vec<u64> = traces.first().map(|t| t.iter().map(|x| x.0).collect()).unwrap_or_default();
    used.sort_unstable();
    used.dedup();
    card.placement.order = if used.len() as u32 * 10 >= sms * 9 { Order::MostRoom } else { Order::Packed };
    let starts: Vec<u64> = traces.first().map(|t| t.iter().map(|x| x.1).collect()).unwrap_or_default();
    if let (Some(first), Some(last)) = (starts.iter().min(), starts.iter().max()) {
        card.placement.block_start_ns = Some((last - first) as f64 / f64::from(sms));
    }
    // The first kernel has three waves; the second's single block would fit at once beside any of them.
    let big = spin(sms * 6, 1000, 200_000.0, 1);
    let t = trial(streams(), Protocol::Fixed, &[big, spin(1, 32, 1_000.0, 1)])?;
    let traces = b.traced(&t, &[1, 1])?;
    if let [big, small] = traces.as_slice() {
        let last_placed = big.iter().map(|x| x.1).max().unwrap_or(0);
        let began = small.iter().map(|x| x.1).min().unwrap_or(0);
        let first_placed = big.iter().map(|x| x.1).min().unwrap_or(0);
        // The two are released within microseconds of each other; if the small one went first, nothing is shown.
        if began > first_placed {
            card.placement.leftover = Some(began + 20_000 >= last_placed);
        }
    }
    card.placement.source = source(
        b,
        "SM, start and end of each block of one block per SM, and of a three-wave kernel beside one block",
    );
    Ok(())
}
