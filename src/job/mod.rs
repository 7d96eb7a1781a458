//! Jobs: what is done with a machine's sets, as its configuration describes them.
//!
//! An operation (floor 5) does one thing to one repository, with options that its caller decided. A job makes these decisions:
//! which source reads a set, when a full is due, what is tried again, which local copy is read, in which order everything is
//! restored. The binary only makes a request of its arguments, hands it to a job, and prints the report.
//!
//! | module | decides |
//! | --- | --- |
//! | [`spec`] | nothing: plain structs of sets and of all else that a configuration has, and their defaults |
//! | [`machine`] | which repository, keys and folders are used on this machine |
//! | [`connection`], [`open`] | how the remote is reached and tried again, which repository ids are read, which snapshot is meant |
//! | [`registry`] | what each kind of source can do: one descriptor a kind |
//! | [`schedule`] | when a full is due, and which tags ask for a re-base |
//! | [`hooks`] | what runs round a backup and a restore, and what its failure means |
//! | [`local_copy`] | which local copy is fresh, and when one is made anew |
//! | [`backup`] | where a set is read, and what is tried again |
//! | [`restore`] | which snapshots and parts are meant, whose accounts come, what a person is asked |
//! | [`restore_all`] | the order of sets, and which an earlier run has restored |
//! | [`refresh`] | what a refresh asks of a restore |
//! | [`prune`], [`index`] | which repository ids are worked on, and who has to wait for whom |

pub mod amount;
pub mod backup;
pub mod connection;
pub mod hooks;
pub mod index;
pub mod local_copy;
pub mod machine;
pub mod open;
pub mod prune;
pub mod refresh;
pub mod registry;
pub mod restore;
pub mod restore_all;
pub mod schedule;
pub mod spec;
mod suggestion;

pub use machine::Machine;
pub use suggestion::nearest;
