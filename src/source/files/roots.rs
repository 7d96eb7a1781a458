//! The paths that are to be stored, as a tree: the folders that lead to them, and where they begin.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::shown;
use crate::source::Error;
use crate::warning::{Warning, WarningKind};

/// The most links that lead to one another.
const LINKS_MAX: usize = 40;

/// The given paths below `/`. Paths that are given twice are one.
#[derive(Debug, Default)]
pub(super) struct Roots {
    nodes: Vec<Node>,
    /// The given paths, without the first slash.
    given: Vec<Vec<u8>>,
}

/// A node of [`Roots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RootNode(usize);

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Vec<u8>, RootNode>,
    given: bool,
}

impl Roots {
    /// `/` itself.
    pub(super) const TOP: RootNode = RootNode(0);

    /// Resolves the given paths. A link is stored with its target. The second value warns of missing paths, of dangling
    /// links and of files without content.
    ///
    /// # Errors
    /// [`Error::Failed`] if there are no paths, or none can be found.
    pub(super) fn find(paths: &[PathBuf]) -> Result<(Self, Vec<Warning>), Error> {
        let mut roots = Self { nodes: vec![Node::default()], given: Vec::new() };
        let mut warnings = Vec::new();
        let mut missing = None;
        if paths.is_empty() {
            return Err(Error::Failed("no path is given: name at least one file or folder".into()));
        }
        for path in paths {
            let name = shown(path.as_os_str().as_bytes());
            match roots.add(path, &mut warnings) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let text = format!("the path {name} is missing, so nothing of it is in the snapshot: {error}");
                    warnings.push(WarningKind::MissingPath.warning(text));
                    missing.get_or_insert(Error::failed(&format!("finding the path {name}"), &error));
                }
                Err(error) => return Err(Error::failed(&format!("finding the path {name}"), &error)),
            }
        }
        match missing {
            Some(error) if roots.given.is_empty() => Err(error),
            _ => Ok((roots, warnings)),
        }
    }

    /// Adds a path, and its target if it is a link.
    fn add(&mut self, path: &Path, warnings: &mut Vec<Warning>) -> io::Result<()> {
        let name = shown(path.as_os_str().as_bytes());
        let mut real = real_place(path)?;
        let mut metadata = fs::symlink_metadata(&real)?;
        self.insert(&real);
        for _ in 0..LINKS_MAX {
            if !metadata.is_symlink() {
                break;
            }
            let next = real.parent().unwrap_or(Path::new("/")).join(fs::read_link(&real)?);
            match real_place(&next).and_then(|real| Ok((fs::symlink_metadata(&real)?, real))) {
                Ok(found) => (metadata, real) = found,
                Err(error) => {
                    let next = shown(next.as_os_str().as_bytes());
                    let text = format!(
                        "{name} is a symbolic link, and only the link is stored: {next}, to which it leads, can't be found: {error}"
                    );
                    warnings.push(WarningKind::SymbolicLink.warning(text));
                    return Ok(());
                }
            }
            self.insert(&real);
        }
        if metadata.is_symlink() {
            let text = format!("{name} is a symbolic link that leads to itself; only links are stored");
            warnings.push(WarningKind::SymbolicLink.warning(text));
        } else if !metadata.is_file() && !metadata.is_dir() {
            let text = format!(
                "{name} is a device, a named pipe or a socket: it is stored as that, without what can be read from it; \
                 varu backup --stdin NAME stores what a program reads there"
            );
            warnings.push(WarningKind::SpecialFile.warning(text));
        }
        Ok(())
    }

    /// The given paths, without the first slash.
    pub(super) fn given(&self) -> Vec<&[u8]> {
        self.given.iter().map(Vec::as_slice).collect()
    }

    fn insert(&mut self, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        self.given.push(bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec());
        let mut at = Self::TOP;
        for part in path.as_os_str().as_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            let next = RootNode(self.nodes.len());
            let child = *self.nodes[at.0].children.entry(part.to_vec()).or_insert(next);
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child;
        }
        self.nodes[at.0].given = true;
    }

    /// The node `name` in the folder `at`, which is a given path or above one.
    pub(super) fn child(&self, at: RootNode, name: &[u8]) -> Option<RootNode> {
        self.nodes[at.0].children.get(name).copied()
    }

    /// The names of all such places in the folder `at`.
    pub(super) fn children(&self, at: RootNode) -> impl Iterator<Item = &[u8]> {
        self.nodes[at.0].children.keys().map(Vec::as_slice)
    }

    /// Whether the path itself was given.
    pub(super) fn is_given(&self, at: RootNode) -> bool {
        self.nodes[at.0].given
    }
}

/// The absolute path, without links on the way. The last component stays as it is, unless a slash follows it.
fn real_place(path: &Path) -> io::Result<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(fs::canonicalize(parent)?.join(name))
        }
        _ => fs::canonicalize(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_resolved_and_the_last_component_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("real/inner")).unwrap();
        std::os::unix::fs::symlink("real/inner", top.join("link")).unwrap();
        assert_eq!(real_place(&top.join("link/..")).unwrap(), top.join("real"), "not the link's parent");
        assert_eq!(real_place(&top.join("link")).unwrap(), top.join("link"));
        assert_eq!(real_place(&top.join("link/")).unwrap(), top.join("real/inner"));
        assert_eq!(real_place(&top.join("link/../inner/.")).unwrap(), top.join("real/inner"));
        assert_eq!(real_place(Path::new("/")).unwrap(), Path::new("/"));
        assert_eq!(real_place(Path::new("src")).unwrap(), std::env::current_dir().unwrap().join("src"));
    }

    #[test]
    fn a_link_is_stored_with_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, top.join(name)).unwrap();
        fs::create_dir_all(top.join("d")).unwrap();
        fs::write(top.join("d/dump"), "data").unwrap();
        link("d/dump", "current");
        link("current", "latest");
        link("nowhere", "dangling");
        link("itself", "itself");
        link("/dev/null", "device");
        let find = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| top.join(name)).collect();
            let (roots, warnings) = Roots::find(&paths).unwrap();
            let given =
                roots.given().iter().map(|path| Path::new("/").join(std::ffi::OsStr::from_bytes(path))).collect();
            (given, warnings)
        };
        let (given, warnings): (Vec<PathBuf>, _) = find(&["latest"]);
        assert_eq!(given, ["latest", "current", "d/dump"].map(|name| top.join(name)));
        assert!(warnings.is_empty(), "{warnings:?}");
        for (name, kind) in [
            ("dangling", WarningKind::SymbolicLink),
            ("itself", WarningKind::SymbolicLink),
            ("device", WarningKind::SpecialFile),
        ] {
            assert_eq!(find(&[name]).1[0].kind, kind, "{name}");
        }
        let (given, warnings) = find(&["d", "gone"]);
        assert_eq!(given, [top.join("d")]);
        assert_eq!(warnings[0].kind, WarningKind::MissingPath);
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = Roots::find(&["/does/not/exist".into()]).unwrap_err();
        assert!(error.to_string().starts_with("finding the path /does/not/exist: "), "{error}");
        assert!(Roots::find(&[]).is_err());
    }
}
