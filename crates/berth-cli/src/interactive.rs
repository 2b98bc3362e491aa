//! A container's streams joined with this process's own.
//!
//! Output is copied on the main thread and never holds it up: what standard output does not take at
//! once is written by a helper thread. Input is read by a thread of its own, so that a terminal or
//! pipe that stays silent holds nothing up either; when the container ends it is simply left behind.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::task::Poll;

use berth_api::framing::Stream;
use berth_api::{Client, ClientError, Hijacked};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::detach_keys::Watch;
use crate::failure::Failure;
use crate::session::output_failure;
use crate::terminal::{self, RawMode};

/// Size of one read, in bytes.
const CHUNK: usize = 32 * 1024;
/// What a pipe that is ready for writing takes without blocking, in bytes (pipe(7), PIPE_BUF).
const PIPE_TAKES: usize = 4096;

/// Which streams are joined, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    /// Send standard input.
    pub(crate) stdin: bool,
    /// Show standard output.
    pub(crate) stdout: bool,
    /// Show standard error.
    pub(crate) stderr: bool,
    /// The container has a terminal: raw bytes, keys that detach.
    pub(crate) tty: bool,
    /// The keys that detach.
    pub(crate) detach_keys: Vec<u8>,
}

/// How a joined session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The container closed its side.
    Output,
    /// The user typed the keys that detach.
    Detached,
}

/// Copies in both directions until the container's output ends or the user detaches.
///
/// # Errors
/// When standard output cannot be written or the stream is broken.
pub(crate) async fn join(
    stream: Hijacked,
    joined: &Joined,
    explain: impl Fn(&ClientError) -> String,
) -> Result<Ended, Failure> {
    // With a terminal on the other side, ours becomes raw; the guard restores it on every way out.
    let raw = if joined.tty && joined.stdin {
        RawMode::enter()?
    } else {
        None
    };
    let framed = stream.multiplexed().unwrap_or(!joined.tty);
    let (mut output, input) = stream.split();
    let watch = (joined.tty && joined.stdin).then(|| Watch::new(joined.detach_keys.clone()));
    let mut sender = Box::pin(send_input(input, joined.stdin, watch));
    let shows_output = joined.stdout || joined.stderr;

    let receive = async {
        let mut stdout = joined.stdout.then(|| Sink::new(std::io::stdout()));
        let mut stderr = joined.stderr.then(|| Sink::new(std::io::stderr()));
        if framed {
            loop {
                let part = output
                    .next_frame()
                    .await
                    .map_err(|error| Failure::new(explain(&error)))?;
                match part {
                    Some((Stream::Stderr, bytes)) => write(&mut stderr, &bytes).await?,
                    Some((_, bytes)) => write(&mut stdout, &bytes).await?,
                    None => return Ok::<_, Failure>(()),
                }
            }
        }
        // A terminal has one output, and it goes where ours goes.
        let mut sink = shows_output.then(|| Sink::new(std::io::stdout()));
        let mut buffer = vec![0; CHUNK];
        loop {
            // A connection that is reset ended like any other.
            let length = output.read(&mut buffer).await.unwrap_or(0);
            if length == 0 {
                return Ok(());
            }
            write(&mut sink, &buffer[..length]).await?;
        }
    };
    tokio::pin!(receive);
    let mut sending = true;
    let ended = loop {
        tokio::select! {
            received = &mut receive => break received.map(|()| Ended::Output),
            detached = &mut sender, if sending => {
                if detached {
                    break Ok(Ended::Detached);
                }
                sending = false;
                if !shows_output {
                    break Ok(Ended::Output);
                }
            }
        }
    };
    drop(raw);
    ended
}

async fn write<W: Write + AsFd + Send + 'static>(
    sink: &mut Option<Sink<W>>,
    bytes: &[u8],
) -> Result<(), Failure> {
    match sink {
        Some(sink) => sink.write(bytes).await.map_err(output_failure),
        None => Ok(()),
    }
}

/// Sends what is typed; true when it was the keys that detach.
async fn send_input(
    mut connection: impl AsyncWrite + Unpin,
    stdin: bool,
    mut watch: Option<Watch>,
) -> bool {
    if stdin {
        let mut typed = read_input();
        while let Some(bytes) = typed.recv().await {
            let (bytes, detached) = match &mut watch {
                Some(watch) => watch.feed(&bytes),
                None => (bytes, false),
            };
            // A container that no longer reads is noticed at its output.
            if !bytes.is_empty() && connection.write_all(&bytes).await.is_err() {
                break;
            }
            if detached {
                return true;
            }
        }
    }
    let _ = connection.shutdown().await;
    false
}

/// Reads standard input on a thread of its own.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(2);
    std::thread::spawn(move || {
        let mut input = std::io::stdin();
        let mut buffer = vec![0; CHUNK];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Standard output or error, written without holding the thread up.
struct Sink<W> {
    target: Option<W>,
    /// Files and devices that never make a writer wait for a reader.
    immediate: bool,
}

impl<W: Write + AsFd + Send + 'static> Sink<W> {
    fn new(target: W) -> Self {
        let immediate = rustix::fs::fstat(&target).is_ok_and(|stat| {
            matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile)
        });
        Self {
            target: Some(target),
            immediate,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        let mut left = bytes;
        while !left.is_empty() {
            if !self.immediate && !is_writable(target) {
                break;
            }
            let part = if self.immediate {
                left
            } else {
                &left[..left.len().min(PIPE_TAKES)]
            };
            target.write_all(part)?;
            left = &left[part.len()..];
        }
        target.flush()?;
        if left.is_empty() {
            return Ok(());
        }
        let rest = left.to_vec();
        let Some(mut target) = self.target.take() else {
            return Ok(());
        };
        let (target, result) = tokio::task::spawn_blocking(move || {
            let result = target.write_all(&rest).and_then(|()| target.flush());
            (target, result)
        })
        .await
        .map_err(std::io::Error::other)?;
        self.target = Some(target);
        result
    }
}

fn is_writable(target: &impl AsFd) -> bool {
    let mut watched = [PollFd::new(target, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut watched, Some(&now)), Ok(count) if count > 0)
}

/// What a size or a signal belongs to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A container.
    Container(String),
    /// A program run inside one.
    Exec(String),
}

/// Gives the other side this terminal's size now and whenever it changes. Never ends by itself.
pub(crate) async fn follow_size(client: &Client, target: &Target) -> Infallible {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return never().await;
    };
    loop {
        let (height, width) = terminal::output_size();
        if height != 0 || width != 0 {
            // The program may have ended meanwhile; then its size matters no more.
            let _ = match target {
                Target::Container(id) => client.container_resize(id, height, width).await,
                Target::Exec(id) => client.exec_resize(id, height, width).await,
            };
        }
        if changes.recv().await.is_none() {
            return never().await;
        }
    }
}

/// Waits for ever.
pub(crate) async fn never() -> Infallible {
    std::future::pending().await
}

/// Signals that are not passed on: they are this process's own affair (SIGPIPE, SIGCHLD, SIGURG,
/// SIGWINCH), or nothing can be done about them.
const KEPT: &[i32] = &[
    4,  // SIGILL
    8,  // SIGFPE
    9,  // SIGKILL
    11, // SIGSEGV
    13, // SIGPIPE
    17, // SIGCHLD
    19, // SIGSTOP
    23, // SIGURG
    28, // SIGWINCH
];
/// The highest number of a signal that is not a real-time one.
const LAST_SIGNAL: i32 = 31;

/// Signals on their way to a container. They are caught from the moment the value exists, which is
/// before the container is started, so that none gets lost.
#[derive(Debug)]
pub(crate) struct Caught {
    signals: Vec<(i32, Signal)>,
}

impl Caught {
    /// Catches every signal that is passed on, or none if `proxy` is off.
    pub(crate) fn new(proxy: bool) -> Self {
        let signals = (1..=LAST_SIGNAL)
            .filter(|number| proxy && !KEPT.contains(number))
            .filter_map(|number| Some((number, signal(SignalKind::from_raw(number)).ok()?)))
            .collect();
        Self { signals }
    }

    /// Sends each caught signal to the container. Never ends by itself.
    pub(crate) async fn forward(mut self, client: &Client, id: &str) -> Infallible {
        loop {
            let number = poll_fn(|context| {
                for (number, signal) in &mut self.signals {
                    if let Poll::Ready(Some(())) = signal.poll_recv(context) {
                        return Poll::Ready(*number);
                    }
                }
                Poll::Pending
            })
            .await;
            // The container may have ended meanwhile; then there is nobody to tell.
            let _ = client.container_kill(id, &number.to_string()).await;
        }
    }
}
