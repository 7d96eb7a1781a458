//! Classification of a connection's end by the messages of `ssh`.

use std::process::ExitStatus;
use std::time::Duration;

use crate::remote::ErrorKind;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disconnect {
    pub kind: ErrorKind,
    pub reason: String,
    pub hint: Option<String>,
    /// The cause, if it decides the next attempt.
    pub cause: Option<Cause>,
}

/// A cause that decides the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing is known about the host's key.
    UnknownHostKey,
    /// The host has no key of the type that was asked for.
    NoKeyOfThatType,
}

/// Observations of a connection's end.
#[derive(Debug)]
pub(super) enum EndOfConnection {
    /// The server's side closed.
    Closed,
    /// Bytes came that are no SFTP.
    Garbage(String),
    /// No byte moved for so long.
    Stalled(Duration),
    /// Nothing was heard of the server for so long.
    Silent(Duration),
    /// It isn't needed any more.
    Unneeded,
}

impl Disconnect {
    pub(super) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), hint: None, cause: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(super) fn closed() -> Self {
        Self::new(ErrorKind::Unreachable, "the connection was closed")
    }

    /// Classifies an end by the program's standard error and its exit status.
    pub(super) fn explain(end: &EndOfConnection, said: &str, status: Option<ExitStatus>) -> Self {
        match end {
            EndOfConnection::Unneeded => Self::closed(),
            EndOfConnection::Stalled(limit) => {
                let reason = format!("the connection stalled: no byte moved for {} s", limit.as_secs_f64());
                Self::new(ErrorKind::Unreachable, reason)
            }
            EndOfConnection::Silent(limit) => {
                let reason = with_words(format!("no answer within {} s", limit.as_secs_f64()), said);
                Self::new(ErrorKind::Unreachable, reason)
            }
            EndOfConnection::Garbage(what) => {
                let reason = with_words(format!("the server sent what is no SFTP: {what}"), said);
                Self::new(ErrorKind::Other, reason)
                    .hint("look whether the account's login shell prints something, or the server has no SFTP")
            }
            EndOfConnection::Closed => explain_words(said).unwrap_or_else(|| {
                let how = match status {
                    Some(status) if !status.success() => format!("the connection broke ({status})"),
                    _ => "the connection broke".to_owned(),
                };
                Self::new(ErrorKind::Unreachable, with_words(how, said))
            }),
        }
    }
}

fn with_words(reason: String, said: &str) -> String {
    match said {
        "" => reason,
        said => format!("{reason}; ssh said: {said}"),
    }
}

/// Messages of `ssh`: the words, the kind, the advice. Other messages mean a broken connection.
const WORDS: &[(&str, ErrorKind, &str)] = &[
    (
        "Permission denied (",
        ErrorKind::NoEntry,
        "the host takes none of the keys: look at ssh_key, the agent, and the account's authorized_keys on the host",
    ),
    (
        "Too many authentication failures",
        ErrorKind::NoEntry,
        "too many keys were tried: name the right one with ssh_key",
    ),
    ("Could not resolve hostname", ErrorKind::UnknownName, "look whether the host's name is right"),
    ("Connection refused", ErrorKind::Unreachable, "look whether host and port are right and sshd runs there"),
    (
        "Connection timed out",
        ErrorKind::Unreachable,
        "look whether host and port are right and a firewall lets it through",
    ),
    ("No route to host", ErrorKind::Unreachable, "look whether the host is up and a firewall lets it through"),
    ("subsystem request failed", ErrorKind::Invalid, "the server has no SFTP: look at Subsystem in its sshd_config"),
    ("no matching ", ErrorKind::NoEntry, "the host and this ssh have no algorithm in common"),
    ("Bad configuration option", ErrorKind::Other, "correct ssh's configuration"),
    ("Bad owner or permissions", ErrorKind::Other, "correct the owner and mode of ssh's configuration"),
    ("terminating, ", ErrorKind::Other, "correct ssh's configuration"),
];

fn explain_words(said: &str) -> Option<Disconnect> {
    if said.contains("HOST IDENTIFICATION HAS CHANGED") {
        return Some(changed_key(said));
    }
    if said.contains("host key is known for") {
        let disconnect = Disconnect::new(ErrorKind::NoEntry, format!("the host's key isn't known here: {said}"));
        return Some(Disconnect { cause: Some(Cause::UnknownHostKey), ..disconnect });
    }
    if said.contains("Host key verification failed") {
        let hint = "look at the jump host's key, too: ssh must know it";
        return Some(Disconnect::new(ErrorKind::NoEntry, said).hint(hint));
    }
    let (_, kind, hint) = WORDS.iter().find(|(words, ..)| said.contains(words))?;
    let cause = said.contains("no matching host key type").then_some(Cause::NoKeyOfThatType);
    Some(Disconnect { cause, ..Disconnect::new(*kind, said).hint(*hint) })
}

/// The key that the host shows isn't the one that is known.
fn changed_key(said: &str) -> Disconnect {
    let word_after = |mark: &str, starts: &str| {
        let rest = &said[said.find(mark)?..];
        rest.split_whitespace().find(|word| word.starts_with(starts)).map(|word| word.trim_end_matches(['.', ';']))
    };
    let shown = word_after("sent by the remote host", "SHA256:").unwrap_or("another one");
    let known = match said.find("Offending ") {
        Some(at) => said[at..].split("; ").next().unwrap_or_default().trim_start_matches("Offending ").to_owned(),
        None => "what is known here".to_owned(),
    };
    let reason = format!("the host's key has changed: it is {shown} now, and not the {known}");
    let remove = said.find("ssh-keygen -f").map(|at| said[at..].split("; ").next().unwrap_or_default());
    let remove = remove.map(|command| format!(", then forget the old one: {command}")).unwrap_or_default();
    Disconnect::new(ErrorKind::NoEntry, reason).hint(format!(
        "somebody may stand between. Only if the host was set up anew: compare with `ssh-keygen -lf \
         /etc/ssh/ssh_host_ed25519_key.pub` on its console{remove}"
    ))
}

/// A program's standard error as one line: printable, without empty lines and frames, and only the end of a long one.
pub(super) fn one_line(bytes: &[u8]) -> String {
    const MOST: usize = 1500;
    let text = String::from_utf8_lossy(bytes);
    let plain: Vec<String> = text
        .split(['\n', '\r'])
        .map(|line| line.chars().filter(|letter| !letter.is_control()).collect::<String>())
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.bytes().all(|byte| byte == b'@'))
        .collect();
    let line = plain.join("; ");
    match line.char_indices().rev().nth(MOST) {
        Some((at, _)) => format!("…{}", &line[at..]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(said: &str) -> Disconnect {
        Disconnect::explain(&EndOfConnection::Closed, &one_line(said.as_bytes()), None)
    }

    #[test]
    fn words_of_ssh_have_a_kind_and_a_hint() {
        for (said, kind) in [
            ("vm1@host: Permission denied (publickey).\r\n", ErrorKind::NoEntry),
            ("ssh: Could not resolve hostname nope: Name or service not known", ErrorKind::UnknownName),
            ("ssh: connect to host h port 1: Connection refused", ErrorKind::Unreachable),
            ("ssh: connect to host h port 1: Connection timed out", ErrorKind::Unreachable),
            ("subsystem request failed on channel 0", ErrorKind::Invalid),
            ("Unable to negotiate with h: no matching host key type found.", ErrorKind::NoEntry),
            ("/x: line 1: Bad configuration option: nope", ErrorKind::Other),
            ("Host key verification failed.", ErrorKind::NoEntry),
        ] {
            let disconnect = explain(said);
            assert_eq!(disconnect.kind, kind, "{said}");
            assert!(disconnect.hint.is_some() && disconnect.reason.contains(said.trim()), "{disconnect:?}");
        }
    }

    #[test]
    fn other_words_are_a_connection_that_broke() {
        for said in ["kex_exchange_identification: Connection closed by remote host", "client_loop: send disconnect"] {
            let disconnect = explain(said);
            assert_eq!((disconnect.kind, disconnect.hint), (ErrorKind::Unreachable, None));
            assert!(disconnect.reason.contains(said), "{}", disconnect.reason);
        }
        assert_eq!(explain("").reason, "the connection broke");
    }

    #[test]
    fn an_unknown_key_is_marked() {
        let said = "No ED25519 host key is known for [h]:1 and you have requested strict checking.\r\n\
                    Host key verification failed.\r\n";
        let disconnect = explain(said);
        assert!(
            disconnect.cause == Some(Cause::UnknownHostKey) && disconnect.kind == ErrorKind::NoEntry,
            "{disconnect:?}"
        );
    }

    #[test]
    fn a_changed_key_says_both_and_how_to_forget_the_old_one() {
        let said = "@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@@\n\
                    IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
                    The fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\n\
                    Please contact your system administrator.\n\
                    Offending ECDSA key in /root/.ssh/known_hosts:3\n  remove with:\n  \
                    ssh-keygen -f \"/root/.ssh/known_hosts\" -R \"[h]:1\"\nHost key verification failed.";
        let disconnect = explain(said);
        assert_eq!(disconnect.kind, ErrorKind::NoEntry);
        let hint = disconnect.hint.unwrap();
        assert!(
            disconnect.reason.contains("SHA256:abc now") && disconnect.reason.contains("known_hosts:3"),
            "{}",
            disconnect.reason
        );
        assert!(hint.contains("ssh-keygen -f \"/root/.ssh/known_hosts\" -R \"[h]:1\""), "{hint}");
        assert_eq!(disconnect.cause, None);
    }

    #[test]
    fn what_a_program_says_becomes_one_printable_line() {
        assert_eq!(one_line(b"a\x1b[2J\r\n\r\n@@@@\n  b \xff\n"), "a[2J; b \u{fffd}");
        let long = one_line(&"ab".repeat(5000).into_bytes());
        assert!(long.starts_with('…') && long.chars().count() == 1502, "{}", long.chars().count());
    }
}
