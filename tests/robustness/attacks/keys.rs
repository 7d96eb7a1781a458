//! A thief with the machine's writer key, or the backup host, who wants to read stored data: by naming himself as a
//! recipient, by hiding keys, by adding many.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use varu::crypto::{DataKeySecret, IdentityFile, Recipient, wrap};
use varu::format::layout::key_name;
use varu::format::writer_key::WriterKeyFile;
use varu::id::RepositoryId;
use varu::keyring::{Keyring, Rotation, add_recipient, recover};
use varu::remote::memory::MemoryRemote;
use varu::remote::{Folder, Remote};
use varu::repository::{add_recipients, create, generate, unlock};

use support::machine::{Ended, Machine};

/// A place with a repository, its keys on the operator's machine, and the thief.
struct Scene {
    folder: tempfile::TempDir,
    remote: MemoryRemote,
    keyring: Keyring,
    id: RepositoryId,
    thief: IdentityFile,
}

fn text(recipient: &Recipient) -> String {
    recipient.to_string()
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring {
            folder: Some(folder.path().join("keys")),
            state: Some(folder.path().join("state")),
            ..Keyring::default()
        };
        let remote = MemoryRemote::new();
        let made = varu::init::init(&remote, &keyring, &[], None).unwrap();
        Self { folder, remote, keyring, id: made.id, thief: IdentityFile::generate() }
    }

    fn identity(&self) -> IdentityFile {
        let unlocked = self.keyring.unlock(&self.remote, &[]).unwrap();
        IdentityFile::parse(&unlocked.identity.to_text()).unwrap()
    }

    /// The keys that the thief finds on the machine.
    fn stolen(&self) -> WriterKeyFile {
        WriterKeyFile::parse(&fs::read_to_string(&self.keyring.writer_key_files()[0]).unwrap()).unwrap()
    }

    fn put(&self, object: &[u8]) {
        self.remote.put(Folder::Keys, key_name(object).name(), object.to_vec());
    }

    /// Whether any key object there opens for the thief.
    fn is_open_to_the_thief(&self) -> bool {
        self.remote.content(Folder::Keys).iter().any(|(_, object)| self.thief.unwrap(object, 1 << 20).is_ok())
    }
}

#[test]
fn a_recipient_that_a_thief_wrote_into_a_key_object_is_wrapped_to_by_nobody() {
    let scene = Scene::new();
    let stolen = scene.stolen();
    let honest: Vec<Recipient> = stolen.recipients.iter().map(|recipient| recipient.parse().unwrap()).collect();
    let thief = scene.thief.recipients().remove(0);
    let named = WriterKeyFile {
        recipients: stolen.recipients.iter().cloned().chain([text(&thief)]).collect(),
        ..WriterKeyFile::parse(&stolen.to_text()).unwrap()
    };
    let forged_secret = DataKeySecret::generate();
    // The text with a secret that isn't the data key's, without one, as it lies on the machine, and with the data key changed to
    // the thief's: that is another id. Then the honest object, wrapped once more and to both.
    let own_pair = WriterKeyFile {
        data_key: forged_secret.public().to_string(),
        ..WriterKeyFile::parse(&named.to_text()).unwrap()
    };
    let texts = [
        named.to_sealed_text(&forged_secret.to_text()).to_string(),
        named.to_sealed_text("\n").to_string(),
        named.to_text().to_string(),
        own_pair.to_sealed_text(&forged_secret.to_text()).to_string(),
        own_pair
            .to_sealed_text(&forged_secret.to_text())
            .replace(&own_pair.repository_id().to_string(), &scene.id.to_string()),
    ];
    texts.iter().for_each(|text| scene.put(&wrap(&honest, text.as_bytes()).unwrap()));
    let both: Vec<Recipient> = honest.iter().cloned().chain([thief.clone()]).collect();
    let nested = wrap(&both, &stolen.key_object).unwrap();
    scene.put(&nested);
    assert!(scene.thief.unwrap(&nested, 1 << 20).is_ok_and(|inner| scene.thief.unwrap(&inner, 1 << 20).is_err()));

    // Before, and after each command that wraps keys, the thief opens no more than he wrote himself.
    let opened = unlock(&scene.remote, &scene.identity(), &[]).unwrap();
    assert_eq!((opened.len(), *opened[0].id()), (1, scene.id));
    assert_eq!(opened[0].file().recipients, stolen.recipients);
    scene.remote.lose(&key_name(&nested));
    let colleague = text(&IdentityFile::generate().recipients()[0]);
    let unlocked = scene.keyring.unlock(&scene.remote, &[]).unwrap();
    let added = add_recipient(&scene.remote, &scene.keyring, &unlocked, &colleague).unwrap();
    assert_eq!(added.recipients, [stolen.recipients.as_slice(), std::slice::from_ref(&colleague)].concat());
    assert!(!scene.is_open_to_the_thief());
    for path in scene.keyring.writer_key_files() {
        fs::remove_file(path).unwrap();
    }
    recover(&scene.keyring, &scene.remote, &scene.keyring.unlock(&scene.remote, &[]).unwrap()).unwrap();
    assert_eq!(scene.stolen().recipients, added.recipients);
    let rotation = Rotation::plan(&scene.keyring, scene.keyring.unlock(&scene.remote, &[]).unwrap(), &[]).unwrap();
    assert_eq!(rotation.recipients(), added.recipients);
    rotation.make(&scene.remote, &scene.keyring).unwrap();
    assert!(!scene.is_open_to_the_thief());
    assert!(scene.folder.path().exists());
}

/// An object that the thief makes with keys of his own is another repository: it is never used, but said where it claims to go
/// on from one that the identity names.
#[test]
fn keys_of_a_thiefs_own_that_claim_to_follow_are_said_and_stop_a_rotation() {
    let scene = Scene::new();
    let recipients = [scene.stolen().recipients, vec![text(&scene.thief.recipients()[0])]].concat();
    let forged = generate(recipients, Default::default(), Some(scene.id)).unwrap();
    create(&scene.remote, &forged).unwrap();
    let unlocked = scene.keyring.unlock(&scene.remote, &[]).unwrap();
    assert_eq!(unlocked.keys.len(), 1);
    let refused = unlocked.check_complete("there").unwrap_err().to_string();
    assert!(refused.contains(&forged.repository_id().to_string()) && refused.contains("--ignore-newer"), "{refused}");
}

#[test]
fn twenty_thousand_forged_key_objects_hide_no_honest_one() {
    let scene = Scene::new();
    let stolen = scene.stolen();
    let honest: Vec<Recipient> = stolen.recipients.iter().map(|recipient| recipient.parse().unwrap()).collect();
    let forged = wrap(&honest, stolen.to_sealed_text("x\n").as_bytes()).unwrap();
    for number in 0..20_000_u32 {
        let mut object = forged.clone();
        let end = object.len() - 4;
        object[end..].copy_from_slice(&number.to_le_bytes());
        scene.put(&object);
    }
    let started = Instant::now();
    let identity = scene.identity();
    let opened = unlock(&scene.remote, &identity, &[]).unwrap();
    assert_eq!((opened.len(), &opened[0].file().recipients), (1, &stolen.recipients));
    assert!(started.elapsed() < Duration::from_secs(600), "{:?}", started.elapsed());
    // More than a machine copies: a flood doesn't fill its disk, and its own object comes first.
    let state = tempfile::tempdir().unwrap();
    let keys = varu::repository::Keys::new(scene.stolen()).unwrap();
    let writer =
        varu::repository::Repository::open(std::sync::Arc::new(scene.remote.clone()), keys, state.path()).unwrap();
    writer.keep_keys().unwrap();
    let copies = writer.key_copies().unwrap();
    assert!(copies.len() <= 16 && copies[0] == stolen.key_object, "{}", copies.len());
    assert!(fs::read_dir(writer.folder().join("keys")).unwrap().count() <= 16);
}

// ---- The program ---------------------------------------------------------------------------------------------------

fn back_up(machine: &Machine, bytes: &str) {
    fs::create_dir_all(machine.at("src")).unwrap();
    fs::write(machine.at("src/file"), bytes).unwrap();
    machine.run(&["backup".into(), machine.at("src")]).ends(0);
}

/// The objects in `keys/` and `snapshots/`.
fn objects(machine: &Machine) -> Vec<PathBuf> {
    let folders = ["vault/keys", "vault/snapshots"];
    folders
        .iter()
        .flat_map(|folder| fs::read_dir(machine.at(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// A machine whose keys were rotated; where its objects of before are, and the identity of before.
fn rotated(top: &Path) -> (Machine, Vec<PathBuf>, PathBuf, String) {
    let machine = Machine::new(top);
    machine.init();
    back_up(&machine, "old");
    let (before, copy) = (objects(&machine), machine.at("identity.before"));
    let identity = fs::read_dir(machine.at("keys")).unwrap().map(|entry| entry.unwrap().path());
    let identity = identity.into_iter().find(|path| path.ends_with("identity.txt")).unwrap();
    fs::copy(&identity, &copy).unwrap();
    let rotated = machine.run(&["key", "rotate", "--yes", "--json"]).ends(0).json();
    back_up(&machine, "NEW");
    (machine, before, copy, rotated["repository"].as_str().unwrap().to_owned())
}

fn restored(ended: Ended, to: &Path, status: i32) -> (Ended, Option<String>) {
    let ended = ended.ends(status);
    let mut open = vec![to.to_owned()];
    while let Some(path) = open.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => open.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) if path.ends_with("src/file") => return (ended, fs::read_to_string(path).ok()),
            Err(_) => {}
        }
    }
    (ended, None)
}

#[test]
fn a_host_that_hides_the_newest_keys_brings_back_no_recipient() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, before, _, newest) = rotated(folder.path());
    objects(&machine).iter().filter(|path| !before.contains(path)).for_each(|path| fs::remove_file(path).unwrap());
    // A clean machine: nothing but the place and the identity.
    for words in [&["list"][..], &["verify"], &["key", "export"], &["key", "rotate", "--yes"]] {
        let ended = machine.run_elsewhere(words).ends(7);
        let said = [String::from_utf8_lossy(&ended.out).into_owned(), ended.err].concat();
        assert!(said.contains(&newest), "{words:?}: {said}");
    }
    let to = machine.at("o1");
    let words = ["restore", "--all", "--to", to.to_str().unwrap()];
    let (_, file) = restored(machine.run_elsewhere(&words), &to, 7);
    assert_eq!(file, None, "nothing old is restored in its place");
    let with_older = [&words[..], &["--ignore-newer"]].concat();
    let (ended, file) = restored(machine.run_elsewhere(&with_older), &to, 3);
    assert_eq!(file.as_deref(), Some("old"), "{}", ended.err);
}

#[test]
fn an_identity_from_before_a_rotation_restores_nothing_old_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, _, copy, newest) = rotated(folder.path());
    fs::copy(&copy, machine.at("keys/identity.txt")).unwrap();
    let run = |words: &[&str]| machine.run_elsewhere(words);
    for words in [&["list"][..], &["verify"]] {
        let ended = run(words).ends(3);
        assert!(ended.err.contains(&format!("--trust-repository {newest}")), "{}", ended.err);
    }
    let to = machine.at("o1");
    let words = ["restore", "--all", "--to", to.to_str().unwrap()];
    let (ended, file) = restored(run(&words), &to, 5);
    assert!(file.is_none() && ended.err.contains("1 newer snapshot of the repository"), "{}", ended.err);
    let (_, file) = restored(run(&[&words[..], &["--trust-repository", &newest]].concat()), &to, 0);
    assert_eq!(file.as_deref(), Some("NEW"));
    let to = machine.at("o2");
    let words = ["restore", "--all", "--ignore-newer", "--to", to.to_str().unwrap()];
    assert_eq!(restored(run(&words), &to, 3).1.as_deref(), Some("old"));
}

#[test]
fn what_changes_is_shown_and_done_only_when_somebody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path());
    machine.init();
    let other = text(&IdentityFile::generate().recipients()[0]);
    let before = objects(&machine);
    for words in [&["key", "add-recipient", &other][..], &["key", "rotate", "--recipient", &other]] {
        let ended = machine.run(words).ends(5);
        assert!(ended.err.contains(&other) && ended.err.contains("--yes"), "{}", ended.err);
        assert_eq!(objects(&machine), before);
    }
    machine.run(&["key", "add-recipient", "--yes", &other]).ends(0);
    assert_eq!(objects(&machine).len(), 2);
}

/// The thief's own key object must not replace that of the identity's holder.
#[test]
fn an_added_recipient_opens_what_is_there_and_nobody_else_does() {
    let scene = Scene::new();
    let opened = unlock(&scene.remote, &scene.identity(), &[]).unwrap().remove(0);
    let colleague = IdentityFile::generate();
    let file = WriterKeyFile::parse(&opened.file().to_text()).unwrap();
    let recipients = vec![text(&colleague.recipients()[0])];
    add_recipients(&scene.remote, WriterKeyFile { recipients, ..file }, opened.data_secret().unwrap()).unwrap();
    assert_eq!(scene.remote.list(Folder::Keys).unwrap().0.len(), 2);
    assert_eq!(unlock(&scene.remote, &colleague, &[scene.id]).unwrap().len(), 1);
    assert!(unlock(&scene.remote, &scene.thief, &[scene.id]).is_err());
}
