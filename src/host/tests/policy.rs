//! Tests of the host's policy: which arrivals displace an accepted chain, under forged snapshots, damage, wrong clocks and
//! later format versions.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::keep::{At, DAY, Draft, id_of, numbered_pack};
use super::*;
use crate::host::mark_lost::{MarkLostOptions, mark_lost};
use crate::host::policy::{HostPolicy, Rule};
use crate::host::prune::KeptReason;
use crate::host::status::status;
use crate::retention::TagRule;

type Object = (ObjectName, Vec<u8>);

impl Host {
    /// Uploads these on a day, and accepts them.
    fn arrive(&self, day: i64, objects: &[Object]) {
        objects.iter().for_each(|object| self.put_object(object));
        self.accept_on(NOW + day * DAY);
    }

    /// Prunes on a day by that policy.
    fn prune_by(&self, day: i64, policy: &HostPolicy) {
        let report = self.prune_with(NOW + day * DAY, policy, false, &InterruptibleCheckpoints(&Interrupt::default()));
        assert!(report.failure.is_none(), "{report:?}");
    }

    fn mark_lost(&self, object: &str) {
        let options = MarkLostOptions {
            places: self.places.clone(),
            accounts: Vec::new(),
            objects: vec![object.to_owned()],
            wait: Duration::ZERO,
        };
        mark_lost(&options, &At(NOW + 100 * DAY), &Counts::default(), &Interrupt::default()).unwrap();
    }
}

/// An honest full with a pack of its own.
fn full(chain: u8, number: u64) -> [Object; 2] {
    let pack = numbered_pack(number);
    let snapshot = Draft::new(chain, number, &[&pack]).make();
    [pack, snapshot]
}

#[test]
fn a_clock_that_was_set_back_while_suspect_ones_came_costs_no_good_one() {
    let host = Host::new();
    let mut days = Vec::new();
    let mut parent = None;
    for day in 1..=8_u64 {
        let chain = if day == 8 { 2 } else { 1 };
        let pack = numbered_pack(day);
        let mut draft = Draft::new(chain, day + 1, &[&pack]);
        draft.parent = parent.filter(|_| day != 1 && day != 8);
        let snapshot = draft.make();
        parent = Some(id_of(&snapshot));
        host.arrive(day as i64, &[pack, snapshot.clone()]);
        days.push(snapshot);
    }
    let suspect = |number: u64, chain: u8, on: i64| {
        let mut draft = Draft::new(chain, number, &[]);
        draft.suspect = true;
        draft.parent = (chain == 2).then(|| id_of(&days[7]));
        host.arrive(on, &[draft.make()]);
    };
    suspect(20, 2, 0);
    suspect(21, 2, 0);
    suspect(22, 2, 10);
    for week in 0..5 {
        suspect(30 + week, 10 + week as u8, 15 + 7 * week as i64);
        host.prune(NOW + (15 + 7 * week as i64) * DAY);
    }
    host.prune(NOW + 45 * DAY);
    assert!(host.has(&days[7]), "the last good one stays");
    host.prune(NOW + 400 * DAY);
    assert!(host.has(&days[7]));
}

#[test]
fn a_clock_that_ran_ahead_once_pins_nothing_and_frees_nothing() {
    let host = Host::new();
    let fulls: Vec<[Object; 2]> = (1..=14).map(|week| full(week as u8, week)).collect();
    for (week, objects) in fulls.iter().enumerate() {
        let day = if week == 2 { 700 } else { 7 * week as i64 };
        host.arrive(day, objects);
        host.prune(NOW + day * DAY);
        assert!(week > 4 || fulls[..week].iter().all(|[_, snapshot]| host.has(snapshot)), "week {week}");
    }
    // Those of weeks 0 to 7 are old at week 13, that of the wrong clock, too.
    host.prune(NOW + 92 * DAY);
    let stay: Vec<bool> = fulls.iter().map(|[_, snapshot]| host.has(snapshot)).collect();
    assert_eq!(stay, [vec![false; 9], vec![true; 5]].concat());
}

#[test]
fn forged_snapshots_of_one_burst_count_once_and_only_when_they_are_as_old_as_the_policy_keeps() {
    let rule = Rule {
        keep: Some(Duration::from_secs(7 * DAY as u64)),
        keep_chains: Some(12),
        tags: Some([("pre-deploy".to_owned(), TagRule::Newest(1))].into()),
        ..Rule::default()
    };
    let policy = HostPolicy { all: rule, ..HostPolicy::default() };
    for packless in [true, false] {
        let host = Host::new();
        let mut honest: Vec<[Object; 2]> = (1..=12).map(|week| full(week as u8, week + 1)).collect();
        let mut tagged = Draft::new(4, 5, &[&honest[3][0]]);
        tagged.tags = vec!["pre-deploy".to_owned()];
        honest[3][1] = tagged.make();
        for (week, objects) in honest.iter().enumerate() {
            host.arrive(7 * week as i64, objects);
        }
        let stay = || honest.iter().filter(|[_, snapshot]| host.has(snapshot)).count();
        host.prune_by(78, &policy);
        assert_eq!(stay(), 12);
        // One burst, with tags and numbers of the thief's choice.
        for n in 0..12 {
            let pack = numbered_pack(500 + n);
            let packs: &[&Object] = if packless { &[] } else { &[&pack] };
            let mut draft = Draft::new(100 + n as u8, 1_000_000 + n, packs);
            draft.tags = vec!["pre-deploy".to_owned()];
            host.arrive(79, &[pack.clone(), draft.make()]);
        }
        for day in [79, 80, 85] {
            host.prune_by(day, &policy);
            assert_eq!(stay(), 12, "day {day}");
        }
        // The machine continues.
        for week in 12..15 {
            host.arrive(7 * week, &full(50 + week as u8, 2_000_000 + week as u64));
            host.prune_by(7 * week, &policy);
        }
        assert_eq!(stay(), 9, "the burst counted as one, and so did each new one that is a week old");
    }
}

#[test]
fn one_forged_snapshot_does_not_release_a_silent_set() {
    let host = Host::new();
    let last = full(1, 2);
    host.arrive(0, &last);
    let lacking = Draft::new(9, 99, &[&numbered_pack(77)]).make();
    host.arrive(60, &[Draft::new(8, 98, &[]).make(), lacking]);
    for day in [61, 67, 74, 87, 400] {
        let report = host.prune(NOW + day * DAY);
        assert_eq!(report.damage.len(), 1, "{report:?}");
        assert!(host.has(&last[1]) && host.has(&last[0]), "day {day}");
    }
    // A machine that continues for as long as the policy keeps things displaces it.
    host.arrive(401, &full(2, 200));
    host.prune(NOW + 401 * DAY);
    host.arrive(430, &full(3, 201));
    host.prune(NOW + 440 * DAY);
    assert!(!host.has(&last[1]));
}

#[test]
fn a_pack_that_never_came_is_named_and_stops_no_other() {
    let host = Host::new();
    let honest: Vec<[Object; 2]> = (1..=10).map(|week| full(week as u8, week + 1)).collect();
    let never = numbered_pack(999);
    let junk = Draft::new(99, 500, &[&never]).make();
    for (week, objects) in honest.iter().enumerate() {
        host.arrive(7 * week as i64, objects);
        if week == 7 {
            host.put_object(&junk);
            host.accept_on(NOW + 7 * week as i64 * DAY + 1);
        }
    }
    let report = host.prune(NOW + 63 * DAY);
    assert_eq!(report.damage.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&junk.0]);
    let stay: Vec<bool> = honest.iter().map(|[_, snapshot]| host.has(snapshot)).collect();
    assert_eq!(stay, [vec![false; 5], vec![true; 5]].concat(), "the policy goes on");
    assert_eq!(host.verify_all().damage.len(), 1, "it is said until it is given up, or old");
    // Either the pack, or the snapshot.
    for object in [&never.0, &junk.0] {
        let host = Host::new();
        host.arrive(0, std::slice::from_ref(&junk));
        host.mark_lost(&object.to_string());
        assert!(host.accept().damage.is_empty() && host.verify_all().damage.is_empty(), "{object}");
        assert!(status(&host.places, &[], &HostPolicy::default(), &At(NOW)).unwrap().accounts[0].damage.is_empty());
        assert_eq!(host.object(&junk.0).exists(), *object == never.0);
    }
    // An old one is deleted like all others.
    host.arrive(84, &full(11, 12));
    host.prune(NOW + 84 * DAY);
    assert!(!host.has(&junk) && host.accept_on(NOW + 85 * DAY).damage.is_empty());
}

/// Damages an accepted snapshot: its bytes no longer parse as one.
fn spoil(host: &Host, object: &Object) {
    let path = host.object(&object.0);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    fs::write(&path, vec![0; object.1.len()]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
}

#[test]
fn a_snapshot_that_can_not_be_read_is_named_and_keeps_what_it_may_need_until_it_is_given_up() {
    let host = Host::new();
    let honest: Vec<[Object; 2]> = (1..=10).map(|week| full(week as u8, week + 1)).collect();
    for (week, objects) in honest.iter().enumerate() {
        host.arrive(7 * week as i64, objects);
    }
    spoil(&host, &honest[2][1]);
    let report = host.prune(NOW + 64 * DAY);
    assert_eq!(report.damage.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&honest[2][1].0]);
    let stay = |part: usize| honest.iter().map(|objects| host.has(&objects[part])).collect::<Vec<_>>();
    assert_eq!(stay(1), [false, false, true, false, false, true, true, true, true, true]);
    assert_eq!(stay(0), [true, true, true, false, false, true, true, true, true, true], "what it may need");
    host.mark_lost(&honest[2][1].0.to_string());
    assert!(host.prune(NOW + 65 * DAY).damage.is_empty());
    assert_eq!(stay(0), [vec![false; 5], vec![true; 5]].concat());
}

#[test]
fn a_damaged_pack_keeps_its_chain_and_lets_others_go() {
    let host = Host::new();
    let honest: Vec<[Object; 2]> = (1..=10).map(|week| full(week as u8, week + 1)).collect();
    for (week, objects) in honest.iter().enumerate() {
        host.arrive(7 * week as i64, objects);
    }
    host.rot(&honest[1][0].0);
    assert_eq!(host.verify_all().damage.len(), 1);
    let report = host.prune(NOW + 64 * DAY);
    let fate = report.snapshots.iter().find(|fate| fate.id == id_of(&honest[1][1])).unwrap();
    assert_eq!(fate.reasons, [KeptReason::Damaged]);
    let stay: Vec<bool> = honest.iter().map(|[_, snapshot]| host.has(snapshot)).collect();
    assert_eq!(stay, [false, true, false, false, false, true, true, true, true, true]);
}

#[test]
fn a_later_version_is_named_by_its_number_and_nothing_is_deleted() {
    let host = Host::new();
    let honest: Vec<[Object; 2]> = (1..=10).map(|week| full(week as u8, week + 1)).collect();
    for (week, objects) in honest.iter().enumerate() {
        host.arrive(7 * week as i64, objects);
    }
    let (needed, mut newer) = (numbered_pack(700), Draft::new(70, 700, &[]).make());
    newer.1[5] = 2;
    host.put_object(&newer);
    host.put(Folder::Pending, "newer.part", &newer.1);
    host.arrive(64, std::slice::from_ref(&needed));
    for day in [64, 70, 100, 200] {
        let accepted = host.accept_on(NOW + day * DAY);
        assert_eq!(accepted.warnings.len(), 2, "{accepted:?}");
        for warning in &accepted.warnings {
            assert!(warning.text.contains("version 2") && warning.text.contains("update varu"), "{warning}");
        }
        let steps = InterruptibleCheckpoints(&Interrupt::default());
        let report = host.prune_with(NOW + day * DAY, &HostPolicy::default(), false, &steps);
        assert!(report.failure.unwrap().to_string().contains("update varu"));
        assert!(host.has(&needed) && honest.iter().all(|[_, snapshot]| host.has(snapshot)), "day {day}");
    }
    assert!(host.object(&newer.0).exists() && host.path(Folder::Pending, "newer.part").exists());
    // A foreign file that only claims to be one: root deletes it, as the message advises.
    fs::remove_file(host.object(&newer.0)).unwrap();
    fs::remove_file(host.path(Folder::Pending, "newer.part")).unwrap();
    host.prune(NOW + 200 * DAY);
    assert!(!host.has(&needed) && !host.has(&honest[0][1]));
}
