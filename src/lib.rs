//! varu

pub mod crypto;
pub mod entry;
pub mod format;
pub mod id;
pub mod progress;
pub mod remote;
pub mod source;
pub mod time;
