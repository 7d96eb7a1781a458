//! One client that loads tables, beside others that load other tables.

use super::{MysqlTarget, Place};
use crate::entry::Entry;
use crate::source::mysql::names::{Part, quoted};
use crate::source::mysql::server::Load;
use crate::source::{Error, Target};
use crate::warning::Warning;

/// A client, and where its tables go.
pub(super) struct Lane {
    load: Option<Load>,
    places: Vec<Place>,
    postamble: Vec<u8>,
}

impl Lane {
    pub fn new(target: &MysqlTarget) -> Result<Self, Error> {
        let mut load = target.server.load(None)?;
        load.write(target.definitions.preamble())?;
        let postamble = target.definitions.postamble().to_vec();
        Ok(Self { load: Some(load), places: target.places.clone(), postamble })
    }

    fn load(&mut self) -> Result<&mut Load, Error> {
        self.load.as_mut().ok_or_else(|| Error::Failed("the load had ended before".to_owned()))
    }
}

impl Target for Lane {
    fn wants(&mut self, _: &Entry) -> Result<bool, Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let part = Part::of(&entry.name);
        let database = part.as_ref().and_then(Part::database);
        let place = self.places.iter().find(|place| Some(place.from.as_str()) == database);
        let loading = place.map(|place| quoted(&place.loading));
        let Some(loading) = loading else {
            return Err(Error::Failed(format!("{} is no table of the dump", entry.name)));
        };
        // Each statement is a transaction of its own, as in any load of a dump: one for all of a table takes half as long again,
        // because the server then keeps all of its rows aside until the commit.
        self.load()?.write(format!("USE {loading};\n").as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.load()?.write(bytes)
    }

    fn end(&mut self) -> Result<(), Error> {
        self.load()?.write(b"\n")
    }

    fn abandon(&mut self) {
        // The client is stopped at once; what it loaded of the table lies aside.
        self.load = None;
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        if let Some(mut load) = self.load.take() {
            load.write(&self.postamble)?;
            load.finish()?;
        }
        Ok(Vec::new())
    }
}
