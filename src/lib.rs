//! varu

pub mod entry;
pub mod id;
pub mod progress;
pub mod remote;
pub mod source;
pub mod time;
