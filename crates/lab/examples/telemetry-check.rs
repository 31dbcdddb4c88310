//! Checks telemetry on a real GPU: what it costs, whether it reads loads that are known as they are, where its windows
//! lie in time, and whether it disturbs a tenant that is bound by launching.
//!
//!     telemetry-check check                                    everything; one JSON object
//!     telemetry-check load NAME SECONDS [--on MS --off MS]     one load: back to back, or in pulses
//!     telemetry-check launches                                 the launch-bound tenant of `check`
//!
//! A load writes `ready PID`, then `pulse BEGIN END` (CLOCK_MONOTONIC, ns) for each stretch in which the GPU had work,
//! and at the end `did TURNS SECONDS`.

use cotenant_gpu::context::{Args, Context, DeviceBuffer, Event, Image, Kernel, Stream};
use cotenant_gpu::nvml::Monitor;
use cotenant_lab::backend::TELEMETRY_HEADER;
use cotenant_lab::telemetry::Telemetry;
use cotenant_units::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// A load of which the answer is known.
struct Load {
    name: &'static str,
    kernel: &'static str,
    /// Blocks per SM; half a block: on every second SM.
    per_sm: f64,
    threads: u32,
    params: &'static [(&'static str, f64)],
    /// Column that its rate shows in, operations of one thread in a turn of the loop, and the most of them that an SM
    /// does in a cycle. For DRAM: bytes of a turn of the whole grid, and the bandwidth in bytes per second.
    shows: Option<(&'static str, f64, f64)>,
    /// Whether its blocks all last equally long, so that its occupancy is known. Where warps queue for a full pipe the
    /// oldest win, and occupancy falls while the kernel lasts.
    even: bool,
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// Peak bandwidth of an H100 SXM5 80GB: 5 stacks of 1024 bits at 2,619 MHz, two transfers a cycle.
const PEAK: f64 = 5.0 * 128.0 * 2.0 * 2619e6;

/// From the programming guide's table of arithmetic throughput for compute capability 9.0: 64 fp64, 128 fp32, 64
/// integer (logic, compare) operations a cycle and SM; 1024 multiply-adds of bf16 for each tensor core, of which
/// there are four.
const LOADS: [Load; 9] = [
    Load {
        name: "copy",
        kernel: "copy",
        per_sm: 8.0,
        threads: 256,
        params: &[("bytes", 4.0 * GIB)],
        shows: Some(("dram_pct", 8.0 * GIB, PEAK)),
        even: false,
    },
    Load {
        name: "fp64",
        kernel: "fp64-fma",
        per_sm: 8.0,
        threads: 256,
        params: &[("ilp", 4.0)],
        shows: Some(("fp64_pct", 128.0, 64.0)),
        even: false,
    },
    Load {
        name: "fp32",
        kernel: "fp32-fma",
        per_sm: 8.0,
        threads: 256,
        params: &[("ilp", 4.0), ("body", 256.0)],
        shows: Some(("fp32_pct", 256.0, 128.0)),
        even: false,
    },
    Load {
        name: "int",
        kernel: "int32",
        per_sm: 8.0,
        threads: 256,
        params: &[("ilp", 4.0)],
        shows: Some(("integer_pct", 128.0, 64.0)),
        even: false,
    },
    Load {
        name: "fp16",
        kernel: "fp16x2",
        per_sm: 8.0,
        threads: 256,
        params: &[("ilp", 4.0)],
        shows: Some(("fp16_pct", 128.0, 128.0)),
        even: false,
    },
    Load {
        name: "tensor",
        kernel: "tensor-mma",
        per_sm: 2.0,
        threads: 256,
        params: &[],
        shows: None,
        even: false,
    },
    Load {
        name: "half-the-warps",
        kernel: "spin",
        per_sm: 4.0,
        threads: 256,
        params: &[("ns", 1e6)],
        shows: None,
        even: true,
    },
    Load {
        name: "one-warp",
        kernel: "fp32-fma",
        per_sm: 1.0,
        threads: 32,
        params: &[("ilp", 1.0), ("body", 256.0)],
        shows: Some(("fp32_pct", 256.0, 128.0)),
        even: true,
    },
    Load {
        name: "half-the-sms",
        kernel: "fp64-fma",
        per_sm: 0.5,
        threads: 1024,
        params: &[("ilp", 4.0)],
        shows: Some(("fp64_pct", 128.0, 64.0)),
        even: true,
    },
];

fn sms() -> Outcome<f64> {
    Ok(f64::from(cotenant_gpu::driver::device_info(0)?.sms.0))
}

fn load(args: &[String]) -> Outcome<()> {
    let name = args.first().ok_or("name a load")?;
    let seconds: f64 = args.get(1).ok_or("give seconds")?.parse()?;
    let option = |flag: &str| -> Option<f64> {
        args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1)).and_then(|v| v.parse().ok())
    };
    let l = LOADS.iter().find(|l| l.name == name).ok_or("no such load")?;
    let (blocks, threads) = ((l.per_sm * sms()?) as u32, l.threads);
    let params: BTreeMap<String, f64> = l.params.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
    let resolved = cotenant_kernels::resolve(l.kernel, blocks, threads, &params)?;
    let context = Context::primary(0)?;
    context.make_current()?;
    let stream = context.stream(0)?;
    let image = Image::load(cotenant_kernels::ptx(resolved.module))?;
    let k = image.kernel(&resolved.entry, resolved.dynamic_shared, 0)?;
    let a = DeviceBuffer::filled(resolved.buffer_a.max(Bytes(256)), 0x3c)?;
    let b = DeviceBuffer::filled(resolved.buffer_b.max(Bytes(256)), 0x3c)?;
    cotenant_gpu::context::synchronize()?;
    let (a, b, bytes) = (a.address(), b.address(), resolved.bytes.0);
    let args =
        |iterations| Args { iterations, a, b, bytes, p0: resolved.p0, p1: resolved.p1, ..Args::default() };
    let call = |iterations: u64| k.launch(&stream, blocks, threads, args(iterations));
    // Launches of 1 to 4 ms.
    let mut iterations = 1u64;
    loop {
        let t = Instant::now();
        call(iterations)?;
        stream.synchronize()?;
        if t.elapsed() > Duration::from_millis(2) || iterations > 1 << 30 {
            break;
        }
        iterations *= 2;
    }
    let (on, off) = (option("--on").unwrap_or(f64::INFINITY), option("--off").unwrap_or(0.0));
    // Three launches in flight, so that the GPU never waits for the host.
    let events = [Event::new()?, Event::new()?, Event::new()?];
    let (begun, mut launches) = (Instant::now(), 0);
    println!("ready {}", std::process::id());
    while begun.elapsed().as_secs_f64() < seconds {
        let (from, pulse) = (now_ns(), Instant::now());
        for turn in 0.. {
            let event = &events[turn % events.len()];
            if turn >= events.len() {
                event.synchronize()?;
            }
            if pulse.elapsed().as_secs_f64() * 1e3 >= on || begun.elapsed().as_secs_f64() >= seconds {
                break;
            }
            call(iterations)?;
            launches += 1;
            stream.record(event)?;
        }
        stream.synchronize()?;
        println!("pulse {from} {}", now_ns());
        std::thread::sleep(Duration::from_secs_f64(off / 1e3));
    }
    println!("did {} {}", launches * iterations, begun.elapsed().as_secs_f64());
    Ok(())
}

/// Length of one block of the launch-bound tenant: the energy counter, the dearest read, falls into each.
const BLOCK: Duration = Duration::from_millis(2600);

/// Empty kernels, as many as the host can launch, from one core. Answers each line `sync` (waiting for each) or `queue`
/// (waiting for every 200) with the time of a launch over one block: how many, mean, p50, p99, p99.9 and longest, ns.
fn launches() -> Outcome<()> {
    let context = Context::primary(0)?;
    context.make_current()?;
    let stream = context.stream(0)?;
    let resolved = cotenant_kernels::resolve("empty", 1, 32, &BTreeMap::new())?;
    let image = Image::load(cotenant_kernels::ptx(resolved.module))?;
    let kernel = image.kernel(&resolved.entry, Bytes(0), 0)?;
    let mut core = rustix::thread::CpuSet::new();
    core.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &core)?;
    println!("ready {}", std::process::id());
    for line in std::io::stdin().lock().lines() {
        let batch = if line? == "sync" { 1 } else { 200 };
        let mut times = block(&kernel, &stream, batch)?;
        times.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        println!("times {} {mean} {} {} {} {}", times.len(), at(0.5), at(0.99), at(0.999), at(1.0));
    }
    Ok(())
}

fn block(kernel: &Kernel, stream: &Stream, batch: usize) -> Outcome<Vec<f64>> {
    let (begun, mut times) = (Instant::now(), Vec::with_capacity(1 << 19));
    let mut last = now_ns();
    while begun.elapsed() < BLOCK {
        for _ in 0..batch {
            kernel.launch(stream, 1, 32, Args { iterations: 1, ..Args::default() })?;
        }
        stream.synchronize()?;
        let now = now_ns();
        times.push((now - last) as f64 / batch as f64);
        last = now;
    }
    Ok(times)
}

/// This program as a child, ready.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(args: &[&str]) -> Outcome<Peer> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut peer = Peer { child, input, output };
        peer.line("ready")?;
        Ok(peer)
    }

    /// The numbers of the next line with this word in front.
    fn line(&mut self, word: &str) -> Outcome<Vec<f64>> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err(format!("the child ended before `{word}`: {}", self.child.wait()?).into());
            }
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.split_whitespace().filter_map(|v| v.parse().ok()).collect());
            }
        }
    }

    fn end(mut self) -> Outcome<()> {
        drop(self.input);
        self.child.wait()?;
        Ok(())
    }
}

fn start() -> Outcome<Telemetry> {
    let monitor = Monitor::load()?;
    let uuid = cotenant_gpu::driver::device_info(0)?.uuid;
    let index = monitor.index_of(&uuid).ok_or("NVML does not know the GPU")?;
    Ok(Telemetry::start(monitor, index))
}

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// What the loads read as, beside what they are.
fn check_loads(t: &Telemetry) -> Outcome<Value> {
    let sms = sms()?;
    let mut out = serde_json::Map::new();
    for l in &LOADS {
        let mut peer = Peer::start(&["load", l.name, "2.2"])?;
        sleep(300);
        let from = now_ns();
        sleep(1700);
        let to = now_ns();
        let did = peer.line("did")?;
        peer.end()?;
        let state = t.between_ns(from, to).ok_or("telemetry read nothing")?;
        let state = serde_json::to_value(&state)?;
        let clock = state["sm_clock_mhz"].as_f64().unwrap_or(f64::NAN) * 1e6;
        let turns_per_s = did[0] / did[1];
        let blocks = (l.per_sm * sms).floor();
        let mut expected = serde_json::Map::new();
        expected.insert("sm_active_pct".into(), json!((blocks / sms).min(1.0) * 100.0));
        if let Some((column, work, most)) = l.shows {
            let share = if column == "dram_pct" {
                turns_per_s * work / most
            } else {
                turns_per_s * work * blocks * f64::from(l.threads) / (sms * clock * most)
            };
            expected.insert(column.into(), json!(share * 100.0));
        }
        if l.even {
            let warps = blocks * f64::from(l.threads) / (sms * 2048.0);
            expected.insert("sm_occupancy_pct".into(), json!(warps * 100.0));
        }
        let read: serde_json::Map<String, Value> =
            expected.keys().map(|k| (k.clone(), state[k].clone())).collect();
        out.insert(l.name.into(), json!({ "expected": expected, "read": read, "state": state }));
    }
    Ok(out.into())
}

/// Pulses of 0.7 s with pauses of 0.5 s between them: what pulses and pauses read as, and how far GPM's windows are off
/// in time.
fn check_pulses(t: &mut Telemetry) -> Outcome<Value> {
    t.drain();
    let mut peer = Peer::start(&["load", "fp32", "7", "--on", "700", "--off", "500"])?;
    let mut pulses = Vec::new();
    while pulses.len() < 6 {
        let p = peer.line("pulse")?;
        pulses.push((p[0] as u64, p[1] as u64));
    }
    sleep(300);
    peer.end()?;
    let phase = |from, to| {
        let s = t.between_ns(from, to).unwrap_or_default();
        json!({
            "ms": (to - from) as f64 / 1e6,
            "sm_active_pct": s.sm_active_pct,
            "gpm_share": s.gpm_share,
            "power_w": s.power_w,
            "energy_j": s.energy_j,
        })
    };
    let on: Vec<Value> = pulses.iter().map(|p| phase(p.0, p.1)).collect();
    let off: Vec<Value> = pulses.windows(2).map(|w| phase(w[0].1, w[1].0)).collect();
    let names: Vec<&str> = TELEMETRY_HEADER.split(',').collect();
    let column = |name: &str| names.iter().position(|n| *n == name).unwrap_or_default();
    let (from, to, sm) = (column("gpm_from_ns"), column("gpm_to_ns"), column("sm_active_pct"));
    let windows: Vec<(f64, f64, f64)> = t
        .drain()
        .iter()
        .filter_map(|line| {
            let c: Vec<&str> = line.split(',').collect();
            Some((c[from].parse().ok()?, c[to].parse().ok()?, c[sm].parse().ok()?))
        })
        .collect();
    // How far windows must be moved for the pulses to explain them best.
    let error = |moved: f64| {
        let busy = |a: f64, b: f64| -> f64 {
            let inside = |p: &(u64, u64)| (b.min(p.1 as f64) - a.max(p.0 as f64)).max(0.0);
            pulses.iter().map(inside).sum::<f64>() / (b - a)
        };
        let last = pulses.last().map_or(0.0, |p| p.1 as f64);
        let known: Vec<_> = windows.iter().filter(|w| w.1 + 1e8 < last).collect();
        let off: f64 = known.iter().map(|w| (busy(w.0 + moved, w.1 + moved) - w.2 / 100.0).abs()).sum();
        off / known.len().max(1) as f64
    };
    let best = (-100..=100).min_by(|a, b| error(f64::from(*a) * 1e6).total_cmp(&error(f64::from(*b) * 1e6)));
    let best = best.unwrap_or_default();
    let lengths: Vec<f64> = windows.iter().map(|w| (w.1 - w.0) / 1e6).collect();
    Ok(json!({
        "pulses": on,
        "pauses": off,
        "windows": windows.len(),
        "window_ms_median": cotenant_stats::median(&lengths)?,
        "windows_to_be_moved_by_ms": best,
        "mean_error_there": error(f64::from(best) * 1e6),
        "mean_error_as_they_are": error(0.0),
    }))
}

/// The launch-bound tenant with telemetry and without, in turn (A B B A).
fn check_disturbance() -> Outcome<Value> {
    let mut out = serde_json::Map::new();
    for kind in ["sync", "queue"] {
        let mut peer = Peer::start(&["launches"])?;
        let mut times: [Vec<Vec<f64>>; 2] = [Vec::new(), Vec::new()];
        for pair in 0..6 {
            for on in if pair % 2 == 0 { [true, false] } else { [false, true] } {
                let telemetry = if on { Some(start()?) } else { None };
                sleep(250);
                writeln!(peer.input, "{kind}")?;
                times[usize::from(on)].push(peer.line("times")?);
                drop(telemetry);
            }
        }
        peer.end()?;
        let [without, with] = times;
        let of = |t: &[Vec<f64>], i: usize| t.iter().map(|t| t[i]).collect::<Vec<f64>>();
        let mut entry = serde_json::Map::new();
        for (i, name) in [(1, "mean"), (2, "p50"), (3, "p99"), (4, "p99.9"), (5, "longest")] {
            let ratio = cotenant_stats::paired_ratio(&of(&with, i), &of(&without, i))?;
            entry.insert(
                format!("{name}_ns"),
                json!({
                    "without": cotenant_stats::median(&of(&without, i))?,
                    "with": cotenant_stats::median(&of(&with, i))?,
                    "ratio": ratio.value,
                    "ratio_low": ratio.interval.low,
                    "ratio_high": ratio.interval.high,
                }),
            );
        }
        entry.insert("launches".into(), json!(of(&with, 0).iter().chain(&of(&without, 0)).sum::<f64>()));
        entry.insert("pairs".into(), json!(with.len()));
        out.insert(kind.into(), entry.into());
    }
    Ok(out.into())
}

/// Share of one core that telemetry takes while something is done, in all and by groups of reads.
fn steady<T>(t: &Telemetry, work: impl FnOnce() -> Outcome<T>) -> Outcome<(Value, T)> {
    sleep(1000);
    let (begun, cpu, groups) = (Instant::now(), t.cpu_time(), t.costs());
    let done = work()?;
    let seconds = begun.elapsed().as_secs_f64();
    let share = |now: Duration, before: Duration| (now - before).as_secs_f64() / seconds;
    let mut out = serde_json::Map::new();
    out.insert("seconds".into(), json!(seconds));
    out.insert("all".into(), json!(share(t.cpu_time(), cpu)));
    for ((name, now), (_, before)) in t.costs().into_iter().zip(groups) {
        out.insert(name.into(), json!(share(now, before)));
    }
    Ok((out.into(), done))
}

fn check() -> Outcome<()> {
    let monitor = Monitor::load()?;
    let device = json!({
        "name": cotenant_gpu::driver::device_info(0)?.name,
        "driver": monitor.driver_version()?,
    });
    let idle = {
        let t = start()?;
        let wait = || {
            sleep(7000);
            Ok(())
        };
        steady(&t, wait)?.0
    };
    let mut t = start()?;
    let gpm = t.gpm().map_or_else(|e| e.to_string(), |()| "available".into());
    let (busy, loads) = steady(&t, || check_loads(&t))?;
    let pulses = check_pulses(&mut t)?;
    drop(t);
    let disturbance = check_disturbance()?;
    let report = json!({
        "device": device,
        "gpm": gpm,
        "share_of_one_core": { "idle_gpu": idle, "busy_gpu": busy },
        "loads": loads,
        "in_time": pulses,
        "disturbance": disturbance,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((verb, rest)) if verb == "load" => load(rest),
        Some((verb, _)) if verb == "launches" => launches(),
        Some((verb, _)) if verb == "check" => check(),
        _ => Err("usage: telemetry-check check | load NAME SECONDS [--on MS --off MS] | launches".into()),
    }
}
