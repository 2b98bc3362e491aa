//! Connections that left HTTP: attach and exec.
//!
//! Bytes are copied blindly between the client and the container's monitor; what they mean is the
//! business of both ends. Only with a terminal is the client's input searched for the detach keys.

use crate::client_io::Socket;
use crate::detach_keys::DetachKeys;
use crate::limits::COPY_BUFFER;
use bytes::{Buf, Bytes};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A client whose connection carries raw bytes now.
#[derive(Debug)]
pub(crate) struct HijackedClient {
    /// What the client sent together with its request.
    early: Bytes,
    socket: Socket,
}

/// Why copying ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyEnd {
    /// The container's side ended.
    Container,
    /// The client is gone.
    Client,
    /// The client pressed the detach keys.
    Detached,
}

impl HijackedClient {
    pub(crate) fn new(socket: Socket, early: Bytes) -> HijackedClient {
        HijackedClient { early, socket }
    }

    /// Writes the head that announces the raw stream: 101 where the client asked for an upgrade, else 200.
    pub(crate) async fn announce(&mut self, content_type: &str, upgrade: bool) -> io::Result<()> {
        let head = if upgrade {
            format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
        } else {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n",
                berth_api::MEDIA_TYPE_RAW_STREAM
            )
        };
        self.socket.send(head.as_bytes()).await
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(bytes).await
    }

    /// Ends the connection after everything was sent.
    pub(crate) async fn finish(mut self) {
        // The client may be gone already, which is an end as well.
        let _ = self.socket.shutdown().await;
    }

    /// Waits until the client can no longer receive. Nothing is read.
    pub(crate) async fn hung_up(&self) {
        self.socket.hung_up().await;
    }

    /// Copies both ways until one of the sides is gone. `keys` are searched for in the client's input;
    /// `stdin` tells whether that input is passed on at all.
    pub(crate) async fn copy(
        &mut self,
        container: UnixStream,
        stdin: bool,
        keys: Option<DetachKeys>,
    ) -> CopyEnd {
        let (mut from_container, mut to_container) = container.into_split();
        let mut early = std::mem::take(&mut self.early);
        let client = &self.socket;

        let output = async {
            let mut buffer = vec![0; COPY_BUFFER];
            loop {
                let length = match from_container.read(&mut buffer).await {
                    // A monitor that is gone ends the stream as an orderly end does.
                    Ok(0) | Err(_) => return CopyEnd::Container,
                    Ok(length) => length,
                };
                if client.send(&buffer[..length]).await.is_err() {
                    return CopyEnd::Client;
                }
            }
        };
        let input = async {
            let mut keys = keys;
            let mut buffer = vec![0; if stdin { COPY_BUFFER } else { 512 }];
            let mut passed = Vec::new();
            loop {
                let length = if early.has_remaining() {
                    let length = early.len().min(buffer.len());
                    early.copy_to_slice(&mut buffer[..length]);
                    length
                } else {
                    match client.receive(&mut buffer).await {
                        Ok(0) => break,
                        Ok(length) => length,
                        Err(_) => return CopyEnd::Client,
                    }
                };
                if !stdin {
                    continue;
                }
                let bytes = match &mut keys {
                    None => &buffer[..length],
                    Some(keys) => {
                        passed.clear();
                        if keys.filter(&buffer[..length], &mut passed) {
                            // A program that does not read must not keep the client from leaving.
                            let _ = to_container.try_write(&passed);
                            return CopyEnd::Detached;
                        }
                        passed.as_slice()
                    }
                };
                if to_container.write_all(bytes).await.is_err() {
                    // The container no longer reads; its output still counts.
                    break;
                }
            }
            if stdin {
                if let Some(keys) = &keys {
                    let _ = to_container.write_all(keys.held_back()).await;
                }
                let _ = to_container.shutdown().await;
            }
            // The client's side ended, which is not the end of the container's. A client that is gone
            // altogether is only seen by looking.
            client.hung_up().await;
            CopyEnd::Client
        };
        tokio::select! {
            biased;
            end = output => end,
            end = input => end,
        }
    }
}
