//! Recorded models: alone they take the time that was recorded, and together they behave as what bounds them says.

use cotenant_model::{DeviceCard, builtin};
use cotenant_sim::recorded::{self, builtin_names};
use cotenant_sim::{Gpu, Mode, Outcome, Recorded, Replay, Scenario, Stream};

const CARD: &str = "h100-sxm5-80gb";

fn card() -> DeviceCard {
    builtin(CARD).expect("built in")
}

fn gpu() -> Gpu {
    Gpu::new(&card(), 1)
}

fn model(name: &str) -> (Recorded, Replay) {
    let r = recorded::builtin(CARD, &format!("{name}-forward-fp16-b8-s128")).expect("recorded");
    let p = Replay::new(&r, &card(), &gpu()).expect("fits");
    (r, p)
}

/// Median time of the requests of each stream, ms.
fn medians(o: &Outcome) -> Vec<f64> {
    o.streams
        .iter()
        .map(|s| {
            let mut t: Vec<u64> = s.requests.iter().map(|r| r.end_ns - r.begin_ns).collect();
            t.sort_unstable();
            t.get(t.len() / 2).map_or(f64::NAN, |t| *t as f64 / 1e6)
        })
        .collect()
}

fn together(models: &[&Replay], iterations: u64, mode: Mode, seed: u64) -> Outcome {
    let stream = |(i, m): (usize, &&Replay)| Stream { context: i as u32, ..m.stream(iterations) };
    let streams = models.iter().enumerate().map(stream).collect();
    let scenario = Scenario { mode, steady: true, ..Scenario::new(streams) };
    gpu().with_seed(seed).run(&scenario).expect("runs")
}

fn alone(m: &Replay) -> f64 {
    medians(&gpu().run(&Scenario::new(vec![m.stream(40)])).expect("runs"))[0]
}

#[test]
fn alone_every_model_takes_its_recorded_time() {
    for stem in builtin_names(CARD) {
        let r = recorded::builtin(CARD, stem).expect("listed");
        let m = Replay::new(&r, &card(), &gpu()).expect("fits");
        let out = gpu().run(&Scenario::new(vec![m.stream(40)])).expect("runs");
        let (took, recorded) = (medians(&out)[0], r.wall_ns as f64 / 1e6);
        println!(
            "{stem}: {took:.3} ms for {recorded:.3}, host × {:.3}, device × {:.3}, {} events, {} solves",
            m.pace.host_factor, m.pace.device_factor, out.events, out.solves
        );
        assert!((took / recorded - 1.0).abs() < 0.02, "{stem}: {took} ms for {recorded}");
        // And so do its kernels.
        let first = &out.streams[0].launches[..r.steps.len()];
        let busy: u64 = first.iter().map(|s| s.end_ns - s.start_ns).sum();
        let want = r.kernel_ns() as f64 * m.pace.device_factor;
        assert!((busy as f64 / want - 1.0).abs() < 0.02, "{stem}: kernels {busy} for {want}");
    }
}

#[test]
fn launch_bound_models_lose_less_under_mps_than_in_time_slices() {
    let (_, m) = model("distilgpt2");
    let solo = alone(&m);
    let mps = medians(&together(&[&m, &m], 40, Mode::Concurrent, 1));
    let slices = medians(&together(&[&m, &m], 40, Mode::TimeSliced, 1));
    println!("solo {solo:.2}, MPS {mps:.2?}, slices {slices:.2?}");
    for (a, b) in mps.iter().zip(&slices) {
        assert!(a / solo >= 0.99 && a / solo < 1.35, "{a} for {solo}");
        assert!(b > a, "slices {b}, MPS {a}");
    }
}

#[test]
fn device_bound_models_share_the_device() {
    let (r, m) = model("mistral-7b");
    let out = together(&[&m, &m], 6, Mode::Concurrent, 1);
    let both = medians(&out);
    println!("mistral pair {both:.2?}, events {}, solves {}", out.events, out.solves);
    // Two of them need at least nearly the sum of their kernels, and nothing makes them slower than one by one.
    let sum = 2.0 * r.kernel_ns() as f64 / 1e6;
    for t in both {
        assert!(t > 0.9 * sum && t < 2.1 * r.wall_ns as f64 / 1e6, "{t} for {sum}");
    }
}

/// Slowdowns that were measured (`results/h100-sxm5-80gb/models-pairs`, `models-pairs-processes`, medians).
#[test]
fn pairs_are_slowed_as_on_the_h100() {
    let pairs = [
        (["distilgpt2", "distilgpt2"], [1.18, 1.18], [1.38, 1.38]),
        (["distilbert", "distilbert"], [1.01, 1.02], [1.17, 1.17]),
        (["distilbert", "mistral-7b"], [1.27, 1.15], [1.64, 1.35]),
        (["distilgpt2", "llama-3.2-3b"], [1.07, 1.47], [2.03, 1.50]),
        (["llama-3.2-3b", "mistral-7b"], [2.38, 1.55], [2.25, 2.04]),
        (["mistral-7b", "mistral-7b"], [1.93, 1.93], [2.16, 2.16]),
    ];
    for (names, mps, slices) in pairs {
        let both = names.map(|n| model(n).1);
        let solo = [alone(&both[0]), alone(&both[1])];
        for (mode, measured) in [(Mode::Concurrent, mps), (Mode::TimeSliced, slices)] {
            let shared = medians(&together(&[&both[0], &both[1]], 20, mode, 1));
            for i in 0..2 {
                let got = shared[i] / solo[i];
                let error = got / measured[i] - 1.0;
                println!("{mode:?} {names:?} {i}: {got:.2} for {} ({:+.0} %)", measured[i], 100.0 * error);
                assert!(error.abs() < 0.15, "{mode:?} {names:?} {i}: {got} for {}", measured[i]);
            }
        }
    }
}

/// DistilGPT2 reads one value of the device in each pass. Were it not for that, two of them would hardly meet.
#[test]
fn a_host_that_reads_waits_for_the_neighbour() {
    let (r, reads) = model("distilgpt2");
    assert_eq!(r.host_reads.len(), 1);
    let never = Replay::new(&Recorded { host_reads: Vec::new(), ..r }, &card(), &gpu()).expect("fits");
    let slowdown = |m: &Replay| medians(&together(&[m, m], 40, Mode::Concurrent, 1))[0] / alone(m);
    let (with, without) = (slowdown(&reads), slowdown(&never));
    println!("reads {with:.3}, never {without:.3}");
    assert!(with > 1.1 && without < 1.06, "{with}, {without}");
}

#[test]
fn equal_shares_keep_models_apart() {
    use cotenant_sim::SmSet;
    let (_, m) = model("distilgpt2");
    let on = |from: u32, context| {
        let sms = Some(SmSet::range(from, from + 32));
        Stream { sms, context, ..m.stream(20) }
    };
    let time = |s: Vec<Stream>| {
        let out = gpu().run(&Scenario { steady: true, ..Scenario::new(s) }).expect("runs");
        medians(&out)[0]
    };
    let alone = time(vec![on(0, 0)]);
    let four = time((0..4).map(|i| on(33 * i, i)).collect());
    // Measured with 25 % each: 5.75 ms alone, and 1.03 times that beside three others.
    assert!((alone / 5.75 - 1.0).abs() < 0.1, "{alone}");
    assert!(four / alone < 1.12, "{four} for {alone}");
}

#[test]
fn a_seed_gives_one_run_and_another_seed_another() {
    let ((_, a), (_, b)) = (model("distilbert"), model("roberta"));
    let run = |seed| together(&[&a, &b], 10, Mode::Concurrent, seed);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).streams, run(4).streams);
}

#[test]
fn an_open_loop_counts_from_the_arrival() {
    let (r, m) = model("distilbert");
    let ms = r.wall_ns as f64 / 1e6;
    // Two at once, then one when all is quiet.
    let at = [0.0, 0.0, 10.0 * r.wall_ns as f64];
    let s = Stream { arrivals_ns: at.to_vec(), ..m.stream(3) };
    let out = gpu().run(&Scenario::new(vec![s])).expect("runs");
    let took: Vec<f64> =
        out.streams[0].requests.iter().map(|r| (r.end_ns - r.arrival_ns) as f64 / 1e6).collect();
    assert_eq!(took.len(), 3);
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.5;
    assert!(near(took[0], ms) && near(took[1], 2.0 * ms) && near(took[2], ms), "{took:?} with {ms}");
    assert_eq!(out.streams[0].requests[2].arrival_ns, at[2] as u64);
}

#[test]
fn pacing_and_arrivals_need_requests() {
    let (_, m) = model("distilbert");
    let bad = |s: Stream| gpu().run(&Scenario::new(vec![s])).expect_err("refused").to_string();
    assert!(bad(Stream { sync_every: 3, ..m.stream(1) }).contains("sync_every"));
    assert!(
        bad(Stream { sync_every: 0, pacing: None, arrivals_ns: vec![1.0], ..m.stream(1) })
            .contains("arrivals")
    );
    assert!(bad(Stream { arrivals_ns: vec![2.0, 1.0], ..m.stream(1) }).contains("arrivals_ns"));
    assert!(bad(Stream { arrivals_ns: vec![f64::NAN], ..m.stream(1) }).contains("arrivals_ns"));
}

#[test]
fn many_tenants_need_few_solutions_of_the_model() {
    let ((_, small), (_, large)) = (model("distilgpt2"), model("llama-3.2-3b"));
    let out = together(&[&small, &small, &small, &small, &small, &large], 3, Mode::Concurrent, 1);
    let solo = alone(&small);
    let slowed = medians(&out);
    assert!(slowed[..5].iter().all(|t| *t > 1.1 * solo && *t < 6.0 * solo), "{slowed:?} for {solo}");
    // The model is not solved anew for every mixture of six kernels.
    assert!(out.solves < out.events / 10, "{} {}", out.events, out.solves);
}
