//! Settings of a server, an account's sessions and option files that affect a dump's content.
//!
//! A dump program can't be given statements for its session's start, so its reads depend on the server's settings, on
//! `init_connect` and on its option file. Three things keep a dump from being less than the data with status 0:
//!
//! - varu's own sessions set all that matters ([`SESSION`](super::sessions::SESSION), [`QUESTION`](super::sessions::QUESTION));
//! - a session like the dump program's is examined before each dump ([`check`]), and the option file is read by the
//!   program itself, which prints its result: an option that isn't known to be harmless is refused;
//! - each query for rows carries a condition ([`guard`]) that the server evaluates in the very session that reads: with
//!   a wrong setting the condition is an error, and the dump ends with it.

use std::collections::BTreeMap;

use super::program::{ServerProgram, Vendor};
use super::server::MysqlServer;
use crate::entry::Escaped;
use crate::source::Error;

/// The server's message that the condition of [`guard`] was an error.
const GUARDED: &str = "'exp(1000)'";

/// A setting of a session, and its required value.
struct Setting {
    name: &'static str,
    is_right: fn(&str) -> bool,
    /// The same as a condition of SQL.
    condition: &'static str,
    /// The effect of other values.
    why: &'static str,
}

const SETTINGS: [Setting; 6] = [
    Setting {
        name: "sql_select_limit",
        is_right: |value| value.parse::<u64>().is_ok_and(|most| most >= 1 << 62),
        condition: "@@sql_select_limit>=4611686018427387904",
        why: "no table would have more rows in the dump",
    },
    Setting {
        name: "system_versioning_asof",
        is_right: |value| value.eq_ignore_ascii_case("DEFAULT"),
        condition: "@@system_versioning_asof='DEFAULT'",
        why: "tables with system versioning would be dumped as they were then",
    },
    Setting {
        name: "wsrep_dirty_reads",
        is_right: |value| value.eq_ignore_ascii_case("OFF"),
        condition: "@@wsrep_dirty_reads=0",
        why: "a node that was cut off from its cluster would give old rows",
    },
    Setting {
        name: "show_gipk_in_create_table_and_information_schema",
        is_right: |value| value.eq_ignore_ascii_case("ON"),
        condition: "@@show_gipk_in_create_table_and_information_schema=1",
        why: "primary keys that the server has made would be missing",
    },
    Setting {
        name: "innodb_force_recovery",
        is_right: |value| value == "0",
        condition: "@@innodb_force_recovery=0",
        why: "rows in damaged pages would be passed over",
    },
    Setting {
        name: "resultset_metadata",
        is_right: |value| value.eq_ignore_ascii_case("FULL"),
        condition: "@@resultset_metadata='FULL'",
        why: "the dump program could not tell what it reads",
    },
];

/// Looks at a session as the dump program's, and at the options that its option file gives it. Returns the condition that
/// each query of the dump for rows has to carry.
///
/// # Errors
/// [`Error::Config`] that names the setting or the option, and what is to be done.
pub(super) fn check(server: &MysqlServer, program: &ServerProgram) -> Result<String, Error> {
    check_options(&server.defaults(&server.client)?, &server.defaults(program)?, program)?;
    let found = server.fresh_settings()?;
    let wrong: Vec<String> = SETTINGS
        .iter()
        .filter_map(|setting| {
            let value = found.get(setting.name).filter(|value| !(setting.is_right)(value))?;
            Some(format!("{} is {}, and {}", setting.name, Escaped(value.as_bytes()), setting.why))
        })
        .collect();
    if !wrong.is_empty() {
        let by = match found.get("init_connect").filter(|text| !text.is_empty()) {
            Some(text) => {
                format!("the server's init_connect, {:?}, or SET GLOBAL", Escaped(text.as_bytes()).to_string())
            }
            None => "SET GLOBAL or the server's own option file".to_owned(),
        };
        return Err(Error::Config(format!(
            "in each new session of this account {}; it comes from {by}: set it back to the server's default",
            wrong.join("; ")
        )));
    }
    Ok(guard(&found, server.vendor))
}

/// A condition for each query of the dump for rows: true where the session's settings are right, an error where one isn't.
fn guard(found: &BTreeMap<String, String>, vendor: Vendor) -> String {
    // The dump program restores its own character set before it reads rows, whatever the session's.
    let sets = "@@character_set_results IN('utf8mb4','binary')";
    let known = SETTINGS.iter().filter(|setting| found.contains_key(setting.name)).map(|setting| setting.condition);
    let mut all: Vec<&str> = known.collect();
    if vendor == Vendor::Mariadb {
        all.push(sets);
    }
    format!("IF({},1,EXP(1000))", all.join(" AND "))
}

/// The explanation of the dump program's error; None if it has nothing to do with settings.
pub(super) fn explained(why: &str) -> Option<Error> {
    why.contains(GUARDED).then(|| {
        let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        Error::Config(format!(
            "the dump program's session had another setting than a whole dump needs, in one of {} or character_set_results: \
             somebody changed it a moment ago, or the server's init_connect does",
            names.join(", ")
        ))
    })
}

/// Options about the connection and the account: they change nothing of the data that is read.
const CONNECTION: [&str; 29] = [
    "user",
    "password",
    "password1",
    "password2",
    "password3",
    "host",
    "port",
    "socket",
    "protocol",
    "ssl",
    "tls-version",
    "tls-ciphersuites",
    "tls-sni-servername",
    "default-auth",
    "plugin-dir",
    "compress",
    "compression-algorithms",
    "zstd-compression-level",
    "get-server-public-key",
    "server-public-key-path",
    "enable-cleartext-plugin",
    "login-path",
    "bind-address",
    "secure-auth",
    "character-sets-dir",
    "net-buffer-length",
    "verbose",
    "debug-info",
    "debug-check",
];

/// Options of the dump program that its command line repeats, so that an option file can't change them.
pub(super) const SAID_AGAIN: [&str; 26] = [
    "opt",
    "add-drop-table",
    "add-locks",
    "create-options",
    "quick",
    "extended-insert",
    "lock-tables",
    "set-charset",
    "disable-keys",
    "comments",
    "single-transaction",
    "order-by-primary",
    "routines",
    "events",
    "triggers",
    "hex-blob",
    "tz-utc",
    "default-character-set",
    "dump-date",
    "max-allowed-packet",
    "quote-names",
    "no-tablespaces",
    "column-statistics",
    "set-gtid-purged",
    "masking-policies",
    "where",
];

/// The identity of an account on a server.
const WHO_AND_WHERE: [&str; 5] = ["user", "host", "port", "socket", "protocol"];

/// Judges the words that an option file gives to the client and to the dump program.
fn check_options(client: &[String], dump: &[String], program: &ServerProgram) -> Result<(), Error> {
    let is_harmless = |name: &&str| {
        CONNECTION.contains(name) || SAID_AGAIN.contains(name) || name.starts_with("ssl-") || *name == "network-timeout"
    };
    let names: Vec<String> = dump.iter().map(|word| plain(word).0).collect();
    let strange: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_harmless(name)).collect();
    if !strange.is_empty() {
        let listed: Vec<String> = strange.iter().map(|name| Escaped(name.as_bytes()).to_string()).collect();
        return Err(Error::Config(format!(
            "the option file gives {} options that may change what is in a dump: {}; take them out of it (the groups \
             [mysqldump], [mariadb-dump] and [client]), or name in option_file one without them. What is left out of a dump is \
             said by exclude_tables and schema_only_tables",
            program.name,
            listed.join(", ")
        )));
    }
    let last = |words: &[String], wanted: &str| {
        words.iter().rev().map(|word| plain(word)).find(|(name, _)| name == wanted).and_then(|(_, value)| value)
    };
    match WHO_AND_WHERE.iter().find(|name| last(client, name) != last(dump, name)) {
        None => Ok(()),
        Some(name) => Err(Error::Config(format!(
            "the option file gives {} another {name} than the client, so what the account may see can't be judged: put \
             {name} into its group [client] alone",
            program.name
        ))),
    }
}

/// An option as its program knows it, and its value: of `--loose-skip-no_data=1` it is `no-data`.
fn plain(word: &str) -> (String, Option<String>) {
    let word = word.trim_start_matches('-');
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value.to_owned())));
    let name = name.replace('_', "-");
    let mut name = name.as_str();
    for before in ["loose-", "skip-", "disable-", "enable-", "maximum-"] {
        // `enable-cleartext-plugin` is called so.
        if !CONNECTION.contains(&name) {
            name = name.strip_prefix(before).unwrap_or(name);
        }
    }
    (name.to_owned(), value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mysql::program::printed;

    fn judged(client: &str, dump: &str) -> String {
        let program = ServerProgram::new("mariadb-dump", String::new());
        let words =
            |text: &str| printed(&format!("x would have been started with the following arguments:\n{text} \n"));
        check_options(&words(client), &words(dump), &program).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_option_that_nobody_knows_to_be_harmless_is_refused() {
        let client = "--user=a --password=x y --socket=/s";
        assert_eq!(judged(client, client), "");
        let debian = "--quick --quote-names --max_allowed_packet=16M --skip-opt --loose-skip-ssl --ssl_ca=/x";
        assert_eq!(judged(client, &format!("{client} {debian}")), "");
        for option in [
            "--ignore-table-data=a.b",
            "--ignore_table=a.b",
            "--no-data",
            "--skip-no-data=0",
            "--insert-ignore",
            "--tab=/tmp",
            "--log-error=/x",
            "--as-of=2020-01-01",
            "--ignore-tab=a.b",
            "--a\u{1b}[2J",
        ] {
            let said = judged(client, &format!("{client} {option}"));
            assert!(said.contains("may change what is in a dump") && !said.contains('\u{1b}'), "{option}: {said}");
            assert!(!said.contains("x y"), "{said}");
        }
        // A value that looks like an option is no reason to let one pass.
        assert!(judged(client, "--user=a --password=x --no-data --socket=/s").contains("no-data"));
    }

    #[test]
    fn both_programs_ask_the_same_server_as_the_same_account() {
        assert!(judged("--user=a", "--user=a --user=b").contains("another user"));
        assert!(judged("--user=a --host=x", "--user=a").contains("another host"));
        assert_eq!(judged("--user=b --user=a --prompt=x", "--user=a"), "");
    }

    #[test]
    fn the_condition_names_what_the_server_has() {
        let found = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        let text = guard(&found(&["sql_select_limit", "system_versioning_asof"]), Vendor::Mariadb);
        assert_eq!(
            text,
            "IF(@@sql_select_limit>=4611686018427387904 AND @@system_versioning_asof='DEFAULT' AND \
             @@character_set_results IN('utf8mb4','binary'),1,EXP(1000))"
        );
        assert_eq!(
            guard(&found(&["sql_select_limit"]), Vendor::Mysql),
            "IF(@@sql_select_limit>=4611686018427387904,1,EXP(1000))"
        );
        assert!(explained("DOUBLE value is out of range in 'exp(1000)' (1690)").is_some());
        assert!(explained("Table 'x' doesn't exist").is_none());
    }
}
