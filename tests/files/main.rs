//! Folders: reading and restoring of trees.

mod extract;
mod hostile_files;
mod in_place;
mod many;
mod part;
mod source;
mod tree;
mod trees;
