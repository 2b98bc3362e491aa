//! Long work that tells its progress line by line: pull and load.
//!
//! The engine tells progress from whatever thread it works on and never waits for a client. Lines that a
//! slow client has not taken yet are merged: of a layer's counters only the newest is kept.

use super::streams::json_line;
use crate::convert;
use crate::failure::Failure;
use crate::limits::{DISCARDED_BODY, PROGRESS_QUEUE};
use crate::reply::Reply;
use berth_api::JsonMessage;
use berth_engine::EngineError;
use berth_engine::images::{Progress, ProgressSink};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};

#[derive(Default)]
struct Waiting {
    lines: Mutex<VecDeque<JsonMessage>>,
    more: Notify,
}

impl Waiting {
    fn push(&self, message: JsonMessage) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_counter = |line: &JsonMessage| !line.progress.is_empty();
        let older = lines.iter().position(|line| {
            is_counter(line)
                && is_counter(&message)
                && line.id == message.id
                && line.status == message.status
        });
        if let Some(older) = older {
            lines.remove(older);
        } else if lines.len() >= PROGRESS_QUEUE {
            // Rather a gap in what is told than memory for a client that does not read.
            lines.pop_front();
        }
        lines.push_back(message);
        self.more.notify_one();
    }

    fn take(&self) -> Option<Bytes> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return None;
        }
        let mut out = BytesMut::new();
        for line in lines.drain(..) {
            out.extend_from_slice(&json_line(&line));
        }
        Some(out.freeze())
    }
}

/// Lines on their way to a client.
pub(super) struct Lines {
    waiting: Arc<Waiting>,
}

type Work = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, EngineError>> + Send>>;

enum Next {
    Lines(Bytes),
    End(Result<Vec<Bytes>, EngineError>),
}

async fn next(waiting: &Waiting, work: &mut Work) -> Next {
    loop {
        if let Some(lines) = waiting.take() {
            return Next::Lines(lines);
        }
        tokio::select! {
            biased;
            () = waiting.more.notified() => {}
            end = work.as_mut() => return match waiting.take() {
                // Told while the work ended: goes before its last lines.
                Some(lines) => Next::End(end.map(|last| std::iter::once(lines).chain(last).collect())),
                None => Next::End(end),
            },
        }
    }
}

fn last_lines(end: Result<Vec<Bytes>, EngineError>) -> Bytes {
    match end {
        Ok(lines) => lines.concat().into(),
        Err(error) => json_line(&JsonMessage::failure(error.full_text())),
    }
}

impl Lines {
    pub(super) fn new() -> Lines {
        Lines {
            waiting: Arc::new(Waiting::default()),
        }
    }

    /// Where the engine tells its progress.
    pub(super) fn sink(&self) -> ProgressSink {
        let waiting = Arc::clone(&self.waiting);
        Arc::new(move |progress| waiting.push(convert::images::progress(progress)))
    }

    /// For clients that want to hear the result alone.
    #[allow(clippy::unused_self)]
    pub(super) fn silent_sink(&self) -> ProgressSink {
        Arc::new(|_: Progress| {})
    }

    /// Answers with the lines as they come and the work's own last lines. Work that fails before its first
    /// line is answered with a status; later an error can only be a line. A client that hangs up drops the work.
    pub(super) async fn reply(
        self,
        work: impl Future<Output = Result<Vec<Bytes>, EngineError>> + Send + 'static,
    ) -> Result<Reply, Failure> {
        let mut work: Work = Box::pin(work);
        let waiting = self.waiting;
        let (first, open) = match next(&waiting, &mut work).await {
            Next::Lines(lines) => (lines, Some((waiting, work))),
            Next::End(Ok(lines)) => (lines.concat().into(), None),
            Next::End(Err(error)) => return Err(error.into()),
        };
        let chunks = stream::unfold((Some(first), open), |(first, open)| async move {
            if let Some(first) = first {
                return Some((first, (None, open)));
            }
            let (waiting, mut work) = open?;
            match next(&waiting, &mut work).await {
                Next::Lines(lines) => Some((lines, (None, Some((waiting, work))))),
                Next::End(end) => Some((last_lines(end), (None, None))),
            }
        });
        Ok(Reply::stream("application/json", chunks))
    }
}

/// A request's body for code that reads and waits, on a thread of its own.
#[derive(Debug)]
pub(super) struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Chunks of a body that may wait for their reader.
const CHUNKS: usize = 8;

/// Makes a body readable from a blocking thread.
pub(super) fn from_body(mut body: Incoming) -> BodyReader {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let (mut reads, mut discarded) = (true, 0);
        while let Some(frame) = body.frame().await {
            let chunk = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(bytes) => Ok(bytes),
                    Err(_) => continue,
                },
                Err(error) => Err(io::Error::other(error)),
            };
            let failed = chunk.is_err();
            let length = chunk.as_ref().map_or(0, Bytes::len);
            if reads && sender.send(chunk).await.is_err() {
                reads = false;
            }
            // A reader that has enough is no error. What comes then is taken all the same, up to a bound: a client
            // that is cut off while it sends does not see the answer.
            if !reads {
                discarded += length;
            }
            if failed || discarded > DISCARDED_BODY {
                return;
            }
        }
    });
    BodyReader {
        chunks,
        current: Bytes::new(),
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(id: &str, current: u64) -> JsonMessage {
        convert::images::progress(Progress::Downloading {
            id: id.into(),
            current,
            total: 100,
        })
    }

    #[test]
    fn what_was_not_taken_is_merged_and_bounded() {
        let waiting = Waiting::default();
        for current in 0..1000 {
            waiting.push(counter("a", current));
            waiting.push(counter("b", current));
        }
        let text = String::from_utf8(waiting.take().unwrap().to_vec()).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.lines().all(|line| line.contains("\"current\":999")),
            "{text}"
        );
        for number in 0..2 * PROGRESS_QUEUE {
            waiting.push(JsonMessage {
                status: number.to_string(),
                ..JsonMessage::default()
            });
        }
        let text = String::from_utf8(waiting.take().unwrap().to_vec()).unwrap();
        assert_eq!(text.lines().count(), PROGRESS_QUEUE);
        assert!(waiting.take().is_none());
    }

    #[tokio::test]
    async fn early_failures_have_a_status_and_later_ones_are_lines() {
        let failing = || async { Err(EngineError::NotFound("no such image".into())) };
        let failure = Lines::new().reply(failing()).await.err().unwrap();
        assert_eq!(failure.status, http::StatusCode::NOT_FOUND);
        let lines = Lines::new();
        lines.sink()(Progress::Status("begun".into()));
        let Ok(Reply::Http(response)) = lines.reply(failing()).await else {
            panic!("no answer")
        };
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            String::from_utf8_lossy(&body),
            "{\"status\":\"begun\"}\n{\"errorDetail\":{\"message\":\"no such image\"},\"error\":\"no such image\"}\n"
        );
    }
}
