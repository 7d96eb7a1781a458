//! Circles of imports between files: files in one can't be read, tested or moved by themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::used_paths;
use super::{in_a_test_file, module_of};

/// The imports of each module: by module, the modules that its code outside of tests names. A module and the modules
/// below it are one unit to each other, so imports between them don't count.
pub fn imports(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<String> = files.keys().map(|file| module_of(file)).collect();
    let imported = |file: &str, text: &str| {
        let module = module_of(file);
        let used = used_paths(text, &module).into_iter().filter(|used| !used.in_test);
        let named = used.filter_map(|used| target(&used.path, &modules));
        let others = named.filter(|other| !is_within(other, &module) && !is_within(&module, other)).collect();
        (module, others)
    };
    let counted = files.iter().filter(|(file, _)| !in_a_test_file(&module_of(file)));
    counted.map(|(file, text)| imported(file, text)).collect()
}

/// The module that a path names or leads into.
fn target(path: &[String], modules: &BTreeSet<String>) -> Option<String> {
    let (root, rest) = path.split_first()?;
    if root != "crate" && root != "varu" {
        return None;
    }
    let prefixes = (1..=rest.len()).rev().map(|length| rest[..length].join("::"));
    prefixes.into_iter().find(|name| modules.contains(name))
}

fn is_within(module: &str, outer: &str) -> bool {
    module == outer || module.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
}

/// The circles, each as the imports that lead from a module back to itself, the shortest way.
pub fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for start in imports.keys() {
        if found.iter().flatten().any(|known| known == start) {
            continue;
        }
        found.extend(way_back(start, imports));
    }
    found
}

/// The shortest way from a module over its imports back to it.
fn way_back(start: &str, imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways = std::collections::VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in imports.get(way.last()?).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push_back(way.iter().cloned().chain([next.clone()]).collect());
            }
        }
    }
    None
}

fn of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    circles(&imports(&files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()))
}

#[test]
fn a_circle_is_caught() {
    let found = of(&[("a/mod.rs", ""), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "fn f() { crate::a::b::g() }")]);
    assert_eq!(found, [["a::b", "a::c"]]);
    let three = of(&[("a.rs", "use crate::b;"), ("b.rs", "use crate::c::x;"), ("c.rs", "use crate::{a::y};")]);
    assert_eq!(three, [["a", "b", "c"]]);
}

#[test]
fn what_is_no_circle_passes() {
    let none: [Vec<String>; 0] = [];
    assert_eq!(of(&[("a/mod.rs", "mod b; use b::B;"), ("a/b.rs", "use super::A;")]), none);
    assert_eq!(of(&[("a.rs", "use crate::b;"), ("b.rs", "#[cfg(test)] mod tests { use crate::a; }")]), none);
    assert_eq!(of(&[("a.rs", "use crate::b;"), ("b.rs", ""), ("b/tests.rs", "use crate::a;")]), none);
}
