//! Exec sessions: further programs in a running container.
//!
//! A session belongs to its container's monitor and is remembered while the daemon runs; it is not stored,
//! as Docker's are not.

use std::sync::Arc;

use berth_types::{ContainerId, ExecId};
use tokio::net::UnixStream;

use crate::containers::requests::TerminalSize;
use crate::error::EngineError;

/// What an exec session is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// User (and group); empty for the container's.
    pub user: String,
    /// Directory; empty for the container's.
    pub working_dir: String,
    /// Further variables.
    pub env: Vec<String>,
    /// All capabilities, no system call filter.
    pub privileged: bool,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Whether standard input is sent.
    pub attach_stdin: bool,
    /// Whether standard output is wanted.
    pub attach_stdout: bool,
    /// Whether standard error is wanted.
    pub attach_stderr: bool,
    /// Keys that leave it, as written; kept for whoever copies the bytes.
    pub detach_keys: String,
    /// First size of its terminal.
    pub console_size: Option<TerminalSize>,
}

/// How a session is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecStartOptions {
    /// Do not attach.
    pub detach: bool,
    /// Must agree with the request where the caller knows it.
    pub terminal: bool,
    /// First size of its terminal, over that of the request.
    pub console_size: Option<TerminalSize>,
}

/// A session at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// What it was to run.
    pub request: Arc<ExecRequest>,
    /// Whether it runs.
    pub running: bool,
    /// Process id on the host; zero before the start.
    pub pid: u32,
    /// Its exit code, once it ended.
    pub exit_code: Option<i32>,
    /// Whether it may be removed from memory.
    pub can_remove: bool,
}

/// A session that runs.
#[derive(Debug)]
pub struct ExecStarted {
    /// Whether it has a terminal (raw stream) or not (frames).
    pub terminal: bool,
    /// Its bytes; `None` when detached.
    pub stream: Option<UnixStream>,
}

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Execs {}

impl Execs {
    /// Makes a session in a running container.
    pub async fn create(
        &self,
        container: &str,
        request: ExecRequest,
    ) -> Result<ExecId, EngineError> {
        let _ = (container, request);
        Err(EngineError::NotImplemented("exec".to_owned()))
    }
    /// Runs it. Returns after the program runs, or could not be run (`Start` with 126 or 127).
    pub async fn start(
        &self,
        id: &str,
        options: ExecStartOptions,
    ) -> Result<ExecStarted, EngineError> {
        let _ = (id, options);
        Err(EngineError::NotImplemented("exec".to_owned()))
    }
    /// Whether the session has a terminal, before it is started (for the answer's content type).
    pub fn inspect(&self, id: &str) -> Result<ExecView, EngineError> {
        let _ = id;
        Err(EngineError::NotImplemented("exec".to_owned()))
    }
    /// Sets the size of its terminal.
    pub async fn resize(&self, id: &str, size: TerminalSize) -> Result<(), EngineError> {
        let _ = (id, size);
        Err(EngineError::NotImplemented("exec".to_owned()))
    }
    /// Tells listeners that a client left a session by its detach keys.
    pub fn announce_detach(&self, id: &str) {
        let _ = id;
    }
}
