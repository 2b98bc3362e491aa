//! The daemon's handle on a monitor.
//!
//! Owns the connection: requests of many callers share it, told apart by numbers. Does not own the container's state, which is the
//! owner task's in the engine, nor any byte of a stream: those flow on sockets of their own.
//!
//! A monitor that is gone fails every request with [`MonitorError::Gone`]; what became of the container is then in its exit
//! record ([`crate::read_exit_record`]), or for [`crate::salvage`] to find out.

mod connection;
mod launch;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_net::dns::DnsSockets;
use berth_types::Signal;
use oci_spec::runtime::LinuxResources;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::error::MonitorError;
use crate::launch::ConsoleSize;
use crate::limits;
use crate::network::NetworkChange;
use crate::protocol::{ExecRequest, MonitorEvent, Reply, Request, Status, Streams};
use connection::Connection;

pub(crate) use launch::is_locked;
pub use launch::{ATTACHED_AT_LAUNCH, Spares, connect, launch, launch_with};

/// What a launch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Process id of the container's first process on the host.
    pub pid: i32,
    /// What was clamped, one sentence each.
    pub notes: Vec<String>,
    /// Whether the program runs already (`start` was asked for in the launch request).
    pub started: bool,
}

/// What an exec brings: the process runs.
#[derive(Debug)]
pub struct ExecStarted {
    /// Its process id on the host.
    pub pid: i32,
    /// What [`ExecRequest::streams`] asked for; `None` when that was nothing.
    pub stream: Option<UnixStream>,
}

/// A monitor that was connected to. Cheap to clone; every clone speaks over the same connection.
#[derive(Debug, Clone)]
pub struct MonitorHandle {
    connection: Arc<Connection>,
}

impl MonitorHandle {
    /// Executes the program of a created container; see [`Request::Start`].
    ///
    /// # Errors
    /// [`MonitorError::Refused`] with the reason why the program could not be executed.
    pub async fn start(&self) -> Result<(), MonitorError> {
        self.ask(Request::Start).await.map(drop)
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// When there is no such process any more, or the kernel refuses.
    pub async fn kill(&self, signal: Signal) -> Result<(), MonitorError> {
        self.ask(Request::Kill {
            signal: signal.number(),
            all: false,
        })
        .await
        .map(drop)
    }

    /// Sends a signal to every process of the container.
    ///
    /// # Errors
    /// As [`MonitorHandle::kill`].
    pub async fn kill_all(&self, signal: Signal) -> Result<(), MonitorError> {
        self.ask(Request::Kill {
            signal: signal.number(),
            all: true,
        })
        .await
        .map(drop)
    }

    /// Freezes the container.
    ///
    /// # Errors
    /// When it does not run, or has no freezer.
    pub async fn pause(&self) -> Result<(), MonitorError> {
        self.ask(Request::Pause).await.map(drop)
    }

    /// Thaws the container.
    ///
    /// # Errors
    /// When it is not frozen.
    pub async fn resume(&self) -> Result<(), MonitorError> {
        self.ask(Request::Resume).await.map(drop)
    }

    /// Changes limits; returns one sentence for each that could not be followed.
    ///
    /// # Errors
    /// When the kernel refuses a value.
    pub async fn update(&self, resources: LinuxResources) -> Result<Vec<String>, MonitorError> {
        match self
            .ask(Request::Update {
                resources: Box::new(resources),
            })
            .await?
        {
            Reply::Updated { notes } => Ok(notes),
            _ => Ok(Vec::new()),
        }
    }

    /// Sets the size of the container's terminal, or of an exec session's.
    ///
    /// # Errors
    /// When there is no such session, or it has no terminal.
    pub async fn resize(&self, exec: Option<&str>, size: ConsoleSize) -> Result<(), MonitorError> {
        self.ask(Request::Resize {
            exec: exec.map(str::to_owned),
            size,
        })
        .await
        .map(drop)
    }

    /// Attaches to the container. The stream carries what Docker's carries after an upgrade: frames with a header of eight
    /// bytes without a terminal, plain bytes with one; shutting down its writing half is the end of input.
    ///
    /// # Errors
    /// When too many are attached, or the container is over.
    pub async fn attach(&self, streams: Streams) -> Result<UnixStream, MonitorError> {
        let (ours, theirs) = UnixStream::pair().map_err(socket_error)?;
        self.ask_with(Request::Attach { streams }, Some(theirs))
            .await?;
        Ok(ours)
    }

    /// Runs one more process in the container; returns when its program has been executed.
    ///
    /// # Errors
    /// [`MonitorError::Refused`] with the reason; [`MonitorError::start_failure`] tells 126 and 127.
    pub async fn exec(&self, exec: ExecRequest) -> Result<ExecStarted, MonitorError> {
        let (stream, theirs) = if exec.streams == Streams::default() {
            (None, None)
        } else {
            let (ours, theirs) = UnixStream::pair().map_err(socket_error)?;
            (Some(ours), Some(theirs))
        };
        match self
            .ask_with(
                Request::Exec {
                    exec: Box::new(exec),
                },
                theirs,
            )
            .await?
        {
            Reply::ExecStarted { pid } => Ok(ExecStarted { pid, stream }),
            other => Err(unexpected("exec", &other)),
        }
    }

    /// Sends a signal to the process of an exec session.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn exec_kill(&self, exec: &str, signal: Signal) -> Result<(), MonitorError> {
        let request = Request::ExecKill {
            exec: exec.to_owned(),
            signal: signal.number(),
        };
        self.ask(request).await.map(drop)
    }

    /// Tells of networks that the container joined or left: new names, ports to hold and to give up. `sockets` are the resolver's,
    /// needed only when the container had none; `ports` fit [`NetworkChange::hold`]. It may take several requests, so that after an
    /// error a part may be done.
    ///
    /// # Errors
    /// When the container is over, or a monitor of an earlier release does not know how.
    pub async fn change_network(
        &self,
        change: NetworkChange,
        sockets: Option<DnsSockets>,
        ports: Vec<OwnedFd>,
    ) -> Result<(), MonitorError> {
        if change.hold.len() != ports.len() {
            return Err(MonitorError::Protocol(format!(
                "{} sockets were given for {} ports",
                ports.len(),
                change.hold.len()
            )));
        }
        let mut descriptors = Vec::new();
        let first = NetworkChange {
            sockets: sockets.is_some(),
            hold: Vec::new(),
            ..change
        };
        if let Some(sockets) = sockets {
            descriptors.extend([sockets.udp, sockets.tcp]);
        }
        let mut pieces = vec![(first, descriptors)];
        for (name, port) in change.hold.into_iter().zip(ports) {
            match pieces.last_mut() {
                Some((piece, descriptors)) if descriptors.len() < limits::MAX_FRAME_DESCRIPTORS => {
                    piece.hold.push(name);
                    descriptors.push(port);
                }
                _ => {
                    let piece = NetworkChange {
                        hold: vec![name],
                        ..NetworkChange::default()
                    };
                    pieces.push((piece, vec![port]));
                }
            }
        }
        for (change, descriptors) in pieces {
            let request = Request::Network {
                change: Box::new(change),
            };
            self.connection.ask(request, descriptors).await?;
        }
        Ok(())
    }

    /// Process ids on the host of all processes of the container.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn processes(&self) -> Result<Vec<i32>, MonitorError> {
        match self.ask(Request::Processes).await? {
            Reply::Processes { pids } => Ok(pids),
            other => Err(unexpected("processes", &other)),
        }
    }

    /// The present state.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub async fn status(&self) -> Result<Status, MonitorError> {
        match self.ask(Request::Status).await? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected("status", &other)),
        }
    }

    /// The events since the connection was made; each call but the first gives `None`, because every event has one receiver.
    /// The channel ends with the monitor.
    #[must_use]
    pub fn events(&self) -> Option<mpsc::Receiver<MonitorEvent>> {
        self.connection.events()
    }

    /// The state when the connection was made.
    #[must_use]
    pub fn first_status(&self) -> &Status {
        self.connection.first_status()
    }

    /// The container's runtime directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.connection.directory()
    }

    /// Whether the monitor is gone (or the connection to it).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.connection.is_gone()
    }

    /// Returns when the monitor has cleaned up after the container and is gone. After that the container may be launched
    /// again, or its directory removed.
    pub async fn gone(&self) {
        self.connection.gone().await;
        // The connection is closed last but one: the lock is what says that the directory is free.
        let directory = self.connection.directory();
        for _ in 0..limits::CONNECT_WAIT.as_millis() {
            if !is_locked(directory) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn ask(&self, request: Request) -> Result<Reply, MonitorError> {
        self.ask_with(request, None).await
    }

    async fn ask_with(
        &self,
        request: Request,
        stream: Option<UnixStream>,
    ) -> Result<Reply, MonitorError> {
        let descriptor = match stream {
            None => None,
            Some(stream) => Some(OwnedFd::from(stream.into_std().map_err(socket_error)?)),
        };
        self.connection
            .ask(request, descriptor.into_iter().collect())
            .await
    }
}

fn unexpected(request: &str, reply: &Reply) -> MonitorError {
    MonitorError::Protocol(format!("the monitor answered to {request} with {reply:?}"))
}

fn socket_error(error: std::io::Error) -> MonitorError {
    berth_sys::Error::new("make a pair of sockets", error).into()
}

fn gone(directory: &Path) -> MonitorError {
    MonitorError::Gone {
        directory: directory.display().to_string(),
    }
}

/// The directory as every error names it.
type Directory = PathBuf;
