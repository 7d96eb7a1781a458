//! A backup host whose clock is another one than this machine's.

use std::fs;
use std::process::Command;

use super::{Ended, Ship};
use support::sshd::Sshd;

/// Backs `data` up with this machine's clock shifted by so much, as `faketime -f` takes it. The host's stays.
fn back_up_shifted(ship: &Ship, by: &str, kind: &[&str]) -> Ended {
    let data = ship.at("data").display().to_string();
    let words = [&["-q", "backup", "--set", "s"], kind, &[&data]].concat();
    let varu = ship.machine.varu(&words);
    let mut shifted = Command::new("faketime");
    shifted.args(["-f", by]).arg(varu.get_program()).args(varu.get_args());
    for (name, value) in varu.get_envs() {
        match value {
            Some(value) => shifted.env(name, value),
            None => shifted.env_remove(name),
        };
    }
    shifted.output().unwrap().into()
}

#[test]
fn a_clock_that_is_not_the_hosts_is_said_by_the_backup_with_both_times() {
    let server = Sshd::shared();
    for (by, side) in [("-1h", "behind"), ("+2d", "ahead of"), ("-400d", "behind"), ("-7m", "behind")] {
        let ship = Ship::beside(&server, "");
        ship.run(&["init"]).ends(0);
        fs::create_dir(ship.at("data")).unwrap();
        fs::write(ship.at("data/file"), by).unwrap();
        let said = back_up_shifted(&ship, by, &[]).ends(3).err;
        assert!(said.contains("[wrong-clock]") && said.contains(&format!(" {side} the host")), "{by}: {said}");
        assert_eq!(said.matches("clock").count() - said.matches("wrong-clock").count(), 2, "both clocks: {said}");
        // With nothing new to store, too.
        let again = back_up_shifted(&ship, by, &["--incremental"]).ends(3).err;
        assert!(again.contains(" the host"), "{by}: {again}");
    }
    for by in ["+0", "+2m", "-2m"] {
        let ship = Ship::beside(&server, "");
        ship.run(&["init"]).ends(0);
        fs::create_dir(ship.at("data")).unwrap();
        let said = back_up_shifted(&ship, by, &[]).ends(0).err;
        assert!(!said.contains("clock"), "{by}: {said}");
    }
}
