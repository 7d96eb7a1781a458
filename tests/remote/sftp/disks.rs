//! Full disks, and those that can only be read.

use std::process::Command;

use varu::remote::{ErrorKind, Folder, Remote};

use super::{SERVER, content, over, pack, store};
use support::sshd::is_root;

/// A small file system in memory. It is removed when it is dropped. Root only.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let disk = Self(tempfile::tempdir().unwrap());
        disk.run(&["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs"]).then_some(disk)
    }

    fn run(&self, command: &[&str]) -> bool {
        Command::new(command[0]).args(&command[1..]).arg(self.0.path()).status().unwrap().success()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.run(&["umount", "--lazy"]);
    }
}

#[test]
fn a_full_disk_and_one_that_can_only_be_read_are_said_as_such() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("no small disk can be mounted");
        return;
    };
    let remote = over(&[SERVER], disk.0.path()).unwrap();
    remote.create_folders().unwrap();
    store(&remote, &pack("first"), &content(3_000_000)).unwrap();
    for _ in 0..3 {
        let full = store(&remote, &pack("second"), &content(9_000_000)).unwrap_err();
        assert_eq!(full.kind, ErrorKind::NoSpace, "{full}");
        assert!(full.to_string().contains("full") && full.to_string().contains("make room"), "{full}");
        assert!(remote.list(Folder::Pending).unwrap().0.is_empty(), "the part is taken away");
    }
    assert!(remote.get(&pack("first"), u64::MAX).unwrap() == content(3_000_000));
    remote.delete(&pack("first")).unwrap();
    store(&remote, &pack("second"), &content(5_000_000)).expect("there is room again");
    assert!(disk.run(&["mount", "-o", "remount,ro"]));
    let read_only = remote.begin().err().unwrap();
    assert_eq!(read_only.kind, ErrorKind::ReadOnly, "{read_only}");
    assert_eq!(remote.delete(&pack("second")).unwrap_err().kind, ErrorKind::ReadOnly);
}

#[test]
fn a_write_that_fails_though_there_is_room_is_taken_for_a_quota() {
    let base = tempfile::tempdir().unwrap();
    // A limit for the size of files: the server reports it like a quota.
    let limited = format!("trap '' XFSZ; ulimit -f 1000; exec {SERVER}");
    let remote = over(&["sh", "-c", &limited], base.path()).unwrap();
    remote.create_folders().unwrap();
    let error = store(&remote, &pack("p"), &content(4_000_000)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("quota") && error.hint.is_some(), "{error}");
    store(&remote, &pack("p"), &content(100_000)).unwrap();
}
