//! Cells of a trial: the values of its variables, and their place in names.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::raw::{At, Trial, Variable, Variables};
use crate::resolve::Cx;
use crate::value::{Scope, Vars, is_reserved};

/// Most cells of one trial before its sweep is refused.
const MAX_CELLS: usize = 10_000;

/// All cells of a trial in order: the sweep outermost, then the crossed variables, the last one fastest. A
/// trial without variables has one cell.
pub(crate) fn cells(trial: &Trial, path: &str, cx: Cx<'_>) -> Checked<Vec<Vars>> {
    let none = Variables::default();
    let (sweep, cross) = (trial.sweep.as_ref().unwrap_or(&none), trial.cross.as_ref().unwrap_or(&none));
    check_names(sweep, cross, path)?;
    let mut cells = zipped(sweep, &format!("{path}.sweep"), cx)?;
    for variable in &cross.0 {
        let field = format!("{path}.cross.{}", variable.name.value);
        if cells.len().saturating_mul(variable.values.value.len()) > MAX_CELLS {
            let message = format!("`{field}` makes more than {MAX_CELLS} cells");
            return Err(Issue::new(ErrorKind::Impossible, variable.values.span, field, message)
                .help("make the sweep or the cross product smaller"));
        }
        let values = evaluate(variable, &field, cx)?;
        cells = cells
            .iter()
            .flat_map(|cell| {
                values.iter().map(move |v| cell.iter().cloned().chain([v.clone()]).collect::<Vars>())
            })
            .collect();
    }
    Ok(cells)
}

fn check_names(sweep: &Variables, cross: &Variables, path: &str) -> Checked<()> {
    for (table, variables) in [("sweep", sweep), ("cross", cross)] {
        for v in &variables.0 {
            let name = &v.name.value;
            let field = format!("{path}.{table}.{name}");
            let bad = |kind, message: String| Issue::new(kind, v.name.span, &field, message);
            let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !letters || !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                return Err(bad(ErrorKind::Impossible, format!("`{name}` cannot name a variable"))
                    .help("use letters, digits and `_`, and start with a letter"));
            }
            if is_reserved(name) {
                let message = format!("`{name}` already has a meaning in expressions");
                return Err(bad(ErrorKind::Duplicate, message).help("choose another name"));
            }
            if v.values.value.is_empty() {
                let message = format!("`{field}` has no values");
                return Err(Issue::new(ErrorKind::Impossible, v.values.span, field, message));
            }
            if table == "cross" && sweep.0.iter().any(|s| s.name.value == *name) {
                let message = format!("`{name}` stands in `sweep` and in `cross`");
                return Err(bad(ErrorKind::Duplicate, message).help("keep one of them"));
            }
        }
    }
    Ok(())
}

fn zipped(sweep: &Variables, path: &str, cx: Cx<'_>) -> Checked<Vec<Vars>> {
    let Some(first) = sweep.0.first() else { return Ok(vec![Vars::new()]) };
    let len = first.values.value.len();
    let mut cells: Vec<Vars> = vec![Vars::new(); len];
    for variable in &sweep.0 {
        let field = format!("{path}.{}", variable.name.value);
        let here = variable.values.value.len();
        if here != len {
            let message = format!("`{field}` has {here} values, but `{path}.{}` has {len}", first.name.value);
            return Err(Issue::new(ErrorKind::Impossible, variable.values.span, field, message)
                .help("the lists of a sweep go together; `cross` combines every value with every other"));
        }
        for (cell, value) in cells.iter_mut().zip(evaluate(variable, &field, cx)?) {
            cell.push(value);
        }
    }
    Ok(cells)
}

fn evaluate(variable: &Variable, field: &str, cx: Cx<'_>) -> Checked<Vars> {
    let none = Vars::new();
    let scope = Scope { device: cx.device, vars: &none, sources: cx.sources };
    let value = |(i, e)| Ok((variable.name.value.clone(), scope.eval(e, &format!("{field}[{i}]"))?));
    variable.values.value.iter().enumerate().map(value).collect()
}

/// `text` with each `{variable}` replaced by its value, and each `{word}` by its text.
pub(crate) fn substitute(
    text: &At<String>,
    path: &str,
    vars: &Vars,
    words: &[(String, String)],
) -> Checked<String> {
    let mut out = String::new();
    let mut rest = text.value.as_str();
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let after = &rest[open + 1..];
        let Some(close) = after.find('}') else {
            let message = format!("`{path}` has a `{{` without its `}}`");
            return Err(Issue::new(ErrorKind::Syntax, text.span, path, message));
        };
        let name = &after[..close];
        let value = vars.iter().find(|v| v.0 == name).map(|v| v.1.to_string());
        let Some(value) = value.or_else(|| words.iter().find(|w| w.0 == name).map(|w| w.1.clone())) else {
            let mut names: Vec<&str> = vars.iter().map(|v| v.0.as_str()).collect();
            names.extend(words.iter().map(|w| w.0.as_str()));
            let message = format!("`{path}` names `{{{name}}}`, which is not a variable of this trial");
            return Err(Issue::new(ErrorKind::UnknownName, text.span, path, message).help(suggest(
                name,
                "variables of this trial",
                &names,
            )));
        };
        out.push_str(&value);
        rest = &after[close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
