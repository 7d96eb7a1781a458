//! Marking damaged objects lost.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::keep::{At, DAY, Draft, id_of, numbered_pack};
use super::*;
use crate::error::Error;
use crate::host::mark_lost::{MarkLostOptions, MarkedLost, mark_lost, mark_objects_lost};
use crate::host::policy::HostPolicy;
use crate::host::status::status;

type Object = (ObjectName, Vec<u8>);

/// Two chains: an old one, and one whose second pack is that of its incremental alone.
struct Chains {
    host: Host,
    packs: [Object; 3],
    snapshots: [Object; 3],
}

impl Chains {
    fn new() -> Self {
        let host = Host::new();
        let packs = [numbered_pack(1), numbered_pack(2), numbered_pack(3)];
        let old = Draft::new(1, 2, &[&packs[0]]).make();
        let full = Draft::new(2, 3, &[&packs[1]]).make();
        let mut incremental = Draft::new(2, 4, &[&packs[1], &packs[2]]);
        incremental.parent = Some(id_of(&full));
        let snapshots = [old, full, incremental.make()];
        packs.iter().chain(&snapshots[..1]).for_each(|object| host.put_object(object));
        host.accept_on(NOW);
        snapshots[1..].iter().for_each(|object| host.put_object(object));
        host.accept_on(NOW + DAY);
        Self { host, packs, snapshots }
    }

    fn mark_lost(&self, objects: &[&ObjectName]) -> Result<MarkedLost, Error> {
        let options = MarkLostOptions {
            places: self.host.places.clone(),
            accounts: Vec::new(),
            objects: objects.iter().map(ToString::to_string).collect(),
            wait: Duration::ZERO,
        };
        mark_lost(&options, &At(NOW + 2 * DAY), &Counts::default(), &Interrupt::default())
    }
}

#[test]
fn a_damaged_pack_goes_and_the_snapshots_that_need_it_are_named() {
    let chains = Chains::new();
    let (host, name) = (&chains.host, &chains.packs[2].0);
    host.rot(name);
    assert_eq!(host.verify_all().damage.len(), 1);
    assert_eq!(host.prune(NOW + 60 * DAY).freed, 0, "nothing goes while something is damaged");
    let given = chains.mark_lost(&[name]).unwrap();
    assert_eq!(given.snapshots.keys().collect::<Vec<_>>(), [&id_of(&chains.snapshots[2])]);
    assert!(!host.object(name).exists() && host.ledger().get(name).is_none());
    // Its loss is known, and isn't said again and again.
    assert!(host.verify_all().damage.is_empty() && host.accept().damage.is_empty());
    assert!(status(&host.places, &[], &HostPolicy::default(), &At(NOW)).unwrap().accounts[0].damage.is_empty());
    // A chain with an intact snapshot still counts; one that has lost a pack doesn't, though it is the newest.
    let report = host.prune(NOW + 60 * DAY);
    assert!(report.damage.is_empty() && chains.snapshots[1..].iter().all(|snapshot| host.has(snapshot)), "{report:?}");
    // It may come again: from a second copy, or from the machine.
    host.put_object(&chains.packs[2]);
    assert_eq!(host.accept_on(NOW + 61 * DAY).accepted, 1);
    assert!(host.has(&chains.packs[2]) && host.ledger().marked_lost().is_empty());
    assert!(host.verify_all().damage.is_empty());
}

#[test]
fn a_chain_that_lost_what_it_stands_on_pushes_no_older_one_out() {
    let chains = Chains::new();
    let host = &chains.host;
    host.rot(&chains.packs[1].0);
    let given = chains.mark_lost(&[&chains.packs[1].0]).unwrap();
    assert_eq!(given.snapshots.len(), 2);
    host.prune(NOW + 200 * DAY);
    assert!(host.has(&chains.snapshots[0]) && host.has(&chains.packs[0]), "it is the last good chain");
    // A damaged snapshot makes those that depend on it unusable.
    host.rot(&chains.snapshots[1].0);
    let given = chains.mark_lost(&[&chains.snapshots[1].0]).unwrap();
    assert_eq!(given.snapshots.len(), 2);
    assert!(host.verify_all().damage.is_empty());
    // A new, intact chain.
    host.put_object(&Draft::new(3, 9, &[&chains.packs[0]]).make());
    host.accept_on(NOW + 201 * DAY);
    host.put_object(&Draft::new(3, 10, &[]).make());
    host.prune(NOW + 209 * DAY);
    assert!(host.has(&chains.snapshots[0]), "the new one hasn't been there long enough");
    host.put_object(&Draft::new(3, 11, &[]).make());
    host.prune(NOW + 229 * DAY);
    assert!(!host.has(&chains.snapshots[0]) && host.has(&chains.packs[0]));
}

#[test]
fn what_is_whole_or_unknown_or_a_key_is_refused() {
    let chains = Chains::new();
    let host = &chains.host;
    let key = key(1);
    host.put_object(&key);
    host.accept_on(NOW + 2 * DAY);
    let before = fs::read(host.places.ledger("vm1").join("ledger")).unwrap();
    host.rot(&chains.packs[2].0);
    host.rot(&key.0);
    let whole = chains.mark_lost(&[&chains.packs[2].0, &chains.packs[0].0]).unwrap_err();
    assert!(matches!(whole, Error::Refused(_)) && whole.to_string().contains("is intact"), "{whole}");
    for wrong in [&key.0, &numbered_pack(77).0, &info_name()] {
        assert!(matches!(chains.mark_lost(&[wrong]), Err(Error::Usage(_))), "{wrong}");
    }
    assert_eq!(fs::read(host.places.ledger("vm1").join("ledger")).unwrap(), before, "nothing was given up");
    assert!(host.object(&chains.packs[2].0).exists());
}

#[test]
fn a_cut_before_any_change_is_finished_by_the_next() {
    let full = until(u64::MAX);
    let run = |chains: &Chains, steps: &dyn Checkpoints| {
        let (name, now) = (chains.packs[2].0.clone(), Timestamp::from_seconds(NOW + 2 * DAY));
        mark_objects_lost(&chains.host.places, "vm1".to_owned(), vec![name], now, steps)
    };
    let chains = Chains::new();
    chains.host.rot(&chains.packs[2].0);
    run(&chains, &full).unwrap();
    let changes = full.done.get();
    assert!(changes >= 4, "{changes}");
    for n in 0..changes {
        let chains = Chains::new();
        let (host, name) = (&chains.host, &chains.packs[2].0);
        host.rot(name);
        assert!(run(&chains, &until(n)).is_err(), "cut {n}");
        let given = chains.mark_lost(&[name]).unwrap();
        assert_eq!(given.snapshots.len(), 1, "cut {n}");
        assert!(!host.object(name).exists() && host.ledger().marked_lost().contains(name), "cut {n}");
        assert!(host.verify_all().damage.is_empty(), "cut {n}");
        // By hand, from a second copy.
        fs::write(host.object(name), &chains.packs[2].1).unwrap();
        fs::set_permissions(host.object(name), Permissions::from_mode(0o440)).unwrap();
        host.accept_on(NOW + 3 * DAY);
        assert!(host.has(&chains.packs[2]), "cut {n}");
    }
}
