//! Sending content of the store in the body of one request.
//!
//! A request with a large body may take as long as it likes while bytes move; it is given up when none do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_types::Digest;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::session::{Asked, Session};
use crate::error::{ImageError, Result};
use crate::limits;

/// Media type of bytes.
pub(super) const OCTETS: &str = "application/octet-stream";

/// Content of the store that is to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// The file that holds it; `None` when it is not here, and can only be there already or be taken over.
    pub(crate) file: Option<PathBuf>,
}

/// What an upload tells while it is under way.
pub(crate) trait Watch: Send + Sync {
    /// So many bytes have been sent.
    fn sent(&self, bytes: u64);
    /// The connection broke, and is tried again after this time.
    fn retrying(&self, wait: Duration);
}

pub(super) fn not_here(content: &Outgoing) -> ImageError {
    ImageError::ContentMissing {
        content: content.digest.short(),
    }
}

impl Session<'_> {
    /// Sends the content from `offset` on in one request, for as long as bytes move.
    pub(super) async fn stream(
        &self,
        method: Method,
        uri: &Uri,
        content: &Outgoing,
        offset: u64,
        watch: &dyn Watch,
        asked: &Asked<'_>,
    ) -> Result<Response<Incoming>> {
        let path = content.file.as_ref().ok_or_else(|| not_here(content))?;
        let io = |error| ImageError::io(format!("read {}", path.display()), error);
        let mut file = tokio::fs::File::open(path).await.map_err(io)?;
        file.seek(std::io::SeekFrom::Start(offset))
            .await
            .map_err(io)?;
        let rest = content.size - offset;
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let pieces = ReaderStream::with_capacity(file.take(rest), limits::PIPE_CHUNK_BYTES).map(
            move |piece| {
                let piece = piece?;
                counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(Frame::data(piece))
            },
        );
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, rest);
        if offset > 0 {
            request = request.header(CONTENT_RANGE, format!("{offset}-{}", content.size - 1));
        }
        if self.is_own(uri)
            && let Some(authorization) = self.authorization()
        {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = StreamBody::new(pieces).boxed_unsync();
        let answer = self.dispatch(request, body, uri, &asked.words);
        tokio::pin!(answer);
        let mut tick = tokio::time::interval(limits::PROGRESS_INTERVAL);
        let (mut before, mut since) = (0, tokio::time::Instant::now());
        loop {
            tokio::select! {
                answer = &mut answer => {
                    let answer = answer?;
                    // A proof that ran out on the way; what arrived is asked for again.
                    if answer.status() == StatusCode::UNAUTHORIZED && self.is_own(uri) {
                        let headers = answer.headers().clone();
                        if self.prove(&headers, asked).await? {
                            return Err(ImageError::Transport {
                                attempt: asked.words.clone(),
                                source: "the proof of who asks has run out".into(),
                            });
                        }
                    }
                    if answer.status().is_success() {
                        watch.sent(content.size);
                    }
                    return Ok(answer);
                }
                now = tick.tick() => {
                    let moved = sent.load(Ordering::Relaxed);
                    if moved != before {
                        watch.sent(offset + moved);
                        (before, since) = (moved, now);
                        continue;
                    }
                    let limit = if moved == rest {
                        limits::COMMIT_TIMEOUT
                    } else {
                        limits::STALL_TIMEOUT
                    };
                    if now.duration_since(since) >= limit {
                        return Err(ImageError::Stalled {
                            attempt: asked.words.clone(),
                            seconds: limit.as_secs(),
                        });
                    }
                }
            }
        }
    }
}
