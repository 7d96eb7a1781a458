//! What the sources of servers take of a set.

use varu::source::influxdb::{self, InfluxdbOptions};
use varu::source::mysql::{self, MysqlOptions};
use varu::source::postgresql::{self, PostgresqlOptions};

use super::source::{Influxdb, Mysql, Postgresql};

impl Mysql {
    /// What is dumped.
    pub fn options(&self) -> MysqlOptions {
        MysqlOptions {
            databases: self.databases.clone(),
            exclude_tables: self.exclude_tables.clone(),
            schema_only_tables: self.schema_only_tables.clone(),
            stall_limit: self.stall_limit,
            server: self.server_options(),
        }
    }

    /// Where the server is.
    pub fn server_options(&self) -> mysql::server::ServerOptions {
        mysql::server::ServerOptions {
            option_file: self.option_file.clone(),
            host: self.server.host.clone(),
            socket: self.server.socket.clone(),
            exec: self.server.exec.clone(),
        }
    }
}

impl Postgresql {
    /// What is dumped.
    pub fn options(&self) -> PostgresqlOptions {
        PostgresqlOptions {
            databases: self.databases.clone(),
            exclude_tables: self.exclude_tables.clone(),
            schema_only_tables: self.schema_only_tables.clone(),
            stall_limit: self.stall_limit,
            server: self.server_options(),
        }
    }

    /// Where the server is.
    pub fn server_options(&self) -> postgresql::server::ServerOptions {
        postgresql::server::ServerOptions {
            host: self.server.host.clone(),
            socket: self.server.socket.clone(),
            user: self.user.clone(),
            exec: self.server.exec.clone(),
        }
    }
}

impl Influxdb {
    /// What is backed up.
    pub fn options(&self) -> InfluxdbOptions {
        InfluxdbOptions { database: self.database.clone(), server: self.server_options() }
    }

    /// Where the server is.
    pub fn server_options(&self) -> influxdb::server::ServerOptions {
        influxdb::server::ServerOptions {
            host: self.server.host.clone(),
            rpc: self.rpc.clone(),
            option_file: self.option_file.clone(),
            exec: self.server.exec.clone(),
        }
    }
}
