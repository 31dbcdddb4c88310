//! Pages of sections in the style of the report, for example of a device card.

use crate::figure::Figure;
use crate::svg::{Embed, FIGURE_STYLE};
use minijinja::{Environment, Value, context};
use serde::Serialize;

const PAGE_STYLE: &str = include_str!("../templates/page.css");

/// What stands above the sections of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageHead {
    /// Headline.
    pub title: String,
    /// A word that must not be missed, for example `SIMULATED`.
    pub badge: Option<String>,
    /// Short facts above the headline: device, date.
    pub eyebrow: Vec<String>,
    /// One paragraph below it; may be empty.
    pub lead: String,
    /// Small print at the end.
    pub foot: String,
}

/// One section of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Heading.
    pub name: String,
    /// Content from top to bottom.
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A figure.
    Figure(Figure),
    /// Names and values.
    Pairs(Vec<(String, String)>),
    /// A table.
    Table(TableBlock),
    /// Preformatted text.
    Code(String),
    /// A warning.
    Note(Note),
}

/// A table on a page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TableBlock {
    /// Column heads.
    pub head: Vec<String>,
    /// Columns set to the right.
    pub numeric: Vec<usize>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
}

/// A warning or a failure on a page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Note {
    /// Kind, for example `low-overlap`.
    pub kind: String,
    /// Where; may be empty.
    pub place: String,
    /// What was seen.
    pub message: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// A failure rather than a warning.
    pub bad: bool,
}

/// A self-contained page with these sections: no script, no external reference.
pub fn page_html(head: &PageHead, sections: &[Section]) -> String {
    let sections: Vec<Value> = sections
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let blocks: Vec<Value> = s.blocks.iter().map(block).collect();
            context! { id => format!("section-{}", i + 1), name => s.name.clone(), blocks }
        })
        .collect();
    render("page.html", head, Value::from(sections), context! {})
}

fn block(b: &Block) -> Value {
    match b {
        Block::Text(text) => context! { kind => "text", text => text.clone() },
        Block::Figure(figure) => context! { kind => "figure", svg => figure.svg(Embed::Inline) },
        Block::Pairs(pairs) => context! { kind => "pairs", pairs => value(pairs) },
        Block::Table(table) => context! { kind => "table", table => value(table) },
        Block::Code(text) => context! { kind => "code", text => text.clone() },
        Block::Note(note) => context! { kind => "note", note => value(note) },
    }
}

/// Any serialisable data as a template value.
pub(crate) fn value(data: impl Serialize) -> Value {
    Value::from(minijinja::value::Serde(data))
}

/// Renders one of the embedded templates.
pub(crate) fn render(template: &str, head: &PageHead, sections: Value, more: Value) -> String {
    let mut env = Environment::new();
    let templates = [
        ("base.html", include_str!("../templates/base.html")),
        ("macros.html", include_str!("../templates/macros.html")),
        ("page.html", include_str!("../templates/page.html")),
        ("report.html", include_str!("../templates/report.html")),
    ];
    let context = context! {
        generator => env!("CARGO_PKG_VERSION"),
        page_style => PAGE_STYLE,
        figure_style => FIGURE_STYLE,
        title => head.title.clone(),
        badge => head.badge.clone(),
        eyebrow => head.eyebrow.clone(),
        lead => head.lead.clone(),
        foot => head.foot.clone(),
        sections,
        ..more
    };
    // The templates are part of the binary and use only what the context above and its callers always give, so
    // neither step depends on the data; should one fail all the same, the page says so instead of ending a run
    // whose results are already stored.
    let page = (|| {
        for (name, source) in templates {
            env.add_template(name, source)?;
        }
        env.get_template(template)?.render(context)
    })();
    let page = page.unwrap_or_else(|e: minijinja::Error| {
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>cotenant</title><p>failed to draw \
             this page (a fault in cotenant, please report it): {}</p></html>\n",
            crate::svg::escape(&format!("{e:#}"))
        )
    });
    // HTML has no escape for control characters, and stored names may hold some.
    page.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
