//! Checks telemetry against loads that are known, on a real GPU.
//!
//!     telemetry-check load KERNEL SECONDS [--on MS --off MS]     a load: the kernel back to back, or in pulses
//!
//! A load writes one line `pulse BEGIN END` (CLOCK_MONOTONIC, ns) for each stretch in which the GPU had work.

use cotenant_gpu::context::{Args, Context, DeviceBuffer, Event, Image};
use cotenant_units::Bytes;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The loads by name: kernel, blocks per SM, threads, parameters.
fn shape(name: &str) -> Option<(&'static str, u32, u32, &'static [(&'static str, f64)])> {
    Some(match name {
        "copy" => ("copy", 16, 256, &[("bytes", 4294967296.0)]),
        "fp64" => ("fp64-fma", 8, 256, &[("ilp", 4.0)]),
        "fp32" => ("fp32-fma", 8, 256, &[("ilp", 4.0), ("body", 256.0)]),
        "fp16" => ("fp16x2", 8, 256, &[("ilp", 4.0)]),
        "int" => ("int32", 8, 256, &[("ilp", 4.0)]),
        "tensor" => ("tensor-mma", 8, 256, &[]),
        "warp" => ("fp32-fma", 1, 32, &[("ilp", 1.0)]),
        _ => return None,
    })
}

fn load(args: &[String]) -> Outcome<()> {
    let name = args.first().ok_or("name a kernel")?;
    let seconds: f64 = args.get(1).ok_or("give seconds")?.parse()?;
    let option = |flag: &str| -> Option<f64> {
        args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1)).and_then(|v| v.parse().ok())
    };
    let (kernel, per_sm, threads, params) = shape(name).ok_or("no such load")?;
    let sms = cotenant_gpu::driver::device_info(0)?.sms.0;
    let blocks = per_sm * sms;
    let params: BTreeMap<String, f64> = params.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
    let resolved = cotenant_kernels::resolve(kernel, blocks, threads, &params)?;
    let context = Context::primary(0)?;
    context.make_current()?;
    let stream = context.stream(0)?;
    let image = Image::load(cotenant_kernels::ptx(resolved.module))?;
    let k = image.kernel(&resolved.entry, resolved.dynamic_shared, 0)?;
    let a = DeviceBuffer::filled(resolved.buffer_a.max(Bytes(256)), 0x3c)?;
    let b = DeviceBuffer::filled(resolved.buffer_b.max(Bytes(256)), 0x3c)?;
    cotenant_gpu::context::synchronize()?;
    let call = |iterations: u64| {
        k.launch(
            &stream,
            blocks,
            threads,
            Args {
                stamp: 0,
                trace: 0,
                iterations,
                a: a.address(),
                b: b.address(),
                bytes: resolved.bytes.0,
                p0: resolved.p0,
                p1: resolved.p1,
            },
        )
    };
    // Launches of about 2 ms, two queued ahead, so that the GPU never waits for the host.
    let mut iterations = 1u64;
    loop {
        let t = Instant::now();
        call(iterations)?;
        stream.synchronize()?;
        if t.elapsed() > Duration::from_millis(1) || iterations > 1 << 30 {
            break;
        }
        iterations *= 2;
    }
    let (on, off) = (option("--on").unwrap_or(f64::INFINITY), option("--off").unwrap_or(0.0));
    // Three launches in flight, so that the GPU never waits for the host.
    let events = [Event::new()?, Event::new()?, Event::new()?];
    let begun = Instant::now();
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
            stream.record(event)?;
        }
        stream.synchronize()?;
        println!("pulse {from} {}", now_ns());
        std::thread::sleep(Duration::from_secs_f64(off / 1e3));
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((verb, rest)) if verb == "load" => load(rest),
        _ => Err("usage: telemetry-check load KERNEL SECONDS [--on MS --off MS]".into()),
    }
}
