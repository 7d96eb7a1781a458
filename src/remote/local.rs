//! A remote in a local folder: a disk, a mounted share.
//!
//! Everything is reached from one handle on the folder that was opened, so a path that changes its meaning later (a disk
//! that is unmounted) can't send objects elsewhere. No symbolic link is followed below it. Files are made with mode 0600,
//! folders with 0700.

mod handles;
mod root;
mod upload;

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use self::handles::Handles;
use self::root::{Root, with_hint};
use super::{Error, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload};

/// A remote in a local folder.
pub struct LocalRemote {
    root: Arc<Root>,
    handles: Handles,
}

impl LocalRemote {
    /// The remote in the folder `path`, which must be there. Its own folders need not be, before
    /// [`Remote::create_folders`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { root: Arc::new(Root::open(path.into())?), handles: Handles::default() })
    }

    /// Makes the folder `path` and those above it where they are missing, opens it, and makes the remote's folders in it.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        make_path(&path)?;
        let remote = Self::open(path)?;
        remote.create_folders()?;
        Ok(remote)
    }

    /// An open file of the object, from the last ones used where it is among them, and its size now.
    fn handle(&self, name: &ObjectName) -> Result<(Arc<File>, u64)> {
        if let Some(open) = self.handles.get(name) {
            return Ok(open);
        }
        let (file, size) = self.root.open_object("reading", name)?;
        Ok((self.handles.put(name, file), size))
    }
}

/// Makes a folder and those above it, so that they survive a power cut.
fn make_path(path: &Path) -> Result<()> {
    let fail = |path: &Path, error| with_hint(Error::from_io("making the folder", path.display(), &error));
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    make_path(above)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let error = Error::new(ErrorKind::Invalid, "making the folder", path.display(), "it is there, as a file");
            Err(error.hint("name a folder"))
        }
        Err(error) => Err(fail(path, error)),
        Ok(()) => File::open(above).and_then(|above| above.sync_all()).map_err(|error| fail(above, error)),
    }
}

impl Remote for LocalRemote {
    fn place(&self) -> String {
        self.root.place()
    }

    fn create_folders(&self) -> Result<()> {
        let missing = self.root.missing_folders()?;
        if missing.is_empty() {
            return Ok(());
        }
        self.root.refuse_foreign(&missing)?;
        for folder in missing {
            self.root.make_folder(folder)?;
        }
        self.root.flush()
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::LocalUpload::begin(Arc::clone(&self.root))?))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let (file, size) = self.root.open_object("reading", name)?;
        if size > limit {
            let reason = format!("it has {size} bytes, at most {limit} were expected");
            return Err(Error::new(ErrorKind::Invalid, "reading", self.root.at(name), reason));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let read = file.take(size).read_to_end(&mut bytes);
        match read.map_err(|error| self.root.error("reading", name, error))? as u64 {
            read if read == size => Ok(bytes),
            read => {
                let reason = format!("it had {size} bytes, only {read} came");
                Err(Error::new(ErrorKind::Short, "reading", self.root.at(name), reason))
            }
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let (file, size) = self.handle(name)?;
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > size) {
            let reason = format!("it has {size} bytes, {} from {offset} on were asked for", buffer.len());
            return Err(Error::new(ErrorKind::Short, "reading", self.root.at(name), reason));
        }
        file.read_exact_at(buffer, offset).map_err(|error| self.root.error("reading", name, error))
    }

    /// A few, for a disk that is a network's.
    fn calls_at_once(&self) -> usize {
        4
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        let folder = self.root.folder("looking at", name.folder())?;
        self.root.size(&folder, "looking at", name)
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        let fail = |error: Errno| self.root.error("listing", folder.name(), error);
        let handle = self.root.folder("listing", folder)?;
        let (mut listed, mut strange) = (Vec::new(), 0);
        for entry in Dir::read_from(&handle).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let file_name = entry.file_name();
            if [c".", c".."].contains(&file_name) {
                continue;
            }
            match rustix::fs::statat(&handle, file_name, AtFlags::SYMLINK_NOFOLLOW) {
                // It was moved or deleted since it was listed.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(fail(error)),
                Ok(stat) => {
                    let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                    let name = file_name.to_str().ok().and_then(|name| ObjectName::new(folder, name));
                    match name.filter(|_| plain) {
                        Some(name) => listed.push(Listed { name, size: stat.st_size.unsigned_abs() }),
                        None => strange += 1,
                    }
                }
            }
        }
        Ok((listed, strange))
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        let handle = self.root.folder("flushing", folder)?;
        match rustix::fs::fsync(&handle) {
            Ok(()) => Ok(true),
            // Some file systems can't flush a folder.
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(self.root.error("flushing", folder.name(), error)),
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.handles.forget(name);
        let folder = self.root.folder("deleting", name.folder())?;
        rustix::fs::unlinkat(&folder, name.name(), AtFlags::empty())
            .map_err(|error| self.root.error("deleting", name, error))
    }

    fn can_delete(&self) -> Result<bool> {
        Ok(true)
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.root.free_space().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn name(folder: Folder, text: &str) -> ObjectName {
        ObjectName::new(folder, text).unwrap()
    }

    fn store(remote: &dyn Remote, name: &ObjectName, bytes: &[u8]) {
        let mut upload = remote.begin().unwrap();
        upload.append(bytes).unwrap();
        upload.finish(name).unwrap();
    }

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn create_makes_private_folders_and_files() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b/vault");
        let remote = LocalRemote::create(&path).unwrap();
        store(&remote, &name(Folder::Packs, "p"), b"x");
        for folder in Folder::ALL {
            assert_eq!(mode(path.join(folder.name())), 0o700, "{}", folder.name());
        }
        assert_eq!((mode(&path), mode(path.join("packs/p"))), (0o700, 0o600));
        LocalRemote::create(&path).expect("a second time changes nothing");
        assert_eq!(fs::read(path.join("packs/p")).unwrap(), b"x");
    }

    #[test]
    fn a_path_that_is_no_folder_is_refused_with_a_hint() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = LocalRemote::create(&path).err().unwrap();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(error.hint.is_some(), "{error}");
        }
        assert_eq!(LocalRemote::open(&file).err().unwrap().kind, ErrorKind::Invalid);
        let error = LocalRemote::open(base.path().join("absent")).err().unwrap();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.hint.is_some() && error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_refused_and_left_alone() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("letter.txt"), "x").unwrap();
        fs::create_dir(base.path().join("info")).unwrap();
        let error = LocalRemote::create(base.path()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.to_string().contains("letter.txt") && error.hint.is_some(), "{error}");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_fresh_disk_and_a_half_made_repository_are_accepted() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("lost+found")).unwrap();
        fs::create_dir(base.path().join("info")).unwrap();
        let remote = LocalRemote::create(base.path()).unwrap();
        fs::write(base.path().join("README"), "mine").unwrap();
        fs::remove_dir(base.path().join("marks")).unwrap();
        remote.create_folders().expect("a repository may have a note beside it");
        assert!(base.path().join("marks").is_dir());
    }

    #[test]
    fn no_symbolic_link_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let (elsewhere, path) = (base.path().join("elsewhere"), base.path().join("vault"));
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("secret"), "x").unwrap();
        let remote = LocalRemote::create(&path).unwrap();

        symlink(elsewhere.join("secret"), path.join("packs/link")).unwrap();
        let link = name(Folder::Packs, "link");
        assert_eq!(remote.get(&link, 10).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(remote.get_range(&link, 0, &mut [0]).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(remote.stat(&link).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(remote.list(Folder::Packs).unwrap(), (vec![], 1));
        let mut upload = remote.begin().unwrap();
        upload.append(b"y").unwrap();
        assert_eq!(upload.finish(&link).unwrap_err().kind, ErrorKind::Exists, "the same size, but no object");

        fs::remove_dir(path.join("marks")).unwrap();
        symlink(&elsewhere, path.join("marks")).unwrap();
        for error in [
            remote.list(Folder::Marks).unwrap_err(),
            remote.get(&name(Folder::Marks, "secret"), 10).unwrap_err(),
            remote.delete(&name(Folder::Marks, "secret")).unwrap_err(),
            remote.create_folders().unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        }
        assert_eq!(fs::read(elsewhere.join("secret")).unwrap(), b"x");
    }

    #[test]
    fn what_is_no_plain_file_is_no_object() {
        let base = tempfile::tempdir().unwrap();
        let remote = LocalRemote::create(base.path()).unwrap();
        fs::create_dir(base.path().join("packs/folder")).unwrap();
        let fifo = base.path().join("packs/fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, 0o600.into(), 0).unwrap();
        for text in ["folder", "fifo"] {
            let object = name(Folder::Packs, text);
            assert_eq!(remote.get(&object, 10).unwrap_err().kind, ErrorKind::Invalid, "{text}");
            assert_eq!(remote.stat(&object).unwrap_err().kind, ErrorKind::Invalid, "{text}");
        }
        assert_eq!(remote.list(Folder::Packs).unwrap(), (vec![], 2));
    }

    #[test]
    fn a_range_shows_what_is_there_now_though_files_stay_open() {
        let base = tempfile::tempdir().unwrap();
        let remote = LocalRemote::create(base.path()).unwrap();
        let (object, path) = (name(Folder::Packs, "p"), base.path().join("packs/p"));
        store(&remote, &object, b"old");
        let mut buffer = [0; 3];
        remote.get_range(&object, 0, &mut buffer).unwrap();
        fs::write(base.path().join("new"), b"new").unwrap();
        fs::rename(base.path().join("new"), &path).unwrap();
        remote.get_range(&object, 0, &mut buffer).unwrap();
        assert_eq!(&buffer, b"new");
        fs::write(&path, b"n").unwrap();
        assert_eq!(remote.get_range(&object, 0, &mut buffer).unwrap_err().kind, ErrorKind::Short);
        fs::remove_file(&path).unwrap();
        assert_eq!(remote.get_range(&object, 0, &mut buffer).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn the_folder_stays_the_one_that_was_opened() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("vault");
        let remote = LocalRemote::create(&path).unwrap();
        fs::rename(&path, base.path().join("moved")).unwrap();
        fs::create_dir(&path).unwrap();
        store(&remote, &name(Folder::Packs, "p"), b"x");
        assert!(base.path().join("moved/packs/p").is_file());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn free_space_is_what_the_file_system_says() {
        let base = tempfile::tempdir().unwrap();
        let remote = LocalRemote::create(base.path()).unwrap();
        let stat = rustix::fs::statvfs(base.path()).unwrap();
        let free = remote.free_space().unwrap().unwrap();
        // Others write to the same disk meanwhile, but not a tenth of it.
        let (expected, disk) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        assert!(free.abs_diff(expected) < disk / 10, "{free} of {expected}");
    }
}
