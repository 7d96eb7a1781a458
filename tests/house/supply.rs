//! The crates that varu is built of, held against the lists of `deny.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

struct Crate {
    name: String,
    version: String,
    license: String,
    source: Option<String>,
}

/// All crates of the lock file, for whichever machine and for tests.
fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let one = |package: &serde_json::Value| Crate {
        name: text(&package["name"]),
        version: text(&package["version"]),
        license: text(&package["license"]),
        source: package["source"].as_str().map(str::to_owned),
    };
    all["packages"].as_array().unwrap().iter().map(one).collect()
}

fn rules() -> toml::Table {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap().parse().unwrap()
}

fn texts<'t>(rules: &'t toml::Table, section: &str, key: &str) -> Vec<&'t str> {
    rules[section][key].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// Whether a licence expression can be met by what is allowed. A slash is what OR was once.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allowed);
    met && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let met = any(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    if let (Some(&"WITH"), Some(exception)) = (words.get(*at), words.get(*at + 1)) {
        *at += 2;
        return allowed.contains(&format!("{word} WITH {exception}").as_str());
    }
    allowed.contains(&word)
}

#[test]
fn each_crate_may_be_used_and_comes_from_the_one_registry() {
    let rules = rules();
    let allowed = texts(&rules, "licenses", "allow");
    let registries = texts(&rules, "sources", "allow-registry");
    let crates = crates();
    assert!(crates.len() > 100, "the tree was read");
    for one in &crates {
        assert!(is_met(&one.license, &allowed), "{} {}: {}", one.name, one.version, one.license);
        let known =
            |source: &String| registries.iter().any(|registry| source.strip_prefix("registry+") == Some(registry));
        assert!(one.source.as_ref().is_none_or(known), "{} {}: {:?}", one.name, one.version, one.source);
    }
    // An exception without a crate is no longer needed.
    for licence in &allowed {
        let others: Vec<&str> = allowed.iter().copied().filter(|other| other != licence).collect();
        let named = crates.iter().any(|one| one.license.contains(licence) || !is_met(&one.license, &others));
        assert!(named, "{licence} is allowed, and no crate names it");
    }
}

#[test]
fn a_licence_is_met_by_its_whole_expression() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
    for met in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT", "MIT MIT", "MIT AND (GPL-3.0 OR Apache-2.0)"]
    {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn no_crate_is_banned_or_there_twice_without_a_reason() {
    let rules = rules();
    let named = |list: &str| -> Vec<String> {
        let entries = rules["bans"][list].as_array().unwrap();
        entries.iter().map(|entry| entry["crate"].as_str().unwrap().to_owned()).collect()
    };
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in crates() {
        versions.entry(one.name).or_default().insert(one.version);
    }
    for banned in named("deny") {
        assert!(!versions.contains_key(&banned), "{banned} has come into the tree: cargo tree -i {banned}");
    }
    let skipped = named("skip");
    for skip in &skipped {
        let (name, version) = skip.split_once('@').unwrap();
        let is_there = |found: &String| found == version || found.starts_with(&format!("{version}."));
        let found = versions.get_mut(name);
        let twice = found.as_ref().is_some_and(|found| found.len() > 1 && found.iter().any(is_there));
        assert!(twice, "{skip} isn't there twice: it needs no exception");
        found.unwrap().retain(|version| !is_there(version));
    }
    for (name, found) in versions {
        assert!(found.len() < 2, "{name} is there as {found:?}: cargo tree -d, and a reason in deny.toml");
    }
}
