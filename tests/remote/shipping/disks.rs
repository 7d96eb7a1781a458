//! Disks that are full, small, or can only be read.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use varu::remote::Folder;

use super::{IMPATIENT, Ship, assert_restores, back_up, id, names};
use support::machine::Machine;
use support::sshd::{Account, Sshd, is_root};
use support::{long, noise};

const MIB: usize = 1 << 20;

/// The repository's folder of an append-only account on a small file system of its own.
struct Hold {
    account: Account,
    repository: PathBuf,
}

impl Hold {
    /// None if nothing can be mounted.
    fn new(size: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let account = Account::append_only();
        let repository = account.repository();
        let owner = fs::metadata(repository.join("packs")).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"])
            .arg(&repository)
            .status();
        let hold = Self { account, repository };
        if !mounted.unwrap().success() {
            return None;
        }
        for folder in Folder::ALL {
            let path = hold.repository.join(folder.name());
            fs::create_dir(&path).unwrap();
            chown(&path, Some(0), Some(std::os::unix::fs::MetadataExt::gid(&owner))).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o1770)).unwrap();
        }
        Some(hold)
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.repository).status();
        assert!(done.unwrap().success());
    }

    /// The host's handling of unfinished uploads.
    fn sweep(&self) {
        for entry in fs::read_dir(self.repository.join("pending")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// Bytes that are in use.
    fn fill_up_to(&self, free: usize) {
        let output = Command::new("df").args(["-B1", "--output=avail"]).arg(&self.repository).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let now: usize = text.lines().nth(1).unwrap().trim().parse().unwrap();
        fs::write(self.repository.join("filler"), vec![1; now.saturating_sub(free)]).unwrap();
    }

    fn make_free_space(&self) {
        fs::remove_file(self.repository.join("filler")).unwrap();
        self.sweep();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.repository).status();
    }
}

#[test]
fn a_full_disk_costs_no_snapshot_and_with_room_it_goes_on() {
    let Some(hold) = Hold::new("200m") else {
        eprintln!("no small disk can be mounted");
        return;
    };
    let server = Sshd::start_with(&hold.account.config(true));
    let ship = Ship::new(&server, &hold.account.place(&server), IMPATIENT);
    ship.run(&["-q", "init"]).ends(0);
    let data = |round: usize| noise(6 * MIB, round as u64);
    let store = |round: usize, more: &[&str]| {
        fs::write(ship.at("data"), data(round)).unwrap();
        back_up(&ship.machine, &ship.at("data"), more)
    };
    let mut committed = vec![(id(&store(0, &[]).ends(0)), 0)];
    for round in 1..=if long() { 10 } else { 2 } {
        // Less than a backup asks for.
        hold.fill_up_to(20 * MIB);
        let before = names(&hold.repository);
        let refused = store(round, &[]).ends(8);
        assert!(
            refused.err.contains("nothing was written") && refused.err.contains("--ignore-space"),
            "{}",
            refused.err
        );
        assert_eq!(names(&hold.repository), before);
        // Less than it needs.
        hold.make_free_space();
        hold.fill_up_to(round % 5 * MIB);
        let full = store(round, &["--ignore-space"]).ends(8);
        assert!(full.err.contains("its disk is full") && full.err.contains("make room on the host"), "{}", full.err);
        let (first, number) = &committed[round % committed.len()];
        assert_restores(&ship.machine, first, &data(*number));
        hold.make_free_space();
        committed.push((id(&store(round, &[]).ends(0)), round));
    }
    for (snapshot, number) in &committed {
        assert_restores(&ship.machine, snapshot, &data(*number));
    }
    ship.run(&["-q", "verify", "--level", "data"]).ends(0);

    hold.remount("ro");
    let before = names(&hold.repository);
    let read_only = store(99, &[]).ends(8);
    assert!(read_only.err.contains("its disk can only be read"), "{}", read_only.err);
    assert_eq!(names(&hold.repository), before);
    hold.remount("rw");
    store(99, &[]).ends(0);
}

#[test]
fn a_backup_that_can_not_fit_is_refused_before_it_writes() {
    let Some(hold) = Hold::new("100m") else {
        eprintln!("no small disk can be mounted");
        return;
    };
    let server = Sshd::start_with(&hold.account.config(true));
    let ship = Ship::new(&server, &hold.account.place(&server), IMPATIENT);
    ship.run(&["-q", "init"]).ends(0);
    // The first full: by the size of standard input, or of the tree.
    let before = names(&hold.repository);
    let huge = File::create(ship.at("huge")).unwrap();
    huge.set_len(500 * MIB as u64).unwrap();
    let ended = back_up(&ship.machine, &ship.at("huge"), &[]).ends(8);
    assert!(ended.err.contains("a quarter of the data's 524 MB"), "{}", ended.err);
    fs::create_dir(ship.at("tree")).unwrap();
    let tree = ship.at("tree").to_str().unwrap().to_owned();
    // Holes take no room, so a tree of them is no reason to refuse.
    File::create(ship.at("tree/hole")).unwrap().set_len(1 << 30).unwrap();
    ship.run(&["-q", "backup", &tree]).ends(0);
    assert!(names(&hold.repository).len() > before.len());

    // A full that stores everything again: by the size of the last such one.
    fs::write(ship.at("data"), noise(40 * MIB, 1)).unwrap();
    ship.back_up(&ship.at("data")).ends(0);
    hold.fill_up_to(38 * MIB);
    let before = names(&hold.repository);
    let refused = back_up(&ship.machine, &ship.at("data"), &["--rebase"]).ends(8);
    assert!(refused.err.contains("as much as the last full that stored everything did"), "{}", refused.err);
    assert_eq!(names(&hold.repository), before);
    ship.back_up(&ship.at("data")).ends(0);

    // The machine's own JSON.
    hold.make_free_space();
    hold.fill_up_to(MIB);
    let ended = ship.back_up(&ship.at("data")).ends(8);
    assert_eq!(ended.json()["error"]["kind"], "no-room");
    assert!(ended.err.contains("less than one pack"), "{}", ended.err);
}

#[test]
fn a_local_disk_that_is_full_ends_with_8_too() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path());
    fs::create_dir(machine.at("vault")).unwrap();
    let mount = |words: &[&str]| Command::new(words[0]).args(&words[1..]).arg(machine.at("vault")).status().unwrap();
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs"]).success() {
        eprintln!("no small disk can be mounted");
        return;
    }
    machine.init();
    fs::write(machine.at("data"), noise(60 * MIB, 1)).unwrap();
    let full = back_up(&machine, &machine.at("data"), &["--ignore-space"]).ends(8);
    assert!(full.err.contains("no storage space") || full.err.contains("No space left"), "{}", full.err);
    assert!(mount(&["mount", "-o", "remount,ro"]).success());
    let read_only = back_up(&machine, &machine.at("data"), &["--ignore-space"]).ends(8);
    assert!(read_only.err.to_lowercase().contains("read-only"), "{}", read_only.err);
    assert!(mount(&["umount"]).success());
}

/// A limit for the size of files: the server reports it like a used-up quota.
#[test]
fn a_used_up_quota_ends_with_8_too() {
    let server = Sshd::start_with("ForceCommand trap '' XFSZ; ulimit -f 2000; exec /usr/lib/openssh/sftp-server");
    let ship = Ship::beside(&server, IMPATIENT);
    ship.run(&["-q", "init"]).ends(0);
    fs::write(ship.at("data"), noise(5 * MIB, 1)).unwrap();
    let full = ship.back_up(&ship.at("data")).ends(8);
    assert!(full.err.contains("a quota is used up"), "{}", full.err);
    assert_eq!(fs::read_dir(ship.vault().join("packs")).unwrap().count(), 0);
    fs::write(ship.at("data"), noise(MIB / 2, 1)).unwrap();
    ship.back_up(&ship.at("data")).ends(0);
}
