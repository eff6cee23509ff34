//! Lists for people: aligned columns under headings, without frames, so that `grep` and `awk` work on them.

use std::fmt::Write as _;

use crate::output::harmless;

/// Between two columns.
const GAP: &str = "  ";

/// Rows under headings. An empty cell is shown as a hyphen, so that columns can be counted.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(headings: [&'static str; N]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { harmless(&cell).into_owned() };
        self.rows.push(cells.map(shown));
    }

    /// The whole table, each line ended.
    pub(crate) fn text(&self) -> String {
        let headings = self.headings.map(str::to_owned);
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let mut widths = [0; N];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines() {
            let mut padded = String::new();
            for (cell, width) in line.iter().zip(widths) {
                let _ = write!(padded, "{cell:<width$}{GAP}");
            }
            text.push_str(padded.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_none_is_empty() {
        let mut table = Table::new(["NAME", "STATUS", "TASKS"]);
        table.row(["a".into(), "ACTIVE".into(), "12".into()]);
        table.row(["größer".into(), String::new(), "1".into()]);
        assert_eq!(table.text(), "NAME    STATUS  TASKS\na       ACTIVE  12\ngrößer  -       1\n");
        assert_eq!(Table::new(["ONE"]).text(), "ONE\n");
        let mut forged = Table::new(["REASON"]);
        forged.row(["gone\nfake row".into()]);
        assert_eq!(forged.text().lines().count(), 2);
    }
}
