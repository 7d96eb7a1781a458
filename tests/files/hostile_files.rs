//! Any file that varu reads, harmed: objects of the repository, keys, the state, the configuration. The program, with its memory
//! limited by the kernel, reads or refuses it: it isn't killed, doesn't panic and doesn't hang.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::forge::{forge_packed, packed, pages_of};
use support::machine::{Ended, Machine};
use support::{Owner, Random, long};
use varu::format::snapshot::{SnapshotBody, SnapshotHeader};
use varu::id::ChainId;
use varu::remote::Folder;
use varu::remote::open::create;
use varu::remote::options::Options;
use varu::remote::place::Location;
use varu::repository::Repository;

/// Most bytes of address space: varu's own with its threads, and a quarter of a GiB for its input.
const MEMORY: u64 = 1536 << 20;
/// Most seconds of processor time.
const SECONDS: u64 = 60;

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => all.extend(files(&entry.path())),
            kind if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    all.sort();
    all
}

/// The command with its limits.
fn limited(command: &Command) -> Ended {
    limited_to(MEMORY, command)
}

fn limited_to(memory: u64, command: &Command) -> Ended {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--as={memory}")).arg(format!("--cpu={SECONDS}")).arg(command.get_program());
    limited.args(command.get_args()).env_clear().env("RAYON_NUM_THREADS", "2");
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?)))).output().unwrap().into()
}

/// One way to harm a file's bytes.
fn harm(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.splice(at..at, [0xff; 9])),
            3 => drop(bytes.splice(at..at, [0; 64])),
            4 => bytes.extend_from_within(..at.min(4096)),
            5 => bytes.extend((0..random.below(4096)).map(|n| n as u8)),
            6 => bytes.insert(at, b"\n\"[]{}=,\x1b"[random.below(9)]),
            _ if at < bytes.len() => bytes[at] = random.draw() as u8,
            _ => {}
        }
    }
}

#[test]
fn any_file_that_is_harmed_is_read_or_refused_within_limits() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path());
    machine.init();
    let source = machine.at("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("text"), "some text\n".repeat(3000)).unwrap();
    let config = machine.at("varu.toml");
    let written = format!("[sets.src]\nsource = \"files\"\npaths = [\"{}\"]\n", source.display());
    fs::write(&config, written).unwrap();
    let command = |words: &[&str]| {
        let mut varu = machine.varu(&["--config"]);
        varu.arg(&config).args(words);
        varu
    };
    for day in 0..2 {
        fs::write(source.join("more"), format!("{day}")).unwrap();
        Ended::from(command(&["backup", "src"]).output().unwrap()).ends(0);
    }
    limited(&command(&["list"])).ends(0);
    let whole = machine.at("whole");
    let copy = |from: &Path, to: &Path| {
        let mut done = Command::new("rsync");
        done.args(["-a", "--delete", "--exclude=/whole", "--exclude=/to"]);
        assert!(done.arg(format!("{}/", from.display())).arg(to).status().unwrap().success());
    };
    copy(folder.path(), &whole);
    let of = |name: &str| files(&machine.at(name));
    let kinds = [of("vault"), of("keys"), of("state"), vec![config.clone()]];
    assert!(kinds.iter().all(|files| !files.is_empty()), "{kinds:?}");
    let to = machine.at("to");
    let commands: [&[&str]; 6] = [
        &["list"],
        &["backup", "src"],
        &["verify", "--level", "data"],
        &["restore", "src", "--to", to.to_str().unwrap()],
        &["index", "rebuild"],
        &["config", "check"],
    ];
    let mut random = Random(7);
    let (mut good, mut bad) = (0, 0);
    for round in 0..if long() { 3000 } else { 60 } {
        // Each kind as often as another, though one has more files.
        let kind = &kinds[round % kinds.len()];
        let path = &kind[random.below(kind.len())];
        let Ok(mut bytes) = fs::read(path) else { continue };
        harm(&mut random, &mut bytes);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path, &bytes).unwrap();
        let words = commands[random.below(commands.len())];
        let mut varu = command(words);
        varu.current_dir(folder.path());
        let ended = limited(&varu);
        let what = format!("round {round}: {words:?} with {}: {}\n{}", path.display(), ended.status, ended.err);
        assert!((0..=9).contains(&ended.status) && !ended.err.contains("panicked"), "{what}");
        let bare = |c: char| c.is_control() && c != '\n';
        assert!(!ended.err.contains(bare), "{what}: a control character is shown");
        (good, bad) = (good + usize::from(ended.status == 0), bad + usize::from(ended.status != 0));
        let _ = fs::remove_dir_all(machine.at("to"));
        copy(&whole, folder.path());
    }
    assert!(good > 0 && bad > 0, "{good} went well and {bad} did not");
}

/// Snapshots of 10 kB, each of which says as much of itself as a reader takes: held in memory all at once they are gigabytes.
#[test]
fn a_flood_of_snapshots_that_say_as_much_as_they_may_takes_no_more_memory_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path());
    let vault = machine.at("vault");
    let remote = create(&Location::Local(vault.clone()), &Options::default()).unwrap();
    let owner = Owner::create(&*remote);
    fs::create_dir(machine.at("keys")).unwrap();
    for (name, text) in [("writer.key", &owner.writer_key), ("identity.txt", &owner.identity)] {
        fs::write(machine.at("keys").join(name), text).unwrap();
        fs::set_permissions(machine.at("keys").join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let source = machine.at("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("text"), "some text\n").unwrap();
    let config = machine.at("varu.toml");
    fs::write(&config, format!("[sets.src]\nsource = \"files\"\npaths = [\"{}\"]\n", source.display())).unwrap();
    let command = |words: &[&str]| {
        let mut varu = machine.varu(&["--config"]);
        varu.arg(&config).args(words);
        // All of them have as much text.
        limited_to(600 << 20, &varu)
    };
    let honest = command(&["--json", "backup", "src"]).ends(0).json()["snapshot"]["id"].as_str().unwrap().to_owned();

    let thief = owner.writer(remote.clone(), &machine.at("thief"));
    thief.sync().unwrap();
    let newest = thief.newest().unwrap().unwrap();
    let like = thief.index().whole_body(&newest.id).unwrap().unwrap();
    let mut random = Random(1);
    let noise: Vec<u8> = (0..8192).map(|_| random.draw() as u8).collect();
    let configuration: Vec<u8> = noise.iter().copied().cycle().take(4_000_000).collect();
    let warnings = vec!["w".into(); 900];
    let plain = SnapshotBody { configuration, warnings, ..like }.encode();
    assert!((3 << 20..4 << 20).contains(&plain.len()), "{}", plain.len());
    let packed = packed(&plain);
    let stored = fs::read(vault.join(Repository::object_name(&newest).to_string())).unwrap();
    let count = if long() { 1000 } else { 150 };
    for number in 0..count {
        let header = SnapshotHeader {
            chain: ChainId::from_bytes(*varu::crypto::random_bytes()),
            previous: Some(newest.id),
            sequence: newest.header.sequence + 1 + number,
            ..newest.header.clone()
        };
        let (name, object) = forge_packed(&thief, header, packed.clone(), pages_of(&stored));
        assert_eq!(name.folder(), Folder::Snapshots);
        fs::write(vault.join(name.to_string()), &object).unwrap();
    }
    drop(thief);

    let is_there = |ended: Ended| {
        assert!((0..=9).contains(&ended.status) && !ended.err.contains("panicked"), "{}: {}", ended.status, ended.err);
        assert!(!ended.err.contains("memory"), "{}", ended.err);
        ended
    };
    let listed = is_there(command(&["list"])).ends(0);
    assert!(String::from_utf8_lossy(&listed.out).lines().count() as u64 > count);
    let document = is_there(command(&["--json", "list"])).ends(0).json();
    let of = document["snapshots"].as_array().unwrap();
    assert_eq!(of.len() as u64, count + 1);
    assert_eq!(of[5]["warnings"].as_array().unwrap().len(), 900, "nothing of it is left out");
    is_there(command(&["restore", "src", "--snapshot", &honest, "--to", machine.at("to").to_str().unwrap()])).ends(0);
    assert_eq!(
        fs::read_to_string(machine.at("to").join(source.strip_prefix("/").unwrap()).join("text")).unwrap(),
        "some text\n"
    );
    is_there(command(&["backup", "src", "--full"]));
    is_there(command(&["prune", "--dry-run"]));
    is_there(command(&["verify"]));
    is_there(command(&["index", "rebuild"]));
    // Their texts take no more of the machine's disk than of the host's.
    let index: u64 = files(&machine.at("state")).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(index < (count + 10) * (packed.len() as u64 * 2 + (64 << 10)), "{index}");
}

/// The files that a backup host reads: its ledger, holds, sightings, root's policy, and an account's folder. An account
/// writes the last; a failing disk writes them all.
#[test]
fn any_file_of_a_backup_host_that_is_harmed_is_read_or_refused_within_limits() {
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() != 0 {
        return eprintln!("skipped: not root");
    }
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path());
    let (state, policy, repository) = (machine.at("ledgers"), machine.at("host.toml"), machine.at("srv/acc/repo"));
    for made in [&repository, &state, &machine.at("src"), &machine.at("srv")] {
        fs::create_dir_all(made).unwrap();
    }
    let varu = |words: &[&str]| {
        let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", machine.at("home")).args(words);
        varu
    };
    let (home, place) = (machine.at("vm").display().to_string(), repository.display().to_string());
    let source = machine.at("src").display().to_string();
    for day in 0..3 {
        fs::write(machine.at("src").join("text"), format!("{day}\n").repeat(5000)).unwrap();
        let first = ["--repo", &place, "--state", &home];
        if day == 0 {
            Ended::from(varu(&[&first[..], &["init"]].concat()).output().unwrap()).ends(0);
        }
        Ended::from(varu(&[&first[..], &["backup", &source, "--set", "src"]].concat()).output().unwrap()).ends(0);
    }
    for kind in ["packs", "snapshots", "keys", "info", "pending", "marks"] {
        fs::create_dir_all(repository.join(kind)).unwrap();
        fs::set_permissions(repository.join(kind), fs::Permissions::from_mode(0o1770)).unwrap();
    }
    fs::write(&policy, "keep = \"28 days\"\nkeep_chains = 4\n[tags]\nmonthly = \"1 year\"\n").unwrap();
    let host = |words: &[&str]| {
        let mut host = varu(&["host"]);
        host.args(words).arg("--root").arg(machine.at("srv")).arg("--ledgers").arg(&state);
        host
    };
    // A foreign file, so that there is a sighting.
    fs::write(repository.join("packs/stray"), "no object").unwrap();
    let accepted = limited(&host(&["accept", "acc"]));
    assert!([0, 3].contains(&accepted.status), "{}", accepted.err);
    let list = limited(&varu(&["--repo", &place, "--state", &home, "--json", "list"])).ends(0).json();
    limited(&host(&["hold", list["snapshots"][0]["id"].as_str().unwrap()])).ends(0);
    let pruning = ["prune", "acc", "--dry-run", "--policy", policy.to_str().unwrap()];
    // The foreign file is reported.
    limited(&host(&pruning)).ends(3);
    let whole = machine.at("whole");
    let copy = |from: &Path, to: &Path| {
        let mut done = Command::new("rsync");
        done.args(["-a", "--delete", "--exclude=/whole"]).arg(format!("{}/", from.display())).arg(to);
        assert!(done.status().unwrap().success());
    };
    copy(folder.path(), &whole);
    let of = |path: &Path| files(path).into_iter().filter(|file| !file.ends_with("lock")).collect::<Vec<_>>();
    let kinds = [
        of(&state),
        vec![policy.clone()],
        of(&repository.join("info")),
        of(&repository.join("snapshots")),
        of(&repository),
    ];
    for name in ["ledger", "holds", "seen"] {
        assert!(kinds[0].iter().any(|file| file.ends_with(name)), "{name}: {:?}", kinds[0]);
    }
    let commands: [&[&str]; 5] =
        [&["accept", "acc"], &["verify", "acc"], &["status"], &pruning, &["mark-lost", "acc", "packs/stray"]];
    let mut random = Random(11);
    let (mut good, mut bad) = (0, 0);
    for round in 0..if long() { 3000 } else { 100 } {
        let kind = &kinds[round % kinds.len()];
        let path = &kind[random.below(kind.len())];
        let mut bytes = fs::read(path).unwrap();
        match random.below(20) {
            // As large as a disk lets it be, without taking any of it.
            0 => fs::File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap(),
            // One line without an end.
            1 => fs::write(path, vec![b'a'; 40 << 20]).unwrap(),
            _ => {
                harm(&mut random, &mut bytes);
                fs::write(path, &bytes).unwrap();
            }
        }
        let words = commands[if kind.len() == 1 && *path == policy { 3 } else { random.below(commands.len()) }];
        let ended = limited(&host(words));
        let what = format!("round {round}: {words:?} with {}: {}\n{}", path.display(), ended.status, ended.err);
        assert!((0..=9).contains(&ended.status) && !ended.err.contains("panicked"), "{what}");
        assert!(!ended.err.contains("memory allocation"), "{what}");
        let bare = |c: char| c.is_control() && c != '\n';
        assert!(!ended.err.contains(bare), "{what}: a control character is shown");
        let went_well = [0, 3].contains(&ended.status);
        (good, bad) = (good + usize::from(went_well), bad + usize::from(!went_well));
        copy(&whole, folder.path());
    }
    assert!(good > 0 && bad > 0, "{good} went well and {bad} did not");
}
