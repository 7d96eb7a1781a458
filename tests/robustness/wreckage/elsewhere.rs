//! Restores from chunks that are stored elsewhere than the recipe says.

use super::*;
use support::medium::BadMedium;

fn restored(site: &Site, snapshot: &str, spoilt: Option<(&BadMedium, &str)>) -> (Ended, BTreeMap<String, Vec<u8>>) {
    let to = tempfile::tempdir().unwrap();
    let (mut varu, _state) = elsewhere(site, &["restore", "--snapshot", snapshot, "--to", to.path().to_str().unwrap()]);
    if let Some((medium, bad)) = spoilt {
        medium.spoil(&mut varu, bad);
    }
    (run(&mut varu), below(to.path()))
}

#[test]
fn what_a_later_backup_stored_again_brings_an_older_snapshot_back() {
    let site = files();
    let first = site.back_up();
    let there = below(&site.machine.at("src"));
    let pack = objects(&site, "packs").remove(0);
    let path = site.machine.at("vault/packs").join(&pack);
    fs::remove_file(&path).unwrap();
    let (ended, files) = restored(&site, &first, None);
    assert_eq!((ended.ends(7).status, files.len()), (7, 0));
    // It has a new file, and more of an old one.
    put(&site, "4", 10_000);
    let second = site.run(&["--json", "-q", "backup", "s"]).ends(3).json();
    assert_eq!(second["snapshot"]["kind"], "full");
    let (ended, files) = restored(&site, &first, None);
    assert!(files == there, "{}", ended.err);
    assert!(ended.ends(0).err.contains("which has the same bytes"));
}

#[test]
fn chunks_of_a_rotten_or_an_unreadable_pack_are_taken_from_another_one() {
    let site = files();
    let first = site.back_up();
    let there = below(&site.machine.at("src"));
    let pack = objects(&site, "packs").remove(0);
    let path = site.machine.at("vault/packs").join(&pack);
    let whole = fs::read(&path).unwrap();
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 1;
    fs::write(&path, rotten).unwrap();
    assert!(restored(&site, &first, None).0.ends(7).err.contains(&pack));
    // Data that a verification found damaged is stored again.
    site.run(&["verify"]).ends(7);
    site.run(&["backup", "s"]).ends(3);
    let (ended, files) = restored(&site, &first, None);
    assert!(files == there, "{}", ended.err);
    assert!(!ended.ends(0).err.contains("which has the same bytes"), "chunks are enough");
    // The directory of this one doesn't read on a fresh machine: the streams are found by their hashes.
    fs::write(&path, whole).unwrap();
    let medium = BadMedium::new(&site.machine.top);
    let (ended, files) = restored(&site, &first, Some((&medium, &pack)));
    assert!(files == there, "{}", ended.err);
    assert!(ended.ends(0).err.contains("which has the same bytes"));
}
