//! The exit record: what is left of a container's run when its monitor is gone.
//!
//! Invariant: the record is in place before anybody is told of the exit, and it is replaced atomically, so whoever finds one
//! finds a whole one.

use std::collections::BTreeMap;
use std::path::Path;

use berth_sys::fs::Durability;
use berth_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, MonitorError};
use crate::limits;

/// Name of the record in the container's runtime directory.
pub const EXIT_FILE: &str = "exit.json";

/// How a container's run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Schema of this document; 1.
    pub version: u32,
    /// As Docker reports it: the exit code, 128 and the signal, or 125–128 when the container never ran.
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of it for lack of memory.
    pub oom_killed: bool,
    /// The process id it had on the host; 0 when it never had one.
    pub pid: i32,
    /// When its program was executed; `None` when it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why it could not run, or how the monitor failed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The latest exec sessions that ended, by identifier.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub execs: BTreeMap<String, ExecRecord>,
}

/// How an exec session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    /// The exit code, or 128 and the signal.
    pub exit_code: i32,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl ExitRecord {
    /// The present schema.
    pub const VERSION: u32 = 1;

    pub(crate) fn write(&self, directory: &Path) -> Result<(), MonitorError> {
        let path = directory.join(EXIT_FILE);
        let content = serde_json::to_vec(self).map_err(|source| MonitorError::Document {
            path: path.display().to_string(),
            source,
        })?;
        // The directory is in memory: there is nothing that a flush could make durable.
        Ok(berth_sys::fs::replace(
            &path,
            &content,
            0o600,
            Durability::Unsynced,
        )?)
    }
}

/// Reads the exit record in a container's runtime directory; `None` when the container has not ended (or was never launched).
///
/// # Errors
/// When it cannot be read or understood.
pub fn read_exit_record(directory: &Path) -> Result<Option<ExitRecord>, MonitorError> {
    let path = directory.join(EXIT_FILE);
    let content = match berth_sys::fs::read_bounded(&path, limits::MAX_DOCUMENT) {
        Ok(content) => content,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_slice(&content)
        .map(Some)
        .map_err(|source| MonitorError::Document {
            path: path.display().to_string(),
            source,
        })
}
