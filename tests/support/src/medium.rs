//! A medium that fails: a library that is loaded before libc's, and says EIO for reads of the files whose paths hold a text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* Whether the file is bad, and a byte from `at` on is among the bad ones (EIO_FROM and EIO_TO; all where they are missing). */
static int bad(int fd, off_t at, size_t n) {
    char link[64], path[4096];
    const char *match = getenv("EIO_MATCH"), *from = getenv("EIO_FROM"), *to = getenv("EIO_TO"), *inode = getenv("EIO_INODE");
    struct stat file;
    if (inode && *inode) return fstat(fd, &file) == 0 && (unsigned long long)file.st_ino == strtoull(inode, 0, 10);
    if (!match || !*match) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, match)) return 0;
    if (!from || !to) return 1;
    if (at < 0) at = lseek(fd, 0, SEEK_CUR);
    return at < atoll(to) && at + (off_t)n > atoll(from);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t read(int fd, void *b, size_t n) { REAL(read); if (bad(fd, -1, n)) { errno = EIO; return -1; } return real(fd, b, n); }
ssize_t pread(int fd, void *b, size_t n, off_t o) { REAL(pread); if (bad(fd, o, n)) { errno = EIO; return -1; } return real(fd, b, n, o); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o) { REAL(pread64); if (bad(fd, o, n)) { errno = EIO; return -1; } return real(fd, b, n, o); }
"#;

/// The library, made by the machine's compiler.
pub struct BadMedium(PathBuf);

impl BadMedium {
    /// Makes it in `folder`.
    pub fn new(folder: &Path) -> Self {
        let (source, library) = (folder.join("eio.c"), folder.join("eio.so"));
        fs::write(&source, SOURCE).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let made = gcc.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(library)
    }

    /// The command can't read files with `text` in their path.
    pub fn spoil<'a>(&self, command: &'a mut Command, text: &str) -> &'a mut Command {
        command.env("LD_PRELOAD", &self.0).env("EIO_MATCH", text)
    }

    /// The command can't read the file of that inode: a replacement can be read.
    pub fn spoil_inode<'a>(&self, command: &'a mut Command, inode: u64) -> &'a mut Command {
        command.env("LD_PRELOAD", &self.0).env("EIO_INODE", inode.to_string())
    }

    /// The command can't read these bytes of files with `text` in their path.
    pub fn spoil_part<'a>(&self, command: &'a mut Command, text: &str, bytes: std::ops::Range<u64>) -> &'a mut Command {
        let command = self.spoil(command, text);
        command.env("EIO_FROM", bytes.start.to_string()).env("EIO_TO", bytes.end.to_string())
    }
}
