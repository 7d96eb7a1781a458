//! Descriptor of standard input.

use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::{
    External, KindDescriptor, SourceContext, SourceDescriptor, TargetOptions, WayBack, no_external_dumps, no_service,
};
use crate::entry::StreamName;
use crate::job::Machine;
use crate::job::spec::{SourceKind, StdinSpec};
use crate::progress::Interrupt;
use crate::source::stdin::StdinSource;
use crate::source::until::InterruptibleReader;
use crate::source::{Error, Finding, RestoreTarget, Source};
use crate::time::SystemClock;

/// What holds for all sources of this kind.
pub const KIND: KindDescriptor =
    KindDescriptor { is_configurable: false, unconfigured: None, takes_option_file_of_all: false };

impl SourceDescriptor for StdinSpec {
    fn open(&self, context: &SourceContext<'_>) -> Result<Box<dyn Source>, Error> {
        let input = std::io::stdin().as_fd().try_clone_to_owned();
        let input = File::from(input.map_err(|error| Error::failed("reading standard input", &error))?);
        let input = InterruptibleReader::new(input, context.machine.interrupt.clone());
        Ok(Box::new(StdinSource::new(self.stream.clone(), input, &SystemClock).expecting(size())))
    }

    fn open_external(&self, _: &Path, _: &Interrupt) -> Result<External, Error> {
        Err(no_external_dumps(SourceKind::Stdin))
    }

    /// Whoever writes to it decides what comes.
    fn check(&self, _: &Interrupt) -> Vec<Finding> {
        Vec::new()
    }

    fn local_copy_file(&self) -> Option<&'static str> {
        None
    }

    fn paths(&self) -> &[PathBuf] {
        &[]
    }

    fn roots(&self) -> Vec<StreamName> {
        Vec::new()
    }

    fn origin(&self) -> String {
        format!("standard input as {}", self.stream)
    }

    fn is_made_while_read(&self) -> bool {
        size().is_none()
    }

    fn way_back(&self, set: &str) -> WayBack {
        WayBack::Unknown(format!(
            "the set {set} came from standard input, so it isn't known where it belongs; varu restore {set} --stdout or --to \
             DIR restores it"
        ))
    }

    fn connect_target(&self, _: TargetOptions, _: &Machine) -> Result<Box<dyn RestoreTarget>, Error> {
        Err(no_service(SourceKind::Stdin))
    }
}

/// Bytes of standard input, where that is a plain file.
fn size() -> Option<u64> {
    let input = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    input.metadata().ok().filter(Metadata::is_file).map(|file| file.len())
}
