//! The paths that are to be stored, as a tree: the folders that lead to them, and where they begin.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::shown;
use crate::source::Error;
use crate::warning::{Warning, WarningKind};

/// The given paths below `/`. Paths that are given twice are one.
#[derive(Debug, Default)]
pub(super) struct Roots {
    nodes: Vec<Node>,
}

/// A place in [`Roots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Vec<u8>, Place>,
    given: bool,
}

impl Roots {
    /// `/` itself.
    pub(super) const TOP: Place = Place(0);

    /// Finds where the paths really are. The second value warns of links to folders.
    ///
    /// # Errors
    /// [`Error::Failed`] where there are no paths, or one can't be found.
    pub(super) fn find(paths: &[PathBuf]) -> Result<(Self, Vec<Warning>), Error> {
        let mut roots = Self { nodes: vec![Node::default()] };
        let mut warnings = Vec::new();
        if paths.is_empty() {
            return Err(Error::Failed("no path is given: name at least one file or folder".into()));
        }
        for path in paths {
            let bytes = path.as_os_str().as_bytes();
            let real = real_place(path)
                .and_then(|real| fs::symlink_metadata(&real).map(|metadata| (real, metadata)))
                .map_err(|error| Error::failed(&format!("finding the path {}", shown(bytes)), &error));
            let (real, metadata) = real?;
            if metadata.is_symlink() && real.is_dir() {
                let path = shown(bytes);
                let text = format!("{path} is a symbolic link, and only the link is stored: {path}/ is the folder");
                warnings.push(WarningKind::SymbolicLink.warning(text));
            }
            roots.insert(&real);
        }
        Ok((roots, warnings))
    }

    fn insert(&mut self, path: &Path) {
        let mut at = Self::TOP;
        for part in path.as_os_str().as_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            let next = Place(self.nodes.len());
            let child = *self.nodes[at.0].children.entry(part.to_vec()).or_insert(next);
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child;
        }
        self.nodes[at.0].given = true;
    }

    /// The place `name` in the folder `at`, where a given path is or lies below.
    pub(super) fn child(&self, at: Place, name: &[u8]) -> Option<Place> {
        self.nodes[at.0].children.get(name).copied()
    }

    /// The names of all such places in the folder `at`.
    pub(super) fn children(&self, at: Place) -> impl Iterator<Item = &[u8]> {
        self.nodes[at.0].children.keys().map(Vec::as_slice)
    }

    /// Whether the path itself was given.
    pub(super) fn is_given(&self, at: Place) -> bool {
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
        let (_, warnings) = Roots::find(&[top.join("link")]).unwrap();
        assert!(warnings[0].text.contains("only the link is stored"), "{warnings:?}");
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = Roots::find(&["/does/not/exist".into()]).unwrap_err();
        assert!(error.to_string().starts_with("finding the path /does/not/exist: "), "{error}");
        assert!(Roots::find(&[]).is_err());
    }
}
