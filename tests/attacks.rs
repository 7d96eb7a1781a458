//! What attackers tried, each with the attacker's own input.

mod support;

#[path = "attacks/bombs.rs"]
mod bombs;
#[path = "attacks/poison.rs"]
mod poison;
