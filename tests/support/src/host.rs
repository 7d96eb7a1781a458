//! A backup host as `varu host prepare` makes it, behind a real sshd, and a machine that reaches it with the system's ssh.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use varu::host::Places;
use varu::remote::Folder;

use crate::machine::Ended;
use crate::sshd::{Sshd, forget_account};

/// A backup host with one account, and the machine whose key logs in there.
pub struct Host {
    pub server: Sshd,
    pub account: String,
    /// Everything of the host: below it `srv`, `state`, `keys`, `drop-ins`.
    base: PathBuf,
    /// The machine: keys, state, its way to ssh.
    machine: tempfile::TempDir,
    url: String,
}

impl Host {
    /// Prepares an account with the program. Root only.
    pub fn prepared() -> Self {
        // Every folder above a chroot must be root's and writable by nobody else, which /tmp isn't.
        let above = Path::new("/var/lib/varu-test");
        fs::create_dir_all(above).unwrap();
        let base = tempfile::Builder::new().prefix("host").rand_bytes(8).tempdir_in(above).unwrap().keep();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(base.join("drop-ins")).unwrap();
        let server = Sshd::start_with(&format!("Include {}/drop-ins/*.conf", base.display()));
        let account = format!("varu-{}", base.file_name().unwrap().to_str().unwrap().to_lowercase());
        let mut host = Self { server, account, base, machine: tempfile::tempdir().unwrap(), url: String::new() };
        host.url = host.prepare(&[]).ends(0).json()["url"].as_str().unwrap().to_owned();
        host.server.stop_listening();
        host.server.listen_again();
        host.make_way();
        host
    }

    pub fn base(&self) -> &Path {
        &self.base
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn places(&self) -> Places {
        Places { root: self.base.join("srv"), state: self.base.join("state") }
    }

    /// The machine uses the account under its new name.
    pub fn rename(&mut self, name: &str) {
        self.url = self.url.replace(&self.account, name);
        self.account = name.to_owned();
    }

    /// A file of the repository, as root sees it.
    pub fn file(&self, folder: Folder, name: &str) -> PathBuf {
        self.base.join("srv").join(&self.account).join("repo").join(folder.name()).join(name)
    }

    /// The names in a folder of the repository.
    pub fn names(&self, folder: Folder) -> Vec<String> {
        let entries = fs::read_dir(self.file(folder, "")).unwrap().map(Result::unwrap);
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `varu host …` on this host.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut varu = Command::new(crate::program());
        varu.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        varu.env("VARU_CONFIG", "/dev/null").args(["--json", "-q", "host"]).args(words);
        varu.arg("--root").arg(self.base.join("srv")).arg("--ledgers").arg(self.base.join("state"));
        varu
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        self.command(words).output().unwrap().into()
    }

    /// `varu host prepare`, with the key that may log in.
    pub fn prepare(&self, words: &[&str]) -> Ended {
        self.prepare_with(&self.server.key(), words)
    }

    /// The same with another private key's public half.
    pub fn prepare_with(&self, key: &Path, words: &[&str]) -> Ended {
        let mut public = key.as_os_str().to_owned();
        public.push(".pub");
        let mut command = self.sshd_command(&["prepare", &self.account, "--address", "127.0.0.1"]);
        command.arg("--ssh-key").arg(public).args(words).output().unwrap().into()
    }

    /// A command that changes sshd's settings.
    pub fn sshd_command(&self, words: &[&str]) -> Command {
        let mut command = self.command(words);
        command.arg("--authorized-keys").arg(self.base.join("keys"));
        command.arg("--drop-ins").arg(self.base.join("drop-ins"));
        command.arg("--sshd-config").arg(self.server.config_file());
        command
    }

    /// Runs it, and makes the server read the new files.
    pub fn changes(&self, words: &[&str]) -> Ended {
        let ended = self.sshd_command(words).output().unwrap().into();
        self.server.stop_listening();
        self.server.listen_again();
        ended
    }

    /// `varu host accept`.
    pub fn accept(&self) -> Ended {
        self.run(&["accept"])
    }

    /// An ssh that goes to this host alone, whatever the configuration of who runs the test says.
    fn make_way(&self) {
        let config = format!(
            "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  LogLevel ERROR\n",
            self.server.key().display(),
            self.server.known_hosts().display()
        );
        fs::write(self.machine.path().join("ssh_config"), config).unwrap();
        let bin = self.machine.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let script =
            format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", self.machine.path().join("ssh_config").display());
        fs::write(bin.join("ssh"), script).unwrap();
        fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// ssh, as the machine uses it.
    pub fn ssh(&self) -> Command {
        let mut ssh = Command::new(self.machine.path().join("bin/ssh"));
        ssh.arg("-p").arg(self.server.port().to_string()).stdin(Stdio::null());
        ssh
    }

    /// The account's name at its host, for ssh.
    pub fn login(&self) -> String {
        format!("{}@127.0.0.1", self.account)
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.machine.path().join(path)
    }

    /// The program on the machine.
    pub fn varu(&self, words: &[&str]) -> Ended {
        self.varu_command(words).output().unwrap().into()
    }

    pub fn varu_command(&self, words: &[&str]) -> Command {
        self.varu_command_at(&self.url, words)
    }

    /// The program on the machine, which reaches its account otherwise.
    pub fn varu_command_at(&self, url: &str, words: &[&str]) -> Command {
        let mut varu = Command::new(crate::program());
        let path = format!("{}:/usr/bin:/bin", self.at("bin").display());
        varu.env_clear().env("PATH", path).env("HOME", self.at("home")).env("VARU_CONFIG", "/dev/null");
        for (variable, end) in [("VARU_WRITER_KEY", "writer.key"), ("VARU_IDENTITY", "identity.txt")] {
            varu.env(variable, self.key(end));
        }
        varu.env("VARU_STATE", self.at("state"));
        varu.args(["--json", "-q", "--repo", url]).args(words);
        varu
    }

    /// The file in `keys` whose name ends so, or where it is to be made.
    fn key(&self, end: &str) -> PathBuf {
        let named = |path: &PathBuf| path.to_string_lossy().ends_with(end);
        let entries = fs::read_dir(self.at("keys")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).find(named).unwrap_or_else(|| self.at("keys").join(end))
    }

    /// Backs a folder of the machine up, with these bytes in it. The snapshot's id.
    pub fn back_up(&self, bytes: &[u8]) -> String {
        self.back_up_as(bytes, &[])
    }

    /// The same, with more words.
    pub fn back_up_as(&self, bytes: &[u8], words: &[&str]) -> String {
        fs::create_dir_all(self.at("data")).unwrap();
        fs::write(self.at("data/file"), bytes).unwrap();
        fs::write(self.at("data/other"), &bytes[..bytes.len() / 3]).unwrap();
        let data = self.at("data");
        let ended = self.varu(&[&["backup", data.to_str().unwrap()], words].concat());
        // A policy that keeps less than the machine expects makes it report missing snapshots.
        let expected = if ended.err.contains("[missing-snapshot]") { 3 } else { 0 };
        let ended = ended.ends(expected);
        ended.json()["snapshot"]["id"].as_str().unwrap().to_owned()
    }

    /// The restored content of a snapshot, from the repository and the identity alone.
    pub fn bring_back(&self, snapshot: &str) -> Result<Vec<u8>, Ended> {
        let to = tempfile::tempdir().unwrap();
        let words = ["restore", "files", "--snapshot", snapshot, "--to", to.path().to_str().unwrap()];
        let mut command = self.varu_command(&[]);
        let state = tempfile::tempdir().unwrap();
        let ended: Ended = command.env("VARU_STATE", state.path()).args(words).output().unwrap().into();
        let data = to.path().join(self.at("data").strip_prefix("/").unwrap());
        match (ended.status, fs::read(data.join("file")), fs::read(data.join("other"))) {
            (0, Ok(file), Ok(other)) if other == file[..file.len() / 3] => Ok(file),
            _ => Err(ended),
        }
    }

    /// Asserts that these snapshots restore to the byte.
    #[track_caller]
    pub fn assert_restore(&self, snapshots: &[(String, Vec<u8>)]) {
        for (id, bytes) in snapshots {
            match self.bring_back(id) {
                Ok(back) => assert!(back == *bytes, "{id} restores to something else"),
                Err(ended) => panic!("{id} doesn't restore: {} {}", ended.status, ended.err),
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.kill_sessions();
        forget_account(&self.account);
        let _ = fs::remove_dir_all(&self.base);
    }
}
