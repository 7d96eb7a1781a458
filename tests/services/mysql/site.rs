//! A machine with a server, a configuration and a repository.

use std::ops::Deref;

use support::mariadb::MariaDb;
use support::site;

/// A site whose set is the server's database `agama`.
pub struct Site {
    pub server: MariaDb,
    site: site::Site,
}

impl Deref for Site {
    type Target = site::Site;

    fn deref(&self) -> &site::Site {
        &self.site
    }
}

impl Site {
    /// A site whose server has this schema. None if there is no server to be had.
    pub fn new(schema: &str) -> Option<Self> {
        Self::with(schema, &[])
    }

    /// As [`Site::new`], with options for the server.
    pub fn with(schema: &str, options: &[&str]) -> Option<Self> {
        let server = MariaDb::start_with(options)?;
        let site = Self { server, site: site::Site::new("agama", "source = \"mysql\"\ndatabases = \"all\"") };
        site.server.sql(schema);
        site.configure(&format!("socket = \"{}\"", site.server.socket().display()));
        Some(site)
    }

    /// Writes the configuration anew, with these lines in the set.
    pub fn configure(&self, lines: &str) {
        self.configure_all("", lines);
    }

    /// As [`Site::configure`], with lines before the set.
    pub fn configure_all(&self, before: &str, lines: &str) {
        let databases = if lines.contains("databases") { "" } else { "databases = [\"agama\"]\n" };
        self.write(&format!("{before}\n[sets.agama]\nsource = \"mysql\"\n{databases}{lines}\n"));
    }

    /// The set's programs run through a wrapper, which pipes the dump's output through `filter`, a line for bash.
    pub fn wrap(&self, filter: &str) {
        let wrapper = self.wrapper("*dump\\ *--single-transaction*", filter);
        self.configure(&format!(
            "socket = \"{}\"\nexec = [\"{}\"]\n",
            self.server.socket().display(),
            wrapper.display()
        ));
    }
}

/// A database's distinguishing content: rows, views, routines, triggers, events, sequences, users.
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
         SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}' AND TABLE_TYPE = 'SEQUENCE' ORDER BY 1;"
    ))
    .replace(database, "DATABASE")
    // MySQL says the character set of a collation only where a statement once said it.
    .replace("CHARACTER SET utf8mb4 COLLATE", "COLLATE")
}
