//! Figures and pages as text: snapshots, escaping, and that no data make them panic or draw what is no number.

use crate::common;
use cotenant_report::figure::{
    Axis, Bar, BarFigure, BarGroup, Counter, Curve, DensityFigure, DensityPanel, Dots, Figure, Frame, Guide,
    HeatMap, IterationFigure, IterationPanel, Lane, LineFigure, Panel, Point, ReferenceMark, Role, Series,
    Stretch, Strip, TelemetryFigure, Timeline, TimelinePhase,
};
use cotenant_report::figures::{experiment_figures, machine_state, timeline};
use cotenant_report::samples::samples;
use cotenant_report::svg::Embed;
use cotenant_report::{Block, Note, PageHead, Section, TableBlock, figures_for, page_html, report_html};
use proptest::prelude::*;

fn inline(figures: &[(String, Figure)]) -> String {
    figures.iter().map(|(_, f)| f.svg(Embed::Inline)).collect()
}

/// Every tag is closed in order and every attribute quoted: enough of XML to catch a missing escape.
pub fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        assert!(
            !rest[..at].contains('>'),
            "a stray > before {}",
            &rest[at..].chars().take(60).collect::<String>()
        );
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
        assert!(!tag.contains('<'), "<{tag}>");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

/// No coordinate that is not a number. The label is text of the user's, in which these letters may stand.
pub fn finite(svg: &str) {
    let tags = svg.split('<').filter_map(|t| t.split_once('>')).map(|(tag, _)| tag);
    for tag in tags {
        let parts: Vec<&str> = tag.split('"').collect();
        for attribute in parts.chunks_exact(2).filter(|a| !a[0].ends_with("aria-label=")) {
            for bad in ["NaN", "inf", "Infinity"] {
                assert!(!attribute[1].contains(bad), "{bad} in <{tag}>");
            }
        }
    }
}

#[test]
fn figures_of_the_runs() {
    let run = common::issue_slots(true);
    insta::assert_snapshot!("bars", inline(&experiment_figures(&run)));
    let run = common::l2_sweep();
    insta::assert_snapshot!("line", inline(&experiment_figures(&run)));
    let run = common::modes();
    insta::assert_snapshot!("bars_by_name", inline(&experiment_figures(&run)));
    let all = samples(&run.manifest, &run.repeats, &run.outcomes);
    insta::assert_snapshot!(
        "timeline",
        timeline(&run.manifest, &all[0]).expect("repeats").svg(Embed::Inline)
    );
    let run = common::issue_slots(false);
    insta::assert_snapshot!("clocks", machine_state(&run, None).expect("states").svg(Embed::Inline));
}

#[test]
fn standalone_files_carry_their_style_and_are_stable() {
    let run = common::issue_slots(true);
    let files = figures_for(&run);
    assert_eq!(files.len(), 1);
    let (name, svg) = &files[0];
    assert_eq!(name, "figure-1-speedup.svg");
    assert!(
        svg.contains("<style>") && svg.contains("prefers-color-scheme: dark") && svg.contains("SIMULATED")
    );
    assert_eq!(files, figures_for(&run));
    let evil = common::hostile();
    for (name, svg) in figures_for(&evil) {
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.'), "{name}");
        well_formed(&svg);
    }
}

#[test]
fn the_report_says_everything() {
    let run = common::modes();
    let html = report_html(&run);
    assert_eq!(html, report_html(&run), "byte-stable");
    insta::assert_snapshot!("report", report_html(&common::issue_slots(true)));
    for text in [
        "tenant mul was killed by signal 9",
        "MIG is off on this GPU",
        "unfinished",
        "copy asked for 66 SMs and was given 72",
        "ask for a multiple of 8",
        "p99 request of copy, shared",
        "72 (asked 66)",
        "cotenant run mode-matrix --device cuda:0 --set &#x27;measure.budget=&quot;5s&quot;&#x27;",
        "100fe94c0ffee",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("SIMULATED"));
    let simulated = report_html(&common::issue_slots(true));
    // Page, figure, timelines, clocks, footer.
    assert!(simulated.matches("SIMULATED").count() >= 8);
}

#[test]
fn hostile_text_stays_text() {
    let html = report_html(&common::hostile());
    assert!(!html.contains("failed to draw"), "{}", &html[..600.min(html.len())]);
    for raw in ["<script", "<img", "</style></title>", "\u{1b}"] {
        assert!(!html.contains(raw), "{raw:?}");
    }
    assert!(!html.contains(">49<") && html.contains("{{ 7*7 }}"), "text is no template");
    assert_eq!(html.matches("</style>").count(), 1);
}

#[test]
fn an_empty_run_has_a_report() {
    let html = report_html(&common::empty());
    assert!(
        html.contains("No trial of this run gave a value")
            && html.contains("unfinished")
            && html.contains("no data")
    );
}

#[test]
fn every_kind_of_block_is_drawn() {
    let head = PageHead { title: "T".into(), badge: Some("SIMULATED".into()), ..PageHead::default() };
    let table = TableBlock {
        head: vec!["what".into(), "value".into()],
        numeric: vec![1],
        rows: vec![vec!["<b>".into(), "1".into()]],
    };
    let note = Note { kind: "k".into(), message: "seen".into(), advice: "do".into(), ..Note::default() };
    let section = Section {
        name: "S & T".into(),
        blocks: vec![
            Block::Text("a < b".into()),
            Block::Pairs(vec![("key".into(), "val".into())]),
            Block::Table(table),
            Block::Code("x <- 1".into()),
            Block::Note(note),
            Block::Figure(Figure::Heat(HeatMap::default())),
        ],
    };
    let html = page_html(&head, &[section]);
    for text in
        ["S &amp; T", "a &lt; b", "<dt>key</dt>", "&lt;b&gt;", "x &lt;- 1", "seen", "ct-figure", "SIMULATED"]
    {
        assert!(html.contains(text), "{text}");
    }
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -1e3f64..1e3,
        1 => any::<f64>(),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(0.0), Just(1e308), Just(-1e308)],
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9 <>&\"'-]{0,40}", any::<String>()]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    (any_text(), prop::option::of(any_text()), any_text()).prop_map(|(title, badge, foot)| Frame {
        title,
        badge,
        foot,
    })
}

fn any_axis() -> impl Strategy<Value = Axis> {
    (any_text(), any::<bool>(), any::<bool>()).prop_map(|(label, log, zero)| Axis { label, log, zero })
}

fn any_series() -> impl Strategy<Value = Series> {
    let point = (any_number(), any_number(), any_number(), any_number(), any_text())
        .prop_map(|(x, y, low, high, note)| Point { x, y, low, high, note });
    (any_text(), prop::option::of(0usize..5), 0usize..9, prop::collection::vec(point, 0..8)).prop_map(
        |(name, source, colour, points)| Series {
            name,
            role: match source {
                None => Role::Measured,
                Some(4) => Role::Range,
                Some(source) => Role::Reference(source),
            },
            colour,
            points,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_line_figure_is_well_formed(
        frame in any_frame(), x in any_axis(), y in any_axis(), series in prop::collection::vec(any_series(), 0..4),
        guides in prop::collection::vec((any_number(), any::<bool>(), any_text()), 0..3),
    ) {
        let guides = guides.into_iter().map(|(at, vertical, label)| Guide { at, vertical, label }).collect();
        let svg = LineFigure { frame, x, y, series, guides }.svg(Embed::Inline);
        well_formed(&svg);
        finite(&svg);
    }

    #[test]
    fn any_bar_figure_is_well_formed(
        frame in any_frame(), y in any_axis(),
        groups in prop::collection::vec((any_text(), prop::collection::vec((any_number(), any_number(), any_number(), prop::collection::vec((0usize..4, any_number()), 0..3)), 0..4)), 0..30),
        guides in prop::collection::vec((any_number(), any_text()), 0..2),
    ) {
        let groups = groups.into_iter().map(|(label, bars)| BarGroup {
            label,
            bars: bars.into_iter().enumerate().map(|(series, (value, low, high, refs))| Bar {
                series, value, low, high, note: "n".into(),
                references: refs.into_iter().map(|(source, value)| ReferenceMark { source, value, note: "r".into() }).collect(),
            }).collect(),
        }).collect();
        let names = |p: &str| (0..4).map(|i| format!("{p}{i}")).collect();
        let svg = BarFigure { frame, x_label: "x".into(), y, series: names("s"), sources: names("r"), groups, guides }.svg(Embed::Standalone);
        well_formed(&svg[svg.find("</style>").expect("a style") + 8..].replace("</svg>", ""));
        finite(&svg);
    }

    #[test]
    fn any_timeline_strip_and_heat_map_are_well_formed(
        frame in any_frame(), name in any_text(),
        lanes in prop::collection::vec(prop::collection::vec((any::<u64>(), any::<u64>()), 0..20), 0..4),
        values in prop::collection::vec(prop::option::of(any_number()), 0..20),
        floor in prop::option::of(any_number()),
    ) {
        let lanes = lanes.into_iter().enumerate().map(|(colour, spans_ns)| Lane { name: name.clone(), colour, spans_ns, note: name.clone() });
        let phase = TimelinePhase { name: name.clone(), remark: name.clone(), shade_overlap: true, lanes: lanes.collect() };
        let panels = vec![Panel { label: name.clone(), values: values.clone() }, Panel::default()];
        let rows: Vec<Vec<Option<f64>>> = values.chunks(4).map(<[_]>::to_vec).collect();
        for figure in [
            Figure::Timeline(Timeline { frame: frame.clone(), phases: vec![phase, TimelinePhase::default()] }),
            Figure::Strip(Strip { frame: frame.clone(), panels, sections: vec![(1, name.clone())], marks: vec![(2, name.clone())] }),
            Figure::Heat(HeatMap {
                frame, x_label: name.clone(), y_label: name.clone(), columns: vec![name.clone(); 4], rows: vec![name.clone(); rows.len()], cells: rows, floor,
            }),
        ] {
            let svg = figure.svg(Embed::Inline);
            well_formed(&svg);
            finite(&svg);
        }
    }

    #[test]
    fn any_density_is_well_formed(
        frame in any_frame(), text in any_text(),
        panels in prop::collection::vec(prop::collection::vec((
            prop::collection::vec((any_number(), any_number()), 0..12), prop::option::of(any_number()), any::<bool>(), 0usize..20,
        ), 0..5), 0..3),
    ) {
        let curve = |(points, median, baseline, colour)| Curve {
            name: text.clone(), colour, baseline, points, median, label: text.clone(), note: text.clone(),
        };
        let panel = |curves: Vec<_>| DensityPanel {
            title: text.clone(), note: text.clone(), curves: curves.into_iter().map(curve).collect(),
        };
        let figure = DensityFigure { frame, x_label: text.clone(), panels: panels.into_iter().map(panel).collect() };
        let svg = figure.svg(Embed::Inline);
        well_formed(&svg);
        finite(&svg);
    }

    #[test]
    fn any_iterations_and_telemetry_are_well_formed(
        frame in any_frame(), text in any_text(), end_ns in any::<u64>(),
        parts in prop::collection::vec((any::<u64>(), any::<u64>(), prop_oneof![Just("all"), Just("some"), Just("one"), Just("x")]), 0..4),
        dots in prop::collection::vec(prop::collection::vec((any::<u64>(), any_number()), 0..20), 0..4),
        levels in prop::collection::vec((0usize..6, any_number()), 0..4), baseline in prop::option::of(any_number()),
        samples in prop::collection::vec((any::<i64>(), any_number()), 0..20), full in prop::option::of(any_number()),
    ) {
        let parts: Vec<Stretch> =
            parts.into_iter().map(|(from_ns, to_ns, a)| Stretch { active: a.into(), from_ns, to_ns }).collect();
        let lanes = dots.iter().map(|d| Lane {
            name: text.clone(), colour: 3, spans_ns: d.iter().map(|p| (p.0, p.0.saturating_add(9))).collect(), note: text.clone(),
        });
        let counter = Counter {
            label: text.clone(), unit: text.clone(), points: samples, full, means: levels.clone(),
        };
        let panel = IterationPanel {
            title: text.clone(),
            baseline: baseline.map(|b| (b, text.clone())),
            dots: dots.iter().cloned().enumerate().map(|(i, points)| Dots {
                name: text.clone(), colour: 5 * i, points, note: text.clone(),
            }).collect(),
            levels: levels.into_iter().map(|(i, v)| (i, v, text.clone())).collect(),
        };
        for figure in [
            Figure::Telemetry(TelemetryFigure {
                frame: frame.clone(), end_ns, parts: parts.clone(), lanes: lanes.collect(), counters: vec![counter, Counter::default()],
            }),
            Figure::Iterations(IterationFigure {
                frame, y_label: text.clone(), end_ns, parts, panels: vec![panel, IterationPanel::default()],
            }),
        ] {
            let svg = figure.svg(Embed::Inline);
            well_formed(&svg);
            finite(&svg);
        }
    }
}
