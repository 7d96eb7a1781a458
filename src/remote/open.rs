//! Opening the remote at a place.

use std::sync::Arc;

use super::local::LocalRemote;
use super::options::Options;
use super::place::Place;
use super::sftp::SftpRemote;
use super::{Remote, Result};

/// Opens the remote at `place`, which must be there. Its folders need not be, before [`Remote::create_folders`].
pub fn open(place: &Place, options: &Options) -> Result<Arc<dyn Remote>> {
    Ok(match place {
        Place::Local(path) => Arc::new(LocalRemote::open(path)?),
        Place::Sftp(place) => Arc::new(SftpRemote::open(place, options)?),
    })
}

/// Makes the folder at `place` and those above it where they are missing, opens it, and makes the remote's folders in it.
pub fn create(place: &Place, options: &Options) -> Result<Arc<dyn Remote>> {
    Ok(match place {
        Place::Local(path) => Arc::new(LocalRemote::create(path)?),
        Place::Sftp(place) => Arc::new(SftpRemote::create(place, options)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::ErrorKind;

    #[test]
    fn a_local_place_is_opened_and_created() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::Local(base.path().join("vault"));
        assert_eq!(open(&place, &Options::default()).err().unwrap().kind, ErrorKind::NotFound);
        let created = create(&place, &Options::default()).unwrap();
        assert_eq!(open(&place, &Options::default()).unwrap().place(), created.place());
    }
}
