//! An object that is being written to a local folder.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::root::Root;
use crate::remote::part::part_name;
use crate::remote::{Error, ErrorKind, Folder, ObjectName, Result, Upload};

pub(super) struct LocalUpload {
    root: Arc<Root>,
    pending: OwnedFd,
    part: ObjectName,
    file: File,
    written: u64,
    dead: bool,
    /// Whether the part's name is gone, because it became the object's.
    moved: bool,
}

impl LocalUpload {
    pub(super) fn begin(root: Arc<Root>) -> Result<Self> {
        let pending = root.folder("beginning an upload in", Folder::Pending)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let part = part_name();
            match rustix::fs::openat(&pending, part.name(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    let file = File::from(file);
                    return Ok(Self { root, pending, part, file, written: 0, dead: false, moved: false });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(root.error("beginning an upload to", part, error)),
            }
        }
    }

    fn alive(&self) -> Result<()> {
        match self.dead {
            true => Err(Error::new(ErrorKind::Other, "writing", self.root.at(&self.part), "an earlier write failed")),
            false => Ok(()),
        }
    }

    /// Flushes the bytes and checks that they are all there.
    fn seal(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.root.error("flushing", &self.part, error))?;
        let metadata = self.file.metadata().map_err(|error| self.root.error("checking", &self.part, error))?;
        if metadata.len() == self.written {
            return Ok(());
        }
        let reason = format!("it has {} bytes, {} were written", metadata.len(), self.written);
        Err(Error::new(ErrorKind::Other, "checking", self.root.at(&self.part), reason))
    }

    /// Handles an existing object under the final name.
    fn meet(&self, folder: &OwnedFd, name: &ObjectName) -> Result<()> {
        let reason = match self.root.size(folder, "finishing", name) {
            Ok(Some(size)) if size == self.written => return Ok(()),
            Ok(Some(size)) => {
                format!("another object of {size} bytes has that name, this one has {}", self.written)
            }
            Ok(None) => "something had that name a moment ago".to_owned(),
            Err(error) if error.kind == ErrorKind::Invalid => {
                "something that is no plain file has that name".to_owned()
            }
            Err(error) => return Err(error),
        };
        Err(Error::new(ErrorKind::Exists, "finishing", self.root.at(name), reason))
    }
}

impl Upload for LocalUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.alive()?;
        match self.file.write_all(bytes) {
            Ok(()) => self.written += bytes.len() as u64,
            Err(error) => {
                self.dead = true;
                return Err(self.root.error("writing", &self.part, error));
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<()> {
        self.alive()?;
        self.seal()?;
        let folder = self.root.folder("finishing", name.folder())?;
        match place(WAYS, &self.pending, self.part.name(), &folder, name.name()) {
            Ok(()) => {
                self.moved = true;
                Ok(())
            }
            Err(Errno::EXIST) => self.meet(&folder, name),
            // A backup host has found the complete object in `pending/` and was faster.
            Err(Errno::NOENT) if matches!(self.root.size(&folder, "finishing", name), Ok(Some(_))) => {
                self.meet(&folder, name)
            }
            Err(error) => Err(self.root.error("finishing", name, error)),
        }
    }
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        if !self.moved {
            // A leftover is swept when it is old.
            let _ = rustix::fs::unlinkat(&self.pending, self.part.name(), AtFlags::empty());
        }
    }
}

/// Gives the file `part` in one folder the name `name` in another. EXIST where something has that name.
type RenameMethod = fn(&OwnedFd, &str, &OwnedFd, &str) -> rustix::io::Result<()>;

/// From the best way to the one that every file system has.
const WAYS: &[RenameMethod] = &[rename_without_replacing, link, rename_where_absent];

fn place(ways: &[RenameMethod], from: &OwnedFd, part: &str, to: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    let mut placed = Err(Errno::NOSYS);
    for way in ways {
        placed = way(from, part, to, name);
        // A file system that doesn't support a method returns one of these; one that refuses returns PERM for every
        // method.
        if !matches!(placed, Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM)) {
            break;
        }
    }
    placed
}

fn rename_without_replacing(from: &OwnedFd, part: &str, to: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(from, part, to, name, RenameFlags::NOREPLACE)
}

fn link(from: &OwnedFd, part: &str, to: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    rustix::fs::linkat(from, part, to, name, AtFlags::empty())?;
    // The object is in place. A second name that stays in pending/ is swept when it is old.
    let _ = rustix::fs::unlinkat(from, part, AtFlags::empty());
    Ok(())
}

/// Not safe against a second writer between the two steps; a repository has one.
fn rename_where_absent(from: &OwnedFd, part: &str, to: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    match rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(from, part, to, name),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folders() -> (tempfile::TempDir, OwnedFd, OwnedFd) {
        let base = tempfile::tempdir().unwrap();
        let open = |name| {
            fs::create_dir(base.path().join(name)).unwrap();
            OwnedFd::from(File::open(base.path().join(name)).unwrap())
        };
        let (from, to) = (open("from"), open("to"));
        (base, from, to)
    }

    #[test]
    fn every_way_places_and_none_replaces() {
        for way in WAYS {
            let (base, from, to) = folders();
            let at = |path| base.path().join(path);
            fs::write(at("from/part"), "new").unwrap();
            fs::write(at("to/taken"), "old").unwrap();
            assert_eq!(place(&[*way], &from, "part", &to, "taken"), Err(Errno::EXIST));
            assert_eq!(fs::read(at("to/taken")).unwrap(), b"old");
            place(&[*way], &from, "part", &to, "free").unwrap();
            assert_eq!(fs::read(at("to/free")).unwrap(), b"new");
            assert!(!at("from/part").exists());
        }
    }

    #[test]
    fn a_way_that_the_file_system_lacks_is_passed_over() {
        let (base, from, to) = folders();
        fs::write(base.path().join("from/part"), "new").unwrap();
        let lacking: &[RenameMethod] = &[|_, _, _, _| Err(Errno::INVAL), |_, _, _, _| Err(Errno::PERM), link];
        place(lacking, &from, "part", &to, "free").unwrap();
        assert!(base.path().join("to/free").exists());
        let refused: &[RenameMethod] = &[|_, _, _, _| Err(Errno::ACCESS), link];
        assert_eq!(place(refused, &from, "absent", &to, "free"), Err(Errno::ACCESS));
    }

    #[test]
    fn bytes_that_are_not_on_the_disk_are_noticed() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("pending")).unwrap();
        let root = Arc::new(Root::open(base.path().to_owned()).unwrap());
        let mut upload = LocalUpload::begin(root).unwrap();
        upload.append(b"four").unwrap();
        upload.file.set_len(3).unwrap();
        let name = ObjectName::new(Folder::Packs, "p").unwrap();
        let error = Box::new(upload).finish(&name).unwrap_err();
        assert!(error.to_string().contains("it has 3 bytes, 4 were written"), "{error}");
        assert_eq!(fs::read_dir(base.path().join("pending")).unwrap().count(), 0, "the part is taken away");
    }

    #[test]
    fn a_full_disk_is_said_and_kills_the_upload() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("pending")).unwrap();
        let root = Arc::new(Root::open(base.path().to_owned()).unwrap());
        let mut upload = LocalUpload::begin(root).unwrap();
        let disk = std::mem::replace(&mut upload.file, File::options().write(true).open("/dev/full").unwrap());
        let error = upload.append(b"four").unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoSpace);
        assert!(error.to_string().contains(".part failed: ") && error.to_string().contains("make room"), "{error}");
        upload.file = disk;
        upload.append(b"later").unwrap_err();
        let name = ObjectName::new(Folder::Packs, "p").unwrap();
        Box::new(upload).finish(&name).unwrap_err();
        assert_eq!(fs::read_dir(base.path().join("pending")).unwrap().count(), 0);
    }
}
