//! Parts of a tree, and odd trees: exclusions and restores, by the real program.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::machine::{Ended, Machine};

/// A machine, and the folder `src` on it.
struct Tree {
    machine: Machine,
    folder: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        machine.init();
        fs::create_dir(machine.at("src")).unwrap();
        Self { machine, folder }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.machine.run(words)
    }

    fn back_up(&self, more: &[&str]) -> Ended {
        self.run(&[&["backup", self.at("src").to_str().unwrap()], more].concat())
    }

    /// Restores the set `files` below the folder `out`.
    fn restore(&self, more: &[&str]) -> Ended {
        self.run(&[&["restore", "files", "--to", self.at("out").to_str().unwrap()], more].concat())
    }

    /// Where a path of this machine is below `out`.
    fn out(&self, path: &str) -> PathBuf {
        self.at("out").join(self.at(path).strip_prefix("/").unwrap())
    }

    /// The names of the newest snapshot below `src`.
    fn listed(&self) -> Vec<String> {
        let ended = self.run(&["ls", "latest"]).ends(0);
        let start = format!("{}/", self.at("src").strip_prefix("/").unwrap().display());
        let out = String::from_utf8(ended.out).unwrap();
        out.lines().filter_map(|line| Some(line.split_once(&start)?.1.to_owned())).collect()
    }

    fn depth(&self) -> usize {
        self.at("src").components().count() - 1
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn owner_and_mode(path: &Path) -> (u32, u32) {
    let there = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (there.uid(), there.mode() & 0o7777)
}

#[test]
fn folders_above_a_part_keep_owner_mode_and_times() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    tree.write("src/priv/deep/f", "secret");
    chown(tree.at("src/priv"), Some(65534), None).unwrap();
    let mode = |path: &str, mode| fs::set_permissions(tree.at(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("src/priv", 0o700);
    mode("src/priv/deep", 0o2750);
    Command::new("touch").args(["-d", "2001-01-01"]).arg(tree.at("src/priv/deep")).status().unwrap();
    tree.back_up(&[]).ends(0);
    tree.restore(&["--only", "f"]).ends(0);
    assert_eq!(owner_and_mode(&tree.out("src/priv")), (65534, 0o700));
    assert_eq!(owner_and_mode(&tree.out("src/priv/deep")), (0, 0o2750));
    assert_eq!(fs::metadata(tree.out("src/priv/deep")).unwrap().mtime(), 978_307_200);
    // Existing folders silently keep their metadata.
    fs::set_permissions(tree.out("src/priv"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::remove_file(tree.out("src/priv/deep/f")).unwrap();
    tree.restore(&["--only", "f"]).ends(0);
    assert_eq!(owner_and_mode(&tree.out("src/priv")), (65534, 0o711));
}

#[test]
fn folders_above_a_path_keep_owner_and_mode() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    tree.write("src/jack/x/f", "text");
    chown(tree.at("src/jack"), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(tree.at("src/jack"), fs::Permissions::from_mode(0o700)).unwrap();
    let path = tree.at("src/jack/x");
    tree.run(&["backup", path.to_str().unwrap()]).ends(0);
    tree.restore(&[]).ends(0);
    assert_eq!(owner_and_mode(&tree.out("src/jack")), (65534, 0o700));
    assert_eq!(fs::read(tree.out("src/jack/x/f")).unwrap(), b"text");
    // Back in its place, when the folder above is gone, too.
    fs::remove_dir_all(tree.at("src/jack")).unwrap();
    tree.run(&["restore", "files", "--to", "/"]).ends(0);
    assert_eq!(owner_and_mode(&tree.at("src/jack")), (65534, 0o700));
}

#[test]
fn what_loses_its_name_or_its_place_is_named() {
    let tree = Tree::new();
    for (path, text) in [("src/d/f", "d"), ("src/e/f", "e"), ("src/f", "top")] {
        tree.write(path, text);
    }
    tree.back_up(&[]).ends(0);
    let strip = (tree.depth() + 1).to_string();
    let ended = tree.restore(&["--strip-components", &strip, "--overwrite", "always"]).ends(3);
    assert_eq!(fs::read(tree.at("out/f")).unwrap(), b"d", "the first one stays");
    assert!(ended.err.contains("src/e/f was not restored: ") && ended.err.contains("another file of this snapshot"));
    assert!(ended.err.contains("src/f was not restored: its name has no component left"), "{}", ended.err);
    let ended = tree.restore(&["--strip-components", "99"]).ends(3);
    assert!(ended.err.matches("no component left").count() == 3, "{}", ended.err);
}

#[test]
fn a_missing_link_comes_back_although_its_file_is_there() {
    let tree = Tree::new();
    tree.write("src/a/m1", "mail");
    fs::create_dir(tree.at("src/b")).unwrap();
    for name in ["src/b/m2", "src/b/m3"] {
        fs::hard_link(tree.at("src/a/m1"), tree.at(name)).unwrap();
    }
    tree.back_up(&[]).ends(0);
    tree.restore(&[]).ends(0);
    let inode = |path: &str| fs::metadata(tree.out(path)).unwrap().ino();
    fs::remove_file(tree.out("src/b/m3")).unwrap();
    tree.restore(&[]).ends(3);
    assert_eq!(inode("src/b/m3"), inode("src/a/m1"), "a link to the file, which is what was stored");
    // Where the first name is something else now, the others are the stored file.
    fs::remove_file(tree.out("src/b/m3")).unwrap();
    fs::remove_file(tree.out("src/b/m2")).unwrap();
    fs::remove_file(tree.out("src/a/m1")).unwrap();
    fs::write(tree.out("src/a/m1"), "mine").unwrap();
    tree.restore(&[]).ends(3);
    assert_eq!(fs::read(tree.out("src/a/m1")).unwrap(), b"mine");
    assert_eq!(fs::read(tree.out("src/b/m2")).unwrap(), b"mail");
    assert_eq!(inode("src/b/m3"), inode("src/b/m2"));
}

#[test]
fn a_path_is_exact_as_it_is_listed() {
    let tree = Tree::new();
    let names: [&[u8]; 8] =
        [b"some[dir]/some[file].txt", b"[abc].txt", b"a.txt", b"[.txt", b"!x", b"#y", b"blank ", b"\xff\n\\"];
    for name in names {
        let path = tree.at("src").join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    tree.back_up(&[]).ends(0);
    let start = tree.at("src").strip_prefix("/").unwrap().to_owned();
    for name in names {
        let raw = start.join(OsStr::from_bytes(name)).into_os_string();
        let shown = OsString::from(varu::entry::Escaped(raw.as_bytes()).to_string());
        // Of the last name alone the bytes could be what another one looks like.
        for path in [Some(shown), (name != names[7]).then_some(raw)].into_iter().flatten() {
            let words: Vec<OsString> = ["restore", "files", "--stdout", "--path"].map(OsString::from).into();
            let ended = tree.machine.run(&[words, vec![path.clone()]].concat()).ends(0);
            assert_eq!(ended.out, name, "{}", path.display());
        }
    }
    let exact = |name: &str| start.join(name).to_str().unwrap().to_owned();
    let ended = tree.restore(&["--only", &exact("[abc].txt")]).ends(3);
    assert!(ended.err.contains("--path"), "{}", ended.err);
    let ended = tree.restore(&["--only", &exact("some[dir]/some[file].txt")]).ends(2);
    assert!(ended.err.contains("--path takes a path"), "{}", ended.err);
    let ended = tree.restore(&["--path", &exact("a.txt"), "--path", &exact("none")]).ends(2);
    assert!(ended.err.contains("none"), "{}", ended.err);
    tree.restore(&["--path", &exact("some[dir]")]).ends(0);
    assert!(tree.out("src/some[dir]/some[file].txt").exists());
}

#[test]
fn the_mark_of_another_user_is_not_believed() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    tree.write("src/f", "public");
    tree.back_up(&[]).ends(0);
    fs::create_dir(tree.at("out")).unwrap();
    fs::set_permissions(tree.at("out"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir_all(tree.out("src")).unwrap();
    fs::write(tree.out("src/f"), "public").unwrap();
    fs::set_permissions(tree.out("src/f"), fs::Permissions::from_mode(0o777)).unwrap();
    chown(tree.out("src/f"), Some(65534), Some(65534)).unwrap();
    let mark = tree.at("out/.varu-files.restore");
    fs::write(&mark, "").unwrap();
    chown(&mark, Some(65534), Some(65534)).unwrap();
    let ended = tree.restore(&[]).ends(5);
    assert!(ended.err.contains("can't be believed"), "{}", ended.err);
    for odd in ["link", "writable", "second name"] {
        fs::remove_file(&mark).unwrap();
        match odd {
            "link" => symlink("/dev/null", &mark).unwrap(),
            _ => fs::write(&mark, "").unwrap(),
        }
        match odd {
            "writable" => fs::set_permissions(&mark, fs::Permissions::from_mode(0o666)).unwrap(),
            "second name" => fs::hard_link(&mark, tree.at("second")).unwrap(),
            _ => {}
        }
        tree.restore(&[]).ends(5);
    }
    // With a mark of ours, the file of the other user still isn't what was stored.
    fs::remove_file(tree.at("second")).unwrap();
    tree.restore(&[]).ends(3);
    assert_eq!(owner_and_mode(&tree.out("src/f")), (65534, 0o777), "it is in the way, and said to be");
    fs::write(&mark, "").unwrap();
    tree.restore(&["--overwrite", "changed"]).ends(0);
    assert_eq!(owner_and_mode(&tree.out("src/f")), (0, 0o644));
    // Nor is one that has another name, by which somebody may change it later.
    fs::hard_link(tree.out("src/f"), tree.at("second")).unwrap();
    fs::write(&mark, "").unwrap();
    tree.restore(&[]).ends(3);
}

#[test]
fn owner_and_mode_are_part_of_what_changed() {
    let tree = Tree::new();
    tree.write("src/f", "text");
    tree.back_up(&[]).ends(0);
    tree.restore(&[]).ends(0);
    fs::set_permissions(tree.out("src/f"), fs::Permissions::from_mode(0o666)).unwrap();
    tree.restore(&["--overwrite", "changed"]).ends(0);
    assert_eq!(fs::metadata(tree.out("src/f")).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_full_disk_and_a_file_in_the_place_of_the_folder_are_said() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    fs::write(tree.at("src/f"), vec![7; 3 << 20]).unwrap();
    tree.back_up(&[]).ends(0);
    fs::create_dir(tree.at("out")).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "none"];
    assert!(Command::new("mount").args(mount).arg(tree.at("out")).status().unwrap().success());
    let ended = tree.restore(&[]);
    Command::new("umount").arg(tree.at("out")).status().unwrap();
    ended.ends(8);
    fs::write(tree.at("file"), "").unwrap();
    let ended = tree.run(&["restore", "files", "--to", tree.at("file").to_str().unwrap()]).ends(1);
    assert!(!ended.err.contains("snapshot was made"), "{}", ended.err);
}

#[test]
fn caches_are_left_out_only_where_that_is_asked_for() {
    let tree = Tree::new();
    tree.write("src/c/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    tree.write("src/c/precious", "x");
    tree.back_up(&[]).ends(0);
    assert_eq!(tree.listed(), ["c", "c/CACHEDIR.TAG", "c/precious"]);
    tree.back_up(&["--exclude-caches"]).ends(0);
    assert_eq!(tree.listed(), ["c", "c/CACHEDIR.TAG"]);
}

#[test]
fn a_path_that_is_a_link_is_stored_with_what_it_leads_to() {
    let tree = Tree::new();
    tree.write("src/d/dump-2026.sql", "data");
    symlink("d/dump-2026.sql", tree.at("src/latest.sql")).unwrap();
    symlink("d", tree.at("src/folder")).unwrap();
    symlink("/dev/null", tree.at("src/device")).unwrap();
    let back_up = |path: &str, set: &str| {
        let path = format!("{}/{path}", tree.at("src").display());
        let ended = tree.run(&["backup", "--set", set, &path]);
        (ended, tree.listed())
    };
    let (ended, listed) = back_up("latest.sql", "a");
    ended.ends(0);
    assert_eq!(listed, ["d", "d/dump-2026.sql", "latest.sql"]);
    let (ended, listed) = back_up("folder/", "b");
    ended.ends(0);
    assert_eq!(listed, ["d", "d/dump-2026.sql"], "a slash means the folder alone");
    let (ended, listed) = back_up("folder", "c");
    ended.ends(0);
    assert_eq!(listed, ["d", "d/dump-2026.sql", "folder"]);
    let (ended, _) = back_up("device", "d");
    assert!(ended.ends(3).err.contains("[special-file]"));
}

#[test]
fn patterns_that_can_match_nothing_are_refused() {
    let tree = Tree::new();
    tree.write("src/cache/f", "x");
    for bad in ["src/cache", "./cache", "/cache", "#cache", "!cache", "a["] {
        let ended = tree.back_up(&["--exclude", bad]).ends(2);
        assert!(ended.err.contains("can match nothing"), "{bad}: {}", ended.err);
    }
    for good in ["cache", "cache/", "**/src/cache"] {
        tree.back_up(&["--exclude", good]).ends(0);
        assert!(tree.listed().is_empty(), "{good}");
    }
}

#[test]
fn what_says_that_it_is_empty_is_read_to_its_end() {
    let tree = Tree::new();
    let ended = tree.run(&["backup", "/proc/version"]).ends(0);
    drop(ended);
    let ended = tree.run(&["restore", "files", "--stdout"]).ends(0);
    assert_eq!(ended.out, fs::read("/proc/version").unwrap());
}

#[test]
fn the_repository_the_state_and_the_keys_stay_out_of_a_backup() {
    let tree = Tree::new();
    tree.write("src/f", "x");
    let top = tree.folder.path().to_str().unwrap();
    let ended = tree.run(&["backup", top]).ends(0);
    for said in ["the repository", "the state of varu", "a key"] {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
    let listed = String::from_utf8(tree.run(&["ls", "latest"]).ends(0).out).unwrap();
    for own in ["vault", "state", ".key", "identity"] {
        assert!(!listed.contains(own), "{own}: {listed}");
    }
    assert!(listed.contains("src/f"));
    // Those that lie in the folder of keys without being named, too.
    for name in ["another.writer.key", "another.identity.txt"] {
        tree.write(&format!("folder of keys/{name}"), "x");
    }
    let mut backup = tree.machine.varu(&["backup", top]);
    let ended = Ended::from(backup.env("CREDENTIALS_DIRECTORY", tree.at("folder of keys")).output().unwrap()).ends(0);
    assert!(ended.err.contains("another.identity.txt, a key"), "{}", ended.err);
    let listed = String::from_utf8(tree.run(&["ls", "latest"]).ends(0).out).unwrap();
    assert!(listed.contains("folder of keys") && !listed.contains("another"), "{listed}");
    let again = tree.run(&["backup", "--json", "-q", top]).ends(0).json();
    assert!(again["snapshot"]["stored"].as_u64().unwrap_or(0) < 100_000, "{again}");
}

#[test]
fn one_missing_path_of_several_is_named_and_the_rest_is_stored() {
    let tree = Tree::new();
    tree.write("src/a/f", "x");
    tree.write("src/b/f", "y");
    let config = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(|path| tree.at(path)).collect();
        fs::write(tree.at("varu.toml"), format!("[sets.s]\nsource = \"files\"\npaths = {paths:?}\n")).unwrap();
    };
    config(&["src/a", "src/b"]);
    let config_file = tree.at("varu.toml");
    let run = |words: &[&str]| tree.run(&[&["--config", config_file.to_str().unwrap()], words].concat());
    let first = run(&["--json", "backup", "s"]).ends(0).json()["snapshot"]["id"].clone();
    fs::rename(tree.at("src/b"), tree.at("src/gone")).unwrap();
    let ended = run(&["backup", "s"]).ends(3);
    assert!(ended.err.contains("[missing-path]") && ended.err.contains("[suspect]"), "{}", ended.err);
    let listed = String::from_utf8(run(&["list", "--json"]).ends(0).out).unwrap();
    assert!(listed.contains(first.as_str().unwrap()));
    // `latest` is still the one that has it, so retention keeps it, too.
    run(&["restore", "s", "--to", tree.at("out").to_str().unwrap()]).ends(3);
    assert_eq!(fs::read(tree.out("src/b/f")).unwrap(), b"y");
    // None of them is there: that is no backup.
    fs::rename(tree.at("src/a"), tree.at("src/gone too")).unwrap();
    run(&["backup", "s"]).ends(1);
}

#[test]
fn acls_that_can_not_be_set_give_the_group_no_more() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    tree.write("src/f", "x");
    fs::set_permissions(tree.at("src/f"), fs::Permissions::from_mode(0o600)).unwrap();
    let set = Command::new("setfacl").args(["-m", "u:65534:rw,g::---"]).arg(tree.at("src/f")).status();
    if !set.is_ok_and(|status| status.success()) {
        return;
    }
    assert_eq!(owner_and_mode(&tree.at("src/f")).1, 0o660, "the mask");
    tree.back_up(&[]).ends(0);
    fs::create_dir(tree.at("out")).unwrap();
    assert!(Command::new("mount").args(["-t", "ramfs", "none"]).arg(tree.at("out")).status().unwrap().success());
    let ended = tree.restore(&[]);
    let mode = fs::metadata(tree.out("src/f")).map(|there| there.mode() & 0o777);
    Command::new("umount").arg(tree.at("out")).status().unwrap();
    let ended = ended.ends(3);
    assert_eq!(mode.unwrap(), 0o600);
    assert!(ended.err.contains("an extended attribute or ACL could not be set"), "{}", ended.err);
}
