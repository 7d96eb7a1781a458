//! What attackers tried, each with the attacker's own input. `docs/format.md`, "Threats", names these tests.

#[path = "support/apart.rs"]
mod apart;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/site.rs"]
mod site;
mod support;

#[path = "attacks/bombs.rs"]
mod bombs;
#[path = "attacks/filter.rs"]
mod filter;
#[path = "attacks/grid.rs"]
mod grid;
#[path = "attacks/keys.rs"]
mod keys;
#[path = "attacks/mysql.rs"]
mod mysql;
#[path = "attacks/numbers.rs"]
mod numbers;
#[path = "attacks/poison.rs"]
mod poison;

/// Tries `test` with values of the strategy, and fails with the smallest for which it does.
fn fuzz<S: proptest::strategy::Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) {
    let config = proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() };
    let tried = proptest::test_runner::TestRunner::new(config).run(strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = tried {
        panic!("{error}");
    }
}
