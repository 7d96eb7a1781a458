//! Parts that the commands which change sshd's settings share.

use std::path::PathBuf;
use std::process::Command;

use varu::host::sshd::Sshd;

use crate::cli::exit::{ExitStatus, Failure};
use crate::terminal::human::one_line;

/// Where the SSH server's things are.
#[derive(Debug, clap::Args)]
pub struct SshArgs {
    /// The folder of the accounts' public keys.
    #[arg(long, value_name = "DIR", default_value = "/etc/varu/authorized_keys")]
    pub authorized_keys: PathBuf,

    /// The SSH server's program.
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/sshd")]
    sshd: PathBuf,

    /// The SSH server's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config")]
    sshd_config: PathBuf,

    /// The folder whose *.conf that configuration includes.
    #[arg(long, value_name = "DIR", default_value = "/etc/ssh/sshd_config.d")]
    drop_ins: PathBuf,

    /// Make the SSH server read its configuration now.
    #[arg(long)]
    pub reload: bool,
}

/// What makes the SSH server read its configuration.
pub const RELOAD: [&str; 3] = ["systemctl", "reload", "ssh"];

impl SshArgs {
    /// The server.
    pub fn sshd(&self) -> Sshd {
        Sshd { program: self.sshd.clone(), config: self.sshd_config.clone(), drop_ins: self.drop_ins.clone() }
    }

    /// Makes the server read its configuration, where that was asked for.
    pub fn reload_if_asked(&self) -> Result<(), Failure> {
        if !self.reload {
            return Ok(());
        }
        match Command::new(RELOAD[0]).args(&RELOAD[1..]).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(Failure::new(ExitStatus::Failed, format!("{} failed: {}", RELOAD.join(" "), one_line(said.trim()))))
            }
            Err(error) => Err(Failure::new(ExitStatus::Failed, format!("{} can't be started: {error}", RELOAD[0]))),
        }
    }
}
