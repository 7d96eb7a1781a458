//! A real PostgreSQL server on a socket of its own, in a temporary folder, ended by the process that was started: this
//! machine's, or the one that the suite is [told](crate::release) to run on.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::release::{self, Release};

pub struct Postgres {
    folder: tempfile::TempDir,
    _log: tempfile::TempDir,
    server: Child,
}

/// The folder of the server's own programs, the newest version's.
fn programs(release: Option<&Release>) -> Option<PathBuf> {
    if let Some(release) = release {
        return Some(release.program("postgres").parent()?.to_owned());
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// The server refuses to be root's: a program as the user `postgres`, where the test is root.
fn as_postgres(program: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = match is_root {
        true => Command::new("setpriv"),
        false => Command::new(program),
    };
    if is_root {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    }
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LC_ALL", "C.UTF-8");
    command
}

/// A folder below `parent` that the user `postgres` may write.
fn folder(parent: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(parent).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// A data folder of the release, made once and copied for each server.
fn template(release: Option<&Release>) -> &'static Path {
    static OF_RELEASE: OnceLock<tempfile::TempDir> = OnceLock::new();
    static OWN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = if release.is_some() { &OF_RELEASE } else { &OWN };
    let made = made.get_or_init(|| {
        let folder = folder(&std::env::temp_dir());
        let mut initdb = as_postgres(&programs(release).unwrap().join("initdb"));
        initdb
            .arg("--no-sync")
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "-D"])
            .arg(folder.path().join("data"));
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    });
    made.path()
}

impl Postgres {
    /// Starts a server with an empty data folder. None, with a word why, where it isn't installed.
    pub fn start() -> Option<Self> {
        Self::start_below(&std::env::temp_dir())
    }

    /// As [`Postgres::start`], with its data below that folder, which the user `postgres` may enter; but its log is not there,
    /// for a server whose log has no room ends.
    pub fn start_below(parent: &Path) -> Option<Self> {
        Self::start_of(release::of_this_process(), parent)
    }

    /// This machine's own server, whatever release the suite runs on.
    pub fn start_of_this_machine() -> Option<Self> {
        Self::start_of(None, &std::env::temp_dir())
    }

    fn start_of(release: Option<&Release>, parent: &Path) -> Option<Self> {
        let Some(programs) = programs(release) else {
            eprintln!("skipped: postgresql is not installed");
            return None;
        };
        let folder = folder(parent);
        let copied =
            as_postgres(Path::new("cp")).arg("-a").arg(template(release).join("data")).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        let wal = self::folder(&std::env::temp_dir());
        let (here, there) = (folder.path().join("data/pg_wal"), wal.path().join("pg_wal"));
        assert!(as_postgres(Path::new("mv")).args([&here, &there]).status().unwrap().success());
        assert!(as_postgres(Path::new("ln")).arg("-s").args([&there, &here]).status().unwrap().success());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut server = as_postgres(&programs.join("postgres"));
        server.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path());
        server.args(["-F", "-c", "listen_addresses=", "-c", "shared_buffers=32MB", "-c", "autovacuum=off"]);
        let server = server.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let database = Self { folder, _log: wal, server };
        let start = Instant::now();
        while database.try_sql("postgres", "SELECT 1").is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "the server did not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(database)
    }

    /// The first number of its version.
    pub fn version(&self) -> u32 {
        self.sql("postgres", "SHOW server_version_num").trim().parse::<u32>().unwrap() / 10_000
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    fn client(&self, database: &str) -> Command {
        let mut client = Command::new("psql");
        client.env_remove("PGOPTIONS").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]);
        client.arg(self.folder.path()).args(["-d", database]);
        client
    }

    /// Runs statements in a database, and returns their answers.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.try_sql(database, statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        Self::told(self.client(database), statements)
    }

    /// As [`Postgres::sql`], logged in as that role.
    #[track_caller]
    pub fn sql_as(&self, role: &str, database: &str, statements: &str) -> String {
        let mut client = self.client(database);
        client.args(["-U", role]);
        Self::told(client, statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    fn told(mut client: Command, statements: &str) -> Result<String, String> {
        let mut running = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = running.stdin.take().unwrap();
        let text = format!("{statements};\n");
        let writer = std::thread::spawn(move || _ = stdin.write_all(text.as_bytes()));
        let output = running.wait_with_output().unwrap();
        writer.join().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// A plain dump that makes its database.
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let mut dump = Command::new("pg_dump");
        dump.args(["-U", "postgres", "-C", "--restrict-key=test", "-h"]).arg(self.folder.path()).arg(database);
        dump.output().unwrap().stdout
    }

    /// All that a dump of a database shows, and the roles.
    pub fn picture(&self, database: &str) -> String {
        let text = String::from_utf8(self.dump(database)).unwrap();
        // With a capital letter in it a name is quoted.
        let text = text.replace(&format!("\"{database}\""), "DATABASE").replace(database, "DATABASE");
        let mut roles = Command::new("pg_dumpall");
        roles.args(["-U", "postgres", "-g", "--restrict-key=test", "-h"]).arg(self.folder.path());
        let roles = String::from_utf8(roles.output().unwrap().stdout).unwrap();
        // The role of a restore that was killed goes with the next one.
        let stays = |line: &&str| !line.contains("varu_restore_");
        text + &roles.lines().filter(stays).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its own process, by the handle that started it. At its end its children end, too.
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.server.wait();
    }
}
