//! The SSH server's part: a drop-in for each account, and checks of the resulting configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::failed;
use crate::disk::replace;
use crate::error::{Error, Result};

/// The SFTP requests that an account may make: none that deletes, overwrites or changes existing files.
pub const REQUESTS: &str =
    "open,close,read,write,lstat,stat,fstat,opendir,readdir,realpath,rename,statvfs,fstatvfs,fsync,limits";

/// The SFTP requests that a read-only account may make.
const READS: &str = "open,close,read,lstat,stat,fstat,opendir,readdir,realpath,statvfs,fstatvfs,limits";

/// The purpose of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It adds objects and reads them.
    Append,
    /// It reads them.
    Read,
}

impl Access {
    fn command(self) -> String {
        match self {
            Access::Append => format!("internal-sftp -u 0222 -p {REQUESTS}"),
            Access::Read => format!("internal-sftp -R -p {READS}"),
        }
    }
}

/// The SSH server of this host.
#[derive(Debug, Clone)]
pub struct Sshd {
    /// Its program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// The folder of which its configuration includes `*.conf`.
    pub drop_ins: PathBuf,
}

/// The server's own report of its configuration.
pub(super) struct SshdConfig {
    pub port: u16,
    pub host_keys: Vec<(String, String)>,
    pub notes: Vec<String>,
}

impl Sshd {
    /// Lets an account in, for that purpose and nothing else. The drop-in is removed again if the server rejects it, or
    /// doesn't apply it.
    pub(super) fn allow(
        &self,
        account: &str,
        access: Access,
        chroot: &Path,
        keys: &Path,
        changes: &mut Vec<String>,
    ) -> Result<SshdConfig> {
        let path = self.drop_in(account);
        let wanted = wanted(access, chroot, keys)?;
        let text = drop_in(account, &wanted);
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|error| failed("reading", &path, error))?),
        };
        if before.as_deref() != Some(&text) {
            fs::create_dir_all(&self.drop_ins).map_err(|error| failed("making the folder", &self.drop_ins, error))?;
            replace(&path, text.as_bytes(), 0o644).map_err(|error| failed("writing", &path, error))?;
        }
        let heeded = self.check().and_then(|()| self.effective(account)).and_then(|found| {
            check_heeded(account, &found, &wanted, &self.config)?;
            Ok(found)
        });
        match heeded {
            Ok(found) => {
                if before.as_deref() != Some(&text) {
                    changes.push(format!("{} was written; sshd has to read it", path.display()));
                }
                describe(account, &found)
            }
            Err(error) => {
                let restored = match &before {
                    Some(before) => replace(&path, before.as_bytes(), 0o644),
                    None => fs::remove_file(&path),
                };
                restored.map_err(|error| failed("taking back", &path, error))?;
                Err(error)
            }
        }
    }

    /// Takes an account's drop-in away. Whether there was one.
    pub(super) fn forget(&self, account: &str) -> Result<bool> {
        let path = self.drop_in(account);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("removing", &path, error)),
        }
    }

    fn drop_in(&self, account: &str) -> PathBuf {
        self.drop_ins.join(format!("varu-{account}.conf"))
    }

    fn check(&self) -> Result<()> {
        run(Command::new(&self.program).arg("-t").arg("-f").arg(&self.config)).map(drop)
    }

    /// The server's effective configuration for an account: words and values.
    fn effective(&self, account: &str) -> Result<Vec<(String, String)>> {
        let who = format!("user={account},host=localhost,addr=127.0.0.1");
        let shown = run(Command::new(&self.program).arg("-T").arg("-f").arg(&self.config).args(["-C", &who]))?;
        let pairs = shown.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(word, value)| (word.to_owned(), value.trim().to_owned())).collect())
    }
}

/// The settings of an account.
fn wanted(access: Access, chroot: &Path, keys: &Path) -> Result<[(&'static str, String); 5]> {
    Ok([
        ("ChrootDirectory", plain(chroot)?.to_owned()),
        ("ForceCommand", access.command()),
        ("DisableForwarding", "yes".to_owned()),
        ("PermitTTY", "no".to_owned()),
        ("AuthorizedKeysFile", format!("{}/%u", plain(keys)?)),
    ])
}

fn drop_in(account: &str, wanted: &[(&'static str, String)]) -> String {
    let lines = wanted.iter().map(|(word, value)| format!("    {word} {value}\n"));
    format!("# Made by varu host prepare.\nMatch User {account}\n{}", lines.collect::<String>())
}

/// A path that means itself in sshd's configuration.
fn plain(path: &Path) -> Result<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    match path.to_str() {
        Some(text) if path.is_absolute() && text.bytes().all(fits) => Ok(text),
        _ => Err(Error::Usage(format!(
            "{} can't stand in sshd's configuration; name an absolute path of a-z, A-Z, 0-9, '.', '_' and '-'",
            path.display()
        ))),
    }
}

/// Whether the server applies the drop-in: it may not include it, or an earlier setting may override it.
fn check_heeded(account: &str, found: &[(String, String)], wanted: &[(&str, String)], config: &Path) -> Result<()> {
    for (word, value) in wanted {
        let says = found.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, value)| value.as_str());
        if says != Some(value) {
            let config = config.display();
            return Err(Error::Failed(format!(
                "sshd doesn't heed the settings for {account}: {word} is {:?}; see that {config} starts with \
                 \"Include /etc/ssh/sshd_config.d/*.conf\" and that nothing before it sets this",
                says.unwrap_or_default()
            )));
        }
    }
    Ok(())
}

fn describe(account: &str, found: &[(String, String)]) -> Result<SshdConfig> {
    let all =
        |word: &'static str| found.iter().filter(move |(known, _)| known == word).map(|(_, value)| value.as_str());
    let mut host_keys = Vec::new();
    for path in all("hostkey") {
        // A key that sshd can't load either.
        let Ok(shown) = run(Command::new("ssh-keygen").args(["-l", "-E", "sha256", "-f", path])) else { continue };
        let words: Vec<&str> = shown.split_whitespace().collect();
        if let (Some(fingerprint), Some(kind)) = (words.get(1), words.last()) {
            host_keys.push((kind.trim_matches(['(', ')']).to_lowercase(), (*fingerprint).to_owned()));
        }
    }
    let limits = ["allowusers", "allowgroups", "denyusers", "denygroups"];
    let limits = limits.into_iter().filter(|word| all(word).next().is_some());
    let notes = limits.map(|word| format!("sshd's configuration has {word}: see that it lets {account} in"));
    let port = all("port").next().and_then(|port| port.parse().ok()).unwrap_or(22);
    Ok(SshdConfig { port, host_keys, notes: notes.collect() })
}

/// Runs a program to its end. Returns its output.
///
/// # Errors
///
/// Where it can't be started or fails, with its own words.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| failed("starting", Path::new(&program), error))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Error::Failed(format!("{program} failed ({}): {}", output.status, said.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_says_what_was_tried() {
        let wanted =
            wanted(Access::Append, Path::new("/srv/varu/vm1"), Path::new("/etc/varu/authorized_keys")).unwrap();
        let expected = "# Made by varu host prepare.\nMatch User vm1\n    ChrootDirectory /srv/varu/vm1\n    \
                        ForceCommand internal-sftp -u 0222 -p open,close,read,write,lstat,stat,fstat,opendir,readdir,realpath,\
                        rename,statvfs,fstatvfs,fsync,limits\n    DisableForwarding yes\n    PermitTTY no\n    \
                        AuthorizedKeysFile /etc/varu/authorized_keys/%u\n";
        assert_eq!(drop_in("vm1", &wanted), expected);
    }

    #[test]
    fn a_setting_that_is_not_heeded_is_named() {
        let wanted = wanted(Access::Append, Path::new("/srv/varu/vm1"), Path::new("/k")).unwrap();
        let mut found: Vec<_> = wanted.iter().map(|(word, value)| (word.to_lowercase(), value.clone())).collect();
        check_heeded("vm1", &found, &wanted, Path::new("/etc/ssh/sshd_config")).unwrap();
        found[2].1 = "no".to_owned();
        let error = check_heeded("vm1", &found, &wanted, Path::new("/etc/ssh/sshd_config")).unwrap_err();
        assert!(error.to_string().contains("DisableForwarding"), "{error}");
    }

    #[test]
    fn a_path_that_would_mean_something_else_is_refused() {
        for bad in ["relative", "/a b", "/a%u", "/a\nMatch all", "/a\"", "/a#"] {
            assert!(plain(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
