//! Protection of good data from empty data: an emptied source, other paths in the same set. Commands that a message
//! advises are run in the state that prints it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::machine::Ended;
use support::site::Site;

fn site() -> (Site, PathBuf) {
    let site = Site::new("s", "source = \"files\"\npaths = [\"/etc\"]");
    let folder = site.machine.at("src");
    fill(&folder, 9, 100);
    (site, folder)
}

fn fill(folder: &Path, files: usize, bytes: usize) {
    fs::create_dir_all(folder).unwrap();
    (0..files).for_each(|n| fs::write(folder.join(format!("f{n}")), vec![n as u8; bytes]).unwrap());
}

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

/// Bytes of the set's snapshot that `latest` means.
fn latest(site: &Site, set: &str) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--json", "-q", "restore", set, "--to", folder.path().to_str().unwrap()];
    site.run(&words).json()["restored"][0]["bytes"].as_u64().unwrap()
}

fn piped(site: &Site, words: &[&str], input: &[u8]) -> Ended {
    let mut varu = site.command(words);
    let mut child = varu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn an_emptied_source_is_suspect_until_it_is_accepted() {
    let (site, folder) = site();
    let path = folder.to_str().unwrap();
    site.configure(&format!("source = \"files\"\npaths = [\"{path}\"]\nmax_shrink = \"10 %\""));
    for (set, words) in [("files", ["backup", path]), ("s", ["backup", "s"])] {
        fill(&folder, 9, 100);
        site.run(&words).ends(0);
        empty(&folder);
        for _ in 0..3 {
            let shrunk = site.run(&words).ends(3);
            assert!(shrunk.err.contains("by 100 %, from 900 to 0 bytes"), "{}", shrunk.err);
            assert!(shrunk.err.contains("back up once more with --accept-shrink"), "{}", shrunk.err);
            assert_eq!(latest(&site, set), 900, "the good one stays the latest");
        }
        site.run(&[words[0], words[1], "--accept-shrink"]).ends(0);
        assert_eq!(latest(&site, set), 0);
        site.run(&words).ends(0);
    }
    // A little less than before is no matter, and half of it is.
    fill(&folder, 10, 10);
    site.run(&["backup", path]).ends(0);
    empty(&folder);
    fill(&folder, 5, 10);
    site.run(&["backup", path]).ends(0);
    empty(&folder);
    fill(&folder, 2, 10);
    site.run(&["backup", path]).ends(3);
}

#[test]
fn a_path_of_several_that_lost_everything_is_seen_though_it_was_small() {
    let (site, small) = site();
    let large = site.machine.at("large");
    fill(&large, 4, 100_000);
    let paths = [small.to_str().unwrap(), large.to_str().unwrap()];
    site.run(&["backup", paths[0], paths[1]]).ends(0);
    empty(&small);
    let shrunk = site.run(&["backup", paths[0], paths[1]]).ends(3);
    assert!(shrunk.err.contains(&format!("{} had 900 bytes before and has none now", paths[0])), "{}", shrunk.err);
    assert_eq!(latest(&site, "files"), 400_900);
    site.run(&["backup", paths[0], paths[1], "--accept-shrink"]).ends(0);
    // Who says that a set may shrink as it likes isn't told.
    fill(&small, 9, 100);
    site.configure(&format!("source = \"files\"\npaths = {paths:?}\nmax_shrink = \"100 %\""));
    site.run(&["backup", "s"]).ends(0);
    empty(&small);
    site.run(&["backup", "s"]).ends(0);
}

#[test]
fn standard_input_that_ends_early_is_suspect() {
    let (site, _) = site();
    let words = ["backup", "--stdin", "dump.sql"];
    piped(&site, &words, &[b'x'; 900]).ends(0);
    piped(&site, &words, &[b'x'; 100]).ends(3);
    assert_eq!(latest(&site, "dump.sql"), 900);
    piped(&site, &[&words[..], &["--accept-shrink"]].concat(), &[b'x'; 100]).ends(0);
}

#[test]
fn other_paths_do_not_take_the_place_of_a_sets() {
    let (site, one) = site();
    let other = site.machine.at("other");
    fill(&other, 9, 100);
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    site.run(&["backup", one]).ends(0);
    // The same path, however it is written.
    for same in [format!("{one}/"), format!("{one}//"), format!("{one}/.")] {
        site.run(&["backup", &same]).ends(0);
    }
    for words in [&[other][..], &[one, other], &["--full", other]] {
        let refused = site.run(&[&["backup"], words].concat()).ends(5);
        for part in [format!("the set files is of {one}"), "--set NAME".to_owned(), "--change-paths".to_owned()] {
            assert!(refused.err.contains(&part), "{}", refused.err);
        }
    }
    assert_eq!(site.snapshots(), 4, "nothing was stored");
    // Each of the two ways is one.
    site.run(&["backup", "--set", "photos", other]).ends(0);
    site.run(&["backup", "--set", "photos", &format!("{other}/.")]).ends(0);
    site.run(&["backup", one]).ends(0);
    site.run(&["backup", "--change-paths", other, one]).ends(0);
    site.run(&["backup", one, other]).ends(0);
    site.run(&["backup", one]).ends(5);
    // Standard input, or a set of the configuration, has no other place either.
    piped(&site, &["backup", "--set", "files", "--stdin", "a"], b"a").ends(5);
    piped(&site, &["backup", "--set", "dump", "--stdin", "a"], b"a").ends(0);
    piped(&site, &["backup", "--set", "dump", "--stdin", "b"], b"a").ends(5);
    piped(&site, &["backup", "--set", "dump", "--change-paths", "--stdin", "b"], b"a").ends(0);
    site.configure(&format!("source = \"files\"\npaths = [\"{one}\"]"));
    site.run(&["backup", "s"]).ends(0);
    site.run(&["backup", "--set", "s", other]).ends(5);
    site.run(&["backup", "--set", "s", one]).ends(0);
    // The set of the configuration is meant.
    site.configure(&format!("source = \"files\"\npaths = [\"{other}\"]"));
    site.run(&["backup", "s"]).ends(0);
    assert!(site.run(&["backup", "s", "--change-paths"]).ends(2).err.contains("is in the configuration"));
}
