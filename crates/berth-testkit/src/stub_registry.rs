//! A small registry in memory that keeps what arrived of a broken upload, can be made to answer that it is busy, and
//! has a search. It counts what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::archive::digest;

/// A running registry; ends when dropped.
#[derive(Debug)]
pub struct StubRegistry {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// How many requests are still answered with 429.
    busy: AtomicUsize,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    uploads: Vec<Vec<u8>>,
    /// Method and path of each request.
    log: Vec<String>,
}

struct Asked {
    method: String,
    path: String,
    query: String,
    headers: HashMap<String, String>,
}

impl StubRegistry {
    /// Starts on a free port of 127.0.0.1.
    #[track_caller]
    pub fn start() -> Self {
        match Self::try_start() {
            Ok(registry) => registry,
            Err(error) => panic!("{error:#}"),
        }
    }

    fn try_start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen on a free port")?;
        let registry = Self {
            port: listener.local_addr().context("ask for the port")?.port(),
            shared: Arc::default(),
        };
        let serving = Arc::clone(&registry.shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A client that breaks off in between is what this registry is for.
                thread::spawn(move || drop(serve(&client, &shared)));
            }
        });
        Ok(registry)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`, as in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Answers the next `count` requests with 429.
    pub fn be_busy(&self, count: usize) {
        self.shared.busy.store(count, Ordering::Relaxed);
    }

    /// Method and path of each request so far.
    pub fn log(&self) -> Vec<String> {
        self.shared.lock().log.clone()
    }

    /// How many bytes of content are here.
    pub fn stored(&self) -> usize {
        self.shared.lock().blobs.values().map(Vec::len).sum()
    }
}

impl Drop for StubRegistry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn head(reader: &mut impl BufRead) -> Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    Ok(Some(Asked {
        method,
        path,
        query,
        headers,
    }))
}

fn serve(client: &TcpStream, shared: &Shared) -> Result<()> {
    let mut reader = BufReader::new(client);
    while let Some(asked) = head(&mut reader)? {
        // A client that begins with TLS finds out that this is none.
        if !asked.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Ok(());
        }
        shared
            .lock()
            .log
            .push(format!("{} {}", asked.method, asked.path));
        let length: usize = asked
            .headers
            .get("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let upload = asked
            .path
            .split_once("/blobs/uploads/")
            .and_then(|(_, number)| number.parse::<usize>().ok());
        let body = match upload.filter(|_| asked.method == "PATCH" || asked.method == "PUT") {
            Some(number) => {
                receive(&mut reader, length, number, &asked, shared)?;
                Vec::new()
            }
            None => {
                let mut body = vec![0; length];
                reader.read_exact(&mut body)?;
                body
            }
        };
        let busy = |left: usize| left.checked_sub(1);
        let answer = if shared
            .busy
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, busy)
            .is_ok()
        {
            Answer::new(429)
                .header("Retry-After", "0")
                .body(br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
        } else {
            answer(&asked, body, upload, shared)
        };
        answer.send(client, asked.method == "HEAD")?;
    }
    Ok(())
}

/// Keeps the bytes of an upload as they come; what came before the connection broke stays.
fn receive(
    reader: &mut impl Read,
    length: usize,
    number: usize,
    asked: &Asked,
    shared: &Shared,
) -> Result<()> {
    let start: Option<usize> = asked
        .headers
        .get("content-range")
        .and_then(|range| range.split('-').next()?.parse().ok());
    let mut left = length;
    let mut buffer = [0; 16 << 10];
    while left > 0 {
        let wanted = left.min(buffer.len());
        let count = reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            anyhow::bail!("the client went away");
        }
        let mut state = shared.lock();
        if let Some(upload) = state.uploads.get_mut(number) {
            // Only what follows what is here already.
            if left == length && start.is_some_and(|start| start != upload.len()) {
                anyhow::bail!("a range that does not follow");
            }
            upload.extend_from_slice(&buffer[..count]);
        }
        left -= count;
    }
    Ok(())
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    fn send(&self, mut client: &TcpStream, without_body: bool) -> Result<()> {
        let mut text = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {}\r\n",
            self.status,
            self.body.len()
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        client.write_all(text.as_bytes())?;
        if !without_body {
            client.write_all(&self.body)?;
        }
        Ok(())
    }
}

fn answer(asked: &Asked, body: Vec<u8>, upload: Option<usize>, shared: &Shared) -> Answer {
    let mut state = shared.lock();
    let last = asked.path.rsplit('/').next().unwrap_or_default();
    let place = |number: usize| format!("{}/{number}", uploads_of(&asked.path));
    let received = |length: usize| format!("0-{}", length.saturating_sub(1));
    match (asked.method.as_str(), upload) {
        ("GET", _) if asked.path == "/v2/" => Answer::new(200),
        ("GET", _) if asked.path == "/v1/search" => Answer::new(200).body(
            br#"{"results":[
                {"name":"one","description":"The first of all the images that were ever put into any registry","star_count":7,"is_official":true},
                {"name":"other/one","description":"second","star_count":1}]}"#,
        ),
        ("HEAD", None) if asked.path.contains("/blobs/") => match state.blobs.get(last) {
            Some(_) => Answer::new(200),
            None => Answer::new(404),
        },
        ("POST", None) if asked.path.ends_with("/blobs/uploads/") => {
            state.uploads.push(Vec::new());
            Answer::new(202).header("Location", place(state.uploads.len() - 1))
        }
        ("GET", Some(number)) => match state.uploads.get(number) {
            Some(upload) => Answer::new(204)
                .header("Location", place(number))
                .header("Range", received(upload.len())),
            None => Answer::new(404),
        },
        ("PATCH", Some(number)) => match state.uploads.get(number) {
            Some(upload) => Answer::new(202)
                .header("Location", place(number))
                .header("Range", received(upload.len())),
            None => Answer::new(404),
        },
        ("PUT", Some(number)) => {
            let bytes = state.uploads.get(number).cloned().unwrap_or_default();
            let actual = digest(&bytes);
            if !asked.query.contains(actual.trim_start_matches("sha256:")) {
                return Answer::new(400)
                    .body(br#"{"errors":[{"code":"DIGEST_INVALID","message":"not the same"}]}"#);
            }
            state.blobs.insert(actual, bytes);
            Answer::new(201)
        }
        ("PUT", None) if asked.path.contains("/manifests/") => {
            state.manifests.insert(asked.path.clone(), body);
            Answer::new(201)
        }
        _ => Answer::new(404),
    }
}

fn uploads_of(path: &str) -> String {
    let end = path.find("/blobs/uploads").unwrap_or(path.len());
    format!("{}/blobs/uploads", &path[..end])
}
