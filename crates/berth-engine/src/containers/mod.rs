//! Containers: the service that callers ask.
//!
//! Finds the container that is meant, asks its owner (the only writer of its record), and hands out
//! snapshots to readers. Streams of bytes go straight to the monitor or a file, never through an owner.

pub mod health;
pub mod logs;
pub mod phase;
pub mod record;
pub mod requests;
pub mod spec;
pub mod stats;
pub mod stream;
pub mod view;

use std::sync::Arc;

use crate::error::EngineError;
use crate::filters::Filters;
use logs::LogStream;
use requests::*;
use spec::CreateRequest;
use stats::StatsStream;
use stream::Attachment;
use view::ContainerView;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Containers {}

fn pending<T>() -> Result<T, EngineError> {
    Err(EngineError::NotImplemented("containers".to_owned()))
}

/// A wait that has been registered; what it waits for cannot be missed any more.
#[derive(Debug)]
pub struct Waiting {}

impl Waiting {
    /// What it ends with.
    pub async fn outcome(self) -> WaitOutcome {
        WaitOutcome {
            code: 0,
            error: None,
        }
    }
}

/// A container's reference is its id, a prefix of it that no other has, or its name (a leading slash is ignored).
impl Containers {
    /// Makes a container. # Errors: see `EngineError`.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, EngineError> {
        let _ = request;
        pending()
    }
    /// Starts it. `Unchanged` when it runs.
    pub async fn start(&self, reference: &str) -> Result<(), EngineError> {
        let _ = reference;
        pending()
    }
    /// Stops it. `Unchanged` when it does not run.
    pub async fn stop(&self, reference: &str, options: StopOptions) -> Result<(), EngineError> {
        let _ = (reference, options);
        pending()
    }
    /// Stops it if it runs, and starts it.
    pub async fn restart(&self, reference: &str, options: StopOptions) -> Result<(), EngineError> {
        let _ = (reference, options);
        pending()
    }
    /// Sends a signal (default SIGKILL).
    pub async fn kill(
        &self,
        reference: &str,
        signal: Option<berth_types::Signal>,
    ) -> Result<(), EngineError> {
        let _ = (reference, signal);
        pending()
    }
    /// Freezes it.
    pub async fn pause(&self, reference: &str) -> Result<(), EngineError> {
        let _ = reference;
        pending()
    }
    /// Thaws it.
    pub async fn unpause(&self, reference: &str) -> Result<(), EngineError> {
        let _ = reference;
        pending()
    }
    /// Gives it another name.
    pub async fn rename(&self, reference: &str, name: &str) -> Result<(), EngineError> {
        let _ = (reference, name);
        pending()
    }
    /// Registers a wait at once (so that headers can be sent), and hands back what to await.
    pub async fn wait(
        &self,
        reference: &str,
        condition: WaitCondition,
    ) -> Result<Waiting, EngineError> {
        let _ = (reference, condition);
        pending()
    }
    /// Removes it.
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<(), EngineError> {
        let _ = (reference, options);
        pending()
    }
    /// Removes every container that does not run. Filters: `until`, `label`, `label!`.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned, EngineError> {
        let _ = filters;
        pending()
    }
    /// Attaches; before the start it stays pending and misses nothing.
    pub async fn attach(
        &self,
        reference: &str,
        options: AttachOptions,
    ) -> Result<Attachment, EngineError> {
        let _ = (reference, options);
        pending()
    }
    /// Reads its log.
    pub async fn logs(
        &self,
        reference: &str,
        options: LogOptions,
    ) -> Result<LogStream, EngineError> {
        let _ = (reference, options);
        pending()
    }
    /// Its processes, as `ps` with these arguments shows them (empty: `-ef`).
    pub async fn top(&self, reference: &str, arguments: &str) -> Result<ProcessTable, EngineError> {
        let _ = (reference, arguments);
        pending()
    }
    /// Samples of its use of resources. `stream`: go on; `one_shot`: do not wait for a second sample.
    pub async fn stats(
        &self,
        reference: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<StatsStream, EngineError> {
        let _ = (reference, stream, one_shot);
        pending()
    }
    /// Changes limits and restart policy; answers with warnings.
    pub async fn update(
        &self,
        reference: &str,
        request: UpdateRequest,
    ) -> Result<Vec<String>, EngineError> {
        let _ = (reference, request);
        pending()
    }
    /// Sets the size of its terminal.
    pub async fn resize(&self, reference: &str, size: TerminalSize) -> Result<(), EngineError> {
        let _ = (reference, size);
        pending()
    }
    /// Snapshots, newest first.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<Arc<ContainerView>>, EngineError> {
        let _ = options;
        pending()
    }
    /// The snapshot of one.
    pub fn inspect(&self, reference: &str) -> Result<Arc<ContainerView>, EngineError> {
        let _ = reference;
        pending()
    }
    /// Bytes it occupies (walks its writable layer).
    pub async fn size(&self, reference: &str) -> Result<ContainerSize, EngineError> {
        let _ = reference;
        pending()
    }
    /// Tells listeners that a client left an attached container by its detach keys.
    pub fn announce_detach(&self, reference: &str) {
        let _ = reference;
    }
}
