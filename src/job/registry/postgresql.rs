//! Descriptor of the source `postgresql`.

use std::path::{Path, PathBuf};

use super::{External, KindDescriptor, SourceContext, SourceDescriptor, TargetOptions, WayBack, origin_of};
use crate::entry::StreamName;
use crate::job::Machine;
use crate::job::spec::{PostgresqlSpec, SourceKind, SourceSpec};
use crate::progress::Interrupt;
use crate::source::command::STALL_LIMIT;
use crate::source::postgresql::external::PostgresqlDumpFiles;
use crate::source::postgresql::into::PostgresqlTarget;
use crate::source::postgresql::{PostgresqlOptions, PostgresqlSource, checkup};
use crate::source::{Databases, Error, Finding, RestoreTarget, Source, copy};
use crate::time::SystemClock;

/// What holds for all sources of this kind.
pub const KIND: KindDescriptor = KindDescriptor {
    is_configurable: true,
    unconfigured: Some(|| SourceSpec::Postgresql(unconfigured())),
    takes_option_file_of_all: false,
};

fn unconfigured() -> PostgresqlSpec {
    let dump = PostgresqlOptions {
        databases: Databases::AllBut(Vec::new()),
        exclude_tables: Vec::new(),
        schema_only_tables: Vec::new(),
        stall_limit: STALL_LIMIT,
        server: Default::default(),
    };
    PostgresqlSpec { dump, restore_as_superuser: false }
}

impl SourceDescriptor for PostgresqlSpec {
    fn open(&self, context: &SourceContext<'_>) -> Result<Box<dyn Source>, Error> {
        let (progress, interrupt) = (context.progress.clone(), context.machine.interrupt.clone());
        Ok(Box::new(PostgresqlSource::new(&self.dump, &SystemClock, progress, interrupt)?))
    }

    fn open_external(&self, folder: &Path, _: &Interrupt) -> Result<External, Error> {
        let dumps = PostgresqlDumpFiles::open(folder)?;
        let time = dumps.data_time();
        Ok((Box::new(dumps), time))
    }

    fn check(&self, interrupt: &Interrupt) -> Vec<Finding> {
        checkup::check(&self.dump, interrupt)
    }

    fn local_copy_file(&self) -> Option<&'static str> {
        Some(copy::SCRIPT)
    }

    fn paths(&self) -> &[PathBuf] {
        &[]
    }

    fn roots(&self) -> Vec<StreamName> {
        Vec::new()
    }

    fn origin(&self) -> String {
        origin_of(SourceKind::Postgresql)
    }

    fn is_made_while_read(&self) -> bool {
        true
    }

    fn way_back(&self, _: &str) -> WayBack {
        WayBack::Service(SourceKind::Postgresql)
    }

    fn connect_target(&self, wanted: TargetOptions, machine: &Machine) -> Result<Box<dyn RestoreTarget>, Error> {
        let mut server = self.dump.server.clone();
        server.user = wanted.user.or(server.user);
        let target = PostgresqlTarget::connect(&server, wanted.options, &machine.interrupt)?;
        Ok(Box::new(target.as_superuser(self.restore_as_superuser)))
    }
}
