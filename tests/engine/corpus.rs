//! Real consecutive mysqldumps, as the dumps of 15 days: each is restored to the byte, and the repository stays near the
//! size of `zstd --patch-from`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use support::*;
use varu::remote::Remote;
use varu::remote::local::LocalRemote;

/// The allowance above the sum of a day's delta files, for keys, headers, recipes and directories.
const ALLOWED_A_SNAPSHOT: u64 = 4096;

fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/states-sql.tar.zst");
    path.exists().then_some(path)
}

fn unpack(archive: &Path, folder: &Path) -> Vec<PathBuf> {
    let tar = Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(folder).status().unwrap();
    assert!(tar.success());
    let mut files: Vec<PathBuf> = walk(folder);
    files.sort();
    files
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn size(folder: &Path) -> u64 {
    walk(folder).iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// The size of one dump packed against the one before, by the zstd program.
fn patch(file: &Path, before: Option<&PathBuf>) -> u64 {
    let mut zstd = Command::new("zstd");
    zstd.args(["-3", "--long=27", "-q", "-c"]).arg(file);
    if let Some(before) = before {
        zstd.arg(format!("--patch-from={}", before.display()));
    }
    zstd.output().unwrap().stdout.len() as u64
}

#[test]
fn fifteen_real_dumps_come_back_and_stay_small() {
    let Some(archive) = corpus() else {
        eprintln!("skipped: there is no ../shared/corpus beside this checkout");
        return;
    };
    let (dumps, vault, state) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = unpack(&archive, dumps.path());
    assert_eq!(files.len(), 15);
    let remote: Arc<dyn Remote> = Arc::new(LocalRemote::create(vault.path()).unwrap());
    let owner = Owner::create(&*remote);
    let writer = owner.writer(remote.clone(), state.path());
    let clock = TestClock::at(MONDAY);
    let options = varu::backup::BackupOptions { full_every: 100, ..options() };
    let (mut limit, mut last, mut snapshots) = (0, 0, Vec::new());
    println!("day  dump bytes  added  patch-from");
    for (day, file) in files.iter().enumerate() {
        let streams = BTreeMap::from([("states.sql".to_owned(), std::fs::read(file).unwrap())]);
        let report = back_up_with(&writer, &streams, &options, &clock).unwrap();
        snapshots.push(report.snapshot);
        let (now, patch) = (size(vault.path()), patch(file, day.checked_sub(1).map(|before| &files[before])));
        println!("{:>3} {:>11} {:>6} {:>11}", day + 1, streams["states.sql"].len(), now - last, patch);
        (last, limit) = (now, limit + patch);
        clock.advance(Duration::from_secs(86_400));
    }
    println!("all {:>18} {:>11}  ratio {:.3}", last, limit, last as f64 / limit as f64);
    let reader = owner.reader(remote, tempfile::tempdir().unwrap().path()).unwrap();
    reader.sync().unwrap();
    for (snapshot, file) in snapshots.iter().zip(&files) {
        let (streams, _) = bring_back(&reader, snapshot).unwrap();
        assert!(streams["states.sql"] == std::fs::read(file).unwrap());
    }
    let allowed = limit * 115 / 100 + ALLOWED_A_SNAPSHOT * files.len() as u64;
    assert!(last <= allowed, "{last} bytes, and {allowed} are allowed");
}
