//! Restore of the configuration that was stored with a snapshot.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::request::RestoreJob;
use crate::error::{Error, Result};
use crate::index::SnapshotRow;
use crate::source::files::extract::Overwrite;
use crate::warning::Warning;

/// A configuration that was stored with a snapshot.
pub struct StoredConfiguration {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// Its text.
    pub text: Vec<u8>,
    /// What there is to know about the choice of the snapshot.
    pub warnings: Vec<Warning>,
}

impl RestoreJob<'_> {
    /// Reads the stored configuration of the snapshot that is meant.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is no snapshot, or none is stored with it.
    pub fn stored_configuration(&self) -> Result<StoredConfiguration> {
        let opened = self.open()?.find(None, &self.request.when)?;
        let body = opened.repository.index().body(&opened.snapshot.id)?;
        let text = body.map(|body| body.configuration).unwrap_or_default();
        if text.is_empty() {
            return Err(Error::Usage(format!(
                "snapshot {} of {} was made without a configuration file, so none is stored with it",
                opened.snapshot.id.short(),
                opened.snapshot.header.set
            )));
        }
        Ok(StoredConfiguration { snapshot: opened.snapshot, text, warnings: opened.warnings })
    }

    /// Writes a stored configuration as `varu.toml` below `folder`, and says where it is then.
    ///
    /// # Errors
    ///
    /// Where it can't be written, or is there already.
    pub fn write_configuration(&self, folder: &Path, text: &[u8]) -> Result<PathBuf> {
        let path = folder.join("varu.toml");
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        match self.request.files.overwrite {
            Overwrite::Refuse | Overwrite::Never => options.create_new(true),
            Overwrite::Changed | Overwrite::Always => options.create(true).truncate(true),
        };
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| options.open(&path))
            .and_then(|mut file| file.write_all(text));
        written.map_err(|error| Error::Failed(format!("writing {} failed: {error}", path.display())))?;
        Ok(path)
    }
}
