//! The client program: where it is, and what it sees of this machine.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::server::ServerOptions;

/// Variables that say where the server is, or who is asking.
const KEPT: [&str; 6] = ["HOME", "LOGNAME", "OPENSSL_CONF", "SSL_CERT_DIR", "SSL_CERT_FILE", "USER"];

/// A folder in which nothing is.
const NOTHING: &str = "/nonexistent";

/// What a client that is given statements finds in its environment: no editor, no pager, no program by its name alone, and
/// no home where an option file says who it is. In a container it is the container's environment that it gets; there only
/// the editor and the pager are said.
pub(super) fn environment(options: &ServerOptions) -> Vec<(OsString, OsString)> {
    let own = |name: &OsStr| {
        let name = name.to_string_lossy();
        let client = ["MYSQL_", "MARIADB_", "LIBMYSQL_"].iter().any(|start| name.starts_with(start));
        client || (KEPT.contains(&name.as_ref()) && (name != "HOME" || options.option_file.is_none()))
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
        if options.option_file.is_some() {
            set("HOME", NOTHING);
        }
    }
    variables
}

/// The path of a program that is run on this machine; its name, where it is nowhere.
pub(super) fn located(name: &str) -> PathBuf {
    let runs = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| runs(path)).unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_finds_nothing_to_start() {
        let value = |options: &ServerOptions, name: &str| {
            environment(options).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
        };
        let options = ServerOptions { option_file: Some("/etc/varu/mysql.cnf".into()), ..ServerOptions::default() };
        for (name, wanted) in [("EDITOR", "/bin/false"), ("VISUAL", "/bin/false"), ("PATH", NOTHING), ("HOME", NOTHING)]
        {
            assert_eq!(value(&options, name).unwrap(), wanted, "{name}");
        }
        assert_eq!(value(&ServerOptions::default(), "HOME"), std::env::var_os("HOME"));
        assert_eq!(value(&options, "CARGO_MANIFEST_DIR"), None);
        let elsewhere = ServerOptions { exec: vec!["docker".into()], ..options };
        assert_eq!(value(&elsewhere, "PATH"), std::env::var_os("PATH"));
        assert_eq!(value(&elsewhere, "PAGER").unwrap(), "/bin/false");
    }

    #[test]
    fn a_program_is_found_by_the_path() {
        assert!(located("sh").is_absolute() && located("no such program") == Path::new("no such program"));
    }
}
