//! The format: bytes to structs and back. No I/O, no cryptography. `docs/format.md` specifies each byte.

pub mod layout;
pub mod pack;
pub mod recipe;
pub mod snapshot;
mod wire;

pub use wire::{FormatError, Kind, VERSION, check_prefix};
