//! Progress of a transfer as values; only clients turn them into words and bars.

use std::io::{self, Read};
use std::sync::Arc;

use berth_types::Digest;

/// One step forward. Layers are named by the first twelve digits of their digest, as Docker shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// What is to be pulled is there: tag (or digest) and repository, as in `latest: Pulling from library/busybox`.
    Pulling {
        /// Tag or digest.
        tag: String,
        /// Repository, without the registry.
        repository: String,
    },
    /// A layer is known to be needed (`Pulling fs layer`).
    PullingLayer {
        /// Short id.
        id: String,
    },
    /// The layer waits for its turn.
    Waiting {
        /// Short id.
        id: String,
    },
    /// The layer is here already.
    AlreadyExists {
        /// Short id.
        id: String,
    },
    /// Bytes of the layer that have come.
    Downloading {
        /// Short id.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The connection broke and the download is taken up again.
    Retrying {
        /// Short id.
        id: String,
        /// Seconds until then, rounded up.
        seconds: u64,
    },
    /// All bytes are here and are being compared with the digest.
    VerifyingChecksum {
        /// Short id.
        id: String,
    },
    /// The layer is here, whole and verified.
    DownloadComplete {
        /// Short id.
        id: String,
    },
    /// Bytes of the compressed layer that have been unpacked.
    Extracting {
        /// Short id.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The layer is in its place.
    PullComplete {
        /// Short id.
        id: String,
    },
    /// A layer of an archive is being loaded (`Loading layer`).
    LoadingLayer {
        /// Short id.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Bytes of an archive that have come from its address (`Importing`).
    Importing {
        /// Bytes so far.
        current: u64,
        /// Bytes in all; zero when the server does not say.
        total: u64,
    },
    /// Bytes of stored content that have been compared with their digests.
    Checking {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A push begins (`The push refers to repository [docker.io/library/busybox]`).
    PushingTo {
        /// Whole name of the repository.
        repository: String,
    },
    /// A layer is to be pushed.
    Preparing {
        /// Short id.
        id: String,
    },
    /// Bytes of a layer that have been compressed for the push.
    Compressing {
        /// Short id.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Bytes of the layer that have been sent.
    Pushing {
        /// Short id.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The layer is in the registry now.
    LayerPushed {
        /// Short id.
        id: String,
    },
    /// The layer was in the registry already (`Layer already exists`).
    LayerExists {
        /// Short id.
        id: String,
    },
    /// The registry took the layer over from another repository.
    Mounted {
        /// Short id.
        id: String,
        /// The other repository.
        from: String,
    },
    /// The layer may only be fetched from its publisher.
    SkippedForeign {
        /// Short id.
        id: String,
    },
    /// A tag is in the registry, for programs that want to know its digest.
    Pushed(crate::push::Pushed),
    /// One image was pushed where the name stands for several, for programs and people that expect all.
    PushedInstead(Box<crate::push::Instead>),
    /// Digest of what the name stands for.
    Digest(Digest),
    /// A line for people.
    Status(String),
}

/// Where progress goes. Called from several threads; must not block for long.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// A sink for callers that do not want to know.
#[must_use]
pub fn silent() -> ProgressSink {
    Arc::new(|_| {})
}

/// Lets one report through per interval, and the last one always.
#[derive(Debug)]
pub(crate) struct Pace {
    last: Option<std::time::Instant>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { last: None }
    }

    pub(crate) fn due(&mut self, finished: bool) -> bool {
        let now = std::time::Instant::now();
        let due = finished
            || self
                .last
                .is_none_or(|last| now - last >= crate::limits::PROGRESS_INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// A reader that reports how far it is.
pub(crate) struct Reported<R, F> {
    pub(crate) inner: R,
    pub(crate) pace: Pace,
    pub(crate) current: u64,
    pub(crate) total: u64,
    pub(crate) report: F,
}

impl<R: Read, F: FnMut(u64, u64)> Read for Reported<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.current += count as u64;
        if self.pace.due(count == 0) {
            (self.report)(self.current, self.total);
        }
        Ok(count)
    }
}
