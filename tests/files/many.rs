//! A tree of 200,000 files: no command holds more than 100 MB of it, and a day on which little changed stores little.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDERS: u32 = 200;
const FILES: u32 = 1000;
/// Bytes that a command may hold.
const MOST: u64 = 100_000_000;

struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..FOLDERS {
            let below = folder.path().join(format!("tree/d{number:03}"));
            fs::create_dir_all(&below).unwrap();
            for file in 0..FILES {
                fs::write(below.join(format!("f{file:04}.txt")), content(number, file, 0)).unwrap();
            }
        }
        fs::write(folder.path().join("varu.toml"), "").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command that has to succeed, and returns what it printed. It may not hold too much.
    #[track_caller]
    fn varu(&self, words: &[&str]) -> String {
        let printed = self.path("printed");
        let mut command = Command::new(env!("CARGO_BIN_EXE_varu"));
        for (option, name) in [
            ("--config", "varu.toml"),
            ("--repo", "vault"),
            ("--state", "state"),
            ("--writer-key", "writer.key"),
            ("--identity", "identity.txt"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        let out = fs::File::create(&printed).unwrap();
        let mut child =
            command.args(words).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        let mut peak = 0;
        let status = loop {
            peak = peak_of(child.id()).max(peak);
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let printed = fs::read_to_string(printed).unwrap();
        assert!(status.success(), "{words:?}: {status}\n{}", printed.chars().take(4000).collect::<String>());
        assert!(peak > 1_000_000 && peak < MOST, "{words:?} held {peak} bytes");
        printed
    }

    /// Bytes of the repository.
    fn stored(&self) -> u64 {
        fn below(path: &Path) -> u64 {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
            entries
                .map(|entry| if entry.path().is_dir() { below(&entry.path()) } else { entry.metadata().unwrap().len() })
                .sum()
        }
        below(&self.path("vault"))
    }
}

/// The most bytes that a process ever held.
fn peak_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes << 10)
}

fn content(folder: u32, file: u32, version: u32) -> String {
    let seed = (u64::from(folder) << 32 | u64::from(file)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(version);
    format!("{folder} {file} {version}\n{seed:x} {:x}\n", seed.wrapping_mul(seed | 1))
}

#[test]
fn many_files_take_little_memory_and_a_small_change_little_room() {
    let tree = Tree::make();
    tree.varu(&["init"]);
    let source = tree.path("tree");
    let backup = ["backup", "-q", "--set", "tree", source.to_str().unwrap()];
    tree.varu(&backup);
    let full = tree.stored();
    tree.varu(&backup);
    let unchanged = tree.stored() - full;
    assert!(unchanged < 2000, "a second snapshot, unchanged, stored {unchanged} bytes");
    for folder in 0..FOLDERS {
        fs::write(source.join(format!("d{folder:03}/f0500.txt")), content(folder, 500, 1)).unwrap();
    }
    fs::remove_file(source.join("d007/f0007.txt")).unwrap();
    fs::write(source.join("d007/new.txt"), "new").unwrap();
    tree.varu(&backup);
    let changed = tree.stored() - full - unchanged;
    // A copy of the layer lies beside the data, so that it isn't lost with the snapshot.
    let content: u64 = (0..FOLDERS).map(|folder| content(folder, 500, 1).len() as u64).sum();
    assert!(changed < content + 100_000, "{FOLDERS} changed files of {content} bytes stored {changed}");

    let listed = tree.varu(&["ls", "latest"]);
    assert_eq!(listed.lines().filter(|line| line.ends_with(".txt")).count(), (FOLDERS * FILES) as usize);
    let root = source.to_str().unwrap().trim_start_matches('/').to_owned();
    let below = tree.varu(&["ls", "latest", &format!("{root}/d007")]);
    assert_eq!(below.lines().count(), FILES as usize + 1);
    assert!(below.contains("/new.txt\n") && !below.contains("/f0007.txt\n"));
    let differences = tree.varu(&["diff", "tree@latest", &snapshots(&tree)[1]]);
    assert!(differences.contains("1 added, 1 removed, 200 changed"), "{differences}");

    let one = tree.path("one");
    let wanted = format!("/{root}/d100/f0500.txt");
    tree.varu(&["restore", "tree", "--path", &wanted, "--to", one.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(one.join(format!("{root}/d100/f0500.txt"))).unwrap(), content_of(100));
    let all = tree.path("all");
    tree.varu(&["restore", "tree", "--to", all.to_str().unwrap()]);
    let same = Command::new("diff").arg("-r").arg(&source).arg(all.join(&root)).status().unwrap();
    assert!(same.success());

    tree.varu(&["verify"]);
    tree.varu(&["index", "rebuild"]);
    let copy = tree.path("copy");
    tree.varu(&["copy", "--to", copy.to_str().unwrap()]);
    tree.varu(&["prune"]);
}

fn content_of(folder: u32) -> String {
    content(folder, 500, 1)
}

/// The ids of the snapshots, the oldest first.
fn snapshots(tree: &Tree) -> Vec<String> {
    let listed: serde_json::Value =
        serde_json::from_str(tree.varu(&["--json", "list"]).lines().last().unwrap()).unwrap();
    let mut rows: Vec<(u64, String)> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["sequence"].as_u64().unwrap(), row["id"].as_str().unwrap().to_owned()))
        .collect();
    rows.sort();
    rows.into_iter().map(|(_, id)| id).collect()
}
