//! Limits of each partial view: the machine with all of its files, the host with all of its objects, an old state, another
//! machine, a concurrent run.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::forge::id_of_object;
use support::vault::*;
use support::*;
use varu::backup::{BackupOptions, BackupReport, WantedKind, backup};
use varu::class::{Class, Classified};
use varu::crypto::{DataKeySecret, IdentityFile, MAX_WRAPPED_PACK_KEY, random_bytes};
use varu::format::layout::{pack_name, parse_snapshot_name, snapshot_name};
use varu::format::pack::PackHeader;
use varu::format::recipe::Layer;
use varu::format::snapshot::{SnapshotBody, SnapshotHeader};
use varu::format::writer_key::WriterKeyFile;
use varu::id::{InstanceId, PackId, RepositoryId, derive_key};
use varu::index::SnapshotRow;
use varu::progress::{Counter, Interrupt, Progress};
use varu::remote::memory::MemoryRemote;
use varu::remote::record::{Recorder, Verb};
use varu::remote::{Folder, ObjectName, Remote};
use varu::repository::{Chosen, Keys, Repository, add_recipients, create, generate, unlock};
use varu::source::Source;

const DAY: Duration = Duration::from_secs(86_400);

fn days(vault: &Vault, clock: &TestClock, days: std::ops::Range<u32>) -> Vec<BackupReport> {
    let writer = vault.writer();
    let mut reports = Vec::new();
    for number in days {
        reports.push(back_up(&writer, &day(number), clock).unwrap());
        clock.advance(DAY);
    }
    reports
}

fn day(number: u32) -> Streams {
    BTreeMap::from([
        ("customers".to_owned(), table(6000, |row| if row % 700 == number { number } else { 0 })),
        ("log".to_owned(), noise(60_000, u64::from(number))),
    ])
}

// ---- The machine: writer key, index, state -------------------------------------------------------------------------

/// All files below a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

/// The content of all zstd frames that some bytes hold, wherever they begin, as far as they can be read.
fn frames(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    for at in memchr::memmem::find_iter(bytes, b"\x28\xb5\x2f\xfd") {
        // An error ends what can be read of a frame.
        let _ = zstd::stream::Decoder::new(&bytes[at..]).unwrap().single_frame().read_to_end(&mut content);
    }
    content
}

/// Pieces of a stream, 24 bytes each, that occur in no other.
fn pieces(stream: &[u8], others: &[&[u8]]) -> HashSet<Vec<u8>> {
    let known: HashSet<&[u8]> = others.iter().flat_map(|other| other.windows(24)).collect();
    let all = stream.windows(24).step_by(97).filter(|piece| !known.contains(piece));
    all.map(<[u8]>::to_vec).collect()
}

#[test]
fn the_state_of_the_machine_holds_no_byte_of_older_snapshots() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    days(&vault, &clock, 0..4);
    let newest: Vec<Vec<u8>> = day(3).into_values().collect();
    let newest: Vec<&[u8]> = newest.iter().map(Vec::as_slice).collect();
    let mut secret = HashSet::new();
    for number in 0..3 {
        for stream in day(number).into_values() {
            secret.extend(pieces(&stream, &newest));
        }
    }
    assert!(secret.len() > 1000);
    let mut cached = 0;
    let cache = files(vault.state.path()).into_iter().filter(|(name, _)| name.ends_with(".chunks"));
    let frames: Vec<_> = cache.map(|(name, bytes)| (format!("a frame in {name}"), frames(&bytes))).collect();
    assert!(!frames[0].1.is_empty());
    let key = ("key".to_owned(), vault.owner.writer_key.clone().into());
    for (name, bytes) in files(vault.state.path()).iter().chain(&frames).chain([&key]) {
        let found = bytes.windows(24).filter(|window| secret.contains(*window)).count();
        assert_eq!(found, 0, "{name} holds {found} pieces of older snapshots");
        cached += bytes.windows(24).filter(|window| *window == &newest[1][500..524]).count();
    }
    assert_eq!(cached, 1, "the search finds what is there: the base cache holds the newest snapshot");
}

/// Everything that a thief can derive from the writer key: its secret, all derived keys, and the key of each sealed
/// part.
fn secrets_of_the_machine(owner: &Owner, packs: &[PackHeader]) -> Vec<[u8; 32]> {
    let file = WriterKeyFile::parse(&owner.writer_key).unwrap();
    let mut secrets = vec![*file.secret];
    for context in ["chunk id key", "stream hash key", "chunker seed", "metadata key", "repository id"] {
        secrets.push(*derive_key(&format!("varu 2026-11 {context}"), &[file.secret.as_slice()]));
    }
    let metadata = secrets[4];
    for pack in packs {
        secrets.push(pack.salt);
        for context in ["pack directory", "recipe copy", "snapshot body"] {
            secrets.push(*derive_key(&format!("varu 2026-11 {context}"), &[&metadata, &pack.salt]));
        }
    }
    secrets
}

/// 32 bytes as an age identity.
fn age_identity(secret: &[u8; 32]) -> String {
    const LETTERS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let prefix = b"age-secret-key-";
    let bits: Vec<u8> = secret.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let mut values: Vec<u8> =
        bits.chunks(5).map(|five| (0..5).fold(0, |value, at| value << 1 | five.get(at).unwrap_or(&0))).collect();
    let expanded = prefix.iter().map(|c| c >> 5).chain([0]).chain(prefix.iter().map(|c| c & 31));
    let checksum = expanded.chain(values.clone()).chain([0; 6]).fold(1u32, |sum, value| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        (0..5).filter(|bit| top >> bit & 1 == 1).fold(next, |next, bit| next ^ GENERATORS[bit])
    }) ^ 1;
    values.extend((0..6).map(|at| (checksum >> (5 * (5 - at)) & 31) as u8));
    let text: String = values.iter().map(|&value| char::from(LETTERS[usize::from(value)])).collect();
    format!("{}1{text}", std::str::from_utf8(prefix).unwrap()).to_uppercase()
}

#[test]
fn nothing_on_the_machine_opens_a_pack() {
    use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit, Nonce};
    let vault = Vault::new();
    days(&vault, &TestClock::at(MONDAY), 0..3);
    let writer = vault.writer();
    assert!(writer.keys().data_secret().is_none());
    let packs: Vec<Vec<u8>> = vault.memory.content(Folder::Packs).into_iter().map(|(_, bytes)| bytes).collect();
    let headers: Vec<PackHeader> = packs.iter().map(|pack| PackHeader::decode(pack).unwrap()).collect();
    let secrets = secrets_of_the_machine(&vault.owner, &headers);
    let rows = writer.index().packs().unwrap();
    let own = DataKeySecret::parse(&age_identity(&random_bytes())).unwrap();
    let wrapped = own.public().wrap_pack_key(&varu::crypto::PackKey::random());
    assert!(own.unwrap_pack_key(&wrapped).is_ok(), "the search makes identities that work");
    for (pack, header) in packs.iter().zip(&headers) {
        let clear = header.encode();
        let row = rows.iter().find(|row| row.id == PackId::of(pack)).unwrap();
        let directory = writer.index().directory(row.number).unwrap().unwrap();
        let segment = &pack[clear.len()..clear.len() + directory.segments[0].sealed as usize];
        for secret in &secrets {
            let identity = DataKeySecret::parse(&age_identity(secret)).unwrap();
            assert!(identity.unwrap_pack_key(&header.wrapped_key).is_err());
            let mut bytes = segment.to_vec();
            let cipher = ChaCha20Poly1305::new(&(*secret).into());
            assert!(cipher.decrypt_in_place(&Nonce::from([0; 12]), &clear, &mut bytes).is_err());
        }
        assert!(header.wrapped_key.len() <= MAX_WRAPPED_PACK_KEY);
    }
    // The key object is for the recipients alone.
    for (name, bytes) in vault.memory.content(Folder::Keys) {
        for secret in &secrets {
            let identity = IdentityFile::parse(&age_identity(secret)).unwrap();
            assert!(identity.unwrap(&bytes, 1 << 16).is_err(), "{name}");
        }
    }
}

#[test]
fn repository_and_identity_are_all_that_a_fresh_machine_needs() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let configuration = b"[repository]\nurl = \"/srv/vault\"\n".to_vec();
    let options = BackupOptions { configuration: configuration.clone(), environment: "production".into(), ..options() };
    let mut expected = Expected::new();
    for number in 0..3 {
        let report = back_up_with(&vault.writer(), &day(number), &options, &clock).unwrap();
        expected.insert(report.snapshot.id, day(number));
    }
    let Vault { memory, owner: Owner { identity, .. }, .. } = vault;
    let identity = IdentityFile::parse(&identity).unwrap();
    let folder = state();
    let keys = unlock(&memory, &identity, &[]).unwrap().remove(0);
    let reader = Arc::new(Repository::open(Arc::new(memory), keys, folder.path()).unwrap());
    assert_eq!(reader.sync().unwrap().added.len(), 3);
    let rows = reader.index().snapshots().unwrap();
    for row in rows {
        let body = reader.index().body(&row.id).unwrap().unwrap();
        assert_eq!((&body.configuration, body.environment.raw()), (&configuration, "production"));
        assert_restores(&reader, &row, &expected[&row.id]);
    }
    // Not even the writer key is missing: it comes from there, too.
    assert!(WriterKeyFile::parse(&reader.keys().file().to_text()).is_ok());
}

// ---- The host: all objects, the recipients' public halves ----------------------------------------------------------

/// Puts a repository of one's own making beside or in place of another, its keys wrapped to the same recipients.
fn forge(place: &MemoryRemote, owner: &Owner) -> Owner {
    let genuine = WriterKeyFile::parse(&owner.writer_key).unwrap();
    let file = generate(genuine.recipients.clone(), Default::default(), None).unwrap();
    let elsewhere = MemoryRemote::new();
    create(&elsewhere, &file).unwrap();
    let forged = Owner { identity: owner.identity.clone(), writer_key: file.to_text().to_string() };
    let folder = state();
    let writer = forged.writer(Arc::new(elsewhere.clone()), folder.path());
    back_up(&writer, &day(66), &TestClock::at(MONDAY)).unwrap();
    for folder in Folder::ALL {
        elsewhere.content(folder).into_iter().for_each(|(name, bytes)| place.put(folder, name, bytes));
    }
    forged
}

fn id_of(owner: &Owner) -> RepositoryId {
    WriterKeyFile::parse(&owner.writer_key).unwrap().repository_id()
}

fn empty(memory: &MemoryRemote) {
    for folder in Folder::ALL {
        for (name, _) in memory.content(folder) {
            memory.lose(&ObjectName::new(folder, name).unwrap());
        }
    }
}

#[test]
fn a_forged_repository_is_refused_by_name() {
    let vault = Vault::new();
    let expected = days(&vault, &TestClock::at(MONDAY), 0..1).remove(0);
    let forged = forge(&vault.memory, &vault.owner);
    // Beside the real one it is skipped.
    let reader = vault.fresh_reader();
    assert_eq!(*reader.id(), id_of(&vault.owner));
    let changes = reader.sync().unwrap();
    assert_eq!((changes.added.as_slice(), changes.foreign), (&[expected.snapshot.id][..], 1));
    assert_restores(&reader, &expected.snapshot, &day(0));
    // Alone it is refused.
    empty(&vault.memory);
    let forged_again = forge(&vault.memory, &vault.owner);
    assert_ne!(id_of(&forged), id_of(&forged_again));
    let error = vault.reader(&vault.empty_state()).err().unwrap().to_string();
    assert!(error.contains(&format!("--trust-repository {}", id_of(&forged_again))), "{error}");
    // Whoever says that it is theirs may read it.
    let identity = IdentityFile::parse(&vault.owner.identity).unwrap();
    let keys = unlock(&vault.memory, &identity, &[id_of(&forged_again)]).unwrap();
    assert_eq!(*keys[0].id(), id_of(&forged_again));
}

#[test]
fn a_key_object_whose_parameters_were_changed_is_refused() {
    let vault = Vault::new();
    let genuine = WriterKeyFile::parse(&vault.owner.writer_key).unwrap();
    let id = genuine.repository_id();
    let (secret, another) = (varu::id::hex(genuine.secret.as_slice()), varu::id::hex(&[7; 32]));
    let data_key = DataKeySecret::generate().public().to_string();
    let changes = [
        ("chunks 4096 16384 65536", "chunks 4096 16384 131072"),
        (secret.as_str(), another.as_str()),
        (genuine.data_key.as_str(), data_key.as_str()),
    ];
    for (from, to) in changes {
        let changed = genuine.to_text().replace(from, to);
        assert_ne!(changed, *genuine.to_text());
        let error = WriterKeyFile::parse(&changed).err().unwrap().to_string();
        assert!(error.contains(&id.to_string()) && error.contains("fingerprint"), "{error}");
    }
}

#[test]
fn another_repository_in_its_place_is_refused_by_name() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    days(&vault, &clock, 0..2);
    let other = Vault::new();
    days(&other, &clock, 0..1);
    let swapped: Arc<dyn Remote> = Arc::new(other.memory.clone());
    // Where the machine has its state, its newest snapshot is missing.
    let writer = vault.owner.writer(swapped.clone(), vault.state.path());
    let error = back_up(&writer, &day(2), &clock).unwrap_err();
    assert_eq!(error.class(), Class::Damaged);
    assert!(error.to_string().contains("sequence 2 was seen"), "{error}");
    // Where it has none, the snapshots there are another's.
    let writer = vault.owner.writer(swapped.clone(), &vault.empty_state());
    let error = back_up(&writer, &day(2), &clock).unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains(&id_of(&other.owner).to_string()), "{error}");
    assert!(error.to_string().contains(&id_of(&vault.owner).to_string()), "{error}");
    assert_eq!(other.memory.content(Folder::Snapshots).len(), 1);
    // An operator whose identity opens both is asked whether it is the right one.
    let both = IdentityFile::parse(&vault.owner.identity).unwrap();
    let file = WriterKeyFile::parse(&other.owner.writer_key).unwrap();
    let data = IdentityFile::parse(&other.owner.identity).unwrap();
    let data = unlock(&*swapped, &data, &[]).unwrap().remove(0);
    let recipients = both.recipients().iter().map(ToString::to_string).collect();
    add_recipients(&*swapped, WriterKeyFile { recipients, ..file }, data.data_secret().unwrap()).unwrap();
    let error = vault.owner.reader(swapped, &vault.empty_state()).err().unwrap().to_string();
    assert!(error.contains(&format!("--trust-repository {}", id_of(&other.owner))), "{error}");
}

/// A host can change a clear byte and give the object the name that fits: hashes alone would not show it.
#[test]
fn a_changed_byte_in_any_clear_header_is_refused_by_name() {
    let vault = Vault::new();
    let options = BackupOptions { tags: vec!["pre-deploy".to_owned()], ..options() };
    let clock = TestClock::at(MONDAY);
    back_up_with(&vault.writer(), &day(0), &options, &clock).unwrap();
    let second = back_up_with(&vault.writer(), &day(1), &options, &clock).unwrap().snapshot;
    let name = Repository::object_name(&second);
    let object =
        vault.memory.content(Folder::Snapshots).into_iter().find(|(found, _)| *found == name.name()).unwrap().1;
    let length = SnapshotHeader::length(&object).unwrap();
    let reader = vault.fresh_reader();
    reader.sync().unwrap();
    assert!(vault.memory.lose(&name));
    for at in 0..length {
        let mut changed = object.clone();
        changed[at] ^= 1 << (at % 8);
        let id = id_of_object(&changed);
        let fitting = match SnapshotHeader::decode(&changed[..length]) {
            Ok(header) => snapshot_name(header.stored_time, &header.set, header.kind(), &id),
            Err(_) => snapshot_name(second.header.stored_time, "set", second.header.kind(), &id),
        };
        vault.memory.put(Folder::Snapshots, fitting.name(), changed.clone());
        assert!(reader.fetch_snapshot(&fitting, changed.len() as u64).is_err(), "byte {at}");
        let fresh = vault.fresh_reader();
        let changes = fresh.sync().unwrap();
        assert_eq!(changes.added.len(), 1, "byte {at}");
        // With another repository's id in it, it is another repository's: it is counted.
        let named = changes.unusable().any(|unusable| unusable.contains(fitting.name()));
        assert!(named || (60..76).contains(&at) && changes.foreign == 1, "byte {at}: {changes:?}");
        vault.memory.lose(&fitting);
    }
    // The same for packs: under the name that recipes know, without the hash of the whole.
    let pack = second.header.packs[0];
    let stored =
        vault.memory.content(Folder::Packs).into_iter().find(|(name, _)| *name == format!("{pack}.pack")).unwrap().1;
    let length = PackHeader::length(&stored).unwrap();
    for at in (0..length).chain(stored.len() - 24..stored.len()) {
        vault.memory.change(&pack_name(&pack), |bytes| bytes[at] ^= 1 << (at % 8));
        let fetched = reader.fetch_directory(&pack, stored.len() as u64, None);
        let error = fetched.err().unwrap_or_else(|| panic!("byte {at} of the pack")).to_string();
        assert!(error.contains(&pack.to_string()), "{error}");
        vault.memory.put(Folder::Packs, pack_name(&pack).name(), stored.clone());
    }
}

#[test]
fn a_hidden_newest_snapshot_is_named_until_its_loss_is_accepted() {
    for (set_of_the_lost, other) in [("another", "set"), ("set", "another")] {
        let vault = Vault::new();
        let clock = TestClock::at(MONDAY);
        let of = |set: &str| BackupOptions { set: set.to_owned(), ..options() };
        for set in [set_of_the_lost, other] {
            back_up_with(&vault.writer(), &day(0), &of(set), &clock).unwrap();
        }
        let lost = back_up_with(&vault.writer(), &day(1), &of("another"), &clock).unwrap().snapshot;
        // In one of the two cases a newer snapshot of the other set is there.
        back_up_with(&vault.writer(), &day(1), &of(if set_of_the_lost == "set" { "another" } else { "set" }), &clock)
            .unwrap();
        let rows = vault.writer().index().snapshots().unwrap();
        let lost = rows.iter().rfind(|row| row.header.set == "another").unwrap_or(&lost).clone();
        let name = Repository::object_name(&lost);
        let object = vault.remote.get(&name, 1 << 20).unwrap();
        assert!(vault.memory.lose(&name));
        for _ in 0..2 {
            let error = back_up_with(&vault.writer(), &day(2), &of(other), &clock).unwrap_err();
            assert_eq!(error.class(), Class::Damaged);
            assert!(error.to_string().contains(&lost.id.to_string()), "{error}");
            let hidden = vault.writer().rebuild(false).unwrap().hidden.unwrap();
            assert!(hidden.contains(&lost.id.to_string()) && hidden.contains("--accept-loss"), "{hidden}");
        }
        // Shown again it is used again.
        let accepted = vault.memory.fork();
        vault.memory.put(Folder::Snapshots, name.name(), object);
        assert_eq!(vault.writer().sync().unwrap().hidden, None);
        assert_eq!(vault.writer().index().snapshots().unwrap().len(), 4);
        // Or its loss is accepted.
        let writer = vault.owner.writer(Arc::new(accepted), vault.state.path());
        assert_eq!(writer.rebuild(true).unwrap().hidden, None);
        assert_eq!(writer.index().snapshots().unwrap().len(), 3);
        back_up_with(&writer, &day(2), &of(other), &clock).unwrap();
    }
}

#[test]
fn a_replayed_snapshot_is_refused_by_name() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let first = days(&vault, &clock, 0..1).remove(0).snapshot;
    let full = BackupOptions { wanted: WantedKind::Rebase, ..options() };
    back_up_with(&vault.writer(), &day(1), &full, &clock).unwrap();
    // The old chain is pruned, and everybody has seen that.
    let name = Repository::object_name(&first);
    let object = vault.remote.get(&name, 1 << 20).unwrap();
    assert!(vault.memory.lose(&name));
    assert_eq!(vault.writer().sync().unwrap().gone, [first.id]);
    vault.memory.put(Folder::Snapshots, name.name(), object);
    for _ in 0..2 {
        let changes = vault.writer().sync().unwrap();
        assert!(changes.added.is_empty());
        let [refused] = changes.refused.as_slice() else { panic!("{:?}", changes.refused) };
        assert!(refused.contains(&first.id.to_string()) && refused.contains("put an old snapshot back"), "{refused}");
    }
    let latest = vault.writer().find_snapshot(Some("set"), &Chosen::Latest).unwrap();
    assert_eq!(latest.header.sequence, 2);
}

// ---- The state: set back, copied, made again -----------------------------------------------------------------------

#[test]
fn a_state_that_was_set_back_catches_up() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    days(&vault, &clock, 0..2);
    let old = state();
    copy_state(vault.state.path(), old.path());
    let later = days(&vault, &clock, 2..4);
    let set_back = vault.owner.writer(vault.remote.clone(), old.path());
    let report = back_up(&set_back, &day(3), &clock).unwrap();
    let header = &report.snapshot.header;
    // It continues after a snapshot that it doesn't remember, and doesn't build upon it.
    assert_eq!((header.sequence, header.parent), (5, None));
    assert!(report.note.as_ref().is_some_and(|note| note.contains(&later[1].snapshot.id.to_string())));
    assert!(report.totals().new < report.totals().read, "what it does remember is shared");
    assert_eq!(header.previous, Some(later[1].snapshot.id));
    let report = back_up(&set_back, &day(4), &clock).unwrap();
    let reader = vault.fresh_reader();
    assert_whole(&reader);
    assert_restores(&reader, &report.snapshot, &day(4));
    // Nothing that makes a key was used twice.
    let snapshots = vault.memory.content(Folder::Snapshots);
    let salts = snapshots.iter().map(|(_, bytes)| header_of(bytes).salt);
    let packs = vault.memory.content(Folder::Packs);
    let salts: Vec<[u8; 32]> =
        salts.chain(packs.iter().map(|(_, pack)| PackHeader::decode(pack).unwrap().salt)).collect();
    assert_eq!(salts.iter().collect::<HashSet<_>>().len(), salts.len());
}

#[test]
fn a_state_older_than_what_was_pruned_since_catches_up() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let pruned = days(&vault, &clock, 0..2);
    let old = state();
    copy_state(vault.state.path(), old.path());
    let full = BackupOptions { wanted: WantedKind::Rebase, ..options() };
    back_up_with(&vault.writer(), &day(2), &full, &clock).unwrap();
    pruned.iter().for_each(|report| assert!(vault.memory.lose(&Repository::object_name(&report.snapshot))));
    let set_back = vault.owner.writer(vault.remote.clone(), old.path());
    let report = back_up(&set_back, &day(2), &clock).unwrap();
    assert_eq!((report.snapshot.header.sequence, report.snapshot.header.parent), (4, None));
    let reader = vault.fresh_reader();
    reader.sync().unwrap();
    assert_restores(&reader, &report.snapshot, &day(2));
}

/// The header of a stored snapshot.
fn header_of(object: &[u8]) -> SnapshotHeader {
    SnapshotHeader::decode(&object[..SnapshotHeader::length(object).unwrap()]).unwrap()
}

/// A snapshot as another machine with the same writer key would store it.
fn store_as_another_machine(writer: &Arc<Repository>, before: &SnapshotRow) -> SnapshotRow {
    let header =
        SnapshotHeader { sequence: before.header.sequence + 1, previous: Some(before.id), ..before.header.clone() };
    let instance = InstanceId::from_bytes([9; 16]);
    let body = writer.index().whole_body(&before.id).unwrap().unwrap();
    let pages = writer.pages_of(before, &Layer::decode(&body.recipe).unwrap()).unwrap();
    let body = SnapshotBody { instance, host: "the-clone".into(), ..body };
    let snapshot = writer.seal_snapshot(header, body, pages).unwrap();
    writer.store_snapshot(&snapshot).unwrap();
    snapshot.row
}

#[test]
fn another_machine_is_refused_until_it_is_adopted() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let first = days(&vault, &clock, 0..1).remove(0).snapshot;
    store_as_another_machine(&vault.writer(), &first);
    for _ in 0..2 {
        let error = back_up(&vault.writer(), &day(1), &clock).unwrap_err();
        assert_eq!(error.class(), Class::Refused);
        assert!(error.to_string().contains("the-clone") && error.to_string().contains("index adopt"), "{error}");
    }
    assert_eq!(vault.writer().adopt().unwrap().unwrap().about.host, "the-clone");
    let second = back_up(&vault.writer(), &day(1), &clock).unwrap().snapshot;
    assert_eq!(second.header.sequence, 3);
    back_up(&vault.writer(), &day(2), &clock).unwrap();
    // Only that one snapshot was adopted: the other machine's next is refused again.
    let newest = vault.writer().newest().unwrap().unwrap();
    store_as_another_machine(&vault.writer(), &newest);
    assert_eq!(back_up(&vault.writer(), &day(3), &clock).unwrap_err().class(), Class::Refused);
}

/// The content of an index, without its private parts: pack numbers, and times of storage.
fn dump(state: &Path, id: &RepositoryId) -> Vec<String> {
    let database = rusqlite::Connection::open(state.join(id.to_string()).join("index.sqlite")).unwrap();
    let queries = [
        "SELECT 'chain', hex(id), set_name FROM chain ORDER BY id",
        "SELECT 'snapshot', hex(id), sequence, hex(chain), set_name, size, hex(header), hex(about) FROM snapshot ORDER BY id",
        "SELECT 'recipe', hex(snapshot), hex(bytes) FROM recipe ORDER BY snapshot",
        "SELECT 'pack', hex(id), set_name, hex(generation), size, header_length, hex(directory_check), whole, hex(directory) \
         FROM pack ORDER BY id",
        "SELECT 'segment', hex(id), segment.number, offset, sealed, plain, segment.chunks, depth \
         FROM segment JOIN pack ON segment.pack = pack.number ORDER BY id, segment.number",
    ];
    let mut rows = Vec::new();
    for query in queries {
        let mut statement = database.prepare(query).unwrap();
        let columns = statement.column_count();
        let found = statement.query_map([], |row| {
            let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
            Ok(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?))
        });
        rows.extend(found.unwrap().map(Result::unwrap));
    }
    rows
}

#[test]
fn a_rebuilt_index_is_the_same_and_reads_the_ends_of_packs() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    days(&vault, &clock, 0..4);
    back_up_with(&vault.writer(), &day(9), &BackupOptions { set: "another".into(), ..options() }, &clock).unwrap();
    back_up_with(&vault.writer(), &day(4), &BackupOptions { wanted: WantedKind::Rebase, ..options() }, &clock).unwrap();
    let id = id_of(&vault.owner);
    let grown = dump(vault.state.path(), &id);
    assert!(grown.len() > 20, "{}", grown.len());
    let recorder = Arc::new(Recorder::new(vault.remote.clone()));
    let fresh = vault.empty_state();
    for state in [vault.state.path(), &fresh] {
        recorder.take();
        let writer = vault.owner.writer(recorder.clone(), state);
        let changes = writer.rebuild(false).unwrap();
        assert_eq!((changes.added.len(), changes.refused), (6, Vec::<String>::new()));
        assert_eq!(dump(state, &id), grown);
        let mut packs = 0;
        let known = writer.index().packs().unwrap();
        for pack in known {
            let directory = writer.index().directory(pack.number).unwrap().unwrap();
            // A small pack in one piece, of a larger one what holds the header and the directory, and little else.
            let ends = pack.size - directory.sealed_offset(directory.segments.len() as u32);
            let reads = recorder.read(&pack_name(&pack.id));
            let read: u64 = reads.iter().map(|read| read.end - read.start).sum();
            let most = if pack.size <= 16 << 10 { pack.size } else { ends + 9 * 1024 + pack.size / 512 };
            assert!(reads.len() <= 3 && read <= most, "{read} bytes of {} in {reads:?}, at most {most}", pack.size);
            packs += 1;
        }
        assert!(packs > 5, "{packs} packs");
        // It continues as before, if the state still knows this machine's snapshots.
        let again = back_up(&writer, &day(4), &clock).unwrap();
        let knows = state == vault.state.path();
        assert_eq!((again.totals().new == 0, again.snapshot.header.parent.is_some()), (knows, knows));
        assert!(vault.memory.lose(&Repository::object_name(&again.snapshot)));
        assert_eq!(writer.rebuild(true).unwrap().hidden, None);
    }
}

#[test]
fn a_broken_index_is_made_again() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    days(&vault, &clock, 0..3);
    let id = id_of(&vault.owner);
    let grown = dump(vault.state.path(), &id);
    let path = vault.state.path().join(id.to_string()).join("index.sqlite");
    let database = rusqlite::Connection::open(path).unwrap();
    database.execute("UPDATE snapshot SET header = x'00'", []).unwrap();
    database.execute("UPDATE pack SET directory = x'00'", []).unwrap();
    drop(database);
    let healed = vault.writer().sync().unwrap().healed.expect("the index was damaged");
    assert!(healed.contains("index.sqlite.damaged"), "{healed}");
    assert_eq!(dump(vault.state.path(), &id), grown);
    assert_eq!(vault.writer().sync().unwrap().healed, None);
    assert_eq!(back_up(&vault.writer(), &day(3), &clock).unwrap().snapshot.header.sequence, 4);
}

// ---- Two runs ------------------------------------------------------------------------------------------------------

/// A source that says when it is read, and waits for a word.
struct Waiting {
    inner: MemorySource,
    started: Sender<()>,
    go_on: Receiver<()>,
}

impl Source for Waiting {
    fn next(&mut self) -> Result<Option<varu::entry::Entry>, varu::source::Error> {
        self.started.send(()).unwrap();
        self.go_on.recv().unwrap();
        self.inner.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, varu::source::Error> {
        self.inner.read(buffer)
    }

    fn end(&mut self) -> Result<varu::entry::Entry, varu::source::Error> {
        self.inner.end()
    }

    fn finish(&mut self) -> Result<varu::source::Finished, varu::source::Error> {
        self.inner.finish()
    }

    fn warnings(&mut self) -> Vec<varu::warning::Warning> {
        Vec::new()
    }
}

/// Keeps the notes that a person would see.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn phase(&self, _: &str, _: Option<u64>, _: Option<u64>) {}

    fn add(&self, _: Counter, _: u64) {}

    fn note(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }

    fn warn(&self, _: &varu::warning::Warning) {}
}

#[test]
fn the_second_of_two_runs_waits_and_says_for_whom() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let (started, has_started) = channel();
    let (go, go_on) = channel();
    let notes = Notes::default();
    std::thread::scope(|scope| {
        let (vault, clock, notes) = (&vault, &clock, &notes);
        let first = scope.spawn(move || {
            let mut source = Waiting { inner: MemorySource::new(&day(0)), started, go_on };
            let options = BackupOptions { set: "first".into(), ..options() };
            backup(
                &vault.writer(),
                &mut source,
                &options,
                clock,
                &varu::progress::Counts::default(),
                &Interrupt::default(),
            )
        });
        has_started.recv().unwrap();
        let error = back_up(&vault.writer(), &day(1), clock).unwrap_err();
        assert_eq!(error.class(), Class::Refused);
        assert!(error.to_string().contains(&format!("backup of first, process {}", std::process::id())), "{error}");
        let second = scope.spawn(move || {
            let mut source = MemorySource::new(&day(1));
            let options = BackupOptions { wait: Duration::from_secs(600), ..options() };
            backup(&vault.writer(), &mut source, &options, clock, notes, &Interrupt::default())
        });
        while notes.0.lock().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Each stream is asked for, and the end after the last.
        go.send(()).unwrap();
        for _ in 0..2 {
            has_started.recv().unwrap();
            go.send(()).unwrap();
        }
        assert_eq!(first.join().unwrap().unwrap().snapshot.header.sequence, 1);
        assert_eq!(second.join().unwrap().unwrap().snapshot.header.sequence, 2);
    });
    let notes = notes.0.into_inner().unwrap();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("waiting for backup of first, process"), "{notes:?}");
}

// ---- Keys that change ----------------------------------------------------------------------------------------------

#[test]
fn after_a_rotation_nothing_old_is_shared_and_both_are_read() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let old = days(&vault, &clock, 0..2);
    let old_packs: BTreeSet<String> = vault.memory.content(Folder::Packs).into_iter().map(|(name, _)| name).collect();
    let before = WriterKeyFile::parse(&vault.owner.writer_key).unwrap();
    let file = generate(before.recipients.clone(), before.chunking, Some(before.repository_id())).unwrap();
    create(&vault.memory, &file).unwrap();
    let mut identity = IdentityFile::parse(&vault.owner.identity).unwrap();
    identity.add_repository(file.repository_id());
    let rotated = Owner { identity: identity.to_text().to_string(), writer_key: file.to_text().to_string() };
    let writer = rotated.writer(vault.remote.clone(), &vault.empty_state());
    let new = back_up(&writer, &day(1), &clock).unwrap();
    assert_eq!(new.totals().new, new.totals().read, "all is stored again");
    assert_eq!((new.snapshot.header.sequence, new.snapshot.header.parent), (3, None));
    assert!(new.snapshot.header.packs.iter().all(|pack| !old_packs.contains(&format!("{pack}.pack"))));
    let keys = unlock(&vault.memory, &identity, &[]).unwrap();
    let ids: Vec<RepositoryId> = keys.iter().map(|keys| *keys.id()).collect();
    assert_eq!(ids, [file.repository_id(), before.repository_id()], "the newest first");
    for (keys, snapshots) in keys.into_iter().zip([1, 2]) {
        let reader = Arc::new(Repository::open(vault.remote.clone(), keys, &vault.empty_state()).unwrap());
        assert_eq!(assert_whole(&reader).snapshots.len(), snapshots);
    }
    assert_restores(
        &rotated.reader(vault.remote.clone(), &vault.empty_state()).map(synced).unwrap(),
        &new.snapshot,
        &day(1),
    );
    assert_restores(&synced(vault.fresh_reader()), &old[1].snapshot, &day(1));
}

fn synced(reader: Arc<Repository>) -> Arc<Repository> {
    reader.sync().unwrap();
    reader
}

#[test]
fn a_recipient_is_added_without_touching_a_pack() {
    let vault = Vault::new();
    let report = days(&vault, &TestClock::at(MONDAY), 0..1).remove(0);
    let identity = IdentityFile::parse(&vault.owner.identity).unwrap();
    let keys: Keys = unlock(&vault.memory, &identity, &[]).unwrap().remove(0);
    let mut second = IdentityFile::generate();
    second.add_repository(*keys.id());
    let file = WriterKeyFile::parse(&vault.owner.writer_key).unwrap();
    let recipients =
        file.recipients.iter().cloned().chain(second.recipients().iter().map(ToString::to_string)).collect();
    let recorder = Recorder::new(vault.remote.clone());
    add_recipients(&recorder, WriterKeyFile { recipients, ..file }, keys.data_secret().unwrap()).unwrap();
    let touched = recorder.take();
    assert!(touched.iter().all(|call| call.folder.is_none_or(|folder| folder == Folder::Keys)), "{touched:?}");
    assert_eq!(touched.iter().filter(|call| call.verb == Verb::Finish).count(), 1);
    for identity in [&vault.owner.identity, &second.to_text()] {
        let owner = Owner { identity: identity.clone(), writer_key: String::new() };
        let reader = synced(owner.reader(vault.remote.clone(), &vault.empty_state()).unwrap());
        assert_restores(&reader, &report.snapshot, &day(0));
    }
}

#[test]
fn names_that_are_no_snapshots_are_left_alone() {
    let vault = Vault::new();
    days(&vault, &TestClock::at(MONDAY), 0..1);
    for name in ["README", "20261120T010510Z-set-full", "x-set-full-00000000000000000000000000000000"] {
        assert!(parse_snapshot_name(&ObjectName::new(Folder::Snapshots, name).unwrap()).is_none());
        vault.memory.put(Folder::Snapshots, name, *b"VARUs\x01");
        vault.memory.put(Folder::Packs, name, *b"VARUp\x01");
        vault.memory.put(Folder::Keys, name, *b"age");
    }
    assert_eq!(assert_whole(&vault.fresh_reader()).snapshots.len(), 1);
}
