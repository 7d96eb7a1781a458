//! The client program: its path, and its environment.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::source::command::apart::NOTHING;

/// Where a server is, and how its programs are run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MysqlServerOptions {
    /// The option file that the programs read, and no other; it holds the credentials.
    pub option_file: Option<PathBuf>,
    /// A host, with or without `:port`.
    pub host: Option<String>,
    /// The socket's path.
    pub socket: Option<PathBuf>,
    /// Words that go before every program: `docker exec -i db`.
    pub exec: Vec<String>,
}

/// Variables that say where the server is, or who is asking.
const KEPT: [&str; 6] = ["HOME", "LOGNAME", "OPENSSL_CONF", "SSL_CERT_DIR", "SSL_CERT_FILE", "USER"];

/// The environment of a client that is given statements: no editor, no pager, no program by its name alone, and no home
/// whose option file could name an account. In a container it gets the container's environment; there only the editor
/// and the pager are set.
pub(super) fn environment(options: &MysqlServerOptions, is_apart: bool) -> Vec<(OsString, OsString)> {
    let of_a_person = |name: &str| ["HOME", "LOGNAME", "USER"].contains(&name);
    let has_home = options.option_file.is_none() && !is_apart;
    let own = |name: &OsStr| {
        let name = name.to_string_lossy();
        let client = ["MYSQL_", "MARIADB_", "LIBMYSQL_"].iter().any(|start| name.starts_with(start));
        let kept = KEPT.contains(&name.as_ref()) && (name != "HOME" || has_home);
        client || (kept && !(is_apart && of_a_person(&name)))
    };
    let elsewhere = !options.exec.is_empty();
    let mut variables: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| elsewhere || own(name)).collect();
    let mut set = |name: &str, value: &str| {
        variables.retain(|(known, _)| known != name);
        variables.push((name.into(), value.into()));
    };
    for name in ["EDITOR", "VISUAL", "PAGER"] {
        set(name, "/bin/false");
    }
    set("MYSQL_HISTFILE", "/dev/null");
    set("MARIADB_HISTFILE", "/dev/null");
    if !elsewhere {
        set("PATH", NOTHING);
        set("SHELL", "/bin/false");
        if !has_home {
            set("HOME", NOTHING);
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_finds_nothing_to_start() {
        let value = |options: &MysqlServerOptions, name: &str| {
            environment(options, false).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
        };
        let options =
            MysqlServerOptions { option_file: Some("/etc/varu/mysql.cnf".into()), ..MysqlServerOptions::default() };
        for (name, wanted) in [("EDITOR", "/bin/false"), ("VISUAL", "/bin/false"), ("PATH", NOTHING), ("HOME", NOTHING)]
        {
            assert_eq!(value(&options, name).unwrap(), wanted, "{name}");
        }
        assert_eq!(value(&MysqlServerOptions::default(), "HOME"), std::env::var_os("HOME"));
        assert_eq!(value(&options, "CARGO_MANIFEST_DIR"), None);
        let elsewhere = MysqlServerOptions { exec: vec!["docker".into()], ..options };
        assert_eq!(value(&elsewhere, "PATH"), std::env::var_os("PATH"));
        assert_eq!(value(&elsewhere, "PAGER").unwrap(), "/bin/false");
    }
}
