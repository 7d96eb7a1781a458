//! A real InfluxDB server on ports of its own, in a temporary folder, ended by the process that was started.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

pub struct Influx {
    folder: tempfile::TempDir,
    server: Mutex<Child>,
    pub http: u16,
    pub rpc: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn http(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Writes points to the server on that port, a line each. Whether they were taken.
pub fn write(port: u16, database: &str, policy: &str, lines: &str) -> bool {
    let answer = http(port, "POST", &format!("/write?db={database}&rp={policy}"), lines);
    answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 204"))
}

impl Influx {
    /// Starts a server with nothing in it. None, with a word why, where it isn't installed.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// As [`Influx::start`], with more lines at the end of its configuration, in the section of its questions.
    pub fn start_with(http: &str) -> Option<Self> {
        if Command::new("influxd").arg("version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: influxdb is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (web, rpc) = (free_port(), free_port());
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{}\"\n[data]\ndir = \"{}\"\nwal-dir = \
             \"{}\"\n[monitor]\nstore-enabled = false\n[continuous_queries]\nrun-interval = \"1h\"\n[http]\nbind-address = \
             \"127.0.0.1:{web}\"\nlog-enabled = false\n{http}\n",
            at("meta"),
            at("data"),
            at("wal")
        );
        std::fs::write(folder.path().join("conf"), config).unwrap();
        let server = Mutex::new(Self::spawn(folder.path()));
        let database = Self { folder, server, http: web, rpc };
        database.wait();
        Some(database)
    }

    fn spawn(folder: &Path) -> Child {
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let mut server = Command::new("influxd");
        server.arg("-config").arg(folder.join("conf")).env("HOME", folder);
        server.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn wait(&self) {
        let start = Instant::now();
        while self.http("GET", "/ping", "").is_none_or(|answer| !answer.starts_with("HTTP/1.1 204")) {
            if start.elapsed() > Duration::from_secs(120) {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(5).collect();
                panic!("the server did not come up; the end of its log, last line first:\n{}", end.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server in the middle of its work.
    pub fn kill(&self) {
        let mut server = self.server.lock().unwrap();
        let _ = server.kill();
        let _ = server.wait();
    }

    /// Starts it again.
    pub fn restart(&self) {
        self.kill();
        *self.server.lock().unwrap() = Self::spawn(self.folder.path());
        self.wait();
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.server.lock().unwrap().id()
    }

    fn http(&self, method: &str, path: &str, body: &str) -> Option<String> {
        http(self.http, method, path, body)
    }

    /// Writes points, a line each. Whether they were taken.
    pub fn write(&self, database: &str, policy: &str, lines: &str) -> bool {
        write(self.http, database, policy, lines)
    }

    /// Asks a question with the server's own client.
    #[track_caller]
    pub fn ask(&self, question: &str) -> Value {
        self.ask_in("", question)
    }

    /// As [`Influx::ask`], in a database.
    #[track_caller]
    pub fn ask_in(&self, database: &str, question: &str) -> Value {
        let mut client = Command::new("influx");
        client.args(["-host", "127.0.0.1", "-port", &self.http.to_string(), "-format", "json", "-execute", question]);
        client.args(["-database", database]);
        let mut output = client.output().unwrap();
        // So it says while a restore that has ended continues in it.
        while String::from_utf8_lossy(&output.stdout).contains("shard is disabled") {
            std::thread::sleep(Duration::from_millis(100));
            output = client.output().unwrap();
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{question}: {text}");
        serde_json::from_str(text.lines().next().unwrap_or("null")).unwrap_or(Value::Null)
    }

    /// A database's distinguishing content: each value of each measurement, and its definitions.
    pub fn picture(&self, database: &str, policies: &[&str]) -> String {
        let mut text = String::new();
        for policy in policies {
            let all = self.ask(&format!("SELECT * FROM \"{database}\".\"{policy}\"./.*/ GROUP BY *"));
            text += &format!("{policy}: {all}\n");
        }
        text + &self.ask(&format!("SHOW RETENTION POLICIES ON \"{database}\"")).to_string()
    }

    /// Lines of a set whose database is on this server.
    pub fn lines(&self, more: &str) -> String {
        format!(
            "source = \"influxdb\"\ndatabase = \"telegraf\"\nhost = \"127.0.0.1:{}\"\nrpc = \"127.0.0.1:{}\"\n{more}",
            self.http, self.rpc
        )
    }
}

impl Drop for Influx {
    fn drop(&mut self) {
        // Its own process, by the handle that started it.
        self.kill();
    }
}
