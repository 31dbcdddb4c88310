//! The pages in a real browser: no console error, no horizontal scrolling on a narrow screen, light and dark.
//!
//! Needs Chromium, named by `$CHROMIUM` or found as `chromium`, `chromium-browser` or `google-chrome` in the
//! path; without one the test says so and ends. Set `COTENANT_SCREENSHOTS` to a folder to keep the pictures.

use crate::{common, model_runs};
use cotenant_report::figure::{Axis, Figure, Frame, HeatMap, LineFigure, Point, Role, Series};
use cotenant_report::{Block, PageHead, Section, page_html, report_html};
use std::path::{Path, PathBuf};
use std::process::Command;

fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|dir| ["chromium", "chromium-browser", "google-chrome"].map(|name| dir.join(name)))
        .find(|p| p.is_file())
}

/// Height of a picture.
const HEIGHT: u32 = 4200;

struct Seen {
    log: String,
    dom: String,
}

/// Opens `page` in a window `width` wide and gives what it logged and the resulting document.
fn open(browser: &Path, dir: &Path, page: &Path, width: u32, dark: bool, picture: Option<&Path>) -> Seen {
    let profile = dir.join("profile");
    let mut c = Command::new(browser);
    c.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--virtual-time-budget=20000",
    ]);
    c.arg(format!("--user-data-dir={}", profile.display()));
    c.arg(format!("--window-size={width},{}", if picture.is_some() { HEIGHT } else { 900 }));
    if dark {
        c.arg("--blink-settings=preferredColorScheme=0");
    }
    match picture {
        Some(path) => c.arg(format!("--screenshot={}", path.display())),
        None => c.arg("--dump-dom"),
    };
    let out = c.arg(format!("file://{}", page.display())).output().expect("the browser starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Seen {
        log: String::from_utf8_lossy(&out.stderr).into_owned(),
        dom: String::from_utf8_lossy(&out.stdout).into_owned(),
    }
}

/// The script that a copy of a page under test gets for measuring. The page itself runs none, and its content
/// policy would stop it, so that is taken out of the copy.
const MEASURE: &str = "<script>addEventListener('load',()=>{const d=document.documentElement,\
    s=getComputedStyle(document.body);const wide=[...document.querySelectorAll('body *')]\
    .filter(e=>e.getBoundingClientRect().right>innerWidth+1&&!e.closest('.scroll,.figure,pre,details:not([open])'))\
    .map(e=>e.tagName+'.'+e.className).slice(0,5);\
    parent.postMessage(`MEASURED ${name} scroll=${d.scrollWidth} window=${innerWidth} \
    background=${s.backgroundColor} wide=${wide}`,'*')})</script>";

/// Writes a page with a frame for each (file, width): a headless browser's own window cannot be narrow. What the
/// frames report stands in its document.
fn frames(dir: &Path, name: &str, frames: &[(String, u32)], height: u32) -> PathBuf {
    let mut html = String::from(
        "<!doctype html><meta charset=utf-8><link rel=icon href='data:,'><body style=\"margin:0\"><pre id=out hidden>\
         </pre><script>addEventListener('message',e=>{document.getElementById('out').append(e.data+'\\n')})</script>",
    );
    for (file, width) in frames {
        html.push_str(&format!(
            "<iframe name=\"{file}@{width}\" src=\"{file}\" style=\"border:0;width:{width}px;height:{height}px\"></iframe>"
        ));
    }
    let path = dir.join(name);
    std::fs::write(&path, html).expect("written");
    path
}

fn number(text: &str, key: &str) -> f64 {
    let at = text.find(key).unwrap_or_else(|| panic!("{key} in {text}")) + key.len();
    let digits: String = text[at..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    digits.parse().expect("a number")
}

fn console_errors(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|l| l.contains(":CONSOLE") || l.contains("Refused to") || l.contains("Uncaught"))
        .collect()
}

fn card_page() -> String {
    let point = |x: f64, y: f64| Point { x, y, low: y * 0.97, high: y * 1.03, note: format!("{x}: {y}") };
    let latency = LineFigure {
        frame: Frame { title: "Loaded latency of DRAM".into(), badge: None, foot: "a foot".into() },
        x: Axis { label: "bandwidth, GB/s".into(), ..Axis::default() },
        y: Axis { label: "latency, ns".into(), zero: true, ..Axis::default() },
        series: vec![Series {
            name: "DRAM".into(),
            role: Role::Measured,
            colour: 0,
            points: (0..20)
                .map(|i| f64::from(i) / 20.0)
                .map(|u| point(3200.0 * u, 500.0 + 90.0 * u / (1.02 - u)))
                .collect(),
        }],
        guides: Vec::new(),
    };
    let heat = HeatMap {
        frame: Frame { title: "Directed slowdown".into(), badge: None, foot: String::new() },
        x_label: "beside".into(),
        y_label: "victim".into(),
        columns: ["copy", "fma", "fp64", "tensor", "l2 copy"].map(String::from).to_vec(),
        rows: ["copy", "fma", "fp64", "tensor", "l2 copy"].map(String::from).to_vec(),
        cells: (0..5)
            .map(|r| (0..5).map(|c| (r != 3 || c != 1).then(|| 1.0 + 0.25 * f64::from(r * c % 5))).collect())
            .collect(),
        floor: Some(1.0),
    };
    let head = PageHead {
        title: "Device card of NVIDIA H100 80GB HBM3".into(),
        badge: None,
        eyebrow: vec!["2026-11-22".into()],
        lead: "Measured ceilings.".into(),
        foot: "cotenant 0.1.0".into(),
    };
    let pairs = vec![
        ("DRAM read".to_owned(), "3.1 TB/s".to_owned()),
        ("A very long name of a quantity".to_owned(), "x".repeat(200)),
    ];
    page_html(
        &head,
        &[
            Section { name: "Ceilings".into(), blocks: vec![Block::Pairs(pairs)] },
            Section {
                name: "Latency".into(),
                blocks: vec![Block::Figure(Figure::Line(latency)), Block::Figure(Figure::Heat(heat))],
            },
        ],
    )
}

#[test]
fn pages_render_without_errors_in_light_dark_and_narrow_windows() {
    let Some(browser) = chromium() else {
        eprintln!("skipped: chromium not found (install it, or name it in CHROMIUM)");
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let pages = [
        ("bars", report_html(&common::issue_slots(true))),
        ("line", report_html(&common::l2_sweep())),
        ("modes", report_html(&common::modes())),
        ("hostile", report_html(&common::hostile())),
        ("empty", report_html(&common::empty())),
        ("card", card_page()),
        ("pair", report_html(&model_runs::pair())),
        ("mix", report_html(&model_runs::four_and_one())),
        ("copies", report_html(&model_runs::copies())),
    ];
    let mut measured = Vec::new();
    for (name, html) in &pages {
        std::fs::write(dir.path().join(format!("{name}.html")), html).expect("written");
        let copy = html.replacen("http-equiv=\"Content-Security-Policy\"", "name=\"policy-removed\"", 1);
        let copy = copy.replacen("</body>", &format!("{MEASURE}</body>"), 1);
        std::fs::write(dir.path().join(format!("{name}-copy.html")), copy).expect("written");
        measured.extend([1200, 360].map(|width| (format!("{name}-copy.html"), width)));
    }
    // As they are, with their content policy in force.
    let plain: Vec<(String, u32)> = pages.iter().map(|(name, _)| (format!("{name}.html"), 1200)).collect();
    let seen = open(&browser, dir.path(), &frames(dir.path(), "plain.html", &plain, 800), 1280, false, None);
    assert_eq!(console_errors(&seen.log), Vec::<&str>::new());

    assert_eq!(seen.dom.matches("<iframe").count(), pages.len());

    let measure = frames(dir.path(), "measure.html", &measured, 800);
    let looks = [false, true].map(|dark| {
        let seen = open(&browser, dir.path(), &measure, 1280, dark, None);
        assert_eq!(console_errors(&seen.log), Vec::<&str>::new());
        let lines: Vec<String> = seen
            .dom
            .split("MEASURED ")
            .skip(1)
            .map(|l| l.lines().next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(lines.len(), measured.len(), "every page loads: {lines:?}");
        for line in &lines {
            assert!(number(line, "scroll=") <= number(line, "window="), "scrolls sideways: {line}");
        }
        let background =
            |l: &String| l.split("background=").nth(1).map(|b| b.split(')').next().unwrap_or(b).to_owned());
        lines.iter().map(background).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!((looks[0].len(), looks[1].len()), (1, 1), "one background a mode: {looks:?}");
    assert_ne!(looks[0], looks[1], "dark mode changes the colours");

    let Some(folder) = std::env::var_os("COTENANT_SCREENSHOTS").map(PathBuf::from) else { return };
    for (name, _) in &pages {
        let page = dir.path().join(format!("{name}.html"));
        for (tone, dark) in [("light", false), ("dark", true)] {
            open(&browser, dir.path(), &page, 1200, dark, Some(&folder.join(format!("{name}-{tone}.png"))));
        }
        let narrow = frames(dir.path(), "narrow.html", &[(format!("{name}.html"), 360)], HEIGHT);
        open(&browser, dir.path(), &narrow, 500, false, Some(&folder.join(format!("{name}-narrow.png"))));
    }
}
