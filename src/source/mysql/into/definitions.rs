//! What a dump has beside its tables: small, and read before anything is written.

use std::collections::BTreeSet;

use crate::entry::StreamName;
use crate::source::Error;
use crate::source::mysql::lexer::{Lexer, Seen};
use crate::source::mysql::names::{Part, quoted};
use crate::source::mysql::server::Server;
use crate::source::mysql::users::is_of_the_system;
use crate::warning::{Warning, WarningKind};

/// Streams by what they are, in the order of the dump.
#[derive(Debug, Default)]
pub(super) struct Definitions(Vec<(Part, Vec<u8>)>);

impl Definitions {
    pub fn new(streams: Vec<(StreamName, Vec<u8>)>) -> Self {
        Self(streams.into_iter().filter_map(|(name, bytes)| Some((Part::of(&name)?, bytes))).collect())
    }

    fn find(&self, wanted: &Part) -> &[u8] {
        self.0.iter().find(|(part, _)| part == wanted).map(|(_, bytes)| bytes.as_slice()).unwrap_or_default()
    }

    /// Session settings before all else.
    pub fn preamble(&self) -> &[u8] {
        self.find(&Part::Preamble)
    }

    /// Session settings after all else.
    pub fn postamble(&self) -> &[u8] {
        self.find(&Part::Postamble)
    }

    /// The databases, in the order of the dump.
    pub fn databases(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in self.0.iter().filter_map(|(part, _)| part.database()) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The parts of a database that `wanted` says yes to.
    pub fn of(&self, database: &str, wanted: impl Fn(&Part) -> bool) -> Vec<(Part, Vec<u8>)> {
        self.0.iter().filter(|(part, _)| part.database() == Some(database) && wanted(part)).cloned().collect()
    }

    /// The statements that make a database as `from` was, under the name `to`; with the server's own character set, where the
    /// dump doesn't say how it was made.
    pub fn create(&self, from: &str, to: &str) -> String {
        let text = String::from_utf8_lossy(self.find(&Part::Database(from.to_owned()))).into_owned();
        let begin = text.find("CREATE DATABASE").unwrap_or(text.len());
        let statement = text[begin..].split(";\n").next().unwrap_or_default();
        // What follows the name: its character set, in a comment that the server runs.
        let rest = statement.split_once(&quoted(from)).map_or("", |(_, rest)| rest);
        let to = quoted(to);
        // One that is there already, and is empty, may have another character set.
        let alter = if rest.trim().is_empty() { String::new() } else { format!("ALTER DATABASE {to}{rest};\n") };
        format!("CREATE DATABASE IF NOT EXISTS {to}{rest};\n{alter}")
    }

    /// The accounts that views, routines, triggers and events run as.
    pub fn definers(&self, databases: &[String]) -> BTreeSet<Account> {
        let mut found = BTreeSet::new();
        for (_, bytes) in
            self.0.iter().filter(|(part, _)| part.database().is_some_and(|name| databases.iter().any(|d| d == name)))
        {
            let text = String::from_utf8_lossy(bytes);
            for (at, mark) in text.match_indices("DEFINER=`") {
                let rest = &text[at + mark.len()..];
                if let Some((user, rest)) = rest.split_once("`@`")
                    && let Some((host, _)) = rest.split_once('`')
                {
                    found.insert(Account { user: user.replace("``", "`"), host: host.to_owned() });
                }
            }
        }
        found
    }

    /// The accounts that the dump makes.
    pub fn accounts(&self) -> BTreeSet<Account> {
        String::from_utf8_lossy(self.find(&Part::Users)).lines().filter_map(Account::of).collect()
    }

    /// The first view, routine, trigger or event of `database` that names it.
    pub fn naming(&self, database: &str) -> Option<String> {
        let named = self.of(database, |part| !matches!(part, Part::Database(_) | Part::Use(_)));
        named
            .iter()
            .find(|(_, bytes)| names_schema(&String::from_utf8_lossy(bytes), database))
            .map(|(part, _)| part.name())
    }

    /// Makes users and roles that aren't there, with their grants. Those that are there stay as they are.
    pub fn make_users(&self, server: &Server, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let text = String::from_utf8_lossy(self.find(&Part::Users)).into_owned();
        if text.is_empty() {
            return Ok(());
        }
        let there: BTreeSet<Account> = server
            .ask("SELECT User, Host FROM mysql.user")?
            .into_iter()
            .filter_map(|row| Some(Account { user: row.first()?.clone(), host: row.get(1)?.clone() }))
            .collect();
        for line in text.lines() {
            let Some(account) = Account::of(line) else { continue };
            if there.contains(&account) || is_of_the_system(&account.user) {
                continue;
            }
            if let Err(error) = server.run(line.trim_end_matches(';')) {
                let text = format!("the account {account} could not be made as it was: {error}");
                warnings.push(WarningKind::Accounts.warning(text));
            }
        }
        Ok(())
    }
}

/// An account, as a statement about it names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account {
    pub user: String,
    pub host: String,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", quoted(&self.user), quoted(&self.host))
    }
}

impl Account {
    /// Whom a line of the stream of users is about.
    fn of(line: &str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("CREATE USER IF NOT EXISTS ") {
            return Self::parse(rest);
        }
        if let Some(rest) = line.strip_prefix("CREATE ROLE IF NOT EXISTS ") {
            return Self::parse(rest);
        }
        let at = match line {
            line if line.starts_with("GRANT ") => line.rfind(" TO ")? + 4,
            line if line.starts_with("SET DEFAULT ROLE ") => line.rfind(" FOR ")? + 5,
            _ => return None,
        };
        Self::parse(&line[at..])
    }

    fn parse(text: &str) -> Option<Self> {
        let (user, rest) = name(text)?;
        let host = rest.strip_prefix('@').and_then(name).map(|(host, _)| host).unwrap_or_default();
        Some(Self { user, host })
    }
}

/// A name in backticks or quotes at the start of `text`, and the rest.
fn name(text: &str) -> Option<(String, &str)> {
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '\''))?;
    let mut out = String::new();
    let mut rest = text[1..].char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        if c != mark {
            out.push(c);
        } else if rest.peek().is_some_and(|(_, next)| *next == mark) {
            out.push(c);
            rest.next();
        } else {
            return Some((out, &text[at + 2..]));
        }
    }
    None
}

/// Whether a text names a schema: `` `agama`. `` or `agama.` as a word of its own.
fn names_schema(text: &str, schema: &str) -> bool {
    let in_ticks = format!("{}.", quoted(schema));
    let plain = format!("{}.", schema.to_ascii_lowercase());
    let lower = text.to_ascii_lowercase();
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '`' | '@');
    let alone = |at: usize| !lower[..at].ends_with(word);
    text.contains(&in_ticks) || lower.match_indices(&plain).any(|(at, _)| alone(at))
}

/// The events of a dump, each made disabled.
pub(super) fn disabled(events: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.len());
    let mut copied = 0;
    for (word, _) in enables(events) {
        out.extend_from_slice(&events[copied..word]);
        out.extend_from_slice(b"DISABLE");
        copied = word + b"ENABLE".len();
    }
    out.extend_from_slice(&events[copied..]);
    out
}

/// The names of the events that a dump makes enabled.
pub(super) fn enabled_names(events: &[u8]) -> Vec<String> {
    enables(events).into_iter().map(|(_, name)| name).collect()
}

/// Where each event that is made enabled says so, and its name.
fn enables(events: &[u8]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut lexer, mut at) = (Lexer::new(), 0);
    loop {
        match lexer.look(events, &mut at, true) {
            Seen::More => return found,
            Seen::End => {}
            Seen::Comment => lexer.enter(Seen::Comment),
            Seen::Begin => {
                let rest = &events[at..];
                if rest.len() > 10 && rest[..9].eq_ignore_ascii_case(b"DELIMITER") {
                    let line = rest[9..].split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec();
                    lexer.set_delimiter(&line);
                    continue;
                }
                found.extend(enable_of(rest).map(|(word, name)| (at + word, name)));
                lexer.enter(Seen::Begin);
            }
        }
    }
}

/// Where `ENABLE` stands in a statement that makes an event, after its schedule and before its body; and the event's name.
fn enable_of(statement: &[u8]) -> Option<(usize, String)> {
    let head = &statement[..statement.len().min(4096)];
    if !head.starts_with(b"/*!50106 CREATE*/") && !head.starts_with(b"CREATE ") {
        return None;
    }
    let event = memchr::memmem::find(head, b" EVENT `")?;
    let name_end = event + 8 + end_of_name(&head[event + 8..])?;
    let preserve = name_end + memchr::memmem::find(&head[name_end..], b" PRESERVE ")?;
    let word = preserve + b" PRESERVE ".len();
    let name = String::from_utf8_lossy(&head[event + 8..name_end - 1]).replace("``", "`");
    head[word..].starts_with(b"ENABLE").then_some((word, name))
}

/// The end of a name in backticks whose first one was passed.
fn end_of_name(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr(b'`', &bytes[at..])? + 1;
        if bytes.get(at) != Some(&b'`') {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_made_disabled_and_their_bodies_stay() {
        let events = "DELIMITER ;;\n/*!50106 CREATE*/ /*!50117 DEFINER=`r`@`l`*/ /*!50106 EVENT `e PRESERVE ENABLE``` ON SCHEDULE \
                      EVERY 1 DAY STARTS '2026-11-21' ON COMPLETION NOT PRESERVE ENABLE DO BEGIN SELECT ' PRESERVE ENABLE';\n\
                      CREATE EVENT `x` ON SCHEDULE EVERY 1 DAY ON COMPLETION PRESERVE ENABLE DO SELECT 1; END */ ;;\nDELIMITER ;\n";
        let made = String::from_utf8(disabled(events.as_bytes())).unwrap();
        assert_eq!(made, events.replace("NOT PRESERVE ENABLE DO", "NOT PRESERVE DISABLE DO"));
        assert_eq!(enabled_names(events.as_bytes()), ["e PRESERVE ENABLE`"]);
        let off = events.replace("NOT PRESERVE ENABLE", "NOT PRESERVE DISABLE");
        assert_eq!(disabled(off.as_bytes()), off.as_bytes());
    }

    #[test]
    fn a_text_that_names_a_schema_is_found() {
        for text in ["select 1 from `agama`.`t`", "CALL agama.pay(1)", "INSERT INTO Agama.t"] {
            assert!(names_schema(text, "agama"), "{text}");
        }
        for text in ["select agama from t", "my_agama.t", "`xagama`.`t`", "agama"] {
            assert!(!names_schema(text, "agama"), "{text}");
        }
    }

    #[test]
    fn lines_of_users_name_their_account() {
        let account = |line: &str| Account::of(line).map(|account| account.to_string());
        assert_eq!(account("CREATE USER IF NOT EXISTS `app`@`%` IDENTIFIED BY PASSWORD '*x';").unwrap(), "`app`@`%`");
        assert_eq!(account("GRANT SELECT ON `a TO b`.* TO `o'x`@`h`;").unwrap(), "`o'x`@`h`");
        assert_eq!(account("CREATE ROLE IF NOT EXISTS `r`;").unwrap(), "`r`@``");
        assert_eq!(account("SET DEFAULT ROLE `r` FOR `app`@`%`;").unwrap(), "`app`@`%`");
        assert_eq!(account("DROP USER x"), None);
    }

    #[test]
    fn a_database_is_made_with_its_character_set() {
        let text = "\n--\n-- Current Database: `agama`\n--\n\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `agama` /*!40100 DEFAULT \
                    CHARACTER SET utf8mb4 */;\n\nUSE `agama`;\n";
        let name = StreamName::new("agama/@database.sql").unwrap();
        let definitions = Definitions::new(vec![(name, text.as_bytes().to_vec())]);
        let made = definitions.create("agama", "b");
        let set = "`b` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\n";
        assert_eq!(made, format!("CREATE DATABASE IF NOT EXISTS {set}ALTER DATABASE {set}"));
        assert_eq!(definitions.databases(), ["agama"]);
    }
}
