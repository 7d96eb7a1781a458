//! Keys that one lost object can't take, and commands on keys that are cut anywhere. The real program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::harm::{FULL, KILLED, MUTATING, harmed};
use support::machine::{Ended, Machine};

fn machine() -> (tempfile::TempDir, Machine) {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path());
    fs::create_dir_all(machine.at("src")).unwrap();
    fs::write(machine.at("src/file"), "what is there comes back").unwrap();
    (folder, machine)
}

fn back_up(machine: &Machine, status: i32) -> Ended {
    machine.run(&["backup".into(), machine.at("src")]).ends(status)
}

fn full(machine: &Machine) {
    machine.run(&["backup".into(), "--full".into(), machine.at("src").into_os_string()]).ends(0);
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn empty(folder: &Path) {
    list(folder).iter().for_each(|path| fs::remove_file(path).unwrap());
}

/// Restores on a fresh machine, and says how that ended.
#[track_caller]
fn restores(machine: &Machine, status: i32, more: &[&str]) -> Ended {
    let to = tempfile::tempdir_in(&machine.top).unwrap();
    let out = to.path().join("out");
    let words = [&["restore", "--all", "--to", out.to_str().unwrap()][..], more].concat();
    let ended = machine.run_elsewhere(&words).ends(status);
    let found = Command::new("find").arg(&out).args(["-name", "file"]).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    assert_eq!(fs::read_to_string(path.trim()).unwrap(), "what is there comes back", "{}", ended.err);
    ended
}

#[test]
fn a_lost_key_object_is_put_back_by_the_next_backup_and_replaced_by_the_copy_in_a_full() {
    let (_folder, machine) = machine();
    machine.init();
    back_up(&machine, 0);
    let keys = list(&machine.at("vault/keys"));
    let [object] = keys.as_slice() else { panic!("{keys:?}") };
    let bytes = fs::read(object).unwrap();
    let harms: [&dyn Fn(); 4] = [
        &|| fs::remove_file(object).unwrap(),
        &|| fs::write(object, b"").unwrap(),
        &|| fs::write(object, &bytes[..bytes.len() - 1]).unwrap(),
        &|| fs::remove_dir_all(machine.at("vault/keys")).unwrap(),
    ];
    for (number, harm) in harms.into_iter().enumerate() {
        harm();
        assert_eq!(machine.run(&["verify"]).status, 7, "harm {number}");
        let ended = restores(&machine, 7, &[]);
        assert!(ended.err.contains("copy in snapshots/"), "harm {number}: {}", ended.err);
        let ended = back_up(&machine, 3);
        assert!(ended.err.contains("was put back"), "harm {number}: {}", ended.err);
        assert_eq!(fs::read(object).unwrap(), bytes, "harm {number}");
        restores(&machine, 0, &[]);
        machine.run(&["verify"]).ends(0);
    }
    // Without a full that has a copy, and without the object, the sheet and the packs are enough.
    let sheet = machine.run(&["key", "export", "--sheet"]).ends(0).out;
    fs::write(machine.at("key.txt"), &sheet).unwrap();
    empty(&machine.at("vault/keys"));
    let import = ["key".into(), "import".into(), machine.at("key.txt")];
    let ended = machine.run_elsewhere(&import).ends(0);
    assert!(String::from_utf8_lossy(&ended.out).contains("again") || ended.err.contains("again"), "{}", ended.err);
    assert_eq!(fs::read(object).unwrap(), bytes);
    machine.run_elsewhere(&import).ends(0);
}

/// On an append-only account a damaged object can't be replaced under its name. It is wrapped once more, under another.
#[test]
fn a_damaged_key_object_that_cant_be_replaced_is_stored_under_another_name() {
    use varu::remote::memory::MemoryRemote;
    use varu::remote::{Folder, Remote};
    let remote = std::sync::Arc::new(MemoryRemote::new());
    let owner = support::Owner::create(&*remote);
    let (name, bytes) = remote.content(Folder::Keys).into_iter().next().unwrap();
    remote.put(Folder::Keys, name.clone(), b"rotten".to_vec());
    let state = tempfile::tempdir().unwrap();
    let faulty = std::sync::Arc::new(AppendOnly((*remote).clone()));
    for run in 0..2 {
        let said = owner.writer(faulty.clone(), state.path()).keep_keys().unwrap();
        assert!(said.iter().any(|said| said.contains(&name) && said.contains("damaged")), "{said:?}");
        assert_eq!(remote.list(Folder::Keys).unwrap().0.len(), 2, "run {run} adds no third");
        assert!(owner.reader(remote.clone(), state.path()).is_ok());
    }
    remote.put(Folder::Keys, name, bytes);
    assert!(owner.writer(faulty, state.path()).keep_keys().unwrap().is_empty());
}

/// An account that may not delete.
struct AppendOnly(varu::remote::memory::MemoryRemote);

impl varu::remote::Remote for AppendOnly {
    fn place(&self) -> String {
        self.0.place()
    }
    fn create_folders(&self) -> varu::remote::Result<()> {
        self.0.create_folders()
    }
    fn begin(&self) -> varu::remote::Result<Box<dyn varu::remote::Upload>> {
        self.0.begin()
    }
    fn get(&self, name: &varu::remote::ObjectName, limit: u64) -> varu::remote::Result<Vec<u8>> {
        self.0.get(name, limit)
    }
    fn get_range(&self, name: &varu::remote::ObjectName, offset: u64, buffer: &mut [u8]) -> varu::remote::Result<()> {
        self.0.get_range(name, offset, buffer)
    }
    fn stat(&self, name: &varu::remote::ObjectName) -> varu::remote::Result<Option<u64>> {
        self.0.stat(name)
    }
    fn list(&self, folder: varu::remote::Folder) -> varu::remote::Result<(Vec<varu::remote::Listed>, u64)> {
        self.0.list(folder)
    }
    fn flush(&self, folder: varu::remote::Folder) -> varu::remote::Result<bool> {
        self.0.flush(folder)
    }
    fn delete(&self, name: &varu::remote::ObjectName) -> varu::remote::Result<()> {
        Err(varu::remote::Error::new(varu::remote::ErrorKind::Refused, "deleting", name, "append-only"))
    }
    fn can_delete(&self) -> varu::remote::Result<bool> {
        Ok(false)
    }
    fn free_space(&self) -> varu::remote::Result<Option<u64>> {
        self.0.free_space()
    }
}

/// With the state folder lost and the text for people gone, the keys in the folder of keys are found by the stored
/// objects.
#[test]
fn a_machine_without_state_finds_its_writer_key_by_the_key_object() {
    let (_folder, machine) = machine();
    // Root's own folder of keys is the system's.
    let keys = machine.at("folder of keys");
    fs::create_dir(&keys).unwrap();
    let varu = |words: &[PathBuf]| {
        let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", machine.at("home"));
        varu.env("CREDENTIALS_DIRECTORY", &keys);
        let state = machine.at("state");
        varu.args([Path::new("--config"), Path::new("/dev/null"), Path::new("--repo"), &machine.at("vault")]);
        Ended::from(varu.arg("--state").arg(state).args(words).output().unwrap())
    };
    varu(&["init".into()]).ends(0);
    varu(&["backup".into(), machine.at("src")]).ends(0);
    fs::remove_dir_all(machine.at("state")).unwrap();
    fs::remove_file(machine.at("vault/info/varu.toml")).unwrap();
    varu(&["backup".into(), machine.at("src")]).ends(0);
    assert!(machine.at("vault/info/varu.toml").exists(), "it is put back");
    fs::remove_dir_all(machine.at("state")).unwrap();
    fs::remove_file(machine.at("vault/info/varu.toml")).unwrap();
    empty(&machine.at("vault/keys"));
    varu(&["backup".into(), machine.at("src")]).ends(3);
}

#[test]
fn an_identity_of_any_editor_is_read_and_an_encrypted_one_says_how() {
    let (_folder, machine) = machine();
    machine.init();
    full(&machine);
    let identity = machine.at("keys/identity.txt");
    let text = fs::read_to_string(&identity).unwrap();
    let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [format!("\u{feff}{text}").into_bytes(), utf16, text.replace('\n', "\r\n").into_bytes()] {
        fs::write(&identity, bytes).unwrap();
        restores(&machine, 0, &[]);
    }
    fs::write(&identity, b"age-encryption.org/v1\n-> scrypt abc 18\n\xff\xfe\n").unwrap();
    let ended = machine.run_elsewhere(&["list"]).ends(2);
    assert!(ended.err.contains("age -d"), "{}", ended.err);
    // Its advice works: the identity comes from a pipe.
    fs::write(&identity, &text).unwrap();
    let list = format!(
        "exec {} --repo {} --state {} --identity <(cat {}) list",
        env!("CARGO_BIN_EXE_varu"),
        machine.at("vault").display(),
        machine.at("fresh").display(),
        identity.display()
    );
    Ended::from(Command::new("bash").arg("-c").arg(list).output().unwrap()).ends(0);
}

#[test]
fn files_of_the_state_are_the_owners_alone_whatever_the_umask() {
    let (_folder, machine) = machine();
    let script = |words: &str| {
        let varu = machine.varu::<&str>(&[]);
        let envs: Vec<_> =
            varu.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        let args: Vec<_> = varu.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let line = format!("umask 000; exec {} {} {words}", varu.get_program().to_string_lossy(), args.join(" "));
        Ended::from(Command::new("sh").arg("-c").arg(line).env_clear().envs(envs).output().unwrap()).ends(0)
    };
    script("init");
    script(&format!("backup {}", machine.at("src").display()));
    // Dumps on this machine, too, and the folders that are made for them.
    let (config, copies) = (machine.at("varu.toml"), machine.at("made/for/copies"));
    let set = format!(
        "[sets.log]\nsource = \"command\"\ncommand = \"seq 1 99\"\nlocal_copy = \"{}\"\nlocal_reserve = \"0 %\"\n",
        copies.display()
    );
    fs::write(&config, set).unwrap();
    for words in ["dump log", "backup log", "dump log", "verify", "restore log --to out", "index rebuild"] {
        script(
            &format!("--config {} {words}", config.display())
                .replace(" out", &format!(" {}", machine.at("out").display())),
        );
    }
    for folder in ["state", "made", "keys"] {
        assert!(machine.at(folder).exists(), "{folder}");
        let open = Command::new("find").arg(machine.at(folder)).args(["-perm", "/077"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&open.stdout), "");
    }
}

/// A machine whose configuration names one writer key knows the identity, too.
#[test]
fn what_was_stored_before_a_rotation_is_opened_by_the_identity_as_the_note_says_and_comes_back() {
    let (_folder, machine) = machine();
    machine.init();
    back_up(&machine, 0);
    machine.run(&["key", "rotate", "--yes"]).ends(0);
    let varu = |words: &[&str], identity: bool| {
        let mut varu = machine.varu(words);
        if !identity {
            varu.env_remove("VARU_IDENTITY");
        }
        Ended::from(varu.output().unwrap())
    };
    let listed = |ended: &Ended| ended.json()["snapshots"].as_array().unwrap().len();
    let said = varu(&["--json", "list"], false).ends(3);
    assert!(said.err.contains("--identity opens it"), "{}", said.err);
    assert_eq!(listed(&said), 0);
    let all = varu(&["--json", "list"], true).ends(0);
    assert_eq!((listed(&all), all.err.contains("not looked at")), (1, false), "{}", all.err);
    back_up(&machine, 0);
    // Damage of it is no business of a backup with the new key; the owner of the identity repairs it.
    let mut snapshots = list(&machine.at("vault/snapshots"));
    snapshots.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    let whole = fs::read(&snapshots[0]).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for harm in [b"".to_vec(), whole[..40].to_vec(), flipped] {
        fs::write(&snapshots[0], harm).unwrap();
        assert_eq!(varu(&["verify"], true).status, 7);
        let salvaged = varu(&["index", "rebuild", "--salvage"], true).ends(0);
        assert!(String::from_utf8_lossy(&salvaged.out).contains("put back as it was"), "{}", salvaged.err);
        assert_eq!(fs::read(&snapshots[0]).unwrap(), whole);
        varu(&["verify"], true).ends(0);
    }
}

// ---- Cut anywhere --------------------------------------------------------------------------------------------------

/// Fails a command at each call, then follows the documentation: the same command again, a backup, a restore on a fresh
/// machine.
fn sweep(words: &[&str], how: &str, least: usize, before: impl Fn(&Machine)) {
    let mut points = 0;
    for call in MUTATING {
        for n in 1.. {
            let (_folder, machine) = machine();
            before(&machine);
            let log = machine.at("strace.log");
            let Some(first) = harmed(&machine.varu(words), &log, call, n, how) else { break };
            points += 1;
            let what = format!("{words:?}, {how} at {call} {n}: {}", first.err);
            let again = machine.run(words);
            let done_before = again.status == 5 && again.err.contains("holds a repository already");
            assert!(
                again.status == 0 || done_before && words == ["init"],
                "{what}\nagain: {} {}",
                again.status,
                again.err
            );
            let backed_up = machine.run(&["backup".into(), machine.at("src")]);
            assert_eq!(backed_up.status, 0, "{what}\nbackup: {}", backed_up.err);
            machine.run(&["verify", "--level", "data"]).ends(0);
            restores(&machine, 0, &[]);
        }
    }
    println!("{words:?}, {how}: {points} points");
    assert!(points >= least, "{words:?} was harmed at {points} points");
}

#[test]
fn init_may_be_cut_at_each_call() {
    sweep(&["init"], KILLED, 20, |_| {});
}

#[test]
fn init_may_find_the_disk_full_at_each_call() {
    sweep(&["init"], FULL, 20, |_| {});
}

fn with_a_backup(machine: &Machine) {
    machine.init();
    full(machine);
}

#[test]
fn a_rotation_may_be_cut_at_each_call() {
    sweep(&["key", "rotate", "--yes"], KILLED, 12, with_a_backup);
}

#[test]
fn a_rotation_may_find_the_disk_full_at_each_call() {
    sweep(&["key", "rotate", "--yes"], FULL, 12, with_a_backup);
}

const OTHER: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

#[test]
fn adding_a_recipient_may_be_cut_at_each_call() {
    sweep(&["key", "add-recipient", "--yes", OTHER], KILLED, 12, with_a_backup);
}

#[test]
fn adding_a_recipient_may_find_the_disk_full_at_each_call() {
    sweep(&["key", "add-recipient", "--yes", OTHER], FULL, 12, with_a_backup);
}

fn without_the_writer_key(machine: &Machine) {
    with_a_backup(machine);
    fs::remove_file(machine.at("keys/writer.key")).unwrap();
}

#[test]
fn recovering_the_writer_key_may_be_cut_at_each_call() {
    sweep(&["key", "recover"], KILLED, 4, without_the_writer_key);
}

#[test]
fn recovering_the_writer_key_may_find_the_disk_full_at_each_call() {
    sweep(&["key", "recover"], FULL, 4, without_the_writer_key);
}
