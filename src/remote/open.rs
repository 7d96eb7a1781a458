//! Opening the remote at a place.

use std::sync::Arc;

use super::local::LocalRemote;
use super::options::Options;
use super::place::Location;
use super::sftp::SftpRemote;
use super::{Remote, Result};

/// Opens the remote at `place`, which must be there. Its folders need not be, before [`Remote::create_folders`].
pub fn open(place: &Location, options: &Options) -> Result<Arc<dyn Remote>> {
    Ok(match place {
        Location::Local(path) => Arc::new(LocalRemote::open(path)?),
        Location::Sftp(place) => Arc::new(SftpRemote::open(place, options)?),
    })
}

/// Makes the folder at `place` and those above it where they are missing, opens it, and makes the remote's folders in it.
pub fn create(place: &Location, options: &Options) -> Result<Arc<dyn Remote>> {
    Ok(match place {
        Location::Local(path) => Arc::new(LocalRemote::create(path)?),
        Location::Sftp(place) => Arc::new(SftpRemote::create(place, options)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::ErrorKind;

    #[test]
    fn a_local_place_is_opened_and_created() {
        let base = tempfile::tempdir().unwrap();
        let place = Location::Local(base.path().join("vault"));
        assert_eq!(open(&place, &Options::default()).err().unwrap().kind, ErrorKind::NotFound);
        let created = create(&place, &Options::default()).unwrap();
        assert_eq!(open(&place, &Options::default()).unwrap().place(), created.place());
    }
}
