//! Local copies that are damaged, truncated, unreadable, something else, or of another time, and disks that keep none:
//! no backup stores data that wasn't dumped, and each stores the server's data.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mysql::site::Site;
use support::machine::Ended;
use support::medium::BadMedium;
use support::site::Small;

const SCHEMA: &str = "CREATE DATABASE agama; USE agama; CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(99));
    INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_1000;";

/// Local copies in the folder `copies`, the newest of which is read as long as it is of this year.
const FRESH: &str = "schedule = { dump = \"*-01-01 00:00\" }";

fn site(more: &str) -> Option<Site> {
    let site = Site::new(SCHEMA)?;
    configure(&site, more);
    Some(site)
}

fn configure(site: &Site, more: &str) {
    let (socket, copies) = (site.server.socket(), site.machine.at("copies"));
    site.configure(&format!("socket = {socket:?}\nlocal_copy = {copies:?}\nlocal_reserve = \"0 %\"\n{more}"));
}

fn copies(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.machine.at("copies")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn newest(site: &Site) -> PathBuf {
    copies(site).pop().unwrap()
}

/// New data on the server. Returns the rows of a dump of it.
fn change(site: &Site, number: usize) -> String {
    site.server.sql(&format!("REPLACE INTO agama.t VALUES ({}, 'as of {number}')", 5000 + number));
    format!("'as of {number}'")
}

/// The table's rows in the newest snapshot.
fn stored(site: &Site) -> String {
    let to = tempfile::tempdir().unwrap();
    site.run(&["restore", "agama", "--to", to.path().to_str().unwrap()]).ends(0);
    fs::read_to_string(to.path().join("agama/t.sql")).unwrap()
}

type Harm = (&'static str, fn(&Path));

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 20]).unwrap();
}

fn replace(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The copy gives itself out for one of another time.
fn rename(copy: &Path, name: &str) {
    fs::rename(copy, copy.with_file_name(name)).unwrap();
}

const HARMS: [Harm; 18] = [
    ("a byte of the data", |copy| flip(&copy.join("dump.sql"))),
    ("the data is cut", |copy| cut(&copy.join("dump.sql"))),
    ("the data is empty", |copy| fs::write(copy.join("dump.sql"), "").unwrap()),
    ("the data has grown", |copy| {
        let more = fs::read(copy.join("dump.sql")).unwrap();
        fs::write(copy.join("dump.sql"), [&more[..], b"-- more\n"].concat()).unwrap();
    }),
    ("the data is gone", |copy| replace(&copy.join("dump.sql"), |_| ())),
    ("the data is a folder", |copy| replace(&copy.join("dump.sql"), |path| fs::create_dir(path).unwrap())),
    ("the data is a FIFO", |copy| replace(&copy.join("dump.sql"), fifo)),
    ("the data is a device", |copy| replace(&copy.join("dump.sql"), |path| symlink("/dev/zero", path).unwrap())),
    ("the data is a link to nothing", |copy| replace(&copy.join("dump.sql"), |path| symlink("nothing", path).unwrap())),
    ("the data is another's of the same length", |copy| {
        let length = fs::metadata(copy.join("dump.sql")).unwrap().len();
        fs::write(copy.join("dump.sql"), "x".repeat(usize::try_from(length).unwrap())).unwrap();
    }),
    ("a byte of the manifest", |copy| flip(&copy.join("manifest"))),
    ("the manifest is cut", |copy| cut(&copy.join("manifest"))),
    ("the manifest is empty", |copy| fs::write(copy.join("manifest"), "").unwrap()),
    ("the manifest is no text", |copy| fs::write(copy.join("manifest"), b"varu local copy 1\n\xff\xfe\n").unwrap()),
    ("the manifest is gone", |copy| replace(&copy.join("manifest"), |_| ())),
    ("the manifest is a FIFO", |copy| replace(&copy.join("manifest"), fifo)),
    ("the manifest is a folder", |copy| replace(&copy.join("manifest"), |path| fs::create_dir(path).unwrap())),
    ("it is named by a time that hasn't come", |copy| rename(copy, "20990101T000000Z")),
];

#[test]
fn a_local_copy_that_is_not_what_was_dumped_is_dumped_anew_whatever_is_wrong_with_it() {
    let Some(site) = site(FRESH) else { return };
    site.back_up();
    for (number, (name, harm)) in HARMS.iter().enumerate() {
        let wrecked = newest(&site);
        harm(&wrecked);
        let new = change(&site, number);
        let ended = site.run(&["--json", "-q", "backup", "agama"]);
        assert_eq!(ended.status, 3, "{name}: {}", ended.err);
        let said = ended.err.lines().filter(|line| line.contains("[local-copy]")).count();
        assert_eq!(said, 1, "{name}: {}", ended.err);
        assert!(ended.err.contains(wrecked.parent().unwrap().to_str().unwrap()), "{name}: {}", ended.err);
        assert!(stored(&site).contains(&new), "{name}");
        // There is a new copy, the wrecked one is gone, and the next backup reads the new one.
        assert_eq!(copies(&site).len(), 1, "{name}: {:?}", copies(&site));
        assert!(fs::read_to_string(newest(&site).join("dump.sql")).unwrap().contains(&new), "{name}");
        site.server.sql("DELETE FROM agama.t WHERE id > 5000");
        site.back_up();
        assert!(stored(&site).contains(&new), "{name}: the copy is read");
    }
}

#[test]
fn a_local_copy_that_is_a_base_only_may_be_wrecked_in_any_way() {
    let Some(site) = site("") else { return };
    site.back_up();
    for (number, (name, harm)) in HARMS.iter().enumerate() {
        harm(&newest(&site));
        let new = change(&site, number);
        let ended = site.run(&["backup", "agama"]);
        assert!([0, 3].contains(&ended.status), "{name}: {}", ended.err);
        assert!(stored(&site).contains(&new), "{name}");
        assert_eq!(copies(&site).len(), 1, "{name}");
    }
    site.run(&["verify", "--level", "data"]).ends(0);
}

/// A backup in which the local copy was of no use, and which has the server's data.
#[track_caller]
fn backs_up_without(site: &Site, command: &mut Command, number: usize, what: &str) {
    let new = change(site, number);
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.status, 3, "{what}: {}", ended.err);
    assert!(ended.err.contains("[local-copy]"), "{what}: {}", ended.err);
    assert!(stored(site).contains(&new), "{what}");
}

#[test]
fn a_local_copy_that_can_not_be_read_is_dumped_anew_and_where_none_can_be_the_server_is_read() {
    let Some(site) = site(FRESH) else { return };
    site.back_up();
    let medium = BadMedium::new(&site.machine.top);
    for (number, file) in ["dump.sql", "manifest"].into_iter().enumerate() {
        let path = newest(&site).join(file);
        // The name keeps the inode from being used again.
        let held = site.machine.at(&format!("held {number}"));
        fs::hard_link(&path, &held).unwrap();
        let mut backup = site.command(&["backup", "agama"]);
        medium.spoil_inode(&mut backup, fs::metadata(&held).unwrap().ino());
        backs_up_without(&site, &mut backup, number, file);
        assert_eq!(copies(&site).len(), 1, "{file}");
        site.back_up();
    }
    // The new dump can't be read either.
    let mut backup = site.command(&["backup", "agama"]);
    medium.spoil(&mut backup, "dump.sql");
    backs_up_without(&site, &mut backup, 2, "no copy");
    site.back_up();
    // Without the rights by which root skips modes.
    fs::set_permissions(newest(&site).join("dump.sql"), Permissions::from_mode(0o0)).unwrap();
    let backup = site.command(&["backup", "agama"]);
    let mut limited = Command::new("setpriv");
    limited.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]);
    limited.arg(backup.get_program()).args(backup.get_args()).env_clear();
    limited.envs(backup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    backs_up_without(&site, &mut limited, 3, "not permitted");
    site.back_up();
}

#[test]
fn where_no_local_copy_can_be_kept_a_dump_says_why_and_a_backup_is_made_without() {
    let Some(site) = site(FRESH) else { return };
    let copies = site.machine.at("copies");
    // A file is in the place of the folder.
    fs::write(&copies, "a file").unwrap();
    let said = site.run(&["dump", "agama"]).ends(1);
    assert!(said.err.contains("the folder of local copies"), "{}", said.err);
    backs_up_without(&site, &mut site.command(&["backup", "agama"]), 0, "a file");
    fs::remove_file(&copies).unwrap();
    let Some(small) = Small::on(copies.clone(), "1m") else { return };
    small.fill(0);
    let said = site.run(&["dump", "agama"]).ends(8);
    assert!(said.err.contains("No space left on device"), "{}", said.err);
    backs_up_without(&site, &mut site.command(&["backup", "agama"]), 1, "a full disk");
    // There is room for some of it.
    small.fill(16 << 10);
    site.run(&["dump", "agama"]).ends(8);
    backs_up_without(&site, &mut site.command(&["backup", "agama"]), 2, "a disk that gets full");
    small.empty();
    site.back_up();
    let remount = |how: &str| {
        let mounted = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&copies).status().unwrap();
        assert!(mounted.success());
    };
    remount("ro");
    let said = site.run(&["dump", "agama"]).ends(8);
    assert!(said.err.contains("Read-only file system"), "{}", said.err);
    backs_up_without(&site, &mut site.command(&["backup", "agama"]), 3, "a read-only disk");
    remount("rw");
    // The earlier copy is fresh still.
    site.back_up();
    site.run(&["verify", "--level", "data"]).ends(0);
}
