//! One content on its way from the upstream to disk, and from there to everybody who asked.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use berth_image::ImageError;
use berth_image::registry::UpstreamRegistry;
use berth_sys::fs;
use berth_types::Digest;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::watch;

use crate::body::gather;
use crate::digest::ContentDigest;
use crate::error::{RegistryError, Result};
use crate::limits;
use crate::name::Repository;
use crate::refusal::{Code, Refusal};
use crate::registry::blocking;
use crate::reply::Body;
use crate::store::Store;

/// How far a fetch is.
#[derive(Debug, Clone)]
enum Progress {
    /// The upstream has not answered yet.
    Asking,
    /// So many bytes are in the file.
    Coming { written: u64, size: Option<u64> },
    /// All is there, verified, and belongs to the repository.
    Done { size: u64 },
    /// It will not come.
    Failed(Arc<ImageError>),
    /// Nor will it because of us.
    FailedHere,
}

/// A fetch.
#[derive(Debug)]
pub(crate) struct Fetch {
    path: PathBuf,
    /// Also when the file has got its name, or none any more.
    file: Arc<File>,
    progress: watch::Sender<Progress>,
}

/// What is coming, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coming {
    /// Size of the whole, when the upstream says it.
    pub(crate) size: Option<u64>,
}

/// What has been written.
struct Sink {
    file: Arc<File>,
    sha256: Sha256,
    sha512: Option<Sha512>,
    written: u64,
}

impl Fetch {
    /// Makes the file. Blocks for a moment.
    pub(crate) fn begin(store: &Store) -> Result<Arc<Self>> {
        let path = store.incoming();
        let file = fs::open(
            &path,
            File::options().read(true).write(true).create_new(true),
        )?;
        Ok(Arc::new(Self {
            path,
            file: Arc::new(file),
            progress: watch::Sender::new(Progress::Asking),
        }))
    }

    /// Fetches to the end, whatever that is.
    pub(crate) async fn run(
        &self,
        upstream: &UpstreamRegistry,
        store: &Arc<Store>,
        name: &Repository,
        digest: &ContentDigest,
    ) {
        let end = match self.fetch(upstream, store, name, digest).await {
            Ok(size) => Progress::Done { size },
            Err(Stop::Upstream(error)) => Progress::Failed(Arc::new(error)),
            Err(Stop::Here(error)) => {
                tracing::error!("fetch {digest}: {}", error.full_text());
                Progress::FailedHere
            }
        };
        if !matches!(end, Progress::Done { .. }) {
            // What stays is removed at the next open.
            let _ = fs::remove_file(&self.path);
        }
        self.progress.send_replace(end);
    }

    async fn fetch(
        &self,
        upstream: &UpstreamRegistry,
        store: &Arc<Store>,
        name: &Repository,
        digest: &ContentDigest,
    ) -> std::result::Result<u64, Stop> {
        let mut sink = Sink {
            file: Arc::clone(&self.file),
            sha256: Sha256::new(),
            sha512: matches!(digest, ContentDigest::Sha512(_)).then(Sha512::new),
            written: 0,
        };
        let mut failures = 0;
        let size = loop {
            let before = sink.written;
            let (returned, outcome) = self.receive(upstream, name, digest, sink).await?;
            sink = returned;
            match outcome {
                Ok(()) => break sink.written,
                Err(error) => {
                    // Progress is worth another attempt.
                    failures = if sink.written > before {
                        1
                    } else {
                        failures + 1
                    };
                    if failures >= limits::FETCH_ATTEMPTS {
                        return Err(Stop::Upstream(error));
                    }
                    tracing::debug!("{error}; taken up again at byte {}", sink.written);
                    tokio::time::sleep(limits::FETCH_PAUSE).await;
                }
            }
        };
        let content = Digest::from_bytes(sink.sha256.finalize().into());
        let actual = match sink.sha512 {
            Some(hasher) => ContentDigest::Sha512(hasher.finalize().into()),
            None => ContentDigest::Sha256(content),
        };
        if actual != *digest {
            return Err(Stop::Upstream(ImageError::Registry {
                attempt: format!(
                    "get content {digest} of {name} from {}",
                    upstream.authority()
                ),
                reason: format!("what came is {actual}"),
                kind: berth_types::ErrorKind::DataCorrupt,
            }));
        }
        let (store, name, digest) = (Arc::clone(store), name.clone(), *digest);
        let path = self.path.clone();
        blocking(move || store.take_in(&name, &digest, content, &path, size))
            .await
            .map_err(Stop::Here)?;
        Ok(size)
    }

    /// One request to the upstream from where we are; the sink comes back with the outcome.
    async fn receive(
        &self,
        upstream: &UpstreamRegistry,
        name: &Repository,
        digest: &ContentDigest,
        mut sink: Sink,
    ) -> std::result::Result<(Sink, std::result::Result<(), ImageError>), Stop> {
        let broke = |reason: String| ImageError::Transport {
            attempt: format!(
                "get content {digest} of {name} from {}",
                upstream.authority()
            ),
            source: reason.into(),
        };
        let opened = upstream
            .blob(name.as_str(), &digest.to_string(), sink.written)
            .await;
        let mut blob = match opened {
            Ok(blob) => blob,
            Err(error @ (ImageError::Transport { .. } | ImageError::Stalled { .. })) => {
                return Ok((sink, Err(error)));
            }
            Err(error) => return Err(Stop::Upstream(error)),
        };
        let limit = blob.size.unwrap_or(limits::BLOB_BYTES_MAX);
        if limit > limits::BLOB_BYTES_MAX {
            return Err(Stop::Upstream(ImageError::Limit {
                object: format!("content {digest}"),
                limit: limits::BLOB_BYTES_MAX,
                unit: "bytes",
            }));
        }
        // A registry without ranges begins anew; what is here already is passed over.
        let mut skip = sink.written - blob.start.min(sink.written);
        self.progress.send_replace(Progress::Coming {
            written: sink.written,
            size: blob.size,
        });
        loop {
            let mut chunks = match gather(&mut blob.body).await {
                Ok(chunks) if chunks.is_empty() => break,
                Ok(chunks) => chunks,
                Err(broken) => return Ok((sink, Err(broke(broken.to_string())))),
            };
            for chunk in &mut chunks {
                let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                *chunk = chunk.slice(passed..);
                skip -= passed as u64;
            }
            let coming: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
            if sink.written + coming > limit {
                return Err(Stop::Upstream(ImageError::Size {
                    object: format!("content {digest}"),
                    expected: limit,
                    actual: sink.written + coming,
                }));
            }
            sink = blocking(move || sink.write(&chunks))
                .await
                .map_err(Stop::Here)?;
            self.progress.send_replace(Progress::Coming {
                written: sink.written,
                size: blob.size,
            });
        }
        match blob.size {
            Some(size) if sink.written < size => {
                let reason = format!("it ended at byte {} of {size}", sink.written);
                Ok((sink, Err(broke(reason))))
            }
            _ => Ok((sink, Ok(()))),
        }
    }

    /// Waits for the upstream's answer.
    pub(crate) async fn coming(&self) -> std::result::Result<Coming, Refusal> {
        let mut watching = self.progress.subscribe();
        let state = watching
            .wait_for(|progress| !matches!(progress, Progress::Asking))
            .await
            .map(|progress| progress.clone())
            .unwrap_or(Progress::FailedHere);
        match state {
            Progress::Coming { size, .. } => Ok(Coming { size }),
            Progress::Done { size } => Ok(Coming { size: Some(size) }),
            Progress::Failed(error) => Err(super::refused_upstream(&error, Code::BlobUnknown)),
            Progress::FailedHere | Progress::Asking => Err(Refusal::new(
                Code::Unknown,
                "the registry failed; its log says why",
            )),
        }
    }

    /// Bytes as they come: from `start`, and `length` of them or all. The last byte of the whole waits until it is
    /// verified.
    pub(crate) fn body(&self, start: u64, length: Option<u64>) -> Body {
        let end = length.map(|length| start.saturating_add(length));
        let state = (Arc::clone(&self.file), self.progress.subscribe(), start);
        let chunks = stream::try_unfold(state, move |(file, mut watching, at)| async move {
            let upto = loop {
                let (ready, done) = match &*watching.borrow_and_update() {
                    Progress::Asking => (0, false),
                    Progress::Coming { written, .. } => (written.saturating_sub(1), false),
                    Progress::Done { size } => (*size, true),
                    Progress::Failed(error) => return Err(io::Error::other(error.to_string())),
                    Progress::FailedHere => return Err(io::Error::other("the fetch failed")),
                };
                let ready = end.map_or(ready, |end| ready.min(end));
                if ready > at {
                    break ready;
                }
                if done || end.is_some_and(|end| at >= end) {
                    return Ok(None);
                }
                watching.changed().await.map_err(io::Error::other)?;
            };
            let size = (upto - at).min(limits::CHUNK_BYTES as u64);
            let (reading, length) = (Arc::clone(&file), usize::try_from(size).unwrap_or(0));
            let bytes = tokio::task::spawn_blocking(move || {
                let mut buffer = vec![0; length];
                reading.read_exact_at(&mut buffer, at)?;
                Ok::<_, io::Error>(Bytes::from(buffer))
            })
            .await
            .map_err(io::Error::other)??;
            Ok(Some((Frame::data(bytes), (file, watching, at + size))))
        });
        StreamBody::new(chunks).boxed_unsync()
    }
}

/// Why a fetch is given up.
enum Stop {
    Upstream(ImageError),
    Here(RegistryError),
}

impl Sink {
    fn write(mut self, chunks: &[Bytes]) -> Result<Self> {
        for chunk in chunks {
            (&*self.file)
                .write_all(chunk)
                .map_err(|error| RegistryError::io("write content of the upstream", error))?;
            self.sha256.update(chunk);
            if let Some(hasher) = &mut self.sha512 {
                hasher.update(chunk);
            }
            self.written += chunk.len() as u64;
        }
        Ok(self)
    }
}
