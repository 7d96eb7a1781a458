//! A real server of the MySQL family on a socket of its own, in a temporary folder, ended by the process that was started:
//! this machine's MariaDB, or the one that the suite is [told](crate::release) to run on.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::release::{self, Release};

pub struct MariaDb {
    folder: tempfile::TempDir,
    options: Vec<String>,
    /// Whose programs it is; None for this machine's.
    release: Option<&'static Release>,
    server: Mutex<Child>,
}

/// The option without which the server's programs refuse to be run by root; None for other users.
fn as_root() -> Option<&'static str> {
    let own = std::fs::metadata("/proc/self").unwrap();
    (std::os::unix::fs::MetadataExt::uid(&own) == 0).then_some("--user=root")
}

/// A program of that release, or of this machine: a suite's `PATH` may begin with another release's.
fn program(release: Option<&Release>, name: &str) -> PathBuf {
    match release {
        Some(release) => release.program(name),
        None => {
            let own = |folder: &str| Some(Path::new(folder).join(name)).filter(|path| path.exists());
            own("/usr/sbin").or_else(|| own("/usr/bin")).unwrap_or_else(|| name.into())
        }
    }
}

/// The server itself.
fn serve(folder: &Path, options: &[String], release: Option<&Release>) -> Child {
    let is_mysql = release.is_some_and(Release::is_mysql);
    let at = |name: &str| folder.join(name).display().to_string();
    let log = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
    let mut server = Command::new(program(release, if is_mysql { "mysqld" } else { "mariadbd" }));
    server.args([
        "--no-defaults",
        "--skip-networking",
        "--innodb-flush-log-at-trx-commit=0",
        "--max-allowed-packet=64M",
    ]);
    server.args(release.map(|release| format!("--basedir={}", release.usr().display())));
    match is_mysql {
        true => {
            server.args(["--mysqlx=OFF", "--secure-file-priv=NULL", "--innodb-redo-log-capacity=32M"]);
            server.args([
                "--innodb-buffer-pool-size=64M",
                "--innodb-doublewrite=OFF",
                "--cte-max-recursion-depth=9999999",
            ]);
            // As MariaDB's server has it, unless the test says otherwise.
            server.args(["--skip-log-bin", "--log-error-verbosity=1"]);
        }
        false => _ = server.args(["--innodb-log-file-size=16M", "--aria-log-file-size=8M"]),
    }
    server.arg(format!("--datadir={}", at("data"))).arg(format!("--tmpdir={}", at("scratch")));
    server.arg(format!("--socket={}", at("sock"))).arg(format!("--pid-file={}", at("pid")));
    server.args(as_root()).args(options).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Whether the server is MySQL's.
pub fn is_mysql() -> bool {
    release::of_this_process().is_some_and(Release::is_mysql)
}

/// Statements as the server knows them. MariaDB has tables of numbers, and functions that MySQL has lost.
fn spoken(statements: &str, is_mysql: bool) -> Cow<'_, str> {
    if !is_mysql {
        return statements.into();
    }
    let mut text = String::new();
    let mut rest = statements;
    while let Some(at) = ["seq_1_to_", "MD5("].iter().filter_map(|word| rest.find(word)).min() {
        text += &rest[..at];
        rest = &rest[at..];
        match rest.strip_prefix("seq_1_to_") {
            Some(more) => {
                let digits = more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
                text += &format!(
                    "(WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < {}) SELECT seq FROM n) n",
                    &more[..digits]
                );
                rest = &more[digits..];
            }
            None => {
                let mut depth = 0;
                let end = rest.find(|c| {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    c == ')' && depth == 0
                });
                let end = end.expect("a bracket that closes");
                text += &format!("LEFT(SHA2({}, 256), 32)", spoken(&rest[4..end], true));
                rest = &rest[end + 1..];
            }
        }
    }
    (text + rest).into()
}

impl MariaDb {
    /// Starts a server with an empty data folder. None, with a word why, where it isn't installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`MariaDb::start`], with more options for the server.
    pub fn start_with(options: &[&str]) -> Option<Self> {
        Self::start_below(&std::env::temp_dir(), options)
    }

    /// This machine's own server, whatever release the suite runs on.
    pub fn start_of_this_machine() -> Option<Self> {
        Self::start_of(None, &std::env::temp_dir(), &[])
    }

    /// As [`MariaDb::start_with`], with its data below that folder.
    pub fn start_below(folder: &Path, options: &[&str]) -> Option<Self> {
        Self::start_of(release::of_this_process(), folder, options)
    }

    fn start_of(release: Option<&'static Release>, folder: &Path, options: &[&str]) -> Option<Self> {
        if release.is_none()
            && Command::new(program(None, "mariadbd")).arg("--version").stdout(Stdio::null()).status().is_err()
        {
            eprintln!("skipped: mariadb-server is not installed");
            return None;
        }
        let folder = tempfile::tempdir_in(folder).unwrap();
        let data = folder.path().join("data");
        // Each server its own: one that starts removes every temporary table that it finds in its folder.
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let mut install = Command::new(program(release, "mariadb-install-db"));
        install.arg("--no-defaults");
        install.args(release.map(|release| format!("--basedir={}", release.usr().display())));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--innodb-log-file-size=16M", "--aria-log-file-size=8M"]);
        install.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", scratch.display()));
        install.args(as_root());
        if let Some(release) = release.filter(|release| release.is_mysql()) {
            install = Command::new("cp");
            install.args(["-a", "--sparse=always"]).arg(release.data()).arg(&data);
        }
        // On a machine that does much else at the same time it may not come up at once.
        let installed = (0..3).any(|_| {
            let _ = std::fs::remove_dir_all(&data);
            install.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
        assert!(installed, "mariadb-install-db failed");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let server = Mutex::new(serve(folder.path(), &options, release));
        let database = Self { folder, options, release, server };
        database.wait();
        Some(database)
    }

    /// Ends it with that signal and starts it again.
    pub fn restart(&self, signal: &str) {
        self.restart_with(signal, &[]);
    }

    /// As [`MariaDb::restart`], with more options until the next one.
    pub fn restart_with(&self, signal: &str, options: &[&str]) {
        let mut server = self.server.lock().unwrap();
        let pid = server.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        server.wait().unwrap();
        let options = self.options.iter().cloned().chain(options.iter().map(|&option| option.to_owned()));
        *server = serve(self.folder.path(), &options.collect::<Vec<_>>(), self.release);
        drop(server);
        self.wait();
    }

    fn wait(&self) {
        let start = Instant::now();
        while !self
            .client()
            .arg("-e")
            .arg("SELECT 1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "mariadbd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The name of the server's client.
    pub fn client_program() -> &'static str {
        if is_mysql() { "mysql" } else { "mariadb" }
    }

    /// The name of the server's dump program.
    pub fn dump_program() -> &'static str {
        if is_mysql() { "mysqldump" } else { "mariadb-dump" }
    }

    fn is_mysql(&self) -> bool {
        self.release.is_some_and(Release::is_mysql)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn client(&self) -> Command {
        let name = if self.is_mysql() { "mysql" } else { "mariadb" };
        let mut client = Command::new(program(self.release, name));
        client
            .args(["--no-defaults", "-u", "root", "-N", "-B", "--default-character-set=utf8mb4"])
            .arg(format!("--socket={}", self.socket().display()));
        client
    }

    /// Runs statements and returns their output.
    pub fn sql(&self, statements: &str) -> String {
        let mut client = self.client();
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(spoken(statements, self.is_mysql()).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs statements that may fail.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        let mut client = self.client();
        let output = client.arg("-e").arg(&*spoken(statements, self.is_mysql())).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.server.lock().unwrap().id()
    }

    /// Loads a dump.
    pub fn load(&self, dump: &Path) {
        let file = std::fs::File::open(dump).unwrap();
        assert!(self.client().stdin(file).status().unwrap().success());
    }

    /// A dump of one database, as a child whose output is a pipe.
    pub fn dump(&self, database: &str) -> Command {
        let mut dump = Command::new(Self::dump_program());
        dump.args(["--no-defaults", "-u", "root", "--single-transaction", "--order-by-primary", "--skip-dump-date"]);
        dump.args(["--routines", "--events", "--triggers", "--hex-blob"]);
        dump.arg(format!("--socket={}", self.socket().display())).args(["--databases", database]);
        dump
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // Its own process, by the handle that started it. It may have ended already.
        let Ok(server) = self.server.get_mut() else { return };
        let _ = server.kill();
        let _ = server.wait();
    }
}
