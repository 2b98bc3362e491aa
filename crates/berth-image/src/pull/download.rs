//! Bringing the bytes of one layer: over one connection, or over several when the network is what is waited for.
//!
//! Owns: which bytes are asked for on which connection, and everything that can break in it.
//!
//! A download begins with one request for all that is missing. When the server gives ranges and the layers' own
//! threads keep up with the network, the rest is cut into chunks that further connections take in order, one more at
//! a time, for as long as one more brings more. Chunks are near each other, so that little is lost when all ends early.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_types::ErrorKind;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::arrival::{Behind, Piece};
use crate::documents::Descriptor;
use crate::error::{ImageError, Result};
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink};
use crate::registry::{Drip, Opened, Session, backoff};

/// Why a download ended early: `None` when the receiver has gone, which then knows why.
pub(super) type Broken = Option<ImageError>;

/// A layer to be fetched, and how.
#[derive(Clone, Copy)]
pub(super) struct Fetch<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) descriptor: &'a Descriptor,
    /// Connections beyond the first one of each layer.
    pub(super) further: &'a Semaphore,
    pub(super) progress: &'a ProgressSink,
    pub(super) ending: &'a CancellationToken,
}

impl Fetch<'_> {
    pub(super) fn id(&self) -> String {
        self.descriptor.digest.short()
    }

    pub(super) fn cancelled(&self) -> ImageError {
        ImageError::Cancelled {
            attempt: format!("fetch layer {}", self.id()),
        }
    }
}

/// What all connections of one layer share.
pub(super) struct Download<'a> {
    fetch: Fetch<'a>,
    sender: &'a mpsc::Sender<Piece>,
    /// How far whoever unpacks is behind what has come.
    behind: Behind,
    plan: Mutex<Plan>,
}

/// What was asked for, and how it goes.
struct Plan {
    /// First byte that no connection was given.
    next: u64,
    /// Bytes that are here.
    received: u64,
    /// Where the first connection ends, which was asked for everything.
    lead_end: u64,
    /// How far it is.
    lead_at: u64,
    /// The server gives parts.
    ranges: bool,
    pace: Pace,
}

/// Part of a layer that one connection fetches.
struct Part {
    at: u64,
    /// `None` for the first connection, whose end may still come nearer.
    end: Option<u64>,
}

impl<'a> Download<'a> {
    /// Of what is missing behind the first `have` bytes.
    pub(super) fn new(
        fetch: Fetch<'a>,
        have: u64,
        sender: &'a mpsc::Sender<Piece>,
        behind: Behind,
    ) -> Self {
        let size = fetch.descriptor.size;
        Self {
            fetch,
            sender,
            behind,
            plan: Mutex::new(Plan {
                next: size,
                received: have,
                lead_end: size,
                lead_at: have,
                ranges: false,
                pace: Pace::new(),
            }),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings everything that is missing.
    pub(super) async fn run(&self) -> Result<(), Broken> {
        let have = self.plan().received;
        if have == self.fetch.descriptor.size && have > 0 {
            return Ok(());
        }
        let mut running = FuturesUnordered::new();
        running.push(self.connection(
            Some(Part {
                at: have,
                end: None,
            }),
            None,
        ));
        let mut look = tokio::time::interval(limits::FURTHER_CONNECTION_AFTER);
        look.tick().await;
        let mut last_rate = 0;
        let mut last_received = have;
        let mut grows = self.fetch.descriptor.size >= limits::RANGES_FROM_BYTES;
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(broken)) => return Err(broken),
                    None => return Ok(()),
                },
                _ = look.tick(), if grows => {
                    let received = self.plan().received;
                    let rate = received - last_received;
                    last_received = received;
                    // One more has to bring an eighth more, else it was the last one.
                    if rate < last_rate + last_rate / 8 {
                        grows = false;
                        continue;
                    }
                    if running.len() < limits::CONNECTIONS_PER_LAYER
                        && let Ok(permit) = self.fetch.further.try_acquire()
                        && self.split()
                    {
                        last_rate = rate;
                        running.push(self.connection(None, Some(permit)));
                    }
                }
            }
        }
    }

    /// Makes room for one more connection when that may help. False when not, for now.
    fn split(&self) -> bool {
        let mut plan = self.plan();
        if !plan.ranges || self.behind.bytes() > limits::FURTHER_CONNECTION_BEHIND {
            return false;
        }
        let size = self.fetch.descriptor.size;
        if plan.next == size {
            let end = plan.lead_at + limits::RANGE_BYTES;
            if plan.lead_end != size || end + limits::RANGE_BYTES > size {
                return false;
            }
            plan.lead_end = end;
            plan.next = end;
        }
        plan.next < size
    }

    fn take(&self) -> Option<Part> {
        let mut plan = self.plan();
        let at = plan.next;
        let end = (at + limits::RANGE_BYTES).min(self.fetch.descriptor.size);
        plan.next = end;
        (at < end).then_some(Part { at, end: Some(end) })
    }

    /// One connection: its first part, then whatever nobody has.
    async fn connection(
        &self,
        first: Option<Part>,
        _permit: Option<SemaphorePermit<'_>>,
    ) -> Result<(), Broken> {
        let mut next = first.or_else(|| self.take());
        while let Some(mut part) = next {
            self.part(&mut part).await?;
            next = self.take();
        }
        Ok(())
    }

    /// One part, taken up again where the connection broke.
    async fn part(&self, part: &mut Part) -> Result<(), Broken> {
        let id = self.fetch.id();
        let mut attempt = 0;
        let mut counted = part.at;
        loop {
            let outcome = tokio::select! {
                outcome = self.once(part) => outcome,
                () = self.fetch.ending.cancelled() => return Err(Some(self.fetch.cancelled())),
            };
            let error = match outcome {
                Ok(()) => return Ok(()),
                Err(None) => return Err(None),
                Err(Some(error)) => error,
            };
            let passing = matches!(
                error,
                ImageError::Transport { .. } | ImageError::Stalled { .. }
            );
            // What came in between counts: a large layer over a bad line may need many attempts.
            // A byte at a time would need attempts without end.
            if part.at >= counted + limits::DOWNLOAD_STEP_BYTES {
                counted = part.at;
                attempt = 0;
            }
            attempt += 1;
            if !passing || attempt >= self.fetch.session.attempts() {
                return Err(Some(error));
            }
            let wait = backoff(attempt);
            (self.fetch.progress)(Progress::Retrying {
                id: id.clone(),
                seconds: wait.as_millis().div_ceil(1000).try_into().unwrap_or(1),
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.fetch.ending.cancelled() => return Err(Some(self.fetch.cancelled())),
            }
        }
    }

    fn end_of(&self, part: &Part) -> u64 {
        part.end.unwrap_or_else(|| self.plan().lead_end)
    }

    async fn once(&self, part: &mut Part) -> Result<(), Broken> {
        let size = self.fetch.descriptor.size;
        if part.at > 0 && part.at == self.end_of(part) {
            return Ok(());
        }
        let attempt = || {
            format!(
                "download layer {} from {}",
                self.fetch.id(),
                self.fetch.session.authority()
            )
        };
        let end = Some(self.end_of(part)).filter(|end| *end < size);
        let range = (part.at > 0 || end.is_some()).then_some((part.at, end));
        let opened = open_anywhere(self.fetch.session, self.fetch.descriptor, range)
            .await
            .map_err(Some)?;
        if part.end.is_none() {
            self.plan().ranges = opened.ranges;
        }
        let (mut body, mut position, until) = (opened.body, opened.start, opened.end);
        let stall = self.fetch.session.stall_timeout();
        let mut drip = Drip::new(stall);
        loop {
            let waiting = Instant::now();
            let frame = match tokio::time::timeout(stall, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(Some(ImageError::Transport {
                        attempt: attempt(),
                        source: error.into(),
                    }));
                }
                Ok(None) if position == size || position == self.end_of(part) => return Ok(()),
                Ok(None) => {
                    return Err(Some(ImageError::Transport {
                        attempt: attempt(),
                        source: format!("the connection ended after {position} of {size} bytes")
                            .into(),
                    }));
                }
                Err(_) => {
                    return Err(Some(ImageError::Stalled {
                        attempt: attempt(),
                        seconds: stall.as_secs(),
                    }));
                }
            };
            let Ok(mut bytes) = frame.into_data() else {
                continue;
            };
            drip.came(bytes.len(), waiting.elapsed())
                .map_err(|source| {
                    Some(ImageError::Transport {
                        attempt: attempt(),
                        source: source.into(),
                    })
                })?;
            if position + bytes.len() as u64 > until {
                return Err(Some(ImageError::Size {
                    object: format!("layer {}", self.fetch.id()),
                    expected: size,
                    actual: position + bytes.len() as u64,
                }));
            }
            // A server that ignores ranges begins anew; what is here already is passed over.
            let known = part.at.saturating_sub(position).min(bytes.len() as u64);
            position += bytes.len() as u64;
            let _ = bytes.split_to(usize::try_from(known).unwrap_or(0));
            let end = self.end_of(part);
            bytes.truncate(usize::try_from(end.saturating_sub(part.at)).unwrap_or(usize::MAX));
            if !bytes.is_empty() {
                self.send(part, bytes).await?;
            }
            if part.at == end && end < size {
                // The rest of the answer is for others; the connection goes with it.
                return Ok(());
            }
        }
    }

    async fn send(&self, part: &mut Part, bytes: bytes::Bytes) -> Result<(), Broken> {
        let size = self.fetch.descriptor.size;
        let length = bytes.len() as u64;
        let piece = Piece {
            offset: part.at,
            bytes,
        };
        self.sender.send(piece).await.map_err(|_| None)?;
        part.at += length;
        let received = {
            let mut plan = self.plan();
            plan.received += length;
            if part.end.is_none() {
                plan.lead_at = part.at;
            }
            let received = plan.received;
            if !plan.pace.due(received == size) {
                return Ok(());
            }
            received
        };
        (self.fetch.progress)(Progress::Downloading {
            id: self.fetch.id(),
            current: received,
            total: size,
        });
        Ok(())
    }
}

/// Opens a layer at the registry, or at one of the places that its descriptor names when the registry does not
/// have it (layers that may not be distributed).
async fn open_anywhere(
    session: &Session<'_>,
    descriptor: &Descriptor,
    range: Option<(u64, Option<u64>)>,
) -> Result<Opened> {
    let mut last = match session.blob(descriptor, range, None).await {
        Err(
            error @ ImageError::Registry {
                kind: ErrorKind::NotFound,
                ..
            },
        ) => error,
        other => return other,
    };
    for url in descriptor
        .urls
        .iter()
        .flatten()
        .take(limits::LAYER_URLS_MAX)
    {
        match session.blob(descriptor, range, Some(url)).await {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}
