//! Resuming of an interrupted restore.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{IMPATIENT, Ship, names};
use support::proxy::Proxy;
use support::sshd::Sshd;
use support::{Random, long, noise};

const FILES: usize = 60;

/// A tree of many sizes, with folders that nobody may write to, links of both kinds and a pipe.
fn make_tree(tree: &Path) {
    for number in 0..FILES {
        let folder = tree.join(format!("{}/{}", number % 5, number % 3));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("file {number}"));
        fs::write(&path, noise(number * 3000, number as u64)).unwrap();
        if number % 10 == 0 {
            fs::hard_link(&path, tree.join(format!("link to {number}"))).unwrap();
            std::os::unix::fs::symlink(&path, tree.join(format!("to {number}"))).unwrap();
        }
    }
    assert!(Command::new("mkfifo").arg(tree.join("pipe")).status().unwrap().success());
    fs::set_permissions(tree.join("0/0"), fs::Permissions::from_mode(0o550)).unwrap();
}

/// The differences that `rsync` finds, in metadata and content.
fn differences(a: &Path, b: &Path) -> String {
    let slashed = |path: &Path| format!("{}/", path.display());
    let output = Command::new("rsync")
        .args(["-naiHAXc", "--specials", "--modify-window=-1", "--delete"])
        .args([slashed(a), slashed(b)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_restore_that_was_killed_goes_on_with_the_same_command() {
    let server = Sshd::shared();
    let proxy = Proxy::start(server.port(), Duration::ZERO);
    let ship = Ship::beside(&server, IMPATIENT);
    let through = server.place_through(proxy.port(), ship.vault());
    ship.goes_to(&server, &through, IMPATIENT);
    let tree = ship.at("tree");
    make_tree(&tree);
    ship.run(&["-q", "init"]).ends(0);
    ship.run(&["-q", "backup", tree.to_str().unwrap()]).ends(0);
    let bytes: u64 = (0..FILES as u64).map(|number| number * 3000).sum();

    let mut random = Random(7);
    let (mut kept, rounds) = (0, if long() { 20 } else { 2 });
    for round in 0..rounds {
        let out = ship.at(&format!("out {round}"));
        let restored = out.join(tree.strip_prefix("/").unwrap());
        // A folder that was there before, and a file that is somebody's: they stay as they are, also when it continues.
        fs::create_dir_all(restored.join("4/1")).unwrap();
        fs::set_permissions(restored.join("4/1"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(restored.join("4/1/mine"), "mine").unwrap();
        let words = ["--json", "-q", "restore", "files", "--to", out.to_str().unwrap()];
        let slowly = [&["--limit-download", "1M"], &words[..]].concat();
        let mut child = ship.machine.varu(&slowly).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let wanted = 1 + random.below(FILES / 2);
        let until = Instant::now() + Duration::from_secs(60);
        let whole = || names(&restored).iter().filter(|name| name.contains("/file ")).count();
        while whole() < wanted && Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (whole, before) = (whole(), proxy.passed());
        assert!(whole < FILES, "it was killed too late");
        let ended = ship.run(&words);
        let document = ended.json();
        let again = proxy.passed() - before;
        let round_kept = document["restored"][0]["kept"].as_u64().unwrap();
        assert_eq!(document["restored"][0]["damaged"].as_array().unwrap().len(), 0);
        assert!(round_kept >= whole as u64, "{round_kept} of {whole} kept: {}", ended.err);
        kept += round_kept;
        println!("{whole} of {FILES} files were whole; {again} bytes were fetched for {bytes}");
        fs::remove_file(restored.join("4/1/mine")).unwrap();
        let left = differences(&tree, &restored);
        // Only of the folders that were there before.
        let before = [" ./", " 4/", " 4/1/"];
        assert!(left.lines().all(|line| before.iter().any(|end| line.ends_with(end))), "{left}");
        let mode = fs::metadata(restored.join("4/1")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o711, "a folder that was there keeps its mode");
        assert!(names(&out).iter().all(|name| !name.contains(".varu-")), "{:?}", names(&out));
        // It ended, so the same command finds files in its way again.
        assert!(ship.run(&words).err.contains("is there already"));
    }
    assert!(kept > 0);
}

#[test]
fn a_file_that_changed_since_is_not_taken_for_whole() {
    let server = Sshd::shared();
    let ship = Ship::beside(&server, IMPATIENT);
    fs::create_dir(ship.at("tree")).unwrap();
    for name in ["a", "b"] {
        fs::write(ship.at("tree").join(name), format!("content of {name}")).unwrap();
    }
    ship.run(&["-q", "init"]).ends(0);
    let tree = ship.at("tree");
    ship.run(&["-q", "backup", tree.to_str().unwrap()]).ends(0);
    let out = ship.at("out");
    let restored = out.join(tree.strip_prefix("/").unwrap());
    let words = ["--json", "-q", "restore", "files", "--to", out.to_str().unwrap()];
    ship.run(&words).ends(0);
    fs::write(restored.join("a"), "CONTENT of a").unwrap();
    fs::write(out.join(".varu-files.restore"), "").unwrap();
    let ended = ship.run(&words).ends(3);
    assert!(ended.err.contains("a is there already") && !ended.err.contains("b is there"), "{}", ended.err);
    assert_eq!(fs::read_to_string(restored.join("a")).unwrap(), "CONTENT of a");
    assert_eq!(ended.json()["restored"][0]["kept"], 1);
    // Another set's name, and a link in place of the mark, say nothing.
    std::os::unix::fs::symlink(tree.join("a"), out.join(".varu-files.restore")).unwrap();
    let refused = ship.run(&words).ends(5);
    assert!(refused.err.contains("isn't this user's alone"), "{}", refused.err);
    assert_eq!(fs::read_to_string(tree.join("a")).unwrap(), "content of a");
}
