//! A backup host that goes away in the middle of an upload, for longer than a server has patience with who reads from it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Ended, Machine};
use crate::proxy::{Fault, Proxy};
use crate::sshd::Sshd;

/// Bytes of the repository after which the host goes away.
const MOST: u64 = 2 << 20;

/// A repository at such a host.
pub struct Away {
    _host: Arc<Sshd>,
    proxy: Proxy,
    pub machine: Machine,
    /// The lines of the configuration that say where it is.
    pub repository: String,
}

impl Away {
    /// Makes a repository in `folder` of the host, and a configuration in `config` with `set`, a table of a set.
    pub fn new(folder: &Path, config: &Path, set: &str) -> Self {
        let host = Sshd::shared();
        let proxy = Proxy::start(host.port(), Duration::ZERO);
        fs::create_dir(folder).unwrap();
        let repository = format!(
            "[repository]\nurl = '{}'\nssh_key = '{}'\nknown_hosts = '{}'\nssh_config = '/dev/null'\n",
            host.place_through(proxy.port(), folder.join("vault")),
            host.key().display(),
            host.known_hosts().display()
        );
        fs::write(config, format!("{repository}{set}")).unwrap();
        let machine = Machine::configured(folder, config);
        machine.init();
        Self { _host: host, proxy, machine, repository }
    }

    /// Backs the set up; soon the host is away for so long.
    pub fn back_up(&self, set: &str, gone: Duration) -> Ended {
        self.proxy.fault_at(self.proxy.passed() + MOST, Fault::Down);
        let mut varu = self.machine.varu(&["-q", "backup", set]);
        let mut child = varu.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !self.proxy.has_failed() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(50));
        }
        if !self.proxy.has_failed() {
            let ended = Ended::from(child.wait_with_output().unwrap());
            panic!("it ended before so much was sent: {}", ended.err);
        }
        std::thread::sleep(gone);
        self.proxy.up();
        child.wait_with_output().unwrap().into()
    }
}
