use super::*;
use crate::keyring::{Rotation, add_recipient, read_writer_key, stated_id};
use crate::remote::memory::MemoryRemote;
use crate::repository::{self, unlock};

fn keyring(folder: &Path) -> Keyring {
    Keyring { folder: Some(folder.join("keys")), state: Some(folder.join("state")), ..Keyring::default() }
}

#[test]
fn what_init_made_is_found_again_and_rotation_goes_before() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring(folder.path());
    let remote = MemoryRemote::new();
    assert!(keyring.writer(&remote).err().unwrap().to_string().contains("varu init"));
    let made = init(&remote, &keyring, &[], None).unwrap();
    assert_eq!(keyring.writer(&remote).unwrap().path, made.writer_key);
    assert_eq!(stated_id(&remote), Some(made.id));
    assert_eq!(keyring.identities_here(&[made.id]), [made.identity.unwrap()]);

    let unlocked = keyring.unlock(&remote, &[]).unwrap();
    let rotated = Rotation::plan(&keyring, unlocked, &[]).unwrap().make(&remote, &keyring).unwrap();
    assert_eq!(rotated.follows, made.id);
    // With the memory of the place, and without it.
    for keyring in [keyring.clone(), Keyring { state: None, ..keyring.clone() }] {
        let writers = keyring.writers(&remote).unwrap();
        let ids: Vec<_> = writers.iter().map(|writer| *writer.keys.id()).collect();
        assert_eq!(ids, [rotated.id, made.id]);
        let opened: Vec<_> = keyring.unlock(&remote, &[]).unwrap().keys.iter().map(|keys| *keys.id()).collect();
        assert_eq!(opened, ids);
    }
}

#[test]
fn a_place_that_lost_its_repository_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring(folder.path());
    let made = init(&MemoryRemote::new(), &keyring, &[], None).unwrap();
    let empty = MemoryRemote::new();
    for error in
        [init(&empty, &keyring, &[], None).err(), keyring.writer(&empty).err(), keyring.unlock(&empty, &[]).err()]
    {
        assert!(matches!(&error, Some(Error::Refused(why)) if why.contains(&made.id.to_string())), "{error:?}");
    }
    let again = init(&empty, &keyring, &[], Some(made.id)).unwrap();
    assert_eq!(keyring.known(&empty.place()).unwrap(), [again.id]);
}

#[test]
fn a_writer_key_of_another_repository_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring(folder.path());
    let remote = MemoryRemote::new();
    init(&remote, &keyring, &[], None).unwrap();
    let recipients = vec![IdentityFile::generate().recipients()[0].to_string()];
    let other = generate(recipients, ChunkSizes::default(), None).unwrap();
    let path = folder.path().join("other");
    crate::repository::write_secret(&path, other.to_text()).unwrap();
    let named = Keyring { writer_key: Some(path), ..keyring };
    assert!(matches!(named.writer(&remote), Err(Error::Refused(why)) if why.contains("belongs to the repository")));
}

#[test]
fn one_more_recipient_opens_all() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring(folder.path());
    let remote = MemoryRemote::new();
    let made = init(&remote, &keyring, &[], None).unwrap();
    let second = IdentityFile::generate();
    let recipient = second.recipients()[0].to_string();
    let unlocked = keyring.unlock(&remote, &[]).unwrap();
    assert!(add_recipient(&remote, &keyring, &unlocked, "age1x").is_err());
    let added = add_recipient(&remote, &keyring, &unlocked, &recipient).unwrap();
    assert_eq!((added.recipients.len(), added.writer_keys), (2, vec![made.writer_key.clone()]));
    assert_eq!(read_writer_key(&made.writer_key).unwrap().recipients, added.recipients);
    assert!(matches!(unlock(&remote, &second, &[]), Err(repository::Error::Refused(_))));
    let opened = unlock(&remote, &second, &[made.id]).unwrap();
    // Whichever wrapping is read first, both recipients are known.
    assert_eq!(opened[0].file().recipients.len(), 2);
    let rotation = Rotation::plan(&keyring, keyring.unlock(&remote, &[]).unwrap(), &[]).unwrap();
    let rotated = rotation.make(&remote, &keyring).unwrap();
    assert_eq!(rotated.recipients, added.recipients);
}
