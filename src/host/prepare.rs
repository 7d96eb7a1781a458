//! `host prepare`: an account that can add objects and nothing else.
//!
//! Everything may exist already: whatever is correct is left alone, so it can be run again, after an update or a manual
//! change. An account is never given silently to another machine, to another key, or to a machine that writes another
//! repository.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::User;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::accept::make_state;
use super::area::ADDABLE;
use super::checkpoints::InterruptibleCheckpoints;
use super::ledger::Ledger;
use super::owner::{AccountOwner, Fact, MachineId};
use super::sshd::{Access, Sshd, run};
use super::{Places, REPOSITORY, failed};
use crate::disk::replace;
use crate::error::{Error, Result};
use crate::id::RepositoryId;
use crate::progress::{Interrupt, Progress};
use crate::remote::Folder;
use crate::repository::Lock;
use crate::time::Clock;

/// The account to prepare.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The account.
    pub account: String,
    /// Another account, which may only read this one's objects; None prepares the account itself.
    pub reader: Option<String>,
    /// Files with the public keys that may log in.
    pub ssh_keys: Vec<PathBuf>,
    /// The machine whose account it is; None if not given.
    pub machine: Option<MachineId>,
    /// The repositories that this machine writes; none where it has no keys yet.
    pub repositories: Vec<RepositoryId>,
    /// Whether it replaces the machine and the keys that the account had, which are not let in any more.
    pub take_over: bool,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
    /// The folder with a file of public keys for each account.
    pub authorized_keys: PathBuf,
    /// The SSH server.
    pub sshd: Sshd,
    /// The name or address under which the machine reaches this host.
    pub address: String,
}

/// An account that was prepared.
#[derive(Debug)]
pub struct PreparedAccount {
    /// The repository's URL, as the machine names it.
    pub url: String,
    /// The host keys' fingerprints: kind and `SHA256:…`.
    pub host_keys: Vec<(String, String)>,
    /// Changes, each a sentence.
    pub changes: Vec<String>,
    /// Findings that need a person's attention.
    pub notes: Vec<String>,
}

/// Prepares an account: the user, its folders, its keys, and the SSH server's drop-in, which is kept only if the server
/// accepts it. The server isn't reloaded.
///
/// # Errors
///
/// Where a step fails, and [`Error::Refused`] if the account is somebody's login or another machine's.
pub fn prepare(
    options: &PrepareOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<PreparedAccount> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Refused("only root can prepare an account; run it with sudo".to_owned()));
    }
    let keys = read_keys(options)?;
    check_owner(options, &keys)?;
    let mut changes = Vec::new();
    let access = match &options.reader {
        None => {
            let group = make_account(&options.account, None, &mut changes)?;
            make_folders(&options.places, &options.account, group, &mut changes)?;
            let state = options.places.ledger(&options.account);
            make_state(&state)?;
            let _lock = Lock::take(&state, "host prepare", options.wait, progress, interrupt)?;
            // An account that nothing came from yet has an empty ledger, so that it isn't taken for one whose ledger is
            // lost.
            let mut ledger = Ledger::open(&state)?.ledger;
            if let Some(fact) = new_owner(options, ledger.owner(), &mut changes) {
                ledger.remember(fact, clock.now(), &InterruptibleCheckpoints(interrupt))?;
            }
            Access::Append
        }
        Some(reader) => {
            make_reader(reader, options, &mut changes)?;
            Access::Read
        }
    };
    write_keys(options, &keys, &mut changes)?;
    let chroot = options.places.chroot(&options.account);
    let found = options.sshd.allow(options.login(), access, &chroot, &options.authorized_keys, &mut changes)?;
    let port = if found.port == 22 { String::new() } else { format!(":{}", found.port) };
    let address = match options.address.contains(':') {
        true => format!("[{}]", options.address),
        false => options.address.clone(),
    };
    let url = format!("sftp://{}@{address}{port}/{REPOSITORY}", options.login());
    Ok(PreparedAccount { url, host_keys: found.host_keys, changes, notes: found.notes })
}

/// Refuses to let a machine or a key into another's account.
fn check_owner(options: &PrepareOptions, keys: &[String]) -> Result<()> {
    if options.take_over {
        return match keys.is_empty() {
            false => Ok(()),
            true => Err(Error::Usage(
                "who takes an account over needs a key of its own; give its public half with --ssh-key FILE".to_owned(),
            )),
        };
    }
    let state = options.places.ledger(&options.account);
    let ledger = match state.join("ledger").exists() {
        true => Some(Ledger::read(&state)?),
        false => None,
    };
    let owner = ledger.as_ref().map(|ledger| ledger.owner().clone()).unwrap_or_default();
    let login = options.login();
    let path = options.authorized_keys.join(login);
    let known = key_lines(&read_if_there(&path)?);
    let new = keys.iter().any(|key| !known.iter().any(|known| known == key));
    let own = options.reader.is_none();
    let filled = ledger.is_some_and(|ledger| !ledger.entries().is_empty());
    let why = match (&owner.machine, &options.machine) {
        _ if own && owner.retired.is_some() => "it was retired".to_owned(),
        (Some(known), Some(machine)) if own && known != machine => {
            format!("it is that of the machine {known}, and this one is {machine}")
        }
        _ if own && !options.repositories.is_empty() && !follows(&owner, &options.repositories) => format!(
            "the backups in it are those of the repository {}, and this machine writes {}",
            listed(&owner.repositories),
            listed(&options.repositories)
        ),
        _ if new && !known.is_empty() => format!("{} lets in another key than this one", path.display()),
        // An emptied key file is how root locks a broken-into machine out: no key slips in again by a routine run.
        _ if new && own && filled => "there are backups in it, and no key is let in".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::Refused(format!(
        "the account {login} isn't given to another machine or key silently: {why}. Nothing was changed. A machine that takes the place of the one before, restored or with a new key: --take-over, which lets the keys of before in no more. Any other machine: choose another name for its account"
    )))
}

/// Whether a machine continues the backups of an account.
fn follows(owner: &AccountOwner, repositories: &[RepositoryId]) -> bool {
    owner.repositories.is_empty() || repositories.iter().any(|id| owner.repositories.contains(id))
}

fn listed<'a>(ids: impl IntoIterator<Item = &'a RepositoryId>) -> String {
    ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Facts that the ledger is to record, and doesn't yet.
fn new_owner(options: &PrepareOptions, owner: &AccountOwner, changes: &mut Vec<String>) -> Option<Fact> {
    let machine = match options.take_over {
        true => options.machine.clone(),
        false => options.machine.clone().or_else(|| owner.machine.clone()),
    };
    if machine == owner.machine && owner.retired.is_none() {
        return None;
    }
    changes.push(match &machine {
        Some(machine) => format!("the account {} is that of the machine {machine} now", options.account),
        None => format!("the account {} is no known machine's now", options.account),
    });
    Some(Fact::Machine(machine))
}

impl PrepareOptions {
    /// The account that logs in.
    fn login(&self) -> &str {
        self.reader.as_deref().unwrap_or(&self.account)
    }
}

/// This host's name, as it knows it itself.
pub fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The lines of the public keys that are to be added.
fn read_keys(options: &PrepareOptions) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for path in &options.ssh_keys {
        let text = fs::read_to_string(path).map_err(|error| failed("reading the public key", path, error))?;
        let before = keys.len();
        for line in key_lines(&text) {
            if !is_public_key(&line) {
                let path = path.display();
                return Err(Error::Usage(format!(
                    "{path} holds something else than public keys; name the file that ends with .pub"
                )));
            }
            keys.push(line);
        }
        if keys.len() == before {
            return Err(Error::Usage(format!("{} holds no public key", path.display())));
        }
    }
    let file = options.authorized_keys.join(options.login());
    match keys.is_empty() && !file.exists() {
        true => Err(Error::Usage(
            "no key is named that may log in; give the public half of the machine's SSH key with --ssh-key FILE"
                .to_owned(),
        )),
        false => Ok(keys),
    }
}

/// Whether a line is a public key without options.
fn is_public_key(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let known = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| kind.starts_with(start));
    known && key.len() > 40 && key.bytes().all(plain) && !line.chars().any(char::is_control)
}

/// Makes a user of the account's group, which may read its objects.
fn make_reader(reader: &str, options: &PrepareOptions, changes: &mut Vec<String>) -> Result<()> {
    let account = &options.account;
    if !options.places.chroot(account).join(REPOSITORY).is_dir() {
        return Err(Error::Usage(format!("{account} isn't prepared yet: run `varu host prepare {account}` first")));
    }
    let look = User::from_name(account).map_err(|error| failed("looking up", Path::new(account), error.into()))?;
    let Some(user) = look else { return Err(Error::Usage(format!("there is no account {account}"))) };
    let group = make_account(reader, Some(account), changes)?;
    match group == user.gid.as_raw() && reader != account {
        true => Ok(()),
        false => Err(Error::Refused(format!(
            "{reader} is there already and isn't of the group {account}; choose another name"
        ))),
    }
}

/// Makes the user, of a group of its own or of the named one, or checks the one that is there. Returns its group.
fn make_account(account: &str, group: Option<&str>, changes: &mut Vec<String>) -> Result<u32> {
    let look = || User::from_name(account).map_err(|error| failed("looking up", Path::new(account), error.into()));
    if let Some(user) = look()? {
        check_user(&user)?;
        // An existing account may be locked, and sshd refuses a locked one even with a key.
        if !has_no_password(account)? {
            run(Command::new("usermod").args(["--password", "*", account]))?;
            changes.push(format!("the account {account} was unlocked, without a password"));
        }
        return Ok(user.gid.as_raw());
    }
    let words = ["--system", "--no-create-home", "--home-dir", "/", "--shell", NO_SHELL, "--password", "*"];
    let group = group.map_or_else(|| vec!["--user-group"], |group| vec!["--gid", group]);
    run(Command::new("useradd").args(words).args(group).arg(account))?;
    changes.push(format!("the account {account} was made"));
    match look()? {
        Some(user) => Ok(user.gid.as_raw()),
        None => Err(Error::Failed(format!("useradd ended well, and there is no account {account}"))),
    }
}

/// The shell of an account without logins.
const NO_SHELL: &str = "/usr/sbin/nologin";

fn check_user(user: &User) -> Result<()> {
    let shell = user.shell.file_name().unwrap_or_default();
    match user.uid.is_root() || (shell != "nologin" && shell != "false") {
        false => Ok(()),
        true => Err(Error::Refused(format!(
            "the account {} is there already, and somebody can log in with it (its shell is {}); choose another name, or take \
             the shell away with `usermod --shell {NO_SHELL} {}`",
            user.name,
            user.shell.display(),
            user.name
        ))),
    }
}

/// Whether no password opens the account and it isn't locked: sshd lets nobody into a locked one, not even with a key.
fn has_no_password(account: &str) -> Result<bool> {
    let path = Path::new("/etc/shadow");
    let text = fs::read_to_string(path).map_err(|error| failed("reading", path, error))?;
    Ok(text.lines().any(|line| line.strip_prefix(account).is_some_and(|rest| rest.starts_with(":*:"))))
}

fn make_folders(places: &Places, account: &str, group: u32, changes: &mut Vec<String>) -> Result<()> {
    let chroot = places.chroot(account);
    fs::create_dir_all(&places.root).map_err(|error| failed("making the folder", &places.root, error))?;
    check_above(&places.root)?;
    let fail = |error: io::Error| failed("making the folders in", &chroot, error);
    let root = rustix::fs::open(&places.root, FOLDER, Mode::empty()).map_err(|error| fail(error.into()))?;
    let before = changes.len();
    let mut make = || -> io::Result<()> {
        let base = make_folder(&root, account, 0, 0o755, changes)?;
        let repository = make_folder(&base, REPOSITORY, 0, 0o755, changes)?;
        for folder in Folder::ALL {
            let before = changes.len();
            let folder = make_folder(&repository, folder.name(), group, ADDABLE, changes)?;
            if changes.len() > before {
                give_to_group(&folder, group)?;
            }
            rustix::fs::fsync(&folder)?;
        }
        Ok(rustix::fs::fsync(&repository)?)
    };
    make().map_err(fail)?;
    if changes.len() > before {
        changes.truncate(before);
        changes.push(format!("the folders in {} were made", chroot.display()));
    }
    Ok(())
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes a folder of root's with this group and mode, or gives it those.
fn make_folder(within: &OwnedFd, name: &str, group: u32, mode: u32, changes: &mut Vec<String>) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(within, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = rustix::fs::openat(within, name, FOLDER, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) != (0, group, mode) {
        rustix::fs::fchown(&folder, Some(Uid::ROOT), Some(Gid::from_raw(group)))?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode))?;
        changes.push(name.to_owned());
    }
    Ok(folder)
}

/// Lets the group read root's objects in a folder that was another's: an account that was made anew, or a folder of
/// another host.
fn give_to_group(folder: &OwnedFd, group: u32) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let stat = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && stat.st_uid == 0 && stat.st_gid != group {
            rustix::fs::chownat(
                folder,
                entry.file_name(),
                None,
                Some(Gid::from_raw(group)),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
    }
    Ok(())
}

/// sshd takes a chroot only where nobody but root can write to any folder above it.
fn check_above(root: &Path) -> Result<()> {
    let path = root.canonicalize().map_err(|error| failed("looking at", root, error))?;
    for folder in path.ancestors() {
        let metadata = fs::metadata(folder).map_err(|error| failed("looking at", folder, error))?;
        if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            let (folder, mode) = (folder.display(), metadata.mode() & 0o7777);
            return Err(Error::Refused(format!(
                "sshd wouldn't take {} as a chroot: others than root can write to {folder} (mode {mode:04o}, owner {}); \
                 name another folder with --root, or run `chown root {folder}; chmod go-w {folder}`",
                root.display(),
                metadata.uid()
            )));
        }
    }
    Ok(())
}

/// A file's text, empty where there is none.
fn read_if_there(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| failed("reading", path, error)),
    }
}

/// The lines of keys in a text that sshd reads.
fn key_lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(ToOwned::to_owned).collect()
}

/// Adds the keys that aren't in the account's file yet; who takes the account over takes the others out of it.
fn write_keys(options: &PrepareOptions, keys: &[String], changes: &mut Vec<String>) -> Result<()> {
    let folder = &options.authorized_keys;
    fs::create_dir_all(folder).map_err(|error| failed("making the folder", folder, error))?;
    open_the_way(folder, changes)?;
    let path = folder.join(options.login());
    let before = read_if_there(&path)?;
    let known = key_lines(&before);
    let gone = if options.take_over { known.iter().filter(|key| !keys.contains(key)).count() } else { 0 };
    let new = keys.iter().filter(|key| !known.contains(key)).count();
    if new + gone == 0 {
        return Ok(());
    }
    let stays = |line: &&str| gone == 0 || line.starts_with('#') || keys.iter().any(|key| key == line.trim());
    let mut text: String = before.lines().filter(stays).map(|line| format!("{line}\n")).collect();
    keys.iter().filter(|key| !known.contains(key)).for_each(|key| text += &format!("{key}\n"));
    replace(&path, text.as_bytes(), 0o644).map_err(|error| failed("writing", &path, error))?;
    let were = |count| if count == 1 { "1 key was".to_owned() } else { format!("{count} keys were") };
    if gone > 0 {
        changes.push(format!("{} taken out of {}", were(gone), path.display()));
    }
    if new > 0 {
        changes.push(format!("{} added to {}", were(new), path.display()));
    }
    Ok(())
}

/// sshd reads an account's keys as that account, so it must get through to them. Nothing in the folders is made readable.
fn open_the_way(folder: &Path, changes: &mut Vec<String>) -> Result<()> {
    for (above, folder) in folder.ancestors().enumerate() {
        let metadata = fs::metadata(folder).map_err(|error| failed("looking at", folder, error))?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o011 != 0o011 {
            // The folder itself and /etc/varu are ours; the folders above them aren't.
            if above > 1 {
                return Err(Error::Refused(format!(
                    "sshd reads an account's keys as that account, which can't get through {}; name another folder with \
                     --authorized-keys",
                    folder.display()
                )));
            }
            let opened = fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011));
            opened.map_err(|error| failed("changing the mode of", folder, error))?;
            changes.push(format!("{} may be entered, though not read, by all: sshd needs it", folder.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_told_from_other_things() {
        let key = format!("ssh-ed25519 {} vm1", "A".repeat(68));
        assert!(is_public_key(&key) && is_public_key(key.trim_end_matches(" vm1")));
        for bad in [
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "ssh-ed25519",
            "ssh-ed25519 short",
            &format!("command=\"sh\" {key}"),
            &format!("{key}\u{1b}[2J"),
        ] {
            assert!(!is_public_key(bad), "{bad}");
        }
    }
}
