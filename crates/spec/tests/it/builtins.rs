//! The experiments that come with the binary.

use crate::common::{cards, h100, kernel};
use cotenant_kernels::Module;
use cotenant_spec::metric::{TENANT_METRICS, TRIAL_METRICS};
use cotenant_spec::plan::{Plan, Sharing, Work};
use cotenant_spec::{Spec, builtin, find, models, schema};
use std::collections::BTreeSet;

fn plan(name: &str) -> Plan {
    let b = find(name).expect("built in");
    Spec::parse(b.text, b.name).and_then(|s| s.resolve(&h100(), &[])).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn all_parse_and_resolve_on_every_card() {
    for b in builtin() {
        let spec = Spec::parse(b.text, &format!("{}.toml", b.name)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(spec.name(), b.name, "the name is the file stem");
        for card in cards() {
            let plan = spec.resolve(&card, &[]).unwrap_or_else(|e| panic!("on {}: {e}", card.name));
            assert!(!plan.trials.is_empty() && !plan.figures.is_empty(), "{}", b.name);
        }
    }
}

#[test]
fn trial_ids_are_the_same_on_every_card() {
    // Else a run could not be compared with one on another card. The NVML pitfall names its grid.
    for b in builtin().iter().filter(|b| b.name != "pitfall-nvml") {
        let spec = Spec::parse(b.text, b.name).expect("parses");
        let ids = |i: usize| -> Vec<String> {
            spec.resolve(&cards()[i], &[]).expect("resolves").trials.into_iter().map(|t| t.id).collect()
        };
        assert_eq!(ids(0), ids(1), "{}", b.name);
        assert_eq!(ids(0), ids(2), "{}", b.name);
    }
}

#[test]
fn the_list_is_the_folder() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("folder")
        .map(|f| f.expect("entry").file_name().into_string().expect("name"))
        .filter_map(|f| f.strip_suffix(".toml").map(str::to_owned))
        .collect();
    assert_eq!(files, builtin().iter().map(|b| b.name.to_owned()).collect::<BTreeSet<_>>());
}

#[test]
fn each_stands_in_the_manual() {
    let manual = include_str!("../../../../docs/experiments.md");
    for b in builtin() {
        assert!(manual.contains(&format!("| `{}` |", b.name)), "docs/experiments.md lacks {}", b.name);
    }
}

#[test]
fn each_key_stands_in_the_manual() {
    // The keys of models and programs are explained on the page about them.
    let pages =
        [include_str!("../../../../docs/experiments.md"), include_str!("../../../../docs/tenants.md")];
    let schema = schema().to_value();
    for table in ["Measure", "Tenant", "TenantTable", "Trial", "Figure", "Reference"] {
        let keys = schema["$defs"][table]["properties"].as_object().expect("a table");
        for key in keys.keys() {
            let names =
                [format!("`{key}`"), format!("{key} = "), format!("{{ {key},"), format!(", {key} }}")];
            let stands = pages.iter().any(|p| names.iter().any(|n| p.contains(n)));
            assert!(stands, "neither page has the key `{key}` of {table}");
        }
    }
}

#[test]
fn each_figure_kind_stands_in_the_manual() {
    let manual = include_str!("../../../../docs/experiments.md");
    let schema = schema().to_value();
    let kinds = schema["$defs"]["Figure"]["properties"]["kind"]["enum"].as_array().expect("kinds").clone();
    for kind in kinds {
        let kind = kind.as_str().expect("a name");
        assert!(manual.contains(&format!("`{kind}`")), "docs/experiments.md lacks the figure kind {kind}");
    }
}

#[test]
fn each_metric_stands_in_the_manual() {
    let manual = include_str!("../../../../docs/experiments.md");
    let (_, rest) = manual.split_once("### Metrics").expect("the section");
    let (section, _) = rest.split_once("\n### ").expect("its end");
    let all = TRIAL_METRICS.iter().chain(TENANT_METRICS);
    for metric in all {
        // What is said once for a metric alone and shared stands without the prefix.
        let plain = metric.strip_prefix("solo_").unwrap_or(metric);
        let stands = [metric, plain].iter().any(|m| section.contains(&format!("`{m}`")));
        assert!(stands, "docs/experiments.md lacks the metric {metric}");
    }
}

#[test]
fn each_model_stands_in_the_manual() {
    let manual = include_str!("../../../../docs/tenants.md");
    for m in models::all() {
        assert!(manual.contains(&format!("`{}`", m.name)), "docs/tenants.md lacks {}", m.name);
    }
}

#[test]
fn each_fits_the_schema_and_a_slip_does_not() {
    let schema = schema().to_value();
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let json =
        |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).expect("TOML")).expect("JSON");
    for b in builtin() {
        // JSON has no nan; in TOML it marks a cell without a reference value.
        let text = b.text.replace("nan,", "0.5,").replace("nan]", "0.5]");
        if let Some(e) = validator.iter_errors(&json(&text)).next() {
            panic!("{}: {e} at {}", b.name, e.instance_path());
        }
    }
    let good = find("mode-matrix").expect("built in").text;
    for (from, to) in [
        ("[measure]\n", "[measure]\nrepeat = 3\n"),
        ("threads = 1024", "thread = 1024"),
        ("sharing = \"processes\"", "sharing = \"process\""),
        ("percentage = [50, 50]", "sms = [50, 50]"),
        ("kind = \"bars\"", "kind = \"pie\""),
        ("format = 1", "format = 2"),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(!validator.is_valid(&json(&good.replacen(from, to, 1))), "accepted {to}");
    }
}

#[test]
fn the_l2_sweep_has_the_sizes_of_the_reference() {
    let p = plan("l2-size");
    let sizes = [4.0, 8.0, 12.0, 16.0, 18.0, 20.0, 22.5, 25.0, 28.0, 32.0, 40.0, 48.0, 64.0];
    assert_eq!(p.trials.len(), sizes.len());
    for (t, mb) in p.trials.iter().zip(sizes) {
        // Sizes are decimal megabytes, rounded to whole portions of 64 KiB.
        assert!((kernel(&t.tenants[0]).kernel.bytes.0 as f64 - mb * 1e6).abs() <= 32768.0, "{mb}");
        assert!((t.x.expect("x") - mb).abs() < 1e-6);
        assert_eq!(
            (kernel(&t.tenants[0]).kernel.shape.blocks, kernel(&t.tenants[0]).kernel.shape.threads),
            (66, 1024)
        );
    }
    let paper: Vec<f64> = p
        .trials
        .iter()
        .flat_map(|t| t.references.iter().filter(|r| r.source.starts_with("paper")))
        .map(|r| r.value)
        .collect();
    assert_eq!(paper, [1.79]);
}

#[test]
fn the_l1_sweep_has_the_sizes_of_the_reference() {
    let kib: Vec<u64> =
        plan("l1-size").trials.iter().map(|t| kernel(&t.tenants[0]).kernel.bytes.0 / 1024).collect();
    assert_eq!(kib, [16, 32, 48, 54, 64, 80, 96, 108, 128, 160, 192]);
}

#[test]
fn tables_2_to_4_have_the_papers_shapes() {
    let dram = plan("dram-mps");
    let blocks: Vec<u32> = dram.trials.iter().map(|t| kernel(&t.tenants[1]).kernel.shape.blocks).collect();
    assert_eq!(blocks, [33, 66, 99, 132]);
    assert!(dram.trials.iter().all(|t| kernel(&t.tenants[0]).kernel.bytes.0 == 4 << 30));

    let issue = plan("issue-slots");
    let ilp: Vec<(f64, u32)> = issue
        .trials
        .iter()
        .map(|t| (kernel(&t.tenants[1]).kernel.params["ilp"], kernel(&t.tenants[1]).kernel.shape.threads))
        .collect();
    assert_eq!(ilp, [(1.0, 128), (2.0, 128), (3.0, 128), (4.0, 128), (4.0, 256)]);
    assert!(issue.trials.iter().all(|t| t.sequential && t.references.len() == 2));

    let fp64 = plan("fp64-pipe");
    assert!(fp64.trials.iter().all(|t| kernel(&t.tenants[0]).kernel == kernel(&t.tenants[1]).kernel));
    assert_eq!(fp64.trials.len(), 4);
}

#[test]
fn green_halves_leave_no_block_waiting() {
    for card in cards() {
        let b = find("dram-green").expect("built in");
        let p = Spec::parse(b.text, b.name).and_then(|s| s.resolve(&card, &[])).expect("resolves");
        for t in &p.trials {
            let Sharing::Green { sms, .. } = &t.sharing else { panic!("green") };
            assert_eq!(sms[0] % 8, 0);
            assert!(
                kernel(&t.tenants[0]).kernel.shape.blocks <= 2 * sms[0],
                "two blocks of 1024 threads per SM"
            );
        }
    }
}

#[test]
fn the_priority_sweep_has_the_neighbours_of_the_reference() {
    let p = plan("priority-length");
    let first: Vec<(u32, f64, f64)> = p.trials[..4]
        .iter()
        .map(|t| {
            (
                kernel(&t.tenants[1]).kernel.shape.blocks,
                kernel(&t.tenants[1]).kernel.params["ns"],
                t.x.expect("x"),
            )
        })
        .collect();
    assert_eq!(first, [(26400, 5e4, 5.0), (5280, 5e4, 1.0), (264, 1e6, 1.0), (264, 5e6, 5.0)]);
    let (request, spin) = (&p.trials[0].tenants[0], &p.trials[0].tenants[1]);
    assert_eq!(
        (kernel(request).request, kernel(request).launches, kernel(spin).work),
        (10, 200, Work::Iterations(1))
    );
    let modes: BTreeSet<&str> = p.trials.iter().map(|t| t.sharing.name()).collect();
    assert_eq!(modes, BTreeSet::from(["processes", "mps", "streams"]));
}

#[test]
fn the_mode_matrix_has_every_mode_but_mig() {
    let modes: BTreeSet<&str> = plan("mode-matrix").trials.iter().map(|t| t.sharing.name()).collect();
    assert_eq!(modes, BTreeSet::from(["solo", "sequential", "streams", "processes", "mps", "green"]));
}

#[test]
fn what_needs_hopper_says_so_elsewhere() {
    let b = find("tensor-tensor").expect("built in");
    let spec = Spec::parse(b.text, b.name).expect("parses");
    let [hopper, ampere, _] = cards();
    assert!(spec.resolve(&hopper, &[]).expect("resolves").trials.iter().all(|t| t.unmet(&hopper).is_none()));
    for t in spec.resolve(&ampere, &[]).expect("resolves").trials {
        let hopper_only = t.tenants.iter().any(|t| kernel(t).kernel.module == Module::Sm90a);
        assert_eq!(t.unmet(&ampere).is_some(), hopper_only, "{}", t.id);
    }
}

#[test]
fn every_reference_names_its_source() {
    let mut papers = BTreeSet::new();
    for b in builtin() {
        for t in plan(b.name).trials {
            for r in t.references {
                assert!(r.value > 0.0 && !r.source.is_empty(), "{} {}", b.name, t.id);
                if r.source == "paper, H100 NVL" {
                    papers.insert(b.name);
                }
            }
        }
    }
    let expected = [
        "quickstart",
        "pitfall-nvml",
        "pitfall-orion",
        "pitfall-usher",
        "block-scheduler",
        "l2-size",
        "dram-mps",
        "issue-slots",
        "fp64-pipe",
        "gemm",
    ];
    assert_eq!(papers, BTreeSet::from(expected));
}
