//! Independence of a program's output from the speed of the network.

use std::io::Write;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{IMPATIENT, Ship, assert_restores};
use support::noise;
use support::proxy::{Fault, Proxy};
use support::sshd::Sshd;

/// More than the threads of a backup hold on their way.
const BYTES: usize = 48 << 20;

#[test]
fn a_pipe_is_read_to_its_end_while_the_host_is_away() {
    let server = Sshd::shared();
    let ship = Ship::beside(&server, "");
    ship.run(&["-q", "init"]).ends(0);
    let proxy = Proxy::start(server.port(), Duration::ZERO);
    ship.goes_to(&server, &server.place_through(proxy.port(), ship.vault()), IMPATIENT);
    // In the middle of the first pack.
    proxy.fault_at(2 << 20, Fault::Down);
    let data = noise(BYTES, 1);
    let mut varu = ship.machine.varu(&["-q", "backup", "--stdin", "data"]);
    let mut child = varu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut pipe, fed) = (child.stdin.take().unwrap(), data.clone());
    let (done, feeding) = channel();
    std::thread::spawn(move || {
        pipe.write_all(&fed).unwrap();
        done.send(()).unwrap();
    });
    let fed = feeding.recv_timeout(Duration::from_secs(50));
    let waited = std::time::Instant::now();
    while !proxy.has_failed() && waited.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(proxy.has_failed(), "nothing was sent");
    proxy.up();
    let ended = child.wait_with_output().unwrap();
    assert!(fed.is_ok(), "the pipe wasn't read while the host was away");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_restores(&ship.near(), "latest", &data);
    let left = std::fs::read_dir(ship.at("state")).unwrap().map(|entry| entry.unwrap().path().join("spool"));
    let left: Vec<_> =
        left.filter(|spool| spool.exists()).flat_map(|spool| std::fs::read_dir(spool).unwrap()).collect();
    assert!(left.is_empty(), "{left:?}");
}
