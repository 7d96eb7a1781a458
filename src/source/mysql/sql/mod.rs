//! SQL text as the server reads it: its tokens, where a statement ends, and what of it is a comment.
//!
//! A client and a server don't read the same text the same way (`--` before a control character, a backslash outside of
//! quotes, comments with a version), and neither do two versions of a server. What is decided here is what the server that
//! is restored into will do.

pub(super) mod charset;
pub(super) mod rows;
pub(super) mod session;
pub(super) mod tokens;
