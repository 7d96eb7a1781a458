//! A login of a role that loads.

use crate::source::command::apart::Apart;

/// Who a client is, where that isn't the account itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub role: String,
    /// Its password, which is in no command line.
    pub password: String,
    /// Where the server is reached, where that isn't where the account reaches it: a host and a port.
    pub at: Option<(String, String)>,
    /// How its client is [`Apart`] from this machine, where it is.
    pub apart: Option<Apart>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("role", &self.role).field("at", &self.at).finish_non_exhaustive()
    }
}
