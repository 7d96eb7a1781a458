//! Programs that don't fit the server: another vendor's, or older than it.

use crate::mysql::site::Site;

/// A release of the matrix has programs of its own; this machine's are another vendor's, or older.
#[test]
fn programs_that_do_not_fit_the_server_are_named_with_the_package_that_does() {
    let what = match support::release::of_this_process() {
        None => return,
        Some(release) if release.is_mysql() => ["MariaDB's", "mysql-client-core"],
        Some(_) => ["is older", "mariadb-client"],
    };
    let Some(site) = Site::new("CREATE DATABASE agama; CREATE TABLE agama.t (a INT PRIMARY KEY, b INT AS (a + 1))")
    else {
        return;
    };
    site.back_up();
    for words in
        [&["config", "check"][..], &["backup", "agama"], &["restore", "agama", "--into", "mysql:copy", "--yes"]]
    {
        let ended = support::machine::Ended::from(site.command(words).env("PATH", "/usr/bin:/bin").output().unwrap());
        let said = format!("{}{}", String::from_utf8_lossy(&ended.out), ended.err);
        assert_eq!(ended.status, 2, "{words:?}: {said}");
        assert!(what.iter().all(|part| said.contains(part)), "{words:?}: {said}");
    }
    assert_eq!(site.snapshots(), 1);
}
