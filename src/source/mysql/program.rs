//! Programs of a server, and whose server it is.

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

    /// Whether it knows the option of a word as `--skip-name` or `--name=value`.
    pub(super) fn knows_word(&self, word: &str) -> bool {
        let name = word.trim_start_matches("--").split('=').next().unwrap_or_default();
        let plain = name.trim_start_matches("skip-").trim_start_matches("disable-");
        self.knows(plain)
    }

    /// Whether it knows the option `--name`.
    pub fn knows(&self, name: &str) -> bool {
        let long = format!("--{name}");
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
        self.help.match_indices(&long).any(|(at, _)| ends(&self.help[at + long.len()..]))
    }
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
