//! Every bound of the server.

use std::time::Duration;

/// Longest head of a request (request line and headers), in bytes. Docker allows 1 MiB; nobody needs it.
pub const MAX_HEAD: usize = 128 * 1024;
/// Longest JSON body, in bytes. A create with a seccomp profile inside has some ten KiB.
pub const MAX_JSON_BODY: usize = 4 * 1024 * 1024;
/// How long a client may take to send a request's head once it began, and stay idle between requests.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a client may take to send a JSON body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections open at once; further ones wait in the socket's backlog. Each attached client holds two descriptors.
pub const MAX_CONNECTIONS: usize = 4096;
/// How long open requests may go on when the daemon ends.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Bytes copied at once between a client and a container.
pub const COPY_BUFFER: usize = 32 * 1024;
/// Longest detach key sequence.
pub const MAX_DETACH_KEYS: usize = 64;
/// How often a quiet hijacked connection is checked for a client that is gone.
pub const HANGUP_CHECK: Duration = Duration::from_secs(2);
/// Pause before the next accept when the process is out of descriptors or memory.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Lines of pull or load progress that may wait for a slow client.
pub const PROGRESS_QUEUE: usize = 256;
/// Bytes of log lines gathered into one chunk of an answer.
pub const LOG_CHUNK: usize = 32 * 1024;
/// How long the end of an exec's output waits for the news of its program's end.
pub const EXEC_END: Duration = Duration::from_secs(2);
/// How often that news is looked for; it follows within the same millisecond nearly always.
pub const EXEC_END_CHECK: Duration = Duration::from_millis(1);
/// Bytes of one chunk of an archive on its way to a client.
pub const ARCHIVE_CHUNK: usize = 256 * 1024;
/// Chunks of an archive that may wait for a slow client.
pub const ARCHIVE_CHUNKS: usize = 4;
/// How long what a client still sends is taken after the last answer on its connection.
pub const PARTING: Duration = Duration::from_secs(2);
/// Bytes of an archive that are still taken from a client when nobody reads them any more.
pub const DISCARDED_BODY: usize = 64 * 1024 * 1024;
