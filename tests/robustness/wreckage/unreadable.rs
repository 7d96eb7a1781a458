//! An object that is there and can't be read is damage of that object, as one that is gone.

use super::*;
use support::medium::BadMedium;

/// A full and an incremental with a new file, and the medium that will fail.
fn two_backups() -> (Site, BadMedium) {
    let site = files();
    site.back_up();
    put(&site, "4", 400_000);
    site.back_up();
    let medium = BadMedium::new(&site.machine.top);
    (site, medium)
}

fn restored(site: &Site, medium: &BadMedium, bad: &str, words: &[&str]) -> (Ended, BTreeMap<String, Vec<u8>>) {
    let to = tempfile::tempdir().unwrap();
    let (mut varu, _state) = elsewhere(site, &[&["restore", "s", "--to", to.path().to_str().unwrap()], words].concat());
    (run(medium.spoil(&mut varu, bad)), below(to.path()))
}

#[test]
fn a_pack_that_can_not_be_read_costs_what_lies_in_it() {
    let (site, medium) = two_backups();
    let there = below(&site.machine.at("src"));
    let bad = objects(&site, "packs").pop().unwrap();
    let (ended, files) = restored(&site, &medium, &bad, &[]);
    assert!(ended.err.contains(&bad) && ended.err.contains("Input/output error"), "{}", ended.err);
    let ended = ended.ends(7);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["1", "2", "3"], "{}", ended.err);
    assert!(files.iter().all(|(name, bytes)| there[name] == *bytes));
    let (ended, files) = restored(&site, &medium, &bad, &["--only", "1"]);
    assert_eq!((ended.ends(0).status, files.len()), (0, 1));

    let mut verify = site.command(&["verify"]);
    let verified = run(medium.spoil(&mut verify, &bad)).ends(7);
    let text = String::from_utf8(verified.out).unwrap();
    assert!(text.contains(&format!("packs/{bad}: ")) && text.contains("whole  ") && text.contains("DAMAGED"), "{text}");
    let mut rebuild = site.command(&["index", "rebuild"]);
    let rebuilt = run(medium.spoil(&mut rebuild, &bad)).ends(7);
    assert!(rebuilt.err.contains(&bad), "{}", rebuilt.err);
    // Data that a verification found damaged is stored again.
    site.run(&["verify"]).ends(0);
    let mut verify = site.command(&["verify"]);
    run(medium.spoil(&mut verify, &bad)).ends(7);
    let mut backup = site.command(&["backup", "s"]);
    let backed_up = run(medium.spoil(&mut backup, &bad)).ends(3);
    assert!(backed_up.err.contains("stored again"), "{}", backed_up.err);
    let (ended, files) = restored(&site, &medium, &bad, &[]);
    assert_eq!(files, there, "{}", ended.ends(0).err);
}

#[test]
fn a_pack_with_one_bad_sector_gives_the_rest() {
    let site = files();
    put(&site, "9", 12_000_000);
    site.back_up();
    let medium = BadMedium::new(&site.machine.top);
    let bad = objects(&site, "packs").remove(0);
    let there = below(&site.machine.at("src"));
    let sector = 9_437_184..9_437_696;
    let to = tempfile::tempdir().unwrap();
    let (mut varu, _state) = elsewhere(&site, &["restore", "s", "--to", to.path().to_str().unwrap()]);
    let ended = run(medium.spoil_part(&mut varu, &bad, sector.clone())).ends(7);
    let files = below(to.path());
    assert_eq!(files.len(), 3, "{}", ended.err);
    assert!(files.iter().all(|(name, bytes)| there[name] == *bytes));
    let mut verify = site.command(&["--json", "verify"]);
    let verified = run(medium.spoil_part(&mut verify, &bad, sector.clone())).ends(7).json();
    let affected = verified["damage"][0]["affects"].as_object().unwrap();
    assert!(affected.values().all(|streams| streams.as_array().unwrap().len() == 1), "{verified}");
}

#[test]
fn a_snapshot_that_can_not_be_read_costs_its_chain_alone() {
    let (site, medium) = two_backups();
    site.run(&["backup", "s", "--full"]).ends(0);
    let there = below(&site.machine.at("src"));
    let bad = objects(&site, "snapshots").into_iter().find(|name| name.contains("full")).unwrap();
    let (mut list, _state) = elsewhere(&site, &["--json", "list"]);
    let listed = run(medium.spoil(&mut list, &bad)).ends(7);
    assert_eq!(listed.json()["snapshots"].as_array().unwrap().len(), 2);
    assert!(listed.err.contains(&bad), "{}", listed.err);
    let (ended, files) = restored(&site, &medium, &bad, &[]);
    assert!(ended.err.contains(&bad), "{}", ended.err);
    assert_eq!((ended.status, files), (7, there));
    for words in [&["verify"][..], &["index", "rebuild"], &["prune"]] {
        let (mut varu, _state) = elsewhere(&site, words);
        let ended = run(medium.spoil(&mut varu, &bad));
        let said = ended.err.clone() + &String::from_utf8_lossy(&ended.out);
        assert!(said.contains(&bad), "{words:?}: {said}");
        ended.ends(7);
    }
}

/// Unreadable objects may need others: a prune that can't read a snapshot deletes no pack.
#[test]
fn a_prune_that_can_not_read_a_snapshot_takes_no_pack() {
    let (site, medium) = two_backups();
    site.run(&["backup", "s", "--rebase"]).ends(0);
    let bad = objects(&site, "snapshots").into_iter().find(|name| name.contains("full")).unwrap();
    let packs = objects(&site, "packs");
    // A machine whose index knows nothing of it.
    site.run(&["index", "rebuild"]).ends(0);
    let mut rebuild = site.command(&["index", "rebuild", "--accept-loss"]);
    run(medium.spoil(&mut rebuild, &bad)).ends(7);
    for _ in 0..2 {
        let mut prune = site.command(&["prune"]);
        let ended = run(medium.spoil(&mut prune, &bad)).ends(7);
        assert!(ended.err.contains(&bad) && ended.err.contains("no pack is deleted"), "{}", ended.err);
    }
    assert_eq!(objects(&site, "packs"), packs);
    assert_eq!(objects(&site, "marks"), Vec::<String>::new());
}
