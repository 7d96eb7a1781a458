//! Listings of a repository's folders.

use std::convert::Infallible;

use super::{Error, Result};
use crate::remote::many::{CallWindow, in_order};
use crate::remote::{self, ErrorKind, Folder, Listed, ObjectName, Remote};

/// The most things in a folder that no repository has. A few are somebody's notes; more are another folder's content, and
/// whoever put them there doesn't know that this is a repository.
const MOST_STRANGE: u64 = 1000;

/// What [`Remote::list`] gives for a folder.
pub type FolderListing = remote::Result<(Vec<Listed>, u64)>;

/// Lists folders beside each other, which takes as long as one of them on a far host. The order in which they are listed isn't
/// defined.
pub fn list_folders<const N: usize>(remote: &dyn Remote, folders: [Folder; N]) -> [FolderListing; N] {
    let mut listings = Vec::with_capacity(N);
    let list = |folder: &Folder| remote.list(*folder);
    let take = |_: &Folder, listing| {
        listings.push(listing);
        Ok::<_, Infallible>(())
    };
    let Ok(()) = in_order(CallWindow::of(remote), &folders, |_| 0, list, take);
    let mut listings = listings.into_iter();
    folders.map(|folder| listings.next().unwrap_or_else(|| remote.list(folder)))
}

/// The objects of a folder; none where it is missing.
pub fn list_or_none(remote: &dyn Remote, folder: Folder) -> Result<Vec<Listed>> {
    listed_or_none(remote.list(folder))
}

/// The objects of a folder that was listed; none where it is missing.
pub(super) fn listed_or_none(listing: FolderListing) -> Result<Vec<Listed>> {
    match listing {
        Ok((listed, _)) => Ok(listed),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The objects of a folder whose names `read` can parse, and the results.
///
/// # Errors
///
/// Refused as a usage error where most of a folder can't be a repository's.
pub fn listed<T>(
    remote: &dyn Remote,
    folder: Folder,
    read: impl Fn(&ObjectName) -> Option<T>,
) -> Result<Vec<(Listed, T)>> {
    known_among(remote, folder, remote.list(folder), read)
}

/// The same of a folder that was listed.
pub(super) fn known_among<T>(
    remote: &dyn Remote,
    folder: Folder,
    listing: FolderListing,
    read: impl Fn(&ObjectName) -> Option<T>,
) -> Result<Vec<(Listed, T)>> {
    let (objects, mut strange) = listing?;
    let mut known = Vec::with_capacity(objects.len());
    for object in objects {
        match read(&object.name) {
            Some(said) => known.push((object, said)),
            None => strange += 1,
        }
    }
    match strange {
        0..=MOST_STRANGE => Ok(known),
        _ => Err(Error::Usage(format!(
            "{}/{} holds {strange} things that no repository has; check the path, and if it is right, look there what writes \
             into it and take them away",
            remote.place().trim_end_matches('/'),
            folder.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::memory::MemoryRemote;

    #[test]
    fn a_few_strange_names_are_passed_over_and_many_are_refused() {
        let remote = MemoryRemote::with_folders();
        remote.put(Folder::Packs, "known", "x");
        let known = |name: &ObjectName| (name.name() == "known").then_some(());
        for number in 0..MOST_STRANGE {
            remote.put(Folder::Packs, format!("photo-{number}.jpg"), "x");
        }
        assert_eq!(listed(&remote, Folder::Packs, known).unwrap().len(), 1);
        remote.put(Folder::Packs, "one.more", "x");
        let error = listed(&remote, Folder::Packs, known).unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("/packs holds 1001 things"), "{error}");
    }
}
