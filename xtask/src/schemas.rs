//! `cargo xtask schemas [--check]`: the JSON Schemas of every format that cotenant reads or writes, from the types.

use schemars::{Schema, schema_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Folder of the generated files, from the repository root.
const FOLDER: &str = "docs/schemas";
/// How the names of the generated files end; files in [`FOLDER`] that end so and are not generated are stale.
const ENDING: &str = ".schema.json";

/// Arguments of `cargo xtask schemas`.
#[derive(clap::Args)]
pub struct Args {
    /// Compare with the committed files instead of writing them
    #[arg(long)]
    check: bool,
}

/// What could not be done; reads after "failed to".
type Failure = String;

/// Runs the task.
///
/// # Errors
/// A file cannot be read or written, or (with `--check`) differs, is missing or is stale.
pub fn run(args: &Args) -> Result<(), Failure> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("find the repository root above xtask/")?;
    let folder = root.join(FOLDER);
    let files = generate()?;
    if !args.check {
        return write(&folder, &files);
    }
    let differing = differences(&folder, &files)?;
    if differing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "match {FOLDER} with the types:\n  {}\nrun `cargo xtask schemas` and look at the difference: a reader of the \
         old version may need the format's number to grow (docs/formats.md)",
        differing.join("\n  ")
    ))
}

/// File names and texts.
fn generate() -> Result<BTreeMap<String, String>, Failure> {
    let mut schemas: Vec<(&str, Schema)> = cotenant_store::schema::all();
    schemas.push(("experiment.schema.json", cotenant_spec::schema()));
    schemas.push(("device-card.schema.json", schema_for!(cotenant_model::DeviceCard)));
    schemas.push(("recorded-timeline.schema.json", schema_for!(cotenant_sim::Recorded)));
    schemas.push(("comparison.schema.json", schema_for!(cotenant_report::Comparison)));
    schemas.push(("load-comparison.schema.json", schema_for!(cotenant_report::serving::LoadComparison)));
    let mut files = BTreeMap::new();
    for (name, schema) in schemas {
        let text = serde_json::to_string_pretty(&schema).map_err(|e| format!("print {name}: {e}"))? + "\n";
        if files.insert(name.to_owned(), text).is_some() {
            return Err(format!("name the schemas: two are called {name}"));
        }
    }
    Ok(files)
}

fn write(folder: &Path, files: &BTreeMap<String, String>) -> Result<(), Failure> {
    let fail = |e: std::io::Error| format!("write {FOLDER}: {e}");
    fs::create_dir_all(folder).map_err(fail)?;
    for name in present(folder)? {
        if !files.contains_key(&name) {
            fs::remove_file(folder.join(&name)).map_err(fail)?;
        }
    }
    for (name, text) in files {
        fs::write(folder.join(name), text).map_err(fail)?;
    }
    Ok(())
}

/// What is not as generated: file and first line that differs.
fn differences(folder: &Path, files: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
    let present = present(folder)?;
    let mut out = Vec::new();
    for (name, want) in files {
        if !present.contains(name) {
            out.push(format!("{name}: missing"));
            continue;
        }
        let have = fs::read_to_string(folder.join(name)).map_err(|e| format!("read {FOLDER}/{name}: {e}"))?;
        if have != *want {
            let line = have.lines().zip(want.lines()).take_while(|(a, b)| a == b).count() + 1;
            out.push(format!("{name}: differs from line {line} on"));
        }
    }
    out.extend(present.into_iter().filter(|n| !files.contains_key(n)).map(|n| format!("{n}: stale")));
    Ok(out)
}

/// Schemas that the folder holds; none where there is no folder.
fn present(folder: &Path) -> Result<Vec<String>, Failure> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let fail = |e: std::io::Error| format!("read {FOLDER}: {e}");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(ENDING) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_passes_the_check_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let files = generate().unwrap();
        assert_eq!(differences(dir.path(), &files).unwrap().len(), files.len());
        write(dir.path(), &files).unwrap();
        assert_eq!(differences(dir.path(), &files).unwrap(), Vec::<String>::new());

        let changed = files["repeat.schema.json"].replacen("\"marked\"", "\"market\"", 1);
        assert_ne!(changed, files["repeat.schema.json"]);
        fs::write(dir.path().join("repeat.schema.json"), changed).unwrap();
        fs::write(dir.path().join("old.schema.json"), "{}\n").unwrap();
        let told = differences(dir.path(), &files).unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("repeat.schema.json: differs from line "), "{told:?}");
        assert_eq!(told[1], "old.schema.json: stale");

        write(dir.path(), &files).unwrap();
        assert!(!dir.path().join("old.schema.json").exists());
    }

    #[test]
    fn every_format_is_there() {
        let files = generate().unwrap();
        for name in
            ["manifest", "repeat", "outcome", "warning", "summary", "experiment", "device-card", "comparison"]
        {
            assert!(files.contains_key(&format!("{name}{ENDING}")), "{name}");
        }
    }
}
