//! SQL text as the server reads it: its tokens, the ends of statements, and comments.
//!
//! A client and a server don't read the same text the same way (`--` before a control character, a backslash outside of
//! quotes, comments with a version), and neither do two versions of a server. The decisions here are those of the server
//! that is restored into.

pub(super) mod charset;
pub(super) mod rows;
pub(super) mod session;
pub(super) mod tokens;
