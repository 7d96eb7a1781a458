//! Waiting, replaceable in tests so that no time passes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// A monotonic clock, and sleep.
pub trait Wait: Send + Sync {
    /// The time since some fixed moment.
    fn now(&self) -> Duration;

    /// Returns when `duration` has passed.
    fn sleep(&self, duration: Duration);
}

/// The machine's time.
#[derive(Debug, Clone, Copy)]
pub struct RealTime(Instant);

impl Default for RealTime {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Wait for RealTime {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Time that passes only while somebody sleeps, and then at once. For tests.
#[derive(Debug, Default)]
pub struct SteppedTime(Mutex<Duration>);

impl Wait for SteppedTime {
    fn now(&self) -> Duration {
        *lock(&self.0)
    }

    fn sleep(&self, duration: Duration) {
        *lock(&self.0) += duration;
    }
}
