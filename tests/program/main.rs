//! The command line, run as its users run it, on a local repository.

mod as_dump;
mod cli;
mod cli_main;
mod commands;
mod copy;
mod everything;
mod keys;
mod kill;
mod schedules;
mod shrinking;
mod sources;
mod words;
