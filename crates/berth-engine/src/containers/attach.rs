//! Attaching to a container: its streams, its terminal's size, and leaving again.

use std::sync::Arc;

use super::clients::Place;
use super::index::ContainerHandle;
use super::launcher::Streams;
use super::phase::Phase;
use super::requests::{AttachOptions, LogOptions, TerminalSize};
use super::stream::{Attachment, Connecting};
use super::{Containers, announce, logs};
use crate::error::EngineError;

impl Containers {
    /// Attaches; before the start it stays pending and misses nothing.
    ///
    /// # Errors
    /// `Conflict` when it is frozen or restarts.
    pub async fn attach(
        &self,
        reference: &str,
        options: AttachOptions,
    ) -> Result<Attachment, EngineError> {
        let handle = self.find(reference)?;
        let view = handle.view();
        match &view.phase {
            Phase::Paused { .. } => {
                return Err(EngineError::Conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    view.id
                )));
            }
            Phase::Backoff { .. } => {
                return Err(EngineError::Conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    view.id
                )));
            }
            _ => {}
        }
        let replay = if options.logs {
            let logs = LogOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..LogOptions::default()
            };
            let host = Arc::clone(&self.environment.host);
            Some(logs::start(host, handle.clone(), logs).await?)
        } else {
            None
        };
        let stream = if options.stream {
            self.connect_streams(
                &handle,
                Streams {
                    stdin: options.stdin && view.spec.config.open_stdin,
                    stdout: options.stdout,
                    stderr: options.stderr,
                },
            )
            .await?
        } else {
            Connecting::Ready(None)
        };
        announce::of_view(&self.environment.events, &view, "attach", &[]);
        Ok(Attachment {
            terminal: view.spec.config.tty,
            replay,
            stream,
        })
    }

    async fn connect_streams(
        &self,
        handle: &ContainerHandle,
        streams: Streams,
    ) -> Result<Connecting, EngineError> {
        match handle.clients.join(streams) {
            Place::Waiting(receiver) => Ok(Connecting::Pending(receiver)),
            Place::Full => Err(EngineError::Unavailable(format!(
                "too many clients wait for container {} to start",
                handle.id
            ))),
            Place::Direct => {
                let stream = self
                    .environment
                    .launcher
                    .attach(&handle.id, streams)
                    .await
                    .map_err(EngineError::from)?;
                Ok(Connecting::Ready(Some(stream)))
            }
        }
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn resize(&self, reference: &str, size: TerminalSize) -> Result<(), EngineError> {
        let view = self.find(reference)?.view();
        if !view.is_running() {
            return Err(EngineError::Conflict(format!(
                "container {} is not running",
                view.id
            )));
        }
        self.environment
            .launcher
            .resize(&view.id, None, size)
            .await
            .map_err(EngineError::from)?;
        announce::of_view(
            &self.environment.events,
            &view,
            "resize",
            &[
                ("height", size.height.to_string()),
                ("width", size.width.to_string()),
            ],
        );
        Ok(())
    }

    /// Tells listeners that a client left an attached container by its detach keys.
    pub fn announce_detach(&self, reference: &str) {
        if let Ok(handle) = self.find(reference) {
            announce::of_view(&self.environment.events, &handle.view(), "detach", &[]);
        }
    }
}
