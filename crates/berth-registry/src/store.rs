//! What the registry keeps: content by digest, in the engine's own content store, and the records that say which
//! repository has it.
//!
//! ```text
//! <root>/registry.db           records
//! <root>/blobs/sha256/<hex>    content, as in the engine's data root
//! <root>/uploads/              blobs on their way in
//! <root>/incoming/             manifests and blobs of an upstream on their way in; emptied at open
//! ```
//!
//! Order of every change: content is verified and on disk under its name, held by a lease → one transaction → the
//! answer. Removal goes the other way. So a crash leaves at most content that no record knows, which the next
//! collection removes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use berth_image::blobs::BlobStore;
use berth_sys::fs;
use berth_types::Digest;

use crate::digest::{Algorithm, ContentDigest};
use crate::error::{RegistryError, Result};
use crate::manifest::Manifest;
use crate::name::{Repository, Tag};
use crate::records::{BlobRecord, NewManifest, PutManifest, Records};
use crate::uploads::{Sink, Uploads};

/// Everything beneath the root. Methods block.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) blobs: BlobStore,
    pub(crate) records: Records,
    pub(crate) uploads: Uploads,
    incoming: PathBuf,
    next: AtomicU64,
}

/// How a finished upload was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The repository has the blob.
    Stored,
    /// It is not what was said; this is what it is.
    Other(ContentDigest),
}

impl Store {
    /// Opens the root, which may be empty, and which no other process may have open.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all_mode(root, 0o700)?;
        let root = fs::canonicalize(root)?;
        // First: it is the lock on everything else.
        let records = Records::open(&root.join("registry.db"))?;
        let incoming = root.join("incoming");
        fs::remove_dir_all(&incoming)?;
        fs::create_dir(&incoming, 0o700)?;
        Ok(Self {
            blobs: BlobStore::open(&root)?,
            uploads: Uploads::open(&root)?,
            records,
            incoming,
            next: AtomicU64::new(0),
        })
    }

    /// A path for content on its way in, not used before.
    pub(crate) fn incoming(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.incoming.join(number.to_string())
    }

    /// Ends an upload as a blob of its repository, if it is what the client says.
    pub(crate) fn finish(
        &self,
        repository: &Repository,
        mut sink: Sink,
        digest: &ContentDigest,
    ) -> Result<Finished> {
        let size = sink.size();
        let upload = sink.upload().clone();
        let outcome = match sink.verify(digest)? {
            Ok((content, file)) => {
                self.take_in(repository, digest, content, &file, size)?;
                Finished::Stored
            }
            Err(other) => Finished::Other(other),
        };
        self.uploads.end(&upload)?;
        Ok(outcome)
    }

    /// Makes a verified file a blob of a repository.
    pub(crate) fn take_in(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
        content: Digest,
        file: &Path,
        size: u64,
    ) -> Result<()> {
        let _lease = self.blobs.lease(content);
        self.blobs.adopt(file, &content)?;
        self.records.link(repository, digest, content, size)
    }

    /// Gives a repository a blob that another one has (or `from`, when that is said). Tells its size; `None` when
    /// it is not to be had.
    pub(crate) fn mount(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
        from: Option<&Repository>,
    ) -> Result<Option<u64>> {
        let found: Option<BlobRecord> = match from {
            Some(from) => self.records.blob(from, digest)?,
            None => self.records.anywhere(digest)?,
        };
        let Some(record) = found else {
            return Ok(None);
        };
        let _lease = self.blobs.lease(record.content);
        if !self.blobs.contains(&record.content) {
            return Ok(None);
        }
        self.records
            .link(repository, digest, record.content, record.size)?;
        Ok(Some(record.size))
    }

    /// Makes bytes a manifest of a repository, with tags.
    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
        manifest: &Manifest,
        bytes: &[u8],
        tags: Vec<Tag>,
        complete: bool,
    ) -> Result<PutManifest> {
        let ContentDigest::Sha256(content) = ContentDigest::of(Algorithm::Sha256, bytes) else {
            return Err(RegistryError::Cancelled("hash a manifest"));
        };
        let _lease = self.blobs.lease(content);
        let file = self.incoming();
        fs::write(&file, bytes)?;
        self.blobs.adopt(&file, &content)?;
        let size = bytes.len() as u64;
        self.records.put_manifest(
            repository,
            &NewManifest {
                digest: *digest,
                content,
                size,
                media_type: manifest.media_type.clone(),
                blobs: manifest.blobs.clone(),
                manifests: manifest.manifests.clone(),
                subject: manifest.subject,
                descriptor: manifest.descriptor(digest, size),
                tags,
                complete,
            },
        )
    }
}
