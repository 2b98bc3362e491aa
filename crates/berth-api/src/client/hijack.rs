//! A connection that became a raw stream: attach and exec.

use super::ClientError;
use super::connection::Socket;
use crate::{MEDIA_TYPE_MULTIPLEXED_STREAM, framing};
use bytes::{Buf, Bytes};
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::io::{ReadHalf, WriteHalf};

/// Bytes in both directions. Shutting down the writing side tells the container that its input ended,
/// while output still arrives.
#[derive(Debug)]
pub struct Hijacked {
    /// What arrived together with the answer's headers.
    early: Bytes,
    socket: Socket,
    multiplexed: Option<bool>,
    path: String,
}

impl Hijacked {
    pub(super) async fn take(
        response: http::Response<Incoming>,
        path: &str,
    ) -> Result<Hijacked, ClientError> {
        let multiplexed = match response
            .headers()
            .get(CONTENT_TYPE)
            .map(|value| value.as_bytes())
        {
            Some(kind) if kind == MEDIA_TYPE_MULTIPLEXED_STREAM.as_bytes() => Some(true),
            _ => None,
        };
        let upgraded =
            hyper::upgrade::on(response)
                .await
                .map_err(|source| ClientError::Exchange {
                    method: "POST".to_owned(),
                    path: path.to_owned(),
                    source,
                })?;
        let parts = upgraded
            .downcast::<TokioIo<Socket>>()
            .expect("every connection of this client is made of a Socket");
        Ok(Hijacked {
            early: parts.read_buf,
            socket: parts.io.into_inner(),
            multiplexed,
            path: path.to_owned(),
        })
    }

    /// Whether output comes in [`framing`] frames. None when the engine did not tell (before API 1.42, or
    /// a terminal): then it does unless the container has a terminal.
    pub fn multiplexed(&self) -> Option<bool> {
        self.multiplexed
    }

    /// The two directions, usable at the same time.
    pub fn split(self) -> (HijackedReader, WriteHalf<impl AsyncWrite + Send + use<>>) {
        let (read, write) = tokio::io::split(self.socket);
        (
            HijackedReader {
                early: self.early,
                read,
                decoder: framing::Decoder::new(),
                path: self.path,
            },
            write,
        )
    }
}

/// What a container sends.
#[derive(Debug)]
pub struct HijackedReader {
    early: Bytes,
    read: ReadHalf<Socket>,
    decoder: framing::Decoder,
    path: String,
}

impl HijackedReader {
    /// The next part of a framed stream; None at its end. Not to be mixed with reading raw bytes.
    ///
    /// # Errors
    /// When the stream is not framed or ends inside a frame. A connection that is reset ends the stream.
    pub async fn next_frame(&mut self) -> Result<Option<(framing::Stream, Bytes)>, ClientError> {
        let mut buffer = [0; 32 * 1024];
        loop {
            let frame_error = |source| ClientError::Frame {
                path: self.path.clone(),
                source,
            };
            if let Some(part) = self.decoder.next().map_err(frame_error)? {
                return Ok(Some(part));
            }
            let length = self.read(&mut buffer).await.unwrap_or(0);
            if length == 0 {
                self.decoder.finish().map_err(|source| ClientError::Frame {
                    path: self.path.clone(),
                    source,
                })?;
                return Ok(None);
            }
            self.decoder.push(&buffer[..length]);
        }
    }
}

impl AsyncRead for HijackedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.has_remaining() {
            let length = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}
