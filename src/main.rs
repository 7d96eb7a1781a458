//! varu
mod config;
mod terminal;
fn main() {}
