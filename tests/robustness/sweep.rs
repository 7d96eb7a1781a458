//! Sweep: every fault to every object of a small repository with two sets, two chains and a rotation, by the real
//! program. From a fresh machine with the identity exactly the streams that need the object are missing, and the object
//! is named; and the machine's next backups repair everything repairable.
//!
//! By default each fault comes to one object of each kind; VARU_TEST_LONG=1 does all faults to all objects. The expected
//! losses are computed from the recipes and the directories of the packs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use support::forge::id_of_object;
use support::medium::BadMedium;
use varu::crypto::IdentityFile;
use varu::format::recipe::{Recipe, Stream};
use varu::id::{ChunkId, PackId, SnapshotId};
use varu::remote::local::LocalRemote;
use varu::repository::{Repository, unlock};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Absent,
    Empty,
    Cut,
    Flipped,
    Unreadable,
    NotPermitted,
    TooNew,
    Replaced,
}

const FAULTS: [Fault; 8] = [
    Fault::Absent,
    Fault::Empty,
    Fault::Cut,
    Fault::Flipped,
    Fault::Unreadable,
    Fault::NotPermitted,
    Fault::TooNew,
    Fault::Replaced,
];

type Files = BTreeMap<String, Vec<u8>>;

/// How the program ended, and all that it said.
struct Ended {
    status: i32,
    said: String,
}

/// The composition of a snapshot's file: for each chunk its locations, each with all packs that it needs.
type Needs = Vec<Vec<BTreeSet<PackId>>>;

struct Snapshot {
    id: SnapshotId,
    set: String,
    /// Its object's file name.
    object: String,
    files: BTreeMap<String, Needs>,
}

struct World {
    top: tempfile::TempDir,
    medium: BadMedium,
    snapshots: Vec<Snapshot>,
    /// The content of each snapshot.
    expected: HashMap<SnapshotId, Files>,
}

/// A folder of its own, in memory where that can be had: nothing here is about power cuts.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut data = vec![0; length];
    varu::id::derive_bytes("varu test noise", &seed.to_le_bytes(), &mut data);
    data
}

/// The files in a folder and the folders below it, by name.
fn below(folder: &Path) -> Files {
    let mut found = Files::new();
    let entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap).collect();
    for entry in entries {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(below(&entry.path())),
            false => drop(found.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())),
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

impl World {
    /// Under the first key a full and an incremental of `a` and a full of `b`, under the second the same and another
    /// full of `a`.
    fn new() -> Self {
        let top = folder();
        let medium = BadMedium::new(top.path());
        let mut world = Self { top, medium, snapshots: Vec::new(), expected: HashMap::new() };
        for set in ["a", "b"] {
            fs::create_dir(world.at(set)).unwrap();
        }
        let sets: String =
            ["a", "b"].map(|set| format!("[sets.{set}]\nsource = \"files\"\npaths = [{:?}]\n", world.at(set))).concat();
        fs::write(world.at("v.toml"), format!("[repository]\nurl = {:?}\n{sets}", world.at("vault"))).unwrap();
        let put = |world: &World, name: &str, length, seed| fs::write(world.at(name), noise(length, seed)).unwrap();
        put(&world, "a/one", 60_000, 1);
        put(&world, "a/two", 50_000, 2);
        put(&world, "b/shared", 60_000, 1);
        put(&world, "b/three", 40_000, 3);
        world.run(1, &["init"], 0);
        world.back_up(1, &["backup", "a"]);
        world.back_up(1, &["backup", "b"]);
        fs::write(world.at("a/two"), [noise(50_000, 2), noise(9_000, 4)].concat()).unwrap();
        put(&world, "a/four", 30_000, 5);
        world.back_up(1, &["backup", "a"]);
        world.run(2, &["key", "rotate", "--yes"], 0);
        world.back_up(2, &["backup", "a"]);
        world.back_up(2, &["backup", "b"]);
        put(&world, "a/five", 20_000, 6);
        fs::write(world.at("a/one"), [noise(60_000, 1), noise(5_000, 7)].concat()).unwrap();
        world.back_up(2, &["backup", "a"]);
        put(&world, "a/five", 25_000, 8);
        world.back_up(2, &["backup", "a", "--full"]);
        world.snapshots = world.read();
        assert_eq!(world.snapshots.len(), 7);
        world.save();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// The program on the machine, with its first or second writer key.
    fn command(&self, key: u32, words: &[&str]) -> Command {
        let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.at("home"));
        varu.env("VARU_WRITER_KEY", self.at(&format!("w{key}.key"))).env("VARU_IDENTITY", self.at("id.txt"));
        varu.arg("--config").arg(self.at("v.toml")).arg("--state").arg(self.at("state")).args(words);
        varu
    }

    #[track_caller]
    fn run(&self, key: u32, words: &[&str], status: i32) {
        let ended = end(&mut self.command(key, words));
        assert_eq!(ended.status, status, "{words:?}: {}", ended.said);
    }

    fn back_up(&mut self, key: u32, words: &[&str]) {
        // Names have the second in them, and are to say which is the newest.
        std::thread::sleep(Duration::from_millis(1100));
        self.run(key, words, 0);
        let known: BTreeSet<SnapshotId> = self.expected.keys().copied().collect();
        let names = self.names("snapshots");
        let ids = names.iter().map(|name| name.rsplit('-').next().unwrap().parse().unwrap());
        let made = ids.filter(|id| !known.contains(id)).collect::<Vec<SnapshotId>>();
        assert_eq!(made.len(), 1);
        self.expected.insert(made[0], below(&self.at(words[1])));
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at("vault").join(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program on a machine that has the identity alone, and this folder for its state.
    fn elsewhere(&self, state: &Path, words: &[&str]) -> Command {
        let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", state);
        varu.arg("--repo").arg(self.at("vault")).arg("--state").arg(state).arg("--identity").arg(self.at("id.txt"));
        varu.args(words);
        varu
    }

    /// Reads the repository's content, by the library.
    fn read(&self) -> Vec<Snapshot> {
        let remote = Arc::new(LocalRemote::open(self.at("vault")).unwrap());
        let identity = IdentityFile::parse(&fs::read_to_string(self.at("id.txt")).unwrap()).unwrap();
        let state = folder();
        let mut snapshots = Vec::new();
        for keys in unlock(&*remote, &identity, &[]).unwrap() {
            let repository = Repository::open(remote.clone(), keys, state.path()).unwrap();
            repository.rebuild(false).unwrap();
            let places = Places::new(&repository);
            let rows = repository.index().snapshots().unwrap();
            for row in rows {
                assert!(row.about.totals.packs > 0, "each run leaves a copy of its recipe");
                let recipe = repository.recipe(&row.id).unwrap();
                let files = recipe.streams.iter().filter(|stream| stream.entry.kind.has_content());
                let files = files.map(|stream| (file_name(stream), places.needs(&recipe, stream))).collect();
                let object = Repository::object_name(&row).name().to_owned();
                snapshots.push(Snapshot { id: row.id, set: row.header.set, object, files });
            }
        }
        snapshots
    }

    const SAVED: [&str; 6] = ["vault", "state", "home", "w1.key", "w2.key", "id.txt"];

    fn save(&self) {
        fs::create_dir(self.at("saved")).unwrap();
        Self::SAVED
            .iter()
            .filter(|name| self.at(name).exists())
            .for_each(|name| copy(&self.at(name), &self.at("saved")));
    }

    fn put_back(&self) {
        for name in Self::SAVED.iter().filter(|name| self.at("saved").join(name).exists()) {
            let path = self.at(name);
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            copy(&self.at("saved").join(name), self.top.path());
        }
        let _ = fs::remove_file(self.at("held"));
    }

    /// Restores a snapshot on a machine with that state.
    fn restore(&self, state: &Path, harmed: &Harmed, snapshot: &Snapshot) -> (Ended, Files) {
        let to = folder();
        let id = snapshot.id.to_string();
        let words = ["restore", &snapshot.set, "--snapshot", &id, "--to", to.path().to_str().unwrap()];
        let ended = harmed.end(self.elsewhere(state, &words));
        (ended, below(to.path()))
    }

    /// The missing streams of all snapshots, by snapshot. The others are restored exactly.
    fn missing(&self, harmed: &Harmed) -> BTreeMap<SnapshotId, BTreeSet<String>> {
        let state = folder();
        let mut missing = BTreeMap::new();
        for snapshot in &self.snapshots {
            let (ended, files) = self.restore(state.path(), harmed, snapshot);
            let expected = &self.expected[&snapshot.id];
            for (name, bytes) in &files {
                assert!(expected.get(name) == Some(bytes), "{harmed}: {name} of {} came back otherwise", snapshot.id);
            }
            let lost: BTreeSet<String> = expected.keys().filter(|name| !files.contains_key(*name)).cloned().collect();
            if !lost.is_empty() {
                // A machine that never saw a snapshot can't tell that it was there.
                let unknown = harmed.kind == "snapshots" && matches!(harmed.fault, Fault::Absent | Fault::TooNew);
                assert_eq!(ended.status, if unknown { 2 } else { 7 }, "{harmed}: {}", ended.said);
                assert!(harmed.is_named(&ended.said), "{harmed}: not named: {}", ended.said);
                missing.insert(snapshot.id, lost);
            } else {
                assert!([0, 3, 7].contains(&ended.status), "{harmed}: {} {}", ended.status, ended.said);
                assert!(ended.status != 7 || harmed.is_named(&ended.said), "{harmed}: not named: {}", ended.said);
            }
        }
        missing
    }

    /// The expected losses: the files with a chunk that is stored nowhere but in the damaged part, and all of a snapshot
    /// whose object it is.
    fn expected_missing(&self, kind: &str, object: &str) -> BTreeMap<SnapshotId, BTreeSet<String>> {
        let mut missing = BTreeMap::new();
        for snapshot in &self.snapshots {
            let lost: BTreeSet<String> = match kind {
                "snapshots" if snapshot.object == object => snapshot.files.keys().cloned().collect(),
                "packs" => {
                    let bad: PackId = object.strip_suffix(".pack").unwrap().parse().unwrap();
                    let is_lost =
                        |needs: &Needs| needs.iter().any(|places| places.iter().all(|packs| packs.contains(&bad)));
                    snapshot.files.iter().filter(|(_, needs)| is_lost(needs)).map(|(name, _)| name.clone()).collect()
                }
                _ => BTreeSet::new(),
            };
            if !lost.is_empty() {
                missing.insert(snapshot.id, lost);
            }
        }
        missing
    }
}

fn file_name(stream: &Stream) -> String {
    stream.entry.name.to_string().rsplit('/').next().unwrap().to_owned()
}

fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ended { status: output.status.code().unwrap(), said }
}

/// The locations of a repository's chunks, and the packs that each location needs.
struct Places<'a> {
    repository: &'a Repository,
    chunks: HashMap<ChunkId, Vec<BTreeSet<PackId>>>,
}

impl<'a> Places<'a> {
    fn new(repository: &'a Repository) -> Self {
        let mut places = Self { repository, chunks: HashMap::new() };
        let rows = repository.index().packs().unwrap();
        for row in rows {
            let directory = repository.index().directory(row.number).unwrap().unwrap();
            for (segment, entry) in (0..).zip(&directory.segments) {
                let packs = places.segment(&row.id, segment);
                let ids = &directory.ids[entry.first_chunk as usize..][..entry.chunks as usize];
                ids.iter().for_each(|id| places.chunks.entry(*id).or_default().push(packs.clone()));
            }
        }
        places
    }

    /// The packs that a segment takes: its own, and those of its bases.
    fn segment(&self, pack: &PackId, segment: u32) -> BTreeSet<PackId> {
        let row = self.repository.index().pack(pack).unwrap().unwrap();
        let directory = self.repository.index().directory(row.number).unwrap().unwrap();
        let mut packs = BTreeSet::from([*pack]);
        for base in &directory.segments[segment as usize].bases {
            let other = if base.pack == 0 { *pack } else { directory.base_packs[base.pack as usize - 1] };
            packs.extend(self.segment(&other, base.segment));
        }
        packs
    }

    fn needs(&self, recipe: &Recipe, stream: &Stream) -> Needs {
        let mut needs = Vec::new();
        for run in &stream.runs {
            let row = self.repository.index().pack(&recipe.packs[run.pack as usize].id).unwrap().unwrap();
            let directory = self.repository.index().directory(row.number).unwrap().unwrap();
            let range = directory.run_range(run.segment, run.first, run.count).unwrap();
            needs.extend(directory.ids[range].iter().map(|id| self.chunks[id].clone()));
        }
        needs
    }
}

/// An object with a fault.
struct Harmed<'a> {
    world: &'a World,
    kind: &'static str,
    object: String,
    fault: Fault,
    /// The inode that can't be read.
    inode: Option<u64>,
    /// The text by which it is named: its file name, or the id in it.
    names: Vec<String>,
}

impl fmt::Display for Harmed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {:?}", self.kind, self.object, self.fault)
    }
}

impl<'a> Harmed<'a> {
    fn new(world: &'a World, kind: &'static str, object: &str, fault: Fault) -> Self {
        world.put_back();
        let path = world.at("vault").join(kind).join(object);
        let whole = fs::read(&path).unwrap();
        let mut names = vec![object.to_owned()];
        if kind == "snapshots" {
            names.push(object.rsplit('-').next().unwrap().to_owned());
        }
        if kind == "keys" {
            names.push("key object".to_owned());
        }
        let mut inode = None;
        match fault {
            Fault::Absent => fs::remove_file(&path).unwrap(),
            Fault::Empty => fs::write(&path, "").unwrap(),
            Fault::Cut => fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
            Fault::Flipped => {
                let mut bytes = whole.clone();
                bytes[whole.len() / 2] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
            Fault::Unreadable => {
                // The name keeps the inode from being used again.
                fs::hard_link(&path, world.at("held")).unwrap();
                inode = Some(fs::metadata(&path).unwrap().ino());
            }
            Fault::NotPermitted => fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap(),
            Fault::TooNew => {
                let mut bytes = whole.clone();
                match kind {
                    "packs" | "snapshots" => bytes[5] = 2,
                    _ => bytes[20] = b'9',
                }
                fs::remove_file(&path).unwrap();
                let mut name = object.to_owned();
                // A complete object of another version has the name that its bytes give it.
                if kind == "snapshots" {
                    let (start, _) = object.rsplit_once('-').unwrap();
                    name = format!("{start}-{}", id_of_object(&bytes));
                    names.push(name.clone());
                }
                fs::write(path.with_file_name(name), bytes).unwrap();
            }
            Fault::Replaced => {
                let other = world.names(kind).into_iter().find(|name| name != object);
                let bytes =
                    other.map_or_else(|| b"another".to_vec(), |other| fs::read(path.with_file_name(other)).unwrap());
                fs::write(&path, bytes).unwrap();
            }
        }
        Self { world, kind, object: object.to_owned(), fault, inode, names }
    }

    fn is_named(&self, said: &str) -> bool {
        self.names.iter().any(|name| said.contains(name))
    }

    /// Runs a command that the fault is there for.
    fn end(&self, mut command: Command) -> Ended {
        if let Some(inode) = self.inode {
            self.world.medium.spoil_inode(&mut command, inode);
        }
        if self.fault != Fault::NotPermitted {
            return end(&mut command);
        }
        // Without the rights by which root skips modes.
        let mut limited = Command::new("setpriv");
        limited.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]);
        limited.arg(command.get_program()).args(command.get_args()).env_clear();
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        end(&mut limited)
    }

    fn machine(&self, words: &[&str]) -> Ended {
        self.end(self.world.command(2, words))
    }

    fn is_of_the_newest_key(&self) -> bool {
        let newest: Vec<&Snapshot> = self.world.snapshots.iter().take(4).collect();
        let pack = |packs: &BTreeSet<PackId>| packs.iter().any(|pack| self.object.starts_with(&pack.to_string()));
        match self.kind {
            "snapshots" => newest.iter().any(|snapshot| snapshot.object == self.object),
            "packs" => newest.iter().any(|snapshot| snapshot.files.values().flatten().flatten().any(pack)),
            _ => true,
        }
    }
}

/// The result of a fault.
struct Outcome {
    missing: usize,
    healed: &'static str,
}

fn count(missing: &BTreeMap<SnapshotId, BTreeSet<String>>) -> usize {
    missing.values().map(BTreeSet::len).sum()
}

fn try_fault(world: &World, kind: &'static str, object: &str, fault: Fault) -> Outcome {
    let harmed = Harmed::new(world, kind, object, fault);
    let missing = world.missing(&harmed);
    assert_eq!(missing, world.expected_missing(kind, object), "{harmed}");
    names_it(&harmed);

    // Who has never seen the newest snapshot of a set can't miss it; the machine can, and stores nothing beside it.
    let of_set = |set| world.snapshots.iter().take(4).filter(move |snapshot| snapshot.set == set);
    let mut newest = ["a", "b"].map(|set| of_set(set).map(|snapshot| &snapshot.object).max().unwrap()).into_iter();
    let is_hidden = kind == "snapshots" && newest.any(|newest| newest == object) && fault == Fault::Absent;
    let is_later = kind == "snapshots" && fault == Fault::TooNew;
    let backups = ["a", "b"].map(|set| harmed.machine(&["backup", set]));
    for ended in &backups {
        let allowed: &[i32] = match (is_hidden, is_later) {
            (true, _) => &[7],
            (_, true) if harmed.is_of_the_newest_key() => &[2, 7],
            // Objects of an older key are examined only where they aren't known.
            (_, true) => &[0, 2, 3, 7],
            _ => &[0, 3],
        };
        assert!(allowed.contains(&ended.status), "{harmed}: backup {} {}", ended.status, ended.said);
        assert!(ended.status != 2 || ended.said.contains("update varu"), "{harmed}: {}", ended.said);
    }
    if is_hidden {
        let salvaged = harmed.machine(&["index", "rebuild", "--salvage"]);
        assert!([0, 3].contains(&salvaged.status), "{harmed}: {}", salvaged.said);
    } else if !is_later {
        // Objects that no backup reads are found by a verification, and then the next backup repairs them.
        harmed.machine(&["verify"]);
        for set in ["a", "b"] {
            let ended = harmed.machine(&["backup", set]);
            assert!([0, 3].contains(&ended.status), "{harmed}: second backup {} {}", ended.status, ended.said);
        }
    }
    let mut left = world.missing(&harmed);
    // Nothing depends on it, and a prune may have deleted it: the backup reports it, and the command that it names
    // recovers it. The same goes for snapshots from before the rotation, which no backup examines.
    let salvaged = kind == "snapshots" && !is_later && !is_hidden && !left.is_empty();
    if salvaged && harmed.is_of_the_newest_key() {
        assert_eq!(fault, Fault::Absent, "{harmed}: the next backup puts back what is damaged");
        let said = backups.iter().find(|ended| ended.said.contains("[missing-snapshot]"));
        let said = said.unwrap_or_else(|| panic!("{harmed}: {} {}", backups[0].said, backups[1].said));
        assert!(harmed.is_named(&said.said) && said.said.contains("varu index rebuild --salvage"), "{}", said.said);
    }
    if salvaged {
        let ended = harmed.machine(&["index", "rebuild", "--salvage"]);
        assert!([0, 3].contains(&ended.status), "{harmed}: {}", ended.said);
        left = world.missing(&harmed);
    }
    let verified = verify_all(&harmed);
    let healed = match (count(&left), verified.status) {
        (0, 0) if salvaged || is_hidden => "all by a salvage:",
        (0, 0) => "all",
        (0, _) => "streams",
        (left, _) if left < count(&missing) => "some",
        _ if missing.is_empty() => "nothing lost",
        _ => "no",
    };
    assert!(verified.status == 0 || harmed.is_named(&verified.said), "{harmed}: {}", verified.said);
    assert!(left.iter().all(|(id, files)| files.is_subset(&missing[id])), "{harmed}: {left:?}");
    // The machine's own keys are intact again in any case.
    if !is_later {
        for set in ["a", "b"] {
            let (state, to) = (folder(), folder());
            let ended =
                harmed.end(world.elsewhere(state.path(), &["restore", set, "--to", to.path().to_str().unwrap()]));
            assert!([0, 3, 7].contains(&ended.status), "{harmed}: {}", ended.said);
            assert!(
                below(to.path()) == below(&world.at(set)),
                "{harmed}: the newest of {set} isn't whole: {}",
                ended.said
            );
        }
    }
    // Objects that this machine knows are stored again: key objects and snapshots of any key.
    let is_known = kind == "keys" || kind == "snapshots" && !is_later;
    assert!(!is_known || healed.starts_with("all"), "{harmed}: healed {healed}: {}", verified.said);
    Outcome { missing: count(&missing), healed }
}

/// A fresh machine's list and verify name the object.
fn names_it(harmed: &Harmed) {
    let verified = verify_all(harmed);
    let said_by_list = || {
        let state = folder();
        harmed.end(harmed.world.elsewhere(state.path(), &["list"]))
    };
    // `snapshots/TIME-SET-KIND-ID`: whether the next one of the set is an incremental.
    let set_of = |object: &str| object.split('-').nth(1).map(str::to_owned);
    let chain_goes_on = |object: &str| {
        let later = harmed.world.snapshots.iter().map(|other| other.object.as_str()).filter(|other| *other > object);
        let next = later.filter(|other| set_of(other) == set_of(object)).min();
        next.is_some_and(|next| !next.contains("-full-"))
    };
    match (harmed.kind, harmed.fault) {
        ("info", _) => assert_eq!(verified.status, 0, "{harmed}: {}", verified.said),
        ("snapshots", Fault::Absent) if verified.status == 0 => {
            assert!(
                !chain_goes_on(&harmed.object) || verified.said.contains("not there"),
                "{harmed}: {}",
                verified.said
            );
        }
        ("snapshots", Fault::TooNew) => {
            assert!([3, 7].contains(&verified.status), "{harmed}: {}", verified.said);
            let listed = said_by_list();
            for said in [&verified.said, &listed.said] {
                assert!(said.contains("format version 2") && said.contains("newer varu"), "{harmed}: {said}");
            }
        }
        ("snapshots", Fault::Absent) => assert!(harmed.is_named(&verified.said), "{harmed}: {}", verified.said),
        ("snapshots", _) => {
            let listed = said_by_list();
            assert_eq!((verified.status, listed.status), (7, 7), "{harmed}: {} {}", verified.said, listed.said);
            assert!(harmed.is_named(&verified.said) && harmed.is_named(&listed.said), "{harmed}: {}", listed.said);
        }
        _ => {
            assert_eq!(verified.status, 7, "{harmed}: {}", verified.said);
            assert!(harmed.is_named(&verified.said), "{harmed}: {}", verified.said);
        }
    }
}

fn verify_all(harmed: &Harmed) -> Ended {
    let state = folder();
    harmed.end(harmed.world.elsewhere(state.path(), &["verify", "--level", "data"]))
}

#[test]
fn every_fault_to_every_object_costs_what_needs_it_and_heals_as_far_as_can_be() {
    let world = World::new();
    let long = std::env::var_os("VARU_TEST_LONG").is_some();
    println!("{:<10} {:<13} {:>5} {:>8}  healed by the next backups", "object", "fault", "cases", "missing");
    for kind in ["info", "keys", "snapshots", "packs"] {
        // The objects of the case before are gone.
        world.put_back();
        let objects = world.names(kind);
        // Nothing reads the text for people.
        let faults = if kind == "info" && !long { &FAULTS[..1] } else { &FAULTS };
        for (number, fault) in faults.iter().copied().enumerate() {
            let (mut missing, mut healed) = (Vec::new(), BTreeMap::new());
            let chosen = objects.iter().enumerate().filter(|(at, _)| long || *at == number % objects.len());
            for (_, object) in chosen {
                let outcome = try_fault(&world, kind, object, fault);
                missing.push(outcome.missing);
                *healed.entry(outcome.healed).or_insert(0) += 1;
            }
            let least = missing.iter().min().unwrap();
            let most = missing.iter().max().unwrap();
            let range = if least == most { format!("{least}") } else { format!("{least}-{most}") };
            let healed: Vec<String> = healed.iter().map(|(word, count)| format!("{word} {count}")).collect();
            println!("{kind:<10} {:<13} {:>5} {range:>8}  {}", format!("{fault:?}"), missing.len(), healed.join(", "));
        }
    }
}
