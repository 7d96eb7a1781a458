//! The program behind a connection, and its arguments.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::failure::Disconnect;
use crate::remote::ErrorKind;
use crate::remote::options::Options;
use crate::remote::place::SftpPlace;

/// How a connection is made.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    program: LinkProgram,
    /// How long no byte may move while an answer is awaited.
    pub stall_timeout: Duration,
    connect_timeout: Duration,
}

#[derive(Debug, Clone)]
enum LinkProgram {
    Ssh(SftpPlace, Options),
    Other(Vec<OsString>),
}

impl Launch {
    /// Over the system's `ssh`.
    pub(super) fn ssh(place: &SftpPlace, options: &Options) -> Self {
        Self::new(LinkProgram::Ssh(place.clone(), options.clone()), options)
    }

    /// Over any program that speaks SFTP on its standard input and output.
    pub(super) fn program(program: Vec<OsString>, options: &Options) -> Self {
        Self::new(LinkProgram::Other(program), options)
    }

    fn new(program: LinkProgram, options: &Options) -> Self {
        Self { program, stall_timeout: options.stall_timeout, connect_timeout: options.connect_timeout }
    }

    /// How long the server may take to greet: ssh's own limit covers reaching the host, the rest is for logging in.
    pub(super) fn greeting_limit(&self) -> Duration {
        self.connect_timeout.saturating_add(self.stall_timeout)
    }

    /// Host, user and options, where it is `ssh`.
    pub(super) fn host(&self) -> Option<(&SftpPlace, &Options)> {
        match &self.program {
            LinkProgram::Ssh(place, options) => Some((place, options)),
            LinkProgram::Other(_) => None,
        }
    }

    /// The command to start.
    pub(super) fn command(&self) -> Result<Command, Disconnect> {
        let mut command = match &self.program {
            LinkProgram::Ssh(place, options) => {
                let mut command = ssh(place, options, &["-oStrictHostKeyChecking=yes"])?;
                known_hosts(&mut command, options)?;
                command.args(["-s", "--", place.host(), "sftp"]);
                command
            }
            LinkProgram::Other(program) => {
                let mut words = program.iter();
                let first =
                    words.next().ok_or_else(|| Disconnect::new(ErrorKind::Other, "there is no program to start"))?;
                let mut command = Command::new(first);
                command.args(words);
                command
            }
        };
        piped(&mut command);
        Ok(command)
    }

    pub(super) fn no_start(&self, error: &std::io::Error) -> Disconnect {
        match &self.program {
            LinkProgram::Ssh(..) => Disconnect::new(ErrorKind::Other, format!("ssh can't be started: {error}"))
                .hint("install OpenSSH's client (Debian: apt install openssh-client)"),
            LinkProgram::Other(program) => {
                Disconnect::new(ErrorKind::Other, format!("{program:?} can't be started: {error}"))
            }
        }
    }
}

/// All three streams piped; killed on drop; in a process group of its own, so that a Ctrl-C reaches us alone and
/// transfers can be ended in order.
pub(super) fn piped(command: &mut Command) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
}

/// `ssh` with all options that don't depend on its use. `first` precedes all others, and so wins.
///
/// Host, port, user, keys, agents, jump hosts and ciphers of `~/.ssh/config` apply. Prompts, forwarding, shared
/// connections (their single window would limit all of them) and commands of its own don't.
pub(super) fn ssh(place: &SftpPlace, options: &Options, first: &[&str]) -> Result<Command, Disconnect> {
    let mut command = Command::new("ssh");
    command.args(first);
    for option in [
        "BatchMode=yes",
        "LogLevel=INFO",
        "ControlMaster=no",
        "ControlPath=none",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "RemoteCommand=none",
        "RequestTTY=no",
        "Tunnel=no",
    ] {
        command.arg(format!("-o{option}"));
    }
    command.arg(format!("-oConnectTimeout={}", options.connect_timeout.as_secs().max(1)));
    if let Some(config) = &options.ssh_config {
        command.arg("-F").arg(config);
    }
    if let Some(key) = &options.ssh_key {
        command.arg(format!("-oIdentityFile={}", quoted(key)?)).arg("-oIdentitiesOnly=yes");
    }
    if let Some(jump) = &options.jump_host {
        command.arg(format!("-oProxyJump={jump}"));
    }
    if let Some(port) = place.port() {
        command.arg(format!("-oPort={port}"));
    }
    if let Some(user) = place.user() {
        command.arg("-l").arg(user);
    }
    // A jump host's ssh would ask here: nobody answers.
    command.env("SSH_ASKPASS", "/bin/false").env("SSH_ASKPASS_REQUIRE", "force");
    Ok(command)
}

/// Looks for the host's key in one file alone, where one is named.
pub(super) fn known_hosts(command: &mut Command, options: &Options) -> Result<(), Disconnect> {
    if let Some(file) = &options.known_hosts {
        command.arg(format!("-oUserKnownHostsFile={}", quoted(file)?)).arg("-oGlobalKnownHostsFile=none");
    }
    Ok(())
}

/// A path as a value of ssh's configuration.
pub(super) fn quoted(path: &Path) -> Result<String, Disconnect> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\\', '$']) && !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| {
        Disconnect::new(ErrorKind::Other, format!("ssh can't be given the path {path:?}"))
            .hint("use a path without quotes, backslashes and dollar signs")
    })?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::place::Location;

    fn arguments(url: &str, options: &Options) -> Vec<String> {
        let Ok(Location::Sftp(place)) = Location::parse(url) else { panic!("{url}") };
        let command = Launch::ssh(&place, options).command().unwrap();
        command.as_std().get_args().map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn ssh_checks_the_hosts_key_and_asks_nothing() {
        let words = arguments("sftp://vm1@alias:2222/x", &Options::default());
        assert_eq!(words[..2], ["-oStrictHostKeyChecking=yes", "-oBatchMode=yes"]);
        assert_eq!(words[words.len() - 7..], ["-oPort=2222", "-l", "vm1", "-s", "--", "alias", "sftp"]);
    }

    #[test]
    fn options_become_arguments() {
        let options = Options {
            ssh_key: Some("/etc/varu/a %key".into()),
            jump_host: Some("u@gate:22".to_owned()),
            known_hosts: Some("/etc/varu/known_hosts".into()),
            ssh_config: Some("/etc/varu/ssh_config".into()),
            connect_timeout: Duration::from_millis(2500),
            ..Options::default()
        };
        let words = arguments("alias:x", &options);
        for expected in [
            "-oIdentityFile=\"/etc/varu/a %%key\"",
            "-oIdentitiesOnly=yes",
            "-oProxyJump=u@gate:22",
            "-oUserKnownHostsFile=\"/etc/varu/known_hosts\"",
            "-oGlobalKnownHostsFile=none",
            "/etc/varu/ssh_config",
            "-oConnectTimeout=2",
        ] {
            assert!(words.iter().any(|word| word == expected), "{expected}: {words:?}");
        }
        assert!(quoted(Path::new("/a\"b")).is_err() && quoted(Path::new("/a${HOME}")).is_err());
    }
}
