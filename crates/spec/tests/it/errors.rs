//! Each way in which a file can be wrong, with the message that it gives.

use crate::common::{GOOD, MODELS, cases, error_of as of, h100};
use cotenant_spec::{ErrorKind, Spec, SpecError};

/// The error of the good file with `from` replaced by `to`.
#[track_caller]
fn broken(from: &str, to: &str) -> SpecError {
    assert_eq!(GOOD.matches(from).count(), 1, "`{from}` must stand once in the good file");
    of(&GOOD.replace(from, to), &[])
}

#[track_caller]
fn set(path: &str, value: &str) -> SpecError {
    of(GOOD, &[(path, value)])
}

cases! {
    not_toml: broken("threads = 128", "threads = = 128");
    duplicate_key: broken("threads = 128", "threads = 128\nthreads = 256");
    unknown_key_at_the_top: broken("title =", "tilte =");
    unknown_key_of_a_tenant: broken("threads = 128", "thraeds = 128");
    unknown_key_without_a_near_one: broken("threads = 128", "zzz = 128");
    unknown_key_of_a_trial: broken("sweep = {", "swepe = {");
    unknown_key_of_the_mode: broken("priority = [0, 1]", "sms = [66, 66]");
    missing_summary: broken("summary = \"A copy beside a multiply kernel.\"\n", "");
    missing_kernel: broken("kernel = \"fp32-mul\"\n", "");
    missing_trial: of(&GOOD[..GOOD.find("[[trial]]").expect("stands there")], &[]);
    missing_sms_of_green: broken(
        "{ mode = \"mps\", percentage = [50, 50], priority = [0, 1] }", "\"green\"");
    format_of_the_future: broken("format = 1", "format = 2");
    wrong_type_of_repeats: broken("repeats = [3, 5]", "repeats = \"many\"");
    wrong_type_of_threads: broken("threads = 128", "threads = [128]");
    wrong_type_of_tenants: broken("tenants = [\"copy\", \"mul\"]", "tenants = \"copy\"");
    wrong_unit_of_blocks: broken("blocks = \"sms\"", "blocks = \"4GiB\"");
    wrong_unit_of_bytes: broken("0.1*l2", "20ms");
    duration_without_unit: broken("\"20ms\"", "20");
    repeats_upside_down: broken("[3, 5]", "[5, 3]");
    repeats_of_one_number: broken("[3, 5]", "[5]");
    precision_above_one: broken("repeats = [3, 5]", "precision = 1.5");
    budget_of_zero: broken("repeats = [3, 5]", "budget = \"0s\"");
    percentage_of_zero: broken("[50, 50]", "[0, 50]");
    percentage_of_101: broken("[50, 50]", "[50, 101]");
    percentage_list_too_short: broken("[50, 50]", "[50]");
    client_priority_of_two: broken("[0, 1]", "[0, 2]");
    pinned_memory_beyond_the_card: broken("priority = [0, 1]", "pinned_memory = [\"4GiB\", \"200GiB\"]");
    stream_priority_above_zero: broken(
        "{ mode = \"mps\", percentage = [50, 50], priority = [0, 1] }",
        "{ mode = \"streams\", priority = [0, 3] }");
    more_sms_than_the_card: broken(
        "{ mode = \"mps\", percentage = [50, 50], priority = [0, 1] }",
        "{ mode = \"green\", sms = [66, 200] }");
    more_sms_together_than_the_card: broken(
        "{ mode = \"mps\", percentage = [50, 50], priority = [0, 1] }",
        "{ mode = \"green\", sms = [66, 72] }");
    not_a_mig_uuid: broken(
        "{ mode = \"mps\", percentage = [50, 50], priority = [0, 1] }",
        "{ mode = \"mig\", instances = [\"MIG-1\", \"GPU-2\"] }");
    unknown_mode: broken("mode = \"mps\"", "mode = \"msp\"");
    zero_blocks: broken("blocks = \"sms\"", "blocks = 0");
    zero_blocks_by_expression: broken("blocks = \"sms\"", "blocks = \"sms/1000\"");
    two_thousand_threads: broken("threads = 128", "threads = 2000");
    threads_not_of_whole_warps: broken("threads = 128", "threads = 100");
    more_memory_than_the_card: broken("0.1*l2", "100GiB");
    unknown_kernel: broken("fp32-mul", "fp32-mull");
    unknown_param: broken("{ ilp = \"ilp\" }", "{ lip = \"ilp\" }");
    param_out_of_range: broken("ilp = [1, 2]", "ilp = [1, 9]");
    param_not_a_choice: broken("{ bytes = \"0.1*l2\" }", "{ bytes = \"0.1*l2\", element = 3 }");
    unknown_variable: broken("\"0.1*l2\"", "\"0.1*l3\"");
    unknown_function: broken("\"0.1*l2\"", "\"sqrt(l2)\"");
    bad_expression: broken("\"0.1*l2\"", "\"0.1*\"");
    bad_unit: broken("\"20ms\"", "\"20msec\"");
    division_by_zero: broken("\"sms/2\"", "\"sms/(2-2)\"");
    tenant_not_defined: broken("tenants = [\"copy\", \"mul\"]", "tenants = [\"copy\", \"mull\"]");
    no_tenants: broken("tenants = [\"copy\", \"mul\"]", "tenants = []");
    tenant_name_with_a_dot: broken("[tenants.copy]", "[tenants.\"co.py\"]");
    two_tenants_of_one_name: broken(
        "tenants = [\"copy\", \"mul\"]", "tenants = [\"copy\", { use = \"mul\", as = \"copy\" }]");
    neither_iterations_nor_duration: broken("iterations = 4000\n", "");
    iterations_and_duration: broken("iterations = 4000", "iterations = 4000\nduration = \"1ms\"");
    launches_not_of_whole_requests: broken("iterations = 4000", "iterations = 4000\nrequest = 10\nlaunches = 15");
    sweep_lists_of_unequal_length: broken("{ ilp = [1, 2] }", "{ ilp = [1, 2], n = [1, 2, 3] }");
    sweep_list_empty: broken("{ ilp = [1, 2] }", "{ ilp = [] }");
    sweep_variable_of_the_card: broken("{ ilp = [1, 2] }", "{ ilp = [1, 2], l2 = [1, 2] }");
    variable_in_sweep_and_cross: broken("x = \"ilp\"", "x = \"ilp\"\ncross = { ilp = [1] }");
    duplicate_trial_ids: broken("mps-{ilp}", "mps");
    duplicate_trial_ids_without_sweep: of(
        &format!("{}{}", GOOD, &GOOD[GOOD.find("[[trial]]").expect("stands there")..]), &[]);
    trial_name_with_a_blank: broken("mps-{ilp}", "mps {ilp}");
    trial_name_with_an_unknown_variable: broken("mps-{ilp}", "mps-{lip}");
    trial_name_without_closing_brace: broken("mps-{ilp}", "mps-{ilp");
    experiment_name_with_a_slash: broken("name = \"pair\"", "name = \"a/b\"");
    unknown_protocol: broken("x = \"ilp\"", "protocol = \"stead\"");
    unknown_baseline: broken("x = \"ilp\"", "baseline = \"solo\"");
    reference_of_other_length: broken("values = [1.1, 1.2]", "values = [1.1]");
    reference_without_value: broken(", values = [1.1, 1.2]", "");
    reference_of_an_unknown_tenant: broken("metric = \"slowdown.copy\", values", "metric = \"slowdown.cop\", values");
    figure_of_an_unknown_metric: broken("metric = \"slowdown.copy\"\n", "metric = \"slodown\"\n");
    figure_metric_without_tenant: broken("metric = \"slowdown.copy\"\n", "metric = \"bandwidth_gbs\"\n");
    unknown_figure_kind: broken("kind = \"bars\"", "kind = \"pie\"");
    set_unknown_path: set("tenants.cpy.threads", "512");
    set_unknown_key: set("tenants.copy.thread", "512");
    set_unknown_top: set("mesure.repeats", "[1, 2]");
    set_below_a_value: set("tenants.copy.threads.x", "512");
    set_beyond_a_list: set("trial.3.protocol", "steady");
    set_impossible_value: set("tenants.copy.threads", "2000");
    set_bad_expression: set("tenants.copy.params.bytes", "1GiBB");
    set_wrong_type: set("measure.repeats", "often");
    set_unknown_param: set("tenants.copy.params.byte", "1GiB");
}

#[test]
fn the_parts_of_an_error_can_be_asked_for() {
    let e = broken("threads = 128", "threads = 2000");
    assert_eq!(e.kind(), ErrorKind::Impossible);
    assert_eq!((e.file(), e.line(), e.column()), ("pair.toml", 19, 11));
    assert_eq!(e.field(), "tenants.mul.threads");
    assert!(e.message().contains("at most 1024"));
    assert!(e.help().is_some());
}

#[test]
fn a_damaged_file_never_panics() {
    let read = |text: &str| {
        if let Ok(spec) = Spec::parse(text, "cut.toml") {
            let _ = spec.resolve(&h100(), &[]);
        }
    };
    for good in [GOOD, MODELS] {
        // Every prefix, and every single line left out.
        for end in (0..good.len()).filter(|i| good.is_char_boundary(*i)) {
            read(&good[..end]);
        }
        let lines: Vec<&str> = good.lines().collect();
        for skip in 0..lines.len() {
            let text: Vec<&str> =
                lines.iter().enumerate().filter(|(i, _)| *i != skip).map(|(_, l)| *l).collect();
            read(&text.join("\n"));
        }
    }
}
