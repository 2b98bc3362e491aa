//! A server that says what it wants to whoever asks it for images: every byte of its answers is a function's, to the
//! end or without one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// What was asked, as far as a lie depends on it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// First and last byte of the `Range` that was asked for.
    pub range: Option<(u64, Option<u64>)>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// Where the server itself is found: `127.0.0.1:port`.
    pub host: String,
}

/// Where answers are written to. An error means that the other end has had enough.
pub struct Answer<'a> {
    stream: &'a TcpStream,
    sent: &'a AtomicU64,
}

impl Answer<'_> {
    /// Some bytes.
    ///
    /// # Errors
    /// When nobody takes them.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The first lines of an answer whose body has no length of its own: it ends with the connection.
    ///
    /// # Errors
    /// As [`Self::raw`].
    pub fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.raw(text.as_bytes())
    }

    /// An honest answer.
    ///
    /// # Errors
    /// As [`Self::raw`].
    pub fn whole(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let length = body.len().to_string();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .copied()
            .chain([("Content-Length", length.as_str())])
            .collect();
        self.head(status, &headers)?;
        self.raw(body)
    }

    /// The same bytes again and again, until nobody takes them any more.
    ///
    /// # Errors
    /// Always: that is its end.
    pub fn endless(&mut self, bytes: &[u8]) -> io::Result<()> {
        let many = bytes.repeat((64 << 10) / bytes.len().max(1) + 1);
        loop {
            self.raw(&many)?;
        }
    }
}

/// A running liar; ends when dropped.
#[derive(Debug)]
pub struct Liar {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Vec<String>>,
    sent: AtomicU64,
    open: AtomicUsize,
    ended: AtomicBool,
}

impl Liar {
    /// Starts on a free port of 127.0.0.1; `tell` answers every request.
    #[track_caller]
    pub fn start(
        tell: impl Fn(&Asked, &mut Answer<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        match Self::try_start(tell) {
            Ok(liar) => liar,
            Err(error) => panic!("{error:#}"),
        }
    }

    fn try_start(
        tell: impl Fn(&Asked, &mut Answer<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen on a free port")?;
        let liar = Self {
            port: listener.local_addr().context("ask for the port")?.port(),
            shared: Arc::default(),
        };
        let (serving, host, tell) = (Arc::clone(&liar.shared), liar.host(), Arc::new(tell));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, host, tell) = (Arc::clone(&serving), host.clone(), Arc::clone(&tell));
                thread::spawn(move || {
                    shared.open.fetch_add(1, Ordering::Relaxed);
                    // That the client goes away is what is hoped for.
                    drop(serve(&client, &shared, host, &*tell));
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(liar)
    }

    /// `127.0.0.1:port`, as in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What was asked so far: path and query.
    pub fn log(&self) -> Vec<String> {
        let log = self.shared.log.lock();
        log.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that were taken so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Connections that somebody still listens on.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn serve(
    client: &TcpStream,
    shared: &Shared,
    host: String,
    tell: &dyn Fn(&Asked, &mut Answer<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    // A client that begins with TLS finds out that this is none.
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    let mut asked = Asked {
        target: words.next().unwrap_or_default().to_owned(),
        range: None,
        authorization: None,
        host,
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = range(value),
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    {
        let log = shared.log.lock();
        let mut log = log.unwrap_or_else(PoisonError::into_inner);
        log.push(asked.target.clone());
    }
    let mut answer = Answer {
        stream: client,
        sent: &shared.sent,
    };
    tell(&asked, &mut answer)
}

fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
}
