//! Attacks, each with the attacker's own input. `docs/format.md`, "Threats", names these tests.

mod bombs;
mod filter;
mod grid;
mod keys;
mod mysql;
mod numbers;
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
