//! What the source of a database server takes of a set.

use varu::source::mysql::server::ServerOptions;
use varu::source::mysql::{self, MysqlOptions};

use super::source::{Databases, Mysql};

impl Mysql {
    /// What is dumped.
    pub fn options(&self) -> MysqlOptions {
        MysqlOptions {
            databases: match &self.databases {
                Databases::AllBut(out) => mysql::Databases::AllBut(out.clone()),
                Databases::Only(names) => mysql::Databases::Only(names.clone()),
            },
            exclude_tables: self.exclude_tables.clone(),
            schema_only_tables: self.schema_only_tables.clone(),
            server: self.server_options(),
        }
    }

    /// Where the server is.
    pub fn server_options(&self) -> ServerOptions {
        ServerOptions {
            option_file: self.option_file.clone(),
            host: self.server.host.clone(),
            socket: self.server.socket.clone(),
            exec: self.server.exec.clone(),
        }
    }
}
