//! What the tests of the command line share: the client as a program, the stock client beside it
//! where the machine has one, and a fake engine that writes requests down.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// The client as built for this test run.
pub fn client() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join("examples/client");
    assert!(
        path.exists(),
        "{} is missing: build with `cargo test`",
        path.display()
    );
    path
}

/// The stock docker client, if this machine has one of the 28 series, whose words these tests know.
pub fn stock() -> Option<PathBuf> {
    let output = Command::new("docker").arg("--version").output().ok()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if told.starts_with("Docker version 28.") {
        return Some(PathBuf::from("docker"));
    }
    eprintln!("skipped: needs the stock docker client, version 28");
    None
}

/// A command without the surroundings of whoever runs the tests.
pub fn clean(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg0("docker")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("FROM_CLIENT", "yes")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// What a program told and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A request that reached the fake engine.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With its query, without the version.
    pub path: String,
    pub body: Vec<u8>,
}

/// What is done with a connection that became a raw stream.
pub type Stream = dyn Fn(BufReader<UnixStream>, UnixStream) + Send + Sync;

/// An answer of the fake engine.
#[derive(Clone)]
pub struct Answer {
    pub status: &'static str,
    pub body: String,
    /// Takes the connection over after the headers.
    pub stream: Option<Arc<Stream>>,
    /// Told before the body: the headers of a wait are out before its end.
    pub body_after: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Answer {
    pub fn ok(body: impl Into<String>) -> Self {
        Self {
            status: "200 OK",
            body: body.into(),
            stream: None,
            body_after: None,
        }
    }

    /// A success without a body.
    pub fn done() -> Self {
        Self {
            status: "204 No Content",
            ..Self::ok("")
        }
    }

    /// A connection that becomes a raw stream.
    pub fn upgrade(
        stream: impl Fn(BufReader<UnixStream>, UnixStream) + Send + Sync + 'static,
    ) -> Self {
        Self {
            status: "101 UPGRADED",
            stream: Some(Arc::new(stream)),
            ..Self::ok("")
        }
    }

    /// The same answer, its body only after `condition` returned.
    pub fn after(mut self, condition: impl Fn() + Send + Sync + 'static) -> Self {
        self.body_after = Some(Arc::new(condition));
        self
    }

    pub fn error(status: &'static str, message: &str) -> Self {
        Self {
            status,
            ..Self::ok(format!(
                "{{\"message\":{}}}",
                serde_json::Value::from(message)
            ))
        }
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// An engine that answers what it is told to and writes everything down.
pub struct FakeEngine {
    directory: tempfile::TempDir,
    requests: Arc<Mutex<VecDeque<Request>>>,
}

impl FakeEngine {
    /// An engine that answers with `handler`.
    pub fn new(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("engine.sock")).unwrap();
        let requests = Arc::new(Mutex::new(VecDeque::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*handler, &log));
            }
        });
        Self {
            directory,
            requests,
        }
    }

    pub fn host(&self) -> String {
        format!(
            "unix://{}",
            self.directory.path().join("engine.sock").display()
        )
    }

    /// A directory of the test's own.
    pub fn home(&self) -> &Path {
        self.directory.path()
    }

    /// Requests that arrived since the last call.
    pub fn take(&self) -> Vec<Request> {
        self.requests.lock().unwrap().drain(..).collect()
    }

    /// Runs a program against this engine.
    pub fn run(&self, program: &Path, words: &[&str]) -> Told {
        clean(program, self.home())
            .env("DOCKER_HOST", self.host())
            .args(words)
            .output()
            .unwrap()
            .into()
    }
}

fn serve(stream: UnixStream, handler: &Handler, log: &Mutex<VecDeque<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader) {
        let ping = request.path.contains("_ping");
        let answer = if ping {
            Answer::ok("OK")
        } else {
            handler(&request)
        };
        let head = request.method == "HEAD";
        if !ping {
            log.lock().unwrap().push_back(request);
        }
        if let Some(stream) = &answer.stream {
            let headers = "HTTP/1.1 101 UPGRADED\r\nApi-Version: 1.51\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
            if writer.write_all(headers.as_bytes()).is_ok() {
                stream(reader, writer);
            }
            return;
        }
        let headers = format!(
            "HTTP/1.1 {}\r\nApi-Version: 1.51\r\nOstype: linux\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.status,
            answer.body.len(),
        );
        if writer.write_all(headers.as_bytes()).is_err() {
            return;
        }
        if let Some(condition) = &answer.body_after {
            condition();
        }
        if !head && writer.write_all(answer.body.as_bytes()).is_err() {
            return;
        }
    }
}

/// A frame of a multiplexed stream: 1 is standard output, 2 standard error.
pub fn frame(stream: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let path = match path.strip_prefix("/v1.") {
        Some(rest) => rest.find('/').map(|at| rest[at..].to_owned())?,
        None => path,
    };
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if chunked {
        while let Some(chunk) = read_chunk(reader)? {
            body.extend_from_slice(&chunk);
        }
    }
    Some(Request { method, path, body })
}

/// The next chunk of a body; an inner `None` is its end.
fn read_chunk(reader: &mut impl BufRead) -> Option<Option<Vec<u8>>> {
    let mut size = String::new();
    reader.read_line(&mut size).ok()?;
    let size = usize::from_str_radix(size.trim(), 16).ok()?;
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).ok()?;
    chunk.truncate(size);
    Some((size > 0).then_some(chunk))
}
