//! What models, programs, loads and lists of tenants become.

use crate::common::{MODELS, h100, kernel};
use cotenant_spec::plan::{
    ArrivalProcess, Arrivals, CommandPlan, Load, Plan, Rate, Sharing, TenantPlan, TorchPlan, TrialPlan, Work,
    Workload,
};
use cotenant_spec::{Spec, find};
use cotenant_units::Nanos;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[track_caller]
fn plan(text: &str) -> Plan {
    Spec::parse(text, "f.toml").and_then(|s| s.resolve(&h100(), &[])).unwrap_or_else(|e| panic!("{e}"))
}

/// The good file with other lines where the trial chooses its tenants.
#[track_caller]
fn cast(name: &str, lines: &str) -> Plan {
    let text = MODELS
        .replace("name = \"together\"", &format!("name = \"{name}\""))
        .replace("[\"together\"]", "[\"*\"]")
        .replace("tenants = [\"small\", \"large\", \"mine\"]", lines);
    plan(&text)
}

fn names(t: &TrialPlan) -> Vec<&str> {
    t.tenants.iter().map(|t| t.name.as_str()).collect()
}

fn ids(p: &Plan) -> Vec<&str> {
    p.trials.iter().map(|t| t.id.as_str()).collect()
}

fn torch(t: &TenantPlan) -> &TorchPlan {
    match &t.workload {
        Workload::Torch(m) => m,
        other => panic!("not a model: {other:?}"),
    }
}

fn command(t: &TenantPlan) -> &CommandPlan {
    match &t.workload {
        Workload::Command(c) => c,
        other => panic!("not a program: {other:?}"),
    }
}

#[test]
fn models_and_programs_have_the_documented_defaults() {
    let p = plan(MODELS);
    let [small, large, mine] = p.trials[0].tenants.as_slice() else { panic!("three tenants") };
    let s = &torch(small).setup;
    assert_eq!(
        (s.model.as_str(), s.weights.as_str(), s.dtype.as_str(), s.mode.as_str()),
        ("distilbert", "random", "fp16", "forward")
    );
    assert_eq!((s.batch, s.sequence, s.tokens, s.seed), (8, 128, 128, 1));
    assert_eq!((s.attention.as_str(), s.device.as_str()), ("sdpa", "cuda"));
    assert!(!s.cuda_graph && !s.compile);
    assert_eq!((torch(small).python.as_str(), torch(small).env.len()), ("python3", 0));
    assert_eq!(small.load, Load { iterations: 50, warmup: 10, gap: Nanos(0), arrivals: None });
    let l = &torch(large).setup;
    assert_eq!((l.mode.as_str(), l.sequence, l.tokens), ("decode", 512, 64));
    assert_eq!(large.load.iterations, 100);
    assert_eq!((small.role.as_str(), large.role.as_str(), mine.role.as_str()), ("encoder", "decoder", ""));
    let c = command(mine);
    assert_eq!(
        (c.argv.as_slice(), c.opaque),
        (["python3".to_owned(), "mine.py".to_owned()].as_slice(), false)
    );
    assert_eq!(c.env["OMP_NUM_THREADS"], "4");
    assert_eq!((small.kind(), mine.kind()), ("torch", "command"));
    assert!(small.is_program() && mine.is_program());
    assert_eq!((p.stopping.traced, p.stopping.watchdog_ns), (1, Nanos(120_000_000_000)));
    assert!(!p.trials[0].pin);
}

#[test]
fn a_model_may_be_an_alias_a_path_or_a_hub_id() {
    let model = |name: &str| {
        let p = plan(&MODELS.replace("\"distilbert\"", &format!("\"{name}\"")));
        let t = &p.trials[0].tenants[0];
        (torch(t).setup.model.clone(), t.role.clone())
    };
    for known in ["DistilBERT", "distilbert-base-uncased", "distilbert/distilbert-base-uncased"] {
        assert_eq!(model(known), ("distilbert".into(), "encoder".into()), "{known}");
    }
    for other in ["./mine/config.json", "models/mine", "someone/something-7b"] {
        assert_eq!(model(other), (other.into(), String::new()), "{other}");
    }
}

#[test]
fn what_is_not_built_in_has_no_known_limit() {
    let text = MODELS.replace("\"distilbert\"", "\"./mine\"").replace("iterations = 50", "sequence = 100000");
    assert_eq!(torch(&plan(&text).trials[0].tenants[0]).setup.sequence, 100_000);
    // The prompt and the decoded tokens together fill the positions of a built-in one, and not one more.
    let full = MODELS.replace("sequence = 512", "sequence = 131008");
    assert_eq!(torch(&plan(&full).trials[0].tenants[1]).setup.sequence, 131_072 - 64);
}

#[test]
fn a_trial_replaces_keys_of_a_model_and_adds_to_the_environment() {
    let p = cast(
        "one",
        r#"tenants = [
  { use = "small", as = "big-batch", torch = "bert", batch = "8*n", cuda_graph = true, role = "noisy" },
  { use = "mine", command = ["./mine"], env = { OMP_NUM_THREADS = "1", MODE = "x" }, gap = "3ms" },
]
sweep = { n = [4] }"#,
    );
    let [model, program] = p.trials[0].tenants.as_slice() else { panic!("two tenants") };
    let s = &torch(model).setup;
    assert_eq!((s.model.as_str(), s.batch, s.cuda_graph), ("bert", 32, true));
    assert_eq!((model.name.as_str(), model.role.as_str(), model.load.iterations), ("big-batch", "noisy", 50));
    let c = command(program);
    assert_eq!(c.argv, ["./mine"]);
    assert_eq!(
        c.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(),
        [("MODE", "x"), ("OMP_NUM_THREADS", "1")]
    );
    assert_eq!(program.load.gap, Nanos(3_000_000));
}

#[test]
fn the_seed_of_the_experiment_is_that_of_weights_and_input() {
    let p = plan(&MODELS.replace("[tenants.small]", "seed = 7\n[tenants.small]"));
    assert_eq!(torch(&p.trials[0].tenants[0]).setup.seed, 7);
}

#[test]
fn loads_are_read_as_written() {
    let load = |lines: &str| {
        let text = MODELS.replace("iterations = 50", &format!("iterations = 50\n{lines}"));
        plan(&text).trials[0].tenants[0].load.arrivals.clone()
    };
    let open = |process, rate| Some(Arrivals { process, rate });
    assert_eq!(
        load("arrivals = \"constant\"\nrate = 20"),
        open(ArrivalProcess::Constant, Rate::PerSecond(20.0))
    );
    assert_eq!(
        load("arrivals = \"poisson\"\nrate = \"60%\""),
        open(ArrivalProcess::Poisson, Rate::OfCapacity(0.6))
    );
    assert_eq!(
        load("arrivals = \"gamma\"\nrate = \"30%\"\ncv = 3"),
        open(ArrivalProcess::Gamma { cv: 3.0 }, Rate::OfCapacity(0.3))
    );
    let trace = || ArrivalProcess::Trace { path: "a.csv".into() };
    assert_eq!(load("arrivals = \"trace\"\ntrace = \"a.csv\""), open(trace(), Rate::AsRecorded));
    assert_eq!(
        load("arrivals = \"trace\"\ntrace = \"a.csv\"\nrate = 5"),
        open(trace(), Rate::PerSecond(5.0))
    );
    assert_eq!(load(""), None);
}

#[test]
fn an_opaque_program_needs_no_numbers() {
    let text = MODELS.replace("env = { OMP_NUM_THREADS = \"4\" }", "protocol = \"opaque\"");
    assert!(command(&plan(&text).trials[0].tenants[2]).opaque);
}

#[test]
fn a_kernel_may_have_arrivals_and_a_role_too() {
    let p = cast(
        "k",
        r#"tenants = ["small", { use = "stress", role = "noisy", arrivals = "poisson", rate = 50, launches = 20, request = 4 }]"#,
    );
    let t = &p.trials[0].tenants[1];
    assert_eq!((t.role.as_str(), t.load.iterations, kernel(t).request), ("noisy", 5, 4));
    assert_eq!(kernel(t).work, Work::Duration(Nanos(5_000_000)));
    assert!(t.by_request() && !t.is_program());
}

#[test]
fn each_makes_a_trial_of_every_tenant() {
    let p = cast("{a}-alone", "each = [\"small\", \"large\"]");
    assert_eq!(ids(&p), ["small-alone", "large-alone"]);
    assert_eq!(p.trials.iter().map(names).collect::<Vec<_>>(), [["small"], ["large"]]);
}

#[test]
fn each_comes_after_the_tenants_of_all() {
    let p = cast("{a}-{n}", "tenants = [\"stress\"]\neach = [\"small\", \"mine\"]\ncross = { n = [1, 2] }");
    assert_eq!(ids(&p), ["small-1", "small-2", "mine-1", "mine-2"], "the sweep varies fastest");
    assert_eq!(names(&p.trials[0]), ["stress", "small"]);
    assert_eq!(names(&p.trials[3]), ["stress", "mine"]);
}

#[test]
fn copies_of_each_are_numbered() {
    let p = cast("{a}", "tenants = [\"stress\"]\neach = [\"small\", \"large\"]\ncopies = 2");
    assert_eq!(names(&p.trials[0]), ["stress", "small-1", "small-2"]);
    assert_eq!(names(&p.trials[1]), ["stress", "large-1", "large-2"]);
}

#[test]
fn pairs_are_unordered_and_include_each_with_itself() {
    let p = cast("{a}-{b}", "pairs = [\"small\", \"large\", \"mine\"]");
    assert_eq!(
        ids(&p),
        ["small-small", "small-large", "small-mine", "large-large", "large-mine", "mine-mine"]
    );
    assert_eq!(names(&p.trials[0]), ["small-1", "small-2"]);
    assert_eq!(names(&p.trials[1]), ["small", "large"]);
    assert_eq!(names(&p.trials[5]), ["mine-1", "mine-2"]);
}

#[test]
fn pairs_come_after_the_tenants_of_all() {
    let p = cast("{a}-{b}", "tenants = [\"small\"]\npairs = [\"small\", \"large\"]");
    assert_eq!(names(&p.trials[0]), ["small-1", "small-2", "small-3"]);
    assert_eq!(names(&p.trials[1]), ["small-1", "small-2", "large"]);
}

#[test]
fn several_copies_are_numbered_and_one_is_not() {
    let p =
        cast("n{n}", "tenants = [{ use = \"small\", copies = \"n\" }, \"large\"]\nsweep = { n = [1, 3] }");
    assert_eq!(names(&p.trials[0]), ["small", "large"]);
    assert_eq!(names(&p.trials[1]), ["small-1", "small-2", "small-3", "large"]);
    let p = cast("one", "tenants = [{ use = \"small\", as = \"s\", copies = 2, batch = 4 }]");
    assert_eq!(names(&p.trials[0]), ["s-1", "s-2"]);
    assert!(p.trials[0].tenants.iter().all(|t| torch(t).setup.batch == 4));
}

#[test]
fn one_value_of_a_sharing_list_goes_for_all() {
    let p = plan(MODELS);
    let Sharing::Mps { percentage, priority, .. } = &p.trials[0].sharing else { panic!("mps") };
    assert_eq!((percentage.as_slice(), priority.len()), ([50.0; 3].as_slice(), 0));
    let text = MODELS.replace("percentage = 50", "percentage = \"100/n\", priority = 1").replace(
        "tenants = [\"small\", \"large\", \"mine\"]",
        "tenants = [{ use = \"small\", copies = \"n\" }]\nsweep = { n = [4] }",
    );
    let p = plan(&text);
    let Sharing::Mps { percentage, priority, .. } = &p.trials[0].sharing else { panic!("mps") };
    assert_eq!((percentage.as_slice(), priority.as_slice()), ([25.0; 4].as_slice(), [1; 4].as_slice()));
    let text = MODELS
        .replace("{ mode = \"mps\", percentage = 50 }", "{ mode = \"green\", sms = \"sms/4\" }")
        .replace("[\"small\", \"large\", \"mine\"]", "[\"stress\", \"stress\"]");
    let Sharing::Green { sms, .. } = &plan(&text).trials[0].sharing else { panic!("green") };
    assert_eq!(sms, &[33, 33]);
}

#[test]
fn figures_take_patterns_of_trials_and_need_no_metric() {
    let p = plan(MODELS);
    let f = &p.figures[0];
    assert_eq!(
        (f.kind.as_str(), f.metric.as_str(), f.trials.as_slice()),
        ("kde", "", ["together".to_owned()].as_slice())
    );
}

#[test]
fn the_model_experiments_ask_what_they_say() {
    let of = |name: &str| plan(find(name).expect("built in").text);
    let scaling = of("models-scaling");
    let sizes: BTreeSet<usize> = scaling.trials.iter().map(|t| t.tenants.len()).collect();
    assert_eq!(sizes, BTreeSet::from([1, 2, 3, 4, 6, 8, 10]));
    for t in scaling.trials.iter().filter(|t| t.id.starts_with("equal-")) {
        let Sharing::Mps { percentage, .. } = &t.sharing else { panic!("mps") };
        assert!((percentage.iter().sum::<f64>() - 100.0).abs() < 1e-9, "{}", t.id);
    }
    for pairs in ["models-pairs", "models-pairs-processes"] {
        assert_eq!(of(pairs).trials.len(), 15, "{pairs}: five models, unordered, with themselves");
    }
    for t in of("models-roles").trials {
        let roles: BTreeSet<&str> = t.tenants.iter().map(|t| t.role.as_str()).collect();
        let expected = match t.series.as_str() {
            "encoders" => BTreeSet::from(["encoder"]),
            "decoders" => BTreeSet::from(["decoder"]),
            _ => BTreeSet::from(["encoder", "decoder"]),
        };
        assert_eq!(roles, expected, "{}", t.id);
    }
    let mixed = of("models-stressors");
    assert!(mixed.trials.iter().all(|t| t.tenants.iter().filter(|t| t.is_program()).count() == 1));
}

#[test]
fn the_load_experiment_is_relative_to_what_each_does_alone() {
    let p = plan(find("models-load").expect("built in").text);
    for t in p.trials.iter().flat_map(|t| &t.tenants) {
        let rate = t.load.arrivals.as_ref().expect("an open loop").rate;
        assert!(
            matches!(rate, Rate::OfCapacity(share) if (0.3..=0.9).contains(&share)),
            "{}: {rate:?}",
            t.name
        );
    }
}

proptest! {
    #[test]
    fn any_value_of_a_key_is_taken_or_refused_without_panic(
        path in prop::sample::select(vec![
            "tenants.small.torch", "tenants.small.batch", "tenants.small.sequence", "tenants.small.mode",
            "tenants.small.cuda_graph", "tenants.small.iterations", "tenants.small.arrivals", "tenants.small.rate",
            "tenants.small.gap", "tenants.small.env", "tenants.mine.command", "tenants.mine.protocol",
            "tenants.mine.env.A", "tenants.mine.role", "trial.0.tenants", "trial.0.each", "trial.0.pairs",
            "trial.0.copies", "trial.0.sharing", "trial.0.sharing.percentage", "trial.0.pin", "figure.0.kind",
            "figure.0.trials", "measure.traced", "measure.watchdog",
        ]),
        value in prop_oneof![
            ".{0,20}", "-?[0-9]{1,20}", "[0-9.]{1,6}(%|ms|GiB)?", r#"\[("[a-z]{0,6}", ?){0,4}\]"#,
            r#"\[\{ use = "(small|mine|stress)", copies = [0-9]{1,3} \}\]"#,
            r#"\{ [a-zA-Z=_"]{1,12} = "[a-z]{0,4}" \}"#,
        ],
    ) {
        let spec = Spec::parse(MODELS, "f").expect("good");
        if let Err(e) = spec.resolve(&h100(), &[(path.to_owned(), value)]) {
            prop_assert!(e.to_string().starts_with("read "), "{}", e);
            prop_assert!(e.line() >= 1 && e.column() >= 1);
        }
    }

    #[test]
    fn a_damaged_byte_is_taken_or_refused_without_panic(at in 0..MODELS.len(), with in any::<char>()) {
        let mut text: Vec<char> = MODELS.chars().collect();
        let at = at.min(text.len() - 1);
        text[at] = with;
        let text: String = text.into_iter().collect();
        if let Ok(spec) = Spec::parse(&text, "f") {
            let _ = spec.resolve(&h100(), &[]);
        }
    }

    /// However the lists are put together, the names of a trial's tenants differ and the cells are as many as said.
    #[test]
    fn names_within_a_trial_differ(
        own in prop::collection::vec(prop::sample::select(vec!["small", "large", "mine", "stress"]), 0..3),
        chosen in prop::collection::vec(prop::sample::select(vec!["small", "large", "mine"]), 1..4),
        pairs in any::<bool>(), copies in 1u32..4,
    ) {
        let mut chosen = chosen;
        chosen.sort_unstable();
        chosen.dedup();
        let list = |l: &[&str]| format!("{l:?}");
        let lines = if pairs {
            format!("tenants = {}\npairs = {}", list(&own), list(&chosen))
        } else {
            format!("tenants = {}\neach = {}\ncopies = {copies}", list(&own), list(&chosen))
        };
        let p = cast(if pairs { "{a}-{b}" } else { "{a}" }, &lines);
        let n = chosen.len();
        prop_assert_eq!(p.trials.len(), if pairs { n * (n + 1) / 2 } else { n });
        for t in &p.trials {
            let all = names(t);
            prop_assert_eq!(all.len(), own.len() + if pairs { 2 } else { copies as usize });
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{:?}", all);
        }
    }
}
