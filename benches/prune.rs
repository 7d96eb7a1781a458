//! `varu prune` on a large repository: `cargo bench --bench prune -- [CHUNKS] [SNAPSHOTS]`
//!
//! Makes a repository of about CHUNKS (1,000,000) chunks in SNAPSHOTS (400) daily snapshots with weekly fulls in a folder, with
//! chunks of 256 bytes, so that it takes little room. Then the program prunes it to four weeks: what would go, the marks, and
//! the end of all that is marked. Prints seconds and the most memory of each.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use support::*;
use varu::backup::BackupOptions;
use varu::chunker::ChunkSizes;
use varu::id::RepositoryId;
use varu::remote::Remote;
use varu::remote::local::LocalRemote;
use varu::repository::{Repository, write_secret};

const DAY: Duration = Duration::from_secs(86_400);
/// Bytes of a chunk, about.
const CHUNK: usize = 290;
/// Bytes that change together.
const BLOCK: usize = 64 << 10;

fn main() {
    let given: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (chunks, snapshots) = (given.first().copied().unwrap_or(1_000_000), given.get(1).copied().unwrap_or(400));
    let top = tempfile::tempdir().unwrap();
    let remote: Arc<dyn Remote> = Arc::new(LocalRemote::create(top.path().join("vault")).unwrap());
    let sizes = ChunkSizes { min: 64, average: 256, max: 1024 };
    let owner = Owner::create_with(&*remote, sizes);
    let writer = owner.writer(remote, top.path().join("state").as_path());
    fill(&writer, chunks, snapshots);
    println!("{} chunks in {snapshots} snapshots and {} packs", count(&writer), writer.pack_sizes().unwrap().len());
    let id = *writer.id();
    drop(writer);
    write_secret(&top.path().join("writer.key"), &owner.writer_key).unwrap();
    fs::write(top.path().join("varu.toml"), "[retention]\ngrace = \"1 s\"\n").unwrap();
    timed(top.path(), &id, "what would go", &["prune", "--dry-run"]);
    timed(top.path(), &id, "marks", &["prune"]);
    std::thread::sleep(Duration::from_secs(2));
    timed(top.path(), &id, "the end of it", &["prune"]);
}

/// Backs up a day after the other. A re-base stores all of it, so a day has little.
fn fill(writer: &Arc<Repository>, chunks: usize, snapshots: usize) {
    let blocks = (chunks * CHUNK / 25 / BLOCK).max(1);
    let changed = (chunks * CHUNK / 5 * 2 / snapshots.max(1) / BLOCK).max(1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let clock = TestClock::at((now - DAY * snapshots as u32).as_secs() as i64);
    let options = BackupOptions { base_cache_max: 0, ..options() };
    let mut seeds: Vec<u64> = (0..blocks as u64).collect();
    for day in 0..snapshots {
        (0..changed).for_each(|at| seeds[(day * changed + at) % blocks] += blocks as u64);
        let stream = seeds.iter().flat_map(|&seed| noise(BLOCK, seed)).collect();
        back_up_with(writer, &Streams::from([("data".to_owned(), stream)]), &options, &clock).unwrap();
        clock.advance(DAY);
    }
}

fn count(writer: &Repository) -> usize {
    let index = writer.index();
    let packs = index.packs().unwrap();
    packs.iter().map(|row| index.directory(row.number).unwrap().map_or(0, |directory| directory.ids.len())).sum()
}

/// Runs the program, and prints how long it takes and the most memory that it has.
fn timed(top: &Path, id: &RepositoryId, what: &str, words: &[&str]) {
    let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
    varu.arg("--repo")
        .arg(top.join("vault"))
        .arg("--state")
        .arg(top.join("state"))
        .arg("--config")
        .arg(top.join("varu.toml"));
    varu.arg("--writer-key").arg(top.join("writer.key")).arg("-q").args(words).stdout(Stdio::null());
    let begun = Instant::now();
    let mut child = varu.spawn().unwrap();
    let (status, mut most) = (format!("/proc/{}/status", child.id()), 0.0_f64);
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        most = most.max(peak.unwrap_or(0.0));
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(ended.success(), "{what} of {id}: {ended}");
    println!("{what:>15}: {:>6.2} s, {:>6.1} MB", begun.elapsed().as_secs_f64(), most / 1000.0);
}
