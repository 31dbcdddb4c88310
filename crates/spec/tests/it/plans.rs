//! What a good file becomes.

use crate::common::{GOOD, cards, h100, kernel};
use cotenant_spec::Spec;
use cotenant_spec::plan::{Baseline, Plan, Protocol, Sharing, Work};
use cotenant_units::{Bytes, Nanos};
use proptest::prelude::*;

fn plan(text: &str) -> Plan {
    Spec::parse(text, "f.toml").and_then(|s| s.resolve(&h100(), &[])).unwrap_or_else(|e| panic!("{e}"))
}

fn plan_with(overrides: &[(&str, &str)]) -> Plan {
    let overrides: Vec<(String, String)> =
        overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Spec::parse(GOOD, "f.toml").and_then(|s| s.resolve(&h100(), &overrides)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn sizes_become_numbers_of_the_card() {
    let p = plan(GOOD);
    assert_eq!((p.name.as_str(), p.seed, p.section.as_str()), ("pair", 1, ""));
    assert_eq!((p.stopping.min_repeats, p.stopping.max_repeats, p.stopping.warmup), (3, 5, 2));
    assert_eq!(p.stopping.budget_ns, Nanos(20_000_000_000));
    assert_eq!(p.trials.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["mps-1", "mps-2"]);
    let t = &p.trials[1];
    assert_eq!((t.x, t.vars["ilp"], t.series.as_str()), (Some(2.0), 2.0, "copy + multiply"));
    assert_eq!((t.protocol, t.baseline, t.sequential), (Protocol::Fixed, Baseline::SameShare, false));
    assert_eq!(t.references[0].value, 1.2);
    let [copy, mul] = t.tenants.as_slice() else { panic!("two tenants") };
    assert_eq!((kernel(copy).kernel.shape.blocks, kernel(copy).kernel.shape.threads), (66, 1024));
    assert_eq!(
        (kernel(copy).kernel.bytes, kernel(copy).work),
        (Bytes::mib(5), Work::Duration(Nanos(20_000_000)))
    );
    assert_eq!((kernel(mul).kernel.params["ilp"], kernel(mul).work), (2.0, Work::Iterations(4000)));
    assert_eq!((kernel(mul).launches, kernel(mul).request, mul.load.gap), (1, 1, Nanos(0)));
    assert_eq!(
        t.sharing,
        Sharing::Mps { percentage: vec![50.0, 50.0], priority: vec![0, 1], pinned_memory: vec![] }
    );
}

#[test]
fn a_tenant_named_twice_gets_numbers() {
    let text = GOOD
        .replace("tenants = [\"copy\", \"mul\"]", "tenants = [\"copy\", \"copy\"]")
        .replace("slowdown.copy", "slowdown.copy-2");
    let p = plan(&text);
    assert_eq!(p.trials[0].tenants.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["copy-1", "copy-2"]);
}

#[test]
fn a_trial_replaces_fields_of_a_tenant() {
    let text = GOOD.replace(
        "tenants = [\"copy\", \"mul\"]",
        "tenants = [\"copy\", { use = \"mul\", as = \"fast\", threads = 256, duration = \"1ms\", params = { body = 256 } }]",
    );
    let fast = &plan(&text).trials[0].tenants[1];
    assert_eq!(
        (fast.name.as_str(), kernel(fast).kernel.shape.threads, kernel(fast).kernel.shape.blocks),
        ("fast", 256, 132)
    );
    // The duration replaces the tenant's iterations; parameters are merged.
    assert_eq!(kernel(fast).work, Work::Duration(Nanos(1_000_000)));
    assert_eq!((kernel(fast).kernel.params["ilp"], kernel(fast).kernel.params["body"]), (1.0, 256.0));
}

#[test]
fn another_kernel_drops_the_parameters_it_does_not_have() {
    let text = GOOD.replace(
        "tenants = [\"copy\", \"mul\"]",
        "tenants = [\"copy\", { use = \"mul\", kernel = \"sleep\", params = { ns = \"2us\" } }]",
    );
    let sleep = &plan(&text).trials[0].tenants[1];
    assert_eq!((kernel(sleep).kernel.kernel, kernel(sleep).kernel.params["ns"]), ("sleep", 2000.0));
}

#[test]
fn cross_is_combined_with_the_sweep_and_varies_fastest() {
    let text = GOOD
        .replace(
            "sweep = { ilp = [1, 2] }",
            "sweep = { ilp = [1, 2] }\ncross = { part = [\"25%\", \"50%\"] }",
        )
        .replace("mps-{ilp}", "{ilp}-{part}")
        .replace("[50, 50]", "[\"part\", \"100-part*100\"]")
        .replace("x = \"ilp\"", "x = \"part\"")
        .replace("values = [1.1, 1.2]", "values = [1, nan, 3, 4]");
    // A share times a number is a number, so the second percentage is plain.
    let p = plan(&text);
    assert_eq!(p.trials.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["1-25", "1-50", "2-25", "2-50"]);
    assert_eq!(p.trials.iter().map(|t| t.x).collect::<Vec<_>>(), [25.0, 50.0, 25.0, 50.0].map(Some));
    assert_eq!(p.trials.iter().map(|t| t.references.len()).collect::<Vec<_>>(), [1, 0, 1, 1]);
    let Sharing::Mps { percentage, .. } = &p.trials[0].sharing else { panic!("mps") };
    assert_eq!(percentage, &[25.0, 75.0]);
}

#[test]
fn sequential_is_the_default_within_one_process() {
    let with = |sharing: &str, rest: &str| {
        let text = GOOD
            .replace("{ mode = \"mps\", percentage = [50, 50], priority = [0, 1] }", sharing)
            .replace("x = \"ilp\"", rest);
        plan(&text).trials[0].sequential
    };
    assert!(with("\"streams\"", ""));
    assert!(with("{ mode = \"green\", sms = [\"sms/2\", \"sms/2\"] }", ""));
    assert!(with("\"sequential\"", ""));
    assert!(!with("\"streams\"", "protocol = \"steady\""));
    assert!(!with("\"streams\"", "sequential = false"));
    assert!(!with("\"processes\"", ""));
    assert!(with("\"processes\"", "sequential = true"));
    assert!(!with("\"solo\"", ""));
}

#[test]
fn a_request_is_the_phase_where_launches_are_not_said() {
    let p = plan(&GOOD.replace("iterations = 4000", "iterations = 1\nrequest = 10\ngap = \"2ms\""));
    let t = &p.trials[0].tenants[1];
    assert_eq!((kernel(t).launches, kernel(t).request, t.load.gap), (10, 10, Nanos(2_000_000)));
}

#[test]
fn shape_defaults_are_the_kernels_on_this_card() {
    let text = GOOD.replace("blocks = \"sms/2\"\nthreads = 1024\n", "");
    let shape = |i: usize| {
        let p = Spec::parse(&text, "f").and_then(|s| s.resolve(&cards()[i], &[])).expect("good");
        (
            kernel(&p.trials[0].tenants[0]).kernel.shape.blocks,
            kernel(&p.trials[0].tenants[0]).kernel.shape.threads,
        )
    };
    let (blocks, threads) = cotenant_kernels::find("copy").expect("copy").shape;
    assert_eq!(shape(0), (blocks, threads));
    assert_eq!(shape(2), (blocks * 20 / 132, threads));
}

#[test]
fn overrides_reach_existing_absent_and_new_values() {
    let p = plan_with(&[
        ("tenants.copy.threads", "512"),
        ("measure.repeats", "[7, 9]"),
        ("measure.precision", "2%"),
        ("tenants.copy.params.bytes", "\"1GiB\""),
        ("tenants.copy.params.element", "4"),
        ("seed", "7"),
        ("trial.0.protocol", "steady"),
        ("trial.0.sharing", "streams"),
        ("trial.0.sweep.ilp.1", "8"),
    ]);
    assert_eq!((p.seed, p.stopping.min_repeats, p.stopping.max_repeats), (7, 7, 9));
    assert_eq!(p.stopping.precision, 0.02);
    let t = &p.trials[1];
    assert_eq!((t.id.as_str(), t.protocol, t.sharing.name()), ("mps-8", Protocol::Steady, "streams"));
    assert_eq!(kernel(&t.tenants[0]).kernel.shape.threads, 512);
    assert_eq!(
        (kernel(&t.tenants[0]).kernel.bytes, kernel(&t.tenants[0]).kernel.params["element"]),
        (Bytes::gib(1), 4.0)
    );
    // A whole table may be missing in the file.
    let text = GOOD.replace("[measure]\nrepeats = [3, 5]\n", "");
    let spec = Spec::parse(&text, "f").expect("good");
    let p = spec.resolve(&h100(), &[("measure.warmup".into(), "0".into())]).expect("good");
    assert_eq!((p.stopping.warmup, p.stopping.min_repeats), (0, 10));
}

#[test]
fn a_later_override_wins() {
    assert_eq!(plan_with(&[("seed", "7"), ("seed", "8")]).seed, 8);
}

#[test]
fn a_plan_does_not_depend_on_where_it_was_resolved_before() {
    let spec = Spec::parse(GOOD, "f").expect("good");
    let first = spec.resolve(&h100(), &[]);
    let _ = spec.resolve(&cards()[2], &[("seed".into(), "9".into())]);
    assert_eq!(first, spec.resolve(&h100(), &[]));
}

proptest! {
    #[test]
    fn any_override_is_taken_or_refused_without_panic(path in "[a-z0-9._-]{0,30}", value in ".{0,30}") {
        let spec = Spec::parse(GOOD, "f").expect("good");
        if let Err(e) = spec.resolve(&h100(), &[(path, value)]) {
            prop_assert!(e.line() >= 1 && e.column() >= 1);
            prop_assert!(!e.to_string().is_empty());
        }
    }

    #[test]
    fn any_value_of_a_known_path_is_taken_or_refused_without_panic(
        path in prop::sample::select(vec![
            "tenants.copy.threads", "tenants.copy.params.bytes", "trial.0.name", "trial.0.sharing",
            "trial.0.tenants", "trial.0.sweep.ilp", "trial.0.x", "measure.budget", "figure.0.metric", "seed",
        ]),
        value in prop_oneof![".{0,20}", "-?[0-9]{1,20}", "[0-9.]{1,6}(e[0-9]{1,3})?", r#"\[("[a-z0-9]{0,4}", ?){0,3}\]"#],
    ) {
        let spec = Spec::parse(GOOD, "f").expect("good");
        if let Err(e) = spec.resolve(&h100(), &[(path.to_owned(), value)]) {
            prop_assert!(e.to_string().starts_with("read "));
        }
    }

    #[test]
    fn any_text_is_refused_without_panic(text in ".{0,300}") {
        prop_assert!(Spec::parse(&text, "f").is_err());
    }

    #[test]
    fn blocks_follow_the_card(sms in 1u32..400, share in 1u32..8) {
        let device = cotenant_spec::plan::DeviceSizes { sms, ..h100() };
        let text = GOOD.replace("\"sms/2\"", &format!("\"sms/{share}\""));
        let expected = (f64::from(sms) / f64::from(share)).round();
        match Spec::parse(&text, "f").expect("good").resolve(&device, &[]) {
            Ok(p) => prop_assert_eq!(f64::from(kernel(&p.trials[0].tenants[0]).kernel.shape.blocks), expected),
            Err(e) => prop_assert!(expected < 1.0, "{}", e),
        }
    }
}
