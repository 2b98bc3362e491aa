//! Every bound of this crate.

use std::time::Duration;

/// Largest padding a template may ask for, in characters.
pub(crate) const MAX_PADDING: usize = 65_536;
/// How long a client waits for the daemon it started to listen. The daemon's death is seen at once; this is for one that
/// takes over many containers, or starts on a very slow machine.
pub(crate) const DAEMON_START: Duration = Duration::from_secs(120);
/// Largest configuration, environment or label file that is read, in bytes.
pub(crate) const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Longest sequence of keys that detaches.
pub(crate) const MAX_DETACH_KEYS: usize = 16;
/// Requests in flight at once when a command names many containers.
pub(crate) const PARALLEL_REQUESTS: usize = 50;
/// Most ports one range may name.
pub(crate) const MAX_PORTS: usize = 65_536;
/// Bytes of an archive gathered before they are sent.
pub(crate) const COPY_CHUNK: usize = 256 * 1024;
/// Chunks of an archive between the connection and the thread that reads or writes files.
pub(crate) const COPY_CHUNKS: usize = 4;
/// Time between two lines of progress of a copy.
pub(crate) const PROGRESS_PACE: Duration = Duration::from_millis(100);
/// Most that a credential helper may answer, in bytes.
pub(crate) const MAX_HELPER_OUTPUT: u64 = 1024 * 1024;
/// Longest line that is read at a prompt or as a password, in bytes.
pub(crate) const MAX_LINE: usize = 64 * 1024;
/// Most manifests that one list may have.
pub(crate) const MAX_LIST: usize = 1024;
