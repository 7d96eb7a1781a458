//! The real `age` and `age-keygen` beside varu's keys, both ways: an operator's identity outlives any one program.
//!
//! Needs Debian's package `age`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use varu::crypto::{DataKeySecret, IdentityFile, PackKey, Recipient, UnwrapError, wrap};
use varu::id::RepositoryId;

const LIMIT: usize = 1 << 16;

fn run(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, of Debian's package age: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn line(output: Output) -> String {
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A folder with an identity file of `age-keygen`.
fn keygen() -> (TempDir, IdentityFile) {
    let folder = TempDir::new().unwrap();
    run("age-keygen", &["-o", "identity.txt"], folder.path());
    let text = fs::read_to_string(folder.path().join("identity.txt")).unwrap();
    (folder, IdentityFile::parse(&text).ok().unwrap())
}

#[test]
fn an_identity_of_age_keygen_opens_what_varu_wraps() {
    let (folder, identity) = keygen();
    let recipient = line(run("age-keygen", &["-y", "identity.txt"], folder.path()));
    assert_eq!(identity.recipients()[0].to_string(), recipient);
    let recipient: Recipient = recipient.parse().unwrap();
    let other = IdentityFile::generate().recipients().remove(0);
    let wrapped = wrap(&[other, recipient], b"data key").unwrap();
    assert_eq!(*identity.unwrap(&wrapped, LIMIT).unwrap(), b"data key");
    fs::write(folder.path().join("wrapped.age"), wrapped).unwrap();
    assert_eq!(run("age", &["-d", "-i", "identity.txt", "wrapped.age"], folder.path()).stdout, b"data key");
}

#[test]
fn an_identity_of_varu_is_one_for_age() {
    let folder = TempDir::new().unwrap();
    let mut identity = IdentityFile::generate();
    identity.add_repository(RepositoryId::from_bytes([7; 16]));
    fs::write(folder.path().join("identity.txt"), identity.to_text().as_bytes()).unwrap();
    let recipient = line(run("age-keygen", &["-y", "identity.txt"], folder.path()));
    assert_eq!(recipient, identity.recipients()[0].to_string());

    let secret = vec![9; LIMIT];
    fs::write(folder.path().join("secret"), &secret).unwrap();
    run("age", &["-r", &recipient, "-o", "wrapped.age", "secret"], folder.path());
    let wrapped = fs::read(folder.path().join("wrapped.age")).unwrap();
    assert!(*identity.unwrap(&wrapped, LIMIT).unwrap() == secret, "all bytes of a whole age chunk");
    assert!(matches!(identity.unwrap(&wrapped, LIMIT - 1), Err(UnwrapError::WrongContent { .. })));
    assert!(matches!(keygen().1.unwrap(&wrapped, LIMIT), Err(UnwrapError::NotForThisKey { .. })));
}

#[test]
fn a_repository_entered_in_a_file_of_age_keygen_leaves_it_one() {
    let (folder, mut identity) = keygen();
    let before = fs::read_to_string(folder.path().join("identity.txt")).unwrap();
    let id = RepositoryId::from_bytes([7; 16]);
    identity.add_repository(id);
    let text = identity.to_text();
    assert_eq!(text.replace(&format!("# varu repository {id}\n"), ""), before, "age-keygen's lines are all there");
    fs::write(folder.path().join("identity.txt"), text.as_bytes()).unwrap();
    let recipient = line(run("age-keygen", &["-y", "identity.txt"], folder.path()));
    assert_eq!(recipient, identity.recipients()[0].to_string());
}

#[test]
fn age_opens_a_wrapped_pack_key_to_32_bytes_with_the_data_key_alone() {
    let folder = TempDir::new().unwrap();
    let data_key = DataKeySecret::generate();
    fs::write(folder.path().join("data-key.txt"), data_key.to_text().as_bytes()).unwrap();
    let wrapped = data_key.public().wrap_pack_key(&PackKey::random());
    fs::write(folder.path().join("pack-key.age"), wrapped).unwrap();
    let opened = run("age", &["-d", "-i", "data-key.txt", "pack-key.age"], folder.path());
    assert_eq!(opened.stdout.len(), 32);
}

#[test]
fn an_identity_file_that_is_itself_encrypted_is_named_so() {
    let (folder, _) = keygen();
    run("age", &["-r", &keygen().1.recipients()[0].to_string(), "-o", "locked", "identity.txt"], folder.path());
    run("age", &["-a", "-r", &keygen().1.recipients()[0].to_string(), "-o", "armored", "identity.txt"], folder.path());
    for name in ["locked", "armored"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let error = IdentityFile::parse(&String::from_utf8_lossy(&bytes)).err().unwrap();
        assert!(error.to_string().contains("encrypted"), "{error}");
    }
}
