//! What attackers tried, each with the attacker's own input.

mod support;

#[path = "attacks/poison.rs"]
mod poison;
