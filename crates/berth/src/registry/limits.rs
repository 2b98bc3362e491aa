//! Every bound of the registry's process.

use std::time::Duration;

/// Threads for calls that block: disk, hashes, passwords.
pub(super) const BLOCKING_THREADS: usize = 64;
/// Stack of each thread, in bytes. Only touched pages count.
pub(super) const STACK: usize = 1024 * 1024;
/// How long blocking calls may go on when the registry ends.
pub(super) const SHUTDOWN: Duration = Duration::from_secs(5);
/// Addresses to listen at.
pub(super) const ADDRESSES: usize = 64;
/// Longest file with a password, in bytes.
pub(super) const PASSWORD_FILE: u64 = 4096;
