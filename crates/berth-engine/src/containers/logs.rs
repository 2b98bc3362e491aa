//! Reading a container's log: what is there, and what still comes.
//!
//! The files belong to the monitor's writer; this reads beside it and never asks an owner.

use std::sync::Arc;

use berth_monitor::log::{LogDriver, LogReader, ReadRequest, StreamKind};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::index::ContainerHandle;
use super::monitors::log_settings;
use super::phase::Phase;
use super::record::ContainerRecord;
use super::requests::{LogEntry, LogOptions, OutputStream};
use super::view::ContainerView;
use crate::error::EngineError;
use crate::host::Host;
use crate::limits;

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

fn failed(view: &ContainerView, error: berth_monitor::log::LogError) -> EngineError {
    let kind = error.kind();
    EngineError::failed(
        format!("read the log of container {}", view.id),
        kind,
        error,
    )
}

/// Begins to read.
///
/// # Errors
/// When neither output is asked for, the driver keeps nothing, or the log cannot be opened.
pub(super) async fn start(
    host: Arc<Host>,
    handle: ContainerHandle,
    options: LogOptions,
) -> Result<LogStream, EngineError> {
    if !options.stdout && !options.stderr {
        return Err(EngineError::Invalid(
            "Bad parameters: you must choose at least one stream".to_owned(),
        ));
    }
    let view = handle.view();
    let mut record = ContainerRecord::new(
        view.id.clone(),
        view.name.clone(),
        view.created,
        (*view.spec).clone(),
    );
    record.resources = view.resources.clone();
    let settings = log_settings(&host, &record).map_err(EngineError::from)?;
    if settings.driver == LogDriver::None {
        return Err(EngineError::NotImplemented(
            "configured logging driver does not support reading".to_owned(),
        ));
    }
    let terminal = view.spec.config.tty;
    let (sender, receiver) = mpsc::channel(limits::LOG_QUEUE);
    if matches!(view.phase, Phase::Removing { .. } | Phase::Dead { .. }) {
        return Err(EngineError::Conflict(
            "can not get logs from container which is dead or marked for removal".to_owned(),
        ));
    }
    let request = ReadRequest {
        stdout: options.stdout,
        stderr: options.stderr,
        since: options.since,
        until: options.until,
        tail: options.tail.map(|n| n as u64),
    };
    let reader = {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || LogReader::open(&settings, request))
            .await
            .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))?
            .map_err(|e| failed(&view, e))?
    };
    let follow = options.follow && is_writing(&view.phase);
    let (end, ended) = watch::channel(!follow);
    if follow {
        let mut watched = handle.view.clone();
        let sender = sender.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = watched.wait_for(|v| !is_writing(&v.phase)) => {}
                () = sender.closed() => {}
            }
            let _ = end.send(true);
        });
    }
    tokio::spawn(async move {
        let mut stream = reader.into_stream(follow, ended);
        loop {
            let batch = tokio::select! {
                batch = stream.next() => batch,
                () = sender.closed() => return,
            };
            match batch {
                Ok(None) => return,
                Ok(Some(entries)) => {
                    for entry in entries {
                        if sender.send(Ok(convert(entry))).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    let _ = sender.send(Err(failed(&view, error))).await;
                    return;
                }
            }
        }
    });
    Ok(LogStream { terminal, receiver })
}

/// Whether something may still be written.
fn is_writing(phase: &Phase) -> bool {
    phase.is_running() || matches!(phase, Phase::Starting { .. } | Phase::Stopping { .. })
}

fn convert(entry: berth_monitor::log::LogEntry) -> LogEntry {
    LogEntry {
        stream: match entry.stream {
            StreamKind::Stderr => OutputStream::Stderr,
            _ => OutputStream::Stdout,
        },
        at: entry.time,
        line: Bytes::from(entry.bytes),
        attributes: entry
            .attributes
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    }
}
