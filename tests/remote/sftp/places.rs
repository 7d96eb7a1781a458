//! Places that can't be, hosts and keys that are wrong, servers that are none.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use varu::class::{Class, Classified};
use varu::remote::options::Options;
use varu::remote::place::{Location, SftpPlace};
use varu::remote::sftp::{SftpRemote, trust_host_key};
use varu::remote::{Error, ErrorKind, Folder, Remote};

use super::{SERVER, over, pack, store};
use support::sshd::Sshd;

fn parse(url: &str) -> SftpPlace {
    match Location::parse(url).unwrap() {
        Location::Sftp(place) => place,
        Location::Local(path) => panic!("{path:?}"),
    }
}

fn refusal(place: &SftpPlace, options: &Options) -> Error {
    SftpRemote::open(place, options).err().expect("it can't be opened")
}

#[test]
fn a_wrong_host_or_port_is_unreachable() {
    let server = Sshd::shared();
    let nowhere = refusal(&parse("sftp://nowhere.invalid/x"), &server.options());
    assert_eq!((nowhere.kind, nowhere.class()), (ErrorKind::UnknownName, Class::Unreachable), "{nowhere}");
    assert!(nowhere.to_string().contains("nowhere.invalid") && nowhere.hint.is_some(), "{nowhere}");
    let stopped = Sshd::start();
    stopped.stop_listening();
    let refused = refusal(&stopped.place("/x"), &stopped.options());
    assert_eq!(refused.kind, ErrorKind::Unreachable, "{refused}");
    assert!(refused.to_string().contains("Connection refused") && refused.hint.is_some(), "{refused}");
}

#[test]
fn a_key_that_the_host_does_not_take_is_refused() {
    let server = Sshd::shared();
    let options = Options { ssh_key: Some(server.other_key()), ..server.options() };
    let error = refusal(&server.place("/x"), &options);
    assert_eq!(error.kind, ErrorKind::NoEntry, "{error}");
    assert!(error.to_string().contains("Permission denied") && error.to_string().contains("ssh_key"), "{error}");
}

#[test]
fn a_host_that_is_not_known_is_refused_with_the_command_that_accepts_it() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let known = base.path().join("a folder/known hosts");
    let options = Options { known_hosts: Some(known.clone()), ..server.options() };
    let place = server.place(base.path());
    let error = refusal(&place, &options);
    assert_eq!(error.kind, ErrorKind::NoEntry, "{error}");
    assert!(error.reason.contains(&server.fingerprint()), "{error}");
    assert!(!known.exists(), "nothing is trusted by asking");
    let hint = error.hint.unwrap();
    let command = hint.split("To accept it: ").nth(1).unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    SftpRemote::open(&place, &options).expect("it is accepted now");
}

#[test]
fn a_changed_host_key_is_refused_as_such() {
    let server = Sshd::start();
    let before = server.fingerprint();
    let base = tempfile::tempdir().unwrap();
    SftpRemote::open(&server.place(base.path()), &server.options()).unwrap();
    server.stop_listening();
    server.change_host_key();
    server.listen_again();
    let error = refusal(&server.place(base.path()), &server.options());
    assert_eq!(error.kind, ErrorKind::NoEntry, "{error}");
    assert!(error.reason.contains("has changed") && error.reason.contains(&server.fingerprint()), "{error}");
    assert_ne!(before, server.fingerprint());
    assert!(error.hint.unwrap().contains("ssh-keygen"), "it says how to forget the old one");
}

#[test]
fn a_host_is_trusted_by_its_fingerprint_alone() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("ssh/known_hosts");
    let options = Options { known_hosts: Some(file.clone()), ..server.options() };
    let place = server.place(base.path());
    let other = format!("SHA256:{}", "A".repeat(43));
    let error = trust_host_key(&place, &options, &other).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoEntry, "{error}");
    assert!(error.reason.contains(&server.fingerprint()) && !file.exists(), "{error}");
    let (key, entered) = trust_host_key(&place, &options, &server.fingerprint()).unwrap();
    assert_eq!((key.fingerprint, &entered), (server.fingerprint(), &file));
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", key.line));
    SftpRemote::open(&place, &options).unwrap();

    // Without a file that is named, ssh's configuration says which.
    let configured = base.path().join("configured");
    fs::write(base.path().join("config"), format!("Host *\n  UserKnownHostsFile {}\n", configured.display())).unwrap();
    let options = Options { known_hosts: None, ssh_config: Some(base.path().join("config")), ..options };
    assert_eq!(trust_host_key(&place, &options, &server.fingerprint()).unwrap().1, configured);
    SftpRemote::open(&place, &options).unwrap();
}

#[test]
fn an_alias_of_sshs_configuration_and_a_jump_host_work() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let (key, known, port) = (server.key(), server.known_hosts(), server.port());
    let user = server.place("/").user().unwrap().to_owned();
    let config = format!(
        "Host vault gate\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  RemoteCommand false\n  RequestTTY force\n\
         Host *\n  IdentityFile {}\n  UserKnownHostsFile {}\n  LogLevel QUIET\n",
        key.display(),
        known.display()
    );
    fs::write(base.path().join("config"), config).unwrap();
    let options = Options { ssh_config: Some(base.path().join("config")), ..Options::default() };
    let place = parse(&format!("vault:{}", base.path().display()));
    let remote = SftpRemote::create(&parse(&format!("{place}/direct")), &options).unwrap();
    store(&remote, &pack("p"), b"x").unwrap();
    let options = Options { jump_host: Some("gate".to_owned()), ..options };
    let remote = SftpRemote::open(&parse(&format!("{place}/direct")), &options).unwrap();
    assert_eq!(remote.get(&pack("p"), 1).unwrap(), b"x");
}

#[test]
fn a_path_that_is_no_folder_is_refused_and_nothing_is_written() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = SftpRemote::create(&server.place(&path), &server.options()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.hint.is_some() && error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(refusal(&server.place(&file), &server.options()).kind, ErrorKind::Invalid);
    let absent = refusal(&server.place(base.path().join("absent")), &server.options());
    assert_eq!(absent.kind, ErrorKind::NotFound);
    assert!(absent.hint.is_some(), "{absent}");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
}

#[test]
fn create_makes_the_path_and_refuses_a_folder_with_other_things() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("a/b c/vault");
    let place = server.place(&path);
    let remote = SftpRemote::create(&parse(&place.to_string().replace(' ', "%20")), &server.options()).unwrap();
    store(&remote, &pack("p"), b"x").unwrap();
    for folder in Folder::ALL {
        assert!(path.join(folder.name()).is_dir());
    }
    fs::write(base.path().join("letter.txt"), "x").unwrap();
    let error = SftpRemote::create(&server.place(base.path()), &server.options()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.hint.is_some() && error.to_string().contains("no repository"), "{error}");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2, "only what was there");
    fs::remove_dir(path.join("marks")).unwrap();
    fs::write(path.join("README"), "mine").unwrap();
    remote.create_folders().expect("a repository may have a note beside it");
    fs::remove_dir(path.join("marks")).unwrap();
    symlink(base.path(), path.join("marks")).unwrap();
    assert_eq!(remote.create_folders().unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(remote.flush(Folder::Marks).unwrap_err().kind, ErrorKind::Invalid);
}

#[test]
fn what_does_not_speak_sftp_is_said_with_its_own_words() {
    let base = tempfile::tempdir().unwrap();
    for (program, kind, said) in [
        (&["echo", "This account is not available"][..], ErrorKind::Other, "SFTP"),
        (&["sh", "-c", "echo 'out of order' >&2; exit 3"], ErrorKind::Unreachable, "out of order"),
        (&["sh", "-c", "exit 3"], ErrorKind::Unreachable, "exit status: 3"),
        (&["/nonexistent/program"], ErrorKind::Other, "can't be started"),
        (&["sh", "-c", r"printf '\0\0\0\5\2\0\0\0\6'; cat >/dev/null"], ErrorKind::Other, "no SFTP"),
        (&["sh", "-c", r"printf '\0\0\0\5\2\0\0\0\3'; cat /dev/zero"], ErrorKind::Other, "no SFTP"),
        (
            &["sh", "-c", r"printf '\0\0\0\5\2\0\0\0\3\0\0\0\15\150\0\0\0\0\377\377\377\377zz'; cat"],
            ErrorKind::Other,
            "",
        ),
    ] {
        let error = over(program, base.path()).err().unwrap();
        assert_eq!(error.kind, kind, "{program:?}: {error}");
        assert!(error.to_string().contains(said), "{program:?}: {error}");
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let options = Options {
        connect_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let error = SftpRemote::over(["sleep", "1000"].map(Into::into).to_vec(), "/", &options).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.reason.contains("no answer within 0.6 s"), "{error}");
}

#[test]
fn names_that_are_no_text_and_things_that_are_no_files_do_no_harm() {
    let base = tempfile::tempdir().unwrap();
    let remote = over(&[SERVER], base.path()).unwrap();
    remote.create_folders().unwrap();
    store(&remote, &pack("good"), b"12").unwrap();
    let packs = base.path().join("packs");
    for name in [&b"\xff\xfe"[..], b"\xc3\xa4.pack", b"a\nb", b"\x1b[2J"] {
        fs::write(packs.join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    fs::create_dir(packs.join("folder")).unwrap();
    symlink("good", packs.join("link")).unwrap();
    let (listed, strange) = remote.list(Folder::Packs).unwrap();
    assert_eq!((listed.len(), strange), (1, 6));
    for name in ["folder", "link"] {
        assert_eq!(remote.get(&pack(name), 10).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(remote.stat(&pack(name)).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(store(&remote, &pack(name), b"12").unwrap_err().kind, ErrorKind::Exists);
    }
}
