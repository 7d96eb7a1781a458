//! Restore over the running system: machine-specific files, and those of the restore itself, stay.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::accounts::AccountFile;
use super::target::FolderTarget;
use super::{Error, Target};
use crate::entry::{Entry, Kind, StreamName, is_at_or_below};
use crate::warning::Warning;

/// Machine-specific files: its name and keys, its disks, its network. A name that ends with `*` means all names with
/// that beginning; a folder means its content, too.
const OF_THE_MACHINE: [&str; 27] = [
    "etc/machine-id",
    "etc/machine-info",
    "etc/hostname",
    "etc/hostid",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/ssh/ssh_host_*",
    "etc/fstab",
    "etc/crypttab",
    "etc/adjtime",
    "etc/mdadm",
    "etc/lvm",
    "etc/zfs",
    "etc/multipath",
    "etc/iscsi/initiatorname.iscsi",
    "etc/nvme",
    "etc/initramfs-tools/conf.d/resume",
    "etc/default/grub",
    "etc/default/grub.d",
    "boot/grub",
    "boot/efi",
    "etc/network",
    "etc/netplan",
    "etc/systemd/network",
    "etc/NetworkManager/system-connections",
    "etc/resolv.conf",
];

/// The files that stay as they are.
#[derive(Debug, Clone, Default)]
pub struct Spared {
    /// Whether the files that belong to this machine are restored, too.
    pub with_machine_files: bool,
    /// Whether the files of accounts were merged with those of this machine, so that they need not be written.
    pub merged_accounts: bool,
    /// Files that this run uses: each stays where it is there.
    pub files: Vec<PathBuf>,
    /// Folders that this run uses: nothing is written below them.
    pub folders: Vec<PathBuf>,
    /// Folders of which those files stay that are there.
    pub settings: Vec<PathBuf>,
}

impl Spared {
    /// Whether an entry isn't written, and for people why.
    fn why(&self, entry: &Entry, root: &Path) -> Option<&'static str> {
        let path = path_of(&entry.name, root);
        let is_folder = entry.kind.is_folder();
        let below = |folders: &[PathBuf]| folders.iter().any(|folder| path.starts_with(folder));
        let is_there = || fs::symlink_metadata(&path).is_ok();
        match () {
            () if below(&self.folders) => Some(OF_THE_RUN),
            () if (self.files.contains(&path) || below(&self.settings)) && is_there() => Some(OF_THE_RUN),
            () if is_folder => None,
            () if self.merged_accounts && AccountFile::at(entry.name.as_bytes()).is_some() => Some(MERGED),
            () if !self.with_machine_files && is_of_the_machine(&entry.name) => Some(OF_A_MACHINE),
            () => None,
        }
    }
}

const OF_THE_RUN: &str = "this restore uses it";
const OF_A_MACHINE: &str = "it belongs to this machine";
const MERGED: &str = "its accounts were added to those that are here";

fn is_of_the_machine(name: &StreamName) -> bool {
    let name = name.as_bytes();
    OF_THE_MACHINE.iter().any(|&known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => is_at_or_below(name, known.as_bytes()),
    })
}

fn path_of(name: &StreamName, root: &Path) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(name.as_bytes()))
}

/// Writes below the folder of a system that runs, and spares.
pub struct InPlaceTarget {
    inner: FolderTarget,
    root: PathBuf,
    spared: Spared,
    stayed: Vec<String>,
    settings: BTreeSet<String>,
    units: bool,
}

/// The kept and the written files of a restore over the running system.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Files of the snapshot that differ and weren't written, each with the reason.
    pub stayed: Vec<String>,
    /// The written names in `/etc`.
    pub settings: BTreeSet<String>,
    /// Whether units of systemd were written.
    pub units: bool,
}

impl InPlaceTarget {
    /// Around a target that writes below `root`.
    pub fn new(inner: FolderTarget, root: &Path, spared: Spared) -> Self {
        let (stayed, settings) = (Vec::new(), BTreeSet::new());
        Self { inner, root: root.to_owned(), spared, stayed, settings, units: false }
    }

    /// The kept and written files so far.
    pub fn touched(self) -> Touched {
        Touched { stayed: self.stayed, settings: self.settings, units: self.units }
    }

    /// Whether the existing file equals the entry, by its metadata.
    fn is_same(&self, entry: &Entry) -> bool {
        let path = path_of(&entry.name, &self.root);
        let Ok(there) = fs::symlink_metadata(&path) else { return false };
        match &entry.kind {
            Kind::File => {
                let time = entry.metadata.as_ref().map(|metadata| metadata.mtime);
                let is_time = |time: crate::entry::FileTime| {
                    (time.seconds, i64::from(time.nanoseconds)) == (there.mtime(), there.mtime_nsec())
                };
                there.is_file() && there.len() == entry.length() && time.is_some_and(is_time)
            }
            Kind::Symlink(to) => fs::read_link(&path).is_ok_and(|link| link.as_os_str().as_bytes() == &to[..]),
            Kind::Directory | Kind::Above => there.is_dir(),
            _ => false,
        }
    }

    fn note(&mut self, name: &StreamName) {
        let name = name.as_bytes();
        let below = |folder: &[u8]| name.starts_with(folder);
        self.units |=
            below(b"etc/systemd/system/") || below(b"usr/lib/systemd/system/") || below(b"lib/systemd/system/");
        if let Some(rest) = name.strip_prefix(b"etc/") {
            let rest = rest.strip_prefix(b"default/").unwrap_or(rest);
            let first = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
            if let Ok(first) = std::str::from_utf8(first) {
                self.settings.insert(first.to_owned());
            }
        }
    }
}

impl Target for InPlaceTarget {
    fn wants(&mut self, entry: &Entry) -> Result<bool, Error> {
        match self.spared.why(entry, &self.root) {
            None => self.inner.wants(entry),
            Some(why) => {
                if !self.is_same(entry) {
                    self.stayed.push(format!("/{}: {why}", entry.name));
                }
                Ok(false)
            }
        }
    }

    fn above(&mut self, folder: &Entry) {
        self.inner.above(folder);
    }

    fn has(&mut self, entry: &Entry) -> bool {
        self.inner.has(entry)
    }

    fn written_before(&mut self, entry: &Entry, names: u64) -> Result<Option<Box<dyn Read>>, Error> {
        match self.spared.why(entry, &self.root) {
            None => self.inner.written_before(entry, names),
            Some(_) => Ok(None),
        }
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        self.inner.begin(entry)?;
        if entry.kind != Kind::Directory {
            self.note(&entry.name);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.inner.write(bytes)
    }

    fn end(&mut self) -> Result<(), Error> {
        self.inner.end()
    }

    fn abandon(&mut self) {
        self.inner.abandon();
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        self.inner.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files::extract::{ExtractOptions, Overwrite};

    fn entry(name: &str, kind: Kind) -> Entry {
        Entry { name: StreamName::new(name).unwrap(), kind, size: 1, metadata: None }
    }

    #[test]
    fn what_belongs_to_the_machine_and_to_the_run_stays() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/varu")).unwrap();
        fs::write(at("etc/varu/ssh_key"), "new").unwrap();
        let spared = Spared {
            settings: vec![at("etc/varu")],
            folders: vec![at("var/lib/varu")],
            merged_accounts: true,
            ..Spared::default()
        };
        let options = ExtractOptions { overwrite: Overwrite::Always, ..ExtractOptions::default() };
        let inner = FolderTarget::create(root.path(), options).unwrap();
        let mut target = InPlaceTarget::new(inner, root.path(), spared);
        let mut wants = |name: &str| target.wants(&entry(name, Kind::File)).unwrap();
        for stays in [
            "etc/varu/ssh_key",
            "etc/passwd",
            "etc/fstab",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/netplan/a/b.yaml",
            "var/lib/varu/index.sqlite",
        ] {
            assert!(!wants(stays), "{stays}");
        }
        for comes in ["etc/varu/influxdb.env", "etc/fstab.d/a", "etc/ssh/sshd_config", "etc/passwd-", "home/etc/fstab"]
        {
            assert!(wants(comes), "{comes}");
        }
        assert!(target.wants(&entry("etc/netplan", Kind::Directory)).unwrap());
        assert!(!target.wants(&entry("etc/varu", Kind::Directory)).unwrap());
        let touched = target.touched();
        assert_eq!(touched.stayed.len(), 6, "{touched:?}");
        assert_eq!(touched.stayed[0], "/etc/varu/ssh_key: this restore uses it");
    }

    #[test]
    fn all_but_what_the_run_uses_comes_where_that_is_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let inner = FolderTarget::create(root.path(), ExtractOptions::default()).unwrap();
        let spared = Spared { with_machine_files: true, ..Spared::default() };
        let mut target = InPlaceTarget::new(inner, root.path(), spared);
        assert!(target.wants(&entry("etc/fstab", Kind::File)).unwrap());
        assert!(target.wants(&entry("etc/passwd", Kind::File)).unwrap());
    }
}
