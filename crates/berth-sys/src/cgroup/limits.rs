//! Bounds of waits and sizes.

use std::time::Duration;

/// Files of cgroupfs are read up to this many bytes; `cgroup.procs` of a very large group is the longest.
pub(super) const FILE_BYTES: usize = 16 << 20;

/// Groups are searched this deep beneath a container's own for processes and for removal; what a container
/// makes beneath that keeps it from being removed.
pub(super) const DEPTH: usize = 64;

/// A freezer that has not settled by then is thawed again and reported.
pub(super) const FREEZE: Duration = Duration::from_secs(10);

/// Killed processes get this long to leave a group that is being removed.
pub(super) const REMOVE: Duration = Duration::from_secs(10);

/// Rounds of signalling a group that keeps forking.
pub(super) const SIGNAL_ROUNDS: usize = 64;

/// Pause between looks at a state the kernel sends no event for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);
