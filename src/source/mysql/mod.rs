//! The source `mysql`: databases of a MySQL or MariaDB server, by the server's own programs.
//!
//! One consistent dump is split into streams as it is read ([`split`]). It counts as complete only if the program ended
//! well, the dump ends with its completion line, the account may see everything ([`grants`]), and no object was replaced
//! in the meantime ([`fingerprint`]).

pub mod checkup;
pub mod client;
mod dump;
mod events;
pub mod external;
pub mod fingerprint;
mod flags;
pub mod grants;
pub mod into;
mod inexact;
mod lexer;
mod locks;
mod messages;
pub mod names;
mod obstacles;
mod program;
pub mod server;
mod sessions;
mod settings;
pub mod split;
mod sql;
mod system;
mod table;
mod users;

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::client::MysqlServerOptions;
use self::dump::PreparedDump;
use self::fingerprint::MysqlFingerprint;
use self::locks::Locks;
use self::names::{DumpPart, USERS};
use self::server::MysqlServer;
use self::split::{Counted, Splitter};
use super::command::{CommandOptions, CommandSource, STALLED};
use super::reading::CurrentStream;
use super::{Databases, Error, Finished, Source};
use crate::entry::{Entry, Escaped, StreamName, Untrusted};
use crate::facts::Facts;
use crate::progress::{Interrupt, Progress};
use crate::time::{Clock, Timestamp};
use crate::warning::Warning;

/// The data to be dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlOptions {
    /// Which databases.
    pub databases: Databases,
    /// `database.table` that are left out.
    pub exclude_tables: Vec<String>,
    /// `database.table` whose rows are left out.
    pub schema_only_tables: Vec<String>,
    /// How long the dump program may write nothing.
    pub stall_limit: Duration,
    /// The server.
    pub server: MysqlServerOptions,
}

type DumpStream = Box<dyn FnMut(&mut [u8]) -> io::Result<usize>>;

/// A dump, stream by stream.
pub struct MysqlSource {
    /// Streams that the dump program doesn't write.
    ready: VecDeque<(String, Vec<u8>)>,
    /// The streams before the dump's last line, and that line, once it has come.
    events: Vec<(DumpPart, Vec<u8>)>,
    held: Option<String>,
    current: Option<Cursor<Vec<u8>>>,
    splitter: Splitter<DumpStream>,
    reading: CurrentStream,
    locks: Locks,
    progress: Arc<dyn Progress>,
    /// The state that must be unchanged after the dump.
    gate: Gate,
    data_time: Timestamp,
    facts: Facts,
    warnings: Vec<Warning>,
    /// The start of the dump, which names the binary log's position.
    preamble: Vec<u8>,
    /// The transactions that the dump says it has.
    gtids: Option<String>,
}

/// How much of the preamble is looked at.
const PREAMBLE: usize = 1 << 20;
/// The most bytes of the first or the last lines.
const FRAME: usize = 64 << 20;

/// What the program says of each dump that isn't of the whole server and has its transactions: as a comment they do nothing.
const UNSAID: &[&str] = &["Warning: A partial dump from a server that has GTIDs"];

struct Gate {
    server: MysqlServer,
    options: MysqlOptions,
    databases: Vec<String>,
    before: MysqlFingerprint,
}

impl MysqlSource {
    /// Looks at the server, judges the account's grants, and starts the dump.
    ///
    /// # Errors
    /// [`Error::Config`] if a program or a grant is missing, [`Error::Failed`] if the server doesn't answer.
    pub fn new(
        options: &MysqlOptions,
        clock: &dyn Clock,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> Result<Self, Error> {
        let prepared = PreparedDump::new(options, &interrupt)?;
        let users = users::users(&prepared.server)?;
        // The dump may take hours.
        prepared.server.hang_up();
        let name = StreamName::new("dump.sql").map_err(|error| Error::Failed(error.to_string()))?;
        let (data_time, facts) = (clock.now(), prepared.facts());
        let stall_limit = options.stall_limit;
        let command =
            CommandOptions { stall_limit, unsaid: UNSAID, ..CommandOptions::new(name, prepared.argv.clone()) };
        let begun = Instant::now();
        let mut dump = CommandSource::new(command, clock, progress.clone(), interrupt)?;
        dump.next()?;
        let input: DumpStream = Box::new(move |buffer| dump.read(buffer).map_err(io::Error::other));
        let PreparedDump { server, databases, before, warnings, events, position, keeps_locks, .. } = prepared;
        Ok(Self {
            ready: VecDeque::from([(USERS.to_owned(), users.into_bytes())]),
            events,
            held: None,
            current: None,
            splitter: Splitter::new(input, ""),
            reading: CurrentStream::default(),
            locks: Locks::new(position, keeps_locks, begun),
            progress,
            gate: Gate { server, options: options.clone(), databases, before },
            data_time,
            facts,
            warnings,
            preamble: Vec::new(),
            gtids: None,
        })
    }

    /// The error of the dump, with its progress if it hangs.
    fn told(&self, error: io::Error) -> Error {
        match own(error) {
            error if error.has_code(STALLED) => {
                let after = Escaped(self.splitter.part().name().as_bytes()).to_string();
                Error::Failed(format!(
                    "{error}\nThe last that it wrote was of {after}, so it stands there or at what comes next"
                ))
            }
            other => other,
        }
    }

    /// The current part, which is the dump's first or last lines. So many of its bytes are kept.
    fn frame(&mut self, kept: usize) -> Result<Vec<u8>, Error> {
        let (mut text, mut buffer) = (Vec::new(), [0; 1 << 12]);
        loop {
            match self.splitter.read(&mut buffer).map_err(|error| self.told(error))? {
                0 => break,
                _ if text.len() > FRAME => {
                    return Err(Error::Failed(format!(
                        "{} of the dump has more than {FRAME} bytes, so it is none of the dump program's",
                        self.splitter.part().name()
                    )));
                }
                length => text.extend_from_slice(&buffer[..length]),
            }
        }
        self.preamble.extend_from_slice(&text[..text.len().min(kept)]);
        // MariaDB's program tells the transactions at the end, from the begin.
        self.gtids = gtids(&text).or(self.gtids.take());
        Ok(without_log_switches(&text))
    }

    /// The bytes of the dump's statements as they come, and the findings at its end.
    fn check_end(&mut self) -> Result<Counted, Error> {
        let (counted, whole) = self.splitter.finish_counts();
        if !whole {
            return Err(Error::Failed(
                "the dump doesn't end with its completion line, \"-- Dump completed\": it isn't whole".to_owned(),
            ));
        }
        self.gate.check_streams(&counted)?;
        self.gate.check_unchanged()?;
        Ok(counted)
    }
}

impl Gate {
    /// Each table that was there before has a stream.
    fn check_streams(&self, counted: &Counted) -> Result<(), Error> {
        for table in
            self.before.tables.iter().filter(|table| matches!(table.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED"))
        {
            let part = names::DumpPart::Object(table.database.clone(), table.name.clone(), names::ObjectKind::Table);
            if !counted.rows.contains_key(&part.name()) {
                return Err(Error::Changed(format!(
                    "the table {} was there before the dump, and isn't in it",
                    names::shown(&[&table.database, &table.name])
                )));
            }
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        let after = MysqlFingerprint::take(
            &self.server,
            &self.databases,
            &self.options.exclude_tables,
            &self.options.schema_only_tables,
        )?;
        self.before.objects.check_unchanged(&after.objects)
    }
}

/// What a program writes into a dump beside the comment with its transactions: the one who loads it would write none of it
/// into the binary log, and so not to replicas.
const LOG_SWITCHES: [&[u8]; 3] = [
    b"SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;",
    b"SET @@SESSION.SQL_LOG_BIN= 0;",
    b"SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;",
];

/// The first or the last lines of a dump without those.
fn without_log_switches(text: &[u8]) -> Vec<u8> {
    text.split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !LOG_SWITCHES.contains(&line.trim_ascii()))
        .flatten()
        .copied()
        .collect()
}

/// The transactions that a dump's start says it has.
fn gtids(preamble: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(preamble);
    let (_, rest) = text.split_once("GTID_PURGED=").or_else(|| text.split_once("SET GLOBAL gtid_slave_pos="))?;
    // `/*!80000 '+'*/ '…'` of some versions.
    let rest = rest.strip_prefix("/*!80000 '+'*/").unwrap_or(rest).trim_start();
    let (set, _) = rest.strip_prefix('\'')?.split_once('\'')?;
    let set: String = set.trim_start_matches('+').split_whitespace().collect();
    (!set.is_empty()).then_some(set)
}

/// The binary log's position that a dump's start names, where it does.
fn position(preamble: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(preamble);
    let (_, rest) = text.split_once("_LOG_FILE='")?;
    let (file, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("_LOG_POS=")?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{file}:{number}"))
}

/// The error of the source itself, where the splitter hands it on.
fn own(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(Error::Failed(why)) => match (messages::code(&why), settings::explained(&why)) {
            // A table is another one now.
            (Some(code), _) if code == "1412" => Error::Changed(why),
            (_, Some(explained)) => explained,
            (code, None) => Error::server(code, why),
        },
        Ok(error) => error,
        Err(error) => Error::failed("reading the dump", &error),
    }
}

impl Source for MysqlSource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut coming = None;
        if self.ready.is_empty() {
            coming = match self.held.take() {
                Some(held) => Some(held),
                None => {
                    let name = self.splitter.next_stream().map_err(|error| self.told(error))?;
                    self.locks.begin(self.splitter.part(), Instant::now());
                    name
                }
            };
            if *self.splitter.part() == DumpPart::Postamble && !self.events.is_empty() {
                self.held = coming.take();
                let events = std::mem::take(&mut self.events);
                self.ready.extend(events.into_iter().map(|(part, bytes)| (self.splitter.free_name(&part), bytes)));
            }
        }
        let (ready, name) = match self.ready.pop_front() {
            Some((name, bytes)) => (Some(Cursor::new(bytes)), Some(name)),
            None if coming.is_some() && *self.splitter.part() == DumpPart::Preamble => {
                (Some(Cursor::new(self.frame(PREAMBLE)?)), coming)
            }
            None if coming.is_some() && *self.splitter.part() == DumpPart::Postamble => {
                (Some(Cursor::new(self.frame(0)?)), coming)
            }
            None => (None, coming),
        };
        self.current = ready;
        name.map_or(Ok(None), |name| self.reading.begin(name))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = match &mut self.current {
            Some(bytes) => bytes.read(buffer).map_err(|error| Error::failed("reading a stream", &error))?,
            None => {
                let mut filled = 0;
                while filled < buffer.len() {
                    match self.splitter.read(&mut buffer[filled..]).map_err(|error| self.told(error))? {
                        0 => break,
                        length => filled += length,
                    }
                }
                filled
            }
        };
        Ok(self.reading.grow(length))
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.reading.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        let counted = self.check_end()?;
        let locks = self.locks.said(Instant::now());
        self.progress.note(&locks);
        let mut facts = self.facts.clone();
        facts.locks = Some(locks.into());
        facts.rows = Some(counted.rows.values().sum());
        facts.binlog = position(&self.preamble).map(Untrusted::from);
        facts.gtids = self.gtids.take().map(Untrusted::from);
        facts.longest_statement = Some(counted.longest);
        facts.rows_of = counted.rows.into_iter().map(|(name, rows)| (name.into(), rows)).collect();
        Ok(Finished { data_time: self.data_time, facts })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transactions_are_read_from_the_start_and_what_stands_beside_them_goes() {
        let text = b"SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;\nSET @@SESSION.SQL_LOG_BIN= 0;\n\
            /* SET @@GLOBAL.GTID_PURGED='+f1c3:1-7,\nf1c4:1-9';*/\nSET NAMES utf8mb4;\n";
        assert_eq!(gtids(text).unwrap(), "f1c3:1-7,f1c4:1-9");
        assert!(
            without_log_switches(text).starts_with(b"/* SET @@GLOBAL")
                && without_log_switches(text).ends_with(b"utf8mb4;\n")
        );
        assert_eq!(gtids(b"/* SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a:1';*/").unwrap(), "a:1");
        assert_eq!(gtids(b"-- SET GLOBAL gtid_slave_pos='0-1-6';\n").unwrap(), "0-1-6");
        assert_eq!((gtids(b"SET NAMES x"), gtids(b"GTID_PURGED=''")), (None, None));
    }

    #[test]
    fn the_position_of_the_binary_log_is_read_from_the_start() {
        let of = |text: &str| position(text.as_bytes());
        let mariadb = "-- CHANGE MASTER TO MASTER_LOG_FILE='binlog.000002', MASTER_LOG_POS=344;\n";
        assert_eq!(of(mariadb).unwrap(), "binlog.000002:344");
        let mysql = "-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='b.1', SOURCE_LOG_POS=7;\n";
        assert_eq!(of(mysql).unwrap(), "b.1:7");
        assert_eq!(of("-- Server version"), None);
    }
}
