//! Views, routines, triggers and events: made after the tables of all databases are in place, and what couldn't be made.

use std::collections::BTreeSet;

use super::filter::{Made, Object, Scope, Step};
use super::{DatabaseTarget, MysqlTarget};
use crate::entry::Escaped;
use crate::source::Error;
use crate::source::mysql::names::{DumpPart, ObjectKind, literal};
use crate::warning::WarningKind;

/// A definition, the place that it is made in, and the steps of its stream up to it.
pub(super) struct Defined {
    pub place: DatabaseTarget,
    pub part: DumpPart,
    pub step: Step,
    pub made: Made,
}

/// In which order definitions are made, over all databases: a view may need a routine or another view of another database,
/// and an event may run as soon as it is there.
pub(super) fn rank(part: &DumpPart) -> u8 {
    match part {
        DumpPart::Object(_, _, ObjectKind::Stub) => 0,
        DumpPart::Routines(_) => 1,
        DumpPart::Object(_, _, ObjectKind::View) => 2,
        DumpPart::Object(_, _, ObjectKind::Triggers) => 3,
        _ => 4,
    }
}

impl MysqlTarget {
    /// The streams of definitions of all places, in the order in which they are made.
    fn ordered(&self) -> Vec<(DatabaseTarget, DumpPart, Vec<u8>)> {
        let mut parts: Vec<(DatabaseTarget, DumpPart, Vec<u8>)> = Vec::new();
        for place in &self.places {
            let wanted = |part: &DumpPart| self.loads(place, part) && !is_made_before(part);
            parts.extend(
                self.definitions.of(&place.from, wanted).into_iter().map(|(part, text)| (place.clone(), part, text)),
            );
        }
        parts.sort_by_key(|(_, part, _)| rank(part));
        parts
    }

    /// The steps of a stream; of a copy under another name its events are disabled.
    pub(super) fn steps(&self, place: &DatabaseTarget, part: &DumpPart, text: &[u8]) -> Result<Vec<Step>, Error> {
        let scope = Scope { part, from: &place.from, to: &place.to, home: &place.to, folds: self.folds };
        let steps = self.begun()?.steps(&scope, text)?;
        Ok(match place.from == place.to {
            true => steps,
            false => steps.into_iter().map(Step::disabled).collect(),
        })
    }

    /// Makes them. What can't be made ends the restore, or is named where it was told to go on: then each stream has a client
    /// of its own, because one that passed over a statement that failed would be in another session than is thought.
    pub(super) fn define(&mut self) -> Result<Vec<Defined>, Error> {
        let mut all = Vec::new();
        let mut load = self.checked()?;
        for (place, part, text) in self.ordered() {
            let steps = self.steps(&place, &part, &text)?;
            let mut run = || -> Result<(), Error> {
                load.enter(&place.to)?;
                steps.iter().try_for_each(|step| load.step(step))
            };
            let ran = run();
            if self.options.keep_going {
                let client = std::mem::replace(&mut load, self.checked()?);
                match ran.and_then(|()| client.finish()) {
                    Err(error) if !error.is_failure() => return Err(error),
                    _ => {}
                }
            } else {
                ran?;
            }
            for step in steps {
                if let (Some(made), false) =
                    (step.makes.clone(), matches!(part, DumpPart::Object(_, _, ObjectKind::Stub)))
                {
                    all.push(Defined { place: place.clone(), part: part.clone(), step, made });
                }
            }
        }
        load.finish()?;
        if self.options.keep_going {
            all = self.name_missing(all)?;
        }
        Ok(all)
    }

    /// Those that are there; of each other one it is tried once more why it can't be made.
    fn name_missing(&mut self, all: Vec<Defined>) -> Result<Vec<Defined>, Error> {
        let mut there = Vec::new();
        let places = self.places.clone();
        let mut known: BTreeSet<(String, Object)> = BTreeSet::new();
        for place in &places {
            known.extend(self.objects(&place.to)?.into_iter().map(|object| (place.to.clone(), object)));
        }
        for defined in all {
            if known.contains(&(defined.place.to.clone(), defined.made.object.clone())) {
                there.push(defined);
                continue;
            }
            let why = match self.define_alone(&defined) {
                Ok(()) => {
                    there.push(defined);
                    continue;
                }
                Err(why) => why,
            };
            self.warnings.push(WarningKind::NotRestored.warning(format!(
                "the {} {} could not be made: {why}",
                defined.made.object.kind.to_lowercase(),
                Escaped(format!("{}.{}", defined.place.to, defined.made.object.name).as_bytes()),
            )));
        }
        Ok(there)
    }

    /// Makes one, with the settings of its stream that stand before it.
    fn define_alone(&self, defined: &Defined) -> Result<(), Error> {
        let text = self.definitions.of(&defined.place.from, |part| *part == defined.part);
        let mut load = self.checked()?;
        load.enter(&defined.place.to)?;
        for (part, text) in text {
            for step in self.steps(&defined.place, &part, &text)? {
                let is_it = step.makes.as_ref().is_some_and(|made| made.object == defined.made.object);
                let is_setting =
                    step.text.windows(4).any(|word| word.eq_ignore_ascii_case(b"SET ")) && step.makes.is_none();
                if is_it || is_setting {
                    load.step(&step)?;
                }
                if is_it {
                    return load.finish();
                }
            }
        }
        load.finish()
    }

    /// Views, routines, triggers and events of a database.
    fn objects(&self, database: &str) -> Result<Vec<Object>, Error> {
        let name = literal(database);
        let rows = self.server.ask(&format!(
            "SELECT 'VIEW', TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {name};\n\
             SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name};\n\
             SELECT 'TRIGGER', TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {name};\n\
             SELECT 'EVENT', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name}"
        ))?;
        const KINDS: [&str; 7] = ["VIEW", "TRIGGER", "EVENT", "FUNCTION", "PROCEDURE", "PACKAGE", "PACKAGE BODY"];
        let object = |row: Vec<String>| {
            let kind = KINDS.into_iter().find(|kind| Some(*kind) == row.first().map(String::as_str))?;
            Some(Object { kind, name: row.get(1)?.clone() })
        };
        Ok(rows.into_iter().filter_map(object).collect())
    }
}

/// Whether a stream is loaded before the tables.
fn is_made_before(part: &DumpPart) -> bool {
    matches!(part, DumpPart::Database(_) | DumpPart::Use(_) | DumpPart::Object(_, _, ObjectKind::Sequence))
}
