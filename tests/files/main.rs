//! Folders: what is read of a tree, and what comes back.

mod extract;
mod hostile_files;
mod in_place;
mod part;
mod source;
mod tree;
mod trees;
