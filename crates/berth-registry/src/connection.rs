//! Connections: accepted, made secure, driven, and ended when a client does not keep up.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits;
use crate::registry::Registry;
use crate::reply::Body;
use crate::tls::Tls;

/// Accepts until `shutdown`, then lets open requests end within a grace period.
pub(crate) async fn run(
    registry: Arc<Registry>,
    tls: Option<Tls>,
    listeners: Vec<TcpListener>,
    shutdown: impl Future<Output = ()>,
) {
    let tls = tls.map(Arc::new);
    let ending = CancellationToken::new();
    let permits = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let acceptors = TaskTracker::new();
    for listener in listeners {
        let accepting = accept(
            listener,
            Arc::clone(&registry),
            tls.clone(),
            Arc::clone(&permits),
            connections.clone(),
            ending.clone(),
        );
        let ending = ending.clone();
        acceptors.spawn(async move { ending.run_until_cancelled(accepting).await });
    }
    shutdown.await;
    ending.cancel();
    acceptors.close();
    acceptors.wait().await;
    connections.close();
    // Whoever is still busy then is cut off; uploads can be taken up again.
    let _ = tokio::time::timeout(limits::SHUTDOWN_GRACE, connections.wait()).await;
}

async fn accept(
    listener: TcpListener,
    registry: Arc<Registry>,
    tls: Option<Arc<Tls>>,
    permits: Arc<Semaphore>,
    connections: TaskTracker,
    ending: CancellationToken,
) {
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (registry, tls, ending) = (Arc::clone(&registry), tls.clone(), ending.clone());
                connections.spawn(async move {
                    serve(stream, peer, registry, tls, ending).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection");
                tokio::time::sleep(limits::ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    registry: Arc<Registry>,
    tls: Option<Arc<Tls>>,
    ending: CancellationToken,
) {
    // A small answer must not wait for more of it; that it might is no reason to refuse the client.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return drive(Patient::new(stream), peer, registry, ending).await;
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(tls.config());
    let handshake = acceptor.accept(Patient::new(stream));
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => drive(stream, peer, registry, ending).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake"),
        Err(_) => tracing::debug!(%peer, "TLS handshake: no end of it"),
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

async fn drive<S>(stream: S, peer: SocketAddr, registry: Arc<Registry>, ending: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| -> Answering {
        let registry = Arc::clone(&registry);
        Box::pin(async move { Ok(registry.answer(request, peer).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut told = false;
    let result = loop {
        tokio::select! {
            result = poll_fn(|context| connection.poll_without_shutdown(context)) => break result,
            () = ending.cancelled(), if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection of a client");
    }
    let stream = connection.into_parts().io.into_inner();
    ending.run_until_cancelled(linger(stream)).await;
}

/// Ends a connection so that the last answer arrives: one that was given before all of the request had come would be
/// thrown away by the client's kernel if what still comes met a closed socket.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let ending = async {
        stream.shutdown().await?;
        let mut buffer = vec![0; limits::LINGER_CHUNK];
        let mut left = limits::LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok::<_, io::Error>(())
    };
    // Whatever becomes of it, the socket is closed then.
    let _ = tokio::time::timeout(limits::LINGER, ending).await;
}

/// A socket whose other end has to take what is written within a time.
#[derive(Debug)]
struct Patient {
    stream: TcpStream,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            waiting: None,
        }
    }

    fn timed<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::WRITE_STALL)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.timed(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
