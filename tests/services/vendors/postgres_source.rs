//! PostgreSQL's own tests: Debian has them in the source package alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::vendors::debian;

/// The tests' files, and the library of their functions in C, where the server's account may read them.
pub struct Suite {
    folder: tempfile::TempDir,
    /// The folder of the sources.
    top: PathBuf,
}

impl Suite {
    /// The suite of the server's version. None, with a word why, where it isn't to be had.
    pub fn fetch() -> Option<Self> {
        let fetched = debian::fetch("postgresql-15", &["postgresql-server-dev-15"])?;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fetched.unpack(folder.path(), &["*/src/test/regress", "*/contrib"]);
        let include = folder.path().join("headers");
        assert!(Command::new("dpkg-deb").arg("-x").arg(&fetched.packages[0]).arg(&include).status().unwrap().success());
        let suite = Self { top: folder.path().to_owned(), folder };
        fs::create_dir(suite.library()).unwrap();
        for name in ["autoinc.so", "refint.so"] {
            fs::copy(Path::new("/usr/lib/postgresql/15/lib").join(name), suite.library().join(name)).unwrap();
        }
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-w"]).arg("-I").arg(include.join("usr/include/postgresql/15/server"));
        compiler.arg("-o").arg(suite.library().join("regress.so")).arg(suite.regress().join("regress.c"));
        assert!(compiler.status().unwrap().success(), "the functions of the tests don't compile");
        Some(suite)
    }

    /// The folder of `regress.so`, and of two libraries of the server's own package.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("lib")
    }

    /// The folder of the regression tests.
    pub fn regress(&self) -> PathBuf {
        self.top.join("src/test/regress")
    }

    /// The tests in the order in which they are to be run.
    pub fn schedule(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.regress().join("parallel_schedule")).unwrap();
        let tests = text.lines().filter_map(|line| line.strip_prefix("test:")).flat_map(str::split_whitespace);
        tests.map(|name| self.regress().join(format!("sql/{name}.sql"))).collect()
    }

    /// The modules with tests, each with its folder and its tests in their order.
    pub fn modules(&self) -> Vec<(String, PathBuf, Vec<PathBuf>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.top.join("contrib")).unwrap() {
            let folder = entry.unwrap().path();
            let Ok(makefile) = fs::read_to_string(folder.join("Makefile")) else { continue };
            let makefile = makefile.replace("\\\n", " ");
            let line = makefile.lines().find_map(|line| line.strip_prefix("REGRESS = "));
            let tests: Vec<PathBuf> = line
                .into_iter()
                .flat_map(str::split_whitespace)
                .map(|name| folder.join(format!("sql/{name}.sql")))
                .filter(|path| path.exists())
                .collect();
            if !tests.is_empty() {
                found.push((folder.file_name().unwrap().to_string_lossy().into_owned(), folder, tests));
            }
        }
        found.sort();
        found
    }
}
