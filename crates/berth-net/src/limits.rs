//! Bounds on sizes, counts and times.
