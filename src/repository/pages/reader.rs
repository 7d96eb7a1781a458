//! One page of a layer, from this machine or from the remote, checked and opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::store::{KeptPages, Pages};
use super::{PlacedLayer, page_salt};
use crate::crypto::SealPurpose;
use crate::format::layout::info_name;
use crate::format::recipe::{Child, Layer, PageRef, Record, decode_inner, decode_leaf};
use crate::id::Hasher;
use crate::repository::snapshots::decompress_plain;
use crate::repository::{Error, Repository, Result, broken, of_object};

/// Bytes that are read of the remote at once, where what lies behind a page is wanted soon.
const AHEAD: u64 = 1 << 20;
/// A layer with so many bytes of pages is read whole.
const WHOLE: u64 = 256 << 10;

/// A page's content.
pub(super) enum PageContent {
    Leaf(Vec<Record>),
    Inner(Arc<Vec<Child>>),
}

/// Most inner pages that are kept opened.
const INNER_PAGES: usize = 64;

/// Reads the pages of one layer.
pub(super) struct LayerReader<'a> {
    repository: &'a Repository,
    pub placed: PlacedLayer,
    /// Whether there is no layer below.
    lowest: bool,
    /// How many packs its runs may name.
    packs: u64,
    kept: Mutex<KeptPages>,
    /// Inner pages that were read, by offset.
    inner: Mutex<HashMap<u64, Arc<Vec<Child>>>>,
}

impl<'a> LayerReader<'a> {
    pub(super) fn new(repository: &'a Repository, placed: PlacedLayer, lowest: bool, packs: u64) -> Self {
        let kept = Mutex::new(KeptPages::open(repository, &placed.layer.id));
        Self { repository, placed, lowest, packs, kept, inner: Mutex::default() }
    }

    /// Of a layer that is stored nowhere yet.
    pub(super) fn written(repository: &'a Repository, layer: Layer, pages: &Pages, lowest: bool, packs: u64) -> Self {
        let kept = Mutex::new(KeptPages::of(repository, &layer.id, pages));
        let placed = PlacedLayer { layer, object: info_name(), offset: 0 };
        Self { repository, placed, lowest, packs, kept, inner: Mutex::default() }
    }

    /// A page of that height, 1 for a leaf. `ahead` says whether the pages behind it are wanted soon.
    pub(super) fn page(&self, page: &PageRef, height: u8, ahead: bool) -> Result<PageContent> {
        let inner = || self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(children) = inner().get(&page.offset).filter(|_| height > 1) {
            return Ok(PageContent::Inner(children.clone()));
        }
        let sealed = self.sealed(page, ahead)?;
        let object = || format!("the page at {} of the recipe in {}", page.offset, self.placed.object);
        let salt = page_salt(&self.placed.layer.id, page.offset);
        let height_byte = [height];
        let aad: [&[u8]; 3] = [self.repository.id().as_bytes(), &page.offset.to_le_bytes(), &height_byte];
        let opened = self.repository.keys().metadata.open(SealPurpose::RecipePage, &salt, &aad, sealed);
        let opened = opened.map_err(|error| broken(object(), error))?;
        let plain = decompress_plain(opened.as_bytes()).map_err(|why| broken(object(), why))?;
        let content = match height {
            1 => decode_leaf(&plain, self.lowest, self.packs).map(PageContent::Leaf),
            _ => decode_inner(&plain, page.offset).map(|children| {
                let (mut inner, children) = (inner(), Arc::new(children));
                if inner.len() >= INNER_PAGES {
                    inner.clear();
                }
                inner.insert(page.offset, children.clone());
                PageContent::Inner(children)
            }),
        };
        content.map_err(|error| broken(object(), error))
    }

    fn sealed(&self, page: &PageRef, ahead: bool) -> Result<Vec<u8>> {
        let is_it = |bytes: &[u8]| Hasher::new().update(bytes).finish_short() == page.check;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = kept.read(page.offset, page.length).filter(|bytes| is_it(bytes)) {
            return Ok(bytes);
        }
        let layer = &self.placed.layer;
        let (start, length) = match layer.length {
            ..=WHOLE => (0, layer.length),
            length if ahead => (page.offset, AHEAD.max(u64::from(page.length)).min(length - page.offset)),
            _ => (page.offset, u64::from(page.length)),
        };
        let mut bytes = vec![0; length as usize];
        let read = self.repository.remote().get_range(&self.placed.object, self.placed.offset + start, &mut bytes);
        let found = read.map_err(of_object).and_then(|()| {
            let own = (page.offset - start) as usize..(page.offset - start) as usize + page.length as usize;
            match bytes.get(own).filter(|own| is_it(own)) {
                Some(own) => {
                    // What lies around it isn't checked yet, and must not take the place of good pages.
                    match kept.has_nothing(start, bytes.len()) {
                        true => kept.write(start, &bytes),
                        false => kept.write(page.offset, own),
                    }
                    Ok(own.to_vec())
                }
                None => Err(broken(
                    format!("the page at {} of the recipe in {}", page.offset, self.placed.object),
                    "it isn't the one that the snapshot was made with",
                )),
            }
        });
        match found {
            Err(Error::Damaged(why)) => {
                self.copied(page, &mut kept)?.filter(|own| is_it(own)).ok_or(Error::Damaged(why))
            }
            found => found,
        }
    }

    /// The page from the copy of its layer in a pack, where there is one.
    fn copied(&self, page: &PageRef, kept: &mut KeptPages) -> Result<Option<Vec<u8>>> {
        let Some((object, offset)) = self.repository.copy_of_layer(&self.placed.layer.id)? else { return Ok(None) };
        let mut bytes = vec![0; page.length as usize];
        match self.repository.remote().get_range(&object, offset + page.offset, &mut bytes).map_err(of_object) {
            Ok(()) => {
                kept.write(page.offset, &bytes);
                Ok(Some(bytes))
            }
            Err(Error::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
