//! The server and its programs: how they are run, and questions to the server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::entry::Escaped;
use crate::progress::Interrupt;
use crate::source::Error;
use crate::source::command::talk::{Feed, TalkError, ask};

/// Where a server is, and how its programs are run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InfluxdbServerOptions {
    /// Where it answers questions: a host, with or without `:port`.
    pub host: Option<String>,
    /// Where it gives and takes backups: a host, with or without `:port`.
    pub rpc: Option<String>,
    /// A file of lines for a shell that set `INFLUX_USERNAME` and `INFLUX_PASSWORD`.
    pub option_file: Option<PathBuf>,
    /// Words that go before every program.
    pub exec: Vec<String>,
}

/// A server that answers.
#[derive(Debug, Clone)]
pub struct InfluxdbServer {
    options: InfluxdbServerOptions,
    /// Its version: `1.6.7`.
    pub version: String,
    interrupt: Interrupt,
}

/// One table of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name; empty where it has none.
    pub name: String,
    /// Its subject: `database`, `id`.
    pub tags: BTreeMap<String, String>,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<Value>>,
}

impl Series {
    /// The value of that column as a text; empty where there is none.
    pub fn text(&self, row: &[Value], column: &str) -> String {
        let at = self.columns.iter().position(|name| name == column);
        match at.and_then(|at| row.get(at)) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }
}

/// One shard, as the server names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// Its number.
    pub id: u64,
    /// Its retention policy.
    pub policy: String,
    /// From when on its points are, and until when: RFC 3339.
    pub times: (String, String),
}

/// The most bytes of an answer.
const ANSWER: usize = 256 << 20;
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long a shard may be closed before a question that meets it fails.
const SHARD_PATIENCE: Duration = Duration::from_secs(10);
/// The pause before the question is asked again.
const SHARD_PAUSE: Duration = Duration::from_millis(200);
/// How long a backup or a restore may take.
const TRANSFER: Duration = Duration::from_secs(24 * 3600);
/// The default address of a server.
const HOST: &str = "127.0.0.1";
const HTTP_PORT: &str = "8086";
const RPC_PORT: &str = "8088";

impl InfluxdbServer {
    /// Asks the server who it is.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no client, [`Error::Failed`] if the server doesn't answer.
    pub fn connect(options: &InfluxdbServerOptions, interrupt: &Interrupt) -> Result<Self, Error> {
        for (program, word) in [("influx", "-version"), ("influxd", "version")] {
            let argv = argv(options, &[program, word]);
            ask(&argv, b"", 1 << 20, Duration::from_secs(60), interrupt).map_err(|error| {
                Error::Config(format!(
                    "{program} can't be run, so install the packages influxdb and influxdb-client: {error}"
                ))
            })?;
        }
        let mut server = Self { options: options.clone(), version: String::new(), interrupt: interrupt.clone() };
        let answer = server.ask("SHOW DIAGNOSTICS")?;
        let build = answer.iter().find(|series| series.name == "build");
        server.version = build
            .and_then(|build| Some(build.text(build.rows.first()?, "Version")))
            .ok_or_else(|| Error::Failed("the server doesn't say which version it is".to_owned()))?;
        if !server.version.starts_with("1.") {
            return Err(Error::Config(format!(
                "the server is InfluxDB {}, and the source influxdb is for 1.x; the recipe for others is a command",
                server.version
            )));
        }
        Ok(server)
    }

    fn client(&self) -> Vec<OsString> {
        let (host, port) = host_and_port(self.options.host.as_deref(), HTTP_PORT);
        // It takes statements as an option only; so no statement of ours may hold a secret.
        argv(&self.options, &["influx", "-host", host, "-port", port, "-format", "json", "-execute"])
    }

    /// Asks the server.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the server says.
    pub fn ask(&self, statements: &str) -> Result<Vec<Series>, Error> {
        let begun = Instant::now();
        loop {
            match self.ask_once(statements) {
                // The server closes a shard that is restored or dropped and opens it again. Each statement that is asked
                // here can be asked twice.
                Err(error)
                    if error.has_code(ENGINE_IS_CLOSED)
                        && begun.elapsed() < SHARD_PATIENCE
                        && !self.interrupt.is_set() =>
                {
                    std::thread::sleep(SHARD_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    fn ask_once(&self, statements: &str) -> Result<Vec<Series>, Error> {
        let mut words = self.client();
        words.push(statements.into());
        let asked = Feed::start(&words, ANSWER, self.interrupt.clone())
            .map_err(|error| Error::failed("starting influx", &error))?
            .with_limit(PATIENCE)
            .finish_anyway();
        let failed = |why: &dyn std::fmt::Display| {
            let text = format!("asking the server with influx failed: {why}");
            Error::server(code(&text), text)
        };
        let (answer, error) = asked.map_err(|error| failed(&error))?;
        let parsed = parse(&answer);
        match (parsed, error) {
            (Ok(_), Some(error)) => Err(failed(&said(&error))),
            (Ok(series), None) => Ok(series),
            (Err(why), _) if code(&why).as_deref() == Some(NOT_AUTHORIZED) => Err(Error::Config(format!(
                "{why}; a backup has to see users and their grants, and only an administrator does: GRANT ALL PRIVILEGES TO \
                     the user of the option file"
            ))),
            (Err(why), _) => Err(failed(&why)),
        }
    }

    /// The names of a question's one column.
    fn names(&self, question: &str, column: &str) -> Result<Vec<String>, Error> {
        let answer = self.ask(question)?;
        let names = answer.iter().flat_map(|series| series.rows.iter().map(|row| series.text(row, column)));
        Ok(names.collect())
    }

    /// Where it keeps its data, if that is on this machine.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn data_folder(&self) -> Result<Option<PathBuf>, Error> {
        let (host, _) = host_and_port(self.options.host.as_deref(), HTTP_PORT);
        if !self.options.exec.is_empty() || !matches!(host, HOST | "localhost" | "[::1]") {
            return Ok(None);
        }
        let answer = self.ask("SHOW DIAGNOSTICS")?;
        let config = answer.iter().find(|series| series.name == "config-data");
        Ok(config.and_then(|config| Some(PathBuf::from(config.text(config.rows.first()?, "dir")))))
    }

    /// Its address for queries, which identifies it.
    pub fn address(&self) -> String {
        let (host, port) = host_and_port(self.options.host.as_deref(), HTTP_PORT);
        format!("{} {host}:{port}", self.options.exec.join(" ")).trim_start().to_owned()
    }

    /// The databases.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn databases(&self) -> Result<Vec<String>, Error> {
        self.names("SHOW DATABASES", "name")
    }

    /// The measurements of a database.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn measurements(&self, database: &str) -> Result<Vec<String>, Error> {
        self.names(&format!("SHOW MEASUREMENTS ON {}", quoted(database)), "name")
    }

    /// Limits of the server's configuration that are on, with which it refuses to count.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn limits(&self) -> Result<Vec<String>, Error> {
        let answer = self.ask("SHOW DIAGNOSTICS")?;
        let Some(config) = answer.iter().find(|series| series.name == "config-coordinator") else {
            return Ok(Vec::new());
        };
        let Some(row) = config.rows.first() else { return Ok(Vec::new()) };
        let names = ["max-select-point", "max-select-series", "max-select-buckets", "query-timeout"];
        let values = names.map(|name| (name, config.text(row, name)));
        let on = values.iter().filter(|(_, value)| !["", "0", "0s"].contains(&value.as_str()));
        Ok(on.map(|(name, value)| format!("{name} = {value}")).collect())
    }

    /// The shards of a database.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn shards(&self, database: &str) -> Result<Vec<Shard>, Error> {
        let mut shards = Vec::new();
        for series in self.ask("SHOW SHARDS")?.iter().filter(|series| series.name == database) {
            for row in &series.rows {
                let id = series.text(row, "id").parse();
                let id = id.map_err(|_| Error::Failed("a shard of the server has no number".to_owned()))?;
                let times = (series.text(row, "start_time"), series.text(row, "end_time"));
                shards.push(Shard { id, policy: series.text(row, "retention_policy"), times });
            }
        }
        shards.sort();
        Ok(shards)
    }

    /// The shards of a database that are open, each with how many points were written into it since the server started. One
    /// that was made ahead of its time, and that nothing was written to, is none of them.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn open_shards(&self, database: &str) -> Result<BTreeMap<u64, u64>, Error> {
        let answer = self.ask("SHOW STATS FOR 'shard'")?;
        let tag = |series: &Series, name: &str| series.tags.get(name).cloned().unwrap_or_default();
        let ours = answer.iter().filter(|series| series.name == "shard" && tag(series, "database") == database);
        let shard = |series: &Series| {
            let written = series.rows.first().and_then(|row| series.text(row, "writePointsOk").parse().ok());
            Some((tag(series, "id").parse().ok()?, written.unwrap_or(0)))
        };
        Ok(ours.filter_map(shard).collect())
    }

    /// How many points were written into a database since the server started.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn written(&self, database: &str) -> Result<u64, Error> {
        Ok(self.open_shards(database)?.values().sum())
    }

    /// Whether the server has values where a shard's would be.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn has_values(&self, database: &str, shard: &Shard) -> Result<bool, Error> {
        let (from, to) = &shard.times;
        let (database, policy) = (quoted(database), quoted(&shard.policy));
        let question =
            format!("SELECT count(*) FROM {database}.{policy}./.*/ WHERE time >= '{from}' AND time < '{to}'");
        Ok(!self.ask(&question)?.is_empty())
    }

    /// Runs statements that answer nothing.
    ///
    /// # Errors
    /// As [`InfluxdbServer::ask`].
    pub fn run(&self, statements: &str) -> Result<(), Error> {
        self.ask(statements).map(drop)
    }

    /// Backs a database up into a folder, as a portable backup.
    ///
    /// # Errors
    /// [`Error::Failed`] if the program doesn't end well.
    pub fn back_up(&self, database: &str, folder: &Path) -> Result<(), Error> {
        self.transfer("backup", &["-database", database], folder)
    }

    /// Restores a portable backup of the database `from` as the new database `to`.
    ///
    /// # Errors
    /// [`Error::Failed`] if the program doesn't end well. That it ends well says little.
    pub fn restore(&self, from: &str, to: &str, folder: &Path) -> Result<(), Error> {
        self.transfer("restore", &["-db", from, "-newdb", to], folder)
    }

    fn transfer(&self, what: &str, more: &[&str], folder: &Path) -> Result<(), Error> {
        self.check_rpc()?;
        let (host, port) = host_and_port(self.options.rpc.as_deref(), RPC_PORT);
        let address = format!("{host}:{port}");
        let mut words = argv(&self.options, &["influxd", what, "-portable", "-host", &address]);
        words.extend(more.iter().map(OsString::from));
        words.push(folder.into());
        let failed = |error: &dyn std::fmt::Display| Error::Failed(format!("influxd {what} failed: {error}"));
        Feed::start(&words, ANSWER, self.interrupt.clone())
            .map_err(|error| failed(&error))?
            .with_limit(TRANSFER)
            // It would try again for minutes, and with a server that was away between two shards.
            .stopping_at("failed dial tcp")
            .finish()
            .map(drop)
            .map_err(|error| match code(&error.said).as_deref() == Some(NO_SPACE) {
                true => Error::NoSpace(format!("influxd {what} failed: {}: {}", folder.display(), said(&error))),
                false => failed(&said(&error)),
            })
    }

    /// Whether the port of backups can be reached. Its program would try for minutes.
    ///
    /// # Errors
    /// [`Error::Failed`] if it can't.
    pub fn check_rpc(&self) -> Result<(), Error> {
        let (host, port) = host_and_port(self.options.rpc.as_deref(), RPC_PORT);
        // Where programs run elsewhere, it is reached from there.
        if !self.options.exec.is_empty() {
            return Ok(());
        }
        let address = format!("{host}:{port}");
        let reached = address.to_socket_addrs().and_then(|mut addresses| {
            let none = || std::io::Error::other("the host has no address");
            TcpStream::connect_timeout(&addresses.next().ok_or_else(none)?, Duration::from_secs(10))
        });
        reached.map(drop).map_err(|error| {
            Error::Failed(format!(
                "the port of backups, {address}, can't be reached: {error}; it is bind-address at the top of influxdb.conf, and \
                 rpc in the set"
            ))
        })
    }
}

/// Error codes of ours for the server's messages, which have none.
const CODES: [(&str, &str); 5] = [
    ("engine is closed", ENGINE_IS_CLOSED),
    ("shard is disabled", SHARD_IS_DISABLED),
    ("not authorized", NOT_AUTHORIZED),
    ("requires admin", NOT_AUTHORIZED),
    ("no space left on device", NO_SPACE),
];
/// A shard is being restored or dropped.
pub const ENGINE_IS_CLOSED: &str = "engine-closed";
/// A shard isn't read yet.
pub const SHARD_IS_DISABLED: &str = "shard-disabled";
/// The user may not do that.
pub const NOT_AUTHORIZED: &str = "not-authorized";
/// The server's or the program's disk is full.
pub const NO_SPACE: &str = "no-space";

/// The code of a message of the server or its program.
fn code(said: &str) -> Option<String> {
    CODES.iter().find(|(words, _)| said.contains(words)).map(|(_, code)| (*code).to_owned())
}

/// The program's last message, without its warnings.
fn said(error: &TalkError) -> String {
    let lines = error.said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("It is possible"));
    let last: Vec<&str> = lines.collect();
    format!("it {}: {}", error.what, last[last.len().saturating_sub(2)..].join("; "))
}

/// Whether a document is a part of an answer.
fn is_part(document: &Value) -> bool {
    let results = document["results"].as_array().into_iter().flatten();
    results.into_iter().any(|result| {
        let series = result["series"].as_array().into_iter().flatten();
        result["partial"] == true || series.into_iter().any(|series| series["partial"] == true)
    })
}

/// An answer of `-format json`: a document a line.
fn parse(answer: &[u8]) -> Result<Vec<Series>, String> {
    let (mut all, mut goes_on) = (Vec::new(), false);
    for document in serde_json::Deserializer::from_slice(answer).into_iter::<Value>() {
        let Ok(document) = document else {
            // After an error the client adds its own words about possible reasons.
            break;
        };
        goes_on = is_part(&document);
        let results = document["results"].as_array().cloned().unwrap_or_default();
        for value in std::iter::once(&document).chain(&results) {
            if let Some(error) = value["error"].as_str() {
                return Err(Escaped(error.as_bytes()).to_string());
            }
        }
        let tables = results.iter().filter_map(|result| result["series"].as_array()).flatten();
        all.extend(tables.map(series));
    }
    match goes_on {
        true => {
            Err("the server cut its answer: set max-row-limit = 0 in the section [http] of influxdb.conf".to_owned())
        }
        false => Ok(all),
    }
}

fn series(value: &Value) -> Series {
    let texts = |value: &Value| {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let rows = value["values"].as_array().into_iter().flatten().map(|row| row.as_array().cloned().unwrap_or_default());
    let name = value["name"].as_str().unwrap_or_default();
    let tags = value["tags"].as_object().into_iter().flatten();
    let tags = tags.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    Series { name: name.to_owned(), tags, columns: texts(&value["columns"]), rows: rows.collect() }
}

fn host_and_port<'h>(address: Option<&'h str>, port: &'h str) -> (&'h str, &'h str) {
    match address.map(|address| (address, address.rsplit_once(':'))) {
        Some((_, Some((host, port)))) if port.parse::<u16>().is_ok() => (host, port),
        Some((host, _)) => (host, port),
        None => (HOST, port),
    }
}

fn argv(options: &InfluxdbServerOptions, words: &[&str]) -> Vec<OsString> {
    let mut argv: Vec<OsString> = options.exec.iter().map(OsString::from).collect();
    if let Some(file) = &options.option_file {
        // The shell reads the secrets and hands them on in the environment; they are in no command line.
        argv.extend(["sh", "-c", "set -a; . \"$0\"; exec \"$@\""].map(OsString::from));
        argv.push(file.into());
    }
    argv.extend(words.iter().map(OsString::from));
    argv
}

/// A name in quotes, as a statement takes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_tables_or_an_error() {
        let answer = r#"{"results":[{"series":[{"name":"a","columns":["x","y"],"values":[[1,"b"],[null,true]]}]},{}]}"#;
        let tables = parse(answer.as_bytes()).unwrap();
        assert_eq!(tables.len(), 1);
        let text = |row: usize, column: &str| tables[0].text(&tables[0].rows[row], column);
        assert_eq!(
            (text(0, "x"), text(0, "y"), text(1, "x"), text(1, "y")),
            ("1".into(), "b".into(), "".into(), "true".into())
        );
        assert_eq!(parse(b"{\"results\":[{\"error\":\"no \\u001b\"}]}\nERR: no").unwrap_err(), "no \\u{1b}");
        assert_eq!(parse(b"{\"error\":\"not\"}").unwrap_err(), "not");
        assert!(parse(b"").unwrap().is_empty());
        let part = r#"{"results":[{"series":[{"name":"a","columns":["x"],"values":[[1]],"partial":true}]}]}"#;
        assert!(parse(part.as_bytes()).unwrap_err().contains("max-row-limit"));
        let rest = part.replace(",\"partial\":true", "");
        assert_eq!(parse(format!("{part}\n{rest}").as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn a_command_line_holds_no_secret() {
        let options =
            InfluxdbServerOptions { option_file: Some("/etc/varu/influx".into()), ..InfluxdbServerOptions::default() };
        let words: Vec<_> = argv(&options, &["influx"]).into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(words, ["sh", "-c", "set -a; . \"$0\"; exec \"$@\"", "/etc/varu/influx", "influx"]);
        assert_eq!(host_and_port(Some("db:1"), "8086"), ("db", "1"));
        assert_eq!(host_and_port(Some("db"), "8086"), ("db", "8086"));
        assert_eq!(host_and_port(None, "8088"), ("127.0.0.1", "8088"));
    }

    #[test]
    fn a_name_is_quoted() {
        assert_eq!(quoted("a\"b\\"), "\"a\\\"b\\\\\"");
    }
}
