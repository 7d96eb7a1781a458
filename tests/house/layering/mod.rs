//! The architecture, checked: every import of `src/` goes down, and every third-party crate stays at home.
//!
//! The tables are those of the crate's documentation (`src/lib.rs`). A new module or crate is entered here first.

mod circles;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use paths::{Used, used_paths};

/// The floors, lowest first, and their modules in order: a module may import floors below its own and, except on floor 1,
/// modules that stand before it on its own floor.
const FLOORS: [&[&str]; 8] = [
    &["disk", "shell", "class", "id", "entry", "time", "facts", "warning", "progress"],
    &["chunker", "segment", "crypto", "source", "remote"],
    &["format"],
    &["index"],
    &["repository"],
    &["error", "retention", "keyring", "init", "backup", "restore", "verify", "diff", "prune", "host", "copy"],
    &["job"],
    &["terminal", "config", "cli", "main"],
];

/// The floor whose modules never import each other.
const APART: usize = 1;

/// Third-party crates and the modules that may use them: a module, a part of one (`remote::local`), or a floor.
const HOMES: &[(&str, &[Home])] = &[
    ("blake3", &[Home::Module("id")]),
    ("shlex", &[Home::Module("shell")]),
    ("chrono", &[Home::Module("time")]),
    ("chrono_tz", &[Home::Module("time")]),
    ("fastcdc", &[Home::Module("chunker")]),
    ("zstd", &[Home::Module("segment")]),
    ("chacha20poly1305", &[Home::Module("crypto")]),
    ("age", &[Home::Module("crypto")]),
    ("getrandom", &[Home::Module("crypto")]),
    ("encoding_rs", &[Home::Module("source::mysql")]),
    ("flate2", &[Home::Module("source::influxdb")]),
    ("prost", &[Home::Module("source::influxdb")]),
    ("rustix", &[Home::Module("disk"), Home::Module("source"), Home::Module("remote"), Home::Module("host")]),
    ("nix", &[Home::Module("source"), Home::Module("host")]),
    ("bytes", &[Home::Module("remote::sftp")]),
    ("openssh_sftp_client_lowlevel", &[Home::Module("remote::sftp")]),
    ("tokio", &[Home::Module("remote::sftp")]),
    ("rusqlite", &[Home::Module("index")]),
    ("memchr", &[Home::Module("source"), Home::Floor(5)]),
    ("rayon", &[Home::Module("repository::key_objects"), Home::Floor(5)]),
    (
        "tempfile",
        &[
            Home::Module("remote::spool"),
            Home::Module("repository::fetcher"),
            Home::Module("job"),
            Home::Module("cli"),
            Home::Module("disk"),
        ],
    ),
    ("clap", &[Home::Module("cli")]),
    ("clap_complete", &[Home::Module("cli")]),
    ("clap_mangen", &[Home::Module("cli")]),
    ("ctrlc", &[Home::Module("main")]),
    ("indicatif", &[Home::Module("terminal")]),
    ("qrcode", &[Home::Module("cli")]),
    ("serde_json", &[Home::Module("source::influxdb"), Home::Module("cli"), Home::Module("terminal")]),
    ("strsim", &[Home::Module("job")]),
    ("toml", &[Home::Module("config")]),
    ("serde", &[Home::Everywhere]),
    ("thiserror", &[Home::Everywhere]),
    ("zeroize", &[Home::Everywhere]),
];

/// Where a crate may be used.
#[derive(Debug, Clone, Copy)]
enum Home {
    Module(&'static str),
    Floor(usize),
    Everywhere,
}

impl Home {
    fn covers(self, module: &str) -> bool {
        match self {
            Home::Module(home) => module == home || module.starts_with(&format!("{home}::")),
            Home::Floor(floor) => place(top(module)).is_some_and(|(at, _)| at == floor),
            Home::Everywhere => true,
        }
    }
}

/// A module's floor, and its number on that floor.
fn place(module: &str) -> Option<(usize, usize)> {
    FLOORS
        .iter()
        .enumerate()
        .find_map(|(floor, modules)| modules.iter().position(|&name| name == module).map(|position| (floor, position)))
}

/// `remote` of `remote::local`.
fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// `remote::local` of `remote/local.rs`, `remote` of `remote/mod.rs`.
pub fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs");
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

/// Whether a file holds tests alone.
pub fn in_a_test_file(module: &str) -> bool {
    module.split("::").any(|part| part == "tests" || part.ends_with("_tests"))
}

/// The violations in one file, one line each.
fn check(file: &str, text: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let module = module_of(file);
    if module == "lib" {
        return Vec::new();
    }
    let Some(own) = place(top(&module)) else {
        return vec![format!("{file}: the module {} stands on no floor", top(&module))];
    };
    let mut problems = Vec::new();
    for Used { path, line, in_test } in used_paths(text, &module) {
        let shown = path.join("::");
        let mut problem = |what: &str| problems.push(format!("{file}:{line}: {shown}: {what}"));
        match path[0].as_str() {
            root @ ("crate" | "varu") => match path.get(1).map(String::as_str) {
                Some("*") => problem("a glob import of the crate"),
                // What the library's modules are to each other, the binary's are among themselves.
                Some(other) if root == "varu" || other != top(&module) => match place(other) {
                    None => problem("no module of that name stands on a floor"),
                    Some(other) => {
                        if let Err(what) = may_import(own, other) {
                            problem(what);
                        }
                    }
                },
                _ => {}
            },
            name if crates.contains(name) && !in_test && !in_a_test_file(&module) && !at_home(name, &module) => {
                problem("a crate outside its home");
            }
            _ => {}
        }
    }
    problems
}

/// Whether a module at `own` may import one at `other`.
fn may_import(own: (usize, usize), other: (usize, usize)) -> Result<(), &'static str> {
    match other.0.cmp(&own.0) {
        std::cmp::Ordering::Less => Ok(()),
        std::cmp::Ordering::Greater => Err("an upward import"),
        std::cmp::Ordering::Equal if own.0 != APART && other.1 < own.1 => Ok(()),
        std::cmp::Ordering::Equal => Err("a sideways import"),
    }
}

fn at_home(name: &str, module: &str) -> bool {
    HOMES
        .iter()
        .find(|(known, _)| *known == name)
        .is_some_and(|(_, homes)| homes.iter().any(|home| home.covers(module)))
}

/// Crates of `[dependencies]` without a home, and homes of crates that aren't there.
fn check_homes(crates: &BTreeSet<String>) -> Vec<String> {
    let housed: BTreeSet<String> = HOMES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let homeless = crates.difference(&housed).map(|name| format!("Cargo.toml: {name} has no home"));
    let absent = housed.difference(crates).map(|name| format!("{name} has a home, but isn't in Cargo.toml"));
    homeless.chain(absent).collect()
}

/// The names under which the code sees what `[dependencies]` lists.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")).collect()
}

/// Every Rust file below `folder`, with its name from there.
fn rust_files(folder: &Path, below: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            rust_files(&entry.path(), &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// The code, by file.
pub fn code() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(files.len() > 5, "the code was found");
    files
}

/// The floors as a page of documentation draws them: by floor, the modules that its table's row names.
fn drawn(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter_map(|line| line.trim_start_matches("//!").trim().strip_prefix("| "));
    let rows = rows.filter(|row| row.starts_with(|first: char| first.is_ascii_digit()));
    let names = |row: &str| row.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.map(names).collect()
}

/// Modules that stand on a floor and don't exist, or the other way round, and homes of crates that nothing in them uses.
fn check_tables(files: &BTreeMap<String, String>, crates: &BTreeSet<String>) -> Vec<String> {
    let there: BTreeSet<String> = files.keys().map(|file| top(&module_of(file)).to_owned()).collect();
    let absent = FLOORS.iter().flat_map(|modules| modules.iter()).filter(|name| !there.contains(**name));
    let mut problems: Vec<String> = absent.map(|name| format!("{name} stands on a floor, and doesn't exist")).collect();
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    for (file, text) in files {
        let module = module_of(file);
        if in_a_test_file(&module) {
            continue;
        }
        let named =
            used_paths(text, &module).into_iter().filter(|used| !used.in_test && crates.contains(&used.path[0]));
        used.extend(named.map(|used| (used.path[0].clone(), module.clone())));
    }
    for (name, homes) in HOMES {
        let is_used = |home: &Home| used.iter().any(|(known, module)| known == name && home.covers(module));
        let unused = homes.iter().filter(|home| !is_used(home));
        problems.extend(unused.map(|home| format!("{name} has a home at {home:?}, and nothing there uses it")));
    }
    problems
}

#[test]
fn no_import_leads_back_to_where_it_began() {
    let found: Vec<String> =
        circles::circles(&circles::imports(&code())).iter().map(|circle| circle.join(" -> ")).collect();
    assert!(found.is_empty(), "circles of imports:\n{}", found.join("\n"));
}

#[test]
fn every_entry_of_the_tables_exists_and_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    let problems = check_tables(&code(), &crates);
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_documentation_draws_the_floors_as_they_are() {
    let floors: Vec<Vec<String>> =
        FLOORS.iter().map(|modules| modules.iter().map(|&name| name.to_owned()).collect()).collect();
    assert_eq!(drawn(&code()["lib.rs"]), floors);
}

#[test]
fn an_entry_that_is_nothing_is_caught() {
    let files = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
    let mut all: Vec<String> = FLOORS.iter().flat_map(|floor| floor.iter()).map(|name| format!("{name}.rs")).collect();
    let without = |last: &str| all.iter().filter(|name| *name != last).map(String::as_str).collect::<Vec<_>>();
    let problems = check_tables(&files(&without("backup.rs")), &BTreeSet::new());
    assert!(problems.contains(&"backup stands on a floor, and doesn't exist".to_owned()), "{problems:?}");
    assert!(problems.contains(&"blake3 has a home at Module(\"id\"), and nothing there uses it".to_owned()));
    all.retain(|name| name != "id.rs");
    let mut with_a_use: BTreeMap<String, String> = files(&all.iter().map(String::as_str).collect::<Vec<_>>());
    with_a_use.insert("id.rs".to_owned(), "use blake3::Hasher;".to_owned());
    let problems = check_tables(&with_a_use, &BTreeSet::from(["blake3".to_owned()]));
    assert!(!problems.iter().any(|problem| problem.starts_with("blake3 ")), "{problems:?}");
    assert_eq!(drawn("//! | floor | modules |\n//! | --- | --- |\n//! | 0 words | [`id`](mod@id), `time` |").len(), 1);
}

#[test]
fn every_import_goes_down_and_every_crate_stays_at_home() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    let files = code();
    let mut problems = check_homes(&crates);
    problems.extend(files.iter().flat_map(|(file, text)| check(file, text, &crates)));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

// The checker, checked: each of these is code that must not pass, and its neighbour code that must.

fn problems(file: &str, text: &str) -> Vec<String> {
    let crates = HOMES.iter().map(|(name, _)| (*name).to_owned()).collect();
    check(file, text, &crates)
}

/// That the file is found wrong once, in that line, for that reason.
#[track_caller]
fn caught(file: &str, text: &str, line: usize, what: &str) {
    let found = problems(file, text);
    assert_eq!(found.len(), 1, "{found:?} in {text}");
    assert!(found[0].starts_with(&format!("{file}:{line}: ")) && found[0].ends_with(what), "{found:?}");
}

#[track_caller]
fn passes(file: &str, text: &str) {
    assert_eq!(problems(file, text), Vec::<String>::new(), "{text}");
}

#[test]
fn an_upward_import_is_caught() {
    caught("chunker.rs", "use crate::id::ChunkId;\nuse crate::format::pack;", 2, "an upward import");
    caught("id.rs", "fn f() { crate::repository::open() }", 1, "an upward import");
    caught("index/mod.rs", "use crate::{id::ChunkId, entry,\n repository::{open}};", 2, "an upward import");
    caught("index/mod.rs", "fn f(x: &<T as crate::repository::Tr>::Out) {}", 1, "an upward import");
    caught("index/mod.rs", "macro_rules! m { () => { $crate::backup::run() } }", 1, "an upward import");
    passes("repository/mod.rs", "use crate::{format::pack, index, crypto::{self, Sealed}};");
}

#[test]
fn a_sideways_import_is_caught() {
    caught("remote/local.rs", "use crate::source::Source;", 1, "a sideways import");
    caught("chunker.rs", "use crate::segment::Segment;", 1, "a sideways import");
    caught("backup.rs", "use crate::restore::Options;", 1, "a sideways import");
    passes("restore.rs", "use crate::backup::Options;");
    passes("remote/local.rs", "use crate::remote::{Remote, ErrorKind};");
    passes("time/zone.rs", "use crate::entry::FileTime;");
    caught("entry.rs", "use crate::time::Timestamp;", 1, "a sideways import");
}

#[test]
fn a_relative_path_is_followed() {
    caught("remote/local.rs", "use super::super::backup::run;", 1, "an upward import");
    caught("remote/local.rs", "mod inner { use super::super::super::source::Source; }", 1, "a sideways import");
    caught("id.rs", "mod inner {\n fn f() { super::super::index::open() } }", 2, "an upward import");
    passes("remote/local.rs", "use super::{Remote, backup};\nmod inner { use super::super::backup; }");
    passes("remote/mod.rs", "pub use self::local::Local; pub(in crate::remote) fn f() {}");
}

#[test]
fn a_glob_of_the_crate_is_caught() {
    caught("restore.rs", "use crate::*;", 1, "a glob import of the crate");
    caught("restore.rs", "use crate::{*};", 1, "a glob import of the crate");
    caught("restore.rs", "use super::*;", 1, "a glob import of the crate");
    passes("restore.rs", "use crate::backup::*;");
    passes("restore.rs", "mod tests { use super::*; }");
}

#[test]
fn a_crate_outside_its_home_is_caught() {
    let outside = "a crate outside its home";
    caught("format/pack.rs", "use blake3::Hasher;", 1, outside);
    caught("format/pack.rs", "use blake3;", 1, outside);
    caught("format/pack.rs", "use {std::fmt, blake3};", 1, outside);
    caught("format/pack.rs", "extern crate blake3;", 1, outside);
    caught("format/pack.rs", "fn f() {\n blake3::hash(b\"\"); }", 2, outside);
    caught("format/pack.rs", "fn f(x: ::blake3::Hash) {}", 1, outside);
    caught("format/pack.rs", "fn f() { println!(\"{}\", blake3::hash(b\"\")) }", 1, outside);
    caught("format/pack.rs", "#[derive(clap::Args)] struct A;", 1, outside);
    caught("index/mod.rs", "use rustix::fs::fsync;", 1, outside);
    caught("index/mod.rs", "use rayon::prelude::*;", 1, outside);
    passes("remote/local.rs", "use rustix::fs::fsync;");
    passes("restore/mod.rs", "use rayon::prelude::*;");
    passes("format/pack.rs", "use serde::Serialize;");
}

#[test]
fn what_is_no_use_of_a_crate_passes() {
    passes("format/pack.rs", "// use blake3::Hasher;\n/// blake3::hash\nconst A: &str = \"blake3::hash\";");
    passes("format/pack.rs", "fn f(ignore: bool, age: u64) { if ignore { x.age::<u8>(); } age += 1; }");
    passes("format/pack.rs", "use crate::id; use other::blake3::Thing;");
    passes("format/pack.rs", "struct S { age: Duration } fn f() -> S { S { age: std::time::now() } }");
}

#[test]
fn tests_may_use_every_crate_but_still_import_downward() {
    passes("remote/local.rs", "#[cfg(test)]\nmod tests { use tempfile::tempdir; }");
    passes("remote/local/tests.rs", "use tempfile::tempdir;");
    caught(
        "id.rs",
        "#[cfg(test)] use tempfile::tempdir;\nfn f() { tempfile::tempdir() }",
        2,
        "a crate outside its home",
    );
    caught("remote/local.rs", "#[cfg(test)] mod tests { use crate::backup; }", 1, "an upward import");
}

#[test]
fn the_binary_stands_on_the_library() {
    passes("cli/backup.rs", "use varu::backup; use crate::config::Config; use clap::Args;");
    passes("main.rs", "mod cli; fn main() { cli::main(crate::terminal::new()) }");
    caught("config.rs", "use crate::cli::Context;", 1, "a sideways import");
    caught("cli/list.rs", "use varu::*;", 1, "a glob import of the crate");
    caught("terminal.rs", "use clap::Args;", 1, "a crate outside its home");
}

#[test]
fn a_module_without_a_floor_and_a_crate_without_a_home_are_caught() {
    assert_eq!(problems("utils.rs", ""), ["utils.rs: the module utils stands on no floor"]);
    caught("backup.rs", "use crate::utils::x;", 1, "no module of that name stands on a floor");
    let mut crates = dependencies("[dependencies]\nsome-thing = \"1\"\n[dev-dependencies]\nother = \"1\"");
    crates.extend(HOMES.iter().map(|(name, _)| (*name).to_owned()));
    assert_eq!(check_homes(&crates), ["Cargo.toml: some_thing has no home"]);
    crates.remove("some_thing");
    crates.remove("zstd");
    assert_eq!(check_homes(&crates), ["zstd has a home, but isn't in Cargo.toml"]);
}
