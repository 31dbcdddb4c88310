//! The checks, for any backend and any sharing mode.

use crate::plans::{self, SPINS, plan, shares, trial};
use cotenant_lab::backend::{Backend, Phase, PhaseRun, Session, TrialError};
use cotenant_lab::{measure, overlap, sharing};
use cotenant_spec::plan::{Baseline, Protocol, Sharing, TenantPlan, TrialPlan, Workload};
use cotenant_store::format::{PhaseRecord, RepeatRecord};

/// What `%globaltimer` may be off between two kernels of one stream, ns: it ticks in steps of up to a microsecond.
const TICK: u64 = 1_100;

fn open<'s>(b: &'s mut dyn Backend, t: &TrialPlan) -> Box<dyn Session + 's> {
    b.open(t, 0).unwrap_or_else(|e| panic!("{} cannot be set up: {e}", t.sharing.name()))
}

fn phase(s: &mut dyn Session, p: Phase) -> PhaseRun {
    s.run(p).unwrap_or_else(|e| panic!("{p:?}: {e}"))
}

fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// Runs a trial with its protocol, as a run would.
fn measured(b: &mut dyn Backend, plan: &cotenant_spec::plan::Plan, t: &TrialPlan) -> Vec<RepeatRecord> {
    let layout = sharing::mode(&t.sharing).layout(t);
    let mut out = Vec::new();
    let mut sink = |r: RepeatRecord, _| {
        out.push(r);
        Ok(())
    };
    let mut session = open(b, t);
    measure::run_trial(&mut *session, t, &layout, &plan.stopping, 1, &mut sink)
        .unwrap_or_else(|e| panic!("{e}"));
    drop(session);
    out
}

fn phases<'r>(all: &'r [RepeatRecord], name: &'static str) -> impl Iterator<Item = &'r PhaseRecord> {
    all.iter().flat_map(|r| &r.phases).filter(move |p| p.phase == name)
}

/// A whole small trial: what the determinism of the simulator is held against.
pub fn three_repeats(b: &mut dyn Backend, sharing: &Sharing) -> Vec<RepeatRecord> {
    let p = plan(b, SPINS);
    let t = trial(b, SPINS, sharing);
    let all = measured(b, &p, &t);
    assert_eq!(all.len(), 3);
    all
}

/// One grant per tenant, in order; nobody sees more SMs than there are, nor fewer than a partition promised.
pub fn grants_are_complete_and_sane(b: &mut dyn Backend, sharing: &Sharing) {
    let (sms, unit) = (b.sizes().sms, b.sizes().sm_granularity);
    let t = trial(b, SPINS, sharing);
    let grants = open(b, &t).grants();
    let names: Vec<&str> = grants.iter().map(|g| g.tenant.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    for (i, g) in grants.iter().enumerate() {
        let given = g.given_sms.expect("every backend knows what a tenant sees");
        assert!((1..=sms).contains(&given), "{g:?} of {sms}");
        match sharing {
            Sharing::Green { sms: asked, .. } => {
                assert_eq!(g.asked_sms, Some(asked[i]));
                assert!(given >= asked[i] && given < asked[i] + unit, "{g:?}");
                assert!(given.is_multiple_of(unit), "{g:?} is no multiple of {unit}");
            }
            Sharing::Mps { percentage, .. } if !percentage.is_empty() => {
                assert_eq!((g.asked_sms, g.percentage), (None, Some(percentage[i])));
                let exact = percentage[i] / 100.0 * f64::from(sms);
                assert!(
                    (f64::from(given) - exact).abs() <= f64::from(unit),
                    "{g:?}: {exact} SMs would be exact"
                );
            }
            _ => assert_eq!((g.asked_sms, given), (None, sms), "{g:?}"),
        }
        match sharing {
            Sharing::Streams { priority } if !priority.is_empty() => {
                assert_eq!(g.priority, Some(priority[i]))
            }
            Sharing::Mps { priority, .. } if !priority.is_empty() => {
                assert_eq!(g.priority, Some(priority[i] as i32))
            }
            _ => {}
        }
    }
}

/// A solo phase holds its tenant alone, with spans in the order of its stream.
pub fn a_solo_phase_has_one_tenant_and_ordered_spans(b: &mut dyn Backend, sharing: &Sharing) {
    let t = trial(b, SPINS, sharing);
    let mut s = open(b, &t);
    let mut before = 0;
    for who in [0, 1, 0] {
        let run = phase(&mut *s, Phase::Solo(who));
        assert_eq!(run.tenants.len(), 1);
        let only = &run.tenants[0];
        assert_eq!(only.tenant, who);
        assert_eq!(only.spans.len(), launches(&t.tenants[who]) as usize);
        for (start, end) in &only.spans {
            assert!(start < end, "an empty span");
        }
        for pair in only.spans.windows(2) {
            assert!(pair[1].0 + TICK >= pair[0].1, "two launches of one stream overlap: {pair:?}");
        }
        let (first, last) = (only.spans[0].0, only.spans[only.spans.len() - 1].1);
        assert!(first >= before, "the clock goes backwards from phase to phase");
        before = last;
    }
}

/// In a sequential phase the second tenant starts when the first has ended.
pub fn sequential_spans_do_not_overlap(b: &mut dyn Backend, sharing: &Sharing) {
    let t = trial(b, SPINS, sharing);
    let mut s = open(b, &t);
    for _ in 0..3 {
        let run = phase(&mut *s, Phase::Sequential);
        let who: Vec<usize> = run.tenants.iter().map(|t| t.tenant).collect();
        assert_eq!(who, [0, 1]);
        let end = run.tenants[0].spans.iter().map(|s| s.1).max().expect("spans");
        let start = run.tenants[1].spans.iter().map(|s| s.0).min().expect("spans");
        assert!(start + TICK >= end, "tenant b starts {} ns before tenant a has ended", end - start);
        assert_eq!([run.tenants[0].spans.len(), run.tenants[1].spans.len()], [8, 4]);
    }
}

/// Fixed protocol: every tenant does its launches, no more and no fewer, and each request has its latency.
pub fn all_launches_of_the_fixed_protocol_are_there(b: &mut dyn Backend, sharing: &Sharing) {
    let body = SPINS
        .replace("launches = 8", "launches = 12\nrequest = 3\ngap = \"100us\"")
        .replace("\"1ms\"", "\"200us\"");
    let t = trial(b, &body, sharing);
    assert_eq!(t.protocol, Protocol::Fixed);
    let mut s = open(b, &t);
    let mut modes = vec![Phase::Solo(0), Phase::Solo(1)];
    if shares(sharing) {
        modes.push(Phase::Shared);
    }
    for p in modes {
        let run = phase(&mut *s, p);
        for r in &run.tenants {
            let want = &t.tenants[r.tenant];
            assert_eq!(r.spans.len(), launches(want) as usize, "{p:?}, tenant {}", want.name);
            let requests = if r.tenant == 0 { 4 } else { 0 };
            assert_eq!(r.requests.len(), requests, "{p:?}, tenant {}", want.name);
        }
        if p == Phase::Shared {
            assert_eq!(run.tenants.len(), 2);
        }
    }
}

/// Steady protocol: both loop until both have their launches, and only launches inside the common window count.
pub fn steady_counts_only_shared_launches(b: &mut dyn Backend, sharing: &Sharing) {
    let body = SPINS.replace("sharing = \"streams\"", "sharing = \"streams\"\nprotocol = \"steady\"");
    let p = plan(b, &body);
    let t = trial(b, &body, sharing);
    assert_eq!(t.protocol, Protocol::Steady);
    let all = measured(b, &p, &t);
    let shared: Vec<_> = phases(&all, "shared").collect();
    assert_eq!(shared.len(), if shares(sharing) { 3 } else { 0 });
    for phase in shared {
        let from = phase.tenants.iter().map(|t| t.start_ns.0).max().expect("tenants");
        let to = phase.tenants.iter().map(|t| t.end_ns.0).min().expect("tenants");
        for (r, want) in phase.tenants.iter().zip(&t.tenants) {
            assert!(r.launches >= launches(want), "{}: {} of {}", r.name, r.launches, launches(want));
            let inside = r.spans_ns.iter().filter(|(s, e)| *s >= from && *e <= to).count();
            assert_eq!(r.counted as usize, inside, "{} in {from}..{to}", r.name);
            assert!(r.counted >= 1 && r.counted <= r.launches);
        }
    }
    for phase in phases(&all, "solo") {
        assert_eq!(phase.tenants[0].counted, phase.tenants[0].launches, "alone, every launch counts");
    }
}

/// Turns of the loop are what the time is made of.
pub fn twice_the_turns_take_twice_the_time(b: &mut dyn Backend, sharing: &Sharing) {
    let body = SPINS
        .replace("\"1ms\"", "\"10us\"")
        .replace("kernel = \"spin\"\nblocks = 8", "kernel = \"fp32-mul\"\nblocks = 8");
    let body = body.replace("params = { ns = \"2ms\" }\n", "");
    let t = trial(b, &body, sharing);
    let mut s = open(b, &t);
    for (who, turns) in [(0, 100), (1, 20_000)] {
        let mut time = |n: u64| {
            s.set_iterations(who, n).expect("turns are set");
            let _warm = phase(&mut *s, Phase::Solo(who));
            let run = phase(&mut *s, Phase::Solo(who));
            median(run.tenants[0].spans.iter().map(|(a, b)| (b - a) as f64).collect())
        };
        let ratio = time(2 * turns) / time(turns);
        assert!((1.9..2.1).contains(&ratio), "tenant {who}: {ratio}");
    }
}

/// The self-test of the clocks (method rule 11): sleeps of known length come back within 2.5 %, one by one and as
/// requests of several on the device's clock; and the host's clock says of a request what the device's does, within
/// as much. (A request on the host's clock is not compared with the sleeps directly: the launch path is part of it, and
/// how long that is depends on the host: 20 µs and more.)
pub fn known_sleeps_are_measured_back(b: &mut dyn Backend, sharing: &Sharing) {
    for (ms, launches, request) in [(0.2, 40, 10), (1.0, 20, 5), (5.0, 6, 1), (20.0, 4, 1)] {
        let body = format!(
            "[tenants.s]\nkernel = \"sleep-until\"\nblocks = 8\nthreads = 32\nparams = {{ ns = \"{ms}ms\" }}\niterations = 1\n\
             launches = {launches}\nrequest = {request}\ngap = \"50us\"\n\n[tenants.t]\nkernel = \"sleep-until\"\nblocks = 8\n\
             threads = 32\nparams = {{ ns = \"{ms}ms\" }}\niterations = 1\nlaunches = {launches}\n\n\
             [[trial]]\nname = \"sleeps\"\nsharing = \"streams\"\ntenants = [\"s\", \"t\"]\n"
        );
        let t = trial(b, &body, sharing);
        let mut s = open(b, &t);
        for who in [0, 1] {
            let _warm = phase(&mut *s, Phase::Solo(who));
            let run = phase(&mut *s, Phase::Solo(who));
            let truth = ms * 1e6;
            let near = |what: &str, found: f64, truth: f64| {
                let off = found / truth - 1.0;
                assert!(off.abs() <= 0.025, "{what}, {ms} ms: {:.1} % off", off * 100.0);
            };
            let tenant = &run.tenants[0];
            near("a launch", median(tenant.spans.iter().map(|(a, b)| (b - a) as f64).collect()), truth);
            if who == 0 {
                let latency = median(tenant.requests.iter().map(|&r| r as f64).collect());
                let whole = tenant.spans.chunks_exact(request as usize);
                let on_device = median(whole.map(|r| (r[r.len() - 1].1 - r[0].0) as f64).collect());
                near("a request on the device", on_device, truth * f64::from(request));
                near("a request", latency, on_device);
            } else {
                // Without requests the launches stand back to back: the whole takes as long as its parts.
                let (time, _) = overlap::launch_time(Protocol::Fixed, &run.tenants, 0).expect("a time");
                near("launches back to back", time, truth);
            }
        }
    }
}

/// Two small kernels run at the same time where the mode shares the GPU, and take turns where it slices time.
pub fn small_kernels_overlap_or_take_turns(b: &mut dyn Backend, sharing: &Sharing) {
    // Work, not a wait: what watches the clock ends on time even while its turn is another's.
    let body = "[tenants.a]\nkernel = \"fp32-mul\"\nblocks = 16\nthreads = 128\nduration = \"4ms\"\nlaunches = 5\n\
                [tenants.b]\nkernel = \"fp32-mul\"\nblocks = 16\nthreads = 128\nduration = \"4ms\"\nlaunches = 5\n\
                [[trial]]\nname = \"pair\"\nsharing = \"streams\"\ntenants = [\"a\", \"b\"]\n";
    let p = plan(b, body);
    let t = trial(b, body, sharing);
    let all = measured(b, &p, &t);
    if !shares(sharing) {
        assert_eq!(phases(&all, "shared").count(), 0);
        return;
    }
    let ratios = all.iter().map(|r| {
        let makespan = |name: &str| {
            r.phases.iter().filter(|p| p.phase == name).map(|p| p.makespan_ns.0 as f64).sum::<f64>()
        };
        makespan("shared") / makespan("solo")
    });
    let ratio = median(ratios.collect());
    if matches!(sharing, Sharing::Processes) {
        assert!(
            (0.85..1.3).contains(&ratio),
            "together they take {ratio} of the sum: they should take turns"
        );
    } else {
        let both = median(phases(&all, "shared").filter_map(|p| p.overlap).collect());
        assert!(both >= measure::MIN_OVERLAP, "they overlap by {both} only");
        assert!((0.45..0.6).contains(&ratio), "together they take {ratio} of the sum: they should take half");
    }
}

/// A block that fits on no SM is refused with words, and the backend still works afterwards.
pub fn a_kernel_too_large_fails_and_the_next_trial_works(b: &mut dyn Backend, sharing: &Sharing) {
    let good = trial(b, SPINS, sharing);
    let mut bad = good.clone();
    // The spec refuses such a thing where it can see it; here it is slipped in behind the spec.
    if let Workload::Kernel(k) = &mut bad.tenants[1].workload {
        k.kernel.shape.threads = 4096;
    }
    let ended = b.open(&bad, 0).and_then(|mut s| s.run(Phase::Solo(1)).map(|_| ()));
    match ended {
        Err(TrialError::Failed(words)) => {
            assert!(words.contains("4096") || words.contains("thread"), "no place in `{words}`");
        }
        other => panic!("a block of 4096 threads ended as {other:?}"),
    }
    let mut s = open(b, &good);
    let run = phase(&mut *s, if shares(sharing) { Phase::Shared } else { Phase::Sequential });
    assert_eq!([run.tenants[0].spans.len(), run.tenants[1].spans.len()], [8, 4]);
}

/// A tenant of small kernels beside a neighbour whose many short blocks queue up, with priority against without.
fn priority_helps(b: &mut dyn Backend, first: &Sharing, last: &Sharing) {
    let body = "[tenants.small]\nkernel = \"spin\"\nblocks = \"sms/2\"\nthreads = 256\nparams = { ns = \"20us\" }\n\
                iterations = 1\nlaunches = 20\n\
                [tenants.crowd]\nkernel = \"spin\"\nblocks = \"40*sms\"\nthreads = 1024\nparams = { ns = \"50us\" }\n\
                iterations = 1\nlaunches = 4\n\
                [[trial]]\nname = \"pair\"\nsharing = \"streams\"\ntenants = [\"small\", \"crowd\"]\nprotocol = \"steady\"\n";
    let p = plan(b, body);
    let time = |b: &mut dyn Backend, sharing: &Sharing| {
        let t = trial(b, body, sharing);
        let all = measured(b, &p, &t);
        median(phases(&all, "shared").map(|p| p.tenants[0].time_ns).collect())
    };
    let (high, low) = (time(b, first), time(b, last));
    assert!(high * 2.0 < low, "a launch takes {high:.0} ns with priority and {low:.0} ns without");
}

/// Priorities of streams decide who is placed first.
pub fn stream_priorities_order(b: &mut dyn Backend) {
    let with = |priority: Vec<i32>| Sharing::Streams { priority };
    priority_helps(b, &with(vec![-5, 0]), &with(vec![0, -5]));
}

/// So do priorities of MPS clients.
pub fn mps_priorities_order(b: &mut dyn Backend) {
    let with = |priority| Sharing::Mps { percentage: Vec::new(), priority, pinned_memory: Vec::new() };
    priority_helps(b, &with(vec![0, 1]), &with(vec![1, 0]));
}

/// No instances, no trial; and never an instance made for it.
pub fn a_mig_trial_without_instances_is_unavailable(b: &mut dyn Backend) {
    let instances = vec!["MIG-00000000-0000-0000-0000-000000000000".to_owned(); 2];
    let t = trial(b, SPINS, &Sharing::Mig { instances });
    match b.open(&t, 0).map(|_| ()) {
        Err(TrialError::Unavailable(words)) => assert!(words.contains("MIG"), "{words}"),
        other => panic!("ended as {other:?}"),
    }
    let t = trial(b, SPINS, &plans::streams());
    assert_eq!(phase(&mut *open(b, &t), Phase::Shared).tenants.len(), 2);
}

/// Alone on the whole GPU a tenant that fills it is about twice as fast as on half of it.
pub fn a_whole_gpu_baseline_is_faster_than_a_half(b: &mut dyn Backend) {
    let body = "[tenants.a]\nkernel = \"fp32-mul\"\nblocks = \"8*sms\"\nthreads = 256\nduration = \"4ms\"\nlaunches = 2\n\
                [[trial]]\nname = \"half\"\nsharing = \"streams\"\ntenants = [\"a\", { use = \"a\", as = \"b\" }]\n";
    let p = plan(b, body);
    let half = b.sizes().sms / 2 / b.sizes().sm_granularity * b.sizes().sm_granularity;
    let green = Sharing::Green { sms: vec![half, half], priority: Vec::new() };
    for sharing in [plans::mps_halves(), green] {
        let mut t = trial(b, body, &sharing);
        let mut ratio = |baseline| {
            t.baseline = baseline;
            let all = measured(b, &p, &t);
            let time = |name| median(phases(&all, name).map(|p| p.tenants[0].time_ns).collect());
            time("shared") / time("solo")
        };
        let (whole, same) = (ratio(Baseline::WholeGpu), ratio(Baseline::SameShare));
        assert!((1.7..2.5).contains(&whole), "{sharing:?}: {whole} times as long as on the whole GPU");
        // Green contexts are disjoint; two MPS clients at 50 % have a few SMs in common (the device card says how
        // many), where their blocks take up to twice as long and hold up the end.
        let most = if matches!(sharing, Sharing::Mps { .. }) { 1.3 } else { 1.15 };
        assert!((0.9..most).contains(&same), "{sharing:?}: {same} times as long as alone on the same share");
    }
}

/// Modes leave nothing behind that the next one would stumble over.
pub fn a_trial_after_every_other_mode_works(b: &mut dyn Backend) {
    let modes = plans::all();
    for sharing in modes.iter().chain(modes.iter().rev()) {
        let t = trial(b, SPINS, sharing);
        let mut s = open(b, &t);
        let run = phase(&mut *s, if shares(sharing) { Phase::Shared } else { Phase::Sequential });
        let told: Vec<usize> = run.tenants.iter().map(|t| t.spans.len()).collect();
        assert_eq!(told, [8, 4], "{sharing:?}");
    }
}

/// Launches per phase of a kernel tenant.
fn launches(t: &TenantPlan) -> u32 {
    t.kernel().expect("a kernel tenant").launches
}
