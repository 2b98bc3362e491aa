//! Every bound of the daemon's process.

use std::time::Duration;

/// Threads that drive requests. Nearly all work waits; more threads would only cost memory.
pub(super) const WORKERS: usize = 2;
/// Threads for calls that block: file systems, unpacking, kernel locks.
pub(super) const BLOCKING_THREADS: usize = 32;
/// How long such a thread stays without work.
pub(super) const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(5);
/// Stack of each thread, in bytes. Only touched pages count.
pub(super) const STACK: usize = 1024 * 1024;
/// How long blocking calls may go on when the daemon ends.
pub(super) const SHUTDOWN: Duration = Duration::from_secs(5);
/// Longest settings file, in bytes.
pub(super) const SETTINGS_FILE: u64 = 1024 * 1024;
/// Longest `/etc/group` that is searched, in bytes.
pub(super) const GROUP_FILE: u64 = 16 * 1024 * 1024;
/// Clients that may wait for being accepted.
pub(super) const BACKLOG: i32 = 1024;

/// How long another daemon at our socket may take to answer before it counts as busy and alive.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(3);
