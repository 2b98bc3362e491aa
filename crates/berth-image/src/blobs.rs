//! Content by digest: `blobs/sha256/<hex>`, immutable once it has its name.
//!
//! ```text
//! blobs/
//! ├── sha256/<hex>   verified content
//! ├── partial/       content that came in part ([`crate::partials`])
//! └── ingest/        content on its way in; emptied at open
//! ```
//!
//! Owns: these two directories, and leases, which keep content that no record refers to yet. Does not own:
//! which content is referred to ([`crate::records`]) or when it goes ([`crate::store`]).
//!
//! Invariants: a file has its name only after every byte was hashed and the digest matched. Content becomes
//! durable by the barrier that precedes the commit of the first record referring to it; whatever no record
//! refers to at open may have been cut by a power failure, and is removed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_sys::fs;
use berth_types::Digest;

use crate::error::{Attempt, ImageError, Result};
use crate::partials::Partials;
use crate::stream::Hasher;

/// The content store.
#[derive(Debug)]
pub struct BlobStore {
    directory: PathBuf,
    ingest: PathBuf,
    next: AtomicU64,
    leases: Arc<Mutex<HashMap<Digest, usize>>>,
    partials: Partials,
}

/// Keeps one piece of content from being removed for as long as it lives, whether it exists yet or not.
#[derive(Debug)]
pub struct BlobLease {
    digest: Digest,
    leases: Arc<Mutex<HashMap<Digest, usize>>>,
}

impl Drop for BlobLease {
    fn drop(&mut self) {
        let mut leases = lock(&self.leases);
        if let Some(count) = leases.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                leases.remove(&self.digest);
            }
        }
    }
}

fn lock(leases: &Mutex<HashMap<Digest, usize>>) -> MutexGuard<'_, HashMap<Digest, usize>> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlobStore {
    /// Opens the store beneath `root`, which may be empty, and throws away what was on its way in.
    ///
    /// # Errors
    /// When the directories cannot be made or emptied.
    pub fn open(root: &Path) -> Result<Self> {
        let blobs = root.join("blobs");
        let directory = blobs.join("sha256");
        let ingest = blobs.join("ingest");
        fs::remove_dir_all(&ingest)?;
        for path in [&directory, &ingest] {
            fs::create_dir_all_mode(path, 0o700)?;
        }
        Ok(Self {
            directory,
            ingest,
            next: AtomicU64::new(0),
            leases: Arc::default(),
            partials: Partials::open(blobs.join("partial"))?,
        })
    }

    /// Content that came in part.
    pub(crate) fn partials(&self) -> &Partials {
        &self.partials
    }

    /// Where content of this digest is or would be.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Whether the content is there.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        fs::exists(&self.path(digest))
    }

    /// Size of the content in bytes; `None` when it is not there.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::symlink_metadata(&self.path(digest))
            .ok()
            .map(|metadata| metadata.len())
    }

    /// Opens content for reading; `None` when it is not there.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn reader(&self, digest: &Digest) -> Result<Option<File>> {
        match File::open(self.path(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).attempt(|| format!("open content {digest}")),
        }
    }

    /// The whole of a small content, verified again; `None` when it is not there.
    ///
    /// # Errors
    /// When it is larger than `limit`, no longer matches its digest, or cannot be read.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.reader(digest)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut content)
            .attempt(|| format!("read content {digest}"))?;
        if content.len() as u64 > limit {
            return Err(ImageError::Limit {
                object: format!("content {digest}"),
                limit,
                unit: "bytes",
            });
        }
        let actual = crate::stream::digest_of(&content);
        if actual != *digest {
            return Err(ImageError::Digest {
                object: "stored content".into(),
                expected: *digest,
                actual,
            });
        }
        Ok(Some(content))
    }

    /// Holds a digest: what is there stays, what comes under this digest stays too.
    #[must_use]
    pub fn lease(&self, digest: Digest) -> BlobLease {
        *lock(&self.leases).entry(digest).or_insert(0) += 1;
        BlobLease {
            digest,
            leases: self.leases.clone(),
        }
    }

    /// Starts writing content whose name becomes known at its end; `object` names it in errors.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn writer(&self, object: impl Into<String>) -> Result<BlobWriter<'_>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.ingest.join(number.to_string());
        let file = fs::open(
            &path,
            File::options().read(true).write(true).create_new(true),
        )?;
        Ok(BlobWriter {
            store: self,
            object: object.into(),
            path,
            file,
            hasher: Hasher::default(),
            size: 0,
            done: false,
        })
    }

    /// Stores bytes at hand.
    ///
    /// # Errors
    /// When they do not match `expected`, or cannot be written.
    pub fn put(&self, bytes: &[u8], expected: Option<&Digest>, object: &str) -> Result<Digest> {
        let mut writer = self.writer(object)?;
        writer
            .write_all(bytes)
            .attempt(|| format!("store {object}"))?;
        writer.commit(expected, None)
    }

    /// Gives content that the caller has written to a file of the same file system and verified its name, durably:
    /// the file is on disk before it replaces anything, and its name when this returns.
    ///
    /// # Errors
    /// When the file cannot be written to disk or renamed.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<()> {
        let opened = fs::open(file, File::options().read(true))?;
        opened
            .sync_all()
            .attempt(|| format!("write {} to disk", file.display()))?;
        let path = self.path(digest);
        fs::rename(file, &path)?;
        fs::sync_parent(&path)?;
        Ok(())
    }

    /// Removes content unless it is leased. Tells whether it is gone.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        // The lock is held over the removal, so that a lease taken later finds it gone.
        let leases = lock(&self.leases);
        if leases.contains_key(digest) {
            return Ok(false);
        }
        fs::remove_file(&self.path(digest))?;
        Ok(true)
    }

    /// All digests that are there.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Digest>> {
        Ok(fs::list(&self.directory)?
            .iter()
            .filter_map(|name| Digest::from_hex(name.to_str()?))
            .collect())
    }

    /// Removes everything that `keep` does not name, and files that are no content at all.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not be removed.
    pub(crate) fn sweep(&self, keep: impl Fn(&Digest) -> bool) -> Result<()> {
        for name in fs::list(&self.directory)? {
            match name.to_str().and_then(Digest::from_hex) {
                Some(digest) if keep(&digest) => {}
                Some(digest) => {
                    self.remove(&digest)?;
                }
                None => fs::remove_file(&self.directory.join(name))?,
            }
        }
        Ok(())
    }
}

/// Content on its way in. Dropped before [`Self::commit`], it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    store: &'a BlobStore,
    object: String,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    done: bool,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl BlobWriter<'_> {
    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Verifies digest and size as far as they are known, and gives the content its name.
    ///
    /// # Errors
    /// When the content is not what was expected, or cannot be renamed.
    pub fn commit(self, expected: Option<&Digest>, size: Option<u64>) -> Result<Digest> {
        self.finish(expected, size, |_| {})
    }

    /// As [`Self::commit`] for content whose digest is not known before; `hold` may lease it while it has no
    /// name yet.
    pub(crate) fn commit_held(
        self,
        expected: Option<&Digest>,
        hold: impl FnOnce(&Digest),
    ) -> Result<Digest> {
        self.finish(expected, None, hold)
    }

    fn finish(
        mut self,
        expected: Option<&Digest>,
        size: Option<u64>,
        hold: impl FnOnce(&Digest),
    ) -> Result<Digest> {
        if let Some(expected) = size
            && expected != self.size
        {
            return Err(ImageError::Size {
                object: self.object.clone(),
                expected,
                actual: self.size,
            });
        }
        let actual = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected
            && *expected != actual
        {
            return Err(ImageError::Digest {
                object: self.object.clone(),
                expected: *expected,
                actual,
            });
        }
        hold(&actual);
        // Replacing equal content by itself is harmless, so whether it is there need not be asked.
        fs::rename(&self.path, &self.store.path(&actual))?;
        self.done = true;
        Ok(actual)
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Nothing to report to: what stays is removed at the next open.
            let _ = fs::remove_file(&self.path);
        }
    }
}
