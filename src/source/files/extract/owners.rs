//! The numbers of owners.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{Group, User, geteuid};

use crate::entry::Metadata;
use crate::source::files::accounts::{AccountFile, Accounts};

/// Numbers by name.
type Numbers = HashMap<Vec<u8>, u32>;

/// How owners get their numbers.
#[derive(Debug, Clone, Default)]
pub enum OwnerMapping {
    /// A name that this machine knows takes precedence over the stored id.
    #[default]
    Here,
    /// The numbers that were stored, whatever the names.
    Numeric,
    /// The names of the system that is restored into, which isn't always the one that runs.
    Of(Arc<AccountNames>),
}

/// Users and groups of a system.
#[derive(Debug, Clone, Default)]
pub struct AccountNames {
    /// None if the machine that runs is asked instead.
    users: Option<Numbers>,
    groups: Option<Numbers>,
    /// Whether the machine that runs also knows those names: it may have others from a directory service.
    is_here: bool,
}

impl OwnerMapping {
    /// The names in the files of accounts. `is_here` means that they are those of the running machine.
    pub fn of(accounts: &Accounts, is_here: bool) -> Self {
        let (users, groups) = (accounts.numbers(AccountFile::Passwd), accounts.numbers(AccountFile::Group));
        match (&users, &groups) {
            (None, None) => Self::Here,
            _ => Self::Of(Arc::new(AccountNames { users, groups, is_here })),
        }
    }

    /// The account names of the system below `root`, if it has some of its own. Files that another user could have put
    /// there are not trusted: they could give away restored files.
    pub fn below(root: &Path) -> Self {
        let ours = |path: &Path| {
            let owner = |uid| uid == 0 || uid == geteuid().as_raw();
            fs::symlink_metadata(path)
                .is_ok_and(|there| !there.is_symlink() && owner(there.uid()) && there.mode() & 0o022 == 0)
        };
        if !ours(root) || !ours(&root.join("etc")) {
            return Self::Here;
        }
        let mut accounts = Accounts::default();
        for file in [AccountFile::Passwd, AccountFile::Group] {
            let path = root.join(file.path());
            if ours(&path)
                && let Ok(content) = fs::read(&path)
            {
                accounts.insert(file, content);
            }
        }
        Self::of(&accounts, false)
    }
}

/// A cache of the ids of names.
pub(super) struct OwnerNumbers {
    owners: OwnerMapping,
    users: Mutex<HashMap<Vec<u8>, Option<u32>>>,
    groups: Mutex<HashMap<Vec<u8>, Option<u32>>>,
}

impl OwnerNumbers {
    pub(super) fn new(owners: OwnerMapping) -> Self {
        Self { owners, users: Mutex::default(), groups: Mutex::default() }
    }

    /// The numbers that an entry's owner and group get.
    pub(super) fn of(&self, metadata: &Metadata) -> (u32, u32) {
        let user = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        let group = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        let names = match &self.owners {
            OwnerMapping::Numeric => return (metadata.uid, metadata.gid),
            OwnerMapping::Here => None,
            OwnerMapping::Of(names) => Some(names),
        };
        let is_here = names.is_none_or(|names| names.is_here);
        let users = names.and_then(|names| names.users.as_ref());
        let groups = names.and_then(|names| names.groups.as_ref());
        (
            number(users, is_here || users.is_none(), &self.users, &metadata.user, metadata.uid, user),
            number(groups, is_here || groups.is_none(), &self.groups, &metadata.group, metadata.gid, group),
        )
    }
}

/// The number of an owner: by name where the name is known, else as it was.
fn number(
    table: Option<&Numbers>,
    asks: bool,
    known: &Mutex<HashMap<Vec<u8>, Option<u32>>>,
    name: &[u8],
    number: u32,
    ask: impl FnOnce(&str) -> Option<u32>,
) -> u32 {
    if name.is_empty() {
        return number;
    }
    if let Some(&number) = table.and_then(|table| table.get(name)) {
        return number;
    }
    if !asks {
        return number;
    }
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= 4096 {
        known.clear();
    }
    let ask = || std::str::from_utf8(name).ok().and_then(ask);
    known.entry(name.to_vec()).or_insert_with(ask).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn metadata(user: &str) -> Metadata {
        Metadata { uid: 712, gid: 712, user: user.into(), group: "root".into(), ..Metadata::default() }
    }

    #[test]
    fn names_go_before_numbers_unless_numbers_are_asked_for() {
        let of = |owners| OwnerNumbers::new(owners).of(&metadata("root"));
        assert_eq!(of(OwnerMapping::Here), (0, 0));
        assert_eq!(of(OwnerMapping::Numeric), (712, 712));
    }

    #[test]
    fn names_are_those_of_the_system_that_is_restored_into() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), "redisx:x:713:713::/:/bin/sh\n").unwrap();
        let of = |user: &str| OwnerNumbers::new(OwnerMapping::below(root.path())).of(&metadata(user));
        assert_eq!(of("redisx"), (713, 0), "there is no group file there, so this machine is asked");
        assert_eq!(of("root").0, 712, "the machine that runs isn't asked for a name that isn't there");
        fs::set_permissions(root.path().join("etc"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(of("redisx").0, 712, "a file that others could have put there");
    }
}
