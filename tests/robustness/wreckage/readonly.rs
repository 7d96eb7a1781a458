//! Read-only file systems, below the state, the repository, the keys, a second location or the restored folder: readers
//! continue, writers report the remedy and end with the status for that, and then all continues.

use super::*;
use ways::Wreck;

/// A folder that can only be read, as long as this is there.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    /// None if nothing can be mounted.
    fn on(folder: std::path::PathBuf) -> Option<Self> {
        let mount = |words: &[&str]| {
            let mounted = Command::new("mount").args(words).arg(&folder).output();
            mounted.is_ok_and(|mounted| mounted.status.success())
        };
        fs::create_dir_all(&folder).unwrap();
        if !mount(&["--bind", folder.to_str().unwrap()]) {
            eprintln!("skipped: nothing can be mounted");
            return None;
        }
        let only = Self(folder.clone());
        mount(&["-o", "remount,ro,bind"]).then_some(only)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

const OTHER: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// Commands that write nothing but their result.
const READERS: [&[&str]; 8] = [
    &["list"],
    &["ls", "latest"],
    &["verify"],
    &["verify", "--level", "data"],
    &["restore", "s", "--to", "OUT"],
    &["copy", "--to", "SECOND"],
    &["key", "show"],
    &["key", "export", "--sheet"],
];

/// Commands that write in the state, in the repository and beside the keys.
const OF_STATE: [&[&str]; 7] = [
    &["backup", "s"],
    &["prune"],
    &["index", "check"],
    &["index", "rebuild"],
    &["index", "rebuild", "--accept-loss"],
    &["index", "adopt"],
    &["key", "rotate", "--yes"],
];
const OF_REPOSITORY: [&[&str]; 4] = [
    &["backup", "s"],
    &["backup", "s", "--full"],
    &["key", "rotate", "--yes"],
    &["key", "add-recipient", "--yes", OTHER],
];
const OF_KEYS: [&[&str]; 1] = [&["key", "rotate", "--yes"]];

/// An intact wreck, of which `folder` is read-only.
fn sees(folder: &str, writers: &[&[&str]]) {
    let saved = Wreck::new();
    put(&saved.site, "new", 30_000);
    let whole = tempfile::tempdir().unwrap();
    const PARTS: [&str; 4] = ["vault", "state", "keys", "home"];
    let there = |part: &&&str| saved.top(part).exists();
    PARTS.iter().filter(there).for_each(|part| ways::copy(&saved.top(part), &whole.path().join(part)));
    let commands = READERS.iter().map(|words| (*words, 0)).chain(writers.iter().map(|words| (*words, 8)));
    for (words, status) in commands {
        for part in PARTS.iter().filter(|part| whole.path().join(part).exists()) {
            let _ = fs::remove_dir_all(saved.top(part));
            ways::copy(&whole.path().join(part), &saved.top(part));
        }
        let (out, second) = (saved.top("out"), saved.top("second"));
        [&out, &second].iter().for_each(|folder| drop(fs::remove_dir_all(folder)));
        let place = |word: &&str| match *word {
            "OUT" => out.display().to_string(),
            "SECOND" => second.display().to_string(),
            word => word.to_owned(),
        };
        let words: Vec<String> = words.iter().map(place).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some(only) = ReadOnly::on(saved.top(folder)) else { return };
        let ended = saved.run(&words);
        drop(only);
        let what = format!("{folder} read-only, {words:?}: {} {}", ended.status, ended.err);
        assert_eq!(ended.status, status, "{what}");
        if status == 8 {
            let (top, said) = (saved.top(folder), &ended.err);
            assert!(said.contains("Read-only file system") && said.contains("for writing"), "{what}");
            assert!(said.contains(top.to_str().unwrap()), "{what}");
            // Its advice helps.
            let again = saved.run(&words);
            assert!([0, 3].contains(&again.status), "{what}\nagain: {} {}", again.status, again.err);
        }
        saved.goes_on(&what);
    }
}

#[test]
fn a_state_that_can_only_be_read_is_enough_for_who_reads_and_the_others_say_so() {
    sees("state", &OF_STATE);
}

#[test]
fn a_repository_that_can_only_be_read_is_enough_for_who_reads_and_the_others_say_so() {
    sees("vault", &OF_REPOSITORY);
}

#[test]
fn keys_that_can_only_be_read_are_enough_for_all_but_who_makes_new_ones() {
    sees("keys", &OF_KEYS);
}

#[test]
fn places_that_can_only_be_read_are_said_to_be_so_by_who_was_to_fill_them() {
    let wreck = Wreck::new();
    let filled = wreck.top("filled");
    let place = filled.to_str().unwrap().to_owned();
    let below_it = format!("{place}/below");
    let fresh = |place: &str| {
        let mut init = wreck.command(&["--repo", place, "init"]);
        init.env_remove("VARU_REPO").env("VARU_STATE", wreck.top("fresh state"));
        run(init.env("VARU_WRITER_KEY", wreck.top("w.key")).env("VARU_IDENTITY", wreck.top("id.txt")))
    };
    let commands: [&dyn Fn() -> Ended; 6] = [
        &|| wreck.run(&["copy", "--to", &place]),
        &|| wreck.run(&["copy", "--to", &below_it]),
        &|| wreck.run(&["restore", "s", "--to", &place]),
        &|| wreck.run(&["restore", "s", "--to", &below_it]),
        &|| fresh(&place),
        &|| fresh(&below_it),
    ];
    for (number, command) in commands.iter().enumerate() {
        let _ = fs::remove_dir_all(&filled);
        let Some(only) = ReadOnly::on(filled.clone()) else { return };
        let ended = command();
        drop(only);
        let what = format!("command {number}: {} {}", ended.status, ended.err);
        assert_eq!(ended.status, 8, "{what}");
        assert!(ended.err.contains("Read-only file system") && ended.err.contains("for writing"), "{what}");
        assert_eq!(command().status, 0, "{what}\nagain");
        ["w.key", "id.txt"].iter().for_each(|key| drop(fs::remove_file(wreck.top(key))));
        let _ = fs::remove_dir_all(wreck.top("fresh state"));
    }
    // Nothing of a machine can be written: keys and state.
    for part in ["keys", "state"] {
        let machine = Machine::new(&wreck.top("another"));
        fs::create_dir_all(&machine.top).unwrap();
        let Some(only) = ReadOnly::on(machine.at(part)) else { return };
        let ended = machine.run(&["init"]);
        drop(only);
        assert_eq!(ended.status, 8, "{part}: {}", ended.err);
        assert!(ended.err.contains("for writing"), "{part}: {}", ended.err);
        machine.run(&["init"]).ends(0);
        fs::remove_dir_all(&machine.top).unwrap();
    }
}

/// An ext4 of its own on a folder, which the kernel can give up.
struct Disk {
    folder: std::path::PathBuf,
    image: tempfile::NamedTempFile,
}

impl Disk {
    /// None if nothing can be mounted.
    fn on(folder: std::path::PathBuf) -> Option<Self> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(96 << 20).unwrap();
        fs::create_dir_all(&folder).unwrap();
        assert!(Command::new("mkfs.ext4").arg("-q").arg(image.path()).status().unwrap().success());
        let disk = Self { folder, image };
        disk.mount().then_some(disk)
    }

    fn mount(&self) -> bool {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-o", "loop,errors=remount-ro"]).arg(self.image.path()).arg(&self.folder).output();
        let is_mounted = mounted.is_ok_and(|mounted| mounted.status.success());
        if !is_mounted {
            eprintln!("skipped: no image can be mounted");
        }
        is_mounted
    }

    /// It is looked through, and mounted anew.
    fn mend(&self) {
        assert!(Command::new("umount").arg(&self.folder).status().unwrap().success());
        // 1: errors were corrected.
        let checked = Command::new("fsck.ext4").args(["-f", "-y"]).arg(self.image.path()).output().unwrap();
        assert!(checked.status.code().is_some_and(|status| status <= 1), "{checked:?}");
        assert!(self.mount());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).status();
    }
}

#[test]
fn a_disk_that_the_kernel_gives_up_while_a_backup_runs_ends_it_with_the_status_for_that() {
    for part in ["state", "vault"] {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        let Some(disk) = Disk::on(machine.at(part)) else { return };
        machine.init();
        let config = machine.at("varu.toml");
        let back_up = |then: &str| {
            let script = format!("head -c 3000000 /dev/urandom; {then}");
            fs::write(&config, format!("[sets.s]\nsource = \"command\"\ncommand = [\"sh\", \"-c\", {script:?}]\n"))
                .unwrap();
            run(machine.varu(&["-q", "--config"]).arg(&config).args(["backup", "s"]))
        };
        assert_eq!(back_up("true").status, 0);
        let ended = back_up(&format!("mount -o remount,abort {}", disk.folder.display()));
        assert_eq!(ended.status, 8, "{part}: {}", ended.err);
        assert!(ended.err.contains("for writing"), "{part}: {}", ended.err);
        disk.mend();
        let again = back_up("true");
        // The part of the base cache that the disk lost is stored again.
        let is_whole =
            again.status == 3 && again.err.matches("warning: ").count() == again.err.matches("[base-cache]").count();
        assert!(again.status == 0 || is_whole, "{part}: {}", again.err);
    }
}
