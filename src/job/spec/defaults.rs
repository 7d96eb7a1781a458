//! Defaults of what a configuration doesn't say.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Days between a set's fulls.
pub const FULL_EVERY: u32 = 7;
/// The most that a full which is no re-base may store again, in percent of the set.
pub const REPACK_BUDGET: u8 = 10;
/// A snapshot that shrank by more than this, in percent, is suspect.
pub const MAX_SHRINK: u8 = 50;
/// The age of a chain's newest snapshot after which the chain goes.
pub const KEEP: Duration = Duration::from_secs(28 * DAY.as_secs());
/// Chains that stay at least.
pub const KEEP_CHAINS: u32 = 1;
/// The time between a snapshot's mark and its end.
pub const GRACE: Duration = DAY;
/// Connections to the remote at one time.
pub const CONNECTIONS: u32 = 8;
/// Bytes of the base cache of a set.
pub const BASE_CACHE_MAX: u64 = 8 << 30;
/// Bytes of a backup that may wait on this machine's disk for the remote.
pub const SPOOL_MAX: u64 = 4 << 30;
/// Dumps that stay in the folder of local copies.
pub const KEEP_LOCAL: u32 = 1;
/// How much of the file system of local copies stays free, in percent.
pub const LOCAL_RESERVE: u8 = 10;
/// How long a hook may run.
pub const HOOK_LIMIT: Duration = Duration::from_secs(10 * 60);
