//! Programs of a server, and whose server it is.

use crate::entry::Escaped;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
}

impl Vendor {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Vendor::Mariadb => "MariaDB",
            Vendor::Mysql => "MySQL",
        }
    }

    /// Of a server or a program with that version.
    pub fn of_version(version: &str) -> Self {
        if version.contains("MariaDB") { Vendor::Mariadb } else { Vendor::Mysql }
    }

    /// Where its programs are to be had.
    const fn packages(self) -> &'static str {
        match self {
            Vendor::Mariadb => "the package mariadb-client (of Debian and Ubuntu, or of MariaDB's own repository)",
            Vendor::Mysql => {
                "the package mysql-client-core (of Debian's unstable suite; mysql-client of Ubuntu; mysql-community-client of \
                 MySQL's own repository)"
            }
        }
    }
}

/// A program and the abilities that its help text lists.
#[derive(Debug, Clone)]
pub struct ServerProgram {
    /// Its name.
    pub name: String,
    help: String,
}

impl ServerProgram {
    /// A program with that help text.
    pub fn new(name: &str, help: String) -> Self {
        Self { name: name.to_owned(), help }
    }

    /// Its version, as the first line of its help has it: `10.11.19-MariaDB`, `9.7.4-2`. None if that says nothing like it.
    pub fn version(&self) -> Option<&str> {
        let line = self.help.lines().next()?;
        // "mysql  Ver 15.1 Distrib 10.11.19-MariaDB, for …", "mariadb from 11.8.9-MariaDB, client …", "mysql  Ver 9.7.4 for …"
        let (_, rest) = [" Distrib ", " from ", " Ver "].iter().find_map(|word| line.split_once(word))?;
        rest.split([' ', ',']).next().filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// Why it is none for a server of that vendor and version: it is the other vendor's, which dumps what can't be restored,
    /// or older than the server, whose newer features it doesn't know.
    pub(super) fn misfit(&self, vendor: Vendor, server: &str) -> Option<String> {
        let version = self.version()?;
        let own = Vendor::of_version(version);
        let (shown, server_shown) = (Escaped(version.as_bytes()), Escaped(server.as_bytes()));
        if own != vendor {
            return Some(format!(
                "the server is {} {server_shown}, and {} is {}'s ({shown}), whose dumps of such a server can't be restored; install \
                 {}, or name by exec where it is",
                vendor.name(),
                self.name,
                own.name(),
                vendor.packages()
            ));
        }
        (series(version) < series(server)).then(|| {
            format!(
                "the server is {} {server_shown}, and {} is older ({shown}), so it doesn't know all that such a server has; install \
                 {} in the server's version, or name by exec where it is",
                vendor.name(),
                self.name,
                vendor.packages()
            )
        })
    }

    /// Whether it knows the option of a word as `--skip-name` or `--name=value`.
    pub(super) fn knows_word(&self, word: &str) -> bool {
        let name = word.trim_start_matches("--").split('=').next().unwrap_or_default();
        let plain = name.trim_start_matches("skip-").trim_start_matches("disable-");
        self.knows(plain)
    }

    /// Whether its help has that word.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.help.contains(word)
    }

    /// Whether it knows the option `--name`.
    pub fn knows(&self, name: &str) -> bool {
        let long = format!("--{name}");
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
        self.help.match_indices(&long).any(|(at, _)| ends(&self.help[at + long.len()..]))
    }
}

/// The first two numbers of a version.
pub fn series(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The words of a program's output for `--print-defaults`. They are in one line, with spaces between and no quotes: a
/// value with ` --` in it looks like one more option, which is refused at worst.
pub(super) fn printed(text: &str) -> Vec<String> {
    let words = text.split_once('\n').map_or("", |(_, words)| words);
    words
        .split_inclusive(char::is_whitespace)
        .fold(Vec::<String>::new(), |mut words, piece| {
            match words.last_mut().filter(|_| !piece.starts_with("--")) {
                Some(word) => word.push_str(piece),
                None => words.push(piece.to_owned()),
            }
            words
        })
        .into_iter()
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)\nBy people";
    const NEWER: &str = "mariadb-dump from 11.8.9-MariaDB, client 10.19 for debian-linux-gnu (x86_64)";
    const MYSQL: &str = "mysqldump  Ver 9.7.4-2 for Linux on x86_64 ((Debian))";
    const OLD: &str = "mysql  Ver 14.14 Distrib 5.7.44, for Linux (x86_64) using  EditLine wrapper";

    #[test]
    fn a_program_says_whose_it_is() {
        let version = |help: &str| ServerProgram::new("x", help.to_owned()).version().map(str::to_owned);
        assert_eq!(version(DEBIAN).unwrap(), "10.11.19-MariaDB");
        assert_eq!(version(NEWER).unwrap(), "11.8.9-MariaDB");
        assert_eq!(version(MYSQL).unwrap(), "9.7.4-2");
        assert_eq!(version(OLD).unwrap(), "5.7.44");
        assert_eq!((version(""), version("usage: Ver x")), (None, None));
    }

    #[test]
    fn a_program_of_the_other_vendor_or_an_older_one_is_none_for_a_server() {
        let misfit = |help: &str, server: &str| {
            ServerProgram::new("dump", help.to_owned()).misfit(Vendor::of_version(server), server).unwrap_or_default()
        };
        assert!(misfit(DEBIAN, "9.7.4-2").contains("MariaDB's (10.11.19-MariaDB)"));
        assert!(misfit(DEBIAN, "9.7.4-2").contains("mysql-client-core"));
        assert!(misfit(MYSQL, "11.8.9-MariaDB-4").contains("mariadb-client"));
        assert!(misfit(OLD, "8.0.40").contains("is older (5.7.44)"));
        assert!(misfit(DEBIAN, "11.8.9-MariaDB-4").contains("is older"));
        for (help, server) in
            [(DEBIAN, "10.11.20-MariaDB"), (NEWER, "10.6.1-MariaDB"), (MYSQL, "8.4.1"), (MYSQL, "9.7.5"), ("", "9.7.4")]
        {
            assert_eq!(misfit(help, server), "", "{help} {server}");
        }
    }

    #[test]
    fn versions_have_a_series() {
        assert_eq!(series("10.11.19-MariaDB-0+deb12u1"), (10, 11));
        assert_eq!(series("8.0.40"), (8, 0));
        assert_eq!(series(""), (0, 0));
    }
}
