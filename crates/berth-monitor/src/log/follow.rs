//! Reading a log as it grows: a [`LogReader`] that waits.
//!
//! Waiting is on the directory of the log (inotify), not on the monitor, so following needs neither a monitor nor the
//! daemon that started the container. Where the kernel has no inotify instance left, the log is looked at in intervals.

use std::path::Path;

use berth_types::Timestamp;
use rustix::fs::inotify;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use super::entry::LogEntry;
use super::reader::{LogError, LogReader};
use crate::limits;

/// Entries of a log, those that come later included.
pub struct LogStream {
    reader: Option<LogReader>,
    watch: Option<Watch>,
    /// True once nothing more will be written.
    ended: watch::Receiver<bool>,
    follow: bool,
}

enum Watch {
    /// An inotify descriptor; for the reactor it is read like a pipe.
    Events(Receiver),
    Interval,
}

impl LogReader {
    /// Makes an asynchronous stream of this reader. With `follow` it goes on at the end of what is there, until `ended`
    /// says (or its sender is gone) that nothing more is written; the rest is read first.
    #[must_use]
    pub fn into_stream(self, follow: bool, ended: watch::Receiver<bool>) -> LogStream {
        // Set up before the first read, so that nothing written between reading and waiting is missed.
        let watch = follow.then(|| {
            let directory = self
                .settings()
                .path
                .parent()
                .unwrap_or_else(|| Path::new("/"));
            open_watch(directory).map_or(Watch::Interval, Watch::Events)
        });
        LogStream {
            reader: Some(self),
            watch,
            ended,
            follow,
        }
    }
}

fn open_watch(directory: &Path) -> std::io::Result<Receiver> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::DELETE_SELF
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, directory, flags)?;
    Receiver::from_owned_fd_unchecked(fd)
}

impl LogStream {
    /// The next entries (never an empty list); `None` at the end. Cancelling loses nothing but the entries being read: drop
    /// the stream afterwards.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<LogEntry>>, LogError> {
        loop {
            // Asked before reading: whatever was written before the end is then surely seen.
            let last_round =
                !self.follow || *self.ended.borrow() || self.ended.has_changed().is_err();
            let Some(mut reader) = self.reader.take() else {
                return Ok(None);
            };
            let (reader, result) = tokio::task::spawn_blocking(move || {
                let result = reader.next_batch();
                (reader, result)
            })
            .await
            .map_err(|error| LogError::Read {
                path: "of the container".to_owned(),
                source: std::io::Error::other(error),
            })?;
            let finished = reader.is_finished();
            let until = reader.until();
            self.reader = Some(reader);
            let batch = result?;
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
            if finished || last_round {
                return Ok(None);
            }
            self.wait(until).await;
            if until.is_some_and(|until| until < Timestamp::from(std::time::SystemTime::now())) {
                self.follow = false;
            }
        }
    }

    /// Returns when there may be something new, or nothing more to wait for.
    async fn wait(&mut self, until: Option<Timestamp>) {
        let now = Timestamp::from(std::time::SystemTime::now());
        let deadline = async {
            match until {
                Some(until) => tokio::time::sleep(until.since(now)).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            match &self.watch {
                Some(Watch::Events(fd)) => drain(fd).await,
                Some(Watch::Interval) | None => tokio::time::sleep(limits::LOG_POLL).await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = deadline => {}
            _ = self.ended.wait_for(|ended| *ended) => {}
        }
    }
}

/// Waits for an event and takes all that are queued.
async fn drain(events: &Receiver) {
    let mut buffer = [0_u8; 4096];
    if events.readable().await.is_err() {
        return tokio::time::sleep(limits::LOG_POLL).await;
    }
    while events.try_read(&mut buffer).is_ok_and(|count| count > 0) {}
}
