//! Listings of a repository's folders.

use super::{Error, Result};
use crate::remote::{ErrorKind, Folder, Listed, ObjectName, Remote};

/// The most things in a folder that no repository has. A few are somebody's notes; more are another folder's content, and
/// whoever put them there doesn't know that this is a repository.
const MOST_STRANGE: u64 = 1000;

/// The objects of a folder; none where it is missing.
pub fn list_or_none(remote: &dyn Remote, folder: Folder) -> Result<Vec<Listed>> {
    match remote.list(folder) {
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
    let (objects, mut strange) = remote.list(folder)?;
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
