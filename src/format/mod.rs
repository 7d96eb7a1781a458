//! The forms in which things are stored: bytes to structs and back. No I/O here, and no key at work.

pub mod sheet;
pub mod writer_key;
