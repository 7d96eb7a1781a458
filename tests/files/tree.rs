//! Trees with the real program: real ones and one with every kind of entry, each snapshot restored on a fresh machine with the
//! identity alone, and compared with a plain copy of that time.
//!
//! Of `/usr/share` two folders by default, all of it with VARU_TEST_LONG=1.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::trees::*;
use rustix::process::{WaitId, WaitIdOptions};
use serde_json::Value;
use support::machine::{Ended, Machine};

/// The part of the system that is backed up: nothing changes it while the tests run.
fn of_the_system() -> Vec<&'static Path> {
    let paths = match std::env::var_os("VARU_TEST_LONG").is_some() {
        true => vec!["/usr/share"],
        false => vec!["/usr/share/doc", "/usr/share/zoneinfo"],
    };
    paths.into_iter().map(Path::new).filter(|path| path.exists()).collect()
}

fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").args([from, to]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes the tree that is changed between backups: every kind of entry, and, as root, all of `/etc`.
fn make_tree(tree: &Path) {
    fs::create_dir(tree).unwrap();
    fs::create_dir(tree.join("made")).unwrap();
    make_everything(&tree.join("made"));
    if is_root() {
        copy(Path::new("/etc"), &tree.join("etc"));
    } else {
        copy(Path::new("/usr/share/zoneinfo"), &tree.join("etc"));
    }
}

/// The regular files below `top`, in order of their names.
fn files(top: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(top).sort_by_file_name().into_iter().map(Result::unwrap);
    walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// A file's path below its tree, and its map of holes.
type Holes = Vec<(PathBuf, Vec<u64>)>;

fn holes(top: &Path) -> Holes {
    files(top).iter().map(|path| (path.strip_prefix(top).unwrap().to_owned(), hole_map(path))).collect()
}

/// A day's changes of every sort.
fn change(tree: &Path, day: u8) {
    let made = tree.join("made");
    let etc = files(&tree.join("etc"));
    let of_today = |every: usize| etc.iter().skip(day.into()).step_by(every);
    for path in of_today(7) {
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&[b'#', day, b'\n']).unwrap();
    }
    for path in of_today(31).skip(1) {
        fs::remove_file(path).unwrap();
    }
    let left: Vec<&PathBuf> = of_today(13).filter(|path| path.exists()).collect();
    for path in left {
        let mut renamed = path.clone().into_os_string();
        renamed.push(format!(".day{day}"));
        fs::rename(path, renamed).unwrap();
    }
    let large = fs::OpenOptions::new().write(true).open(made.join("large")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&large, &[day; 1000], 1_000_000 * u64::from(day)).unwrap();
    let sparse = fs::OpenOptions::new().write(true).open(made.join("sparse in between")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"no hole", (4 << 20) + 65_536 * u64::from(day)).unwrap();
    set_mode(&made.join("plain"), 0o600 + u32::from(day));
    set_mode(&made.join("folders/mode 1777"), 0o700 + u32::from(day));
    set_mtime(&made.join("empty"), 1_300_000_000, day.into());
    set_xattr(&made.join("attributes"), "user.comment", &[day]);
    fs::rename(made.join("folders/empty"), made.join("folders/emptied")).unwrap();
    fs::create_dir(made.join("folders/empty")).unwrap();
    fs::rename(made.join("folders/emptied"), made.join(format!("folders/of day {day}"))).unwrap();
    fs::remove_file(made.join("hard 2")).unwrap();
    fs::hard_link(made.join(if day.is_multiple_of(2) { "hard 1" } else { "plain" }), made.join("hard 2")).unwrap();
}

/// A snapshot, and how the tree was when it was made.
struct Day {
    id: String,
    copy: PathBuf,
    holes: Holes,
}

/// A backup's output, and how many bytes its process read from anywhere.
fn back_up(machine: &Machine, tree: &Path, words: &[&str]) -> (Value, u64) {
    let mut backup = machine.varu(&["--json", "-q", "backup"]);
    backup.args(words).args(of_the_system()).arg(tree);
    // The document is short, so the pipe holds it until the process has ended.
    let child = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let figures = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    let read = figures.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    (Ended::from(child.wait_with_output().unwrap()).ends(0).json(), read)
}

fn day(machine: &Machine, tree: &Path, number: u32, words: &[&str]) -> Day {
    let (document, _) = back_up(machine, tree, words);
    let kept = machine.at(&format!("c{number}"));
    copy(tree, &kept);
    Day { id: document["snapshot"]["id"].as_str().unwrap().to_owned(), copy: kept, holes: holes(tree) }
}

#[track_caller]
fn assert_same(expected: &Path, restored: &Path) {
    assert_eq!(differences(expected, restored), "", "{}", expected.display());
}

/// The path in a folder that something was restored to.
fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").unwrap())
}

#[test]
fn each_snapshot_of_a_tree_comes_back_on_a_fresh_machine() {
    let (_guard, top) = scratch();
    let (machine, tree) = (Machine::new(&top), top.join("tree"));
    make_tree(&tree);
    let first = day(&machine, &tree, 1, &["--init"]);
    change(&tree, 1);
    let second = day(&machine, &tree, 2, &[]);
    change(&tree, 2);
    let third = day(&machine, &tree, 3, &["--full"]);
    for day in [&first, &second, &third] {
        let out = top.join("o");
        let restored = machine.run_elsewhere(&["-q", "restore", "--snapshot", &day.id, "--to", out.to_str().unwrap()]);
        restored.ends(0);
        assert_same(&day.copy, &below(&out, &tree));
        assert_eq!(holes(&below(&out, &tree)), day.holes);
        of_the_system().iter().for_each(|path| assert_same(path, &below(&out, path)));
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn what_is_unchanged_is_not_read_again() {
    let (_guard, top) = scratch();
    let (machine, tree) = (Machine::new(&top), top.join("tree"));
    make_tree(&tree);
    let (full, read) = back_up(&machine, &tree, &["--init"]);
    let content = full["read"].as_u64().unwrap();
    let (again, read_again) = back_up(&machine, &tree, &[]);
    println!("{content} bytes of content: {read} were read, then {read_again}");
    assert_eq!((&again["snapshot"]["kind"], &again["new"]), (&"incremental".into(), &0.into()));
    assert!(read > content / 2, "holes are few");
    assert!(read_again < content / 10, "{read_again} of {content} bytes");
}

/// Waits until the process `id` has `path` open.
fn wait_until_open(id: u32, path: &Path) {
    let begun = Instant::now();
    let opened = || {
        let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|open| open == path)
    };
    while !opened() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} is never opened", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_vanishes_during_a_backup_is_named_and_the_rest_is_stored() {
    let (_guard, top) = scratch();
    let (machine, tree) = (Machine::new(&top), top.join("tree"));
    fs::create_dir_all(tree.join("z folder")).unwrap();
    let block: Vec<u8> = (0..1_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut large = fs::File::create(tree.join("a large file")).unwrap();
    for number in 0..24 {
        large.write_all(&[number]).unwrap();
        large.write_all(&block).unwrap();
    }
    for path in ["b stays", "y vanishes", "z folder/inside"] {
        fs::write(tree.join(path), path).unwrap();
    }
    set_mtime(&tree, 1_000_000_000, 0);
    machine.init();
    let mut backup = machine.varu(&["-q", "backup"]);
    backup.arg(&tree).stderr(Stdio::piped());
    let child = backup.spawn().unwrap();
    wait_until_open(child.id(), &tree.join("a large file"));
    // The names of the folder are read already, and its later files aren't.
    fs::remove_file(tree.join("y vanishes")).unwrap();
    fs::remove_dir_all(tree.join("z folder")).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap()).ends(3);
    for gone in ["y vanishes", "z folder"] {
        assert!(
            ended.err.lines().any(|line| line.contains(&format!("/tree/{gone} ")) && line.contains("left out")),
            "{}",
            ended.err
        );
    }
    assert!(!ended.err.contains("inside"), "{}", ended.err);
    let out = top.join("o");
    machine.run_elsewhere(&["-q", "restore", "files", "--to", out.to_str().unwrap()]).ends(0);
    // The folder's own time is of when its entry was read, before anything vanished.
    set_mtime(&tree, 1_000_000_000, 0);
    assert_same(&tree, &below(&out, &tree));
}

#[test]
fn files_that_are_whole_already_are_kept_and_not_fetched() {
    let (_guard, top) = scratch();
    let (machine, tree) = (Machine::new(&top), top.join("tree"));
    fs::create_dir_all(tree.join("folder")).unwrap();
    for (path, size) in [("one", 3_000_000), ("folder/two", 5000), ("folder/three", 1)] {
        fs::write(tree.join(path), vec![b'x'; size]).unwrap();
    }
    machine.init();
    machine.run(&[b"backup".as_slice(), tree.as_os_str().as_bytes()].map(std::ffi::OsStr::from_bytes)).ends(0);
    let out = top.join("o");
    let restore = ["--json", "-q", "restore", "files", "--overwrite", "changed", "--to", out.to_str().unwrap()];
    let restored = |ended: Ended| {
        let document = ended.ends(0).json();
        let figure = |name: &str| document["restored"][0][name].as_u64().unwrap();
        (figure("kept"), figure("bytes"))
    };
    assert_eq!(restored(machine.run(&restore)), (0, 3_005_001));
    // One that differs is written again, alone.
    fs::write(below(&out, &tree).join("folder/two"), "another").unwrap();
    assert_eq!(restored(machine.run(&restore)), (2, 5000));
    assert_same(&tree, &below(&out, &tree));
    // If all are complete, not even the packs are needed.
    fs::rename(machine.at("vault/packs"), machine.at("packs")).unwrap();
    fs::create_dir(machine.at("vault/packs")).unwrap();
    assert_eq!(restored(machine.run(&restore)), (3, 0));
    fs::remove_file(below(&out, &tree).join("one")).unwrap();
    assert_ne!(machine.run(&restore).status, 0);
    assert!(!below(&out, &tree).join("one").exists());
}

/// A file of 200 GB with eight blocks of data costs what the blocks cost, and comes back as it is. With the same content beside
/// it that has no holes, and read by another program.
#[test]
fn holes_cost_neither_time_nor_room() {
    let (_guard, top) = scratch();
    let (machine, tree) = (Machine::new(&top), top.join("tree"));
    fs::create_dir(&tree).unwrap();
    let write = |name: &str, length: u64, blocks: &[u64]| {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(tree.join(name)).unwrap();
        file.set_len(length).unwrap();
        for &block in blocks {
            std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], block).unwrap();
        }
    };
    let far: Vec<u64> = (0..8).map(|number| number * (25 << 30)).collect();
    write("lastlog", 200 << 30, &far);
    write("small", 3 << 20, &[0, 1 << 20]);
    write("a hole alone", 5 << 20, &[]);
    let back_up = |words: &[&str]| {
        let words = [&["--json", "-q", "backup"], words, &[tree.to_str().unwrap()]].concat();
        machine.run(&words).ends(0).json()
    };
    let first = back_up(&["--init"]);
    assert!(first["read"].as_u64().unwrap() < 1 << 20, "{first}");
    assert!(blocks(&machine.at("state")) < 16 << 20);
    // A block more, and a file that is longer by a hole.
    write("lastlog", 200 << 30, &[1 << 20]);
    write("small", 4 << 20, &[0, 1 << 20]);
    back_up(&[]);
    let out = top.join("o");
    machine.run_elsewhere(&["-q", "restore", "files", "--to", out.to_str().unwrap()]).ends(0);
    assert_eq!(holes(&below(&out, &tree)), holes(&tree));
    let lengths =
        |folder: &Path| ["lastlog", "small", "a hole alone"].map(|name| fs::metadata(folder.join(name)).unwrap().len());
    assert_eq!(lengths(&below(&out, &tree)), lengths(&tree));
    for name in ["small", "a hole alone"] {
        let path = tree.join(name);
        let words = ["-q", "restore", "files", "--stdout", "--path", path.to_str().unwrap()];
        let written = machine.varu(&words).output().unwrap();
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        assert!(written.stdout == fs::read(&path).unwrap(), "{name}");
        assert!(fs::read(below(&out, &path)).unwrap() == fs::read(&path).unwrap(), "{name}");
    }
    machine.run_elsewhere(&["-q", "verify", "--level", "data"]).ends(0);
}

/// The blocks of all files below a folder, in bytes.
fn blocks(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let below = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let sizes = below.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => blocks(&entry.path()),
        false => entry.metadata().unwrap().blocks() * 512,
    });
    sizes.sum()
}

#[test]
fn inode_flags_come_back_and_stop_nothing() {
    use std::os::unix::fs::MetadataExt;
    use varu::entry::flags;
    let (_guard, top) = scratch();
    let (machine, tree) = (Machine::new(&top), top.join("tree"));
    fs::create_dir_all(tree.join("folder")).unwrap();
    let all = [
        ("folder/immutable", "+i"),
        ("folder/grows", "+a"),
        ("folder/not dumped", "+dA"),
        ("folder/plain", ""),
        ("folder", "+iS"),
    ];
    for (name, _) in all.iter().filter(|(name, _)| *name != "folder") {
        fs::write(tree.join(name), name).unwrap();
    }
    fs::hard_link(tree.join("folder/immutable"), tree.join("second name")).unwrap();
    let change = |path: &Path, flags: &str| {
        let done = Command::new("chattr").arg(flags).arg(path).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let of = |path: &Path| {
        let file = fs::File::open(path).unwrap();
        rustix::fs::ioctl_getflags(&file).unwrap().bits() & flags::KEPT
    };
    struct Loose(Vec<PathBuf>);
    impl Drop for Loose {
        fn drop(&mut self) {
            for path in &self.0 {
                let _ = Command::new("chattr").args(["-R", "-ia"]).arg(path).output();
            }
        }
    }
    let out = top.join("o");
    let _loose = Loose(vec![tree.clone(), out.clone()]);
    for (name, flags) in all.iter().filter(|(_, flags)| !flags.is_empty()) {
        change(&tree.join(name), flags);
    }
    let inode = fs::metadata(tree.join("folder/immutable")).unwrap().ino();
    machine.run(&["-q", "backup", "--init", tree.to_str().unwrap()]).ends(0);
    // Files that aren't read again have them, too.
    machine.run(&["-q", "backup", tree.to_str().unwrap()]).ends(0);
    machine.run_elsewhere(&["-q", "restore", "files", "--to", out.to_str().unwrap()]).ends(0);
    let back = below(&out, &tree);
    let (same, theirs) =
        (|name: &str| of(&back.join(name)) == of(&tree.join(name)), of(&tree.join("folder/immutable")));
    assert!(all.iter().all(|(name, _)| same(name)) && theirs == flags::IMMUTABLE);
    let restored = fs::metadata(back.join("folder/immutable")).unwrap().ino();
    assert!(restored != inode && fs::metadata(back.join("second name")).unwrap().ino() == restored);
    // Immutable files stay as they are, and are named.
    let again =
        machine.run_elsewhere(&["-q", "restore", "files", "--to", out.to_str().unwrap(), "--overwrite", "always"]);
    let again = again.ends(3);
    assert!(again.err.contains("folder/immutable") && again.err.contains("Operation not permitted"), "{}", again.err);
}
