//! The files that give accounts their numbers, and how a restored machine's accounts join those of the machine that is
//! there.
//!
//! Accounts that are there keep their lines and numbers: files of this machine belong to them. Accounts that are missing are
//! added, with their own number where it is free and another one where it isn't; owners are set by name afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use crate::disk::NewFile;
use crate::entry::Escaped;

/// A file of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountFile {
    /// Users.
    Passwd,
    /// Groups.
    Group,
    /// Users' passwords.
    Shadow,
    /// Groups' passwords.
    Gshadow,
    /// Numbers that users may give to users of their containers.
    Subuid,
    /// As that, for groups.
    Subgid,
}

impl AccountFile {
    /// All of them.
    pub const ALL: [AccountFile; 6] = [
        AccountFile::Passwd,
        AccountFile::Group,
        AccountFile::Shadow,
        AccountFile::Gshadow,
        AccountFile::Subuid,
        AccountFile::Subgid,
    ];

    /// Its path, without the first slash.
    pub fn path(self) -> &'static str {
        match self {
            AccountFile::Passwd => "etc/passwd",
            AccountFile::Group => "etc/group",
            AccountFile::Shadow => "etc/shadow",
            AccountFile::Gshadow => "etc/gshadow",
            AccountFile::Subuid => "etc/subuid",
            AccountFile::Subgid => "etc/subgid",
        }
    }

    /// The file of that path.
    pub fn at(path: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.path().as_bytes() == path)
    }

    /// The mode of one that is made.
    fn mode(self) -> u32 {
        match self {
            AccountFile::Shadow | AccountFile::Gshadow => 0o600,
            _ => 0o644,
        }
    }
}

/// The contents of a machine's files of accounts. One that is missing isn't in it. Holds hashes of passwords, so it can't be
/// shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Accounts(BTreeMap<AccountFile, Vec<u8>>);

/// Result of adding accounts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AccountsAdded {
    /// The users and groups that were added, for people: `"appx"`, `"appx (group)"`.
    pub names: Vec<String>,
    /// Those of them whose number was taken: `"appx: 713 in place of 712"`.
    pub renumbered: Vec<String>,
}

impl Accounts {
    /// Puts in a file's content.
    pub fn insert(&mut self, file: AccountFile, content: Vec<u8>) {
        self.0.insert(file, content);
    }

    /// Whether no file is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the files below `root`.
    ///
    /// # Errors
    /// Where one that is there can't be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut accounts = Self::default();
        for file in AccountFile::ALL {
            match fs::read(root.join(file.path())) {
                Ok(content) => accounts.insert(file, content),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(accounts)
    }

    /// Writes those files below `root` that differ from `before`. Each keeps its owner and mode.
    ///
    /// # Errors
    /// Where one can't be written; that file is then unchanged.
    pub fn write(&self, before: &Accounts, root: &Path) -> io::Result<()> {
        for (file, content) in self.0.iter().filter(|(file, content)| before.0.get(file) != Some(content)) {
            replace(&root.join(file.path()), content, file.mode())?;
        }
        Ok(())
    }

    /// The numbers of users or groups, by name; None if the file is missing.
    pub fn numbers(&self, file: AccountFile) -> Option<HashMap<Vec<u8>, u32>> {
        self.0.get(&file).map(|content| numbers(&lines(content)))
    }

    fn lines(&self, file: AccountFile) -> Vec<AccountLine> {
        self.0.get(&file).map(|content| lines(content)).unwrap_or_default()
    }

    /// Adds to these accounts those of `restored` that are missing.
    pub fn merged(&self, restored: &Accounts) -> (Accounts, AccountsAdded) {
        let mut merged = self.clone();
        let mut added = AccountsAdded::default();
        let (groups, group_numbers) = joined(self, restored, AccountFile::Group, &mut added);
        let (mut users, _) = joined(self, restored, AccountFile::Passwd, &mut added);
        let here = self.lines(AccountFile::Passwd).len();
        for user in users.iter_mut().skip(here) {
            // The main group, by its number here.
            if let Some(number) = user.number(GROUP_OF_USER).and_then(|number| group_numbers.get(&number)) {
                user.set(GROUP_OF_USER, number.to_string());
            }
        }
        let mut groups = groups;
        join_members(&mut groups, &restored.lines(AccountFile::Group), MEMBERS);
        let mut put = |file: AccountFile, lines: Vec<AccountLine>| {
            if restored.0.contains_key(&file) {
                merged.insert(file, text(&lines));
            }
        };
        put(AccountFile::Group, groups);
        put(AccountFile::Passwd, users);
        for file in [AccountFile::Shadow, AccountFile::Gshadow] {
            let mut lines = self.lines(file);
            // An account that is here never gets a password from there.
            let accounts = if file == AccountFile::Shadow { AccountFile::Passwd } else { AccountFile::Group };
            let names = lines.iter().map(|line| line.name().to_vec());
            let names = names.chain(self.lines(accounts).into_iter().map(|line| line.name().to_vec()));
            let known: BTreeSet<Vec<u8>> = names.collect();
            let theirs = restored.lines(file);
            if file == AccountFile::Gshadow {
                join_members(&mut lines, &theirs, MEMBERS);
            }
            lines.extend(theirs.into_iter().filter(|line| !known.contains(line.name())));
            put(file, lines);
        }
        for file in [AccountFile::Subuid, AccountFile::Subgid] {
            put(file, ranges(self.lines(file), restored.lines(file)));
        }
        (merged, added)
    }
}

/// The fields of `passwd` and `group` in which an account's number, a user's main group and a group's members are.
const NUMBER: usize = 2;
const GROUP_OF_USER: usize = 3;
const MEMBERS: usize = 3;

/// A line, in its fields.
#[derive(Clone)]
struct AccountLine(Vec<Vec<u8>>);

impl AccountLine {
    fn name(&self) -> &[u8] {
        &self.0[0]
    }

    fn number(&self, field: usize) -> Option<u32> {
        std::str::from_utf8(self.0.get(field)?).ok()?.parse().ok()
    }

    fn set(&mut self, field: usize, value: String) {
        if let Some(field) = self.0.get_mut(field) {
            *field = value.into_bytes();
        }
    }

    /// Whether it is an account, and not a comment or a reference to a directory service (`+::::::`).
    fn is_account(&self) -> bool {
        !matches!(self.name().first(), None | Some(b'+' | b'-' | b'#'))
    }
}

fn lines(content: &[u8]) -> Vec<AccountLine> {
    let lines = content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| AccountLine(line.split(|&byte| byte == b':').map(<[u8]>::to_vec).collect())).collect()
}

fn text(lines: &[AccountLine]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.0.join(&b':'), vec![b'\n']].concat()).collect()
}

fn numbers(lines: &[AccountLine]) -> HashMap<Vec<u8>, u32> {
    let accounts = lines.iter().filter(|line| line.is_account());
    // The first line of a name counts, as for the system.
    accounts.rev().filter_map(|line| Some((line.name().to_vec(), line.number(NUMBER)?))).collect()
}

/// The accounts of `here` and, after them, those that only `restored` has; and which number here an account of
/// `restored` has, by its number there.
fn joined(
    here: &Accounts,
    restored: &Accounts,
    file: AccountFile,
    added: &mut AccountsAdded,
) -> (Vec<AccountLine>, HashMap<u32, u32>) {
    let (mut lines, theirs) = (here.lines(file), restored.lines(file));
    let known = numbers(&lines);
    let mut taken: BTreeSet<u32> = known.values().copied().collect();
    let wanted: BTreeSet<u32> = theirs.iter().filter_map(|line| line.number(NUMBER)).collect();
    let mut here_by_there = HashMap::new();
    for line in theirs.iter().filter(|line| line.is_account()) {
        if let (Some(there), Some(&here)) = (line.number(NUMBER), known.get(line.name())) {
            here_by_there.entry(there).or_insert(here);
        }
    }
    let mut names: BTreeSet<Vec<u8>> = lines.iter().map(|line| line.name().to_vec()).collect();
    for mut line in theirs.into_iter().filter(AccountLine::is_account) {
        let Some(there) = line.number(NUMBER) else { continue };
        if !names.insert(line.name().to_vec()) {
            continue;
        }
        // Two names of one number are one account, here as there.
        let number = *here_by_there.entry(there).or_insert_with(|| match taken.contains(&there) {
            false => there,
            true => free(there, |number| !taken.contains(&number) && !wanted.contains(&number)),
        });
        taken.insert(number);
        line.set(NUMBER, number.to_string());
        let kind = if file == AccountFile::Group { " (group)" } else { "" };
        let name = format!("{}{kind}", Escaped(line.name()));
        if number != there {
            added.renumbered.push(format!("{name}: {number} in place of {there}"));
        }
        added.names.push(name);
        lines.push(line);
    }
    (lines, here_by_there)
}

/// A free number of the same kind, a system account's or a person's; the number itself where there is none.
fn free(number: u32, is_free: impl Fn(u32) -> bool) -> u32 {
    let found = match number {
        0..1000 => (100..1000).rev().find(|&number| is_free(number)),
        _ => (1000..60_000).find(|&number| is_free(number)),
    };
    found.or_else(|| (60_000..65_000).find(|&number| is_free(number))).unwrap_or(number)
}

/// Adds members to groups that are there.
fn join_members(groups: &mut [AccountLine], restored: &[AccountLine], field: usize) {
    for group in groups.iter_mut().filter(|group| group.is_account()) {
        let Some(theirs) = restored.iter().find(|line| line.name() == group.name()) else { continue };
        let members = |line: &AccountLine| -> Vec<Vec<u8>> {
            let field = line.0.get(field).map(Vec::as_slice).unwrap_or_default();
            field.split(|&byte| byte == b',').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let mut all = members(group);
        for member in members(theirs) {
            if !all.contains(&member) {
                all.push(member);
            }
        }
        if let Some(field) = group.0.get_mut(field) {
            *field = all.join(&b',');
        }
    }
}

/// The ranges of both, those of users who have none here moved to where nothing else is.
fn ranges(mut here: Vec<AccountLine>, restored: Vec<AccountLine>) -> Vec<AccountLine> {
    let range = |line: &AccountLine| Some((u64::from(line.number(1)?), u64::from(line.number(2)?)));
    let known: BTreeSet<Vec<u8>> = here.iter().map(|line| line.name().to_vec()).collect();
    for mut line in restored.into_iter().filter(|line| !known.contains(line.name())) {
        let Some((start, count)) = range(&line) else { continue };
        let taken: Vec<(u64, u64)> = here.iter().filter_map(range).collect();
        let overlaps = taken.iter().any(|&(first, length)| start < first + length && first < start + count);
        if overlaps {
            let end = taken.iter().map(|(first, length)| first + length).max().unwrap_or(start);
            line.set(1, end.to_string());
        }
        here.push(line);
    }
    here
}

/// Replaces a file by `content`, atomically.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let there = fs::metadata(path).ok();
    let mode = there.as_ref().map_or(mode, |there| there.mode() & 0o7777);
    // Nobody else reads it before it has its owner.
    let new = NewFile::beside(path, 0o600)?;
    new.as_file().write_all(content)?;
    if let Some(there) = &there {
        fchown(new.as_file(), Some(there.uid()), Some(there.gid()))?;
    }
    new.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    match new.replace() {
        // A file that is mounted, as in a container, can only be written itself.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => fs::write(path, content),
        replaced => replaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(files: &[(AccountFile, &str)]) -> Accounts {
        Accounts(files.iter().map(|&(file, text)| (file, text.as_bytes().to_vec())).collect())
    }

    fn shown(accounts: &Accounts, file: AccountFile) -> String {
        String::from_utf8(accounts.0[&file].clone()).unwrap()
    }

    #[test]
    fn accounts_are_added_and_those_that_are_there_keep_their_numbers() {
        use AccountFile::{Group, Gshadow, Passwd, Shadow};
        let here = accounts(&[
            (Passwd, "root:x:0:0::/root:/bin/sh\nmysql:x:1444:1444::/:/bin/false\nadmin:x:1000:1000::/:/bin/sh\n"),
            (Group, "root:x:0:\nmysql:x:1444:\nadmin:x:1000:\nadm:x:4:admin\n"),
            (Shadow, "root:here:1::::::\nmysql:!:1::::::\nadmin:h:1::::::\n"),
            (Gshadow, "adm:*::admin\n"),
        ]);
        let lost = accounts(&[
            (
                Passwd,
                "root:x:0:0::/root:/bin/zsh\nmysql:x:102:104::/:/bin/false\nappx:x:1444:104::/:/bin/sh\n\
                 jack:x:1000:1000::/home/jack:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nfree:x:712:712::/:/bin/sh\n+::::::\n",
            ),
            (Group, "root:x:0:\nmysql:x:104:appx\njack:x:1000:\nadm:x:4:jack\nfree:x:712:\n"),
            (Shadow, "root:lost:1::::::\nappx:pw:1::::::\njack:j:1::::::\n"),
            (Gshadow, "adm:*::jack\njack:!::\n"),
        ]);
        let (merged, added) = here.merged(&lost);
        let passwd = shown(&merged, Passwd);
        assert!(passwd.starts_with(&shown(&here, Passwd)), "{passwd}");
        // appx is in the group mysql, by the number that it has here; its own number is mysql's here.
        assert!(passwd.contains("\nappx:x:1001:1444::/:/bin/sh\n"), "{passwd}");
        assert!(passwd.contains("\njack:x:1002:1001::/home/jack:/bin/sh\n"), "{passwd}");
        assert!(passwd.contains("\ntoor:x:0:0:") && passwd.contains("\nfree:x:712:712:") && !passwd.contains('+'));
        let group = shown(&merged, Group);
        assert!(group.contains("\nmysql:x:1444:appx\n") && group.contains("\nadm:x:4:admin,jack\n"), "{group}");
        let shadow = shown(&merged, Shadow);
        assert!(shadow.contains("root:here:") && !shadow.contains("lost") && shadow.contains("\nappx:pw:"), "{shadow}");
        assert!(shown(&merged, Gshadow).contains("adm:*::admin,jack\njack:!::\n"));
        assert_eq!(added.renumbered.len(), 3, "{added:?}");
        assert!(added.renumbered.contains(&"appx: 1001 in place of 1444".to_owned()), "{added:?}");
        assert_eq!(merged.merged(&lost).1, AccountsAdded::default(), "a second time there is nothing to add");
        assert_eq!(merged.numbers(Passwd).unwrap()[&b"appx"[..]], 1001);
    }

    #[test]
    fn a_file_that_was_not_restored_stays_as_it_is() {
        use AccountFile::{Passwd, Shadow, Subuid};
        let here = accounts(&[(Passwd, "a:x:1:1:::\n"), (Shadow, "a:!::::::\n"), (Subuid, "a:100000:65536\n")]);
        let lost = accounts(&[(Passwd, "b:x:1:1:::\n"), (Subuid, "b:100000:65536\nc:900000:10\n")]);
        let (merged, _) = here.merged(&lost);
        assert_eq!(shown(&merged, Shadow), "a:!::::::\n");
        assert_eq!(shown(&merged, Subuid), "a:100000:65536\nb:165536:65536\nc:900000:10\n");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        here.write(&Accounts::default(), folder.path()).unwrap();
        fs::set_permissions(folder.path().join("etc/passwd"), std::os::unix::fs::PermissionsExt::from_mode(0o640))
            .unwrap();
        merged.write(&here, folder.path()).unwrap();
        assert!(Accounts::read(folder.path()).unwrap() == merged);
        assert_eq!(fs::metadata(folder.path().join("etc/passwd")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(folder.path().join("etc/shadow")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("etc")).unwrap().count(), 3);
    }

    #[test]
    fn nothing_that_is_written_there_makes_it_fail() {
        use AccountFile::{Group, Passwd, Subuid};
        let odd = accounts(&[
            (Passwd, ":::\na\nb:x:99999999999:1\nc:x:-1:0\n#x:x:5:5\n\n::\n"),
            (Group, "a\nb:x\n"),
            (Subuid, "a:4294967295:4294967295\nb:4294967295:4294967295\n"),
        ]);
        let (merged, _) = odd.merged(&odd);
        let _ = Accounts::default().merged(&merged).0.merged(&odd);
    }
}
