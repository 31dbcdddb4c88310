//! The committed cases of the `ncu` check state the demand that the code states.

#[path = "../examples/ncu-cases.rs"]
#[expect(dead_code, reason = "`main` is the example's")]
mod cases;

#[test]
fn the_committed_cases_are_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/ncu-cases.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let fresh = cases::cases_json().unwrap();
    assert!(
        committed == fresh,
        "run `cargo run -p cotenant-kernels --example ncu-cases > scripts/ncu-cases.json`"
    );
}
