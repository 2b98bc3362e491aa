//! Connections: accepted, driven, and handed over when a request takes them out of HTTP.

use crate::client_io::{ClientIo, Socket};
use crate::hijack::HijackedClient;
use crate::limits::{
    ACCEPT_RETRY, COPY_BUFFER, DISCARDED_BODY, HEAD_TIMEOUT, MAX_CONNECTIONS, MAX_HEAD, PARTING,
    SHUTDOWN_GRACE,
};
use crate::reply::{Body, Reply, Takeover};
use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A socket that clients connect to. Bound, with its permissions, by whoever starts the server.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket: whoever can open it is trusted.
    Unix(UnixListener),
    /// A TCP socket: whoever can reach it is trusted.
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Socket::Unix(stream)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }
}

/// What answers the requests of every connection.
pub(crate) type Answerer = Arc<
    dyn Fn(http::Request<Incoming>) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync,
>;

/// Accepts until `shutdown`, then lets open requests end within a grace period.
pub(crate) async fn run(
    answerer: Answerer,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()>,
) {
    let ending = CancellationToken::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let acceptors = TaskTracker::new();
    for listener in listeners {
        let (answerer, ending, permits) =
            (Arc::clone(&answerer), ending.clone(), Arc::clone(&permits));
        let connections = connections.clone();
        acceptors.spawn(async move {
            tokio::select! {
                () = ending.cancelled() => {}
                () = accept(&listener, &answerer, &permits, &connections, &ending) => {}
            }
        });
    }
    shutdown.await;
    ending.cancel();
    acceptors.close();
    acceptors.wait().await;
    connections.close();
    // Whoever is still attached then is cut off; the containers run on.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, connections.wait()).await;
}

async fn accept(
    listener: &Listener,
    answerer: &Answerer,
    permits: &Arc<Semaphore>,
    connections: &TaskTracker,
    ending: &CancellationToken,
) {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(socket) => {
                let (answerer, ending) = (Arc::clone(answerer), ending.clone());
                connections.spawn(async move {
                    serve(socket, answerer, ending).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// A request that takes its connection out of HTTP.
struct Handover {
    content_type: &'static str,
    upgrade: bool,
    takeover: Takeover,
}

#[derive(Default)]
struct HandoverSlot {
    taken: Mutex<Option<Handover>>,
    ready: Notify,
}

impl HandoverSlot {
    fn put(&self, handover: Handover) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(handover);
        self.ready.notify_one();
    }

    fn take(&self) -> Option<Handover> {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

async fn serve(socket: Socket, answerer: Answerer, ending: CancellationToken) {
    let busy = Arc::new(AtomicBool::new(false));
    let slot = Arc::new(HandoverSlot::default());
    let service = {
        let (busy, slot) = (Arc::clone(&busy), Arc::clone(&slot));
        service_fn(move |request: http::Request<Incoming>| -> Answering {
            busy.store(true, Ordering::Relaxed);
            let (answerer, busy, slot) =
                (Arc::clone(&answerer), Arc::clone(&busy), Arc::clone(&slot));
            Box::pin(async move {
                let upgrade = request.headers().contains_key(http::header::UPGRADE);
                match answerer(request).await {
                    Reply::Http(response) => {
                        busy.store(false, Ordering::Relaxed);
                        Ok(response)
                    }
                    Reply::Hijack {
                        content_type,
                        takeover,
                    } => {
                        slot.put(Handover {
                            content_type,
                            upgrade,
                            takeover,
                        });
                        // The driver takes the connection away from beneath this request.
                        std::future::pending().await
                    }
                }
            })
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(ClientIo {
                socket,
                busy,
                ended: false,
            }),
            service,
        );

    let handover = {
        let mut ended = pin!(ending.cancelled());
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                () = slot.ready.notified() => if let Some(handover) = slot.take() {
                    break handover;
                },
                result = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "connection of a client");
                    }
                    part(connection.into_parts().io.into_inner().socket, &ending).await;
                    return;
                }
                () = &mut ended, if !told => {
                    told = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    let parts = connection.into_parts();
    let io = parts.io.into_inner();
    let mut client = HijackedClient::new(io.socket, parts.read_buf);
    if client
        .announce(handover.content_type, handover.upgrade)
        .await
        .is_ok()
    {
        tokio::select! {
            () = (handover.takeover)(client) => {}
            () = ending.cancelled() => {}
        }
    }
}

/// Ends a connection: says that nothing more comes, and takes what the client still sends, since one whose request was
/// answered before it was read whole would be told of a broken pipe in place of the answer. Bounded in size and time.
async fn part(mut socket: Socket, ending: &CancellationToken) {
    if tokio::io::AsyncWriteExt::shutdown(&mut socket)
        .await
        .is_err()
    {
        return;
    }
    let discard = async {
        let (mut buffer, mut left) = (vec![0; COPY_BUFFER], DISCARDED_BODY);
        while left > 0
            && let Ok(length @ 1..) = socket.receive(&mut buffer).await
        {
            left = left.saturating_sub(length);
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(PARTING, discard) => {}
        () = ending.cancelled() => {}
    }
}

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod tests;
