//! The grid of threats in `docs/format.md`, held against the tests that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The modules below a folder and the files that they are in, by their paths from there.
fn modules(root: &Path, all: &mut BTreeMap<String, PathBuf>) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.strip_prefix(root).unwrap().to_str().unwrap().strip_suffix(".rs") {
                all.insert(name.trim_end_matches("/mod").replace('/', "::"), path);
            }
        }
    }
}

/// Every module that holds tests: those of each suite, and those of the program.
fn all_modules() -> BTreeMap<String, PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = BTreeMap::new();
    for suite in fs::read_dir(top.join("tests")).unwrap().map(|entry| entry.unwrap().path()) {
        if suite.join("main.rs").exists() {
            modules(&suite, &mut all);
        }
    }
    modules(&top.join("src"), &mut all);
    all
}

/// The names of a file's tests.
fn tests(path: &Path) -> BTreeSet<String> {
    let source = text(path).unwrap_or_default();
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_test =
        |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| *line == "#[test]");
    let name = |(at, line): (usize, &&str)| {
        let name = line.strip_prefix("fn ")?.split('(').next()?;
        is_test(at).then(|| name.to_owned())
    };
    lines.iter().enumerate().filter_map(name).collect()
}

/// The code spans that are paths of a test or of a suite.
fn named(document: &str) -> BTreeSet<String> {
    let is_path = |word: &&str| {
        word.split("::").all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    document.split('`').skip(1).step_by(2).filter(is_path).map(str::to_owned).collect()
}

#[test]
fn each_test_of_the_grid_is_there_and_each_attack_is_in_the_grid() {
    let document = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    let threats =
        document.split("\n## Threats\n").nth(1).and_then(|rest| rest.split("\n### Table of keys\n").next()).unwrap();
    let named = named(threats);
    let modules = all_modules();
    for path in named.iter().filter(|path| path.contains("::")) {
        let (module, name) = path.rsplit_once("::").unwrap();
        let is_test = modules.get(module).is_some_and(|file| tests(file).contains(name));
        assert!(is_test || modules.contains_key(path), "the grid names {path}, which isn't there");
    }
    for suite in named.iter().filter(|path| !path.contains("::")) {
        assert!(modules.contains_key(suite), "the grid names {suite}, which is no suite");
    }
    let mut attacks = 0;
    for (module, file) in modules.iter().filter(|(module, _)| module.contains("attacks") || *module == "thief") {
        for test in tests(file).into_iter().filter(|_| module != "attacks::grid") {
            assert!(
                named.contains(&format!("{module}::{test}")),
                "{module}::{test} is not in the grid of docs/format.md"
            );
            attacks += 1;
        }
    }
    assert!(attacks > 25, "{attacks} attacks were looked for");
}
