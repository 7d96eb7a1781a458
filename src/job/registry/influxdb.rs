//! Descriptor of the source `influxdb`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{External, KindDescriptor, SourceContext, SourceDescriptor, TargetOptions, WayBack, origin_of, scratch};
use crate::entry::StreamName;
use crate::job::Machine;
use crate::job::spec::{SourceKind, SourceSpec};
use crate::progress::Interrupt;
use crate::source::influxdb::into::{InfluxdbTarget, Needs};
use crate::source::influxdb::{InfluxdbOptions, InfluxdbSource, checkup};
use crate::source::{Error, Finding, RestoreTarget, Source, copy};
use crate::time::SystemClock;

/// What holds for all sources of this kind.
pub const KIND: KindDescriptor = KindDescriptor {
    is_configurable: true,
    unconfigured: Some(|| {
        SourceSpec::Influxdb(InfluxdbOptions { database: String::new(), server: Default::default() })
    }),
    takes_option_file_of_all: false,
};

/// How long nothing must have been written to a database before it is dropped: Telegraf writes every 10 seconds.
const QUIET: Duration = Duration::from_secs(12);

impl SourceDescriptor for InfluxdbOptions {
    fn open(&self, context: &SourceContext<'_>) -> Result<Box<dyn Source>, Error> {
        let scratch = scratch(context.machine, &format!("influxdb-{}", context.set))?;
        Ok(Box::new(InfluxdbSource::new(self, &scratch, &SystemClock, &context.machine.interrupt)?))
    }

    fn open_external(&self, folder: &Path, interrupt: &Interrupt) -> Result<External, Error> {
        let (dumps, time) = InfluxdbSource::external(self, folder, interrupt)?;
        Ok((Box::new(dumps), time))
    }

    fn check(&self, interrupt: &Interrupt) -> Vec<Finding> {
        checkup::check(self, interrupt)
    }

    fn local_copy_file(&self) -> Option<&'static str> {
        Some(copy::DATA)
    }

    fn paths(&self) -> &[PathBuf] {
        &[]
    }

    fn roots(&self) -> Vec<StreamName> {
        Vec::new()
    }

    fn origin(&self) -> String {
        origin_of(SourceKind::Influxdb)
    }

    /// The portable backup lies in a folder before its first byte is read.
    fn is_made_while_read(&self) -> bool {
        false
    }

    fn way_back(&self, _: &str) -> WayBack {
        WayBack::Service(SourceKind::Influxdb)
    }

    fn connect_target(&self, wanted: TargetOptions, machine: &Machine) -> Result<Box<dyn RestoreTarget>, Error> {
        let TargetOptions { options, option_file, .. } = wanted;
        let mut server = self.server.clone();
        server.option_file = option_file.or(server.option_file);
        if !options.only.is_empty() {
            return Err(Error::Config("a database of InfluxDB is restored as a whole, without --only".to_owned()));
        }
        let scratch = scratch(machine, &format!("into-influxdb-{}", options.stamp))?;
        let needs = Needs { scratch, quiet: QUIET };
        Ok(Box::new(InfluxdbTarget::connect(&server, options, needs, &machine.interrupt)?))
    }
}
