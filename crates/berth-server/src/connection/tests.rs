//! Raw bytes on real sockets: hijacking with early data and half-closes, bad heads, endless answers.

use super::*;
use crate::detach_keys::DetachKeys;
use crate::hijack::CopyEnd;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A server whose answers are made up here: `/attach` hands the connection to a container's end of a
/// socket pair, `/endless` never ends, everything else says its own path.
struct Server {
    _directory: tempfile::TempDir,
    path: PathBuf,
    /// The container's ends of hijacked connections, and how copying ended.
    containers: mpsc::Receiver<UnixStream>,
    ends: mpsc::Receiver<CopyEnd>,
    /// Closed when an endless answer was dropped.
    endless: mpsc::Receiver<()>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

fn start() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = Listener::Unix(UnixListener::bind(&path).unwrap());
    let (containers, containers_out) = mpsc::channel(8);
    let (ends, ends_out) = mpsc::channel(8);
    let (endless, endless_out) = mpsc::channel(1);
    let answerer: Answerer = Arc::new(move |request| {
        let (containers, ends, endless) = (containers.clone(), ends.clone(), endless.clone());
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            match path.as_str() {
                "/attach" | "/terminal" => {
                    use http_body_util::BodyExt;
                    let body = request.into_body().collect().await.unwrap();
                    drop(body);
                    // Long enough for a client's half-close to arrive before the answer.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let keys = (path == "/terminal").then(DetachKeys::docker_default);
                    Reply::Hijack {
                        content_type: berth_api::MEDIA_TYPE_MULTIPLEXED_STREAM,
                        takeover: Box::new(move |mut client| {
                            Box::pin(async move {
                                let (ours, theirs) = UnixStream::pair().unwrap();
                                containers.send(theirs).await.unwrap();
                                let end = client.copy(ours, true, keys).await;
                                client.finish().await;
                                ends.send(end).await.unwrap();
                            })
                        }),
                    }
                }
                "/endless" => Reply::stream(
                    "application/json",
                    stream::unfold(endless, |endless| async move {
                        std::future::pending::<()>().await;
                        Some((Bytes::new(), endless))
                    }),
                ),
                "/slow" => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Reply::text(StatusCode::OK, "slow")
                }
                _ => Reply::text(StatusCode::OK, &path),
            }
        })
    });
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move {
        run(answerer, vec![listener], stopped.cancelled_owned()).await;
    });
    Server {
        _directory: directory,
        path,
        containers: containers_out,
        ends: ends_out,
        endless: endless_out,
        stop,
        running,
    }
}

impl Server {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }
}

/// Reads until what was read ends with `end`.
async fn read_until(stream: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_ne!(
            stream.read(&mut byte).await.unwrap(),
            0,
            "ended after {:?}",
            String::from_utf8_lossy(&text)
        );
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

const UPGRADE: &str = "POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";

#[tokio::test]
async fn input_sent_with_the_request_and_a_half_close_before_the_answer_reach_the_container() {
    let mut server = start();
    let mut client = server.connect().await;
    let request = format!(
        "{UPGRADE}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}early input"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(
        head,
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    let mut container = server.containers.recv().await.unwrap();
    assert_eq!(read_all(&mut container).await, "early input");
    container
        .write_all(b"output after the end of input")
        .await
        .unwrap();
    drop(container);
    assert_eq!(read_all(&mut client).await, "output after the end of input");
    assert_eq!(server.ends.recv().await, Some(CopyEnd::Container));
}

#[tokio::test]
async fn without_an_upgrade_header_the_stream_follows_a_plain_200() {
    let mut server = start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nin")
        .await
        .unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
    );
    let mut container = server.containers.recv().await.unwrap();
    assert_eq!(read_until(&mut container, "in").await, "in");
    container.write_all(b"out").await.unwrap();
    assert_eq!(read_until(&mut client, "out").await, "out");
}

#[tokio::test]
async fn a_hijack_can_follow_ordinary_requests_on_one_connection() {
    let mut server = start();
    let mut client = server.connect().await;
    client
        .write_all(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut client, "/first").await;
    client
        .write_all(format!("{UPGRADE}\r\nabc").as_bytes())
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let mut container = server.containers.recv().await.unwrap();
    assert_eq!(read_until(&mut container, "abc").await, "abc");
}

#[tokio::test]
async fn much_data_passes_whole_in_both_directions_at_once() {
    let mut server = start();
    let mut client = server.connect().await;
    client
        .write_all(format!("{UPGRADE}\r\n").as_bytes())
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let container = server.containers.recv().await.unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let exchange = |stream: UnixStream| {
        let bytes = bytes.clone();
        async move {
            let (mut read, mut write) = stream.into_split();
            let length = bytes.len();
            let sending = tokio::spawn(async move {
                write.write_all(&bytes).await.unwrap();
                write
            });
            let mut got = vec![0; length];
            read.read_exact(&mut got).await.unwrap();
            // The other direction is to be whole as well before anything is closed.
            let write = sending.await.unwrap();
            (got, read, write)
        }
    };
    let ((at_client, ..), (at_container, ..)) = tokio::join!(exchange(client), exchange(container));
    assert!(at_client == bytes && at_container == bytes);
}

#[tokio::test]
async fn detach_keys_end_the_connection_and_never_reach_the_container() {
    let mut server = start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /terminal HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nab\x10")
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let mut container = server.containers.recv().await.unwrap();
    client.write_all(b"\x11").await.unwrap();
    assert_eq!(server.ends.recv().await, Some(CopyEnd::Detached));
    assert_eq!(read_all(&mut container).await, "ab");
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed_although_nothing_is_sent() {
    let mut server = start();
    let mut client = server.connect().await;
    client
        .write_all(format!("{UPGRADE}\r\n").as_bytes())
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let _container = server.containers.recv().await.unwrap();
    drop(client);
    assert_eq!(server.ends.recv().await, Some(CopyEnd::Client));
}

#[tokio::test]
async fn an_endless_answer_ends_when_its_client_hangs_up() {
    let mut server = start();
    let mut client = server.connect().await;
    client
        .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    // The head comes before the first chunk.
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    drop(client);
    server.stop.cancel();
    // Closed once the answer, the answerer and with them every sender are gone.
    assert_eq!(server.endless.recv().await, None);
    server.running.await.unwrap();
}

#[tokio::test]
async fn a_client_that_has_nothing_more_to_ask_still_gets_its_answer() {
    let server = start();
    let mut client = server.connect().await;
    client
        .write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.ends_with("slow"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_more_than_is_read_still_gets_the_answer() {
    let server = start();
    let mut client = server.connect().await;
    // No handler reads this body.
    let head =
        "GET /said HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "/said").await;
    assert!(answer.contains("200 OK"), "{answer}");
    client.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
}

#[tokio::test]
async fn heads_that_are_too_long_or_not_http_are_refused() {
    let server = start();
    let mut client = server.connect().await;
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(4 * MAX_HEAD));
    // The server may close before everything is written.
    let _ = client.write_all(long.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes).await;
    assert!(
        String::from_utf8_lossy(&bytes).starts_with("HTTP/1.1 431"),
        "{bytes:?}"
    );
    let mut client = server.connect().await;
    client
        .write_all(b"\x16\x03\x01 nonsense\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn shutting_down_answers_what_is_open_and_refuses_what_is_new() {
    let server = start();
    let mut client = server.connect().await;
    client
        .write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut idle, "/x").await;
    server.stop.cancel();
    assert!(read_all(&mut client).await.ends_with("slow"));
    assert_eq!(read_all(&mut idle).await, "");
    server.running.await.unwrap();
    assert!(UnixStream::connect(&server.path).await.is_err());
}
