//! Options for reaching a remote, and the constructor of one.

use std::path::PathBuf;
use std::time::Duration;

use super::place::{is_host, is_user};
use super::{Error, ErrorKind, Result};

/// Options for reaching a host. None of them concerns a local folder. None means the value of `~/.ssh/config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The most connections at once, from 1 to [`Options::MOST_CONNECTIONS`]. A near host gets two, a distant one more:
    /// each moves a limited number of bytes in a round trip.
    pub connections: usize,
    /// The only key to log in with. By default those of ssh's configuration, its agent and its default files.
    pub ssh_key: Option<PathBuf>,
    /// The host or hosts to go through, as `ssh -J` takes them: `user@host:port`, with commas between several.
    pub jump_host: Option<String>,
    /// How long reaching the host may take.
    pub connect_timeout: Duration,
    /// How long no byte may move while an answer is awaited. A disk that is slow to flush needs some time.
    pub stall_timeout: Duration,
    /// The only file in which the host's key is looked up. Else those of ssh's configuration.
    pub known_hosts: Option<PathBuf>,
    /// ssh's configuration file, in place of `~/.ssh/config` and the system's.
    pub ssh_config: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 8,
            ssh_key: None,
            jump_host: None,
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(120),
            known_hosts: None,
            ssh_config: None,
        }
    }
}

impl Options {
    /// The most connections that may be asked for. sshd refuses some of the eleventh to the hundredth that log in at once.
    pub const MOST_CONNECTIONS: usize = 64;

    /// Refuses options that can't be meant.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, hint: &str| {
            Err(Error::new(ErrorKind::Invalid, "reading the options of", "the remote", what).hint(hint))
        };
        if !(1..=Self::MOST_CONNECTIONS).contains(&self.connections) {
            return wrong("the number of connections is out of range", "give a number from 1 to 64");
        }
        if self.connect_timeout.is_zero() || self.stall_timeout.is_zero() {
            return wrong("a time limit is zero", "give a second or more");
        }
        match self.jump_host.as_deref() {
            Some(jump) if !jump.split(',').all(is_jump) => {
                wrong(&format!("{jump:?} is no jump host"), "write HOST, USER@HOST or USER@HOST:PORT")
            }
            _ => Ok(()),
        }
    }
}

/// Whether `ssh -J` takes it for one host and nothing else.
fn is_jump(text: &str) -> bool {
    let (user, server) = text.rsplit_once('@').map_or((None, text), |(user, server)| (Some(user), server));
    let (host, port) = match server.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, port)) if host.contains(':') => (host, port.strip_prefix(':').filter(|_| !port.is_empty())),
        _ => server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
    };
    user.is_none_or(is_user) && is_host(host) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(text: &str) -> Result<()> {
        Options { jump_host: Some(text.to_owned()), ..Options::default() }.check()
    }

    #[test]
    fn a_jump_host_is_a_host_and_nothing_else() {
        for good in ["gate", "u@gate", "u@gate:22", "[::1]:22", "u@[::1]", "a,b@c:1"] {
            jump(good).unwrap();
        }
        for bad in ["", "-oProxyCommand=x", "a,-v", "u@", "-l@gate", "gate:0", "gate:x", "a b", "a;b", "a,,b", "$(id)"]
        {
            assert_eq!(jump(bad).unwrap_err().kind, ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        Options::default().check().unwrap();
        for bad in [
            Options { connections: 0, ..Options::default() },
            Options { connections: 65, ..Options::default() },
            Options { stall_timeout: Duration::ZERO, ..Options::default() },
            Options { connect_timeout: Duration::ZERO, ..Options::default() },
        ] {
            assert!(bad.check().unwrap_err().hint.is_some(), "{bad:?}");
        }
    }
}
