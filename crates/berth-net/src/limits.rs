//! Bounds on sizes, counts and times.

/// Holders of ranges that the error of an exhausted pool names.
pub const HOLDERS_TOLD: usize = 32;
