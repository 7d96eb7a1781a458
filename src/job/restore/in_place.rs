//! Restore of files over the running system: what stays, whose accounts come, and what has to be read again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::request::RestoreJob;
use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::job::amount::counted;
use crate::job::machine::Machine;
use crate::job::open::OpenedSnapshot;
use crate::remote::place::Location;
use crate::restore::{Choice, read_small};
use crate::source::files::accounts::{AccountFile, Accounts, AccountsAdded};
use crate::source::files::extract::{Overwrite, OwnerMapping};
use crate::source::in_place::{Spared, Touched};

/// The most bytes of a file of accounts.
const ACCOUNTS_MAX: u64 = 64 << 20;

/// A restore over the system that runs.
pub struct InPlace {
    /// How owners get their numbers.
    pub owners: OwnerMapping,
    /// What stays.
    pub spared: Spared,
    added: AccountsAdded,
    touched: RefCell<Vec<Touched>>,
}

/// Whether a folder is that of the system that runs.
pub fn is_running(folder: &Path) -> bool {
    folder.canonicalize().is_ok_and(|folder| folder == Path::new("/"))
}

impl InPlace {
    /// Notes what this run uses, and adds the accounts of all snapshots that are restored to those of this machine: before the
    /// first file, because owners are set by name.
    pub fn prepare(job: &RestoreJob<'_>, snapshots: &[OpenedSnapshot]) -> Result<Self> {
        let options = &job.request.files;
        let mut spared = Spared { with_machine_files: options.with_machine_files, ..used(job.machine) };
        let (mut owners, mut added) = (OwnerMapping::Here, AccountsAdded::default());
        // What may not be overwritten isn't merged either.
        if !keeps_existing(options.overwrite) {
            let mut restored = Accounts::default();
            for snapshot in snapshots {
                read_accounts(&mut restored, job, snapshot)?;
            }
            if options.with_machine_files {
                owners = OwnerMapping::of(&restored, true);
            } else if !restored.is_empty()
                && let Some(here) = accounts_here()?
            {
                let merged;
                (merged, added) = here.merged(&restored);
                merged.write(&here, Path::new("/")).map_err(|error| failed("writing", &error))?;
                owners = OwnerMapping::of(&merged, true);
                spared.merged_accounts = true;
            }
        }
        if options.numeric_owner {
            owners = OwnerMapping::Numeric;
        }
        Ok(Self { owners, spared, added, touched: RefCell::default() })
    }

    /// Keeps what a restore left and touched.
    pub fn keep(&self, touched: Touched) {
        self.touched.borrow_mut().push(touched);
    }

    /// What wasn't written, with the reasons.
    pub fn stayed(&self) -> Vec<String> {
        self.touched.borrow().iter().flat_map(|touched| touched.stayed.iter().cloned()).collect()
    }

    /// After the last set: the service manager reads its units again. Returns what stayed, which accounts came and which
    /// services run with former settings, a line each.
    pub fn finish(&self) -> Vec<String> {
        let touched = self.touched.borrow();
        let mut lines = Vec::new();
        let stayed = self.stayed();
        if !stayed.is_empty() {
            lines.push(format!("{} stayed as they are here:", counted(stayed.len() as u64, "file")));
            lines.extend(stayed.iter().map(|line| format!("  {line}")));
            lines.push(
                "  varu restore SET --to DIR --path PATH fetches one of them beside; --with-machine-files restores those that \
                 belong to a machine"
                    .to_owned(),
            );
        }
        if !self.added.names.is_empty() {
            lines.push(format!("accounts were added: {}", self.added.names.join(", ")));
        }
        let renumbered = self.added.renumbered.iter();
        lines.extend(renumbered.map(|line| format!("  the number was taken here: {line}; owners are set by name")));
        if !Path::new("/run/systemd/system").is_dir() {
            return lines;
        }
        if touched.iter().any(|touched| touched.units) {
            lines.push(match systemctl(&["daemon-reload"]) {
                Ok(_) => "systemd has read its units again".to_owned(),
                Err(why) => format!("systemd could not read its units again: {why}; run systemctl daemon-reload"),
            });
        }
        let settings: BTreeSet<String> = touched.iter().flat_map(|touched| touched.settings.iter().cloned()).collect();
        let running = systemctl(&["show", "--property=Names", "--state=running", "*.service"]).unwrap_or_default();
        let services = services(&running, &settings);
        if !services.is_empty() {
            lines.push(format!(
                "these services run with what their settings were before: systemctl restart {}",
                services.join(" ")
            ));
        }
        lines
    }
}

/// Whether files that are there already stay.
fn keeps_existing(overwrite: Overwrite) -> bool {
    match overwrite {
        Overwrite::Refuse | Overwrite::Never => true,
        Overwrite::Changed | Overwrite::Always => false,
    }
}

/// The owners' numbers in another system than the one that runs, which is restored into `folder`: those of its accounts as they
/// will be.
pub fn owners_below(folder: &Path, job: &RestoreJob<'_>, snapshot: &OpenedSnapshot) -> Result<OwnerMapping> {
    let options = &job.request.files;
    if options.numeric_owner {
        return Ok(OwnerMapping::Numeric);
    }
    let stays =
        |file: AccountFile| keeps_existing(options.overwrite) && fs::symlink_metadata(folder.join(file.path())).is_ok();
    if options.strip_components == 0 && !stays(AccountFile::Passwd) && !stays(AccountFile::Group) {
        let mut restored = Accounts::default();
        read_accounts(&mut restored, job, snapshot)?;
        if restored.numbers(AccountFile::Passwd).is_some() {
            return Ok(OwnerMapping::of(&restored, false));
        }
    }
    Ok(OwnerMapping::below(folder))
}

/// Reads the files of accounts that are restored from a snapshot.
fn read_accounts(into: &mut Accounts, job: &RestoreJob<'_>, opened: &OpenedSnapshot) -> Result<()> {
    let selection = job.request.parts.selection()?;
    let takes = |entry: &Entry| {
        entry.kind == Kind::File && AccountFile::at(entry.name.as_bytes()).is_some() && selection.takes(entry)
    };
    let choice =
        Choice { takes: &takes, starts: Some(AccountFile::ALL.map(|file| file.path().as_bytes().to_vec()).to_vec()) };
    let (repository, snapshot) = (&opened.repository, &opened.snapshot);
    for (name, content) in read_small(repository, snapshot, &choice, ACCOUNTS_MAX, &job.machine.interrupt)? {
        if let Some(file) = AccountFile::at(name.as_bytes()) {
            into.insert(file, content);
        }
    }
    Ok(())
}

/// This machine's accounts; None where they can't be read, so that they can't be changed either.
fn accounts_here() -> Result<Option<Accounts>> {
    match Accounts::read(Path::new("/")) {
        Ok(accounts) => Ok(Some(accounts)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(failed("reading", &error)),
    }
}

fn failed(tried: &str, error: &io::Error) -> Error {
    Error::Failed(format!("{tried} the accounts of this machine (/etc/passwd and its like) failed: {error}"))
}

/// The files and folders that this run itself uses, which are not overwritten.
fn used(machine: &Machine) -> Spared {
    let configured = &machine.configuration.repository;
    let named = [
        machine.configuration_file.as_deref(),
        machine.identity.as_deref(),
        machine.writer_key.as_deref(),
        configured.writer_key.as_deref(),
        configured.identity.as_deref(),
        configured.ssh_key.as_deref(),
        configured.known_hosts.as_deref(),
        configured.ssh_config.as_deref(),
    ];
    let mut files: Vec<PathBuf> = named.into_iter().flatten().map(Path::to_owned).collect();
    files.extend(machine.writer_keys());
    if let Some(key) = &configured.ssh_key {
        let mut public = key.clone().into_os_string();
        public.push(".pub");
        files.push(PathBuf::from(public));
    }
    let mut folders: Vec<PathBuf> = machine.state().ok().map(Path::to_owned).into_iter().collect();
    let mut settings: Vec<PathBuf> = machine.keys().ok().map(Path::to_owned).into_iter().collect();
    match machine.place() {
        Ok(Location::Local(path)) => folders.push(path),
        // ssh's own keys and settings, and those by which somebody is logged in here.
        _ => settings.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".ssh"))),
    }
    let with_real = |paths: Vec<PathBuf>| -> Vec<PathBuf> {
        let absolute = paths.into_iter().filter_map(|path| std::path::absolute(path).ok());
        absolute.flat_map(|path| [path.canonicalize().ok(), Some(path)].into_iter().flatten()).collect()
    };
    Spared { files: with_real(files), folders: with_real(folders), settings: with_real(settings), ..Spared::default() }
}

fn systemctl(words: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new("systemctl").args(words).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The services, of those that run, whose settings are among the given names in `/etc`. `running` has their names as systemd
/// shows them, all those of one service in a line.
fn services(running: &str, settings: &BTreeSet<String>) -> Vec<String> {
    let is_set = |name: &str| {
        let name = name.strip_suffix(".service").unwrap_or(name);
        let name = name.split('@').next().unwrap_or(name);
        settings.iter().any(|setting| setting.strip_suffix(".conf").unwrap_or(setting) == name)
    };
    let mut services: Vec<String> = running
        .lines()
        .filter_map(|line| line.strip_prefix("Names="))
        .filter(|names| names.split(' ').any(is_set))
        .filter_map(|names| names.split(' ').next())
        .map(str::to_owned)
        .collect();
    services.sort();
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_their_folder_in_etc() {
        let running = "Names=mariadb.service mysql.service\n\nNames=postgresql@15-main.service\n\nNames=dbus.service\n\
                       Names=nginx.service\n";
        let settings = ["mysql", "postgresql", "nginx.conf", "hosts"].map(str::to_owned).into();
        assert_eq!(services(running, &settings), ["mariadb.service", "nginx.service", "postgresql@15-main.service"]);
        assert!(services(running, &BTreeSet::new()).is_empty());
    }
}
