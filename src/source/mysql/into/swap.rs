//! What was loaded is put in place, and what stood there aside.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use super::checked::{Checked, filter};
use super::define::rank;
use super::filter::Scope;
use super::{DatabaseTarget, MysqlTarget};
use crate::progress::Interrupt;
use crate::source::Error;
use crate::source::command::talk::Feed;
use crate::source::mysql::events;
use crate::source::mysql::names::{DumpPart, ObjectKind, literal, quoted};
use crate::source::mysql::split::Splitter;
use crate::warning::WarningKind;

/// Most bytes of definitions of what is put aside.
const DEFINITIONS: usize = 256 << 20;

impl MysqlTarget {
    /// The names that a question answers with.
    fn names(&self, question: &str) -> Result<Vec<String>, Error> {
        Ok(self.server.ask(question)?.into_iter().flatten().collect())
    }

    /// Tables and sequences of a database that belong to the place.
    fn tables(&self, place: &DatabaseTarget, database: &str) -> Result<Vec<String>, Error> {
        let names = self.names(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_TYPE <> 'VIEW'",
            literal(database)
        ))?;
        let meant = |name: &String| place.tables.as_ref().is_none_or(|tables| tables.contains(name));
        Ok(names.into_iter().filter(meant).collect())
    }

    /// Writes what the old database has beside rows to a file, which stays.
    pub(super) fn keep_definitions(&mut self, place: &DatabaseTarget) -> Result<Vec<u8>, Error> {
        let program = self.server.dump_program()?;
        let mut argv = self.server.argv(&program);
        // What is broken there must not keep the rest from being kept.
        let flags = [
            "--force",
            "--no-data",
            "--routines",
            "--triggers",
            "--comments",
            "--single-transaction",
            "--skip-dump-date",
        ];
        argv.extend(flags.map(OsString::from));
        // Of a database that is put aside nothing is told to replicas.
        if program.knows("set-gtid-purged") {
            argv.push("--set-gtid-purged=OFF".into());
        }
        let events = events::streams(&self.server, std::slice::from_ref(&place.to))?;
        argv.push(if events.is_none() { "--events" } else { "--skip-events" }.into());
        argv.extend(["--default-character-set=utf8mb4", "--databases", "--"].map(OsString::from));
        argv.push(OsString::from(&place.to));
        let failed = |error: &dyn std::fmt::Display| {
            Error::Failed(format!("keeping the definitions of {} failed: {error}", place.to))
        };
        let feed = Feed::start(&argv, DEFINITIONS, Interrupt::default()).map_err(|error| failed(&error))?;
        let (kept, error) =
            feed.with_limit(Duration::from_secs(600)).finish_anyway().map_err(|error| failed(&error))?;
        if kept.is_empty() {
            return Err(failed(&error.map(|error| error.to_string()).unwrap_or_default()));
        }
        if let Some(error) = error {
            self.warnings.push(WarningKind::NotKept.warning(format!(
                "not all of what the old {} had beside its rows could be kept, because it is broken: {error}",
                place.to
            )));
        }
        let kept = events::within(kept, events.unwrap_or_default());
        let path = self.kept_path(place);
        let write = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.options.folder)?;
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&kept)?;
            file.sync_all()
        };
        write().map_err(|error| Error::failed(&format!("writing {}", path.display()), &error))?;
        Ok(kept)
    }

    fn kept_path(&self, place: &DatabaseTarget) -> PathBuf {
        let plain = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
        let name: String = place.before(&self.options.stamp).chars().map(plain).collect();
        self.options.folder.join(format!("{name}.sql"))
    }

    /// One statement puts the old tables aside and the new ones in their place.
    pub(super) fn swap(&self, place: &DatabaseTarget) -> Result<(), Error> {
        let (to, before) = (quoted(&place.to), place.before(&self.options.stamp));
        let old = self.tables(place, &place.to)?;
        let new = self.tables(place, &place.loading)?;
        // Who holds a table for long is not waited for: nothing has changed until then.
        let mut statements = "SET foreign_key_checks=0, lock_wait_timeout=120;\n".to_owned();
        statements += &self.definitions.create(filter(&self.server), &place.from, &before)?;
        // A table with triggers can't go to another database; their definitions were kept.
        for (table, trigger) in self.triggers(&place.to)? {
            if old.contains(&table) {
                statements += &format!("DROP TRIGGER IF EXISTS {to}.{};\n", quoted(&trigger));
            }
        }
        let out = old.iter().map(|name| format!("{to}.{0} TO {1}.{0}", quoted(name), quoted(&before)));
        let r#in = new.iter().map(|name| format!("{1}.{0} TO {to}.{0}", quoted(name), quoted(&place.loading)));
        let renames: Vec<String> = out.chain(r#in).collect();
        if !renames.is_empty() {
            // As a text: where a client gets half of it and no more, half a text is an error, and half a list is not.
            let rename = literal(&format!("RENAME TABLE {}", renames.join(", ")));
            statements += &format!("PREPARE swap FROM {rename};\nEXECUTE swap;\n");
        }
        if place.tables.is_none() {
            statements += &self.drop_others(place)?;
        }
        self.server.run(&statements)
    }

    fn triggers(&self, database: &str) -> Result<Vec<(String, String)>, Error> {
        let rows = self.server.ask(&format!(
            "SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {}",
            literal(database)
        ))?;
        Ok(rows.into_iter().filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone()))).collect())
    }

    /// The statements that drop the old views, routines and events, whose definitions were kept.
    fn drop_others(&self, place: &DatabaseTarget) -> Result<String, Error> {
        let to = literal(&place.to);
        let rows = self.server.ask(&format!(
            "SELECT 'VIEW', TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {to};\n\
             SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {to} ORDER BY \
             ROUTINE_TYPE = 'PACKAGE';\n\
             SELECT 'EVENT', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {to}"
        ))?;
        let drop = |row: Vec<String>| match row.as_slice() {
            // MariaDB knows packages only as Oracle's.
            [kind, name] if kind.starts_with("PACKAGE") => format!(
                "SET sql_mode=ORACLE;\nDROP {kind} IF EXISTS {}.{};\nSET sql_mode='';\n",
                quoted(&place.to),
                quoted(name)
            ),
            [kind, name] => format!("DROP {kind} IF EXISTS {}.{};\n", quoted(&place.to), quoted(name)),
            _ => String::new(),
        };
        Ok(rows.into_iter().map(drop).collect())
    }

    /// Loads parts of the database `from` into the database `to`.
    fn load_parts(
        &self,
        from: &str,
        to: &str,
        preamble: &[u8],
        mut parts: Vec<(DumpPart, Vec<u8>)>,
    ) -> Result<(), Error> {
        parts.sort_by_key(|(part, _)| rank(part));
        let mut load = Checked::new(&self.server, preamble, self.folds)?;
        load.enter(to)?;
        for (part, text) in parts {
            let scope = Scope { part: &part, from, to, home: to, folds: self.folds };
            load.part_disabled(&scope, &text)?;
        }
        load.finish()
    }

    /// What was put aside gets its views, routines, triggers and (disabled) events back.
    pub(super) fn settle_old(&mut self, place: &DatabaseTarget, kept: &[u8]) -> Result<(), Error> {
        let before = place.before(&self.options.stamp);
        let mut rest = kept;
        let mut splitter = Splitter::new(
            |out: &mut [u8]| {
                let length = rest.len().min(out.len());
                out[..length].copy_from_slice(&rest[..length]);
                rest = &rest[length..];
                Ok(length)
            },
            &place.to,
        );
        let (mut preamble, mut parts) = (Vec::new(), Vec::new());
        let failed = |error: std::io::Error| Error::failed("splitting the definitions that were kept", &error);
        while splitter.next_stream().map_err(failed)?.is_some() {
            let part = splitter.part().clone();
            let (mut text, mut buffer) = (Vec::new(), [0; 1 << 14]);
            loop {
                match splitter.read(&mut buffer).map_err(failed)? {
                    0 => break,
                    length => text.extend_from_slice(&buffer[..length]),
                }
            }
            match &part {
                DumpPart::Preamble => preamble = text,
                DumpPart::Object(_, table, ObjectKind::Triggers) if place.takes(&place.from, table) => {
                    parts.push((part, text))
                }
                DumpPart::Object(_, _, ObjectKind::Stub | ObjectKind::View)
                | DumpPart::Events(_)
                | DumpPart::Routines(_)
                    if place.tables.is_none() =>
                {
                    parts.push((part, text));
                }
                _ => {}
            }
        }
        parts.sort_by_key(|(part, _)| rank(part));
        // One by one: what is broken must not keep the rest away.
        for (part, text) in parts {
            let name = part.name();
            if let Err(error) = self.load_parts(&place.to, &before, &preamble, vec![(part, text)]) {
                self.warnings.push(WarningKind::NotKept.warning(format!(
                    "the tables of the old {} are whole in {before}, but {name} could not be made there: {error}; its definition \
                     is in {}",
                    place.to,
                    self.kept_path(place).display()
                )));
            }
        }
        Ok(())
    }
}
