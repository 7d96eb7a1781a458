//! Ansible on the control machine, which is this one: the collection as it is built and installed, played by its full names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fleet::{Ended, Fleet, SSH, run};

/// Whose ansible-core plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// This machine's own, Debian's.
    Debian,
    /// The newest that PyPI has for this machine's Python.
    Newest,
}

impl Core {
    /// The folder of its programs.
    pub fn programs(self) -> PathBuf {
        match self {
            Core::Debian => PathBuf::from("/usr/bin"),
            Core::Newest => newest().join("bin"),
        }
    }

    /// One of its programs.
    pub fn program(self, name: &str) -> Command {
        let folder = self.programs();
        let mut command = Command::new(folder.join(name));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", folder.display())).env("ANSIBLE_NOCOLOR", "1").env("NO_COLOR", "1");
        command
    }
}

/// A virtual environment with the newest ansible-core and ansible-lint. Without a network the one of before does.
fn newest() -> PathBuf {
    let cache = std::env::var("VARU_TEST_CACHE").unwrap_or_else(|_| "/var/cache/varu-tests".to_owned());
    let folder = Path::new(&cache).join("ansible");
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| {
        if !folder.join("bin/pip").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).ends(0);
        }
        let mut install = Command::new(folder.join("bin/pip"));
        let installed = run(install.args(["install", "--quiet", "--upgrade", "ansible-core", "ansible-lint"]));
        assert!(installed.status == 0 || folder.join("bin/ansible-playbook").exists(), "{}", installed.text);
    });
    folder
}

/// Builds the collection, and installs it below a folder, which is returned.
pub fn collection(core: Core, folder: &Path) -> PathBuf {
    let built = folder.join("built");
    let mut build = core.program("ansible-galaxy");
    build.args(["collection", "build", "--force", "--output-path"]).arg(&built).current_dir("ansible");
    run(&mut build).ends(0);
    let installed = folder.join("collections");
    let mut install = core.program("ansible-galaxy");
    install.args(["collection", "install", "--force", "--offline", "--collections-path"]).arg(&installed);
    run(install.arg(built.join("varu-backup-0.1.0.tar.gz"))).ends(0);
    installed
}

/// An inventory, and all that its playbooks printed.
pub struct Ansible {
    core: Core,
    inventory: PathBuf,
    folder: PathBuf,
    collections: PathBuf,
    pub printed: String,
}

/// The result of a playbook.
pub struct Played {
    pub text: String,
    /// Tasks that changed something, on all machines.
    pub changed: u32,
}

impl Ansible {
    /// `hosts` are the children of `all`, in YAML.
    pub fn new(fleet: &Fleet, core: Core, name: &str, hosts: &str) -> Self {
        let inventory = fleet.path(&format!("{name}.yml"));
        let (key, ssh) = (fleet.path("key"), SSH.join(" "));
        let head = format!(
            "all:\n  vars:\n    ansible_user: admin\n    ansible_python_interpreter: /usr/bin/python3\n    \
             ansible_ssh_private_key_file: {}\n    ansible_ssh_common_args: \"{ssh}\"\n",
            key.display()
        );
        fs::write(&inventory, head + hosts).unwrap();
        let folder = fleet.path(&format!("ansible-{name}"));
        let collections = collection(core, &folder);
        fs::write(folder.join("vault-password"), "a vault's password\n").unwrap();
        Self { core, inventory, folder, collections, printed: String::new() }
    }

    /// Encrypts a file of the control machine, as an administrator does.
    pub fn encrypt(&self, file: &Path) {
        let mut vault = self.core.program("ansible-vault");
        vault.args(["encrypt", "--vault-password-file"]).arg(self.folder.join("vault-password")).arg(file);
        run(&mut vault).ends(0);
    }

    /// A variable's value, encrypted, as in an inventory.
    pub fn encrypted(&self, value: &str) -> String {
        let mut vault = self.core.program("ansible-vault");
        vault.args(["encrypt_string", "--vault-password-file"]).arg(self.folder.join("vault-password")).arg(value);
        run(&mut vault).ends(0).replace("Encryption successful", "").trim().to_owned()
    }

    /// Changes the inventory's text.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.inventory).unwrap();
        assert!(text.contains(from), "{from} is in the inventory");
        fs::write(&self.inventory, text.replace(from, to)).unwrap();
    }

    /// Runs a playbook of the collection, as loud as it can be: no secret may be in that either.
    pub fn play(&mut self, playbook: &str, words: &[&str]) -> Ended {
        let mut ansible = self.core.program("ansible-playbook");
        ansible.arg(format!("varu.backup.{playbook}")).args(["-vv", "--diff", "--vault-password-file"]);
        ansible.arg(self.folder.join("vault-password")).args(words).arg("-i").arg(&self.inventory);
        ansible.current_dir(&self.folder).env("ANSIBLE_COLLECTIONS_PATH", &self.collections);
        ansible.env("ANSIBLE_LOCAL_TEMP", self.folder.join("temporary"));
        ansible.env("ANSIBLE_HOME", &self.folder).env("ANSIBLE_PIPELINING", "1").env("ANSIBLE_NOCOWS", "1");
        let ended = run(&mut ansible);
        self.printed += &ended.text;
        ended
    }

    /// Runs a playbook to a good end.
    #[track_caller]
    pub fn plays(&mut self, playbook: &str, words: &[&str]) -> Played {
        let Ended { what, status, text } = self.play(playbook, words);
        let failed: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("fatal:") || line.starts_with("ERROR") || line.contains("[ERROR]"))
            .collect();
        assert_eq!(status, 0, "{what}\n{}", failed.join("\n"));
        let changed =
            text.split("changed=").skip(1).filter_map(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
        let changed = changed.sum();
        Played { text, changed }
    }

    /// Runs a playbook that a guard of it ends, with these words.
    #[track_caller]
    pub fn refuses(&mut self, playbook: &str, words: &[&str], said: &str) {
        let Ended { what, status, text } = self.play(playbook, words);
        assert_eq!(status, 2, "{what}\n{text}");
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(said), "{what} should say {said:?}:\n{text}");
    }
}
