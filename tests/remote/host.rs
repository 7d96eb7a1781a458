//! The backup host: the accounts of `host prepare`, behind a real sshd, and `host accept` at the same time as a machine
//! that uses it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::host::Host;
use support::sshd::is_root;
use varu::id::derive_bytes;
use varu::remote::Folder;

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    derive_bytes("varu test noise", &seed.to_le_bytes(), &mut bytes);
    bytes
}

fn skipped() -> bool {
    let skipped = !is_root();
    if skipped {
        eprintln!("not root: no account can be made");
    }
    skipped
}

#[test]
fn a_machine_lives_on_a_prepared_account() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    host.varu(&["init"]).ends(0);
    let mut snapshots = Vec::new();
    for day in 0..3 {
        let bytes = noise(200_000, day);
        snapshots.push((host.back_up(&bytes), bytes));
        let report = host.accept().ends(0).json();
        assert!(report["accounts"][0]["accepted"].as_u64().unwrap() >= 2, "{report}");
        assert_eq!(host.accept().ends(0).json()["accounts"][0]["accepted"], 0);
    }
    for folder in [Folder::Packs, Folder::Snapshots, Folder::Keys, Folder::Info] {
        for name in host.names(folder) {
            let metadata = fs::symlink_metadata(host.file(folder, &name)).unwrap();
            assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o440), "{name}");
        }
    }
    assert_eq!(host.names(Folder::Pending), Vec::<String>::new());
    host.varu(&["verify"]).ends(0);
    host.varu(&["verify", "--level", "data"]).ends(0);
    assert_eq!(host.varu(&["list"]).ends(0).json()["snapshots"].as_array().unwrap().len(), 3);
    host.assert_restore(&snapshots);
}

#[test]
fn prepare_can_be_run_again_and_changes_nothing() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    let again = host.prepare(&[]).ends(0).json();
    assert_eq!(again["changes"].as_array().unwrap().len(), 0, "{again}");
    assert_eq!(again["url"], host.url());
    assert_eq!(again["host_keys"][0]["fingerprint"], host.server.fingerprint());
    let drop_in = fs::read_to_string(host.base().join(format!("drop-ins/varu-{}.conf", host.account))).unwrap();
    for line in ["internal-sftp -u 0222 -p open,close,", "DisableForwarding yes", "PermitTTY no", "AuthorizedKeysFile "]
    {
        assert!(drop_in.contains(line), "{drop_in}");
    }
    // Manual changes are corrected.
    let packs = host.file(Folder::Packs, "");
    fs::set_permissions(&packs, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(host.accept().ends(1).json()["error"]["kind"], "failed");
    host.prepare(&[]).ends(0);
    assert_eq!(fs::metadata(&packs).unwrap().mode() & 0o7777, 0o1770);
    host.accept().ends(0);
    // Somebody who may log in isn't made a backup account.
    let root = host.run(&["prepare", "root"]);
    assert_ne!(root.status, 0);
    let mut key = host.server.key().into_os_string();
    key.push(".pub");
    let key = key.to_str().unwrap().to_owned();
    let refused = host.run(&["prepare", "root", "--ssh-key", &key]).ends(5);
    assert!(refused.err.contains("somebody can log in"), "{}", refused.err);
    let private = host.server.key();
    host.run(&["prepare", "vm", "--ssh-key", private.to_str().unwrap()]).ends(2);
    host.run(&["prepare", "../x", "--ssh-key", &key]).ends(2);
}

#[test]
fn a_drop_in_that_sshd_does_not_take_or_heed_is_not_kept() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    let (config, path) = (host.server.config_file(), host.base().join(format!("drop-ins/varu-{}.conf", host.account)));
    let good = fs::read_to_string(&config).unwrap();
    fs::remove_file(&path).unwrap();
    for (wrong, said) in [
        (good.replace("Include", "# Include"), "heed"),
        (format!("Match all\nForceCommand /bin/sh\n{good}"), "heed"),
        (format!("{good}\nNoSuchWord yes\n"), "NoSuchWord"),
    ] {
        fs::write(&config, wrong).unwrap();
        let failed = host.prepare(&[]).ends(1);
        assert!(failed.err.contains(said), "{}", failed.err);
        assert!(!path.exists(), "it isn't kept");
    }
    fs::write(&config, good).unwrap();
    host.prepare(&[]).ends(0);
    assert!(path.exists());
}

#[test]
fn accept_that_is_killed_goes_on() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    host.varu(&["init"]).ends(0);
    let rounds = if std::env::var_os("VARU_TEST_LONG").is_some() { 100 } else { 12 };
    let mut snapshots = Vec::new();
    for round in 0..rounds {
        let bytes = noise(100_000 + round as usize, 100 + round);
        snapshots.push((host.back_up(&bytes), bytes));
        let mut accept = host.command(&["accept"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(700 * (round * 37 % 23)));
        accept.kill().unwrap();
        accept.wait().unwrap();
    }
    let report = host.accept().ends(0).json();
    let all = [Folder::Packs, Folder::Snapshots, Folder::Keys, Folder::Info].map(|folder| host.names(folder).len());
    assert_eq!(report["accounts"][0]["objects"], all.iter().sum::<usize>());
    host.varu(&["verify"]).ends(0);
    let some = [&snapshots[..2], &snapshots[snapshots.len() - 2..]].concat();
    host.assert_restore(&some);
}

#[test]
fn backups_go_on_while_accept_runs_all_the_time() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    host.varu(&["init"]).ends(0);
    let over = AtomicBool::new(false);
    let rounds = if std::env::var_os("VARU_TEST_LONG").is_some() { 100 } else { 6 };
    let snapshots = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let mut runs = 0;
            while !over.load(Ordering::Relaxed) {
                host.accept().ends(0);
                runs += 1;
            }
            runs
        });
        let snapshots: Vec<_> = (0..rounds)
            .map(|round| {
                let bytes = noise(1_500_000, 500 + round);
                (host.back_up(&bytes), bytes)
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        assert!(accepting.join().unwrap() > 5);
        snapshots
    });
    host.accept().ends(0);
    assert_eq!(host.names(Folder::Pending), Vec::<String>::new());
    host.varu(&["verify"]).ends(0);
    host.assert_restore(&snapshots[rounds as usize - 3..]);
}

#[test]
fn two_accepts_take_turns() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    host.varu(&["init"]).ends(0);
    host.back_up(&noise(100_000, 1));
    let start = |_| host.command(&["accept"]).stdout(Stdio::piped()).spawn().unwrap();
    let accepts: Vec<_> = (0..4).map(start).collect();
    let mut accepted = 0;
    for accept in accepts {
        let ended = support::machine::Ended::from(accept.wait_with_output().unwrap()).ends(0);
        accepted += ended.json()["accounts"][0]["accepted"].as_u64().unwrap();
    }
    assert_eq!(accepted, 4, "a pack, a snapshot, a key, the text: each once");
}

#[test]
fn the_host_verifies_holds_prunes_and_says_how_it_stands() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    host.varu(&["init"]).ends(0);
    let first = host.back_up(&noise(100_000, 1));
    host.back_up(&noise(100_000, 2));
    host.accept().ends(0);
    let policy = host.base().join("host.toml");
    fs::write(&policy, "rpo = '1 hour'\nkeep = '1 day'\n").unwrap();
    let policy = policy.to_str().unwrap();
    let verified = host.run(&["verify"]).ends(0).json();
    assert_eq!((&verified["accounts"][0]["objects"], &verified["accounts"][0]["of"]), (&6.into(), &6.into()));
    host.run(&["verify", "--sample", "50%", "--limit-read", "100MB"]).ends(0);
    assert_eq!(host.run(&["hold", &first[..10]]).ends(0).json()["snapshot"], first.as_str());
    let pruned = host.run(&["prune", "--policy", policy]).ends(0).json();
    assert_eq!(pruned["accounts"][0]["snapshots"][0]["stays"], serde_json::json!(["young", "newest", "held"]));
    host.run(&["release", &first]).ends(0);
    let metrics = host.base().join("varu.prom");
    let words = ["status", "--policy", policy, "--metrics", metrics.to_str().unwrap()];
    let status = host.run(&words).ends(0).json();
    let set = &status["accounts"][0]["sets"][0];
    assert_eq!((&set["set"], &set["snapshots"], &set["late"]), (&"files".into(), &2.into(), &false.into()));
    assert!(status["days_until_full"].as_u64().is_some() && status["accounts"][0]["verified"].is_string());
    let text = fs::read_to_string(&metrics).unwrap();
    let labels = format!("{{account=\"{}\",set=\"files\"}}", host.account);
    assert!(text.contains(&format!("varu_host_snapshots{labels} 2\nvaru_host_late{labels} 0\n")), "{text}");
    // A set that never came, and one that is late.
    fs::write(policy, format!("[accounts.{}.sets.agama]\nrpo = '1 day'\n", host.account)).unwrap();
    host.run(&words).ends(4);
    fs::write(policy, "rpo = '1 second'\n").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    host.run(&words).ends(4);
    fs::write(policy, "rpo = 1\n").unwrap();
    host.run(&words).ends(2);
    // A bit that rots.
    let pack = host.file(Folder::Packs, &host.names(Folder::Packs)[0]);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[300] ^= 1;
    fs::write(&pack, bytes).unwrap();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o440)).unwrap();
    host.run(&["verify"]).ends(7);
    host.run(&["prune"]).ends(7);
    host.run(&["status"]).ends(7);
}

#[test]
fn what_rots_on_the_host_is_given_up_and_stored_again() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    host.varu(&["init"]).ends(0);
    let old = (host.back_up_as(&noise(100_000, 1), &["--full"]), noise(100_000, 1));
    let packs = host.names(Folder::Packs);
    let bytes = noise(300_000, 2);
    let lost = host.back_up_as(&bytes, &["--full"]);
    host.accept().ends(0);
    let rotten = host.names(Folder::Packs).into_iter().find(|name| !packs.contains(name)).unwrap();
    let path = host.file(Folder::Packs, &rotten);
    let mut damaged = fs::read(&path).unwrap();
    damaged[1000] ^= 1;
    fs::write(&path, damaged).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    let object = format!("packs/{rotten}");
    host.run(&["mark-lost", &format!("packs/{}", packs[0])]).ends(5);
    host.run(&["mark-lost", "nonsense"]).ends(2);
    assert_eq!(host.run(&["verify"]).ends(7).json()["accounts"][0]["damage"][0]["object"], object.as_str());
    let given = host.run(&["mark-lost", &object]).ends(0).json();
    assert_eq!((&given["objects"][0], &given["snapshots"]), (&object.as_str().into(), &serde_json::json!([lost])));
    host.run(&["verify"]).ends(0);
    // The machine reports it, and stores again what it still has.
    host.varu(&["verify"]).ends(7);
    let next = host.varu(&["backup", host.at("data").to_str().unwrap()]).ends(3).json();
    assert!(next["note"].as_str().unwrap().contains("is damaged"), "{next}");
    let again = (next["snapshot"]["id"].as_str().unwrap().to_owned(), bytes.clone());
    host.accept().ends(0);
    host.run(&["verify"]).ends(0);
    host.run(&["prune"]).ends(0);
    host.run(&["status"]).ends(0);
    host.assert_restore(&[old, again]);
    // The data stored again serves the snapshot that had lost it.
    assert_eq!(host.bring_back(&lost).ok(), Some(bytes));
    // A thief gains nothing: the name is the hash of the content.
    let mut raw = support::raw_sftp::Raw::open(host.ssh(), &host.login());
    raw.put(&format!("/repo/{object}"), b"something else").unwrap();
    host.accept().ends(3);
    assert_eq!(host.run(&["verify"]).ends(0).json()["accounts"][0]["of"], 7);
}

#[test]
fn an_account_has_no_shell_and_no_forwarding() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    let login = host.login();
    let port = host.server.port().to_string();
    let to = format!("127.0.0.1:{port}");
    let back = format!("0:127.0.0.1:{port}");
    let none = |words: &[&str]| {
        let mut ssh: Command = host.ssh();
        let out = ssh.args(["-o", "ExitOnForwardFailure=yes"]).args(words).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    assert!(!none(&["-W", &to, &login]).0, "a port is forwarded");
    assert!(!none(&["-N", "-R", &back, &login]).0, "a port is forwarded back");
    assert_eq!(none(&[&login, "id"]).1.find("uid"), None, "a command is run");
    assert_eq!(none(&["-tt", &login]).1.find('$'), None, "a shell is given");
}

#[test]
fn no_other_machine_and_no_other_key_takes_an_account_over_silently() {
    if skipped() {
        return;
    }
    let host = Host::prepared();
    let (own, other) = ("a1".repeat(16), "b2".repeat(16));
    let changes = host.prepare(&["--machine", &own]).ends(0).json()["changes"].clone();
    assert!(changes[0].as_str().unwrap().contains(&own), "{changes}");
    assert_eq!(host.prepare(&["--machine", &own]).ends(0).json()["changes"], serde_json::json!([]));
    host.varu(&["init"]).ends(0);
    let bytes = noise(100_000, 900);
    let snapshot = host.back_up(&bytes);
    host.accept().ends(0);
    let status = host.run(&["status"]).ends(0).json()["accounts"][0].clone();
    assert_eq!(status["machine"], own.as_str());
    let repository = status["repositories"][0].as_str().unwrap().to_owned();

    let keys = host.base().join("keys").join(&host.account);
    let ledger = host.base().join("state").join(&host.account).join("ledger");
    let before = (fs::read(&keys).unwrap(), fs::read(&ledger).unwrap());
    let stranger = host.server.other_key();
    let another = "c3".repeat(16);
    for refused in [
        host.prepare(&["--machine", &other]),
        host.prepare_with(&stranger, &[]),
        host.prepare_with(&stranger, &["--machine", &own]),
        host.prepare(&["--repository", &another]),
    ] {
        let refused = refused.ends(5);
        assert!(refused.err.contains("--take-over") && refused.err.contains("Nothing was changed"), "{}", refused.err);
        assert_eq!((fs::read(&keys).unwrap(), fs::read(&ledger).unwrap()), before);
    }
    host.prepare(&["--machine", &own, "--repository", &another, "--repository", &repository]).ends(0);
    // A key that was emptied out of the file by hand stays out.
    fs::write(&keys, "# cut off\n").unwrap();
    host.prepare(&[]).ends(5);
    fs::write(&keys, &before.0).unwrap();

    // Told, it is another machine's, and the key of before opens nothing.
    let changes =
        host.prepare_with(&stranger, &["--machine", &other, "--take-over"]).ends(0).json()["changes"].to_string();
    assert!(changes.contains("1 key was taken out") && changes.contains("1 key was added"), "{changes}");
    host.varu(&["list"]).ends(6);
    host.prepare(&["--machine", &own]).ends(5);
    host.prepare(&["--machine", &own, "--take-over"]).ends(0);
    assert_eq!(host.bring_back(&snapshot).ok(), Some(bytes));
    host.run(&["verify"]).ends(0);
}

#[test]
fn an_account_is_renamed_with_its_history_and_retired() {
    if skipped() {
        return;
    }
    let mut host = Host::prepared();
    host.varu(&["init"]).ends(0);
    let (one, two, three) = (noise(100_000, 910), noise(100_000, 911), noise(100_000, 912));
    let first = host.back_up(&one);
    host.accept().ends(0);
    let name = format!("{}-new", host.account.replace("varu-host", "v"));
    host.changes(&["rename", &host.account, &name]).ends(0);
    host.changes(&["rename", &host.account, &name]).ends(0);
    host.rename(&name);
    let second = host.back_up(&two);
    host.accept().ends(0);
    assert_eq!(host.bring_back(&first).ok(), Some(one.clone()));
    assert_eq!(host.bring_back(&second).ok(), Some(two));
    host.changes(&["rename", "nobody-of-that-name", "x"]).ends(2);

    // A set that is retired isn't missed; one that comes again is.
    let policy = host.base().join("host.toml");
    fs::write(&policy, "rpo = \"1 s\"\n").unwrap();
    let status = |host: &Host| host.run(&["status", "--policy", policy.to_str().unwrap()]);
    std::thread::sleep(Duration::from_millis(2100));
    let late = status(&host).ends(4).json()["accounts"][0]["sets"][0].clone();
    let set = late["set"].as_str().unwrap();
    host.changes(&["retire", &name, "--set", "no-such-set"]).ends(2);
    host.changes(&["retire", &name, "--set", set]).ends(0);
    let retired = status(&host).ends(0).json()["accounts"][0]["sets"][0].clone();
    assert_eq!((&retired["late"], &retired["retired"]), (&false.into(), &true.into()));
    std::thread::sleep(Duration::from_millis(1100));
    let third = host.back_up(&three);
    host.accept().ends(0);
    std::thread::sleep(Duration::from_millis(2100));
    status(&host).ends(4);

    // The whole account: nobody is let in, nobody is missed, and stored objects stay, with unfinished uploads.
    let last = host.back_up(&one);
    host.changes(&["retire", &name]).ends(0);
    host.changes(&["retire", &name]).ends(0);
    host.varu(&["list"]).ends(6);
    status(&host).ends(0);
    host.run(&["verify"]).ends(0);
    assert!(!Command::new("id").arg(&name).output().unwrap().status.success(), "the account is gone");
    host.prepare(&[]).ends(5);
    host.prepare(&["--take-over"]).ends(0);
    host.server.stop_listening();
    host.server.listen_again();
    assert_eq!(host.bring_back(&third).ok(), Some(three));
    assert_eq!(host.bring_back(&last).ok(), Some(one));
    // Deleted, and only where somebody says yes.
    host.changes(&["retire", &name, "--delete"]).ends(5);
    host.changes(&["retire", &name, "--delete", "--yes"]).ends(0);
    assert!(!host.base().join("srv").join(&name).exists() && !host.base().join("state").join(&name).exists());
    host.changes(&["retire", &name]).ends(2);
    // Its name is free again.
    host.prepare(&["--machine", &"d4".repeat(16)]).ends(0);
}
