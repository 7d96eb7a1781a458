//! `--limit-upload` and `--limit-download`.

use std::fs;
use std::time::{Duration, Instant};

use super::{Ship, assert_restores, back_up};
use support::noise;
use support::sshd::Sshd;

#[test]
fn limits_hold_in_each_direction_from_the_command_line_and_the_configuration() {
    let server = Sshd::shared();
    let ship = Ship::beside(&server, "");
    ship.run(&["-q", "init"]).ends(0);
    let data = noise(1_500_000, 1);
    fs::write(ship.at("data"), &data).unwrap();
    // A quarter of a second's bytes may go at once; the rest of them has to be waited for.
    let least = Duration::from_millis(1000);
    let timed = |work: &dyn Fn()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    assert!(timed(&|| drop(back_up(&ship.machine, &ship.at("data"), &["--limit-upload", "1M"]).ends(0))) > least);
    let words = ["-q", "--limit-download", "1M", "restore", "data", "--stdout"];
    assert!(timed(&|| assert!(ship.run(&words).ends(0).out == data)) > least);
    let more = "limit_download = '1 MB'\n";
    ship.goes_to(&server, &server.place(ship.vault()), more);
    assert!(timed(&|| assert_restores(&ship.machine, "latest", &data)) > least);
    assert!(ship.run(&["--limit-upload", "0", "list"]).ends(2).err.contains("2M"));
}
