//! Repository locations, as users write them: paths and SFTP URLs.
//!
//! | written | meaning |
//! | --- | --- |
//! | `/srv/vault`, `./vault`, `file:///srv/vault` | a local folder |
//! | `sftp://user@host:port/srv/vault` | an absolute path on a host |
//! | `sftp://user@host/~/vault` | a path below the folder that the account begins in |
//! | `user@host:vault`, `host:/srv/vault` | the same two, as scp writes them |
//!
//! Host and user end up as arguments of `ssh`, so they are narrow: nothing that begins with `-`, no blank, nothing that a
//! shell takes apart. A host may be an alias of `~/.ssh/config`.

use std::fmt;
use std::path::PathBuf;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a local folder.
    Local(PathBuf),
    /// In a folder of an SFTP account.
    Sftp(SftpPlace),
}

/// A folder of an SFTP account. `user` and `port` are those of `~/.ssh/config` where they are None.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPlace {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    path: String,
}

/// An invalid location: the reason, and a correction. Shows no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no repository: {reason}; {hint}")]
pub struct PlaceError {
    text: String,
    reason: String,
    hint: &'static str,
}

const FORMS: &str = "write a folder, sftp://USER@HOST/PATH or USER@HOST:PATH";
const HOSTS: &str = "a host has letters, digits, dots, hyphens and underscores, or is an IPv6 address in brackets";
const USERS: &str = "a user has letters, digits and any of . _ + @ ~ = -, and doesn't begin with -";

/// Words that other programs write before a colon.
const SCHEMES: [&str; 16] = [
    "s3", "b2", "gs", "gcs", "azure", "swift", "rest", "rclone", "rsync", "webdav", "webdavs", "dav", "ftp", "http",
    "https", "ssh",
];

const NO_PASSWORD: &str = "use an SSH key or an agent: nothing secret belongs into a URL";

impl Location {
    /// Reads a path or a URL. A text with a colon before its first slash is a host and its path; a local name with a colon
    /// is written `./a:b`.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let parsed = match text.split_once("://") {
            Some(("sftp", rest)) => parse_sftp_url(rest),
            Some(("file", rest)) => parse_file_url(rest),
            Some((scheme, _)) if is_scheme(scheme) => Err((format!("nothing speaks {scheme}:// here"), FORMS)),
            _ => match split_scp(text) {
                Some((account, path)) => parse_scp(account, path),
                None => parse_local(text),
            },
        };
        parsed.map_err(|(reason, hint)| PlaceError { text: without_password(text), reason, hint })
    }
}

impl SftpPlace {
    /// The user, where one is named.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The host, or its alias in `~/.ssh/config`. An IPv6 address has no brackets here.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where one is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The folder: absolute, or relative to the folder that the account begins in. Empty for that folder itself.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => path.display().fmt(f),
            Location::Sftp(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", user.replace('@', "%40"))?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if !self.path.starts_with('/') {
            f.write_str("/~/")?;
        }
        for letter in self.path.chars() {
            match letter {
                '%' | '?' | '#' | ' ' => write!(f, "%{:02X}", u32::from(letter))?,
                _ => write!(f, "{letter}")?,
            }
        }
        Ok(())
    }
}

type Parsed<T> = Result<T, (String, &'static str)>;

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
}

fn parse_local(text: &str) -> Parsed<Location> {
    if text.is_empty() {
        return Err(("it is empty".to_owned(), FORMS));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(("only a shell knows what ~ is".to_owned(), "write the home folder's path out"));
    }
    check_path(text)?;
    Ok(Location::Local(PathBuf::from(text)))
}

fn parse_file_url(rest: &str) -> Parsed<Location> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(("a file URL names a path on this machine".to_owned(), "write file:///PATH, or the path alone"));
    }
    let path = decode_path(path)?;
    Ok(Location::Local(PathBuf::from(path)))
}

fn parse_sftp_url(rest: &str) -> Parsed<Location> {
    let Some((account, path)) = rest.find('/').map(|slash| rest.split_at(slash)) else {
        return Err(("it has no path".to_owned(), "write sftp://USER@HOST/PATH, or sftp://USER@HOST/~/PATH"));
    };
    let (user, server) = match account.rsplit_once('@') {
        Some((user, server)) => (Some(decode(user)?), server),
        None => (None, account),
    };
    let (host, port) = split_port(server)?;
    let path = decode_path(path)?;
    let path = match path.strip_prefix("/~") {
        Some("") => String::new(),
        Some(below) if below.starts_with('/') => below.trim_start_matches('/').to_owned(),
        _ => path,
    };
    sftp(user.as_deref(), host, port, path)
}

/// `user@host` and `path` of `user@host:path`. None for a local path.
fn split_scp(text: &str) -> Option<(&str, &str)> {
    let before = text.split('/').next().unwrap_or(text);
    let search_from = match before.find('[') {
        Some(bracket) if bracket == 0 || before[..bracket].ends_with('@') => before.find(']').unwrap_or(0),
        _ => 0,
    };
    let colon = search_from + before[search_from..].find(':')?;
    Some((&text[..colon], &text[colon + 1..]))
}

fn parse_scp(account: &str, path: &str) -> Parsed<Location> {
    if account == "sftp" {
        return Err(("sftp: is followed by two slashes".to_owned(), FORMS));
    }
    if SCHEMES.contains(&account) {
        return Err((
            format!("nothing speaks {account}: here, and a host of that name is written sftp://{account}/PATH"),
            FORMS,
        ));
    }
    let before_slash = path.split('/').next().unwrap_or(path);
    if before_slash.parse::<u16>().is_ok() {
        return Err((
            format!("{before_slash} may be a port or a folder"),
            "write sftp://USER@HOST:PORT/PATH for a port, USER@HOST:./FOLDER for a folder",
        ));
    }
    // USER:PASSWORD@HOST:PATH was split at its first colon.
    let first = path.split('/').next().unwrap_or(path);
    if !account.contains('@') && first.split_once('@').is_some_and(|(_, host)| host.contains(':')) {
        return Err(("it holds a password".to_owned(), NO_PASSWORD));
    }
    let (user, host) = match account.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, account),
    };
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(|| ("its bracket doesn't end".to_owned(), HOSTS))?,
        None => host,
    };
    let path = match path.strip_prefix('~') {
        None => path,
        Some("") => "",
        Some(below) => below.strip_prefix('/').ok_or_else(|| {
            ("the home folder of another account isn't known here".to_owned(), "write the path out: USER@HOST:/PATH")
        })?,
    };
    check_path(path)?;
    sftp(user, host, None, path.to_owned())
}

/// `host` and `port` of `host:port`, with or without brackets.
fn split_port(server: &str) -> Parsed<(&str, Option<u16>)> {
    let (host, port) = match server.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
            None => return Err(("its bracket doesn't end".to_owned(), HOSTS)),
        },
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let number = |text: &str| match text.parse() {
        Ok(port @ 1..) if text.bytes().all(|digit| digit.is_ascii_digit()) => Ok(port),
        _ => Err((format!("{text:?} is no port"), "a port is a number from 1 to 65535")),
    };
    Ok((host, port.map(number).transpose()?))
}

fn sftp(user: Option<&str>, host: &str, port: Option<u16>, path: String) -> Parsed<Location> {
    check_host(host)?;
    if let Some(user) = user {
        check_user(user)?;
    }
    // A trailing slash means nothing, except for the root.
    let path = match path.trim_end_matches('/') {
        "" if path.starts_with('/') => "/",
        trimmed => trimmed,
    };
    Ok(Location::Sftp(SftpPlace { user: user.map(str::to_owned), host: host.to_owned(), port, path: path.to_owned() }))
}

/// Whether `ssh` can take the host as an argument.
pub(super) fn is_host(host: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let address = |letter: char| letter.is_ascii_hexdigit() || letter == ':' || letter == '.';
    let (body, zone) = host.split_once('%').unwrap_or((host, "0"));
    match host.contains(':') {
        true => body.chars().all(address) && !zone.is_empty() && zone.chars().all(plain),
        false => !host.is_empty() && !host.starts_with('-') && host.chars().all(plain),
    }
}

fn check_host(host: &str) -> Parsed<()> {
    match host {
        "" => Err(("it names no host".to_owned(), FORMS)),
        host if is_host(host) => Ok(()),
        host => Err((format!("{host:?} is no host"), HOSTS)),
    }
}

/// Whether `ssh` can take the user as an argument.
pub(super) fn is_user(user: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._+@~=-".contains(letter);
    !user.is_empty() && !user.starts_with('-') && user.chars().all(plain)
}

fn check_user(user: &str) -> Parsed<()> {
    if user.contains(':') {
        return Err(("it holds a password".to_owned(), NO_PASSWORD));
    }
    match is_user(user) {
        true => Ok(()),
        false => Err((format!("{user:?} is no user"), USERS)),
    }
}

fn check_path(path: &str) -> Parsed<()> {
    match path.chars().find(|letter| letter.is_control()) {
        Some(letter) => Err((format!("its path has the character {letter:?}"), "name a folder without it")),
        None => Ok(()),
    }
}

fn decode_path(path: &str) -> Parsed<String> {
    if let Some(letter) = path.chars().find(|letter| "?#".contains(*letter)) {
        return Err((format!("{letter} ends the path of a URL"), "write %3F for ? and %23 for #"));
    }
    let path = decode(path)?;
    check_path(&path)?;
    Ok(path)
}

/// Decodes %XX.
fn decode(text: &str) -> Parsed<String> {
    let wrong = || ("a % in it isn't followed by two hexadecimal digits".to_owned(), "write %25 for %");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| ("it isn't UTF-8".to_owned(), "name a folder in UTF-8"))
}

/// The text, without the part between a colon and an @ before the path.
fn without_password(text: &str) -> String {
    let scheme = if text.starts_with("sftp:") { "sftp:".len() } else { 0 };
    let start = text.find("://").map_or(scheme, |at| at + 3);
    let end = text[start..].find('/').map_or(text.len(), |slash| start + slash);
    let Some(at) = text[start..end].rfind('@').map(|at| start + at) else { return text.to_owned() };
    match text[start..at].find(':') {
        Some(colon) => format!("{}…{}", &text[..=start + colon], &text[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sftp_of(text: &str) -> SftpPlace {
        match Location::parse(text) {
            Ok(Location::Sftp(place)) => place,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn parts(text: &str) -> (Option<String>, String, Option<u16>, String) {
        let SftpPlace { user, host, port, path } = sftp_of(text);
        (user, host, port, path)
    }

    fn reason(text: &str) -> String {
        Location::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn a_url_has_user_host_port_and_path() {
        let of = |user: Option<&str>, host: &str, port, path: &str| {
            (user.map(str::to_owned), host.to_owned(), port, path.to_owned())
        };
        let user = Some("vm1");
        for (text, expected) in [
            ("sftp://vm1@backup.example/repo", of(user, "backup.example", None, "/repo")),
            ("sftp://vm1@backup.example:2222/srv/a b/", of(user, "backup.example", Some(2222), "/srv/a b")),
            ("sftp://alias/~/repo", of(None, "alias", None, "repo")),
            ("sftp://alias/~//a//b", of(None, "alias", None, "a//b")),
            ("sftp://alias/~", of(None, "alias", None, "")),
            ("sftp://alias/", of(None, "alias", None, "/")),
            ("sftp://alias/~other/x", of(None, "alias", None, "/~other/x")),
            ("sftp://a%40b@[2001:db8::1]:22/x%3Fy%25", of(Some("a@b"), "2001:db8::1", Some(22), "/x?y%")),
            ("sftp://[fe80::1%eth0]/x", of(None, "fe80::1%eth0", None, "/x")),
            ("vm1@backup.example:repo/x", of(user, "backup.example", None, "repo/x")),
            ("alias:/srv/vault", of(None, "alias", None, "/srv/vault")),
            ("alias:~/vault", of(None, "alias", None, "vault")),
            ("alias:", of(None, "alias", None, "")),
            ("vm1@[::1]:x:y", of(user, "::1", None, "x:y")),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn a_place_is_shown_as_it_can_be_read_again() {
        for text in [
            "sftp://vm1@backup.example/repo",
            "sftp://a%40b@[2001:db8::1]:22/x%3Fy%25%20z",
            "sftp://alias/~/repo",
            "sftp://alias/~/",
            "sftp://alias/",
        ] {
            assert_eq!(sftp_of(text).to_string(), text);
        }
        assert_eq!(Location::parse("vm1@host:a/b").unwrap().to_string(), "sftp://vm1@host/~/a/b");
        assert_eq!(Location::parse("./a:b").unwrap().to_string(), "./a:b");
    }

    #[test]
    fn what_has_no_host_is_local() {
        for (text, path) in [
            ("/srv/vault", "/srv/vault"),
            ("vault", "vault"),
            ("./a:b", "./a:b"),
            ("/a:b@c", "/a:b@c"),
            ("file:///srv/a%20b", "/srv/a b"),
            ("file://localhost/srv", "/srv"),
        ] {
            assert_eq!(Location::parse(text), Ok(Location::Local(PathBuf::from(path))), "{text}");
        }
    }

    #[test]
    fn what_ssh_could_take_for_an_option_or_a_command_is_refused() {
        for text in [
            "sftp://-oProxyCommand=touch x/repo",
            "sftp://-oProxyCommand=x/repo",
            "-oProxyCommand=x:repo",
            "-F@host:repo",
            "sftp://-lroot@host/repo",
            "sftp://%2DoProxyCommand@host/repo",
            "sftp://ho st/repo",
            "sftp://host;id/repo",
            "sftp://$(id)/repo",
            "sftp://a`id`@host/repo",
            "sftp://a%0Ab@host/repo",
            "sftp://a%20b@host/repo",
            "sftp://[::1;id]/repo",
            "sftp://[fe80::1%]/repo",
            "sftp://[fe80::1%25eth0;]/repo",
            "sftp:///repo",
            "sftp://@host/repo",
            ":repo",
            "a@:repo",
            "[::1:repo",
            "sftp://[::1/repo",
        ] {
            let reason = reason(text);
            assert!(reason.contains("host") || reason.contains("user"), "{reason}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        for (text, said) in [
            ("", "it is empty"),
            ("ftp://host/x", "ftp://"),
            ("ssh://host/x", "write a folder, sftp://"),
            ("sftp://host", "no path"),
            ("sftp://host:0/x", "65535"),
            ("sftp://host:65536/x", "65535"),
            ("sftp://host:+22/x", "65535"),
            ("sftp://host:/x", "65535"),
            ("sftp://host:ssh/x", "65535"),
            ("sftp://host/a?b", "%3F"),
            ("sftp://host/a%zz", "%25"),
            ("sftp://host/a%f", "%25"),
            ("sftp://host/a%00b", "character"),
            ("sftp://host/%ff", "UTF-8"),
            ("host:a\nb", "character"),
            ("/a\u{7}b", "character"),
            ("~/vault", "home folder"),
            ("host:~other/x", "write the path out"),
            ("file://elsewhere/x", "this machine"),
        ] {
            assert!(reason(text).contains(said), "{}", reason(text));
        }
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for text in ["sftp://vm1:hunter2@host/repo", "vm1:hunter2@host:repo"] {
            let said = Location::parse(text).map_or_else(|error| error.to_string(), |place| place.to_string());
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(reason("sftp://vm1:hunter2@host/repo").contains("password"));
    }
}
