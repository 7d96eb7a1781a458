//! The backup host: its commands that are cut, or find the disk full, at their calls, and then again; and the ways out
//! that its messages name, each taken in the state that names it.

use super::*;
use cuts::harm_at_each;
use support::harm::{FULL, KILLED};
use support::host::Host;
use support::sshd::is_root;
use varu::remote::Folder;

/// A host with a machine's backups: two that were accepted, and one that waits. None if no account can be made.
struct Kept {
    host: Host,
    /// The host's folders and the machine's, as they were.
    saved: tempfile::TempDir,
}

const OF_HOST: [&str; 2] = ["srv", "state"];
const OF_MACHINE: [&str; 2] = ["state", "data"];

fn content(day: u64) -> Vec<u8> {
    noise(90_000, day)
}

impl Kept {
    fn new() -> Option<Self> {
        if !is_root() {
            eprintln!("not root: no account can be made");
            return None;
        }
        let host = Host::prepared();
        host.varu(&["init"]).ends(0);
        host.back_up(&content(1));
        host.back_up(&content(2));
        host.accept().ends(0);
        host.back_up(&content(3));
        let kept = Self { host, saved: tempfile::tempdir().unwrap() };
        kept.save();
        Some(kept)
    }

    fn folders(&self) -> impl Iterator<Item = (std::path::PathBuf, std::path::PathBuf)> {
        let of_host = OF_HOST.map(|part| (self.host.base().join(part), self.saved.path().join(format!("host {part}"))));
        let of_machine = OF_MACHINE.map(|part| (self.host.at(part), self.saved.path().join(format!("machine {part}"))));
        of_host.into_iter().chain(of_machine)
    }

    fn save(&self) {
        for (there, saved) in self.folders() {
            let _ = fs::remove_dir_all(&saved);
            ways::copy(&there, &saved);
        }
    }

    fn put_back(&self) {
        for (there, saved) in self.folders() {
            fs::remove_dir_all(&there).unwrap();
            ways::copy(&saved, &there);
        }
    }

    /// The newest pack that was accepted has a flipped byte. Its name, as `host verify` says it.
    fn spoil(&self) -> String {
        let packs = self.host.names(Folder::Packs).into_iter().map(|name| self.host.file(Folder::Packs, &name));
        let accepted = packs.filter(|path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap()) == 0);
        let path = accepted.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        format!("packs/{}", path.file_name().unwrap().to_str().unwrap())
    }

    /// Backups of the machine continue, the host accepts them, and all is intact.
    fn goes_on(&self, what: &str) {
        let host = &self.host;
        let data = host.at("data");
        for _ in 0..2 {
            let backup = host.varu(&["backup", data.to_str().unwrap()]);
            assert!([0, 3].contains(&backup.status), "{what}\nbackup: {}", backup.err);
        }
        let accepted = host.accept();
        assert!([0, 3].contains(&accepted.status), "{what}\naccept: {}", accepted.err);
        let verified = host.run(&["verify"]);
        assert_eq!(
            verified.status,
            0,
            "{what}\nhost verify: {} {}",
            String::from_utf8_lossy(&verified.out),
            verified.err
        );
        let newest = host.varu(&["list"]).json()["snapshots"].as_array().unwrap().last().unwrap()["id"].clone();
        let back = host.bring_back(newest.as_str().unwrap());
        assert!(back.is_ok_and(|bytes| bytes == content(3)), "{what}");
    }

    /// Harms a command at its calls, and then gives it again.
    fn sweep(&self, words: &[&str], how: &str) {
        let command = self.host.command(words);
        let log = self.saved.path().join("strace.log");
        let after = |what: &str, first: &Ended| {
            let what = format!("{words:?}, {what}");
            if how == FULL {
                assert!([0, 3, 8].contains(&first.status), "{what}");
            }
            let again = self.host.run(words);
            assert!([0, 3].contains(&again.status), "{what}\nagain: {} {}", again.status, again.err);
            self.goes_on(&what);
        };
        let hit = harm_at_each(&command, &log, how, || self.put_back(), after);
        println!("{words:?}, {how}: {hit} points");
        assert!(hit > 2, "{words:?} was harmed at {hit} points");
    }
}

#[test]
fn accepting_and_giving_up_may_be_cut_or_find_the_disk_full_at_each_call() {
    let Some(kept) = Kept::new() else { return };
    [KILLED, FULL].iter().for_each(|how| kept.sweep(&["accept"], how));
    let pack = kept.spoil();
    kept.save();
    [KILLED, FULL].iter().for_each(|how| kept.sweep(&["mark-lost", &pack], how));
}

/// The commands in backquotes of an output that are varu's own on the host.
fn ways_in(ended: &Ended) -> Vec<String> {
    let said = String::from_utf8_lossy(&ended.out).into_owned() + &ended.err;
    let mut found = Vec::new();
    for quoted in said.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("varu host ")) {
        if !found.iter().any(|known| known == quoted) {
            found.push(quoted.to_owned());
        }
    }
    found
}

/// Asserts that a command ended so and named one way out, and takes it.
#[track_caller]
fn takes(host: &Host, ended: Ended, status: i32, way: &str) -> Ended {
    let ended = ended.ends(status);
    assert_eq!(ways_in(&ended), [way], "{}", ended.err);
    let words: Vec<&str> = way.split(' ').skip(2).collect();
    match words[0] {
        // The account, and the key that may log in, are the reader's to say.
        "prepare" => host.prepare(&[]).ends(0),
        _ => host.run(&words),
    }
}

#[test]
fn each_way_out_that_the_host_names_leads_out() {
    let Some(kept) = Kept::new() else { return };
    let host = &kept.host;
    // The rights of a folder were changed by hand.
    let packs = host.file(Folder::Packs, "");
    fs::set_permissions(&packs, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    takes(host, host.accept(), 1, "varu host prepare");
    host.accept().ends(0);
    kept.goes_on("rights");

    // A ledger with more rubbish in it than a power cut leaves, and nobody has a copy.
    kept.put_back();
    let ledger = host.base().join("state").join(&host.account).join("ledger");
    let rubbish = [fs::read(&ledger).unwrap(), noise(70_000, 9)].concat();
    fs::write(&ledger, rubbish).unwrap();
    let said = host.accept().ends(7);
    assert!(said.err.contains(ledger.to_str().unwrap()) && said.err.contains("move it away"), "{}", said.err);
    fs::rename(&ledger, ledger.with_file_name("ledger.damaged")).unwrap();
    let accepted = takes(host, said, 7, "varu host accept").ends(0).json();
    let all = [Folder::Packs, Folder::Snapshots, Folder::Keys, Folder::Info].map(|folder| host.names(folder).len());
    assert_eq!(accepted["accounts"][0]["objects"], all.iter().sum::<usize>());
    kept.goes_on("ledger");

    // A snapshot is named that isn't there.
    kept.put_back();
    let shown = takes(host, host.run(&["hold", "ffffffff"]), 2, "varu host prune --dry-run").ends(0).json();
    let snapshots = shown["accounts"][0]["snapshots"].as_array().unwrap();
    assert!(!snapshots.is_empty(), "{shown}");
    host.run(&["hold", snapshots[0]["id"].as_str().unwrap()]).ends(0);

    // A damaged object is not marked lost by a wrong name.
    kept.put_back();
    let pack = kept.spoil();
    let other = format!("packs/{}.pack", "0".repeat(32));
    for wrong in ["nonsense", &other] {
        let shown = takes(host, host.run(&["mark-lost", wrong]), 2, "varu host verify").ends(7).json();
        assert_eq!(shown["accounts"][0]["damage"][0]["object"], *pack, "{shown}");
    }
    host.run(&["mark-lost", &pack]).ends(0);
    kept.goes_on("marked lost");
}

#[test]
fn each_way_out_that_is_named_while_an_account_is_prepared_leads_out() {
    let Some(kept) = Kept::new() else { return };
    let host = &kept.host;
    // A machine finds no folders: the account isn't one that was prepared.
    let repository = host.file(Folder::Packs, "").parent().unwrap().to_owned();
    fs::remove_dir_all(&repository).unwrap();
    fs::create_dir(&repository).unwrap();
    let _ = fs::remove_dir_all(host.base().join("state").join(&host.account));
    ["state", "keys"].iter().for_each(|part| fs::remove_dir_all(host.at(part)).unwrap());
    let said = host.varu(&["init"]);
    takes(host, Ended { status: 0, ..said }, 0, "varu host prepare");
    host.varu(&["init"]).ends(0);
    host.back_up(&content(3));
    kept.goes_on("no folders");

    // A reader of an account that isn't there.
    let reader = format!("{}-r", &host.account);
    let mut public = host.server.key().into_os_string();
    public.push(".pub");
    let public = public.to_str().unwrap().to_owned();
    let words = |account: &str| {
        let mut command = host.sshd_command(&["prepare", account, "--reader", &reader, "--ssh-key", &public]);
        run(command.args(["--address", "127.0.0.1"]))
    };
    let said = words("varu-none").ends(2);
    assert_eq!(ways_in(&said), ["varu host prepare varu-none"]);
    let prepared =
        run(host.sshd_command(&["prepare", "varu-none", "--ssh-key", &public]).args(["--address", "127.0.0.1"]));
    let made = match prepared.status {
        0 | 3 => words("varu-none"),
        _ => prepared,
    };
    support::sshd::forget_account(&reader);
    support::sshd::forget_account("varu-none");
    assert!([0, 3].contains(&made.status), "{}", made.err);

    // Somebody can log in with the account's name.
    let shell = |shell: &str| Command::new("usermod").args(["--shell", shell, &host.account]).status().unwrap();
    assert!(shell("/bin/sh").success());
    let said = host.prepare(&[]).ends(5);
    let way = said.err.split('`').nth(1).unwrap().to_owned();
    assert!(way.starts_with("usermod --shell"), "{}", said.err);
    assert!(Command::new("sh").args(["-c", &way]).status().unwrap().success());
    host.prepare(&[]).ends(0);

    // A folder above the chroot that others can write to.
    let above = host.base().join("srv");
    fs::set_permissions(&above, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let said = host.prepare(&[]).ends(5);
    let way = said.err.split('`').nth(1).unwrap().to_owned();
    assert!(way.starts_with("chown root"), "{}", said.err);
    assert!(Command::new("sh").args(["-c", &way]).status().unwrap().success());
    host.prepare(&[]).ends(0);

    // Another machine with another key.
    let other = host.prepare_with(&host.server.other_key(), &[]).ends(5);
    assert!(other.err.contains("--take-over"), "{}", other.err);
    let taken = host.prepare_with(&host.server.other_key(), &["--take-over"]);
    assert!([0, 3].contains(&taken.status), "{}", taken.err);
    host.prepare(&["--take-over"]);
    kept.goes_on("taken over");
}
