//! How much memory the C library's allocator keeps for itself.

/// Gives freed memory back to the kernel now.
pub fn trim() {
    // SAFETY: malloc_trim(3) has no preconditions.
    unsafe { libc::malloc_trim(0) };
}

/// Settings for a small process of one thread: one arena, and freed memory goes back early.
pub fn tune_small() {
    const TRIM_THRESHOLD: libc::c_int = 64 * 1024;
    const MAP_THRESHOLD: libc::c_int = 64 * 1024;
    // SAFETY: mallopt(3) takes integers; a setting it does not accept is left as it was.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_THRESHOLD);
        libc::mallopt(libc::M_TOP_PAD, 0);
    }
}
