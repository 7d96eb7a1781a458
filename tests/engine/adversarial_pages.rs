//! Layers and pages that lie, as a thief with the writer key seals them, and pages that a host or a disk harms.
//!
//! Each is refused by name where it is read: nothing panics, nothing hangs, and memory stays bounded. What is damaged in one place
//! is read from another where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use support::forge::{CraftedPages, forge_snapshot, packed, pages_of, seal_page};
use support::vault::{Vault, assert_restores, check, state};
use support::*;
use varu::crypto::{Salt, SealPurpose, random_bytes};
use varu::entry::{Entry, Kind, Metadata, StreamName};
use varu::facts::Facts;
use varu::format::layout::{MAX_CHAIN, MAX_PAGE, MAX_PAGES};
use varu::format::recipe::{Layer, LeafWriter, PackRef, PageRef, Recipe, Run, Stream};
use varu::format::snapshot::{ParentRef, SnapshotBody, SnapshotHeader, Totals};
use varu::id::{ChainId, GenerationId, Hasher, PackId, SnapshotId, StreamHash};
use varu::index::SnapshotRow;
use varu::remote::{Folder, ObjectName};
use varu::repository::{Error, Repository, instance};
use varu::time::Timestamp;
use varu::verify::{Damage, Level};

/// How long anything may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

// ---- Honest parts --------------------------------------------------------------------------------------------------

fn name(text: &str) -> StreamName {
    StreamName::new(text).unwrap()
}

/// An entry without content.
fn fifo(text: &str) -> Stream {
    let entry = Entry { name: name(text), kind: Kind::Fifo, size: 0, metadata: Some(Metadata::default()) };
    Stream { entry, hash: None, runs: Vec::new(), order: 0 }
}

fn file(text: &str, runs: &[(u32, u32, u32, u32)]) -> Stream {
    let entry = Entry { name: name(text), kind: Kind::File, size: 9, metadata: Some(Metadata::default()) };
    let runs = runs.iter().map(|&(pack, segment, first, count)| Run { pack, segment, first, count }).collect();
    Stream { entry, hash: Some(StreamHash::from_bytes([5; 32])), runs, order: 0 }
}

/// A leaf of these streams, in this order.
fn leaf(streams: &[Stream]) -> Vec<u8> {
    let mut leaf = LeafWriter::default();
    streams.iter().for_each(|stream| leaf.stream(stream));
    leaf.take().unwrap().1
}

fn fifos(names: &[&str]) -> Vec<u8> {
    leaf(&names.iter().map(|name| fifo(name)).collect::<Vec<_>>())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An inner page of these children, in this order; a gap wraps where one lies before another.
fn inner(children: &[(&str, PageRef)]) -> Vec<u8> {
    let (mut out, mut end) = (Vec::new(), 0u64);
    for (name, page) in children {
        varint(&mut out, 0);
        varint(&mut out, name.len() as u64);
        out.extend(name.as_bytes());
        varint(&mut out, page.offset.wrapping_sub(end));
        varint(&mut out, u64::from(page.length));
        out.extend(page.check);
        end = page.offset.wrapping_add(u64::from(page.length));
    }
    out
}

fn table(count: u8) -> Vec<PackRef> {
    (0..count).map(|number| PackRef { id: PackId::from_bytes([number + 1; 32]), check: [number; 16] }).collect()
}

/// A layer, and its pages.
type Made = (Layer, Vec<u8>);

// ---- The thief -----------------------------------------------------------------------------------------------------

struct Thief {
    vault: Vault,
    writer: Arc<Repository>,
}

impl Thief {
    fn new() -> Self {
        let vault = Vault::new();
        let writer = vault.writer();
        Self { vault, writer }
    }

    /// A layer of one leaf.
    fn one_leaf(&self, plain: &[u8], packs: Vec<PackRef>, streams: u64) -> Made {
        let mut pages = CraftedPages::new();
        let root = pages.push(&self.writer, 1, plain);
        (pages.layer(1, root, packs, streams), pages.bytes)
    }

    /// A layer of leaves below one inner page, each with the name that leads to it.
    fn two_levels(&self, leaves: &[(&str, Vec<u8>)], streams: u64) -> Made {
        let mut pages = CraftedPages::new();
        let children: Vec<(&str, PageRef)> =
            leaves.iter().map(|(name, plain)| (*name, pages.push(&self.writer, 1, plain))).collect();
        let root = pages.push(&self.writer, 2, &inner(&children));
        (pages.layer(2, root, Vec::new(), streams), pages.bytes)
    }

    /// Stores a chain, of which each snapshot has one of these layers. Returns the ids.
    fn store(&self, layers: &[Made]) -> Vec<SnapshotId> {
        self.store_as(layers, |_, _, _| {})
    }

    /// The same, with a last word on each body and its pages.
    fn store_as(&self, layers: &[Made], change: impl Fn(usize, &mut SnapshotBody, &mut Vec<u8>)) -> Vec<SnapshotId> {
        let chain = ChainId::from_bytes(*random_bytes());
        let mut ids: Vec<SnapshotId> = Vec::new();
        for (number, (layer, pages)) in layers.iter().enumerate() {
            let sequence = number as u64 + 1;
            let now = Timestamp::from_seconds(MONDAY + number as i64);
            let last = ids.last().copied();
            let header = SnapshotHeader {
                body: 0,
                pages: 0,
                pages_check: [0; 32],
                repository: *self.writer.id(),
                salt: [0; 32],
                chain,
                parent: last.map(|id| ParentRef { id, sequence: sequence - 1 }),
                previous: last,
                sequence,
                suspect: false,
                data_time: now,
                stored_time: now,
                set: "set".to_owned(),
                tags: Vec::new(),
                packs: Vec::new(),
                key_objects: Vec::new(),
            };
            let mut body = SnapshotBody {
                instance: instance(),
                host: "thief".into(),
                program: "by hand".into(),
                environment: "".into(),
                generation: GenerationId::from_bytes([7; 16]),
                facts: Facts::default(),
                warnings: Vec::new(),
                configuration: Vec::new(),
                totals: Totals::default(),
                recipe: layer.encode(),
            };
            let mut pages = pages.clone();
            change(number, &mut body, &mut pages);
            let (name, object) = forge_snapshot(&self.writer, header, &body.encode(), &pages);
            self.vault.memory.put(Folder::Snapshots, name.name(), object.clone());
            ids.push(support::forge::id_of_object(&object));
        }
        ids
    }

    fn reader(&self) -> Arc<Repository> {
        let reader = self.vault.fresh_reader();
        reader.sync().unwrap();
        reader
    }

    /// What honest layers make.
    fn names(&self, layers: &[Made]) -> Vec<String> {
        let ids = self.store(layers);
        let recipe = self.reader().recipe(ids.last().unwrap()).unwrap();
        recipe.streams.iter().map(|stream| stream.entry.name.to_string()).collect()
    }

    /// Expects these layers to be refused with these words, by a restore and by verify.
    fn refused(&self, layers: &[Made], words: &str) {
        let ids = self.store(layers);
        self.refused_id(*ids.last().unwrap(), words);
    }

    fn refused_id(&self, id: SnapshotId, words: &str) {
        let reader = self.reader();
        let words = words.to_owned();
        in_time(move || {
            let says = |error: Error| {
                let Error::Damaged(why) = error else { panic!("{error} is no damage") };
                assert!(why.contains(&words), "{why:?} doesn't say {words:?}");
            };
            says(reader.recipe(&id).unwrap_err());
            // A walk ends with the error.
            if let Ok(layers) = reader.layers(&id) {
                let mut walk = layers.streams();
                let mut all = Vec::new();
                all.extend(walk.by_ref().take(100_000));
                says(all.pop().unwrap().unwrap_err());
                assert!(all.iter().all(Result::is_ok) && walk.next().is_none());
                // A search for one name fails or finds what the walk did before it ended.
                for sought in ["a", "b", "c", "m", "x", "z", "zz"].map(name) {
                    let walked = all.iter().flatten().find(|stream| stream.entry.name == sought);
                    match layers.find(&sought) {
                        Err(Error::Damaged(_)) => {}
                        Err(error) => panic!("{error} is no damage"),
                        Ok(None) => assert!(walked.is_none(), "{sought}"),
                        Ok(Some(found)) => assert!(walked.is_none_or(|walked| *walked == found), "{sought}"),
                    }
                }
            }
            let report = check(&reader, Level::Structure).unwrap();
            assert!(!report.is_whole(&id), "verify finds nothing wrong");
            // Where a pack of the forged tables is missing below, that is said first.
            let said = |damage: &Damage| damage.reason.contains(&words) || damage.reason.contains("its parent");
            assert!(report.damage.iter().any(said), "{:?}", report.damage);
        });
        assert!(support::peak_memory() < 1 << 30, "{} MiB", support::peak_memory() >> 20);
    }
}

/// Runs on a thread of its own, and fails where that doesn't end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    let thread = std::thread::spawn(move || done.send(work()));
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(_) if thread.is_finished() => panic!("it failed"),
        Err(_) => panic!("it hangs"),
    }
}

const IN_ORDER: &str = "names aren't in order";
const IN_RANGE: &str = "its names aren't those that the page above it says";

#[test]
fn what_is_honest_is_read() {
    let thief = Thief::new();
    let leaves = [("a", fifos(&["a", "b"])), ("c", fifos(&["c", "m"])), ("x", fifos(&["x", "z"]))];
    let full = thief.two_levels(&leaves, 6);
    assert_eq!(thief.names(std::slice::from_ref(&full)), ["a", "b", "c", "m", "x", "z"]);
    let mut upper = LeafWriter::default();
    upper.removed(&name("b"));
    upper.stream(&fifo("d"));
    upper.edited(&fifo("m"), &fifo("m"));
    let upper = thief.one_leaf(&upper.take().unwrap().1, Vec::new(), 6);
    let layers = [full, upper];
    assert_eq!(thief.names(&layers), ["a", "c", "d", "m", "x", "z"]);
    let reader = thief.reader();
    assert_eq!(check(&reader, Level::Structure).unwrap().damage, []);
}

// ---- Names ---------------------------------------------------------------------------------------------------------

#[test]
fn names_out_of_order() {
    let thief = Thief::new();
    for names in [&["b", "a"][..], &["a", "a"], &["a", "b", "b", "c"], &["a.x", "a/x"]] {
        thief.refused(&[thief.one_leaf(&fifos(names), Vec::new(), names.len() as u64)], IN_ORDER);
    }
    // The same of an inner page's children: each leads to an honest leaf.
    for (one, other) in [("b", "a"), ("a", "a")] {
        let leaves = [(one, fifos(&[one])), (other, fifos(&[other]))];
        thief.refused(&[thief.two_levels(&leaves, 2)], IN_ORDER);
    }
}

#[test]
fn a_leaf_outside_of_what_the_page_above_says() {
    let thief = Thief::new();
    let honest = ("m", fifos(&["m", "z"]));
    for (says, names) in [
        // Not from that name on, though all are in between.
        ("a", &["b", "c"][..]),
        ("b", &["a", "b", "c"]),
        // Up to the next one's first name, and beyond.
        ("a", &["a", "m"]),
        ("a", &["a", "c", "x"]),
    ] {
        let leaves = [(says, fifos(names)), honest.clone()];
        thief.refused(&[thief.two_levels(&leaves, 4)], IN_RANGE);
    }
}

#[test]
fn a_leaf_outside_of_what_a_page_two_levels_above_says() {
    let thief = Thief::new();
    for last in ["m", "n", "zz"] {
        let mut pages = CraftedPages::new();
        let first = pages.push(&thief.writer, 1, &fifos(&["a"]));
        let beyond = pages.push(&thief.writer, 1, &fifos(&["b", last]));
        let left = pages.push(&thief.writer, 2, &inner(&[("a", first), ("b", beyond)]));
        let end = pages.push(&thief.writer, 1, &fifos(&["m", "x"]));
        let right = pages.push(&thief.writer, 2, &inner(&[("m", end)]));
        let root = pages.push(&thief.writer, 3, &inner(&[("a", left), ("m", right)]));
        thief.refused(&[(pages.layer(3, root, Vec::new(), 5), pages.bytes)], IN_RANGE);
    }
    // An inner page that says other names than the one above it.
    let mut pages = CraftedPages::new();
    let first = pages.push(&thief.writer, 1, &fifos(&["b"]));
    let left = pages.push(&thief.writer, 2, &inner(&[("b", first)]));
    let root = pages.push(&thief.writer, 3, &inner(&[("a", left)]));
    thief.refused(&[(pages.layer(3, root, Vec::new(), 1), pages.bytes)], IN_RANGE);
}

// ---- Places --------------------------------------------------------------------------------------------------------

#[test]
fn a_page_that_names_itself_or_a_later_one() {
    let thief = Thief::new();
    const BEFORE: &str = "doesn't lie before it";
    // The check of a page can't be known in it: whatever is there, the place alone is refused.
    for (offset, length) in [(0, 100), (0, 1), (50, 1000), (1 << 40, 5), (u64::MAX - 3, 1), (u64::MAX - 3, 100)] {
        let mut pages = CraftedPages::new();
        let own = PageRef { offset, length, check: [1; 16] };
        let root = pages.push(&thief.writer, 2, &inner(&[("a", own)]));
        thief.refused(&[(pages.layer(2, root, Vec::new(), 1), pages.bytes)], BEFORE);
    }
    // A later page that is there: the first inner page names the second, which names the leaf.
    let mut pages = CraftedPages::new();
    let low = pages.push(&thief.writer, 1, &fifos(&["a"]));
    let second = inner(&[("a", low)]);
    let at = pages.bytes.len() as u64;
    let first_length = seal_page(
        &thief.writer,
        &pages.layer,
        at,
        3,
        packed(&inner(&[("a", PageRef { offset: at + 1, length: 9, check: [0; 16] })])),
    )
    .len();
    let sealed = seal_page(&thief.writer, &pages.layer, at + first_length as u64, 2, packed(&second));
    let later = PageRef {
        offset: at + first_length as u64,
        length: sealed.len() as u32,
        check: Hasher::new().update(&sealed).finish_short(),
    };
    let root = pages.push(&thief.writer, 3, &inner(&[("a", later)]));
    pages.append(&sealed);
    // The root has to be the last page of a layer, so a layer with another one is refused before any page is read.
    let layer = pages.layer(3, root, Vec::new(), 1);
    thief.refused(&[(layer, pages.bytes)], "root isn't the last of its pages");
}

/// Two names for one page would make a few pages mean as many as one likes.
#[test]
fn a_page_with_two_parents() {
    let thief = Thief::new();
    let mut pages = CraftedPages::new();
    let shared = pages.push(&thief.writer, 1, &fifos(&["a"]));
    let root = pages.push(&thief.writer, 2, &inner(&[("a", shared.clone()), ("b", shared.clone())]));
    // A child lies behind the one before it: the gap can't be negative.
    thief.refused(&[(pages.layer(2, root, Vec::new(), 2), pages.bytes)], "doesn't lie before it");
    let mut pages = CraftedPages::new();
    let shared = pages.push(&thief.writer, 1, &fifos(&["a"]));
    let left = pages.push(&thief.writer, 2, &inner(&[("a", shared.clone())]));
    let right = pages.push(&thief.writer, 2, &inner(&[("a", shared.clone())]));
    let root = pages.push(&thief.writer, 3, &inner(&[("a", left.clone()), ("b", right)]));
    thief.refused(&[(pages.layer(3, root, Vec::new(), 2), pages.bytes)], IN_RANGE);
}

#[test]
fn a_page_of_another_layer_repository_place_or_height() {
    let thief = Thief::new();
    let other = Thief::new();
    let plain = fifos(&["a", "b"]);
    let refused = |pages: &CraftedPages, root: PageRef, height: u8| {
        thief.refused(&[(pages.layer(height, root, Vec::new(), 2), pages.bytes.clone())], "is damaged");
    };
    // Another layer.
    let mut pages = CraftedPages::new();
    let sealed = seal_page(&thief.writer, &[9; 32], 0, 1, packed(&plain));
    let root = pages.append(&sealed);
    refused(&pages, root, 1);
    // Another repository, with the same key: the id is bound beside it.
    let mut pages = CraftedPages::new();
    let salt = Salt::from_bytes(Hasher::new().update(&pages.layer).update(&[0; 8]).finish());
    let aad: [&[u8]; 3] = [other.writer.id().as_bytes(), &[0; 8], &[1]];
    let sealed = thief.writer.keys().metadata.seal(SealPurpose::RecipePage, &salt, &aad, packed(&plain)).into_vec();
    let root = pages.append(&sealed);
    refused(&pages, root, 1);
    let mut pages = CraftedPages::new();
    let sealed = seal_page(&other.writer, &pages.layer, 0, 1, packed(&plain));
    let root = pages.append(&sealed);
    refused(&pages, root, 1);
    // Another purpose under the same salt.
    let mut pages = CraftedPages::new();
    let aad: [&[u8]; 3] = [thief.writer.id().as_bytes(), &[0; 8], &[1]];
    let salt = Salt::from_bytes(Hasher::new().update(&pages.layer).update(&[0; 8]).finish());
    let sealed = thief.writer.keys().metadata.seal(SealPurpose::SnapshotBody, &salt, &aad, packed(&plain)).into_vec();
    let root = pages.append(&sealed);
    refused(&pages, root, 1);
    // Another place.
    let mut pages = CraftedPages::new();
    pages.push(&thief.writer, 1, &plain);
    let sealed = seal_page(&thief.writer, &pages.layer, 0, 1, packed(&plain));
    let root = pages.append(&sealed);
    refused(&pages, root, 1);
    // Another height: a leaf as an inner page, and the other way round.
    for (sealed_as, taken_as) in [(1, 2), (2, 1), (1, 3), (0, 1), (255, 8)] {
        let mut pages = CraftedPages::new();
        let root = pages.push(&thief.writer, sealed_as, &plain);
        refused(&pages, root, taken_as);
    }
    // A child of another height than its place says.
    let mut pages = CraftedPages::new();
    let low = pages.push(&thief.writer, 2, &fifos(&["a", "b"]));
    let root = pages.push(&thief.writer, 2, &inner(&[("a", low)]));
    refused(&pages, root, 2);
}

// ---- Layers --------------------------------------------------------------------------------------------------------

#[test]
fn wrong_heights() {
    let thief = Thief::new();
    let leaves = [("a", fifos(&["a", "b"])), ("c", fifos(&["c", "m"]))];
    for height in [1, 3, 8] {
        let (layer, pages) = thief.two_levels(&leaves, 4);
        thief.refused(&[(Layer { height, ..layer }, pages)], "is damaged");
    }
    let (layer, pages) = thief.two_levels(&leaves, 4);
    thief.refused(&[(Layer { height: 9, ..layer.clone() }, pages.clone())], "more pages than can be");
    thief.refused(&[(Layer { height: 255, ..layer.clone() }, pages.clone())], "more pages than can be");
    // Pages without a root.
    thief.refused(&[(Layer { height: 0, root: None, ..layer }, pages)], "root isn't the last of its pages");
    // A tower of inner pages with one child each, as high as can be: honest. One more is none.
    for height in [8, 9] {
        let mut pages = CraftedPages::new();
        let mut top = pages.push(&thief.writer, 1, &fifos(&["a"]));
        for level in 2..=height {
            top = pages.push(&thief.writer, level, &inner(&[("a", top)]));
        }
        let made = (pages.layer(height, top, Vec::new(), 1), pages.bytes);
        match height {
            8 => assert_eq!(thief.names(&[made]), ["a"]),
            _ => thief.refused(&[made], "more pages than can be"),
        }
    }
}

#[test]
fn wrong_counts_of_streams() {
    let thief = Thief::new();
    for says in [0, 1, 3, u64::MAX] {
        let ids = thief.store(&[thief.one_leaf(&fifos(&["a", "b"]), Vec::new(), says)]);
        let reader = thief.reader();
        // What there is can be restored, and verify says that the count is wrong.
        assert_eq!(reader.recipe(&ids[0]).unwrap().streams.len(), 2);
        let report = check(&reader, Level::Structure).unwrap();
        assert!(!report.is_whole(&ids[0]), "{says}");
    }
}

#[test]
fn wrong_lengths() {
    let thief = Thief::new();
    let leaves = [("a", fifos(&["a", "b"])), ("c", fifos(&["c", "m"]))];
    let (layer, pages) = thief.two_levels(&leaves, 4);
    let root = layer.root.clone().unwrap();
    let with = |length: u64, root: PageRef| Layer { length, root: Some(root), ..layer.clone() };
    const LAST: &str = "root isn't the last of its pages";
    for length in [0, layer.length - 1, layer.length + 1, 1 << 35] {
        thief.refused(&[(with(length, root.clone()), pages.clone())], LAST);
    }
    thief.refused(&[(with(MAX_PAGES + 1, root.clone()), pages.clone())], "more pages than can be");
    // They fit one another, and not the object.
    let other = "say different lengths of pages";
    let moved = |by: u64| PageRef { offset: root.offset + by, ..root.clone() };
    for by in [1, 1000, 1 << 35] {
        thief.refused(&[(with(layer.length + by, moved(by)), pages.clone())], other);
    }
    let longer = PageRef { length: root.length + 10, ..root.clone() };
    thief.refused(&[(with(layer.length + 10, longer), pages.clone())], other);
    let whole = PageRef { offset: 0, length: layer.length as u32, ..root.clone() };
    thief.refused(&[(with(layer.length, whole), pages.clone())], "is damaged");
    let most = PageRef { offset: 0, length: MAX_PAGE as u32 + 1, ..root };
    thief.refused(&[(with(MAX_PAGE + 1, most), pages.clone())], LAST);
    // Of a child: shorter, longer, nothing, more than can be.
    for length in [-1, 1, 5] {
        let mut pages = CraftedPages::new();
        let low = pages.push(&thief.writer, 1, &fifos(&["a"]));
        pages.push(&thief.writer, 1, &fifos(&["b"]));
        let lies = PageRef { length: low.length.wrapping_add_signed(length), ..low };
        let root = pages.push(&thief.writer, 2, &inner(&[("a", lies)]));
        thief.refused(&[(pages.layer(2, root, Vec::new(), 1), pages.bytes)], "is damaged");
    }
    for (length, words) in [(0, "a length that can't be"), (u32::MAX, "doesn't lie before it")] {
        let mut pages = CraftedPages::new();
        let low = pages.push(&thief.writer, 1, &fifos(&["a"]));
        let root = pages.push(&thief.writer, 2, &inner(&[("a", PageRef { length, ..low })]));
        thief.refused(&[(pages.layer(2, root, Vec::new(), 1), pages.bytes)], words);
    }
}

#[test]
fn bodies_with_other_bytes_than_a_layer() {
    let thief = Thief::new();
    let honest = thief.one_leaf(&fifos(&["a"]), table(2), 1);
    let bytes = honest.0.encode();
    let mut many = bytes[..32].to_vec();
    varint(&mut many, u64::MAX);
    many.extend(&bytes[33..]);
    let recipes =
        [Vec::new(), bytes[..20].to_vec(), bytes[..bytes.len() - 1].to_vec(), [&bytes[..], b"x"].concat(), many];
    for recipe in recipes {
        let ids = thief.store_as(std::slice::from_ref(&honest), |_, body, _| body.recipe = recipe.clone());
        thief.refused_id(ids[0], "is damaged");
    }
}

// ---- Records -------------------------------------------------------------------------------------------------------

#[test]
fn records_that_build_upon_nothing() {
    let thief = Thief::new();
    let removed = {
        let mut leaf = LeafWriter::default();
        leaf.removed(&name("b"));
        leaf.take().unwrap().1
    };
    let edited = {
        let mut leaf = LeafWriter::default();
        leaf.edited(&fifo("b"), &fifo("b"));
        leaf.take().unwrap().1
    };
    for record in [removed.clone(), edited] {
        let upper = thief.one_leaf(&record, Vec::new(), 1);
        // In the lowest layer; upon one that never had the name; upon one that has it no more.
        thief.refused(std::slice::from_ref(&upper), "builds upon a layer that isn't there");
        let lower = thief.one_leaf(&fifos(&["a", "c"]), Vec::new(), 2);
        thief.refused(&[lower, upper.clone()], "builds upon a stream that isn't below");
        let lower = thief.one_leaf(&fifos(&["a", "b", "c"]), Vec::new(), 3);
        let gone = thief.one_leaf(&removed, Vec::new(), 2);
        thief.refused(&[lower, gone, upper], "builds upon a stream that isn't below");
    }
    // Nothing at all, and nothing that is known.
    for (plain, words) in [(&[][..], "a page is empty"), (&[3, 0, 1, b'a'], "unknown record"), (&[200], "ends inside")]
    {
        thief.refused(&[thief.one_leaf(plain, Vec::new(), 0)], words);
    }
}

#[test]
fn copies_from_beyond_the_stream_below() {
    let thief = Thief::new();
    let below = file("a", &[(0, 0, 0, 10), (0, 1, 0, 10)]);
    let edit = |ops: &[u64]| {
        let mut plain = leaf(&[Stream { runs: Vec::new(), ..below.clone() }]);
        // An edit in place of a stream, and ops in place of no runs.
        plain[0] = 2;
        *plain.last_mut().unwrap() = ops.len() as u8;
        ops.iter().for_each(|&op| varint(&mut plain, op));
        plain
    };
    let copy = |count: u64| count << 2;
    let shift = |by: i64| (((by << 1) ^ (by >> 63)) as u64) << 2 | 1;
    let lower = thief.one_leaf(&leaf(std::slice::from_ref(&below)), table(1), 1);
    let honest = thief.one_leaf(&edit(&[copy(20), shift(-20), copy(1)]), Vec::new(), 1);
    assert_eq!(thief.names(&[lower.clone(), honest]), ["a"]);
    for (ops, words) in [
        (&[copy(21)][..], "copies more than"),
        (&[copy(0)], "copies more than"),
        (&[copy(u64::MAX >> 2)], "copies more than"),
        (&[shift(-1)], "moves out of"),
        (&[shift(21)], "moves out of"),
        (&[copy(5), shift(16), copy(1)], "moves out of"),
        (&[shift(i64::MAX >> 3), shift(i64::MAX >> 3)], "moves out of"),
        (&[copy(20), copy(1)], "copies more than"),
    ] {
        thief.refused(&[lower.clone(), thief.one_leaf(&edit(ops), Vec::new(), 1)], words);
    }
    // In a record that has all of its runs, there is nothing to copy from.
    let mut whole = edit(&[copy(1)]);
    whole[0] = 1;
    thief.refused(&[lower, thief.one_leaf(&whole, Vec::new(), 1)], "copies from a stream that isn't there");
}

#[test]
fn runs_beyond_the_tables_and_beyond_any_pack() {
    let thief = Thief::new();
    const OUTSIDE: &str = "a run lies outside of what a pack can hold";
    for (packs, run) in [
        (0, (0, 0, 0, 1)),
        (2, (2, 0, 0, 1)),
        (2, (u32::MAX, 0, 0, 1)),
        (2, (0, 0, u32::MAX, 1)),
        (2, (0, 0, 1 << 31, 1 << 31)),
        (2, (0, 0, 0, 0)),
    ] {
        thief.refused(&[thief.one_leaf(&leaf(&[file("a", &[run])]), table(packs), 1)], OUTSIDE);
    }
    // A lower layer names a pack of the one above.
    let lower = thief.one_leaf(&leaf(&[file("a", &[(1, 0, 0, 1)])]), table(1), 1);
    let upper = thief.one_leaf(&fifos(&["b"]), table(3)[1..].to_vec(), 2);
    thief.refused(&[lower, upper], OUTSIDE);
    // A run that goes on where nothing was.
    let mut plain = leaf(&[file("a", &[])]);
    *plain.last_mut().unwrap() = 1;
    varint(&mut plain, 1 << 2 | 2);
    thief.refused(&[thief.one_leaf(&plain, table(1), 1)], "goes on where nothing was");
}

// ---- Bombs ---------------------------------------------------------------------------------------------------------

#[test]
fn counts_that_no_memory_holds() {
    support::alone!();
    let thief = Thief::new();
    let start = leaf(&[file("a", &[])]);
    for count in [1 << 20, (1 << 24) + 1, 1 << 40, u64::MAX] {
        let mut plain = start[..start.len() - 1].to_vec();
        varint(&mut plain, count);
        plain.push(0);
        thief.refused(&[thief.one_leaf(&plain, table(1), 1)], "it ends inside");
    }
    // As many as it says, and too many.
    let mut plain = start[..start.len() - 1].to_vec();
    varint(&mut plain, (1 << 24) + 1);
    // Not all alike, for such a page would be refused for its compression.
    let mut random = Random(1);
    plain.extend((0..=1 << 24).map(|_| (random.draw() as u8 & 0x7c).max(4) | 2));
    thief.refused(&[thief.one_leaf(&plain, table(1), 1)], "too many runs");
    // Extended attributes, each of two bytes.
    let mut plain = leaf(&[fifo("a")]);
    plain.truncate(plain.len() - 2);
    varint(&mut plain, 65_537);
    plain.extend([0; 2 * 65_537 + 1]);
    thief.refused(&[thief.one_leaf(&plain, Vec::new(), 1)], "the extended attributes are more than 65536");
    // A stream's name of almost any length.
    let mut plain = vec![1, 0];
    varint(&mut plain, u64::MAX);
    thief.refused(&[thief.one_leaf(&plain, table(1), 1)], "it ends inside");
    assert!(support::peak_memory() < 256 << 20, "{} MiB", support::peak_memory() >> 20);
}

#[test]
fn pages_that_decompress_to_more_than_their_bytes_justify() {
    support::alone!();
    let thief = Thief::new();
    let zeros = packed(&vec![0; 64 << 20]);
    assert!(zeros.len() < 32 << 10);
    let honest = packed(&fifos(&["a"]));
    let claims = |length: u32, packed: &[u8]| [&length.to_le_bytes()[..], &packed[4..]].concat();
    for (packed, words) in [
        (zeros.clone(), "claims"),
        (claims(u32::MAX, &honest), "claims"),
        (claims(512 << 20, &honest), "claims"),
        // Less than it becomes.
        (claims(1 << 20, &zeros), "is damaged"),
        (claims(10, &honest), "is damaged"),
        (claims(0, &honest), "is damaged"),
        (claims(1 << 20, &honest), "is damaged"),
        (Vec::new(), "too short"),
        (vec![1, 0, 0], "too short"),
        (b"\x10\0\0\0no frame at all".to_vec(), "is damaged"),
    ] {
        let mut pages = CraftedPages::new();
        let sealed = seal_page(&thief.writer, &pages.layer, 0, 1, packed);
        let root = pages.append(&sealed);
        thief.refused(&[(pages.layer(1, root, Vec::new(), 1), pages.bytes)], words);
    }
    assert!(support::peak_memory() < 256 << 20, "{} MiB", support::peak_memory() >> 20);
}

/// Each layer copies the stream below twice: 64 of them would have 2^64 runs.
#[test]
fn layers_that_double_a_stream() {
    support::alone!();
    let thief = Thief::new();
    let below = file("a", &[(0, 0, 0, 1), (0, 1, 0, 1)]);
    let mut layers = vec![thief.one_leaf(&leaf(std::slice::from_ref(&below)), table(1), 1)];
    for number in 1..u64::from(MAX_CHAIN) {
        let mut plain = leaf(&[Stream { runs: Vec::new(), ..below.clone() }]);
        plain[0] = 2;
        *plain.last_mut().unwrap() = 3;
        let all = 2_u64 << (number - 1).min(56);
        varint(&mut plain, all << 2);
        varint(&mut plain, ((2 * all - 1) << 2) | 1);
        varint(&mut plain, all << 2);
        layers.push(thief.one_leaf(&plain, Vec::new(), 1));
    }
    assert_eq!(layers.len(), 64);
    // Ten of them are honest.
    let ids = thief.store(&layers[..10]);
    assert_eq!(thief.reader().recipe(&ids[9]).unwrap().streams[0].runs.len(), 1024);
    let ids = thief.store(&layers);
    let reader = thief.reader();
    let id = ids[63];
    let error = in_time(move || reader.recipe(&id).unwrap_err());
    assert!(matches!(&error, Error::Damaged(why) if why.contains("too many runs")), "{error}");
    assert!(support::peak_memory() < 1536 << 20, "{} MiB", support::peak_memory() >> 20);
}

#[test]
fn a_chain_of_more_than_64_layers() {
    let thief = Thief::new();
    let mut layers = vec![thief.one_leaf(&fifos(&["a"]), Vec::new(), 1)];
    for number in 1..=u64::from(MAX_CHAIN) {
        layers.push(thief.one_leaf(&fifos(&[&format!("b{number:03}")]), Vec::new(), number + 1));
    }
    let ids = thief.store(&layers);
    let reader = thief.reader();
    assert_eq!(reader.recipe(&ids[63]).unwrap().streams.len(), 64);
    let error = reader.recipe(&ids[64]).unwrap_err();
    assert!(matches!(&error, Error::Damaged(why) if why.contains("more snapshots than a chain can have")), "{error}");
}

// ---- Harm ----------------------------------------------------------------------------------------------------------

/// A vault with one snapshot whose layer has several leaves below an inner page, and no copy in any pack.
struct Stored {
    vault: Vault,
    name: ObjectName,
    row: SnapshotRow,
    object: Vec<u8>,
    /// The pages: first the leaves, then the root.
    pages: Vec<std::ops::Range<usize>>,
    recipe: Recipe,
    layer: Layer,
}

impl Stored {
    fn new() -> Self {
        let thief = Thief::new();
        let streams: Vec<Stream> = (0..60).map(|number| noted(&format!("folder/{number:03}"), number)).collect();
        let recipe = Recipe { packs: Vec::new(), streams };
        let mut pages = CraftedPages::new();
        let mut places = Vec::new();
        let mut children = Vec::new();
        for streams in recipe.streams.chunks(20) {
            let page = pages.push(&thief.writer, 1, &leaf(streams));
            places.push(page.offset as usize..page.offset as usize + page.length as usize);
            children.push((streams[0].entry.name.to_string(), page));
        }
        let children: Vec<(&str, PageRef)> =
            children.iter().map(|(name, page)| (name.as_str(), page.clone())).collect();
        let root = pages.push(&thief.writer, 2, &inner(&children));
        places.push(root.offset as usize..root.offset as usize + root.length as usize);
        let layer = pages.layer(2, root, Vec::new(), 60);
        // More than is read at once of a small layer.
        assert!(layer.length > 256 << 10, "{}", layer.length);
        let ids = thief.store(&[(layer.clone(), pages.bytes)]);
        let reader = thief.reader();
        let row = reader.index().snapshot(&ids[0]).unwrap().unwrap();
        let name = Repository::object_name(&row);
        let object = object_of(&thief.vault, &name);
        Self { vault: thief.vault, name, row, object, pages: places, recipe, layer }
    }

    /// The object with its pages changed. Its name stays: it is the hash of the head.
    fn harm(&self, harm: impl FnOnce(&mut Vec<u8>)) {
        let head = self.object.len() - pages_of(&self.object).len();
        let mut pages = pages_of(&self.object).to_vec();
        harm(&mut pages);
        let object = [&self.object[..head], &pages].concat();
        assert!(self.vault.memory.change(&self.name, |bytes| *bytes = object));
    }

    fn heal(&self) {
        self.harm(|_| {});
    }

    /// A machine that knows the snapshot, and has read none of its pages.
    fn reader(&self) -> (Arc<Repository>, PathBuf) {
        let state = self.vault.empty_state();
        let reader = self.vault.reader(&state).unwrap();
        reader.sync().unwrap();
        (reader, state)
    }

    fn read(&self, reader: &Repository) -> Result<(), Error> {
        let recipe = reader.recipe(&self.row.id)?;
        assert!(recipe == self.recipe, "it is read as it was made or not at all");
        Ok(())
    }

    /// Where a machine keeps the pages.
    fn kept(&self, state: &Path) -> PathBuf {
        let files = kept_in(state);
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

/// The files of pages in a state folder.
fn kept_in(state: &Path) -> Vec<PathBuf> {
    let repositories = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path().join("pages"));
    let folders = repositories.chain([state.join("pages")]).filter(|folder| folder.is_dir());
    folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

fn object_of(vault: &Vault, name: &ObjectName) -> Vec<u8> {
    vault.memory.content(Folder::Snapshots).into_iter().find(|(found, _)| found == name.name()).unwrap().1
}

/// An entry with so much text of its own that few of them fill a page.
fn noted(text: &str, number: u64) -> Stream {
    let mut stream = fifo(text);
    let note = noise(6000, number);
    let metadata = stream.entry.metadata.as_mut().unwrap();
    metadata.xattrs = vec![varu::entry::Xattr { name: b"user.note".to_vec(), value: note }];
    stream
}

/// What is done to the pages of an object.
type PagesHarm = Box<dyn Fn(&mut Vec<u8>)>;

fn swap(pages: &mut [u8], one: std::ops::Range<usize>, other: std::ops::Range<usize>) {
    let bytes = pages[one.clone()].to_vec();
    let length = bytes.len().min(other.len());
    let rest = pages[other.clone()][..length].to_vec();
    pages[one][..length].copy_from_slice(&rest);
    pages[other][..length].copy_from_slice(&bytes[..length]);
}

#[test]
fn pages_that_are_cut_flipped_or_swapped_are_named_and_read_from_this_machine_where_it_has_them() {
    let stored = Stored::new();
    let (known, _) = stored.reader();
    stored.read(&known).unwrap();
    let length = stored.layer.length as usize;
    let mut random = Random(7);
    let mut harms: Vec<(String, PagesHarm)> = Vec::new();
    for (number, page) in stored.pages.clone().into_iter().enumerate() {
        for at in [page.start, page.end - 1, page.start + random.below(page.len())] {
            harms.push((format!("page {number} flipped at {at}"), Box::new(move |pages| pages[at] ^= 1 << (at % 8))));
        }
        let zeros = page.clone();
        harms.push((format!("page {number} is zeros"), Box::new(move |pages| pages[zeros.clone()].fill(0))));
        let other = stored.pages[(number + 1) % stored.pages.len()].clone();
        harms.push((
            format!("page {number} and the next"),
            Box::new(move |pages| swap(pages, page.clone(), other.clone())),
        ));
    }
    for (what, harm) in &harms {
        stored.harm(harm);
        // The head is as it was, so the snapshot is listed; no machine takes a page for another.
        let (fresh, _) = stored.reader();
        let error = stored.read(&fresh).expect_err(what);
        let Error::Damaged(why) = &error else { panic!("{what}: {error} is no damage") };
        assert!(why.contains("isn't the one that the snapshot was made with"), "{what}: {why}");
        assert!(why.contains(&stored.name.to_string()), "{what}: {why}");
        let report = check(&fresh, Level::Structure).unwrap();
        assert!(!report.is_whole(&stored.row.id), "{what}");
        // What this machine has read before it has still.
        stored.read(&known).expect(what);
        let report = check(&known, Level::Structure).unwrap();
        assert!(!report.is_whole(&stored.row.id), "{what}: verify reads what is stored, and not what is kept here");
    }
    for cut in [0, 1, length / 2, length - 1] {
        stored.heal();
        let (knew_head, _) = stored.reader();
        stored.harm(|pages| pages.truncate(cut));
        // Who listed it before it was cut gets no bytes; who lists it now sees that it is too short.
        assert!(matches!(stored.read(&knew_head), Err(Error::Damaged(_))), "{cut}");
        let fresh = stored.vault.fresh_reader();
        let changes = fresh.sync().unwrap();
        assert!(changes.unusable().any(|why| why.contains(stored.name.name())), "{cut}: {changes:?}");
        stored.read(&known).unwrap();
    }
    stored.heal();
    let (fresh, _) = stored.reader();
    stored.read(&fresh).unwrap();
    assert_eq!(check(&fresh, Level::Structure).unwrap().damage, []);
}

#[test]
fn kept_pages_that_are_harmed_are_read_from_the_remote_again_and_kept_again() {
    let stored = Stored::new();
    let (reader, state) = stored.reader();
    stored.read(&reader).unwrap();
    let path = stored.kept(&state);
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole, pages_of(&stored.object));
    let mut harms: Vec<(String, Vec<u8>)> = vec![
        ("nothing in it".to_owned(), Vec::new()),
        ("zeros".to_owned(), vec![0; whole.len()]),
        ("longer".to_owned(), [&whole[..], b"more"].concat()),
    ];
    for page in &stored.pages {
        let mut flipped = whole.clone();
        flipped[page.start + page.len() / 2] ^= 0x10;
        harms.push((format!("flipped in {page:?}"), flipped));
        harms.push((format!("cut in {page:?}"), whole[..page.start + page.len() / 2].to_vec()));
        let mut swapped = whole.clone();
        swap(&mut swapped, page.clone(), stored.pages[0].clone());
        harms.push((format!("{page:?} and the first"), swapped));
    }
    for (what, bytes) in harms {
        fs::write(&path, &bytes).unwrap();
        // Now, and by a program that starts again.
        for reader in [reader.clone(), stored.vault.reader(&state).unwrap()] {
            stored.read(&reader).expect(&what);
        }
        let healed = fs::read(&path).unwrap();
        assert!(healed.starts_with(&whole), "{what}: it is kept as it is on the remote");
        // So the remote isn't needed any more.
        stored.harm(|pages| pages.fill(0));
        stored.read(&reader).expect(&what);
        stored.heal();
    }
    for deleted in [path.clone(), path.parent().unwrap().to_owned()] {
        match deleted.is_dir() {
            true => fs::remove_dir_all(&deleted).unwrap(),
            false => fs::remove_file(&deleted).unwrap(),
        }
        stored.read(&stored.vault.reader(&state).unwrap()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    // Something else has its place: nothing is kept, and all is read.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    stored.read(&stored.vault.reader(&state).unwrap()).unwrap();
}

/// What is read beside a page that this machine lacks may be damaged, where this machine has it whole.
#[test]
fn a_good_kept_page_is_not_overwritten_with_a_damaged_one() {
    let stored = Stored::new();
    let (reader, state) = stored.reader();
    stored.read(&reader).unwrap();
    let path = stored.kept(&state);
    let mut kept = fs::read(&path).unwrap();
    let (lost, damaged) = (stored.pages[0].clone(), stored.pages[1].clone());
    kept[lost].fill(0);
    fs::write(&path, &kept).unwrap();
    stored.harm(|pages| pages[damaged.start + 9] ^= 1);
    // Each of the two places has what the other lacks.
    for _ in 0..2 {
        stored.read(&stored.vault.reader(&state).unwrap()).unwrap();
    }
}

// ---- Copies --------------------------------------------------------------------------------------------------------

/// A thousand small dumps, so that a layer has several leaves.
fn dumps(day: u64) -> Streams {
    let dump = |number: u64| {
        let changed = if number.is_multiple_of(100) { day } else { 0 };
        (format!("dump{number:04}"), format!("row {number} {changed}").into_bytes())
    };
    (0..1000).map(dump).collect()
}

#[test]
fn a_page_that_is_damaged_in_the_snapshot_is_read_from_its_copy_in_a_pack() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let writer = vault.writer();
    let mut rows = Vec::new();
    for day in 0..3 {
        rows.push(back_up(&writer, &dumps(day), &clock).unwrap().snapshot);
        clock.advance(Duration::from_secs(86_400));
    }
    drop(writer);
    assert!(rows[2].header.parent.is_some());
    let original = vault.memory.fork();
    let mut random = Random(3);
    for row in &rows {
        let name = Repository::object_name(row);
        let pages = row.header.pages as usize;
        assert!(pages > 100, "{pages}");
        let start = row.size as usize - pages;
        for at in [0, pages - 1, random.below(pages), random.below(pages)] {
            assert!(vault.memory.change(&name, |bytes| bytes[start + at] ^= 4));
            let reader = vault.fresh_reader();
            reader.sync().unwrap();
            for (row, day) in rows.iter().zip(0..) {
                assert_restores(&reader, row, &dumps(day));
            }
            // A host can't be told to heal it, so it is said.
            let report = check(&reader, Level::Structure).unwrap();
            assert!(report.damage.iter().any(|damage| damage.object == name.to_string()), "{:?}", report.damage);
            assert!(vault.memory.change(&name, |bytes| bytes[start + at] ^= 4));
        }
    }
    assert_eq!(vault.memory.content(Folder::Snapshots), original.content(Folder::Snapshots));
    // The copy is damaged, too: it is no help, and no worse than none.
    let name = Repository::object_name(&rows[0]);
    let start = (rows[0].size - rows[0].header.pages) as usize;
    let sealed = object_of(&vault, &name)[start..].to_vec();
    assert!(vault.memory.change(&name, |bytes| bytes[start + 5] ^= 4));
    let mut copies = 0;
    for (pack, bytes) in vault.memory.content(Folder::Packs) {
        let Some(at) = bytes.windows(sealed.len()).position(|window| window == sealed) else { continue };
        let pack = ObjectName::new(Folder::Packs, pack).unwrap();
        assert!(vault.memory.change(&pack, |bytes| bytes[at + 5] ^= 4));
        copies += 1;
    }
    assert_eq!(copies, 1);
    let reader = vault.fresh_reader();
    reader.sync().unwrap();
    let error = reader.recipe(&rows[0].id).unwrap_err();
    assert!(matches!(&error, Error::Damaged(why) if why.contains(&name.to_string())), "{error}");
}

/// The state folder of the machine that wrote a snapshot is enough to list it, whatever is done to its pages.
#[test]
fn the_machine_that_wrote_a_snapshot_keeps_its_pages() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let row = back_up(&vault.writer(), &dumps(0), &clock).unwrap().snapshot;
    assert_eq!(kept_in(vault.state.path()).len(), 1);
    let name = Repository::object_name(&row);
    let start = (row.size - row.header.pages) as usize;
    assert!(vault.memory.change(&name, |bytes| bytes[start..].fill(0)));
    let recipe = vault.writer().recipe(&row.id).unwrap();
    assert_eq!(recipe.streams.len(), 1000);
    // Another machine has none of them, and a state that was copied has all.
    let copied = state();
    support::vault::copy_state(vault.state.path(), copied.path());
    assert!(vault.owner.writer(vault.remote.clone(), copied.path()).recipe(&row.id).unwrap() == recipe);
}
