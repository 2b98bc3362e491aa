//! The one place that asks the system for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use berth_types::Timestamp;

/// The present moment, to the nanosecond.
#[must_use]
pub fn now() -> Timestamp {
    let nanoseconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    Timestamp::from_unix_nanoseconds(nanoseconds)
}
