//! Connections: how one is made, and the few that are kept for the next request.

use super::{ClientError, Host};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The socket under a connection.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    async fn open(host: &Host) -> io::Result<Socket> {
        match host {
            Host::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
            Host::Tcp { name, port } => {
                let stream = TcpStream::connect((name.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }
}

/// Opens a connection, over `socket` if there is one, and drives it in a task of its own.
pub(super) async fn open(
    host: &Host,
    socket: Option<std::os::unix::net::UnixStream>,
) -> Result<SendRequest<Body>, ClientError> {
    let opened = match socket {
        Some(socket) => socket
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(socket))
            .map(Socket::Unix),
        None => Socket::open(host).await,
    };
    let socket = opened.map_err(|source| ClientError::connect(host, source))?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|source| ClientError::Exchange {
            method: "CONNECT".to_owned(),
            path: host.to_string(),
            source,
        })?;
    // An error here also ends the request that is on its way, and is told there.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
