//! Snapshots that are lost while their packs are there: nobody says that there were none, and they are brought back.

use super::*;

/// Ids of the snapshots that a fresh machine lists, the oldest first, and the content of each.
fn listed(site: &Site) -> Vec<(String, String)> {
    let (mut list, _state) = elsewhere(site, &["--json", "list"]);
    let listed = run(&mut list).json();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    listed["snapshots"].as_array().unwrap().iter().map(|row| (text(row, "id"), text(row, "data_time"))).collect()
}

fn restore(site: &Site, snapshot: &str) -> (Ended, BTreeMap<String, Vec<u8>>) {
    let to = tempfile::tempdir().unwrap();
    let (mut varu, _state) = elsewhere(site, &["restore", "--snapshot", snapshot, "--to", to.path().to_str().unwrap()]);
    (run(&mut varu), below(to.path()))
}

fn lose(site: &Site, names: &[String]) {
    names.iter().for_each(|name| fs::remove_file(site.machine.at("vault/snapshots").join(name)).unwrap());
}

/// A full, an incremental without anything new, and two with something new. Returns ids and contents.
fn chain(site: &Site) -> Vec<(String, BTreeMap<String, Vec<u8>>)> {
    let mut made = Vec::new();
    let mut back_up = |site: &Site| made.push((site.back_up(), below(&site.machine.at("src"))));
    back_up(site);
    fs::remove_file(site.machine.at("src/3")).unwrap();
    back_up(site);
    put(site, "4", 200_000);
    back_up(site);
    put(site, "5", 100_000);
    fs::remove_file(site.machine.at("src/1")).unwrap();
    back_up(site);
    made
}

#[test]
fn no_command_takes_a_place_whose_snapshots_are_lost_for_a_new_one_and_packs_bring_them_back() {
    let site = files();
    let made = chain(&site);
    let packs = objects(&site, "packs");
    assert_eq!(packs.len(), 3, "one run had nothing new");
    lose(&site, &objects(&site, "snapshots"));
    let to = tempfile::tempdir().unwrap();
    let way = "varu index rebuild --salvage";
    for words in [&["list"][..], &["restore", "s", "--to", to.path().to_str().unwrap()], &["verify"], &["prune"]] {
        let (mut varu, _state) = elsewhere(&site, words);
        let ended = run(&mut varu);
        let said = String::from_utf8_lossy(&ended.out).into_owned() + &ended.err;
        assert_eq!(ended.status, 7, "{words:?}: {said}");
        assert!(
            said.contains(way) && said.contains("3 packs") && !said.contains("no snapshot yet"),
            "{words:?}: {said}"
        );
    }
    // The machine with a new state begins anew, and reports the existing snapshots.
    fs::rename(site.machine.at("state"), site.machine.at("state.old")).unwrap();
    let begun = site.run(&["backup", "s"]).ends(3);
    assert!(begun.err.contains(way), "{}", begun.err);
    // With a snapshot there a prune still doesn't take the packs silently.
    site.run(&["index", "rebuild"]).ends(0);
    let pruned = site.run(&["prune"]).ends(3);
    assert!(pruned.err.contains(way), "{}", pruned.err);
    site.run(&["prune", "--now"]);
    assert!(packs.iter().all(|pack| objects(&site, "packs").contains(pack)));
    lose(&site, &objects(&site, "snapshots"));

    let (mut varu, _state) = elsewhere(&site, &["--json", "index", "rebuild", "--salvage"]);
    let salvaged = run(&mut varu);
    let back = salvaged.json()["salvaged"].as_array().unwrap().clone();
    // The run with nothing new has no pack, and so no copy. The one that began anew counted from 1, too.
    assert!(back.len() >= 3, "{} {back:?}", salvaged.err);
    let contents: Vec<_> = listed(&site).iter().map(|(id, _)| restore(&site, id)).collect();
    for (ended, files) in &contents {
        assert_eq!(ended.status, 0, "{}", ended.err);
        assert!(made.iter().any(|(_, content)| content == files), "{:?}", files.keys());
    }
    for at in [2, 3] {
        assert!(contents.iter().any(|(_, files)| *files == made[at].1), "{at} is back");
    }
    let (mut verify, _state) = elsewhere(&site, &["verify", "--level", "data"]);
    run(&mut verify).ends(0);
    site.run(&["index", "rebuild", "--accept-loss"]).ends(0);
    // Nothing is built upon what others made. That is a warning where the machine knows a snapshot of its own, which is
    // so where its copy was not the one that was taken.
    let next = site.run(&["--json", "-q", "backup", "s"]);
    assert!([0, 3].contains(&next.status), "{}", next.err);
    assert_eq!(next.json()["snapshot"]["kind"], "full");
    site.run(&["verify", "--level", "data"]).ends(0);
}

#[test]
fn a_machine_that_knows_lost_snapshots_puts_back_the_very_same() {
    let site = files();
    let made = chain(&site);
    let names = objects(&site, "snapshots");
    lose(&site, &names);
    let refused = site.run(&["backup", "s"]).ends(7);
    assert!(refused.err.contains("varu index rebuild --salvage"), "{}", refused.err);
    let salvaged = site.run(&["index", "rebuild", "--salvage"]).ends(0);
    assert!(String::from_utf8_lossy(&salvaged.out).contains("put back as it was"));
    let mut back = objects(&site, "snapshots");
    back.sort();
    let mut names = names;
    names.sort();
    assert_eq!(back, names);
    for (id, content) in &made {
        assert!(restore(&site, id).1 == *content);
    }
    // Backups go on with the chain.
    let next = site.run(&["--json", "-q", "backup", "s"]).ends(0).json();
    assert_eq!(next["snapshot"]["kind"], "incremental");
}

#[test]
fn lost_neighbours_of_a_chain_are_replaced_by_copies_whoever_restores() {
    let site = files();
    let made = chain(&site);
    let names = objects(&site, "snapshots");
    // All but the last, one of which had nothing new.
    lose(&site, &names[..3]);
    let (ended, files) = restore(&site, &made[3].0);
    assert!(files == made[3].1, "{}", ended.err);
    let (mut verify, _state) = elsewhere(&site, &["verify", "--level", "data"]);
    let verified = run(&mut verify);
    assert!(String::from_utf8_lossy(&verified.out).contains("whole: 1 snapshot") || verified.status == 7);
    // The machine knows them, and its next backup puts them back.
    let healed = site.run(&["backup", "s"]).ends(3);
    assert!(healed.err.contains("It was put back"), "{}", healed.err);
    assert_eq!(objects(&site, "snapshots").len(), 5);
    for (id, content) in &made {
        assert!(restore(&site, id).1 == *content);
    }
    let (mut verify, _state) = elsewhere(&site, &["verify", "--level", "data"]);
    run(&mut verify).ends(0);
    site.run(&["backup", "s"]).ends(0);
}

/// A snapshot that a listing doesn't show is found before it is built upon, and snapshots seen in the meantime are still
/// known.
#[test]
fn a_damaged_snapshot_is_put_back_by_the_next_backup() {
    let site = files();
    let made = chain(&site);
    let name = objects(&site, "snapshots")[2].clone();
    let path = site.machine.at("vault/snapshots").join(&name);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bad, look) in [(&flipped[..], false), (&whole[..40], false), (b"", true), (&flipped[..], true)] {
        fs::write(&path, bad).unwrap();
        if look {
            site.run(&["list"]);
            site.run(&["verify"]).ends(7);
            site.run(&["list"]);
        }
        let healed = site.run(&["backup", "s"]).ends(3);
        assert!(healed.err.contains(&name) && healed.err.contains("It was put back"), "{}", healed.err);
        assert!(fs::read(&path).unwrap() == whole);
        site.run(&["backup", "s"]).ends(0);
        site.run(&["verify"]).ends(0);
        assert!(restore(&site, &made[3].0).1 == made[3].1);
    }
}

/// Where a damaged snapshot can't be put back nothing is built upon it.
#[test]
fn a_chain_with_a_damaged_snapshot_that_stays_is_not_gone_on_with() {
    let site = files();
    chain(&site);
    let name = objects(&site, "snapshots")[1].clone();
    let path = site.machine.at("vault/snapshots").join(&name);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let chattr = |how: &str| Command::new("chattr").arg(how).arg(&path).status().is_ok_and(|status| status.success());
    if !chattr("+i") {
        eprintln!("skipped: this file system has no immutable files");
        return;
    }
    let backed_up = site.run(&["--json", "backup", "s"]);
    chattr("-i");
    assert_eq!(backed_up.status, 3, "{}", backed_up.err);
    assert_eq!(backed_up.json()["snapshot"]["kind"], "full");
    assert!(backed_up.err.contains(&name) && backed_up.err.contains("can't be put back"), "{}", backed_up.err);
}

#[test]
fn a_newer_version_of_a_snapshot_is_named_by_its_number_and_is_no_damage() {
    let site = files();
    site.back_up();
    site.back_up();
    let name = objects(&site, "snapshots")[1].clone();
    let path = site.machine.at("vault/snapshots").join(&name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5] = 2;
    let (start, _) = name.rsplit_once('-').unwrap();
    let newer = format!("{start}-{}", support::forge::id_of_object(&bytes));
    fs::remove_file(&path).unwrap();
    fs::write(path.with_file_name(&newer), bytes).unwrap();
    for words in [&["verify"][..], &["list"]] {
        let (mut varu, _state) = elsewhere(&site, words);
        let ended = run(&mut varu).ends(3);
        assert!(ended.err.contains(&newer) && ended.err.contains("use a newer varu"), "{}", ended.err);
        assert!(!String::from_utf8_lossy(&ended.out).contains("DAMAGED"));
    }
}
