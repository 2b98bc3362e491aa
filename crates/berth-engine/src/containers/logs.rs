//! Reading a container's log: what is there, and what still comes.

use tokio::sync::mpsc;

use super::requests::LogEntry;
use crate::error::EngineError;

/// Entries of a log, in order. Dropping it ends the reading.
#[derive(Debug)]
pub struct LogStream {
    /// Whether the container has a terminal (no frames).
    pub terminal: bool,
    pub(crate) receiver: mpsc::Receiver<Result<LogEntry, EngineError>>,
}

impl LogStream {
    /// The next entry; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<LogEntry, EngineError>> {
        self.receiver.recv().await
    }
}
