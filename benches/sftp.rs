//! The SFTP remote beside OpenSSH's `sftp`: a GiB up (flushed) and down, near and far. Then the whole program beside restic:
//! a full backup and its restore. See `benches/sftp.sh`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::proxy::Proxy;
use support::sshd::Sshd;
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
        fs::create_dir(&folder).unwrap();
        whole(millis, &server, port, &folder);
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

/// Bytes of the dump that is backed up.
const DUMP: usize = 400_000_000;

/// A full backup of a dump and its restore, by varu into a local folder and over SFTP, and by restic over SFTP. Prints seconds.
fn whole(millis: u64, server: &Sshd, port: u16, folder: &Path) {
    let dump = folder.join("dump.sql");
    fs::write(&dump, dump_text()).unwrap();
    let near = Varu::new(folder, "near", folder.join("near").display().to_string(), server);
    let far = Varu::new(folder, "far", server.place_through(port, folder.join("vault")).to_string(), server);
    let restic = Restic { folder, server, port };
    restic.run(&["init"]);
    let [local, over, theirs] = [
        timed(|| near.backup(&dump)).0,
        timed(|| far.backup(&dump)).0,
        timed(|| restic.run(&["backup", dump.to_str().unwrap()])).0,
    ];
    let back = folder.join("back");
    let [local_back, over_back, their_back] = [
        timed(|| near.restore(&back)).0,
        timed(|| far.restore(&back)).0,
        timed(|| restic.run(&["restore", "latest", "--target", back.to_str().unwrap()])).0,
    ];
    println!(
        "{millis:>6}  a dump of {} MB, seconds: varu to a folder, varu over SFTP, restic over SFTP",
        DUMP / 1_000_000
    );
    for (what, times) in [("full", [local, over, theirs]), ("restore", [local_back, over_back, their_back])] {
        let [local, over, theirs] = times.map(|time| time.as_secs_f64());
        println!(
            "{millis:>6}  {what:>10}  {local:>7.2}  {over:>7.2}  {theirs:>7.2}  over / local {:>5.2}",
            over / local
        );
    }
}

/// Rows that compress as those of a shop do.
fn dump_text() -> Vec<u8> {
    let mut text = Vec::with_capacity(DUMP + 200);
    let mut state = 1_u64;
    for row in 0_u64.. {
        if text.len() >= DUMP {
            break;
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mix = state >> 33;
        let row = format!(
            "({row},'customer {mix:x}','{} street {}',{}.{:02}),\n",
            mix % 977,
            mix % 7919,
            mix % 4999,
            mix % 100
        );
        text.extend_from_slice(row.as_bytes());
    }
    text
}

/// varu with a repository and keys of its own.
struct Varu<'a> {
    folder: &'a Path,
    name: &'static str,
}

impl<'a> Varu<'a> {
    fn new(folder: &'a Path, name: &'static str, url: String, server: &Sshd) -> Self {
        let config = format!(
            "[repository]\nurl = '{url}'\nssh_key = '{}'\nknown_hosts = '{}'\nssh_config = '/dev/null'\n",
            server.key().display(),
            server.known_hosts().display()
        );
        fs::write(folder.join(format!("{name}.toml")), config).unwrap();
        let varu = Self { folder, name };
        varu.run(&["init"], Stdio::null());
        varu
    }

    fn run(&self, words: &[&str], input: Stdio) {
        let at = |what: &str| self.folder.join(format!("{}.{what}", self.name));
        let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
        varu.arg("--config").arg(at("toml")).arg("--state").arg(at("state")).arg("-q");
        varu.env("VARU_WRITER_KEY", at("writer.key")).env("VARU_IDENTITY", at("identity.txt"));
        let status = varu.args(words).stdin(input).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "varu {words:?}: {status}");
    }

    fn backup(&self, dump: &Path) {
        self.run(&["backup", "--stdin", "dump"], fs::File::open(dump).unwrap().into());
    }

    fn restore(&self, to: &Path) {
        self.run(&["restore", "dump", "--to", to.join(self.name).to_str().unwrap()], Stdio::null());
    }
}

/// restic with a repository over SFTP.
struct Restic<'a> {
    folder: &'a Path,
    server: &'a Sshd,
    port: u16,
}

impl Restic<'_> {
    fn run(&self, words: &[&str]) {
        let ssh = format!(
            "sftp.command=ssh -F /dev/null -i {} -o UserKnownHostsFile={} -p {} -l {} 127.0.0.1 -s sftp",
            self.server.key().display(),
            self.server.known_hosts().display(),
            self.port,
            self.server.place("/").user().unwrap()
        );
        let mut restic = Command::new("restic");
        restic.arg("-r").arg(format!("sftp:x:{}", self.folder.join("restic").display()));
        restic.args(["-o", &ssh, "-q", "--no-cache"]).args(words).env("RESTIC_PASSWORD", "x").stdout(Stdio::null());
        assert!(restic.status().unwrap().success(), "restic {words:?}");
    }
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
