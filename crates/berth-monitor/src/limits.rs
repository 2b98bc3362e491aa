//! Every bound of this crate: sizes in bytes, counts, and durations.

use std::time::Duration;

/// Largest protocol frame in either direction. Environments and argument lists of an exec are bounded by the
/// kernel at about this size (2 MiB on Linux by default), so a larger frame is never a sane request.
pub const MAX_FRAME: usize = 4 << 20;
/// Descriptors that may travel with one frame.
pub const MAX_FRAME_DESCRIPTORS: usize = 4;
/// Daemon connections that a monitor serves at once; one more is closed at once.
pub const MAX_CONNECTIONS: usize = 8;
/// Bytes queued for a daemon that does not read; above this it is disconnected and has to connect again.
pub const MAX_CONNECTION_BACKLOG: usize = 8 << 20;
/// Attach and exec streams of one container at once.
pub const MAX_CLIENTS: usize = 512;
/// Exec sessions that run at once in one container.
pub const MAX_EXECS: usize = 1024;
/// Finished exec sessions whose exit codes are kept for a daemon that was away.
pub const MAX_FINISHED_EXECS: usize = 64;

/// Bytes read at once from a container's pipe or terminal: the size of a pipe.
pub const READ_CHUNK: usize = 64 << 10;
/// Bytes read at once from a client's standard input.
pub const STDIN_CHUNK: usize = 32 << 10;
/// Bytes kept for a client that does not read; above this the container's output waits for it. Docker's bound.
pub const MAX_CLIENT_BACKLOG: usize = 1 << 20;
/// How long a client may hold up a container without taking a single byte before it is disconnected. Long,
/// because people pause pagers and terminals; finite, because a container must not hang for ever on a forgotten one.
pub const CLIENT_STALL: Duration = Duration::from_secs(30 * 60);
/// How long a program that has ended, but whose pipes are still open in some other process, is listened to.
/// Docker's bound.
pub const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// The same when the process namespace is dead, so that nobody of the container can write any more.
pub const DRAIN_GRACE_DEAD: Duration = Duration::from_millis(100);
/// How long the event loop keeps its read buffer after the last byte.
pub const BUFFER_KEEP: Duration = Duration::from_secs(1);

/// Largest `monitor.json`, `config.json` and `exit.json`.
pub const MAX_DOCUMENT: u64 = 16 << 20;
/// How long an outside OCI runtime may take for one command.
pub const RUNTIME_PROGRAM: Duration = Duration::from_secs(120);
/// How much of an outside runtime's error output is kept.
pub const MAX_RUNTIME_ERROR: u64 = 64 << 10;

/// Monitors that wait for a container to make. The next is made right after a launch, off the answer's path; each costs
/// what an idle monitor does, and counts in what an idle daemon may cost.
pub const SPARES: usize = 1;
/// After how long without a container a monitor that waits gives back what memory it can.
pub const SPARE_RESTS: Duration = Duration::from_millis(100);
/// How long after a launch new ones are made.
pub const SPARE_DELAY: Duration = Duration::from_millis(8);
/// Requests of a daemon that wait for one monitor.
pub const MAX_PENDING_REQUESTS: usize = 256;
/// Events that wait for the daemon's owner task; above this the connection is given up.
pub const MAX_PENDING_EVENTS: usize = 4096;
/// How long the daemon waits for a monitor that lives but does not listen (it is starting or ending).
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long the daemon waits for one answer. Creating a container may have to pull pages from a slow disk.
pub const ANSWER_WAIT: Duration = Duration::from_secs(150);

/// Longest piece of a line that becomes one log entry; longer lines are split. Docker's value.
pub const MAX_LOG_LINE: usize = 16 << 10;
/// Longest encoded log entry that a reader accepts: every byte as `\u00xx`, plus room for attributes.
pub const MAX_LOG_ENTRY: usize = 1 << 20;
/// Bytes of attributes (labels, environment, tag) that each entry may carry.
pub const MAX_LOG_ATTRIBUTES: usize = 256 << 10;
/// Most rotated files.
pub const MAX_LOG_FILES: u32 = 10_000;
/// Bytes that a log reader takes from a file at once.
pub const LOG_READ_CHUNK: usize = 64 << 10;
/// Entries that a log reader hands over at once.
pub const LOG_BATCH: usize = 512;
/// How often a log is looked at when the kernel has no inotify instance left.
pub const LOG_POLL: Duration = Duration::from_millis(200);
