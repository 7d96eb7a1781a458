//! The SFTP remote beside OpenSSH's `sftp`: a GiB up (flushed) and down, near and far. See `benches/sftp.sh`.

#[path = "../tests/support/proxy.rs"]
mod proxy;
#[path = "../tests/support/sshd.rs"]
mod sshd;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proxy::Proxy;
use sshd::Sshd;
use varu::remote::place::SftpPlace;
use varu::remote::sftp::SftpRemote;
use varu::remote::{Folder, ObjectName, Remote};

/// Bytes of a pack, and how many packs there are.
const PACK: usize = 32 << 20;
const PACKS: usize = 32;
/// Packs that are under way at once.
const AT_ONCE: usize = 8;
/// What a reader asks for at once.
const RANGE: usize = 8 << 20;

fn main() {
    let given: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let round_trips = if given.is_empty() { vec![0, 20, 100] } else { given };
    let base = tempfile::Builder::new().prefix("varu-bench-").tempdir_in("/var/tmp").unwrap();
    let file = base.path().join("file");
    let pack = noise();
    let mut out = fs::File::create(&file).unwrap();
    (0..PACKS).for_each(|_| out.write_all(&pack).unwrap());
    drop(out);
    println!("1 GiB in {PACKS} packs, {AT_ONCE} at once, ranges of {} MiB; MB/s", RANGE >> 20);
    println!(
        "{:>6}  {:>10}  {:>7}  {:>7}  {:>6}  {:>11}  {:>5}",
        "ms", "", "sftp -f", "varu", "times", "connections", "CPU s"
    );
    for millis in round_trips {
        let server = Sshd::start();
        let proxy = (millis > 0).then(|| Proxy::start(server.port(), Duration::from_millis(millis)));
        let port = proxy.as_ref().map_or(server.port(), Proxy::port);
        let folder = base.path().join(format!("{millis}"));
        fs::create_dir(&folder).unwrap();
        let place = server.place_through(port, folder.join("vault"));
        let remote_file = folder.join("file");
        let batch = |line: String| timed(|| sftp(&server, &place, &line)).0;
        let theirs = batch(format!("put -f {} {}", file.display(), remote_file.display()));
        let remote = SftpRemote::create(&place, &server.options()).unwrap();
        let ours = timed(|| upload(&remote, &pack));
        report(millis, "up", theirs, ours, &remote);
        let theirs = batch(format!("get {} /dev/null", remote_file.display()));
        let ours = timed(|| download(&remote));
        report(millis, "down", theirs, ours, &remote);
        let ours = timed(|| one_reader(&remote));
        report(millis, "down, 1", theirs, ours, &remote);
        drop(remote);
        fs::remove_dir_all(&folder).unwrap();
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
}

fn report(millis: u64, what: &str, theirs: Duration, ours: (Duration, f64), remote: &SftpRemote) {
    let rate = |time: Duration| (PACK * PACKS) as f64 / 1e6 / time.as_secs_f64();
    let times = rate(ours.0) / rate(theirs);
    let (theirs, rate_of_ours, count) = (rate(theirs), rate(ours.0), remote.connections());
    println!("{millis:>6}  {what:>10}  {theirs:>7.1}  {rate_of_ours:>7.1}  {times:>6.2}  {count:>11}  {:>5.2}", ours.1);
}

/// How long work takes, and how many seconds of CPU this process alone: near, without those of the proxy.
fn timed(work: impl FnOnce()) -> (Duration, f64) {
    let (start, used) = (Instant::now(), cpu());
    work();
    (start.elapsed(), cpu() - used)
}

fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // User and system time, in hundredths.
    [11, 12].map(|field: usize| fields[field].parse::<f64>().unwrap() / 100.0).iter().sum()
}

/// Bytes that nothing can compress.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..PACK / 8).flat_map(|_| next().to_le_bytes()).collect()
}

fn name(number: usize) -> ObjectName {
    ObjectName::new(Folder::Packs, format!("{number:064}.pack")).unwrap()
}

/// Runs a command of OpenSSH's sftp.
fn sftp(server: &Sshd, place: &SftpPlace, line: &str) {
    let mut command = Command::new("sftp");
    command.args(["-q", "-b", "-", "-F", "/dev/null", "-P"]).arg(place.port().unwrap().to_string());
    command.arg("-i").arg(server.key()).arg(option("UserKnownHostsFile", &server.known_hosts()));
    command.arg(format!("{}@{}", place.user().unwrap(), place.host()));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    assert!(child.wait().unwrap().success(), "sftp: {line}");
}

fn option(name: &str, value: &Path) -> String {
    format!("-o{name}={}", value.display())
}

/// Gives each number to one of a few threads.
fn spread(work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        number if number < PACKS => work(number),
                        _ => return,
                    }
                }
            });
        }
    });
}

fn upload(remote: &SftpRemote, pack: &[u8]) {
    spread(|number| {
        let mut upload = remote.begin().unwrap();
        pack.chunks(1 << 20).for_each(|piece| upload.append(piece).unwrap());
        upload.finish(&name(number)).unwrap();
    });
    assert!(remote.flush(Folder::Packs).unwrap());
}

fn read_pack(remote: &SftpRemote, number: usize, buffer: &mut [u8]) {
    for offset in (0..PACK).step_by(RANGE) {
        remote.get_range(&name(number), offset as u64, buffer).unwrap();
    }
}

fn download(remote: &SftpRemote) {
    spread(|number| read_pack(remote, number, &mut vec![0; RANGE]));
}

/// One thread that reads one range after the other.
fn one_reader(remote: &SftpRemote) {
    let mut buffer = vec![0; RANGE];
    (0..PACKS).for_each(|number| read_pack(remote, number, &mut buffer));
}
