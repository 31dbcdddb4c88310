//! Controls and reads one trace from the command line; prints JSON.
//!
//!     trace state|on|off|detach|flush FILE
//!     trace busy FILE < intervals       lines of "START END", ns of CLOCK_MONOTONIC
//!     trace kernels FILE                number, time and shapes of each kernel

use cotenant_timeline::{Control, Interval, Total, Trace};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, file] = arguments.as_slice() else {
        eprintln!("usage: trace state|on|off|detach|flush|busy|kernels FILE");
        return ExitCode::from(2);
    };
    match run(verb, Path::new(file)) {
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &str, file: &Path) -> Result<Value, Box<dyn Error>> {
    match verb {
        "busy" => busy(&Trace::read(file)?),
        "kernels" => Ok(kernels(&Trace::read(file)?)),
        _ => control(verb, file),
    }
}

fn control(verb: &str, file: &Path) -> Result<Value, Box<dyn Error>> {
    let mut control = Control::wait_open(file, LIMIT)?;
    let begin = Instant::now();
    match verb {
        "state" => {}
        "on" => control.switch(true, LIMIT)?,
        "off" => control.switch(false, LIMIT)?,
        "detach" => drop(control.detach(LIMIT)?),
        "flush" => control.flush(LIMIT)?,
        other => return Err(format!("{other} is no verb").into()),
    }
    let counters = control.counters();
    Ok(json!({
        "state": format!("{:?}", control.state()).to_lowercase(),
        "reason": control.reason(),
        "attached": control.attached(),
        "took_ms": begin.elapsed().as_secs_f64() * 1e3,
        "kernels": counters.kernels,
        "copies": counters.copies,
        "sets": counters.sets,
        "dropped": counters.dropped,
        "buffers_lost": counters.buffers_lost,
        "incomplete": counters.incomplete,
    }))
}

fn busy(trace: &Trace) -> Result<Value, Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut intervals = Vec::new();
    for line in text.lines() {
        let (start, end) = line.split_once(' ').ok_or("an interval must be two numbers")?;
        intervals.push(Interval { start_ns: start.parse()?, end_ns: end.parse()? });
    }
    let total = |total: &Total| json!([total.count, total.sum_ns, total.union_ns]);
    let out = trace.device_time(&intervals)?;
    let iterations: Vec<Value> = out
        .iterations
        .iter()
        .map(|time| {
            json!({
                "kernels": total(&time.kernels),
                "copies": total(&time.copies),
                "sets": total(&time.sets),
                "union_ns": time.union_ns,
                "late_ns": time.late_ns,
            })
        })
        .collect();
    let recorded: Vec<Value> =
        trace.recorded().iter().map(|span| json!([span.start_ns, span.end_ns])).collect();
    Ok(
        json!({ "iterations": iterations, "outside": out.outside, "recorded": recorded, "torn_bytes": trace.torn_bytes }),
    )
}

fn kernels(trace: &Trace) -> Value {
    let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut by_graph: BTreeMap<u64, u64> = BTreeMap::new();
    for kernel in &trace.kernels {
        let entry = by_name.entry(trace.name(kernel)).or_default();
        entry.0 += 1;
        entry.1 += kernel.duration_ns;
        let node = trace.node(kernel);
        *by_graph.entry(node >> 32).or_default() += u64::from(node != 0);
    }
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by_key(|&(_, (_, time))| std::cmp::Reverse(time));
    let rows: Vec<Value> = rows.into_iter().map(|(name, (count, time))| json!([name, count, time])).collect();
    json!({
        "kernels": rows,
        "shapes": trace.shapes.len(),
        "lanes": trace.lanes.len(),
        "launches_by_graph": by_graph,
    })
}
