//! Source packages of installed programs: fetched through the machine's own package lists, once, into the folder that
//! Cargo keeps for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Lists of source packages from where the machine has its packages.
fn lists(folder: &Path) {
    let parts = folder.join("parts");
    fs::create_dir_all(&parts).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("debian.org")))
        .collect();
    files.push("/etc/apt/sources.list".into());
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let line = |line: &str| match line.strip_prefix("deb ").or_else(|| line.strip_prefix("Types: deb")) {
            Some(rest) if line.starts_with("deb ") => format!("deb-src {rest}\ndeb {rest}\n"),
            Some(_) => "Types: deb deb-src\n".to_owned(),
            None => format!("{line}\n"),
        };
        fs::write(parts.join(file.file_name().unwrap()), text.lines().map(line).collect::<String>()).unwrap();
    }
    fs::create_dir_all(folder.join("lists/partial")).unwrap();
    fs::create_dir_all(folder.join("cache/archives/partial")).unwrap();
}

fn apt(folder: &Path, words: &[&str]) -> bool {
    let mut apt = Command::new("apt-get");
    apt.current_dir(folder).args(["-qq", "-o", "Dir::Etc::sourcelist=-", "-o", "APT::Sandbox::User=root"]);
    for (key, name) in [("Etc::sourceparts", "parts"), ("State::lists", "lists"), ("Cache", "cache")] {
        apt.arg("-o").arg(format!("Dir::{key}={}", folder.join(name).display()));
    }
    apt.args(words).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The source of that package, in the version that is installed, and packages of the same source, in a folder. None, with a
/// word why, where it isn't to be had.
pub fn fetch(package: &str, packages: &[&str]) -> Option<Fetched> {
    static FETCHING: Mutex<()> = Mutex::new(());
    let _fetching = FETCHING.lock().unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("source-{package}"));
    let fetched = || Fetched::in_folder(&folder).filter(|fetched| fetched.packages.len() >= packages.len());
    if fetched().is_none() {
        lists(&folder);
        // There may be a newer one.
        let version = Command::new("dpkg-query").args(["-W", "-f", "${source:Version}", package]).output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        // The vendor's own files are all that is wanted of it.
        let _ =
            apt(&folder, &["update"]) && apt(&folder, &["source", "--download-only", &format!("{package}={version}")]);
        for name in packages {
            apt(&folder, &["download", &format!("{name}={version}")]);
        }
    }
    if fetched().is_none() {
        eprintln!("skipped: the source package of {package} is not to be had");
    }
    fetched()
}

/// The fetched packages.
pub struct Fetched {
    /// The vendor's own archive.
    pub source: PathBuf,
    /// Packages.
    pub packages: Vec<PathBuf>,
}

impl Fetched {
    fn in_folder(folder: &Path) -> Option<Self> {
        let files: Vec<PathBuf> = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).collect();
        let named = |part: &str| files.iter().filter(|path| path.to_string_lossy().contains(part)).cloned().collect();
        let (sources, packages): (Vec<PathBuf>, Vec<PathBuf>) = (
            named(".orig.tar."),
            files.iter().filter(|path| path.extension().is_some_and(|end| end == "deb")).cloned().collect(),
        );
        Some(Self { source: sources.into_iter().next()?, packages })
    }

    /// Unpacks parts of the source, which match these patterns, into a folder.
    pub fn unpack(&self, folder: &Path, patterns: &[&str]) {
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&self.source).arg("-C").arg(folder).args([
            "--strip-components=1",
            "--no-same-owner",
            "--wildcards",
        ]);
        assert!(tar.args(patterns).status().unwrap().success());
    }
}
