//! The format: bytes to structs and back. No I/O, no cryptography. `docs/format.md` specifies each byte.

pub mod armor;
pub mod checks;
pub mod layout;
pub mod mark;
pub mod pack;
pub mod recipe;
pub mod sheet;
pub mod snapshot;
mod wire;
pub mod writer_key;

pub use wire::{FormatError, FormatKind, PREFIX_LEN, VERSION, check_prefix};
