//! Waiting for a condition, with a deadline. The only place that sleeps.
//!
//! `BERTH_TEST_PATIENCE` is a factor to all deadlines, for machines that are slower than any real one.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Deadline for anything that normally takes well under a second; generous, since a loaded
/// two-core machine must not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks at a condition.
const STEP: Duration = Duration::from_millis(10);

/// Looks until `condition` gives a value; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn until_some<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, &mut condition) {
        Some(value) => value,
        None => panic!("not within {} s: {what}", scaled(PATIENCE).as_secs()),
    }
}

/// Looks until `condition` holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// The deadline that stands for `limit` on this machine.
pub fn scaled(limit: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| {
        let text = std::env::var("BERTH_TEST_PATIENCE").unwrap_or_default();
        text.parse().unwrap_or(1)
    });
    limit * *factor
}

/// Looks until `condition` gives a value or `limit`, [`scaled`], has passed.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + scaled(limit);
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(STEP);
    }
}
