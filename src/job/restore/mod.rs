//! Restores: which snapshots are meant, what of them, and where it goes.

pub mod configuration;
pub mod dump_file;
pub mod files;
pub mod in_place;
pub mod record;
pub mod request;
pub mod service;
