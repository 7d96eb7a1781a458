//! A damaged index heals by itself: the next command puts it aside and makes it again, unattended.

use super::*;
use std::path::PathBuf;

/// Two backups, and the path of the index.
fn with_index() -> (Site, PathBuf) {
    let site = files();
    site.back_up();
    put(&site, "4", 50_000);
    site.back_up();
    site.run(&["verify"]).ends(0);
    let folders = fs::read_dir(site.machine.at("state")).unwrap().map(|entry| entry.unwrap().path());
    let index = folders.map(|folder| folder.join("index.sqlite")).find(|index| index.exists()).unwrap();
    (site, index)
}

/// A site as it was, for one damage after the other.
struct Saved {
    site: Site,
    index: PathBuf,
    whole: Vec<u8>,
    there: BTreeMap<String, Vec<u8>>,
}

impl Saved {
    fn new() -> Self {
        let (site, index) = with_index();
        let (whole, there) = (fs::read(&index).unwrap(), below(&site.machine.at("src")));
        for folder in ["state", "vault"] {
            copy(&site.machine.at(folder), &site.machine.at(&format!("{folder}.saved")));
        }
        Self { site, index, whole, there }
    }

    /// The state and the repository as they were, with this index.
    fn put_back(&self, index: &[u8]) {
        for folder in ["state", "vault"] {
            fs::remove_dir_all(self.site.machine.at(folder)).unwrap();
            copy(&self.site.machine.at(&format!("{folder}.saved")), &self.site.machine.at(folder));
        }
        fs::write(&self.index, index).unwrap();
    }

    /// The next backup is made, the one after it has nothing more to say, and all comes back.
    fn heals(&self, what: &str) -> bool {
        let first = self.site.run(&["backup", "s"]);
        assert!([0, 3].contains(&first.status), "{what}: {}", first.err);
        assert_eq!(first.status == 3, first.err.contains("[damaged-index]"), "{what}: {}", first.err);
        self.site.run(&["backup", "s"]).ends(0);
        let listed = self.site.run(&["--json", "list"]).ends(0).json();
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), 4, "{what}");
        let to = self.site.machine.at("out");
        let _ = fs::remove_dir_all(&to);
        self.site.run(&["restore", "s", "--to", to.to_str().unwrap()]).ends(0);
        assert!(below(&to) == self.there, "{what}");
        first.status == 3
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn an_index_with_lost_pages_heals_at_the_next_backup() {
    let saved = Saved::new();
    let pages = saved.whole.len() / 4096;
    let every = if support::site::is_long() { 1 } else { pages / 2 };
    let mut healed = 0;
    for page in (0..3).chain((3..pages).step_by(every)) {
        let mut bytes = saved.whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        saved.put_back(&bytes);
        healed += u32::from(saved.heals(&format!("page {page}")));
    }
    assert!(healed >= 4, "{healed} of {pages}");
    saved.put_back(&saved.whole[..saved.whole.len() / 2]);
    assert!(saved.heals("half of it"));
    saved.put_back(b"");
    saved.heals("nothing of it");
}

#[test]
fn a_flipped_bit_of_an_index_misleads_nobody() {
    let saved = Saved::new();
    let mut places: Vec<usize> =
        saved.whole.windows(5).enumerate().filter(|(_, w)| w == b"VARUs").map(|(at, _)| at + 90).collect();
    assert!(places.len() >= 2, "the headers of the snapshots lie there");
    let more = if support::site::is_long() { 200 } else { 2 };
    places.extend(
        (0..more).map(|flip| usize::try_from(support::site::random(flip) * 104_729).unwrap() % saved.whole.len()),
    );
    let mut healed = 0;
    for at in places {
        let mut bytes = saved.whole.clone();
        bytes[at] ^= 1 << (at % 8);
        saved.put_back(&bytes);
        let verified = saved.site.run(&["verify"]);
        assert_eq!(verified.status, 0, "byte {at}: {} {}", String::from_utf8_lossy(&verified.out), verified.err);
        saved.put_back(&bytes);
        healed += u32::from(saved.heals(&format!("byte {at}")));
    }
    assert!(healed >= 2);
}

#[test]
fn rebuild_makes_any_index_again_and_what_was_seen_stays_known() {
    let saved = Saved::new();
    let mut bytes = saved.whole.clone();
    bytes[5 * 4096..6 * 4096].fill(0);
    saved.put_back(&bytes);
    let rebuilt = saved.site.run(&["index", "rebuild"]).ends(3);
    assert!(rebuilt.err.contains("index.sqlite.damaged"), "{}", rebuilt.err);
    saved.site.run(&["backup", "s"]).ends(0);
    // Another version's is put aside as well.
    for version in [1, 77] {
        saved.put_back(&saved.whole);
        let database = rusqlite::Connection::open(&saved.index).unwrap();
        database.pragma_update(None, "user_version", version).unwrap();
        drop(database);
        assert!(saved.heals(&format!("version {version}")));
    }
    // With the newest snapshot gone from the repository, a new index says so as the old one would.
    saved.put_back(&bytes);
    let newest = objects(&saved.site, "snapshots").pop().unwrap();
    fs::remove_file(saved.site.machine.at("vault/snapshots").join(newest)).unwrap();
    saved.site.run(&["backup", "s"]).ends(7);
    saved.site.run(&["backup", "s"]).ends(7);
}
