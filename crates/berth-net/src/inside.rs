//! Work of the calling thread in another network namespace.

use std::os::fd::AsFd;
use std::path::Path;

use berth_sys::Result;
use berth_sys::namespace::{self, Kind};

/// Calls `work` with the calling thread in `namespace`.
///
/// A thread that cannot come back would do everything that follows in the wrong network; rather than that, the process
/// ends. It cannot happen to a process that was able to enter.
///
/// # Errors
/// When the namespace cannot be entered; `work` was not called then.
pub(crate) fn inside<T>(namespace: impl AsFd, work: impl FnOnce() -> T) -> Result<T> {
    let home = namespace::open(Path::new("/proc/thread-self/ns/net"))?;
    namespace::enter(namespace, Kind::Network)?;
    let result = work();
    if namespace::enter(&home, Kind::Network).is_err() {
        std::process::abort();
    }
    Ok(result)
}
