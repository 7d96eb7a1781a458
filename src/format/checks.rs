//! Short hashes that bind one object of the format to another.

/// The first 16 bytes of the BLAKE3 of header, sealed directory and trailer. Recipes carry it beside a pack's id.
pub type DirectoryCheck = [u8; 16];

/// The check of a recipe: the first 16 bytes of the BLAKE3 of its complete form.
pub type RecipeCheck = [u8; 16];
