//! A real sshd on a loopback port, with keys of its own, and accounts as a backup host has them.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use varu::remote::Folder;
use varu::remote::options::Options;
use varu::remote::place::{Location, SftpPlace};

/// A server that is running. It is stopped, with all its sessions, when it is dropped.
pub struct Sshd {
    base: tempfile::TempDir,
    port: u16,
    listener: Mutex<Child>,
}

/// The requests of the append-only account.
pub const ALLOWED: &str =
    "open,close,read,write,lstat,stat,fstat,opendir,readdir,realpath,rename,statvfs,fstatvfs,fsync,limits";

/// The server's own sshd_config.
fn config(base: &Path, port: u16, extra: &str) -> String {
    let base = base.display();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nHostKey {base}/host_key\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 200\n\
         PrintMotd no\nAuthorizedKeysFile {base}/authorized_keys\nSubsystem sftp internal-sftp\n{extra}\n"
    )
}

impl Sshd {
    /// A server into which whoever runs the test can log in with [`Sshd::key`].
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more lines in its configuration.
    pub fn start_with(extra: &str) -> Self {
        let base = tempfile::Builder::new().prefix("varu-sshd-").tempdir().unwrap();
        // Accounts other than ours read their authorized keys here.
        fs::set_permissions(base.path(), Permissions::from_mode(0o755)).unwrap();
        for name in ["host_key", "key", "other_key"] {
            make_key(&base.path().join(name));
        }
        fs::copy(base.path().join("key.pub"), base.path().join("authorized_keys")).unwrap();
        if is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        for _ in 0..10 {
            let port = free_port();
            fs::write(base.path().join("sshd_config"), config(base.path(), port, extra)).unwrap();
            let mut listener = listen(base.path());
            if comes_up(&mut listener, port) {
                let server = Self { base, port, listener: Mutex::new(listener) };
                server.know_host();
                return server;
            }
            let _ = listener.kill();
            let _ = listener.wait();
        }
        panic!("sshd doesn't start: {}", fs::read_to_string(base.path().join("log")).unwrap());
    }

    /// One server for all tests that need no other, while any of them runs.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Sshd>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The private key that may log in.
    pub fn key(&self) -> PathBuf {
        self.base.path().join("key")
    }

    /// A private key that may not.
    pub fn other_key(&self) -> PathBuf {
        self.base.path().join("other_key")
    }

    /// The server's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.base.path().join("sshd_config")
    }

    /// The file that has the server's host key.
    pub fn known_hosts(&self) -> PathBuf {
        self.base.path().join("known_hosts")
    }

    /// The fingerprint of the server's host key.
    pub fn fingerprint(&self) -> String {
        let file = self.base.path().join("host_key.pub");
        let shown = Command::new("ssh-keygen").arg("-lf").arg(file).output().unwrap().stdout;
        let shown = String::from_utf8(shown).unwrap();
        shown.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Options with which ssh reaches it, whatever the configuration of who runs the test says.
    pub fn options(&self) -> Options {
        Options {
            ssh_key: Some(self.key()),
            known_hosts: Some(self.known_hosts()),
            ssh_config: Some("/dev/null".into()),
            ..Options::default()
        }
    }

    /// An absolute path on it, for the account that runs the test.
    pub fn place(&self, path: impl AsRef<Path>) -> SftpPlace {
        place(&whoami(), self.port, path)
    }

    /// The same, through a proxy's port.
    pub fn place_through(&self, port: u16, path: impl AsRef<Path>) -> SftpPlace {
        place(&whoami(), port, path)
    }

    /// How many processes serve sessions.
    pub fn sessions(&self) -> usize {
        children(self.listener.lock().unwrap().id()).len()
    }

    /// Ends every session, as a crash of the server's processes would. The server still listens.
    pub fn kill_sessions(&self) {
        let listener = self.listener.lock().unwrap().id();
        let mut pending_deletes = children(listener);
        let mut at = 0;
        while at < pending_deletes.len() {
            pending_deletes.extend(children(pending_deletes[at]));
            at += 1;
        }
        signal("-KILL", &pending_deletes);
    }

    /// Stops listening. Sessions go on, and can't be ended from here any more: [`Sshd::kill_sessions`] comes first.
    pub fn stop_listening(&self) {
        let mut listener = self.listener.lock().unwrap();
        let _ = listener.kill();
        let _ = listener.wait();
    }

    /// Listens again, on the same port.
    pub fn listen_again(&self) {
        let mut listener = listen(self.base.path());
        assert!(comes_up(&mut listener, self.port), "sshd doesn't start again");
        *self.listener.lock().unwrap() = listener;
    }

    /// Takes another host key, as a host that was set up anew, or one that stands between. Needs [`Sshd::listen_again`].
    pub fn change_host_key(&self) {
        let file = self.base.path().join("host_key");
        fs::remove_file(&file).unwrap();
        make_key(&file);
    }

    fn know_host(&self) {
        let key = fs::read_to_string(self.base.path().join("host_key.pub")).unwrap();
        let key: Vec<&str> = key.split_whitespace().take(2).collect();
        // On any port, so that a proxy before it is known, too.
        let line = format!("[127.0.0.1]:* {}\n", key.join(" "));
        fs::write(self.known_hosts(), line).unwrap();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill_sessions();
        self.stop_listening();
    }
}

/// An account of a backup host in a chroot, as `host prepare` makes it. It is removed when it is dropped. Root only.
pub struct Account {
    name: String,
    chroot: PathBuf,
}

impl Account {
    /// An account whose folders are prepared: it can add objects and nothing else.
    pub fn append_only() -> Self {
        let account = Self::new();
        let repository = account.repository();
        for folder in Folder::ALL {
            let path = repository.join(folder.name());
            fs::create_dir(&path).unwrap();
            chown(&path, Some(0), Some(account.group())).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o1770)).unwrap();
        }
        account
    }

    /// An account with nothing but the folder of its repository, which it owns.
    pub fn fresh() -> Self {
        let account = Self::new();
        chown(account.repository(), Some(account.user()), Some(account.group())).unwrap();
        account
    }

    fn new() -> Self {
        // Every folder above a chroot must be root's and writable by nobody else, which /tmp isn't.
        let above = Path::new("/var/lib/varu-test");
        fs::create_dir_all(above).unwrap();
        let chroot = tempfile::Builder::new().prefix("").rand_bytes(10).tempdir_in(above).unwrap().keep();
        let name = format!("varu-{}", chroot.file_name().unwrap().to_str().unwrap().to_lowercase());
        fs::set_permissions(&chroot, Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(chroot.join("repo")).unwrap();
        let account = Self { name, chroot };
        manage(&[
            "useradd",
            "--no-create-home",
            "--home-dir",
            "/",
            "--shell",
            "/usr/sbin/nologin",
            "--password",
            "*",
            &account.name,
        ]);
        account
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The repository's folder, as root sees it.
    pub fn repository(&self) -> PathBuf {
        self.chroot.join("repo")
    }

    /// The lines of sshd_config that make it append-only, or an ordinary account in a chroot.
    pub fn config(&self, append_only: bool) -> String {
        let (name, chroot) = (&self.name, self.chroot.display());
        let only = if append_only { format!(" -u 0222 -p {ALLOWED}") } else { String::new() };
        format!(
            "Match User {name}\n    ChrootDirectory {chroot}\n    ForceCommand internal-sftp{only}\n    \
             DisableForwarding yes\n    PermitTTY no\n"
        )
    }

    /// Its repository on a server.
    pub fn place(&self, server: &Sshd) -> SftpPlace {
        place(&self.name, server.port(), "/repo")
    }

    fn user(&self) -> u32 {
        self.id("-u")
    }

    fn group(&self) -> u32 {
        self.id("-g")
    }

    fn id(&self, which: &str) -> u32 {
        let shown = Command::new("id").args([which, &self.name]).output().unwrap().stdout;
        String::from_utf8(shown).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        manage(&["userdel", &self.name]);
        let _ = fs::remove_dir_all(&self.chroot);
    }
}

/// Takes an account away.
pub fn forget_account(name: &str) {
    manage(&["userdel", name]);
}

/// Whether root runs the test: without it there are no accounts to make.
pub fn is_root() -> bool {
    whoami() == "root"
}

fn whoami() -> String {
    let shown = Command::new("id").arg("-un").output().unwrap().stdout;
    String::from_utf8(shown).unwrap().trim().to_owned()
}

fn place(user: &str, port: u16, path: impl AsRef<Path>) -> SftpPlace {
    let url = format!("sftp://{user}@127.0.0.1:{port}{}", path.as_ref().display());
    match Location::parse(&url).unwrap() {
        Location::Sftp(place) => place,
        Location::Local(_) => unreachable!("{url} is no local path"),
    }
}

fn make_key(file: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status().unwrap();
    assert!(made.success(), "ssh-keygen failed");
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn listen(base: &Path) -> Child {
    let log = File::options().create(true).append(true).open(base.join("log")).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.arg("-f").arg(base.join("sshd_config")).args(["-D", "-e"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Waits until a server greets.
fn comes_up(listener: &mut Child, port: u16) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if listener.try_wait().unwrap().is_some() {
            return false;
        }
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let mut greeting = [0; 4];
            return stream.read_exact(&mut greeting).is_ok() && greeting == *b"SSH-";
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// The children of a process.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn signal(signal: &str, pids: &[u32]) {
    if !pids.is_empty() {
        let _ = Command::new("kill").arg(signal).args(pids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
    }
}

/// Runs a program that changes the accounts, and again while another one holds their lock.
fn manage(command: &[&str]) {
    for _ in 0..200 {
        let done = Command::new(command[0]).args(&command[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        match done.status.success() {
            true => return,
            false if said.contains("lock") => std::thread::sleep(Duration::from_millis(50)),
            false => panic!("{command:?}: {said}"),
        }
    }
    panic!("{command:?}: the accounts stay locked");
}
