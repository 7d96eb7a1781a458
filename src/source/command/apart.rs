//! A program without privileges on this machine: for clients that are given foreign text.
//!
//! Where varu is root, such a program has a user number of its own that nobody else has: no file and no process is that
//! user's. It can't gain rights, start programs, write files or, where it needs none, reach a network. What it has to know
//! (who it is, to the server) comes as the first lines of its input, so that no file that it may read holds it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{Uid, User};

/// The user of a program, and whether it reaches a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    user: u32,
    network: bool,
}

/// The numbers that systemd gives to users that are there for as long as a service runs. No package and no person has one.
const NUMBERS: Range<u32> = 61_184..65_520;

/// A folder in which nothing is.
pub const NOTHING: &str = "/nonexistent";

/// The path of [`Apart::argv`]'s file.
pub const FILE: &str = "/proc/self/fd/3";

/// Reads a file from the lines before the word, and gives it to the program. No limit holds for the shell's own here-document.
const SCRIPT: &str = r#"file=
while IFS= read -r line && [ "$line" != "$1" ]; do file="$file$line
"; done
shift
exec 3<<END
$file
END
ulimit -c 0
ulimit -p 0 2>/dev/null || ulimit -u 0
ulimit -f 0
exec "$@""#;

impl Apart {
    /// None where this program isn't root, and so can't give anything up.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let taken: BTreeSet<u32> = std::fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .map(|about| about.uid())
            .collect();
        let count = NUMBERS.end - NUMBERS.start;
        let any = u32::try_from(RandomState::new().hash_one(count) % u64::from(count)).unwrap_or(0);
        let free = |user: &u32| !taken.contains(user) && matches!(User::from_uid(Uid::from_raw(*user)), Ok(None));
        let user = (0..count).map(|step| NUMBERS.start + (any + step) % count).find(free)?;
        Some(Self { user, network: true })
    }

    /// The same without a network. Sockets in the file system are none.
    pub fn without_network(self) -> Self {
        Self { network: false, ..self }
    }

    /// The command line that starts `argv` with what it may not do, and the lines that come first in its input: a file,
    /// which it finds as [`FILE`]. The first word of `argv` is a path.
    pub fn argv(argv: &[OsString], file: &[u8]) -> (Vec<OsString>, Vec<u8>) {
        let end = format!("the end of the file {:016x}", RandomState::new().hash_one(file));
        let mut words: Vec<OsString> = ["/bin/sh", "-c", SCRIPT, "sh", &end].map(OsString::from).into();
        words.extend(argv.iter().cloned());
        (words, [file, b"\n", end.as_bytes(), b"\n"].concat())
    }

    /// Makes a command that user's.
    pub(super) fn settle(self, command: &mut Command) {
        // The list of groups becomes empty with it.
        command.uid(self.user).gid(self.user).current_dir("/");
    }

    /// Starts something with what a thread gives up for itself and for what it starts.
    pub(super) fn start<T: Send>(self, start: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let started = scope.spawn(move || {
                prctl::set_no_new_privs()?;
                if !self.network {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                }
                start()
            });
            started.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it has ended")))
        })
    }
}

/// The path of a program that is run on this machine; its name, where it is nowhere.
pub fn located(name: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| runs(path)).unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Interrupt;
    use crate::source::command::talk::Feed;

    /// What a script prints that is run apart, with a secret in its file.
    fn told(apart: Apart, script: &str, file: &[u8]) -> String {
        let argv: Vec<OsString> = ["/bin/sh", "-c", script].map(OsString::from).into();
        let (argv, first) = Apart::argv(&argv, file);
        let environment = [("PATH".into(), "/usr/bin:/bin".into())];
        let mut feed = Feed::start_in(&argv, Some(&environment), Some(apart), 1 << 20, Interrupt::default()).unwrap();
        feed.write(&first).unwrap();
        feed.write(b"what comes behind\n").unwrap();
        let (output, _) = feed.finish_anyway().unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_program_is_found_by_the_path() {
        assert!(located("sh").is_absolute() && located("no such program") == Path::new("no such program"));
    }

    #[test]
    fn a_program_apart_reads_nothing_of_ours_and_starts_nothing() {
        let Some(apart) = Apart::new() else { return assert!(!nix::unistd::geteuid().is_root()) };
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let (open, secret) = (folder.path().join("open"), folder.path().join("secret"));
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        std::fs::write(&secret, "secret").unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        // All of it by the shell itself: it can start nothing.
        let script = format!(
            "while read -r name value more; do case $name in Uid:|Gid:|Groups:|NoNewPrivs:|CapEff:) echo \"$name $value\";; esac; \
             done < /proc/self/status; read -r line < {FILE} && echo \"file $line\"; read -r line && echo \"input $line\"; \
             for file in /etc/shadow {0}; do {{ read -r line && echo \"reads $line\"; }} < $file; done; echo last",
            secret.display()
        );
        for apart in [apart, apart.without_network()] {
            let said = told(apart, &script, b"[client]\npassword=geheim");
            let user = apart.user;
            assert!(said.contains(&format!("Uid: {user}\nGid: {user}\nGroups: \n")), "{said}");
            assert!(said.contains("NoNewPrivs: 1\n") && said.contains("CapEff: 0000000000000000\n"), "{said}");
            assert!(said.contains("file [client]\n") && said.contains("input what comes behind\n"), "{said}");
            assert!(said.ends_with("last\n") && !said.contains("reads"), "{said}");
            assert_eq!(told(apart, "/usr/bin/id", b""), "", "it starts nothing");
            let write = format!("{{ echo x; echo wrote >&2; }} > {}", open.display());
            told(apart, &write, b"");
            assert!(std::fs::read(&open).unwrap().is_empty(), "it writes nothing");
        }
        // A network of its own has nothing but the loop, and that is down.
        let routes = "while read -r line; do echo \"$line\"; done < /proc/net/dev";
        assert_eq!(told(apart.without_network(), routes, b"").matches(':').count(), 1);
        // A file of any size.
        let long = "0123456789abcdef\n".repeat(1_000);
        let count = format!("n=0; while read -r line; do n=$((n + 1)); done < {FILE}; echo $n");
        assert_eq!(told(apart, &count, long.as_bytes()).trim(), "1002");
    }
}
