//! Plain tables for the terminal.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

/// A table with a ruled header and no frame, cells wrapped to the terminal.
pub fn table(header: &[&str]) -> Table {
    let mut t = Table::new();
    t.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    t.set_content_arrangement(ContentArrangement::Dynamic);
    if header.iter().any(|h| !h.is_empty()) {
        t.set_header(header);
    }
    t
}
