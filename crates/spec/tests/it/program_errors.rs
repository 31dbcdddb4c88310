//! Each way in which models, programs, loads and lists of tenants can be wrong, with the message that it gives.

use crate::common::{MODELS, cases, error_of as of};
use cotenant_spec::SpecError;

/// The error of the good file with `from` replaced by `to`.
#[track_caller]
fn broken(from: &str, to: &str) -> SpecError {
    assert_eq!(MODELS.matches(from).count(), 1, "`{from}` must stand once in the good file");
    of(&MODELS.replace(from, to), &[])
}

/// The error where the small model has these lines too.
#[track_caller]
fn small(lines: &str) -> SpecError {
    broken("iterations = 50", &format!("iterations = 50\n{lines}"))
}

/// The error where the program has these lines too.
#[track_caller]
fn mine(lines: &str) -> SpecError {
    broken("env = { OMP_NUM_THREADS = \"4\" }", lines)
}

/// The error where the trial chooses its tenants otherwise.
#[track_caller]
fn cast(lines: &str) -> SpecError {
    broken("tenants = [\"small\", \"large\", \"mine\"]", lines)
}

/// The error where it also has another name.
#[track_caller]
fn named(name: &str, lines: &str) -> SpecError {
    let text = MODELS.replace("name = \"together\"", &format!("name = \"{name}\""));
    of(&text.replace("tenants = [\"small\", \"large\", \"mine\"]", lines), &[])
}

cases! {
    // What a tenant runs.
    two_kinds: small("command = [\"true\"]");
    kernel_and_model: broken("kernel = \"copy\"", "kernel = \"copy\"\ntorch = \"bert\"");
    another_kind_in_the_trial: cast("tenants = [\"small\", { use = \"large\", command = [\"true\"] }]");
    // Keys of another kind.
    key_of_a_kernel_in_a_model: small("blocks = 4");
    key_of_a_kernel_in_a_program: mine("params = { n = 4 }");
    key_of_a_model_in_a_kernel: broken("duration = \"5ms\"", "duration = \"5ms\"\nbatch = 4");
    key_of_a_model_in_a_program: mine("dtype = \"bf16\"");
    key_of_a_program_in_a_model: small("protocol = \"lines\"");
    key_of_programs_in_a_kernel: broken("duration = \"5ms\"", "duration = \"5ms\"\nwarmup = 3");
    key_of_another_kind_in_the_trial: cast("tenants = [\"small\", { use = \"mine\", mode = \"prefill\" }]");
    // Models.
    unknown_model: broken("\"distilbert\"", "\"distilbrt\"");
    unknown_dtype: small("dtype = \"fp8\"");
    unknown_mode_of_a_model: broken("mode = \"decode\"", "mode = \"generate\"");
    unknown_attention: small("attention = \"flash\"");
    unknown_device_of_a_model: small("device = \"tpu\"");
    encoder_that_decodes: small("mode = \"decode\"");
    encoder_that_prefills_in_the_trial: cast("tenants = [{ use = \"small\", mode = \"prefill\" }]");
    sequence_too_long: small("sequence = 513");
    decoded_tokens_too_many: broken("tokens = 64", "tokens = 131000");
    batch_of_zero: small("batch = 0");
    batch_with_a_unit: small("batch = \"8ms\"");
    flag_that_is_a_word: small("cuda_graph = \"yes\"");
    iterations_beyond_a_record: broken("iterations = 50", "iterations = 1000000");
    // Programs.
    command_without_words: broken("[\"python3\", \"mine.py\"]", "[]");
    command_that_is_a_line: broken("[\"python3\", \"mine.py\"]", "\"python3 mine.py\"");
    unknown_protocol_of_a_program: mine("protocol = \"line\"");
    opaque_with_iterations: mine("protocol = \"opaque\"\niterations = 5");
    opaque_with_warmup_in_the_trial: cast("tenants = [{ use = \"mine\", protocol = \"opaque\", warmup = 3 }]");
    opaque_with_arrivals: mine("protocol = \"opaque\"\narrivals = \"poisson\"\nrate = 3");
    env_of_the_sharing_mode: mine("env = { CUDA_MPS_CLIENT_PRIORITY = \"1\" }");
    env_of_the_visible_devices: mine("env = { CUDA_VISIBLE_DEVICES = \"1\" }");
    env_of_the_protocol: mine("env = { COTENANT_IN = \"3\" }");
    env_of_the_library: small("env = { CUDA_INJECTION64_PATH = \"mine.so\" }");
    env_without_a_name: mine("env = { \"\" = \"1\" }");
    env_with_an_equals_sign: mine("env = { \"A=B\" = \"1\" }");
    env_that_is_a_number: mine("env = { OMP_NUM_THREADS = 4 }");
    // Loads.
    unknown_arrivals: small("arrivals = \"uniform\"\nrate = 10");
    arrivals_without_rate: small("arrivals = \"poisson\"");
    rate_without_arrivals: small("rate = 10");
    rate_of_zero: small("arrivals = \"poisson\"\nrate = 0");
    rate_with_a_unit: small("arrivals = \"poisson\"\nrate = \"10ms\"");
    cv_without_arrivals: small("cv = 2");
    cv_without_gamma: small("arrivals = \"poisson\"\nrate = 10\ncv = 2");
    gamma_without_cv: small("arrivals = \"gamma\"\nrate = 10");
    cv_of_zero: small("arrivals = \"gamma\"\nrate = 10\ncv = 0");
    trace_without_a_file: small("arrivals = \"trace\"");
    trace_file_without_trace: small("arrivals = \"constant\"\nrate = 10\ntrace = \"a.csv\"");
    gap_with_arrivals: small("gap = \"2ms\"\narrivals = \"poisson\"\nrate = 10");
    gap_without_a_unit: small("gap = 2");
    // Sharing modes of one process.
    streams_with_a_program: broken("{ mode = \"mps\", percentage = 50 }", "\"streams\"");
    green_with_a_program: broken(
        "{ mode = \"mps\", percentage = 50 }", "{ mode = \"green\", sms = \"sms/4\" }");
    // Lists of tenants.
    neither_tenants_nor_each: cast("");
    each_and_pairs: cast("each = [\"small\"]\npairs = [\"small\"]");
    each_of_an_unknown_tenant: cast("each = [\"smal\"]");
    pairs_of_an_unknown_tenant: cast("pairs = [\"small\", \"larg\"]");
    each_without_its_name: cast("each = [\"small\", \"large\"]");
    pairs_with_half_of_the_names: named("{a}", "pairs = [\"small\", \"large\"]");
    b_of_each: named("{b}", "each = [\"small\", \"large\"]");
    each_without_tenants: cast("each = []");
    copies_without_each: cast("tenants = [\"small\"]\ncopies = 2");
    copies_beside_pairs: cast("pairs = [\"small\"]\ncopies = 2");
    copies_of_zero: cast("tenants = [{ use = \"small\", copies = 0 }]");
    copies_beyond_the_clients: cast("tenants = [{ use = \"small\", copies = 61 }]");
    copies_that_take_a_name: cast("tenants = [{ use = \"large\", as = \"small-1\" }, { use = \"small\", copies = 2 }]");
    percentages_for_other_copies: broken("percentage = 50", "percentage = [50, 25]");
    // Figures.
    figure_of_unknown_trials: broken("trials = [\"together\"]", "trials = [\"togther\"]");
    figure_of_no_trial: broken("trials = [\"together\"]", "trials = [\"mps-*\"]");
    bars_without_metric: broken("kind = \"kde\"", "kind = \"bars\"\nx_label = \"x\"\ny_label = \"y\"");
    // Measure.
    traced_too_often: broken("[tenants.small]", "[measure]\ntraced = 101\n\n[tenants.small]");
    watchdog_of_zero: broken("[tenants.small]", "[measure]\nwatchdog = \"0s\"\n\n[tenants.small]");
    set_key_of_another_kind: of(MODELS, &[("tenants.mine.batch", "4")]);
    set_unknown_key_of_a_model: of(MODELS, &[("tenants.small.bacth", "4")]);
}
