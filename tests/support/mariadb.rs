//! A real MariaDB server on a socket of its own, in a temporary folder, ended by the process that was started.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct MariaDb {
    folder: tempfile::TempDir,
    server: Child,
}

impl MariaDb {
    /// Starts a server with an empty data folder. None, with a word why, where it isn't installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`MariaDb::start`], with more options for the server.
    pub fn start_with(options: &[&str]) -> Option<Self> {
        if Command::new("mariadbd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: mariadb-server is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // Each server its own: one that starts removes every temporary table that it finds in its folder.
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let user = if std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0
        {
            "root"
        } else {
            ""
        };
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", scratch.display()));
        if !user.is_empty() {
            install.arg(format!("--user={user}"));
        }
        // On a machine that does much else at the same time it may not come up at once.
        let installed = (0..3).any(|_| {
            let _ = std::fs::remove_dir_all(&data);
            install.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
        assert!(installed, "mariadb-install-db failed");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut server = Command::new("mariadbd");
        server.args([
            "--no-defaults",
            "--skip-networking",
            "--innodb-flush-log-at-trx-commit=0",
            "--max-allowed-packet=64M",
        ]);
        server.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", scratch.display()));
        server.arg(format!("--socket={}", folder.path().join("sock").display()));
        server.arg(format!("--pid-file={}", folder.path().join("pid").display()));
        if !user.is_empty() {
            server.arg(format!("--user={user}"));
        }
        server.args(options);
        let server = server.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let database = Self { folder, server };
        database.wait();
        Some(database)
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

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn client(&self) -> Command {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-u", "root", "-N", "-B"]).arg(format!("--socket={}", self.socket().display()));
        client
    }

    /// Runs statements and returns what they print.
    pub fn sql(&self, statements: &str) -> String {
        let mut client = self.client();
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs statements that may fail.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        let mut client = self.client();
        let output = client.arg("-e").arg(statements).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Loads a dump.
    pub fn load(&self, dump: &Path) {
        let file = std::fs::File::open(dump).unwrap();
        assert!(self.client().stdin(file).status().unwrap().success());
    }

    /// A dump of one database, as a child whose output is a pipe.
    pub fn dump(&self, database: &str) -> Command {
        let mut dump = Command::new("mariadb-dump");
        dump.args(["--no-defaults", "-u", "root", "--single-transaction", "--order-by-primary", "--skip-dump-date"]);
        dump.args(["--routines", "--events", "--triggers", "--hex-blob"]);
        dump.arg(format!("--socket={}", self.socket().display())).args(["--databases", database]);
        dump
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // Its own process, by the handle that started it. It may have ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
