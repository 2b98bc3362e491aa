//! What the daemon gives back when it has nothing to do.
//!
//! Nearly every request blocks somewhere (records, kernel), on a thread that the runtime ends after a while without
//! work. When the last of them ends, nothing has happened for that long: no timer has to wake an idle daemon for it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::limits;

/// Threads of the runtime that live: those that drive requests and those for calls that block.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// A thread of the runtime begins.
pub(super) fn thread_starts() {
    THREADS.fetch_add(1, Ordering::Relaxed);
}

/// A thread of the runtime ends. The last one for blocking calls gives back what work has left in the allocator, and
/// the pages of the program that the next request brings back from the page cache.
pub(super) fn thread_stops() {
    if THREADS.fetch_sub(1, Ordering::Relaxed) == limits::WORKERS + 1 {
        berth_sys::memory::trim();
        berth_sys::memory::release_program();
    }
}
