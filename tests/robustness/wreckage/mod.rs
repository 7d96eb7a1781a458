//! Recovery after severe failures, with the real program: an unreadable medium, a damaged index, a full state disk.
//! Everything that remains is restored, losses are named, and the next backup repairs what it can.

mod cuts;
mod elsewhere;
mod hosts;
mod index;
mod lines;
mod readonly;
mod room;
mod salvage;
mod unreadable;
mod ways;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::machine::{Ended, Machine};
use support::site::Site;

/// Bytes that don't compress.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

/// A set `s` of the folder `src`, with three files of half a megabyte.
pub fn files() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new("s", "");
    drop(folder);
    fs::create_dir(site.machine.at("src")).unwrap();
    (1..=3).for_each(|number| put(&site, &number.to_string(), 500_000));
    site.configure(&format!("source = \"files\"\npaths = [{:?}]", site.machine.at("src")));
    site
}

/// A new file in the set, of so many bytes.
pub fn put(site: &Site, name: &str, length: usize) {
    let seed = name.bytes().fold(length as u64, |seed, byte| seed * 31 + u64::from(byte));
    fs::write(site.machine.at("src").join(name), noise(length, seed)).unwrap();
}

/// The program on a machine that has the identity alone, which ends with the site's next call.
pub fn elsewhere(site: &Site, words: &[&str]) -> (Command, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let Machine { top, .. } = &site.machine;
    let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
    varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", state.path());
    varu.arg("--repo").arg(top.join("vault")).arg("--state").arg(state.path()).arg("--identity").arg(identity(top));
    varu.args(words);
    (varu, state)
}

fn identity(top: &Path) -> std::path::PathBuf {
    let mut entries = fs::read_dir(top.join("keys")).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.to_string_lossy().ends_with("identity.txt")).unwrap()
}

/// Runs a command.
pub fn run(command: &mut Command) -> Ended {
    command.output().unwrap().into()
}

/// The files below a folder, by name.
pub fn below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => drop(found.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())),
            }
        }
    }
    found
}

/// The objects of a folder of the repository, the oldest first.
pub fn objects(site: &Site, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(site.machine.at("vault").join(folder)).unwrap().map(Result::unwrap);
    let mut found: Vec<_> = entries
        .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.file_name().into_string().unwrap()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}
