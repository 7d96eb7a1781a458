//! Names and tables for people.

use std::fmt;

/// `message` on one line, without anything that a terminal could take for a command. Backslashes stay as they are:
/// names in a message are escaped already.
pub fn one_line(message: &str) -> String {
    let parts = message.split('\\').map(|part| varu::entry::Escaped(part.as_bytes()).to_string());
    parts.collect::<Vec<_>>().join("\\")
}

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows with aligned columns, under a heading. Names, whose width on the screen can't be known, belong into the last
/// column.
#[derive(Debug)]
pub struct Table<const N: usize> {
    sides: [Side; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these headings and no row.
    pub fn new(columns: [(&str, Side); N]) -> Self {
        Self { sides: columns.map(|(_, side)| side), rows: vec![columns.map(|(heading, _)| heading.to_owned())] }
    }

    /// Adds a row below.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

/// All rows, each with its line end, none with spaces at its end.
impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let cells = row.iter().zip(widths).zip(self.sides).map(|((cell, width), side)| match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_drive_a_terminal() {
        assert_eq!(one_line("a\u{1b}[2J\r\nb \\xff"), "a\\u{1b}[2J\\r\\nb \\xff");
    }

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new([("SET", Side::Left), ("SIZE", Side::Right), ("NAME", Side::Left)]);
        table.row(["agama".into(), "1.0 kB".into(), "é".into()]);
        table.row(["a".into(), "461.3 MB".into(), String::new()]);
        let lines = ["SET        SIZE  NAME", "agama    1.0 kB  é", "a      461.3 MB", ""];
        assert_eq!(table.to_string(), lines.join("\n"));
    }
}
