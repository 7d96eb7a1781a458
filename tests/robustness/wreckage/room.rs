//! A state disk full of unneeded files.

use super::*;
use support::site::Small;

#[test]
fn the_base_cache_gives_way_to_what_a_backup_needs() {
    let site = files();
    put(&site, "9", 20_000_000);
    let Some(_small) = Small::on(site.machine.at("state"), "4m") else { return };
    for round in 0..3 {
        put(&site, &format!("new{round}"), 50_000);
        let ended = site.run(&["backup", "s"]);
        assert!([0, 3].contains(&ended.status), "{round}: {}", ended.err);
    }
    assert_eq!(site.snapshots(), 3);
    let to = site.machine.at("out");
    site.run(&["restore", "s", "--to", to.to_str().unwrap()]).ends(0);
    assert!(below(&to) == below(&site.machine.at("src")));
}

#[test]
fn a_cache_that_fills_the_disk_is_taken_away_and_one_that_is_not_wanted_too() {
    let site = files();
    let Some(small) = Small::on(site.machine.at("state"), "16m") else { return };
    site.back_up();
    let folders = fs::read_dir(site.machine.at("state")).unwrap().map(|entry| entry.unwrap().path());
    let cache = folders.map(|folder| folder.join("base-s.chunks")).find(|cache| cache.exists()).unwrap();
    assert!(fs::metadata(&cache).unwrap().len() > 1_000_000);
    small.fill(0);
    put(&site, "new", 50_000);
    let ended = site.run(&["backup", "s"]);
    assert!([0, 3].contains(&ended.status), "{}", ended.err);
    assert!(fs::metadata(&cache).map_or(0, |cache| cache.len()) < 1_000_000);
    small.empty();
    put(&site, "more", 2_000_000);
    site.back_up();
    assert!(fs::metadata(&cache).unwrap().len() > 1_000_000, "what is new is kept again");
    let text = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("[repository]\nbase_cache_max = 0\n{text}")).unwrap();
    site.back_up();
    assert!(!cache.exists());
}
