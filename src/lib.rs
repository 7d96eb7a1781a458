//! varu

pub mod chunker;
pub mod entry;
pub mod format;
pub mod id;
pub mod index;
pub mod progress;
pub mod remote;
pub mod segment;
pub mod source;
pub mod time;
