//! The package, and the program without one.

use std::path::Path;
use std::process::Command;

use super::fleet::{Machine, package, run};
use super::{fleet, tell};

/// The package has no errors, and comes, is upgraded, goes and is purged without a trace of it but what is the user's.
#[test]
fn the_package_comes_and_goes() {
    let Some(fleet) = fleet(1) else { return };
    let package = package();
    let found = run(Command::new("lintian").args(["--fail-on", "error", "--allow-root"]).arg(package));
    tell(&format!("lintian: {}", found.text.trim()));
    found.ends(0);
    let plain = fleet.boot("plain", 1, &[("plain", 1)]);
    plain.send(package, "/root/varu.deb");
    plain.does("apt-get install --yes --quiet ./varu.deb");
    plain.does("getent passwd varu && varu --version && test -e /usr/share/man/man1/varu-backup.1.gz");
    plain
        .does("test -e /usr/share/bash-completion/completions/varu && test -e /usr/share/zsh/vendor-completions/_varu");
    assert_eq!(plain.does("systemctl list-timers --all --legend=no 'varu-*'").trim(), "", "no timer is started by it");
    let config = "[repository]\\nurl = \"/srv/vault\"\\n[sets.etc]\\nsource = \"files\"\\npaths = [\"/etc/ssh\"]\\nschedule = { full = \"daily\" }\\n";
    plain.does(&format!("printf '{config}' > /etc/varu/varu.toml && varu init && varu schedule install"));
    plain.starts("varu-backup@etc", 0);
    let active = "systemctl is-active varu-backup@etc.timer";
    plain.does(active);

    let upgraded = "dpkg-deb -R varu.deb new && sed -i 's/^Version: .*/Version: 0.1.1/' new/DEBIAN/control && echo '# more' >> \
                    new/etc/varu/host.toml && dpkg-deb -b new new.deb && apt-get install --yes --quiet ./new.deb";
    plain.does(upgraded);
    plain.does(&format!("{active} && grep -q /srv/vault /etc/varu/varu.toml && grep -q more /etc/varu/host.toml"));
    plain.starts("varu-backup@etc", 0);

    plain.does("apt-get remove --yes --quiet varu");
    assert_eq!(plain.run(active).status, 3, "the timers stop");
    plain.does("test -e /etc/varu/varu.toml");
    plain.does("apt-get purge --yes --quiet varu");
    let kept = "ls /etc/varu/*.writer.key /etc/varu/*.identity.txt && test -d /srv/vault/packs && ls /var/lib/varu && getent passwd varu";
    plain.does(kept);
    assert_eq!(plain.does("find /etc/systemd /lib/systemd -name 'varu-*'; find /etc/varu -name '*.toml'").trim(), "");
    plain.does(
        "apt-get install --yes --quiet ./varu.deb && test -e /etc/varu/varu.toml && apt-get purge --yes --quiet varu",
    );
    without_a_package(&plain, config);
}

/// The program alone brings its units with it.
fn without_a_package(plain: &Machine, config: &str) {
    plain.send(Path::new(env!("CARGO_BIN_EXE_varu")), "/usr/local/bin/varu");
    plain.does(&format!(
        "chmod 755 /usr/local/bin/varu && printf '{config}' > /etc/varu/varu.toml && varu schedule install"
    ));
    plain.does("grep -q 'ExecStart=/usr/local/bin/varu backup %i' /etc/systemd/system/varu-backup@.service");
    plain.starts("varu-backup@etc", 0);
}
