//! Descriptor of the source `mysql`.

use std::path::{Path, PathBuf};

use super::{External, KindDescriptor, SourceContext, SourceDescriptor, TargetOptions, WayBack, origin_of};
use crate::entry::StreamName;
use crate::job::Machine;
use crate::job::spec::{SourceKind, SourceSpec};
use crate::progress::Interrupt;
use crate::source::command::STALL_LIMIT;
use crate::source::mysql::external::MysqlDumpFiles;
use crate::source::mysql::into::MysqlTarget;
use crate::source::mysql::{MysqlOptions, MysqlSource, checkup};
use crate::source::{Databases, Error, Finding, RestoreTarget, Source, copy};
use crate::time::SystemClock;

/// What holds for all sources of this kind.
pub const KIND: KindDescriptor = KindDescriptor {
    is_configurable: true,
    unconfigured: Some(|| SourceSpec::Mysql(unconfigured())),
    takes_option_file_of_all: true,
};

fn unconfigured() -> MysqlOptions {
    MysqlOptions {
        databases: Databases::AllBut(Vec::new()),
        exclude_tables: Vec::new(),
        schema_only_tables: Vec::new(),
        stall_limit: STALL_LIMIT,
        server: Default::default(),
    }
}

impl SourceDescriptor for MysqlOptions {
    fn open(&self, context: &SourceContext<'_>) -> Result<Box<dyn Source>, Error> {
        let (progress, interrupt) = (context.progress.clone(), context.machine.interrupt.clone());
        Ok(Box::new(MysqlSource::new(self, &SystemClock, progress, interrupt)?))
    }

    fn open_external(&self, folder: &Path, _: &Interrupt) -> Result<External, Error> {
        let dumps = MysqlDumpFiles::open(folder)?;
        let time = dumps.data_time();
        Ok((Box::new(dumps), time))
    }

    fn check(&self, interrupt: &Interrupt) -> Vec<Finding> {
        checkup::check(self, interrupt)
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
        origin_of(SourceKind::Mysql)
    }

    fn is_made_while_read(&self) -> bool {
        true
    }

    fn way_back(&self, _: &str) -> WayBack {
        WayBack::Service(SourceKind::Mysql)
    }

    fn connect_target(&self, wanted: TargetOptions, machine: &Machine) -> Result<Box<dyn RestoreTarget>, Error> {
        let mut server = self.server.clone();
        server.option_file = wanted.option_file.or(server.option_file);
        Ok(Box::new(MysqlTarget::connect(&server, wanted.options, &machine.interrupt)?))
    }
}
