//! varu
fn main() {}
