//! Looking whether snapshots have their packs, where many snapshots name the same ones.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::keep::{Draft, numbered_pack};
use super::*;
use crate::host::area::Area;
use crate::host::check::lacking;

#[test]
fn each_pack_is_looked_up_once_however_many_snapshots_name_it() {
    let host = Host::new();
    let packs: Vec<_> = (0..40).map(numbered_pack).collect();
    let (lost, kept) = packs.split_at(2);
    kept.iter().for_each(|pack| host.put_object(pack));
    // The last ten name the lost ones, too.
    let snapshots: Vec<_> = (0..30)
        .map(|number: usize| {
            let named = if number < 20 { kept } else { &packs };
            Draft::new(9, number as u64 + 10, &named.iter().collect::<Vec<_>>()).make()
        })
        .collect();
    snapshots.iter().for_each(|snapshot| host.put_object(snapshot));
    let report = host.accept();
    let named: BTreeSet<&ObjectName> = report.damage.iter().map(|damage| &damage.object).collect();
    assert_eq!(named, snapshots[20..].iter().map(|(name, _)| name).collect());
    let first = lost.iter().map(|(name, _)| name).min().unwrap();
    for damage in &report.damage {
        assert_eq!(damage.reason, format!("it needs {first} and 1 more, which the host doesn't have"));
    }

    let interrupt = Interrupt::default();
    let steps = InterruptibleCheckpoints(&interrupt);
    let chroot = host.places.chroot("vm1");
    let area = Area::open(&chroot, &steps).unwrap();
    let asked = Cell::new(0);
    let has = |name: &ObjectName| {
        asked.set(asked.get() + 1);
        kept.iter().any(|(kept, _)| kept == name)
    };
    let names: BTreeSet<&ObjectName> = snapshots.iter().map(|(name, _)| name).collect();
    let found = lacking(&area, names.into_iter(), &has).unwrap();
    assert_eq!(found, report.damage);
    // A pack that is missing is looked up for each snapshot that names it.
    assert_eq!(asked.get(), kept.len() + 10 * lost.len());
}
