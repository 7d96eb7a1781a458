//! A large file's copy that shares its blocks is its base, where the file system can share: on an XFS of its own, which
//! takes root and `mkfs.xfs`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use support::dumps::{Form, Table, dump};
use support::vault::*;
use support::*;
use varu::backup::{BackupReport, backup};
use varu::progress::{Counts, Interrupt};
use varu::repository::Repository;
use varu::source::files::{FilesOptions, FilesSource};

/// A mounted file system that can share blocks.
struct Xfs {
    mount: PathBuf,
    _folder: tempfile::TempDir,
}

impl Xfs {
    /// None if this user can't mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
        fs::create_dir(&mount).unwrap();
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let run = |program: &str, words: &[&Path]| {
            Command::new(program).args(words).output().is_ok_and(|output| output.status.success())
        };
        let made = run("mkfs.xfs", &[Path::new("-q"), &image]);
        let mounted = made && run("mount", &[Path::new("-o"), Path::new("loop"), &image, &mount]);
        mounted.then_some(Self { mount, _folder: folder })
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mount).status();
    }
}

struct Machine {
    vault: Vault,
    writer: Arc<Repository>,
    clock: TestClock,
    tree: PathBuf,
}

impl Machine {
    fn on(folder: &Path) -> Self {
        let vault = Vault::new();
        let (tree, state) = (folder.join("tree"), folder.join("state"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&state).unwrap();
        let writer = vault.owner.writer(vault.remote.clone(), &state);
        Self { vault, writer, clock: TestClock::at(MONDAY), tree }
    }

    fn back_up(&self) -> BackupReport {
        let paths = vec![self.tree.clone()];
        let files = FilesOptions { paths, exclude: Vec::new(), one_file_system: false, ..FilesOptions::default() };
        let mut source = FilesSource::new(&files, &self.clock).unwrap();
        let (counts, interrupt) = (Counts::default(), Interrupt::default());
        let report = backup(&self.writer, &mut source, &options(), &self.clock, &counts, &interrupt).unwrap();
        self.clock.advance(Duration::from_secs(86_400));
        report
    }

    /// Backs up, and fails unless the file comes back. Returns the bytes that the packs took, and the warnings.
    fn back_up_whole(&self) -> (u64, Vec<String>) {
        let report = self.back_up();
        let reader = self.vault.fresh_reader();
        reader.sync().unwrap();
        let (streams, _) = bring_back(&reader, &report.snapshot).unwrap();
        let name = self.file().strip_prefix("/").unwrap().to_str().unwrap().to_owned();
        assert!(streams[&name] == fs::read(self.file()).unwrap());
        (report.totals().stored, report.warnings.into_iter().map(|warning| warning.text).collect())
    }

    fn file(&self) -> PathBuf {
        self.tree.join("mail.mbox")
    }

    /// Overwrites a few bytes here and there, in place.
    fn change(&self, day: u64) {
        let file = OpenOptions::new().write(true).open(self.file()).unwrap();
        let length = file.metadata().unwrap().len();
        let mut random = Random(day);
        (0..40).for_each(|_| file.write_all_at(b"changed", random.below(length as usize - 10) as u64).unwrap());
    }

    fn copies(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.writer.folder()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("clone-")).collect()
    }

    fn cached(&self) -> u64 {
        fs::metadata(self.writer.folder().join("base-set.chunks")).unwrap().len()
    }
}

#[test]
fn a_file_that_changed_in_place_stands_on_its_copy() {
    let Some(xfs) = Xfs::mount() else {
        println!("skipped: an XFS can't be mounted here");
        return;
    };
    let machine = Machine::on(&xfs.mount);
    fs::write(machine.file(), dump(&[Table::new("mail", 40_000)], Form::Extended)).unwrap();
    fs::write(machine.tree.join("small"), "a small file").unwrap();
    machine.back_up_whole();
    let copies = machine.copies();
    assert_eq!(copies.len(), 1);
    assert_eq!(fs::metadata(&copies[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(machine.cached() < 16 << 10, "only the small file is in the cache: {} bytes", machine.cached());
    let small = |(stored, warnings): (u64, Vec<String>)| {
        assert!(stored < 20_000 && warnings.is_empty(), "{stored} {warnings:?}")
    };
    for day in 1..4 {
        machine.change(day);
        small(machine.back_up_whole());
        // An unchanged file keeps its copy.
        small(machine.back_up_whole());
        assert_eq!(machine.copies(), copies);
    }
    // Lost, or others' bytes: larger, said once, and well again.
    let harms: [fn(&Path); 2] =
        [|copy| fs::remove_file(copy).unwrap(), |copy| fs::write(copy, noise(5_000_000, 1)).unwrap()];
    for (day, harm) in (10..).step_by(10).zip(harms) {
        harm(&copies[0]);
        machine.change(day);
        machine.change(day + 1);
        let (stored, warnings) = machine.back_up_whole();
        assert!(stored > 50_000 && warnings.len() == 1, "{stored} {warnings:?}");
        machine.change(day + 2);
        small(machine.back_up_whole());
    }
    fs::remove_file(machine.file()).unwrap();
    machine.back_up();
    assert_eq!(machine.copies(), Vec::<PathBuf>::new());
}
