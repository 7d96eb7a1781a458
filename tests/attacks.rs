//! What attackers tried, each with the attacker's own input. `docs/format.md`, "Threats", names these tests.

#[path = "support/machine.rs"]
mod machine;
#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/site.rs"]
mod site;
mod support;

#[path = "attacks/bombs.rs"]
mod bombs;
#[path = "attacks/keys.rs"]
mod keys;
#[path = "attacks/mysql.rs"]
mod mysql;
#[path = "attacks/numbers.rs"]
mod numbers;
#[path = "attacks/poison.rs"]
mod poison;
