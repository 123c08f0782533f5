//! Plain tables: a heading and rows, without lines, so that they can be cut and searched.

use comfy_table::{ContentArrangement, presets};

/// A table that grows row by row.
pub struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(headings.map(str::to_uppercase).to_vec());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(table)
    }

    /// One more row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(Vec::from(cells));
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, without trailing blanks.
    pub fn lines(&self) -> Vec<String> {
        self.0
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_headings() {
        let mut table = Table::new(["name", "state"]);
        assert!(table.is_empty());
        table.row(["shop".to_owned(), "running".to_owned()]);
        assert_eq!(table.lines(), ["NAME  STATE", "shop  running"]);
    }
}
