//! varu keeps database dumps and folders in an encrypted, deduplicated repository, day after day.
//!
//! The way in, and the way back:
//!
//! ```text
//!  backup                                                                                        restore
//!
//!  source ──> stream ──> chunker ──> known chunk? ── yes ──> run of the recipe ─┐                  ^
//!                                        │ no                                   │                  │
//!                                        v                                      │            tree, service
//!                                     segment ──> crypto ──> pack ──> remote    │                  │
//!                                    (compress)   (seal)      │        (local,  ├──> snapshot      │
//!                                                             v         SFTP)   │      │      segment <── crypto <── remote
//!                                                        directory ──> index <──┘      │    (decompress)  (open)
//!                                                                        ^─────────────┘
//! ```
//!
//! The modules stand in the order of that flow, on eight floors. A floor imports floors below it; `tests/house/layering` checks
//! it.
//!
//! | floor | modules |
//! | --- | --- |
//! | 0 words | [`disk`], [`shell`], [`class`], [`id`], [`entry`], [`time`], [`facts`], [`warning`], [`progress`] |
//! | 1 stages and edges | [`chunker`], [`segment`], [`crypto`], [`source`], [`remote`] |
//! | 2 format | [`format`](mod@format) |
//! | 3 index | [`index`] |
//! | 4 repository | [`repository`] |
//! | 5 operations | [`error`](mod@error), [`retention`], [`keyring`], [`init`](mod@init), [`backup`](mod@backup), [`restore`](mod@restore), [`verify`](mod@verify), [`diff`](mod@diff), [`prune`](mod@prune), [`host`], [`copy`](mod@copy) |
//! | 6 jobs | [`job`] |
//! | 7 binary | `terminal`, `config`, `cli`, `main` |

pub mod disk;
pub mod shell;
pub mod class;
pub mod id;
pub mod entry;
pub mod time;
pub mod facts;
pub mod warning;
pub mod progress;

pub mod source;
pub mod chunker;
pub mod segment;
pub mod crypto;
pub mod remote;

pub mod format;

pub mod index;

pub mod repository;

pub mod error;
pub mod retention;
pub mod keyring;
pub mod init;
pub mod backup;
pub mod restore;
pub mod verify;
pub mod diff;
pub mod prune;
pub mod copy;
pub mod host;

pub mod job;
