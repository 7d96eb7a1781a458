//! Ansible on the control machine, which is this one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::fleet::{Ended, Fleet, SSH, run};

/// An inventory, and all that its playbooks printed.
pub struct Ansible {
    inventory: PathBuf,
    folder: PathBuf,
    pub printed: String,
}

/// What a playbook did.
pub struct Played {
    pub text: String,
    /// Tasks that changed something, on all machines.
    pub changed: u32,
}

impl Ansible {
    /// `hosts` are the children of `all`, in YAML.
    pub fn new(fleet: &Fleet, hosts: &str) -> Self {
        let inventory = fleet.path("inventory.yml");
        let (key, ssh) = (fleet.path("key"), SSH.join(" "));
        let head = format!(
            "all:\n  vars:\n    ansible_user: root\n    ansible_python_interpreter: /usr/bin/python3\n    \
             ansible_ssh_private_key_file: {}\n    ansible_ssh_common_args: \"{ssh}\"\n",
            key.display()
        );
        fs::write(&inventory, head + hosts).unwrap();
        Self { inventory, folder: fleet.path("ansible"), printed: String::new() }
    }

    /// Runs a playbook, as loud as it can be: no secret may be in that either.
    pub fn play(&mut self, playbook: &str, words: &[&str]) -> Ended {
        let mut ansible = Command::new("ansible-playbook");
        ansible
            .arg(playbook)
            .arg("-vv")
            .arg("--diff")
            .args(words)
            .arg("-i")
            .arg(&self.inventory)
            .current_dir("ansible");
        ansible.env("ANSIBLE_LOCAL_TEMP", self.folder.join("temporary")).env("ANSIBLE_NOCOLOR", "1");
        ansible.env("ANSIBLE_HOME", &self.folder).env("ANSIBLE_PIPELINING", "1").env("ANSIBLE_NOCOWS", "1");
        let ended = run(&mut ansible);
        self.printed += &ended.text;
        ended
    }

    /// Runs a playbook to a good end.
    #[track_caller]
    pub fn plays(&mut self, playbook: &str, words: &[&str]) -> Played {
        let Ended { what, status, text } = self.play(playbook, words);
        let failed: Vec<&str> =
            text.lines().filter(|line| line.contains("fatal:") || line.starts_with("ERROR")).collect();
        assert_eq!(status, 0, "{what}\n{}", failed.join("\n"));
        let changed =
            text.split("changed=").skip(1).filter_map(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
        let changed = changed.sum();
        Played { text, changed }
    }
}
