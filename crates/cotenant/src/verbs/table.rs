//! Plain tables for the terminal.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a header, no frame, cells wrapped to the terminal.
pub fn table(header: &[&str]) -> Table {
    let mut t = Table::new();
    t.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    t
}
