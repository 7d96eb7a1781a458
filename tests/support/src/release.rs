//! The release of a server that a suite runs on, where it isn't this machine's. `tests/services/matrix.rs` runs suites in
//! processes of their own, whose environment names its folder, and whose `PATH` begins with its programs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// The variable that names the folder.
const VARIABLE: &str = "VARU_TEST_RELEASE";

/// A server below one folder.
#[derive(Debug, Clone)]
pub struct Release {
    folder: PathBuf,
}

/// The release that this process was told to test.
pub fn of_this_process() -> Option<&'static Release> {
    static TOLD: OnceLock<Option<Release>> = OnceLock::new();
    TOLD.get_or_init(|| std::env::var_os(VARIABLE).map(|folder| Release { folder: folder.into() })).as_ref()
}

impl Release {
    /// That server of the image, which is made where it isn't there yet. Err says why it can't be had.
    pub fn of_image(name: &str) -> Result<Self, String> {
        static IMAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let image = IMAGE.get_or_init(|| {
            let made = Command::new("tests/services/image").output().map_err(|error| error.to_string())?;
            match made.status.success() {
                true => Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim())),
                false => Err(last_words(&made.stderr)),
            }
        });
        image.clone().map(|image| Self { folder: image.join(name) })
    }

    /// Tells a process to use it.
    pub fn tell(&self, process: &mut Command) {
        let mut path = self.folder.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        process.env(VARIABLE, &self.folder).env("PATH", path);
    }

    /// A program of it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// The folder that the server knows as `/usr`.
    pub fn usr(&self) -> PathBuf {
        self.folder.join("usr")
    }

    /// An empty data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Whether it is MySQL.
    pub fn is_mysql(&self) -> bool {
        self.folder.ends_with(Path::new("mysql"))
    }
}

/// Runs suites of the calling test's program, named by the begins of their tests, on that server of the image. What came of it is
/// said in the file `told`, which `tests/run` shows: of a test that passes cargo shows nothing.
#[track_caller]
pub fn runs(name: &str, folder: &str, suites: &[&str], told: &str) {
    // One release at a time: a suite starts servers enough by itself.
    static ONE: Mutex<()> = Mutex::new(());
    // In such a process the tests of the matrix aren't meant.
    if of_this_process().is_some() {
        return;
    }
    let say = |line: &str| {
        println!("{line}");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(told);
        writeln!(file.unwrap(), "{line}").unwrap();
    };
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let release = match Release::of_image(folder) {
        Ok(release) => release,
        Err(why) => return say(&format!("SKIPPED: {name} can't be had: {why}")),
    };
    let begun = Instant::now();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(suites).args(["--test-threads", "2", "--nocapture"]).stdin(Stdio::null());
    release.tell(&mut process);
    let output = process.output().unwrap();
    let seconds = begun.elapsed().as_secs();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}:\n{out}\n{err}");
    let passed = out.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(';').next());
    let passed = passed.filter(|passed| !passed.starts_with("0 ")).expect("tests that ran");
    say(&format!("{name}: {}: {passed} in {seconds} s", suites.join(", ")));
    for line in err.lines().filter(|line| line.starts_with("skipped")) {
        say(&format!("{name}: {line}"));
    }
}

/// The end of what a program said.
fn last_words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
