//! The program as a person uses it: the real binary, on a repository in a local folder.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A machine: its keys and its state, and the folder with the repository.
struct Machine {
    folder: tempfile::TempDir,
}

/// How a command ended.
struct Ended {
    status: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ended {
    #[track_caller]
    fn ends(self, status: i32) -> Self {
        let out = String::from_utf8_lossy(&self.out);
        assert_eq!(self.status, Some(status), "\n-- stdout\n{}\n-- stderr\n{}", out, self.err);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        let out = String::from_utf8_lossy(&self.out);
        assert!(out.contains(text) || self.err.contains(text), "{text:?} is not in\n{out}\n{}", self.err);
        self
    }

    /// The last document of `--json`.
    #[track_caller]
    fn json(&self) -> Value {
        let out = String::from_utf8(self.out.clone()).unwrap();
        serde_json::from_str(out.lines().last().unwrap_or_else(|| panic!("no document: {}", self.err))).unwrap()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let status = output.status.code().or_else(|| output.status.signal().map(|signal| -signal));
        Self { status, out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// An ordinary user, whose keys and state are at home. Root's are in folders of the system.
const NOBODY: u32 = 65_534;

/// Makes a file the user's.
fn give(path: &Path) {
    if is_root() {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

impl Machine {
    fn new() -> Self {
        let machine =
            Self { folder: tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap() };
        for folder in ["", "home", "other"] {
            let folder = machine.at(folder);
            fs::create_dir_all(&folder).unwrap();
            give(&folder);
        }
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The program on this machine, as an ordinary user at `home`.
    fn command_of(&self, home: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.env_clear().env("HOME", self.at(home)).env("PATH", "/usr/bin:/bin").env("VARU_REPO", "./vault");
        command.current_dir(self.folder.path()).args(words);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn command(&self, words: &[&str]) -> Command {
        self.command_of("home", words)
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.command(words).output().unwrap().into()
    }

    /// Runs a command on another machine of the same operator, which has nothing but the given files.
    fn run_elsewhere(&self, words: &[&str]) -> Ended {
        self.command_of("other", words).output().unwrap().into()
    }

    /// Runs a command that reads `input`.
    fn feed(&self, words: &[&str], input: &[u8]) -> Ended {
        let mut child = piped(&mut self.command(words));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // A command that refuses doesn't read.
            let _ = stdin.write_all(&input);
        });
        let ended = child.wait_with_output().unwrap().into();
        writer.join().unwrap();
        ended
    }

    /// The one file below `home` whose name ends so.
    fn key(&self, end: &str) -> PathBuf {
        let mut found = self.keys(end);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn keys(&self, end: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.at("home/.config/varu")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
    }

    fn id(&self) -> String {
        let name = self.key(".writer.key").file_name().unwrap().to_str().unwrap().to_owned();
        name.strip_suffix(".writer.key").unwrap().to_owned()
    }

    /// The objects in a folder of the repository.
    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(self.at("vault").join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn write(&self, path: &str, content: &[u8]) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, content).unwrap();
        at.ancestors().take_while(|above| *above != self.folder.path()).for_each(give);
    }
}

/// The program, in a folder that every user may enter.
fn program() -> PathBuf {
    use std::sync::OnceLock;
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_varu"));
        let mut version = Command::new(built);
        version.arg("--version").stdout(Stdio::null());
        if !is_root() || version.uid(NOBODY).status().is_ok_and(|status| status.success()) {
            return built.to_owned();
        }
        let folder = std::env::temp_dir().join(format!("varu-test-program-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = folder.join("varu");
        if fs::hard_link(built, &copy).is_err() {
            fs::copy(built, &copy).unwrap();
        }
        copy
    })
    .clone()
}

fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A dump of `rows` rows; one in 2000 depends on `day`.
fn dump(rows: u32, day: u32) -> Vec<u8> {
    let mut text = Vec::new();
    for row in 0..rows {
        let salt = if row % 2000 == day { day } else { 0 };
        let mix = row.wrapping_mul(2_654_435_761) ^ salt;
        text.extend_from_slice(format!("INSERT INTO t VALUES ({row},'name {mix}',{});\n", mix % 997).as_bytes());
    }
    text
}

#[test]
fn two_days_of_dumps_are_listed_compared_and_restored() {
    let machine = Machine::new();
    let (monday, tuesday) = (dump(20_000, 1), dump(20_100, 2));
    let first = machine.feed(&["backup", "--init", "--stdin", "agama.sql", "--json"], &monday).ends(0);
    assert!(first.err.contains("made the repository") && first.err.contains("Without the identity"), "{}", first.err);
    let first = first.json();
    assert_eq!((&first["snapshot"]["kind"], &first["read"]), (&"full".into(), &monday.len().into()));
    let second = machine.feed(&["backup", "--stdin", "agama.sql", "--tag", "pre-deploy", "--json"], &tuesday).ends(0);
    let second = second.json();
    assert_eq!(second["snapshot"]["kind"], "incremental");
    assert!(second["stored"].as_u64() < first["stored"].as_u64());
    let (one, other) = (first["snapshot"]["id"].as_str().unwrap(), second["snapshot"]["id"].as_str().unwrap());

    let list = machine.run(&["list", "--json"]).ends(0).json();
    let ids: Vec<_> = list["snapshots"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [one, other]);
    assert_eq!(list["snapshots"][1]["parent"], one);
    machine.run(&["list", "agama.sql"]).ends(0).says("pre-deploy").says("incr");
    machine.run(&["list", "other"]).ends(2).says("has a set \"other\"; there are agama.sql");
    machine.run(&["ls", one]).ends(0).says("agama.sql\n");
    let diff = machine.run(&["diff", one, "latest", "--json"]).ends(0).json();
    assert_eq!(
        (&diff["differences"][0]["change"], &diff["differences"][0]["after"]),
        (&"changed".into(), &tuesday.len().into())
    );
    assert!(diff["differences"][0]["new_bytes"].as_u64() < Some(tuesday.len() as u64));
    let stored = &diff["differences"][0]["stored"];
    assert!(stored.as_u64() > Some(0) && stored.as_u64() < second["stored"].as_u64(), "{diff}");
    // The cost of each day's stream.
    let cost = |id: &str| machine.run(&["ls", "-l", id, "--json"]).ends(0).json()["streams"][0].clone();
    let (full, delta) = (cost(one), cost(other));
    assert_eq!((&full["new"], &full["depth"]), (&monday.len().into(), &0.into()));
    assert_eq!((&delta["new"], &delta["stored"], &delta["depth"]), (&second["new"], stored, &1.into()));
    machine.run(&["ls", "-l", one]).ends(0).says("DEPTH").says(&monday.len().to_string());
    let depths: Vec<_> = list["snapshots"].as_array().unwrap().iter().map(|row| row["depth"].as_u64()).collect();
    assert_eq!(depths, [Some(0), Some(1)]);
    assert!(list["snapshots"][1]["decoded"].as_u64() > Some(tuesday.len() as u64));
    machine.run(&["diff", one, "latest"]).ends(0).says(" stored at depth 1");

    for (words, day) in [(&["--snapshot", &one[..8]][..], &monday), (&[][..], &tuesday)] {
        let restored = machine.run(&[&["restore", "agama.sql", "--stdout"], words].concat()).ends(0);
        assert!(restored.out == *day, "{words:?}");
    }
    machine.run(&["restore", "--snapshot", one, "--to", "back"]).ends(0).says("restored agama.sql from snapshot");
    assert!(fs::read(machine.at("back/agama.sql")).unwrap() == monday);
    machine.run(&["restore", "agama.sql", "--at", "2 days ago", "--stdout"]).ends(2).says("or before");
    machine.run(&["verify"]).ends(0).says("everything is intact: 2 snapshots verified at level structure");
    machine.run(&["verify", "--level", "data"]).ends(0).says("everything is intact");
    machine.run(&["index", "check"]).ends(0).says("the index is as the repository has it");
}

#[test]
fn a_tree_comes_back_and_nothing_is_overwritten_silently() {
    let machine = Machine::new();
    machine.write("tree/a/text", b"some text\n");
    machine.write("tree/a/big", &dump(20_000, 3));
    machine.write("tree/skipped.tmp", b"x");
    symlink("text", machine.at("tree/a/link")).unwrap();
    give(&machine.at("tree/a/link"));
    let tree = machine.at("tree");
    let tree = tree.to_str().unwrap();
    machine.run(&["backup", "--init", tree, "--exclude", "*.tmp"]).ends(0).says("To restore it: varu --repo ");
    fs::write(machine.at("tree/a/text"), b"another text\n").unwrap();
    let again = machine.run(&["backup", "./tree", "--exclude", "*.tmp", "--json"]).ends(0).json();
    assert_eq!((&again["new"], &again["snapshot"]["set"]), (&13.into(), &"files".into()));
    machine.run(&["diff", again["snapshot"]["parent"].as_str().unwrap(), "latest"]).ends(0).says("1 changed");

    let depth = (tree.matches('/').count() - 1).to_string();
    machine.run(&["restore", "files", "--to", "new", "--strip-components", &depth]).ends(0);
    let mut same = Command::new("diff");
    same.args(["-r", "--no-dereference", "-x", "*.tmp", "tree", "new/tree"]).current_dir(machine.folder.path());
    assert!(same.status().unwrap().success());
    assert!(!machine.at("new/tree/skipped.tmp").exists());

    fs::write(machine.at("new/tree/a/text"), b"mine").unwrap();
    let kept = ["restore", "files", "--to", "new", "--strip-components", &depth];
    machine.run(&kept).ends(3).says("a/text is there already and was not overwritten");
    assert_eq!(fs::read(machine.at("new/tree/a/text")).unwrap(), b"mine");
    machine.run(&[&kept[..], &["--overwrite", "changed"]].concat()).ends(0);
    assert_eq!(fs::read(machine.at("new/tree/a/text")).unwrap(), b"another text\n");

    machine.feed(&["backup", "--stdin", "db"], b"rows").ends(0);
    machine.run(&["restore", "--all", "--to", "all", "--only", "text"]).ends(0);
    assert!(!machine.at("all/db").exists());
    assert!(machine.at("all/files").join(&tree[1..]).join("a/text").exists());
    assert!(!machine.at("all/files").join(&tree[1..]).join("a/big").exists());
    machine
        .run(&["restore", "files", "--to", "none", "--only", "nothing"])
        .ends(2)
        .says("nothing matches --only nothing");
    machine.run(&["restore", "files", "--stdout"]).ends(2).says("2 streams match");
    let one = machine.run(&["restore", "files", "--stdout", "--only", "text"]).ends(0);
    assert_eq!(one.out, b"another text\n");
}

#[test]
fn a_hard_link_comes_back_though_its_first_name_is_not_chosen() {
    let machine = Machine::new();
    machine.write("tree/first", b"the content");
    for link in ["tree/second", "tree/third"] {
        fs::hard_link(machine.at("tree/first"), machine.at(link)).unwrap();
        give(&machine.at(link));
    }
    machine.run(&["backup", "--init", "tree"]).ends(0);
    let depth = (machine.at("tree").to_str().unwrap().matches('/').count() - 1).to_string();
    let words =
        ["restore", "files", "--to", "new", "--strip-components", &depth, "--only", "second", "--only", "third"];
    machine.run(&words).ends(0);
    let inode = |name: &str| fs::metadata(machine.at("new/tree").join(name)).unwrap().ino();
    assert_eq!(fs::read(machine.at("new/tree/second")).unwrap(), b"the content");
    assert_eq!(inode("second"), inode("third"), "they are one file, as they were");
    assert!(!machine.at("new/tree/first").exists());
    let alone = machine.run(&["restore", "files", "--stdout", "--only", "third"]).ends(0);
    assert_eq!(alone.out, b"the content");
}

#[test]
fn a_file_that_cannot_be_read_is_a_warning_that_comes_last() {
    let machine = Machine::new();
    machine.write("tree/open", b"a");
    machine.write("tree/closed", b"b");
    fs::set_permissions(machine.at("tree/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let ended = machine.run(&["backup", "--init", "tree"]).ends(3);
    assert!(
        ended.err.trim_end().lines().last().unwrap().contains("tree/closed is not in the snapshot"),
        "{}",
        ended.err
    );
    machine.run(&["list"]).ends(0).says("with warnings");
    let quiet = machine.run(&["backup", "-q", "./tree"]).ends(3);
    assert!(quiet.out.is_empty() && quiet.err.lines().all(|line| line.starts_with("warning: ")), "{}", quiet.err);
}

#[test]
fn a_fresh_machine_restores_with_the_repository_and_the_identity_alone() {
    let machine = Machine::new();
    let day = dump(5_000, 1);
    machine.feed(&["backup", "--init", "--stdin", "db"], &day).ends(0);
    let identity = machine.at("identity.txt");
    fs::rename(machine.key(".identity.txt"), &identity).unwrap();
    // Where the identity is gone the writer key still lists, and can't read.
    machine.run(&["list"]).ends(0).says("db");
    machine.run(&["restore", "db", "--stdout"]).ends(2).says("--identity");
    machine.run(&["verify", "--level", "data"]).ends(2).says("--identity");
    machine.run_elsewhere(&["list"]).ends(2).says("--writer-key");
    let named = ["--identity", identity.to_str().unwrap()];
    let restored = machine.run_elsewhere(&[&["restore", "db", "--stdout"], &named[..]].concat()).ends(0);
    assert!(restored.out == day);
    machine.run_elsewhere(&[&["list"], &named[..]].concat()).ends(0).says("db");
    // A state folder that can't be written doesn't keep anybody from restoring.
    let nowhere = [&["restore", "db", "--stdout", "--state", "/proc/none"], &named[..]].concat();
    assert!(machine.run_elsewhere(&nowhere).ends(0).out == day);
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).unwrap();
    machine.run_elsewhere(&[&["list"], &named[..]].concat()).ends(5).says("chmod 600");
}

#[test]
fn a_repository_that_the_identity_does_not_name_needs_a_word_of_trust() {
    let machine = Machine::new();
    let forged = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "db"], b"mine").ends(0);
    // A host knows the recipient, and makes a repository of its own for it.
    let shown = machine.run(&["key", "show", "--json"]).ends(0).json();
    let recipient = shown["recipients"][0].as_str().unwrap();
    forged.run(&["init", "--recipient", recipient]).ends(0).says("Only the identities of these recipients");
    forged.feed(&["backup", "--stdin", "db"], b"forged").ends(0);
    fs::rename(machine.at("vault"), machine.at("vault.mine")).unwrap();
    fs::rename(forged.at("vault"), machine.at("vault")).unwrap();
    machine.run(&["restore", "db", "--stdout"]).ends(5).says("--trust-repository").says(&forged.id());
    // The writer key isn't that repository's, either.
    machine.feed(&["backup", "--stdin", "db", "--writer-key", machine.key(".writer.key").to_str().unwrap()], b"x");
    let trusted = machine.run(&["restore", "db", "--stdout", "--trust-repository", &forged.id()]).ends(0);
    assert_eq!(trusted.out, b"forged");
}

#[test]
fn a_key_of_another_repository_is_refused() {
    let (machine, other) = (Machine::new(), Machine::new());
    machine.run(&["init"]).ends(0);
    other.run(&["init"]).ends(0);
    let copy = |end: &str| {
        let copy = machine.at(&format!("other{end}"));
        fs::copy(other.key(end), &copy).unwrap();
        give(&copy);
        copy.to_str().unwrap().to_owned()
    };
    let (writer, identity) = (copy(".writer.key"), copy(".identity.txt"));
    machine.feed(&["backup", "--stdin", "db", "--writer-key", &writer], b"x").ends(5).says("belongs to the repository");
    machine.run(&["list", "--writer-key", &writer]).ends(5).says(&other.id());
    machine.run(&["list", "--identity", &identity]).ends(5).says("doesn't open: check the URL and the identity");
    machine.run(&["init"]).ends(5).says("holds a repository already");
}

#[test]
fn a_place_that_lost_its_repository_is_not_filled_again() {
    let machine = Machine::new();
    machine.run(&["list"]).ends(6).says("look whether the path is right and its disk is mounted");
    machine.run(&["init"]).ends(0);
    let id = machine.id();
    fs::rename(machine.at("vault"), machine.at("vault.away")).unwrap();
    for words in [&["backup", "--init", "--stdin", "db"][..], &["init"]] {
        machine.feed(words, b"x").ends(5).says(&id);
        assert!(!machine.at("vault").exists(), "nothing was made");
    }
    machine.write("vault/.keep", b"");
    fs::remove_file(machine.at("vault/.keep")).unwrap();
    give(&machine.at("vault"));
    machine.feed(&["backup", "--stdin", "db"], b"x").ends(5).says("its disk is mounted");
    machine.run(&["init", "--trust-repository", &id]).ends(0).says("made the repository");
}

#[test]
fn after_a_rotation_the_old_and_the_new_are_restored() {
    let machine = Machine::new();
    let (old, new) = (dump(3_000, 1), dump(3_000, 2));
    let first = machine.feed(&["backup", "--init", "--stdin", "db", "--json"], &old).ends(0).json();
    let rotated = machine.run(&["key", "rotate", "--yes", "--json"]).ends(0).json();
    assert_eq!(rotated["follows"], first["repository"]);
    let second = machine.feed(&["backup", "--stdin", "db", "--json"], &new).ends(0).json();
    assert_eq!((&second["repository"], &second["snapshot"]["sequence"]), (&rotated["repository"], &2.into()));
    assert_eq!(second["new"], new.len(), "nothing old is shared");
    assert!(machine.run(&["restore", "db", "--stdout"]).ends(0).out == new);
    let first = first["snapshot"]["id"].as_str().unwrap();
    assert!(machine.run(&["restore", "--snapshot", first, "--stdout"]).ends(0).out == old);
    let list = machine.run(&["list", "--json"]).ends(0).json();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
    machine.run(&["diff", first, "latest"]).ends(2).says("different writer keys");
    machine.run(&["verify", "--level", "data"]).ends(0).says("2 snapshots verified");
    let newest = machine
        .keys(".writer.key")
        .into_iter()
        .find(|key| key.to_str().unwrap().contains(rotated["repository"].as_str().unwrap()));
    let with_key = ["list", "--writer-key", newest.as_ref().unwrap().to_str().unwrap()];
    machine.run_elsewhere(&with_key).ends(0).says("before the rotation");
    let identity = machine.key(".identity.txt");
    let elsewhere = ["restore", "db", "--stdout", "--identity", identity.to_str().unwrap()];
    assert!(machine.run_elsewhere(&elsewhere).ends(0).out == new);
}

#[test]
fn one_more_recipient_restores_what_was_there_before() {
    let machine = Machine::new();
    let day = dump(3_000, 1);
    machine.feed(&["backup", "--init", "--stdin", "db"], &day).ends(0);
    let packs = machine.objects("packs");
    let second = age_identity(&machine);
    machine.run(&["key", "add-recipient", "age1nonsense"]).ends(2).says("age1");
    machine.run(&["key", "add-recipient", "--yes", &second.1]).ends(0).says("no pack was touched");
    assert_eq!(machine.objects("packs"), packs);
    machine.run(&["key", "show"]).ends(0).says(&second.1);
    let named = ["restore", "db", "--stdout", "--identity", second.0.to_str().unwrap()];
    machine.run_elsewhere(&named).ends(5).says("--trust-repository");
    let id = machine.id();
    let restored = machine.run_elsewhere(&[&named[..], &["--trust-repository", &id]].concat()).ends(0);
    assert!(restored.out == day);
}

/// A new identity file, and its public half, as `age-keygen` would make them.
fn age_identity(machine: &Machine) -> (PathBuf, String) {
    let identity = varu::crypto::IdentityFile::generate();
    let path = machine.at("second.txt");
    fs::write(&path, identity.to_text().as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    give(&path);
    (path, identity.recipients()[0].to_string())
}

#[test]
fn the_identity_is_exported_for_a_safe() {
    let machine = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "db"], b"content").ends(0);
    let exported = machine.run(&["key", "export"]).ends(0);
    let text = String::from_utf8(exported.out).unwrap();
    assert!(
        text.contains("AGE-SECRET-KEY-1") && text.contains(&format!("# varu repository {}", machine.id())),
        "{text}"
    );
    let safe = machine.at("safe.txt");
    fs::write(&safe, &text).unwrap();
    fs::set_permissions(&safe, fs::Permissions::from_mode(0o600)).unwrap();
    give(&safe);
    let restored = machine.run_elsewhere(&["restore", "db", "--stdout", "--identity", safe.to_str().unwrap()]).ends(0);
    assert_eq!(restored.out, b"content");
    let vault = machine.at("vault");
    machine.run(&["key", "export", "--sheet"]).ends(0).says("VARU RECOVERY SHEET").says(vault.to_str().unwrap());
    let shown = machine.run(&["key", "show"]).ends(0);
    assert!(!String::from_utf8(shown.out).unwrap().contains("SECRET"));
}

#[test]
fn damage_is_named_and_the_rest_is_restored() {
    let machine = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "good"], &dump(3_000, 1)).ends(0);
    let before = machine.objects("packs");
    machine.feed(&["backup", "--stdin", "bad"], &dump(4_000, 2)).ends(0);
    let pack = machine.objects("packs").into_iter().find(|pack| !before.contains(pack)).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[2_000] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let verified = machine.run(&["verify"]).ends(7).says("DAMAGED").says(pack.file_name().unwrap().to_str().unwrap());
    assert!(
        String::from_utf8(verified.out)
            .unwrap()
            .lines()
            .any(|line| line.starts_with("whole") && line.ends_with("good"))
    );
    machine.run(&["restore", "--all", "--to", "all"]).ends(7).says("bad can't be restored");
    assert!(fs::read(machine.at("all/good/good")).unwrap() == dump(3_000, 1));
    assert!(!machine.at("all/bad/bad").exists());
}

#[test]
fn a_hidden_newest_snapshot_is_noticed_until_it_is_accepted() {
    let machine = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "db"], b"one").ends(0);
    let second = machine.feed(&["backup", "--stdin", "db", "--json"], b"two").ends(0).json();
    let second = second["snapshot"]["id"].as_str().unwrap();
    let object =
        machine.objects("snapshots").into_iter().find(|path| path.to_str().unwrap().ends_with(second)).unwrap();
    let away = machine.at("away");
    fs::rename(&object, &away).unwrap();
    machine.run(&["list"]).ends(7).says("MISSING");
    machine.run(&["restore", "db", "--stdout"]).ends(7).says("it was deleted, the host hides it");
    machine.feed(&["backup", "--stdin", "db"], b"three").ends(7);
    let first = machine.run(&["list", "--json"]).json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(machine.run(&["restore", "--snapshot", &first, "--stdout"]).ends(3).out, b"one");
    machine.run(&["index", "rebuild"]).ends(7).says("left as it is");
    machine.run(&["index", "rebuild"]).ends(7);
    machine.run(&["index", "rebuild", "--accept-loss"]).ends(0);
    assert_eq!(machine.run(&["restore", "db", "--stdout"]).ends(0).out, b"one");
    // An old snapshot that reappears now was put there by somebody.
    machine.feed(&["backup", "--stdin", "db"], b"three").ends(3).says("base cache");
    fs::rename(&away, &object).unwrap();
    machine.run(&["list"]).ends(3).says("somebody put an old snapshot back");
    assert_eq!(machine.run(&["restore", "db", "--stdout"]).ends(3).out, b"three");
}

#[test]
fn a_lost_and_a_damaged_index_are_made_again() {
    let machine = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "db"], b"one").ends(0);
    machine.feed(&["backup", "--stdin", "db"], b"two").ends(0);
    let index = machine.at("home/.local/state/varu").join(machine.id()).join("index.sqlite");
    let list = machine.run(&["list", "--json"]).ends(0).json();
    fs::write(&index, vec![b'x'; 10_000]).unwrap();
    machine.run(&["list"]).ends(3).says("index.sqlite.damaged");
    fs::write(&index, vec![b'x'; 10_000]).unwrap();
    machine.run(&["index", "rebuild"]).ends(3).says("index.sqlite.damaged");
    assert_eq!(machine.run(&["list", "--json"]).ends(0).json(), list);
    fs::remove_dir_all(machine.at("home/.local/state/varu")).unwrap();
    assert_eq!(machine.run(&["list", "--json"]).ends(0).json(), list);
    // Nothing tells a new state which of all that this machine wrote: it relies on none of it.
    let again = machine.feed(&["backup", "--stdin", "db", "--json"], b"two").ends(0).json();
    assert_eq!(again["new"], again["read"]);
    assert_eq!(machine.feed(&["backup", "--stdin", "db", "--json"], b"two").ends(0).json()["new"], 0);
}

#[test]
fn a_second_run_waits_for_the_first() {
    let machine = Machine::new();
    machine.run(&["init"]).ends(0);
    let mut first = piped(&mut machine.command(&["backup", "--stdin", "db"]));
    let lock = machine.at("home/.local/state/varu").join(machine.id()).join("lock");
    until(|| fs::read_to_string(&lock).is_ok_and(|text| text.contains("backup of db")));
    machine.feed(&["backup", "--stdin", "other", "--wait", "0s"], b"x").ends(5).says("backup of db");
    let mut second = piped(&mut machine.command(&["backup", "--stdin", "other", "--wait", "1 min"]));
    second.stdin.take().unwrap().write_all(b"other").unwrap();
    let mut said = String::new();
    let mut err = second.stderr.take().unwrap();
    until(|| {
        let mut byte = [0];
        let read = err.read(&mut byte).unwrap();
        said.extend(byte[..read].iter().map(|&byte| byte as char));
        said.contains("waiting for backup of db")
    });
    first.stdin.take().unwrap().write_all(b"db").unwrap();
    Ended::from(first.wait_with_output().unwrap()).ends(0);
    drop(std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink())));
    assert!(second.wait().unwrap().success());
    assert_eq!(machine.run(&["list", "--json"]).ends(0).json()["snapshots"].as_array().unwrap().len(), 2);
}

/// Waits until something is so; a test whose condition never comes fails.
fn until(mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came to be so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_interrupt_ends_a_backup_and_what_was_committed_stays() {
    let machine = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "db"], b"one").ends(0);
    let lock = machine.at("home/.local/state/varu").join(machine.id()).join("lock");
    // While nothing comes, and at an end that the same signal may have made.
    for end_of_input in [false, true] {
        fs::write(&lock, "").unwrap();
        let mut child = piped(&mut machine.command(&["backup", "--stdin", "db"]));
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"the first part of a dump").unwrap();
        until(|| fs::read_to_string(&lock).is_ok_and(|text| text.contains("backup of db")));
        std::thread::sleep(Duration::from_millis(50));
        signal(&child, "INT");
        if end_of_input {
            drop(input);
        }
        let ended = Ended::from(child.wait_with_output().unwrap()).ends(130);
        assert!(ended.err.contains("interrupted"), "{}", ended.err);
    }
    assert_eq!(machine.run(&["list", "--json"]).ends(0).json()["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(machine.run(&["restore", "db", "--stdout"]).ends(0).out, b"one");
    machine.feed(&["backup", "--stdin", "db"], b"two").ends(0);
    machine.run(&["verify"]).ends(0);
}

#[test]
fn an_interrupt_ends_a_restore() {
    let machine = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "db"], &dump(60_000, 1)).ends(0);
    // The pipe is full before all is written, so the restore is under way when the signal comes.
    let mut child = piped(&mut machine.command(&["restore", "db", "--stdout"]));
    let mut out = child.stdout.take().unwrap();
    let mut start = [0; 1000];
    out.read_exact(&mut start).unwrap();
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(200));
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()).unwrap());
    let ended = Ended::from(child.wait_with_output().unwrap()).ends(130);
    assert!(ended.err.contains("interrupted"), "{}", ended.err);
    assert!(reader.join().unwrap() < dump(60_000, 1).len() as u64 - 1000);
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

const CONFIG: &str = "
[repository]
url = 'VAULT'
[environment]
name = 'test'
[sets.tree]
source = 'files'
paths = ['TREE']
exclude = ['*.tmp']
[sets.numbers]
source = 'command'
command = ['seq', '1', '1000']
completion = '1000'
[sets.failing]
source = 'command'
command = ['sh', '-c', 'echo half; echo it broke >&2; exit 3']
[sets.gone]
source = 'files'
paths = ['/nonesuch']
";

#[test]
fn sets_of_the_configuration_are_backed_up_and_the_configuration_comes_back() {
    let machine = Machine::new();
    machine.write("tree/a", b"a");
    machine.write("tree/b.tmp", b"b");
    let path = |path: &str| machine.at(path).to_str().unwrap().to_owned();
    let config = CONFIG.replace("VAULT", &path("vault")).replace("TREE", &path("tree"));
    machine.write("varu.toml", config.as_bytes());
    let run = |words: &[&str]| -> Ended {
        let mut command = machine.command(words);
        command.env_remove("VARU_REPO").env("VARU_CONFIG", machine.at("varu.toml")).output().unwrap().into()
    };
    run(&["config", "check"]).ends(2).says("FAILED   repository: ");
    run(&["init"]).ends(0);
    run(&["backup", "tree"]).ends(0).says("To restore it: varu restore tree");
    let numbers = run(&["backup", "numbers", "--json"]).ends(0).json();
    assert_eq!(numbers["snapshot"]["environment"], "test");
    run(&["backup", "failing"]).ends(1).says("it broke");
    run(&["backup", "gone"]).ends(1).says("/nonesuch");
    let list = run(&["list", "--json"]).ends(0).json();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2, "a dump that failed makes no snapshot");
    let numbers: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(run(&["restore", "numbers", "--stdout"]).ends(0).out, numbers.as_bytes());
    assert_eq!(run(&["restore", "--configuration", "--stdout"]).ends(0).out, config.as_bytes());
    run(&["restore", "--configuration", "--to", &path("conf")]).ends(0);
    assert_eq!(fs::read_to_string(machine.at("conf/varu.toml")).unwrap(), config);
    run(&["restore", "--configuration", "--to", &path("conf")]).ends(1).says("exists");
    let checked = run(&["config", "check"]).ends(2);
    for line in [
        "ok       repository: ",
        "ok       writer key: ",
        "note     identity: ",
        "ok       set numbers: its program is ",
        "FAILED   set gone: /nonesuch can't be read",
        "ok       snapshots: the newest is from ",
    ] {
        assert!(String::from_utf8_lossy(&checked.out).contains(line), "{line}");
    }
}

#[test]
fn another_machine_goes_on_only_when_it_adopts() {
    let machine = Machine::new();
    machine.feed(&["backup", "--init", "--stdin", "db"], b"one").ends(0);
    // Another machine has another /etc/machine-id; a mount namespace of its own shows one.
    let id = machine.at("machine-id");
    fs::write(&id, "0123456789abcdef0123456789abcdef\n").unwrap();
    let on_another = |words: &[&str], input: &[u8]| {
        let script = "mount --bind \"$1\" /etc/machine-id && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        match is_root() {
            true => command.arg("--mount").args(["sh", "-c", script, "sh"]).arg(&id).args([
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ]),
            false => command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(&id),
        };
        command.arg(program()).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("VARU_REPO", "./vault");
        command.env("VARU_STATE", machine.at("home/.local/state/varu")).current_dir(machine.folder.path());
        command.arg("--writer-key").arg(machine.key(".writer.key"));
        let mut child = piped(&mut command);
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ended::from(child.wait_with_output().unwrap())
    };
    if !Path::new("/etc/machine-id").exists() || on_another(&["list"], b"").status != Some(0) {
        eprintln!("passed over: this user can't make a namespace in which /etc/machine-id is another");
        return;
    }
    on_another(&["backup", "--stdin", "db"], b"two").ends(5).says("varu index adopt");
    on_another(&["index", "adopt"], b"").ends(0).says("this machine goes on from snapshot");
    on_another(&["backup", "--stdin", "db"], b"two").ends(0);
    machine.feed(&["backup", "--stdin", "db"], b"three").ends(5).says("written by another machine");
}
