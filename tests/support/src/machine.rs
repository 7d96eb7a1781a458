//! The real program on a machine of its own: keys, state and repository below one folder.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A machine, and the folder of all its files.
pub struct Machine {
    /// The folder.
    pub top: PathBuf,
    /// How it is told where its repository is.
    repository: [OsString; 2],
}

/// How a command ended.
pub struct Ended {
    /// The exit status, or the negative number of the signal.
    pub status: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let signal = || output.status.signal().map(|signal| -signal);
        let status = output.status.code().or_else(signal).unwrap();
        Self { status, out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

impl Ended {
    #[track_caller]
    pub fn ends(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\n{}", String::from_utf8_lossy(&self.out), self.err);
        self
    }

    /// The last document of `--json`.
    #[track_caller]
    pub fn json(&self) -> Value {
        let out = String::from_utf8_lossy(&self.out);
        let line = out.lines().last().unwrap_or_else(|| panic!("no document: {}", self.err));
        serde_json::from_str(line).unwrap_or_else(|_| panic!("not a document: {out}"))
    }
}

impl Machine {
    /// A machine in the folder `top`, with nothing on it.
    pub fn new(top: &Path) -> Self {
        Self { top: top.to_owned(), repository: ["--repo".into(), top.join("vault").into()] }
    }

    /// A machine in the folder `top` whose configuration names its repository.
    pub fn configured(top: &Path, config: &Path) -> Self {
        Self { top: top.to_owned(), repository: ["--config".into(), config.into()] }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.top.join(path)
    }

    /// The program with its repository, and nothing else that it could know.
    fn bare(&self) -> Command {
        let mut varu = Command::new(crate::program());
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.at("home"));
        varu.args(&self.repository);
        varu
    }

    /// The program on this machine. Its keys are in `keys`.
    pub fn varu<W: AsRef<OsStr>>(&self, words: &[W]) -> Command {
        let mut varu = self.bare();
        varu.arg("--state").arg(self.at("state"));
        varu.env("VARU_WRITER_KEY", self.writer_key()).env("VARU_IDENTITY", self.identity());
        varu.args(words);
        varu
    }

    /// The program on this machine, with another place as its repository.
    pub fn varu_at(&self, place: &Path) -> Command {
        let mut varu = Command::new(crate::program());
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.at("home"));
        varu.env("VARU_WRITER_KEY", self.writer_key()).env("VARU_IDENTITY", self.identity());
        varu.arg("--repo").arg(place).arg("--state").arg(self.at("state"));
        varu
    }

    /// Runs the program on this machine.
    pub fn run<W: AsRef<OsStr>>(&self, words: &[W]) -> Ended {
        self.varu(words).output().unwrap().into()
    }

    /// Runs the program on a fresh machine that is given the repository and the identity alone.
    pub fn run_elsewhere<W: AsRef<OsStr>>(&self, words: &[W]) -> Ended {
        let state = tempfile::tempdir().unwrap();
        let mut varu = self.bare();
        varu.env("HOME", state.path()).arg("--state").arg(state.path()).arg("--identity").arg(self.identity());
        varu.args(words).output().unwrap().into()
    }

    /// Makes the repository and the keys.
    pub fn init(&self) {
        self.run(&["init"]).ends(0);
    }

    fn writer_key(&self) -> PathBuf {
        self.key("writer.key")
    }

    fn identity(&self) -> PathBuf {
        self.key("identity.txt")
    }

    /// The file in `keys` whose name ends so, or where it is to be made.
    fn key(&self, end: &str) -> PathBuf {
        let named = |path: &PathBuf| path.to_string_lossy().ends_with(end);
        let entries = fs::read_dir(self.at("keys")).into_iter().flatten();
        let found = entries.map(|entry| entry.unwrap().path()).find(named);
        found.unwrap_or_else(|| self.at("keys").join(end))
    }

    /// The packs of the repository: names and sizes.
    pub fn packs(&self) -> std::collections::BTreeMap<String, u64> {
        let entries = fs::read_dir(self.at("vault/packs")).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())).collect()
    }
}
