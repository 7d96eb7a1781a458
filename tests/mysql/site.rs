//! A machine with a server, a configuration and a repository.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::machine::{Ended, Machine};
use crate::mariadb::MariaDb;

pub struct Site {
    pub server: MariaDb,
    pub machine: Machine,
    _folder: tempfile::TempDir,
}

impl Site {
    /// A site whose set `agama` has the database of that name. None where there is no server to be had.
    pub fn new(schema: &str) -> Option<Self> {
        Self::with(schema, &[], "")
    }

    /// As [`Site::new`], with options for the server and more lines for the set.
    pub fn with(schema: &str, options: &[&str], lines: &str) -> Option<Self> {
        let server = MariaDb::start_with(options)?;
        let folder = tempfile::tempdir().unwrap();
        let site = Self { server, machine: Machine::new(folder.path()), _folder: folder };
        site.server.sql(schema);
        site.machine.init();
        site.configure(&format!("socket = \"{}\"\n{lines}", site.server.socket().display()));
        Some(site)
    }

    /// Writes the configuration anew, with these lines in the set.
    pub fn configure(&self, lines: &str) {
        self.configure_all("", lines);
    }

    /// As [`Site::configure`], with lines before the set.
    pub fn configure_all(&self, before: &str, lines: &str) {
        let databases = if lines.contains("databases") { "" } else { "databases = [\"agama\"]\n" };
        let text = format!("{before}\n[sets.agama]\nsource = \"mysql\"\n{databases}{lines}\n");
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.machine.at("varu.toml")
    }

    /// The program with the configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut varu = self.machine.varu(&["--config"]);
        varu.arg(self.config()).args(words);
        varu
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        self.command(words).output().unwrap().into()
    }

    #[track_caller]
    pub fn back_up(&self) -> String {
        let ended = self.run(&["--json", "-q", "backup", "agama"]).ends(0);
        ended.json()["snapshot"]["id"].as_str().unwrap().to_owned()
    }

    pub fn snapshots(&self) -> usize {
        self.run(&["--json", "list"]).json()["snapshots"].as_array().unwrap().len()
    }

    /// A program that runs what it is given; where that is a dump, its output goes through `filter`, a line for bash.
    pub fn wrapper(&self, filter: &str) -> PathBuf {
        let path = self.machine.at("wrapper");
        let text = format!(
            "#!/bin/bash\nset -o pipefail\ncase \"$*\" in *--help*) exec \"$@\" ;; mariadb-dump*--single-transaction*) ;; *) exec \
             \"$@\" ;; esac\ncd {}\n{filter}\n",
            self.machine.top.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The set's programs run through a wrapper.
    pub fn wrap(&self, filter: &str) {
        let wrapper = self.wrapper(filter);
        self.configure(&format!(
            "socket = \"{}\"\nexec = [\"{}\"]\n",
            self.server.socket().display(),
            wrapper.display()
        ));
    }
}

/// What tells two databases apart: rows, views, routines, triggers, events, sequences, users.
pub fn picture(server: &MariaDb, database: &str) -> String {
    let names = server.sql(&format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}' AND TABLE_TYPE IN ('BASE TABLE', \
         'SYSTEM VERSIONED') ORDER BY 1"
    ));
    let tables: Vec<String> = names.lines().map(|name| format!("`{}`", name.replace('`', "``"))).collect();
    let show: String = tables.iter().map(|table| format!("SHOW CREATE TABLE {table};")).collect();
    let sums = match tables.is_empty() {
        true => String::new(),
        false => format!("CHECKSUM TABLE {};", tables.join(", ")),
    };
    server.sql(&format!(
        "SET time_zone = '+00:00'; USE `{database}`; {sums} {show}
         SHOW CREATE DATABASE `{database}`;
         SELECT TABLE_NAME, MD5(REPLACE(VIEW_DEFINITION, '`{database}`', '')), DEFINER, SECURITY_TYPE FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{database}' ORDER BY 1;
         SELECT TRIGGER_NAME, MD5(ACTION_STATEMENT), DEFINER, SQL_MODE, ACTION_ORDER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{database}' ORDER BY 1;
         SELECT ROUTINE_NAME, ROUTINE_TYPE, MD5(ROUTINE_DEFINITION), DEFINER, SQL_MODE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{database}' ORDER BY 1, 2;
         SELECT EVENT_NAME, STATUS, MD5(EVENT_DEFINITION), DEFINER, STARTS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{database}' ORDER BY 1;
         SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}' AND TABLE_TYPE = 'SEQUENCE';"
    ))
    .replace(database, "DATABASE")
}
