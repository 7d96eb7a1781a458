//! Descriptor of the source `files`.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{
    External, KindDescriptor, SourceContext, SourceDescriptor, TargetOptions, WayBack, no_external_dumps, no_service,
};
use crate::entry::{Escaped, StreamName};
use crate::job::Machine;
use crate::job::spec::SourceKind;
use crate::progress::{Interrupt, Progress};
use crate::remote::place::Location;
use crate::source::files::{FilesOptions, FilesSource};
use crate::source::{Error, Finding, RestoreTarget, Source};
use crate::time::SystemClock;

/// What holds for all sources of this kind.
pub const KIND: KindDescriptor =
    KindDescriptor { is_configurable: true, unconfigured: None, takes_option_file_of_all: false };

impl SourceDescriptor for FilesOptions {
    fn open(&self, context: &SourceContext<'_>) -> Result<Box<dyn Source>, Error> {
        let own = own_files(self, context.machine, &**context.progress);
        Ok(Box::new(FilesSource::new(&FilesOptions { own, ..self.clone() }, &SystemClock)?))
    }

    fn open_external(&self, _: &Path, _: &Interrupt) -> Result<External, Error> {
        Err(no_external_dumps(SourceKind::Files))
    }

    fn check(&self, _: &Interrupt) -> Vec<Finding> {
        self.paths.iter().map(|path| check_path(path)).collect()
    }

    /// What is read lies on this machine already.
    fn local_copy_file(&self) -> Option<&'static str> {
        None
    }

    fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    fn roots(&self) -> Vec<StreamName> {
        let name = |path: &PathBuf| {
            let path = path.as_os_str().as_bytes();
            let trimmed = path.iter().position(|byte| *byte != b'/').map_or(&[][..], |first| &path[first..]);
            StreamName::new(trimmed.strip_suffix(b"/").unwrap_or(trimmed)).ok()
        };
        self.paths.iter().filter_map(name).collect()
    }

    fn origin(&self) -> String {
        let paths = self.paths.iter().map(|path| Escaped(path.as_os_str().as_bytes()).to_string());
        paths.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join("\n")
    }

    fn is_made_while_read(&self) -> bool {
        false
    }

    fn way_back(&self, _: &str) -> WayBack {
        WayBack::Files
    }

    fn connect_target(&self, _: TargetOptions, _: &Machine) -> Result<Box<dyn RestoreTarget>, Error> {
        Err(no_service(SourceKind::Files))
    }
}

/// The files and folders of varu itself, which stay out of a backup. Those that lie below the paths are named.
fn own_files(files: &FilesOptions, machine: &Machine, progress: &dyn Progress) -> Vec<PathBuf> {
    let repository: Option<PathBuf> = match machine.place() {
        Ok(Location::Local(path)) => Some(path),
        Ok(Location::Sftp(_)) | Err(_) => None,
    };
    let keys = machine.keyring().key_files().into_iter().map(|path| (path, "a key"));
    let folders = [(repository, "the repository"), (machine.state.clone(), "the state of varu")];
    let folders = folders.into_iter().filter_map(|(path, what)| Some((path?, what)));
    let real = |path: &Path| path.canonicalize().ok();
    let mut own = Vec::new();
    for (path, what) in folders.chain(keys).filter_map(|(path, what)| Some((real(&path)?, what))) {
        if files.paths.iter().filter_map(|given| real(given)).any(|given| path != given && path.starts_with(given)) {
            progress.note(&format!("left out: {}, {what}", path.display()));
        }
        own.push(path);
    }
    own
}

/// Looks whether a path can be read.
fn check_path(path: &Path) -> Finding {
    let readable = std::fs::symlink_metadata(path).and_then(|about| match about.file_type() {
        kind if kind.is_dir() => std::fs::read_dir(path).map(|_| "a folder that can be read"),
        kind if kind.is_file() => File::open(path).map(|_| "a file that can be read"),
        _ => Ok("neither a file nor a folder; it is stored as what it is"),
    });
    match readable {
        Ok(what) => Finding::Good(format!("{} is {what}", path.display())),
        Err(error) => Finding::Bad(format!("{} can't be read: {error}", path.display())),
    }
}
