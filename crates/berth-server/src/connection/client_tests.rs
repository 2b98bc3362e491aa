//! The typed client at the real server: one connection for many requests, versions agreed on by refusal,
//! streams, uploads, raw streams with half-closes, and absent servers.

use super::*;
use berth_api::{
    AttachOptions, Client, ContainerListOptions, EventsOptions, Host, JsonMessage, LogsOptions,
    StopOptions, WaitCondition, framing,
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

struct Server {
    _directory: tempfile::TempDir,
    host: Host,
    connections: Arc<AtomicUsize>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

/// A server of API 1.44 that answers what is made up here.
fn start() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let unix = UnixListener::from_std(unix).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let answerer: Answerer = Arc::new(|request| Box::pin(answer(request)));
    let (counted, ending) = (Arc::clone(&connections), CancellationToken::new());
    let stop = ending.clone();
    let running = tokio::spawn(async move {
        let tasks = TaskTracker::new();
        loop {
            tokio::select! {
                () = ending.cancelled() => break,
                accepted = unix.accept() => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let socket = Socket::Unix(accepted.unwrap().0);
                    tasks.spawn(serve(socket, Arc::clone(&answerer), ending.clone()));
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    });
    Server {
        host: Host::Unix(path),
        _directory: directory,
        connections,
        stop,
        running,
    }
}

async fn answer(request: http::Request<Incoming>) -> Reply {
    let reply = made_up(request).await;
    match reply {
        Reply::Http(mut response) => {
            response
                .headers_mut()
                .insert("api-version", "1.44".parse().unwrap());
            Reply::Http(response)
        }
        hijack => hijack,
    }
}

async fn made_up(request: http::Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let message = |text: &str| berth_api::ErrorResponse {
        message: text.to_owned(),
    };
    if path.starts_with("/v1.51") {
        return Reply::json(
            StatusCode::BAD_REQUEST,
            &message("client version 1.51 is too new"),
        );
    }
    match path.strip_prefix("/v1.44").unwrap_or(&path) {
        "/_ping" => Reply::text(StatusCode::OK, "OK"),
        "/containers/json" => Reply::Http(crate::reply::json_response(
            StatusCode::OK,
            &Vec::<String>::new(),
        )),
        "/containers/a/stop" => Reply::empty(StatusCode::NOT_MODIFIED),
        "/containers/a/json" => {
            Reply::json(StatusCode::NOT_FOUND, &message("No such container: a"))
        }
        "/containers/a/wait" => Reply::stream(
            "application/json",
            stream::iter([
                Bytes::from_static(b"{\"Status"),
                Bytes::from_static(b"Code\":7}\n"),
            ]),
        ),
        "/events" => Reply::stream(
            "application/json",
            stream::iter([
                Bytes::from_static(b"{\"Type\":\"container\",\"Action\":\"start\"}\n{\"Type\":"),
                Bytes::from_static(b"\"image\",\"Action\":\"pull\"}\n"),
            ]),
        ),
        "/containers/a/logs" => {
            let mut out = BytesMut::new();
            framing::encode(framing::Stream::Stdout, b"out\n", &mut out);
            framing::encode(framing::Stream::Stderr, b"err\n", &mut out);
            Reply::stream(
                berth_api::MEDIA_TYPE_MULTIPLEXED_STREAM,
                stream::iter([out.freeze()]),
            )
        }
        "/images/load" => {
            let length = request
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .len();
            let line = JsonMessage {
                stream: length.to_string(),
                ..JsonMessage::default()
            };
            Reply::json(StatusCode::OK, &line)
        }
        "/containers/a/attach" => Reply::Hijack {
            content_type: berth_api::MEDIA_TYPE_MULTIPLEXED_STREAM,
            takeover: Box::new(|mut client| {
                Box::pin(async move {
                    let (ours, mut container) = UnixStream::pair().unwrap();
                    let echo = async move {
                        let mut input = Vec::new();
                        container.read_to_end(&mut input).await.unwrap();
                        let mut out = BytesMut::new();
                        framing::encode(framing::Stream::Stdout, &input, &mut out);
                        framing::encode(framing::Stream::Stderr, b"done", &mut out);
                        container.write_all(&out).await.unwrap();
                    };
                    tokio::join!(client.copy(ours, true, None), echo);
                    client.finish().await;
                })
            }),
        },
        _ => Reply::json(StatusCode::NOT_FOUND, &message("page not found")),
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_the_version_is_agreed_on_by_refusal() {
    let server = start();
    let client = Client::new(server.host.clone());
    for _ in 0..3 {
        assert!(
            client
                .container_list(&ContainerListOptions::default())
                .await
                .unwrap()
                .is_empty()
        );
    }
    assert_eq!(client.api_version().to_string(), "1.44");
    assert!(
        !client
            .container_stop("a", &StopOptions::default())
            .await
            .unwrap()
    );
    let error = client.container_inspect("a", false).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string() == "No such container: a");
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn streams_arrive_in_whatever_portions() {
    let server = start();
    let client = Client::new(server.host.clone());
    let waiting = client
        .container_wait("a", WaitCondition::NextExit)
        .await
        .unwrap();
    assert_eq!(waiting.exit().await.unwrap().status_code, 7);
    let mut events = client.events(&EventsOptions::default()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().action, "start");
    assert_eq!(events.next().await.unwrap().unwrap().action, "pull");
    assert!(events.next().await.unwrap().is_none());
    let mut log = client
        .container_logs(
            "a",
            &LogsOptions {
                stdout: true,
                ..LogsOptions::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(
        log.next().await.unwrap(),
        Some((framing::Stream::Stdout, Bytes::from_static(b"out\n")))
    );
    assert_eq!(
        log.next().await.unwrap(),
        Some((framing::Stream::Stderr, Bytes::from_static(b"err\n")))
    );
    assert_eq!(log.next().await.unwrap(), None);
}

#[tokio::test]
async fn an_upload_is_sent_whole_in_the_agreed_version() {
    let server = start();
    let client = Client::new(server.host.clone());
    let archive = tokio::io::repeat(7).take(5_000_000);
    let mut answer = client
        .image_load(archive, &Default::default())
        .await
        .unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap().stream, "5000000");
}

#[tokio::test]
async fn a_raw_stream_carries_both_directions_and_a_half_close() {
    let server = start();
    let client = Client::new(server.host.clone());
    let options = AttachOptions {
        stdin: true,
        stdout: true,
        stream: true,
        ..AttachOptions::default()
    };
    let hijacked = client.container_attach("a", &options).await.unwrap();
    assert_eq!(hijacked.multiplexed(), Some(true));
    let (mut read, mut write) = hijacked.split();
    write.write_all(b"input").await.unwrap();
    write.shutdown().await.unwrap();
    let first = read.next_frame().await.unwrap();
    assert_eq!(
        first,
        Some((framing::Stream::Stdout, Bytes::from_static(b"input")))
    );
    let second = read.next_frame().await.unwrap();
    assert_eq!(
        second,
        Some((framing::Stream::Stderr, Bytes::from_static(b"done")))
    );
    assert_eq!(read.next_frame().await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    let mut server = start();
    let client = Client::new(server.host.clone());
    client.ping().await.unwrap();
    server.stop.cancel();
    server.running.await.unwrap();
    let Host::Unix(path) = &server.host else {
        unreachable!()
    };
    let error = client.ping().await.unwrap_err();
    assert!(error.engine_is_absent(), "{error:?}");
    std::fs::remove_file(path).unwrap();
    assert!(client.ping().await.unwrap_err().engine_is_absent());
    server.running = tokio::spawn(async {});
}
