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
    widths: [usize; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these headings and no row.
    pub fn new(columns: [(&str, Side); N]) -> Self {
        let heading = columns.map(|(heading, _)| heading.to_owned());
        let widths = heading.each_ref().map(|cell| cell.chars().count());
        Self { sides: columns.map(|(_, side)| side), widths, rows: vec![heading] }
    }

    /// Adds a row below.
    pub fn row(&mut self, cells: [String; N]) {
        self.widen(&cells);
        self.rows.push(cells);
    }

    /// Makes room for a row that isn't kept.
    pub fn widen(&mut self, cells: &[String; N]) {
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }

    /// The headings, as a line.
    pub fn heading(&self) -> String {
        self.rows.first().map(|heading| self.line(heading)).unwrap_or_default()
    }

    /// A row as a line, without spaces at its end.
    pub fn line(&self, cells: &[String; N]) -> String {
        let cells = cells.iter().zip(self.widths).zip(self.sides).map(|((cell, width), side)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

/// All rows, each with its line end, none with spaces at its end.
impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", self.line(row)))
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
