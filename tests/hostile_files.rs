//! Any file that varu reads, harmed: objects of the repository, keys, the state, the configuration. The program, with its memory
//! limited by the kernel, reads or refuses it: it isn't killed, doesn't panic and doesn't hang.

#[path = "support/machine.rs"]
mod machine;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use machine::{Ended, Machine};
use support::{Random, long};

/// Most bytes of address space: what varu takes by itself with its threads, and a quarter of a GiB for what it reads.
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
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--as={MEMORY}")).arg(format!("--cpu={SECONDS}")).arg(command.get_program());
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
            _ if at < bytes.len() => bytes[at] = random.next() as u8,
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
    let commands: [&[&str]; 6] = [
        &["list"],
        &["backup", "src"],
        &["verify", "--level", "data"],
        &["restore", "src", "--to", "to"],
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
