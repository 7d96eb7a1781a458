//! Machines with systemd: overlays over one cached image, booted by systemd-nspawn, on a bridge of their own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a machine may take until it answers.
const BOOT: Duration = Duration::from_secs(180);

/// The result of a command on a machine.
pub struct Ended {
    pub what: String,
    pub status: i32,
    /// Standard output and standard error.
    pub text: String,
}

impl Ended {
    fn of(what: &str, output: Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Self { what: what.to_owned(), status: output.status.code().unwrap_or(-1), text }
    }

    /// Its output, if it ended with that status.
    #[track_caller]
    pub fn ends(self, status: i32) -> String {
        assert_eq!(self.status, status, "{}\n{}", self.what, self.text);
        self.text
    }
}

/// Runs a program of this machine.
pub fn run(command: &mut Command) -> Ended {
    let what = format!("{command:?}");
    Ended::of(&what, command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{what}: {error}")))
}

/// A release of Debian, by its code name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debian {
    Bookworm,
    Trixie,
}

impl Debian {
    /// The folder of its image, which is made where it isn't there yet.
    fn image(self) -> Result<PathBuf, String> {
        let name = match self {
            Debian::Bookworm => "bookworm",
            Debian::Trixie => "trixie",
        };
        let mut image = Command::new("tests/machines/image");
        let made = image.arg(name).stderr(Stdio::inherit()).output().map_err(|e| e.to_string())?;
        match made.status.success() {
            true => Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim())),
            false => Err(format!("the image of {name} couldn't be made")),
        }
    }
}

/// The machines of one test.
pub struct Fleet {
    folder: TempDir,
    bridge: String,
    /// `10.77.5`.
    network: String,
}

impl Fleet {
    /// A bridge and an SSH key; the image is made where it isn't there yet. Err says why this machine can't boot others.
    pub fn new(number: u32) -> Result<Self, String> {
        for program in ["systemd-nspawn", "debootstrap", "ansible-playbook", "lintian", "dh", "age-keygen"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            if !found.is_ok_and(|found| found.status.success()) {
                return Err(format!("{program} isn't installed (tests/run installs it)"));
            }
        }
        let image = Debian::Bookworm.image()?;
        // Not below /tmp: an overlay wants a file system that it can write to.
        let folder =
            tempfile::Builder::new().prefix("varu-machines-").tempdir_in("/var/lib").map_err(|e| e.to_string())?;
        let name = format!("varu-probe-{}-{number}", std::process::id());
        let mut probe = own_cgroup(&name);
        probe.args(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--directory"]);
        let probed = run(probe.arg(&image).arg("/bin/true"));
        forget_cgroup(&name);
        if probed.status != 0 {
            return Err(format!("systemd-nspawn can't run a machine here: {}", probed.text.trim()));
        }
        let number = (std::process::id() % 30) * 8 + number;
        let fleet = Self { folder, bridge: format!("varu{number}"), network: format!("10.77.{number}") };
        let address = format!("{}.1/24", fleet.network);
        for words in [
            vec!["link", "add", &fleet.bridge, "type", "bridge"],
            vec!["addr", "add", &address, "dev", &fleet.bridge],
            vec!["link", "set", &fleet.bridge, "up"],
        ] {
            let added = run(Command::new("ip").args(&words));
            if added.status != 0 {
                return Err(format!("ip {} failed: {}", words.join(" "), added.text));
            }
        }
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(fleet.path("key"))).ends(0);
        Ok(fleet)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn address(&self, number: u32) -> String {
        format!("{}.{}", self.network, 10 + number)
    }

    /// Its address of the newer protocol.
    pub fn address6(&self, number: u32) -> String {
        format!("fd00:{}::{:x}", self.network.replace('.', ":"), 10 + number)
    }

    /// Boots a new machine of Debian 12. Its number gives its address, and its own delay: so many seconds.
    pub fn boot(&self, name: &'static str, number: u32, hosts: &[(&str, u32)]) -> Machine {
        self.boot_of(Debian::Bookworm, name, number, hosts)
    }

    /// Boots a new machine. An account `admin` may become root there, as where nobody logs in as root.
    pub fn boot_of(&self, debian: Debian, name: &'static str, number: u32, hosts: &[(&str, u32)]) -> Machine {
        let image = debian.image().unwrap();
        let folder = self.path(name);
        let [upper, work, root] = ["upper", "work", "root"].map(|part| folder.join(part));
        for part in [&upper, &work, &root] {
            fs::create_dir_all(part).unwrap();
        }
        let layers = format!("lowerdir={},upperdir={},workdir={}", image.display(), upper.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&root)).ends(0);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/hostname", &format!("{name}\n"));
        let unique = u64::from(std::process::id()) << 32 | u64::from(self.folder.path().as_os_str().len() as u32);
        let serial = self.path(&format!("{name}.booted"));
        let times = fs::read(&serial).map_or(0, |bytes| bytes.len() as u64);
        fs::OpenOptions::new().create(true).append(true).open(&serial).unwrap().write_all(b".").unwrap();
        write("etc/machine-id", &format!("{number:08x}{times:08x}{unique:016x}\n"));
        let names = hosts.iter().map(|(name, number)| format!("{} {name}\n", self.address(*number)));
        write("etc/hosts", &format!("127.0.0.1 localhost\n{}", names.collect::<String>()));
        let address = self.address(number);
        write(
            "etc/systemd/network/10-host0.network",
            &format!("[Match]\nName=host0\n[Network]\nAddress={address}/24\nAddress={}/64\n", self.address6(number)),
        );
        let public = fs::read_to_string(self.path("key.pub")).unwrap();
        write("root/.ssh/authorized_keys", &public);
        run(Command::new("chroot").arg(&root).args(["useradd", "--create-home", "--shell", "/bin/bash", "admin"]))
            .ends(0);
        write("home/admin/.ssh/authorized_keys", &public);
        write("etc/sudoers.d/admin", "admin ALL=(ALL) NOPASSWD: ALL\n");
        let wanted = root.join("etc/systemd/system/multi-user.target.wants");
        for unit in ["systemd-networkd.service", "ssh.service"] {
            let _ = std::os::unix::fs::symlink(format!("/lib/systemd/system/{unit}"), wanted.join(unit));
        }
        run(Command::new("chroot").arg(&root).args(["ssh-keygen", "-A"])).ends(0);
        let (key, bridge) = (self.path("key"), self.bridge.clone());
        let control = self.path(&format!("{name}.ssh"));
        let unit = format!("{}-{name}", self.bridge);
        let mut machine = Machine { name, unit, folder, address, key, control, bridge, process: None };
        machine.start();
        machine
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).output();
    }
}

/// Where the kernel keeps groups of processes, in one or two trees.
const CGROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// The prefix that runs a program in a control group of its own. Machines that shared one would take the processes of
/// another's unit of the same name for theirs, and wait for ever for their end.
fn own_cgroup(name: &str) -> Command {
    if Path::new("/run/systemd/system").exists() {
        let mut scope = Command::new("systemd-run");
        scope.args(["--quiet", "--scope", "--collect", "--property=Delegate=yes", &format!("--unit={name}")]);
        return scope;
    }
    let script = format!(
        "for tree in {}; do if [ -e $tree/cgroup.procs ]; then mkdir -p $tree/$0 && echo $$ > $tree/$0/cgroup.procs || exit; fi; done; exec \
         \"$@\"",
        CGROUPS.join(" ")
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, name]);
    shell
}

fn forget_cgroup(name: &str) {
    for tree in CGROUPS.iter().map(|tree| Path::new(tree).join(name)).filter(|tree| tree.exists()) {
        let _ = Command::new("find").arg(tree).args(["-depth", "-type", "d", "-delete"]).output();
    }
}

/// A machine. It is gone when it is dropped.
pub struct Machine {
    pub name: &'static str,
    /// Its name among all that run on this machine.
    unit: String,
    folder: PathBuf,
    pub address: String,
    key: PathBuf,
    control: PathBuf,
    bridge: String,
    process: Option<Child>,
}

impl Machine {
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Boots it, again where it ran before, and waits until it answers.
    pub fn start(&mut self) {
        let console = fs::File::create(self.folder.join("console")).unwrap();
        let mut nspawn = own_cgroup(&self.unit);
        nspawn.arg("systemd-nspawn").args([
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--resolv-conf=off",
            "--link-journal=no",
        ]);
        nspawn.arg(format!("--machine={}", self.unit)).arg(format!("--network-bridge={}", self.bridge));
        nspawn.arg("--directory").arg(self.root());
        nspawn.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        self.process = Some(nspawn.spawn().unwrap());
        let start = Instant::now();
        while self.run("systemctl is-system-running --wait").status > 1 {
            assert!(start.elapsed() < BOOT, "{} doesn't answer: {}", self.name, self.console());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    /// Cuts its power.
    pub fn cut(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let leader = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.id())).unwrap_or_default();
        for leader in leader.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", leader]).output();
        }
        let start = Instant::now();
        while process.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(10) {
                let _ = process.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = fs::remove_file(&self.control);
    }

    /// Runs a line of shell as root.
    pub fn run(&self, line: &str) -> Ended {
        let mut ssh = Command::new("ssh");
        ssh.args(SSH).arg("-i").arg(&self.key).arg(format!("-oControlPath={}", self.control.display()));
        let output = ssh.arg(format!("root@{}", self.address)).arg(line).stdin(Stdio::null()).output().unwrap();
        Ended::of(&format!("{}: {line}", self.name), output)
    }

    /// Copies a file there.
    pub fn send(&self, from: &Path, to: &str) {
        let mut ssh = Command::new("ssh");
        ssh.args(SSH).arg("-i").arg(&self.key).arg(format!("-oControlPath={}", self.control.display()));
        ssh.arg(format!("root@{}", self.address)).arg(format!("cat > {to}"));
        let sent = ssh.stdin(fs::File::open(from).unwrap()).status().unwrap();
        assert!(sent.success(), "{} to {}", from.display(), self.name);
    }

    /// Runs a line of shell as root, which ends with 0. Returns its output.
    #[track_caller]
    pub fn does(&self, line: &str) -> String {
        self.run(line).ends(0)
    }

    /// Starts a unit, as its timer does, and waits for its end. Returns its journal.
    pub fn starts(&self, unit: &str, status: i32) -> String {
        // Tests start a unit more often than systemd lets anybody.
        let since = self.does(&format!("systemctl reset-failed {unit} 2>/dev/null; journalctl --sync; date +@%s.%N"));
        let result = self.run(&format!("systemctl start {unit}"));
        let shown = self.does(&format!("systemctl show --property=ExecMainStatus --value {unit}"));
        let journal = self.journal(&format!("--unit={unit} --since={}", since.trim()));
        let failed = i32::from(status != 0 && status != 3);
        assert_eq!((result.status, shown.trim()), (failed, status.to_string().as_str()), "{unit}:\n{journal}");
        journal
    }

    pub fn journal(&self, words: &str) -> String {
        self.does(&format!("journalctl --sync; journalctl --no-pager --output=cat {words}"))
    }
}

/// The first places where an administrator would look.
const LOOK: &str = "systemctl list-jobs --no-pager; systemctl list-units --failed --no-pager --plain --legend=no; for unit in $(systemctl \
                    list-units --all --plain --legend=no 'varu-*.service' | grep -E ' (failed|activating|deactivating) ' | cut -d' ' \
                    -f1); do systemctl status --no-pager --full --lines=40 $unit; done; cat /proc/loadavg";

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.process.is_some() {
            eprintln!("--- {}\n{}", self.name, self.run(LOOK).text);
        }
        let _ = Command::new("ssh")
            .args(["-O", "exit", &format!("-oControlPath={}", self.control.display()), "x"])
            .output();
        self.cut();
        for _ in 0..20 {
            if run(Command::new("umount").arg(self.root())).status == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        forget_cgroup(&self.unit);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// How machines are reached: their keys are new each time.
pub const SSH: [&str; 7] = [
    "-q",
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oBatchMode=yes",
    "-oConnectTimeout=5",
    "-oControlMaster=auto",
    "-oControlPersist=60",
];

/// The Debian package around the program that was built for the tests.
pub fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(build)
}

fn build() -> PathBuf {
    // One for each run; those of runs that are over go.
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(packages).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.strip_prefix("package-").is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = packages.join(format!("package-{}", std::process::id()));
    let source = folder.join("source");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&source).unwrap();
    run(Command::new("cp").args(["-r", "debian", "systemd", "docs", "README.md"]).arg(&source)).ends(0);
    let mut rules = Command::new("debian/rules");
    rules.args(["clean", "binary"]).current_dir(&source);
    rules.env("VARU_BINARY", env!("CARGO_BIN_EXE_varu")).env("VARU_PACKAGES", &folder);
    // A program with all that a debugger wants is large, and nobody keeps the package.
    rules.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    run(&mut rules).ends(0);
    let mut packages = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    packages.find(|path| path.extension().is_some_and(|end| end == "deb")).unwrap()
}
