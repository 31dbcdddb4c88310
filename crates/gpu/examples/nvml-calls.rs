//! What each NVML read costs on this machine, how often its value changes, and how fine GPM's windows can be.
//!
//!     nvml-calls GPU SECONDS                       costs and changes, one JSON object
//!     nvml-calls GPU SECONDS FILE.csv [energy]     a dense series, one row about every 3 ms
//!
//! Run it beside a load that goes on and off (`telemetry-check load … --on 100 --off 100`): on an idle GPU nothing
//! changes. It calls `nvml_wrapper` directly, below the `nvml` module, so that every call is seen on its own.

use nvml_wrapper::enum_wrappers::device::{Clock, Sampling, TemperatureSensor};
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The metrics a reading asks for, with the names of the columns.
const METRICS: [(GpmMetricId, &str); 12] = [
    (GpmMetricId::GraphicsUtil, "graphics"),
    (GpmMetricId::SmUtil, "sm"),
    (GpmMetricId::SmOccupancy, "occupancy"),
    (GpmMetricId::DramBwUtil, "dram"),
    (GpmMetricId::AnyTensorUtil, "tensor"),
    (GpmMetricId::HmmaTensorUtil, "hmma"),
    (GpmMetricId::ImmaTensorUtil, "imma"),
    (GpmMetricId::DfmaTensorUtil, "dfma"),
    (GpmMetricId::Fp64Util, "fp64"),
    (GpmMetricId::Fp32Util, "fp32"),
    (GpmMetricId::Fp16Util, "fp16"),
    (GpmMetricId::IntegerUtil, "integer"),
];

fn ns(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// One kind of read: its name and how to turn what it says into a number that changes when the value does.
type Read<'a> = (&'static str, Box<dyn Fn(&Device<'_>) -> Result<u64, NvmlError> + 'a>);

fn reads(nvml: &Nvml, index: u32) -> Vec<Read<'_>> {
    vec![
        ("handle", Box::new(move |_| nvml.device_by_index(index).map(|_| 0))),
        ("sm_clock", Box::new(|d| d.clock_info(Clock::SM).map(u64::from))),
        ("memory_clock", Box::new(|d| d.clock_info(Clock::Memory).map(u64::from))),
        ("power", Box::new(|d| d.power_usage().map(u64::from))),
        ("energy", Box::new(|d| d.total_energy_consumption())),
        ("temperature", Box::new(|d| d.temperature(TemperatureSensor::Gpu).map(u64::from))),
        ("throttle", Box::new(|d| d.current_throttle_reasons().map(|r| r.bits()))),
        ("utilization", Box::new(|d| d.utilization_rates().map(|u| u64::from(u.gpu)))),
        ("memory", Box::new(|d| d.memory_info().map(|m| m.used))),
        (
            "processes",
            Box::new(|d| d.running_compute_processes().map(|p| p.iter().map(|p| u64::from(p.pid)).sum())),
        ),
        ("mps_processes", Box::new(|d| d.mps_running_compute_processes().map(|p| p.len() as u64))),
        ("field_power_instant", Box::new(|d| field(d, 186))),
        ("field_power_average", Box::new(|d| field(d, 185))),
        ("field_energy", Box::new(|d| field(d, 83))),
        ("samples_power", Box::new(|d| d.samples(Sampling::Power, None).map(|s| newest(&s)))),
        ("samples_clock", Box::new(|d| d.samples(Sampling::ProcessorClock, None).map(|s| newest(&s)))),
        ("samples_utilization", Box::new(|d| d.samples(Sampling::GpuUtilization, None).map(|s| newest(&s)))),
        ("gpm_sample", Box::new(|d| d.gpm_sample().map(|_| 0))),
    ]
}

fn newest(samples: &[nvml_wrapper::struct_wrappers::device::Sample]) -> u64 {
    samples.iter().map(|s| s.timestamp).max().unwrap_or(0)
}

fn field(d: &Device<'_>, id: u32) -> Result<u64, NvmlError> {
    use nvml_wrapper::enums::device::SampleValue;
    let mut got = d.field_values_for(&[FieldId(id)])?;
    match got.pop() {
        Some(Ok(f)) => match f.value? {
            SampleValue::U32(v) => Ok(u64::from(v)),
            SampleValue::U64(v) => Ok(v),
            _ => Err(NvmlError::UnexpectedVariant(id)),
        },
        Some(Err(e)) => Err(e),
        None => Err(NvmlError::NotFound),
    }
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() { f64::NAN } else { sorted[((sorted.len() - 1) as f64 * q).round() as usize] }
}

/// CPU and wall time of one read, called every 2 ms as a poller would (hot loops flatter caches and sleep states).
fn cost(d: &Device<'_>, read: &Read<'_>, calls: usize) -> String {
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    let mut error = None;
    for _ in 0..calls {
        std::thread::sleep(Duration::from_millis(2));
        let (c, w) = (ns(ClockId::ThreadCPUTime), Instant::now());
        let got = read.1(d);
        let (c2, w2) = (ns(ClockId::ThreadCPUTime), w.elapsed());
        if let Err(e) = got {
            error = Some(e.to_string());
            break;
        }
        cpu.push((c2 - c) as f64 / 1e3);
        wall.push(w2.as_nanos() as f64 / 1e3);
    }
    if let Some(e) = error {
        return format!("{{\"error\":{e:?}}}");
    }
    let mean = cpu.iter().sum::<f64>() / cpu.len() as f64;
    cpu.sort_by(f64::total_cmp);
    wall.sort_by(f64::total_cmp);
    format!(
        "{{\"cpu_us\":{:.1},\"cpu_us_mean\":{mean:.1},\"wall_us\":{:.1},\"wall_us_p99\":{:.1}}}",
        quantile(&cpu, 0.5),
        quantile(&wall, 0.5),
        quantile(&wall, 0.99)
    )
}

/// Times between changes of a value that is read as often as it can be, at most every 500 µs.
fn changes(d: &Device<'_>, read: &Read<'_>, seconds: f64) -> String {
    let begun = Instant::now();
    let (mut last, mut at, mut gaps, mut n) = (None, None::<Instant>, Vec::new(), 0u32);
    while begun.elapsed().as_secs_f64() < seconds {
        let Ok(v) = read.1(d) else { return "null".into() };
        n += 1;
        if last.is_some_and(|l| l != v) {
            let now = Instant::now();
            if let Some(at) = at {
                gaps.push(now.duration_since(at).as_nanos() as f64 / 1e6);
            }
            at = Some(now);
        }
        last = Some(v);
        std::thread::sleep(Duration::from_micros(500));
    }
    gaps.sort_by(f64::total_cmp);
    format!(
        "{{\"reads\":{n},\"changes\":{},\"gap_ms_p10\":{:.2},\"gap_ms_p50\":{:.2},\"gap_ms_p90\":{:.2}}}",
        gaps.len(),
        quantile(&gaps, 0.1),
        quantile(&gaps, 0.5),
        quantile(&gaps, 0.9)
    )
    .replace("NaN", "null")
}

/// CPU time of `nvmlGpmMetricsGet` for so many metrics, and how much of it is the kernel's.
fn metrics_cost(nvml: &Nvml, d: &Device<'_>, ids: &[GpmMetricId]) -> Result<String, NvmlError> {
    let first = d.gpm_sample()?;
    std::thread::sleep(Duration::from_millis(150));
    let second = d.gpm_sample()?;
    let (system, c) = (system_ticks(), ns(ClockId::ThreadCPUTime));
    let calls = 200;
    for _ in 0..calls {
        gpm_metrics_get(nvml, &first, &second, ids)?;
    }
    let cpu = (ns(ClockId::ThreadCPUTime) - c) as f64 / 1e3 / f64::from(calls);
    Ok(format!("{{\"cpu_us\":{cpu:.1},\"system_ticks_of_200_calls\":{}}}", system_ticks() - system))
}

/// Time this thread spent in the kernel, in ticks of 10 ms.
fn system_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    text.rsplit(')')
        .next()
        .and_then(|t| t.split_whitespace().nth(12))
        .and_then(|t| t.parse().ok())
        .unwrap_or(0)
}

/// Share of a core that polling the cheap values at a period takes.
fn poll_share(d: &Device<'_>, period: Duration, seconds: f64) -> f64 {
    let (begun, c) = (Instant::now(), ns(ClockId::ThreadCPUTime));
    while begun.elapsed().as_secs_f64() < seconds {
        let _ = d.clock_info(Clock::SM);
        let _ = d.clock_info(Clock::Memory);
        let _ = d.power_usage();
        let _ = field(d, 186);
        let _ = d.temperature(TemperatureSensor::Gpu);
        let _ = d.current_throttle_reasons();
        let _ = d.utilization_rates();
        std::thread::sleep(period);
    }
    (ns(ClockId::ThreadCPUTime) - c) as f64 / begun.elapsed().as_nanos() as f64
}

/// A dense series for finding when a value was true: `at` (CLOCK_MONOTONIC), SM utilisation by GPM since the last
/// row, power now and averaged, energy (every tenth row).
fn series(nvml: &Nvml, d: &Device<'_>, seconds: f64, energy: bool) -> Result<String, NvmlError> {
    let mut csv = String::from("at_ns,sm,power_instant_mw,power_average_mw,power_usage_mw,energy_mj\n");
    let mut before = d.gpm_sample()?;
    let begun = Instant::now();
    for row in 0u32.. {
        if begun.elapsed().as_secs_f64() >= seconds {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
        let sample = d.gpm_sample()?;
        let at = ns(ClockId::Monotonic);
        let sm = gpm_metrics_get(nvml, &before, &sample, &[GpmMetricId::DramBwUtil, GpmMetricId::SmUtil])?;
        // No new counters since the last sample: DRAM utilisation is not a number then.
        let fresh = matches!(&sm[0], Ok(v) if v.value.is_finite());
        let sm = if fresh { sm[1].as_ref().map_or(f64::NAN, |v| v.value).to_string() } else { String::new() };
        let cell = |v: Result<u64, NvmlError>| v.map_or_else(|_| String::new(), |v| v.to_string());
        let _ = writeln!(
            csv,
            "{at},{sm},{},{},{},{}",
            cell(field(d, 186)),
            cell(field(d, 185)),
            cell(d.power_usage().map(u64::from)),
            if energy && row % 5 == 0 { cell(d.total_energy_consumption()) } else { String::new() }
        );
        before = sample;
    }
    Ok(csv)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let index: u32 = args.first().map_or(Ok(0), |a| a.parse())?;
    let seconds: f64 = args.get(1).map_or(Ok(1.0), |a| a.parse())?;
    let nvml = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init()?;
    let d = nvml.device_by_index(index)?;
    let reads = reads(&nvml, index);
    let list = |p: Result<Vec<nvml_wrapper::struct_wrappers::device::ProcessInfo>, NvmlError>| match p {
        Ok(p) => format!(
            "{:?}",
            p.iter().map(|p| format!("{}: {:?}", p.pid, p.used_gpu_memory)).collect::<Vec<_>>()
        ),
        Err(e) => format!("{:?}", e.to_string()),
    };
    if let Some(path) = args.get(2) {
        std::fs::write(path, series(&nvml, &d, seconds, args.len() > 3)?)?;
        return Ok(());
    }
    let mut out = format!(
        "{{\n \"compute_processes\": {},\n \"mps_processes\": {},\n \"gpm_support\": {:?},\n \"cost\": {{\n",
        list(d.running_compute_processes()),
        list(d.mps_running_compute_processes()),
        d.gpm_support().map_or_else(|e| e.to_string(), |s| s.to_string()),
    );
    for (i, r) in reads.iter().enumerate() {
        let comma = if i + 1 < reads.len() { "," } else { "" };
        let _ = writeln!(out, "  \"{}\": {}{comma}", r.0, cost(&d, r, 200));
    }
    out.push_str(" },\n \"changes\": {\n");
    let changing: Vec<&Read<'_>> =
        reads.iter().filter(|r| !["handle", "gpm_sample"].contains(&r.0)).collect();
    for (i, r) in changing.iter().enumerate() {
        let comma = if i + 1 < changing.len() { "," } else { "" };
        let _ = writeln!(out, "  \"{}\": {}{comma}", r.0, changes(&d, r, seconds));
    }
    out.push_str(" },\n \"gpm_metrics\": {\n");
    let ids: Vec<GpmMetricId> = METRICS.iter().map(|m| m.0).collect();
    for n in [1, 2, 4, 8] {
        let _ = writeln!(out, "  \"first {n}\": {},", metrics_cost(&nvml, &d, &ids[..n])?);
    }
    for m in METRICS {
        let _ = writeln!(out, "  \"{}\": {},", m.1, metrics_cost(&nvml, &d, &[m.0])?);
    }
    let _ = writeln!(
        out,
        "  \"all {}\": {}\n }},\n \"poll_share\": {{",
        ids.len(),
        metrics_cost(&nvml, &d, &ids)?
    );
    for (ms, comma) in [(5, ","), (10, ","), (20, ","), (50, ","), (100, "")] {
        let share = poll_share(&d, Duration::from_millis(ms), 2.0 * seconds);
        let _ = writeln!(out, "  \"{ms} ms\": {share:.5}{comma}");
    }
    out.push_str(" }\n}");
    println!("{out}");
    Ok(())
}
