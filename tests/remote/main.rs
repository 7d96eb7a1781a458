//! Remotes and backup hosts: the conformance suite, SFTP, shipping, the append-only host.

mod conformance;
mod far;
mod host;
mod sftp;
mod shipping;
mod suite;
mod thief;
