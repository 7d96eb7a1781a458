//! Programs that somebody else started, as the system sees them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// A program that was seen while it ran.
#[derive(Debug)]
pub struct Seen {
    pub user: u32,
    pub words: String,
    status: String,
    limits: String,
    environment: String,
    network: std::path::PathBuf,
}

impl Seen {
    /// A running program of that name whose words hold all of `words`; waits for it.
    #[track_caller]
    pub fn of(name: &str, words: &[&str]) -> Self {
        let begun = Instant::now();
        loop {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                if let Some(seen) = Self::looked_at(&entry.path(), name, words) {
                    return seen;
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no {name} ran with {words:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn looked_at(process: &std::path::Path, name: &str, words: &[&str]) -> Option<Self> {
        let read =
            |file: &str| fs::read(process.join(file)).ok().map(|text| String::from_utf8_lossy(&text).into_owned());
        let found = read("cmdline")?.replace('\0', " ");
        if read("comm")?.trim() != name || !words.iter().all(|word| found.contains(word)) {
            return None;
        }
        Some(Self {
            user: fs::metadata(process).ok()?.uid(),
            words: found,
            status: read("status")?,
            limits: read("limits")?,
            environment: read("environ")?,
            network: fs::read_link(process.join("ns/net")).ok()?,
        })
    }

    fn line<'a>(text: &'a str, start: &str) -> &'a str {
        text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().trim()
    }

    /// Fails where it is anybody, may do more than talk, or was told of anything of ours.
    #[track_caller]
    pub fn is_apart(&self, with_network: bool) {
        assert!((61_184..65_520).contains(&self.user), "{self:?}");
        assert_eq!(Self::line(&self.status, "Groups:"), "", "{self:?}");
        assert_eq!(Self::line(&self.status, "NoNewPrivs:"), "1", "{self:?}");
        assert_eq!(Self::line(&self.status, "CapEff:"), "0000000000000000", "{self:?}");
        for limit in ["Max processes", "Max file size"] {
            assert!(Self::line(&self.limits, limit).starts_with('0'), "{limit}: {self:?}");
        }
        let variables: Vec<&str> = self.environment.split('\0').collect();
        assert!(variables.contains(&"PATH=/nonexistent") && variables.contains(&"HOME=/nonexistent"), "{self:?}");
        let ours = |name: &&&str| name.starts_with("VARU") || name.starts_with("CARGO");
        assert_eq!(variables.iter().find(ours), None, "{self:?}");
        assert_eq!(self.network == fs::read_link("/proc/self/ns/net").unwrap(), with_network, "{self:?}");
    }
}

/// Whether the test is root, without whom nobody becomes another user.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
