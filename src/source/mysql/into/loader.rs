//! Tables are loaded by several clients, one after the other in each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::checked::Checked;
use super::filter::{Scope, Step};
use super::{DatabaseTarget, MysqlTarget};
use crate::entry::{Entry, Escaped};
use crate::source::mysql::names::{DumpPart, quoted};
use crate::source::mysql::server::MysqlServer;
use crate::source::{Error, Target};
use crate::warning::{Warning, WarningKind};

/// A client, and where its tables go.
pub(super) struct TableLoader {
    load: Option<Checked>,
    places: Vec<DatabaseTarget>,
    folds: bool,
    /// The stream that is loaded, and its place.
    current: Option<(DumpPart, DatabaseTarget)>,
    /// How another client is started, where a table that fails doesn't end the restore.
    again: Option<Again>,
    /// Whether the current table failed, and the rest of it is passed over.
    failed: bool,
    loaded: Arc<Mutex<Loaded>>,
    warnings: Vec<Warning>,
}

/// What the loaders have loaded.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// What was made, by database of the dump.
    pub made: Vec<(String, Step)>,
    /// Tables that could not be loaded, by database of the dump.
    pub failed: BTreeSet<(String, String)>,
}

/// What a client is started with.
struct Again {
    server: MysqlServer,
    preamble: Vec<u8>,
}

/// One client loads many tables and is ahead of what it says, so the one that failed isn't known.
fn unnamed(error: Error) -> Error {
    match error {
        error if error.is_failure() => Error::Failed(format!(
            "{error}; --keep-going loads each table by itself, names those that fail, and restores the rest"
        )),
        other => other,
    }
}

impl TableLoader {
    pub fn new(target: &MysqlTarget) -> Result<Self, Error> {
        let again = Again { server: target.server.clone(), preamble: target.definitions.preamble().to_vec() };
        Ok(Self {
            load: Some(target.checked()?.keeping_engines()),
            places: target.places.clone(),
            folds: target.folds,
            current: None,
            again: target.options.keep_going.then_some(again),
            failed: false,
            loaded: target.loaded.clone(),
            warnings: Vec::new(),
        })
    }

    /// The result of a step, where the restore is told to go on: a table that failed is named, and the rest of it passed over.
    fn or_passed_over(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        let (Some(again), Some((DumpPart::Object(database, table, _), place))) = (&self.again, &self.current) else {
            return result.map_err(unnamed);
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.is_failure() => {
                // A client that failed runs nothing more.
                self.load = None;
                let name = format!("{database}.{table}");
                self.warnings.push(
                    WarningKind::NotRestored
                        .warning(format!("the table {} could not be loaded: {error}", Escaped(name.as_bytes()))),
                );
                again.server.run(&format!("DROP TABLE IF EXISTS {}.{}", quoted(&place.loading), quoted(table)))?;
                let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                loaded.failed.insert((database.clone(), table.clone()));
                self.failed = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn note(&self, made: Vec<Step>) {
        if let Some((part, _)) = &self.current {
            let database = part.database().unwrap_or_default();
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.made.extend(made.into_iter().map(|step| (database.to_owned(), step)));
        }
    }

    /// Does something with the client, and what it loads.
    fn with<T>(&mut self, act: impl Fn(&mut Checked, &Scope<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let (Some(load), Some((part, place))) = (self.load.as_mut(), self.current.as_ref()) else {
            return Err(Error::Failed("the load had ended before".to_owned()));
        };
        act(load, &place.scope(part, self.folds))
    }
}

impl Target for TableLoader {
    fn wants(&mut self, _: &Entry) -> Result<bool, Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let part = DumpPart::of(&entry.name);
        let place = part
            .as_ref()
            .and_then(|part| self.places.iter().find(|place| Some(place.from.as_str()) == part.database()).cloned());
        let Some(current) = part.zip(place) else {
            return Err(Error::Failed(format!("{} is no table of the dump", entry.name)));
        };
        self.current = Some(current);
        self.failed = false;
        // Where a table may fail alone, each has a client of its own.
        if let (None, Some(again)) = (&self.load, &self.again) {
            self.load = Some(Checked::new(&again.server, &again.preamble, self.folds)?.keeping_engines());
        }
        // Each statement is a transaction of its own, as in any load of a dump: one for all of a table takes half as long again,
        // because the server then keeps all of its rows aside until the commit.
        let entered = self.with(|load, scope| load.enter(scope.to));
        self.or_passed_over(entered)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.failed {
            return Ok(());
        }
        match self.with(|load, scope| load.write(scope, bytes)) {
            Ok(made) => {
                self.note(made);
                Ok(())
            }
            Err(error) => self.or_passed_over(Err(error)),
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.failed {
            return Ok(());
        }
        let mut ended = self.with(|load, scope| load.end(scope));
        if let Ok(made) = &mut ended {
            self.note(std::mem::take(made));
        }
        let mut ended = ended.map(drop);
        if self.again.is_some()
            && ended.is_ok()
            && let Some(load) = self.load.take()
        {
            ended = load.finish();
        }
        self.or_passed_over(ended)
    }

    fn abandon(&mut self) {
        // The client is stopped at once; what it loaded of the table lies aside.
        self.load = None;
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        if let Some(load) = self.load.take() {
            load.finish().map_err(unnamed)?;
        }
        Ok(std::mem::take(&mut self.warnings))
    }
}
