//! The keys by which hosts are known.
//!
//! A host's key is asked of the host as `ssh` itself would reach it, through jump hosts and under the name that it will be
//! looked up by. `ssh` writes it into an empty file; whether it is the right one only somebody can say who knows its
//! fingerprint from elsewhere.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::failure::{Cause, Disconnect, one_line};
use super::ssh;
use crate::remote::options::Options;
use crate::remote::part::random;
use crate::remote::place::SftpPlace;
use crate::remote::{Error, ErrorKind, Result};
use crate::shell;

/// A key that a host shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Its fingerprint: `SHA256:…`.
    pub fingerprint: String,
    /// Its line in a file of known hosts.
    pub line: String,
}

/// The kinds of keys, the one that ssh likes best first.
const KINDS: [&str; 3] = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512,rsa-sha2-256"];

/// Trusts the host at `place` from now on if one of its keys has `fingerprint` (`SHA256:…`, as `ssh-keygen -l` shows it):
/// enters that key into `options.known_hosts`, else into the first file in which ssh looks. Returns the key and the file.
pub fn trust_host_key(place: &SftpPlace, options: &Options, fingerprint: &str) -> Result<(HostKey, PathBuf)> {
    const ACTION: &str = "trusting the host key of";
    options.check()?;
    let fail = |kind, reason: String| Error::new(kind, ACTION, place, reason);
    if !is_fingerprint(fingerprint) {
        let error = fail(ErrorKind::Invalid, format!("{fingerprint:?} is no fingerprint"));
        return Err(error.hint("write SHA256: and 43 letters, as ssh-keygen -l shows it"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fail(ErrorKind::Other, error.to_string()))?;
    runtime.block_on(async {
        let mut shown = Vec::new();
        for kind in KINDS {
            match ask(place, options, Some(kind)).await {
                Ok(key) if key.fingerprint == fingerprint => {
                    let file = file_of_known_hosts(place, options).await;
                    enter(&file, &key.line).map_err(|error| Error::from_io(ACTION, file.display(), &error))?;
                    return Ok((key, file));
                }
                Ok(key) => shown.push(key.fingerprint),
                // It has no key of that kind.
                Err(disconnect) if disconnect.cause == Some(Cause::NoKeyOfThatType) => {}
                Err(disconnect) => {
                    return Err(Error { hint: disconnect.hint, ..fail(disconnect.kind, disconnect.reason) });
                }
            }
        }
        let error = fail(ErrorKind::NoEntry, format!("it shows {}, and not {fingerprint}", shown.join(" and ")));
        Err(error.hint("compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's console"))
    })
}

/// The key by which the host at `place` is known here, in its line the name in clear; None if no file of known hosts has
/// one. No connection is made.
pub fn known_host_key(place: &SftpPlace, options: &Options) -> Result<Option<HostKey>> {
    const ACTION: &str = "looking up the host key of";
    options.check()?;
    let fail = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Other, ACTION, place, error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| fail(&error))?;
    runtime.block_on(async {
        let config = settings(place, options).await.map_err(|disconnect| fail(&disconnect.reason))?;
        let value = |key: &str| config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let name = match (value("hostkeyalias"), value("hostname"), value("port")) {
            (Some(alias), ..) => alias.to_owned(),
            (None, Some(host), Some("22") | None) => host.to_owned(),
            (None, Some(host), Some(port)) => format!("[{host}]:{port}"),
            (None, None, _) => return Ok(None),
        };
        let files: Vec<PathBuf> = match &options.known_hosts {
            Some(file) => vec![file.clone()],
            None => ["userknownhostsfile", "globalknownhostsfile"]
                .iter()
                .flat_map(|key| value(key).unwrap_or_default().split_whitespace().map(at_home))
                .collect(),
        };
        let mut known = Vec::new();
        for file in files.iter().filter(|file| file.exists()) {
            let mut keygen = Command::new("ssh-keygen");
            keygen.arg("-F").arg(&name).arg("-f").arg(file);
            let (shown, _) = run(keygen, options).await.map_err(|disconnect| fail(&disconnect.reason))?;
            known.extend(shown.lines().filter_map(|line| named_line(line, &name)));
        }
        let rank = |line: &String| KINDS.iter().position(|kind| line.contains(kind.split(',').next().unwrap_or(kind)));
        let Some(line) = known.into_iter().min_by_key(|line| rank(line).unwrap_or(KINDS.len())) else {
            return Ok(None);
        };
        let folder = PrivateFolder::new().map_err(|error| fail(&error))?;
        let file = folder.0.join("known_hosts");
        fs::write(&file, &line).map_err(|error| fail(&error))?;
        let mut keygen = Command::new("ssh-keygen");
        keygen.arg("-lf").arg(&file);
        let (shown, words) = run(keygen, options).await.map_err(|disconnect| fail(&disconnect.reason))?;
        let fingerprint = fingerprint_in(&shown, &words).map_err(|disconnect| fail(&disconnect.reason))?;
        Ok(Some(HostKey { fingerprint, line }))
    })
}

/// A line of known hosts with the host's name in place of a hash, or of all names that it is for. None for remarks, and for
/// keys that are not to be trusted.
fn named_line(line: &str, name: &str) -> Option<String> {
    let line = line.trim();
    if !is_plain_line(line) || line.starts_with('#') || line.starts_with("@revoked") {
        return None;
    }
    let (marker, rest) = match line.strip_prefix("@cert-authority ") {
        Some(rest) => ("@cert-authority ", rest),
        None => ("", line),
    };
    let mut fields = rest.split_whitespace().skip(1);
    Some(format!("{marker}{name} {} {}", fields.next()?, fields.next()?))
}

/// ssh's configuration for the host.
async fn settings(place: &SftpPlace, options: &Options) -> std::result::Result<String, Disconnect> {
    let mut command = ssh::ssh(place, options, &[])?;
    command.args(["-G", "--", place.host()]);
    Ok(run(command, options).await?.0)
}

/// A path as ssh's configuration gives it.
fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(path),
    }
}

/// The refusal of a host that isn't known, with the key that it shows and the command that would accept it.
pub(super) async fn report_unknown(place: &SftpPlace, options: &Options, refused: &Disconnect) -> Disconnect {
    let Ok(key) = ask(place, options, None).await else { return refused.clone() };
    let file = file_of_known_hosts(place, options).await;
    if let Err(error) = fs::read(&file)
        && error.kind() != io::ErrorKind::NotFound
    {
        let reason = format!("the file of known host keys {} can't be read: {error}", file.display());
        return Disconnect::new(ErrorKind::Refused, reason).hint("run it as an account that may read that file");
    }
    let HostKey { fingerprint, line } = key;
    let disconnect =
        Disconnect::new(ErrorKind::NoEntry, format!("the host's key isn't known here; it shows {fingerprint}"));
    let word = |path: &Path| shell::quoted(&path.to_string_lossy());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let make = folder.map(|folder| format!("mkdir -p -m 700 {} && ", word(folder))).unwrap_or_default();
    let disconnect = disconnect.hint(format!(
        "compare that with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's console. To accept it: \
         {make}echo '{line}' >> {}",
        word(&file)
    ));
    Disconnect { cause: Some(Cause::UnknownHostKey), ..disconnect }
}

fn is_fingerprint(text: &str) -> bool {
    let base64 = |letter: char| letter.is_ascii_alphanumeric() || letter == '+' || letter == '/';
    text.strip_prefix("SHA256:").is_some_and(|digest| digest.len() == 43 && digest.chars().all(base64))
}

/// The host's key of a kind, or the one that ssh would choose.
async fn ask(place: &SftpPlace, options: &Options, kind: Option<&str>) -> std::result::Result<HostKey, Disconnect> {
    let folder = PrivateFolder::new()
        .map_err(|error| Disconnect::new(ErrorKind::Other, format!("no folder for a key: {error}")))?;
    let file = folder.0.join("known_hosts");
    // Nothing is trusted by this: no login is tried, and the key is written to a file of our own.
    let mut command = ssh::ssh(place, options, &["-oStrictHostKeyChecking=accept-new"])?;
    command.arg(format!("-oUserKnownHostsFile={}", ssh::quoted(&file)?));
    command.args([
        "-oGlobalKnownHostsFile=none",
        "-oHashKnownHosts=no",
        "-oUpdateHostKeys=no",
        "-oVerifyHostKeyDNS=no",
        "-oPreferredAuthentications=none",
    ]);
    if let Some(kind) = kind {
        command.arg(format!("-oHostKeyAlgorithms={kind}"));
    }
    command.args(["--", place.host(), "true"]);
    let (_, words) = run(command, options).await?;
    let text = fs::read_to_string(&file).unwrap_or_default();
    let line = text.lines().find(|line| is_plain_line(line));
    let Some(line) = line else {
        return Err(Disconnect::explain(&super::failure::EndOfConnection::Closed, &words, None));
    };
    let mut keygen = Command::new("ssh-keygen");
    keygen.arg("-lf").arg(&file);
    let (shown, words) = run(keygen, options).await?;
    Ok(HostKey { fingerprint: fingerprint_in(&shown, &words)?, line: line.to_owned() })
}

/// The fingerprint in the output of `ssh-keygen -l`; `words` are its error messages.
fn fingerprint_in(shown: &str, words: &str) -> std::result::Result<String, Disconnect> {
    let fingerprint = shown.split_whitespace().find(|word| is_fingerprint(word));
    let fingerprint =
        fingerprint.ok_or_else(|| Disconnect::new(ErrorKind::Other, format!("ssh-keygen said: {words}")))?;
    Ok(fingerprint.to_owned())
}

/// Whether a line can be shown inside a shell's single quotes.
fn is_plain_line(line: &str) -> bool {
    !line.is_empty() && line.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ') && !line.contains('\'')
}

/// The file into which a host's key belongs.
async fn file_of_known_hosts(place: &SftpPlace, options: &Options) -> PathBuf {
    if let Some(file) = &options.known_hosts {
        return file.clone();
    }
    let config = settings(place, options).await.unwrap_or_default();
    let named = config.lines().find_map(|line| line.strip_prefix("userknownhostsfile "));
    at_home(named.and_then(|files| files.split_whitespace().next()).unwrap_or("~/.ssh/known_hosts"))
}

/// Adds a line to a file of known hosts, unless it is there.
fn enter(file: &Path, line: &str) -> io::Result<()> {
    let before = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    if before.lines().any(|known| known == line) {
        return Ok(());
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    let end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{end}{line}\n").as_bytes())?;
    file.sync_all()
}

/// A program's output and its standard error. Its exit status doesn't count: ssh fails by design here.
async fn run(mut command: Command, options: &Options) -> std::result::Result<(String, String), Disconnect> {
    ssh::piped(&mut command);
    command.stdin(Stdio::null());
    let limit = options.connect_timeout.saturating_add(options.stall_timeout);
    let output = timeout(limit, command.output()).await;
    let output = output.map_err(|_| Disconnect::new(ErrorKind::Unreachable, "the host doesn't show its key"))?;
    let output = output.map_err(|error| Disconnect::new(ErrorKind::Other, format!("ssh can't be started: {error}")))?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), one_line(&output.stderr)))
}

/// A private folder that is removed at the end.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("varu-{:016x}{:016x}", random(), random()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::place::Location;

    #[test]
    fn only_a_fingerprint_is_taken() {
        let Ok(Location::Sftp(place)) = Location::parse("host:x") else { panic!() };
        for bad in ["", "SHA256:", "MD5:00", "SHA256:!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"] {
            let error = trust_host_key(&place, &Options::default(), bad).unwrap_err();
            assert!(error.kind == ErrorKind::Invalid && error.hint.is_some(), "{error}");
        }
        assert!(is_fingerprint("SHA256:uNiVztksCsDhcc0u9e8BrrXm0CQUzUDFKYkKH9tJ9Ko"));
    }

    #[test]
    fn a_line_is_entered_once_and_others_stay() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("new/known_hosts");
        enter(&file, "a ssh-ed25519 AAAA").unwrap();
        fs::write(&file, "first\nlast").unwrap();
        for _ in 0..2 {
            enter(&file, "a ssh-ed25519 AAAA").unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "first\nlast\na ssh-ed25519 AAAA\n");
    }

    #[test]
    fn a_known_line_gets_its_name_back() {
        let named = |line: &str| named_line(line, "[b.example]:2222");
        let key = Some("[b.example]:2222 ssh-ed25519 AAAA".to_owned());
        for line in ["|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA", "b.example,[b.example]:* ssh-ed25519 AAAA a remark"] {
            assert_eq!(named(line), key, "{line}");
        }
        let authority = named("@cert-authority *.example ssh-ed25519 AAAA");
        assert_eq!(authority, key.map(|key| format!("@cert-authority {key}")));
        for line in ["", "# Host b.example found: line 1", "@revoked b ssh-ed25519 AAAA", "b ssh-ed25519", "b 'x AAAA"]
        {
            assert_eq!(named(line), None, "{line}");
        }
    }

    #[test]
    fn a_scratch_folder_is_private_and_goes() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = PrivateFolder::new().unwrap();
        let path = scratch.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(scratch);
        assert!(!path.exists());
    }
}
