//! The release of a server that a suite runs on, where it isn't this machine's. `tests/services/matrix.rs` runs suites in
//! processes of their own, whose environment names its folder, and whose `PATH` begins with its programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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

/// The end of what a program said.
fn last_words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
