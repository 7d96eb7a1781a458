//! Programs that are older than the server.

use crate::postgresql::site;

/// A release of the matrix has programs of its own; this machine's are older.
#[test]
fn programs_that_are_older_than_the_server_are_named_with_the_package_that_is_not() {
    if support::release::of_this_process().is_none() {
        return;
    }
    let Some((server, site)) = site("CREATE TABLE t (a int)") else { return };
    site.back_up();
    let package = format!("postgresql-client-{}", server.version());
    for words in
        [&["config", "check"][..], &["backup", "agama"], &["restore", "agama", "--into", "postgresql:copy", "--yes"]]
    {
        let ended = support::machine::Ended::from(site.command(words).env("PATH", "/usr/bin:/bin").output().unwrap());
        let said = format!("{}{}", String::from_utf8_lossy(&ended.out), ended.err);
        assert_eq!(ended.status, 2, "{words:?}: {said}");
        assert!(said.contains("is older") && said.contains(&package), "{words:?}: {said}");
    }
    assert_eq!(site.snapshots(), 1);
}
