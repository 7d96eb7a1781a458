//! The statements that varu's own sessions begin with.

/// Modes of `sql_mode` beside a dump's own, in which a restore loads: an engine that is gone is no other one, and days that no
/// month has come back. Not NO_UNSIGNED_SUBTRACTION: MariaDB makes some generated columns in it alone, but rows above 2^63 of
/// tables that were made without it would not load.
pub(super) const LOADS: &str = "NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES";

/// The first statements of each session of varu's own. One without autocommit would keep a lock on each table that it
/// has read.
pub(super) const SESSION: &str = "SET SESSION sql_mode='', sql_quote_show_create=1, autocommit=1, completion_type=0, \
     sql_select_limit=18446744073709551615, sql_big_selects=1, sql_auto_is_null=0, group_concat_max_len=1073741824;\n\
     SET NAMES utf8mb4;\n";

/// Further first statements of a session that only queries: no query waits for ever for a lock of somebody else.
pub(super) const QUESTION: &str = "SET SESSION lock_wait_timeout=540;\n\
     /*M!100100 SET SESSION max_statement_time=590 */;\n/*!50708 SET SESSION max_execution_time=590000 */;\n";
