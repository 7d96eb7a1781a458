//! The source `mysql`: databases of a MySQL or MariaDB server, by the server's own programs.

mod lexer;
pub mod names;
pub mod split;
