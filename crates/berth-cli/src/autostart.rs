//! Starting the engine when nobody listens at the default socket.
//!
//! One client of many wins: they queue at a lock file, and whoever gets the lock looks again before
//! it starts anything. The new daemon is our own executable; it tells over an inherited pipe that it
//! listens, and nothing here waits for time to pass.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;
use crate::limits::DAEMON_START;

/// Data root of a daemon without options; holds the log of daemons started here.
const DATA_ROOT: &str = "/var/lib/berth";
/// A log longer than this is begun anew, in bytes.
const MAX_LOG: u64 = 8 * 1024 * 1024;
/// How much of the log's end is looked at for the reason of a failed start, in bytes.
const LOG_TAIL: u64 = 4096;

/// Makes sure that an engine listens at the default socket. Users who are not root cannot start one
/// there; for them, and when something else is in the way, the request itself tells. The answer is
/// the connection that was made to look, if an engine ran already.
pub(crate) fn ensure_listening(socket: &Path) -> Result<Option<UnixStream>, Failure> {
    let found = match connect(socket) {
        Looked::Listens(found) => Some(found),
        Looked::Unclear => None,
        Looked::Nobody if !rustix::process::geteuid().is_root() => None,
        Looked::Nobody => return start_once(socket).map(|()| None),
    };
    Ok(found)
}

/// Starts an engine unless another client just did.
fn start_once(socket: &Path) -> Result<(), Failure> {
    let directory = socket.parent().unwrap_or(Path::new("/run"));
    make_directory(directory, 0o755)?;
    let lock_path = directory.join("autostart.lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|error| Failure::new(format!("open {}: {error}", lock_path.display())))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| Failure::new(format!("lock {}: {error}", lock_path.display())))?;
    if matches!(connect(socket), Looked::Nobody) {
        start()?;
    }
    Ok(())
}

/// What is behind a socket's path.
enum Looked {
    Listens(UnixStream),
    Nobody,
    /// There is something, but it is not for us to say what.
    Unclear,
}

fn connect(socket: &Path) -> Looked {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    match UnixStream::connect(socket) {
        Ok(stream) => Looked::Listens(stream),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Looked::Nobody,
        Err(_) => Looked::Unclear,
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| {
            Failure::new(format!(
                "start the engine: create the directory {}: {error}",
                path.display()
            ))
        })
}

fn start() -> Result<(), Failure> {
    let failed = |reason: String| Failure::new(format!("start the engine: {reason}"));
    make_directory(Path::new(DATA_ROOT), 0o711)?;
    let log_path = Path::new(DATA_ROOT).join("daemon.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(|error| failed(format!("open {}: {error}", log_path.display())))?;
    if log
        .metadata()
        .is_ok_and(|metadata| metadata.len() > MAX_LOG)
    {
        log.set_len(0)
            .map_err(|error| failed(format!("shorten {}: {error}", log_path.display())))?;
    }
    // Not closed on exec: the daemon inherits the writing end under its number.
    let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty())
        .map_err(|error| failed(format!("make a pipe: {error}")))?;
    rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| failed(format!("prepare a pipe: {error}")))?;
    let output = log.try_clone().map_err(|error| failed(error.to_string()))?;
    Command::new("/proc/self/exe")
        .arg0("berth")
        .arg("daemon")
        .arg("--ready-fd")
        .arg(tell.as_raw_fd().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(log)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    drop(tell);
    let deadline = Instant::now() + DAEMON_START;
    let readable = wait_readable(&ready, deadline).map_err(|error| failed(error.to_string()))?;
    if !readable {
        return Err(failed(format!(
            "it does not listen after {} seconds; see {}",
            DAEMON_START.as_secs(),
            log_path.display()
        )));
    }
    let mut byte = [0; 1];
    match File::from(ready).read(&mut byte) {
        Ok(1) => Ok(()),
        _ => Err(failed(format!(
            "{}; see {}",
            last_line(&log_path),
            log_path.display()
        ))),
    }
}

fn wait_readable(descriptor: impl AsFd, deadline: Instant) -> rustix::io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The last line of the log, where a daemon that gave up says why.
fn last_line(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => match text.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => line.trim().to_owned(),
            None => "it ended without a word".to_owned(),
        },
        Err(_) => "it ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_is_noticed_and_its_absence_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        assert!(matches!(connect(&path), Looked::Nobody));
        let listener = UnixListener::bind(&path).expect("binds");
        assert!(matches!(connect(&path), Looked::Listens(_)));
        drop(listener);
        assert!(matches!(connect(&path), Looked::Nobody));
    }

    #[test]
    fn the_reason_is_the_last_line_of_the_log() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(last_line(file.path()), "it ended without a word");
        std::fs::write(file.path(), "first\nlast words\n\n").expect("writes");
        assert_eq!(last_line(file.path()), "last words");
    }
}
