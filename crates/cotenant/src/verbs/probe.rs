//! `cotenant probe`: measures the device card and writes it with a page.

use crate::cli::ProbeArgs;
use crate::device::{self, Selector};
use crate::exit::{Code, Failure};
use cotenant_lab::backend::{Backend, TrialError};
use cotenant_lab::cuda::Options;
use cotenant_lab::probe::{Gap, probe as measure};
use cotenant_lab::provenance::{gather, rfc3339};
use cotenant_model::DeviceCard;
use cotenant_model::curve::Curve;
use cotenant_report::figure::{Axis, Figure, Frame, LineFigure, Point, Role, Series};
use cotenant_report::{Block, Note, PageHead, Section, TableBlock, page_html};
use cotenant_store::write_whole;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

/// Probes a device.
pub fn probe(a: ProbeArgs) -> Result<Code, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let _ = ctrlc::set_handler(move || flag.store(true, std::sync::atomic::Ordering::Relaxed));
    let selector = device::select(&a.device)?;
    let mut backend = device::open(&selector, Options::default(), interrupted)?;
    if let Some(out) = &a.out {
        // Before a minute of measuring, not after it.
        cotenant_store::check_writable(out)?;
    }
    let base = base_card(&selector, &*backend)?;
    let begun = Instant::now();
    let mut watch = |line: &str| {
        if !a.json {
            eprintln!("{line}");
        }
    };
    let (mut card, gaps) = measure(&mut *backend, base, &mut watch).map_err(|e| {
        let code = if e == TrialError::Interrupted { Code::Interrupted } else { Code::NoDevice };
        Failure::new(code, format!("probe {}: {e}", a.device))
    })?;
    card.measured = !backend.simulated();
    let p = gather(0, env!("COTENANT_GIT_REVISION"));
    let kind = if backend.simulated() { "simulated, from its own card" } else { "measured on one device" };
    let d = backend.device();
    card.provenance = vec![
        format!("{kind} by cotenant {} ({}) at {}", p.version, p.git_revision, rfc3339(SystemTime::now())),
        format!(
            "driver {}, CUDA {}",
            d.driver.as_deref().unwrap_or("none"),
            d.cuda.as_deref().unwrap_or("none")
        ),
        format!("kernel PTX {}", p.ptx_sha256),
        format!("{}; {}; took {:.1} s", p.os, p.cpu, begun.elapsed().as_secs_f64()),
    ];
    let text = card.to_json().map_err(|e| Failure::new(Code::Store, e.to_string()))?;
    let out = a.out.unwrap_or_else(|| PathBuf::from(format!("{}.json", card.name)));
    write_whole(&out, &text)?;
    let page = out.with_extension("html");
    write_whole(&page, &page_of(&card, &gaps, backend.simulated()))?;
    if a.json {
        super::print_text(&text);
    } else {
        let mut t = super::table::table(&["", "", ""]);
        for s in facts(&card) {
            for (i, (k, v)) in s.1.iter().enumerate() {
                t.add_row([if i == 0 { s.0 } else { "" }, k, v]);
            }
        }
        super::print_text(&format!("{t}\ncard: {}\nreport: {}", out.display(), page.display()));
    }
    Ok(Code::Ok)
}

/// The card to start from: the built-in one of this device, else that of its architecture with the driver's sizes.
fn base_card(selector: &Selector, b: &dyn Backend) -> Result<DeviceCard, Failure> {
    if let Selector::Sim(name) = selector {
        return device::card_named(name);
    }
    let d = b.device();
    let all = || cotenant_model::builtin_names().into_iter().filter_map(cotenant_model::builtin);
    let exact = all().find(|c| c.device == d.name && c.spec.sms == d.sms);
    let capability = b.sizes().capability;
    let found = exact.or_else(|| all().find(|c| c.spec.capability == capability)).ok_or_else(|| {
        Failure::new(
            Code::NoDevice,
            format!(
                "find the data sheet of capability {}.{} ({}): no built-in card has it",
                capability.0, capability.1, d.name
            ),
        )
    })?;
    let mut c = found;
    if c.device != d.name {
        c.name = d.name.to_lowercase().replace(|ch: char| !ch.is_ascii_alphanumeric(), "-");
        c.device.clone_from(&d.name);
    }
    // Nothing measured on another device, or another day, stays.
    c.ceilings = Default::default();
    c.latency = Default::default();
    c.loaded_latency = Default::default();
    c.capacity = Default::default();
    c.issue = Default::default();
    c.launch = Default::default();
    c.sharing = Default::default();
    c.placement = Default::default();
    c.clock = Default::default();
    c.spec.sms = d.sms;
    c.spec.clock_mhz_max = d.max_sm_clock_mhz;
    c.spec.l1_bytes = d.l1_bytes;
    c.spec.l2_bytes = d.l2_bytes;
    c.spec.memory_bytes = d.memory_bytes;
    Ok(c)
}

type Facts = (&'static str, Vec<(String, String)>);

fn facts(c: &DeviceCard) -> Vec<Facts> {
    let num = |k: &str, v: Option<f64>, unit: &str, digits: usize| {
        (k.to_owned(), v.map_or_else(|| "not measured".to_owned(), |v| format!("{v:.digits$} {unit}")))
    };
    let share = |v: Option<f64>| v.map(|v| 100.0 * v / c.spec.dram_gbs);
    let yes = |k: &str, v: Option<bool>| {
        (k.to_owned(), v.map_or("not measured", |v| if v { "yes" } else { "no" }).to_owned())
    };
    vec![
        (
            "ceilings",
            vec![
                num("device memory, read", c.ceilings.dram_read_gbs, "GB/s", 0),
                num("  of the data sheet", share(c.ceilings.dram_read_gbs), "%", 1),
                num("device memory, copy", c.ceilings.dram_copy_gbs, "GB/s", 0),
                num("  of the data sheet", share(c.ceilings.dram_copy_gbs), "%", 1),
                num("device memory, write", c.ceilings.dram_write_gbs, "GB/s", 0),
                num("L2, read", c.ceilings.l2_read_gbs, "GB/s", 0),
                num("L2, copy", c.ceilings.l2_copy_gbs, "GB/s", 0),
                num("shared memory", c.ceilings.shared_bytes_per_cycle, "B/cycle/SM", 1),
                num("tensor cores, bf16", c.ceilings.tensor_tflops, "TFLOP/s", 0),
                num("fp64 pipe", c.ceilings.fp64_pipe_pct, "%", 1),
                num("FMA pipe", c.ceilings.fma_pipe_pct, "%", 1),
                num("issue", c.ceilings.issue_ipc, "IPC", 2),
                num("host to device", c.ceilings.host_to_device_gbs, "GB/s", 1),
                num("device to host", c.ceilings.device_to_host_gbs, "GB/s", 1),
            ],
        ),
        (
            "latency",
            vec![
                num("L1", c.latency.l1_ns, "ns", 1),
                num("L2", c.latency.l2_ns, "ns", 0),
                num("device memory", c.latency.dram_ns, "ns", 0),
            ],
        ),
        (
            "launching",
            vec![
                num("cuLaunchKernel", c.launch.plain_ns, "ns", 0),
                num("cuLaunchKernelEx", c.launch.ex_ns, "ns", 0),
                num("graph node", c.launch.graph_ns, "ns", 0),
                num("gap between kernels", c.launch.gap_ns, "ns", 0),
            ],
        ),
        (
            "sharing",
            vec![
                num("time slice", c.sharing.time_slice_ns.map(|v| v / 1e6), "ms", 2),
                num("issue slots an always-ready kernel keeps", c.issue.hog_share.map(|v| v * 100.0), "%", 0),
                yes("priorities decide at each block", c.sharing.priority_per_block),
                ("block placement".into(), format!("{:?}", c.placement.order)),
                yes("a later kernel waits for the last block of an earlier one", c.placement.leftover),
                num("SM clock under load", c.clock.sustained_mhz, "MHz", 0),
            ],
        ),
    ]
}

/// Name, curve, and how much of the curve's x one unit of the axis is.
type Line<'a> = (&'a str, &'a Option<Curve>, f64);

fn page_of(c: &DeviceCard, gaps: &[Gap], simulated: bool) -> String {
    let head = PageHead {
        title: format!("Device card: {}", c.device),
        badge: simulated.then(|| "SIMULATED".to_owned()),
        eyebrow: vec![c.name.clone(), format!("{} SMs", c.spec.sms)],
        lead: "What this GPU offers and how it arbitrates, measured with the lab's own kernels.".into(),
        foot: c.provenance.join(" · "),
    };
    let mut sections: Vec<Section> = facts(c)
        .into_iter()
        .map(|(name, pairs)| Section { name: name.into(), blocks: vec![Block::Pairs(pairs)] })
        .collect();
    let curves: [(&str, &str, &str, Vec<Line<'_>>); 4] = [
        ("Loaded latency, device memory", "GB/s", "ns", vec![("device memory", &c.loaded_latency.dram, 1.0)]),
        ("Loaded latency, L2", "GB/s", "ns", vec![("L2", &c.loaded_latency.l2, 1.0)]),
        (
            "L2: share of accesses that miss",
            "MiB touched, reads and writes",
            "share",
            vec![
                ("alone", &c.capacity.l2_alone, 1048576.0),
                ("two tenants", &c.capacity.l2_shared, 1048576.0),
            ],
        ),
        (
            "L1: share of accesses that miss",
            "KiB touched per SM, reads and writes",
            "share",
            vec![("alone", &c.capacity.l1_alone, 1024.0), ("two tenants", &c.capacity.l1_shared, 1024.0)],
        ),
    ];
    let mut blocks = Vec::new();
    for (title, x, y, lines) in curves {
        let series: Vec<Series> = lines
            .into_iter()
            .enumerate()
            .filter_map(|(i, (name, curve, unit))| Some(line(name, i, curve.as_ref()?, unit)))
            .collect();
        if !series.is_empty() {
            blocks.push(Block::Figure(Figure::Line(LineFigure {
                frame: Frame {
                    title: title.into(),
                    badge: simulated.then(|| "SIMULATED".to_owned()),
                    ..Frame::default()
                },
                x: Axis { label: x.into(), ..Axis::default() },
                y: Axis { label: y.into(), ..Axis::default() },
                series,
                guides: Vec::new(),
            })));
        }
    }
    sections.push(Section { name: "Curves".into(), blocks });
    let table = |head: [&str; 2], rows: Vec<Vec<String>>| {
        Block::Table(TableBlock { head: head.map(String::from).to_vec(), numeric: vec![0, 1], rows })
    };
    let mps =
        c.sharing.mps_percentage_sms.iter().map(|(p, s)| vec![format!("{p} %"), s.to_string()]).collect();
    let green = c.sharing.green_asked_given.iter().map(|(a, g)| vec![a.to_string(), g.to_string()]).collect();
    let clocks = c.clock.under_load_mhz.iter().map(|(k, m)| vec![k.clone(), format!("{m:.0}")]).collect();
    sections.push(Section {
        name: "Grants and clocks".into(),
        blocks: vec![
            table(["MPS thread percentage", "SMs the client sees"], mps),
            table(["SMs asked as a green context", "SMs given"], green),
            table(["kernel on all SMs", "SM clock, MHz"], clocks),
        ],
    });
    if !gaps.is_empty() {
        let note = |g: &Gap| {
            Block::Note(Note {
                kind: "not measured".into(),
                place: g.section.into(),
                message: g.reason.clone(),
                advice: "see `cotenant doctor`".into(),
                bad: false,
            })
        };
        sections.push(Section { name: "Not measured".into(), blocks: gaps.iter().map(note).collect() });
    }
    page_html(&head, &sections)
}

fn line(name: &str, colour: usize, c: &Curve, unit: f64) -> Series {
    let point = |&(x, y): &(f64, f64)| Point {
        x: x / unit,
        y,
        low: y,
        high: y,
        note: format!("{name}: {:.4} at {:.4}", y, x / unit),
    };
    Series { name: name.into(), role: Role::Measured, colour, points: c.0.iter().map(point).collect() }
}
