//! Short hashes that bind one object of the format to another.

/// The first 16 bytes of the BLAKE3 of header, sealed directory and trailer. Recipes carry it beside a pack's id.
pub type DirectoryCheck = [u8; 16];

/// The first 16 bytes of the BLAKE3 of a page's sealed bytes. Whatever names the page carries it.
pub type PageCheck = [u8; 16];

/// The BLAKE3 of all pages of a snapshot.
pub type PagesCheck = [u8; 32];
