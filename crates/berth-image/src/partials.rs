//! Content that has come in part, kept so that a later transfer goes on where an earlier one ended.
//!
//! ```text
//! blobs/partial/
//! ├── <hex>        the first bytes of the content with this digest
//! └── <hex>.marks  how much of it was hashed: offset and digest of all bytes up to it, 40 bytes each
//! ```
//!
//! Owns: this directory. Nothing in it is trusted: what is taken up is hashed again, and counts as far as its digest
//! equals a mark that was made when the bytes came. So neither a process that was killed nor a power cut can make
//! anything of it that did not come from a registry, and the digest of the whole decides in the end anyway.
//! What nobody takes up goes by age, and the oldest goes when all together are too large.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use berth_sys::fs;
use berth_types::Digest;

use crate::error::{Attempt, Result};
use crate::limits;
use crate::store::ImageStore;
use crate::stream::Hasher;

/// Offset and digest.
const MARK_BYTES: usize = 8 + 32;

/// The directory.
#[derive(Debug)]
pub(crate) struct Partials {
    directory: PathBuf,
    /// Taken up now, and not to be swept.
    used: Arc<Mutex<HashSet<Digest>>>,
}

fn lock(used: &Mutex<HashSet<Digest>>) -> MutexGuard<'_, HashSet<Digest>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partials {
    /// Opens the directory, and removes what was not taken up for long.
    pub(crate) fn open(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all_mode(&directory, 0o700)?;
        let partials = Self {
            directory,
            used: Arc::default(),
        };
        partials.sweep()?;
        Ok(partials)
    }

    /// Takes up content of this digest and size, or begins it. Only one may have it at a time.
    pub(crate) fn take(&self, digest: Digest, size: u64) -> Result<Partial> {
        lock(&self.used).insert(digest);
        let path = self.directory.join(digest.hex());
        let mut partial = Partial {
            marks_path: path.with_extension("marks"),
            file: Arc::new(fs::open(
                &path,
                File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false),
            )?),
            path,
            marks: None,
            hasher: Hasher::default(),
            hashed: 0,
            marked: 0,
            digest,
            used: self.used.clone(),
            kept: false,
        };
        partial.verify(size)?;
        Ok(partial)
    }

    /// Removes what is too old, and the oldest of what is too much.
    pub(crate) fn sweep(&self) -> Result<()> {
        let now = SystemTime::now();
        let mut found = Vec::new();
        for name in fs::list(&self.directory)? {
            let path = self.directory.join(&name);
            let digest = path
                .file_stem()
                .and_then(|stem| Digest::from_hex(stem.to_str()?));
            if digest.is_some_and(|digest| lock(&self.used).contains(&digest)) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path)?;
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            // A time that is still to come says nothing.
            let age = now
                .duration_since(modified)
                .unwrap_or(limits::PARTIAL_AGE_MAX);
            if digest.is_none() || age >= limits::PARTIAL_AGE_MAX {
                fs::remove_file(&path)?;
            } else if path.extension().is_none() {
                found.push((modified, metadata.len(), path));
            }
        }
        found.sort_by_key(|(modified, _, _)| std::cmp::Reverse(*modified));
        let mut total = 0;
        for (_, size, path) in found {
            total += size;
            if total > limits::PARTIAL_BYTES_MAX {
                fs::remove_file(&path)?;
                fs::remove_file(&path.with_extension("marks"))?;
            }
        }
        Ok(())
    }
}

impl Partials {
    /// Removes what nobody takes up now, the oldest first, until so many bytes of the disk are free or none is left.
    /// Gives the bytes that are.
    fn shed(&self, wanted: u64) -> Result<u64> {
        let mut found = Vec::new();
        for name in fs::list(&self.directory)? {
            let path = self.directory.join(&name);
            if let Some(digest) = name.to_str().and_then(Digest::from_hex)
                && let Ok(metadata) = fs::symlink_metadata(&path)
            {
                found.push((metadata.modified().ok(), digest, path));
            }
        }
        found.sort_unstable();
        let mut freed = 0;
        for (_, digest, path) in found {
            if freed >= wanted {
                break;
            }
            // Whoever wants it waits this long, and finds nothing.
            let used = lock(&self.used);
            if used.contains(&digest) {
                continue;
            }
            for path in [&path.with_extension("marks"), &path] {
                if let Ok(metadata) = fs::symlink_metadata(path) {
                    freed += std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
                }
                fs::remove_file(path)?;
            }
        }
        Ok(freed)
    }
}

impl ImageStore {
    /// Removes content that came in part and that nobody fetches now, the oldest first, until so many bytes of the disk
    /// are free or none is left. Gives the bytes that are.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn shed_partials(&self, wanted: u64) -> Result<u64> {
        self.inner.blobs.partials().shed(wanted)
    }
}

/// Content that is coming in.
pub(crate) struct Partial {
    path: PathBuf,
    marks_path: PathBuf,
    file: Arc<File>,
    /// Opened when the first mark is made.
    marks: Option<File>,
    hasher: Hasher,
    hashed: u64,
    marked: u64,
    digest: Digest,
    used: Arc<Mutex<HashSet<Digest>>>,
    kept: bool,
}

impl Partial {
    /// Bytes from the beginning that are here and hashed.
    pub(crate) fn hashed(&self) -> u64 {
        self.hashed
    }

    /// The file, for reading up to [`Self::hashed`].
    pub(crate) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    fn attempt(&self) -> String {
        format!("store content {}", self.digest.short())
    }

    /// Hashes what is here again, and cuts off what no mark vouches for.
    fn verify(&mut self, size: u64) -> Result<()> {
        let length = self.file.metadata().attempt(|| self.attempt())?.len();
        let marks = if length > 0 && fs::exists(&self.marks_path) {
            fs::read_bounded(&self.marks_path, limits::PARTIAL_MARKS_BYTES_MAX).unwrap_or_default()
        } else {
            Vec::new()
        };
        let mut good = 0;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; limits::PIPE_CHUNK_BYTES];
        for mark in marks.chunks_exact(MARK_BYTES) {
            let (offset, expected) = (le(mark), &mark[8..]);
            if offset <= good || offset > length.min(size) {
                break;
            }
            let mut at = good;
            while at < offset {
                let count = usize::try_from(offset - at)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                self.file
                    .read_exact_at(&mut buffer[..count], at)
                    .attempt(|| self.attempt())?;
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
            if hasher.clone().finish().as_bytes().as_slice() != expected {
                break;
            }
            good = offset;
            self.hasher = hasher.clone();
        }
        self.hashed = good;
        self.marked = good;
        if length != good {
            self.file.set_len(good).attempt(|| self.attempt())?;
        }
        if good == 0 {
            fs::remove_file(&self.marks_path)?;
        } else {
            let kept = marks
                .chunks_exact(MARK_BYTES)
                .take_while(|mark| le(mark) <= good)
                .count();
            let file = fs::open(&self.marks_path, File::options().append(true))?;
            file.set_len((kept * MARK_BYTES) as u64)
                .attempt(|| self.attempt())?;
            self.marks = Some(file);
        }
        Ok(())
    }

    /// Writes bytes at their place, and hashes them when it is their turn.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .attempt(|| self.attempt())?;
        if offset == self.hashed {
            self.hasher.update(bytes);
            self.hashed += bytes.len() as u64;
            self.mark()?;
        }
        Ok(())
    }

    /// Hashes bytes that were written before it was their turn, up to `end`.
    pub(crate) fn catch_up(&mut self, end: u64, buffer: &mut [u8]) -> Result<()> {
        while self.hashed < end {
            let count = usize::try_from(end - self.hashed)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.file
                .read_exact_at(&mut buffer[..count], self.hashed)
                .attempt(|| self.attempt())?;
            self.hasher.update(&buffer[..count]);
            self.hashed += count as u64;
            self.mark()?;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        if self.hashed - self.marked < limits::PARTIAL_MARK_EVERY {
            return Ok(());
        }
        self.marked = self.hashed;
        let mut mark = [0; MARK_BYTES];
        mark[..8].copy_from_slice(&self.hashed.to_le_bytes());
        mark[8..].copy_from_slice(self.hasher.clone().finish().as_bytes());
        let marks = match &mut self.marks {
            Some(marks) => marks,
            none => none.insert(fs::open(
                &self.marks_path,
                File::options().append(true).create(true),
            )?),
        };
        marks
            .write_all(&mark)
            .attempt(|| format!("store content {}", self.digest.short()))
    }

    /// The digest of all bytes hashed so far.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Whether enough is here to be worth keeping.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.marked > 0
    }

    /// Leaves what is here for later.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    /// Moves the whole content, which the caller verified, to its place.
    pub(crate) fn place(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path)?;
        self.kept = true;
        fs::remove_file(&self.marks_path)?;
        Ok(())
    }
}

fn le(mark: &[u8]) -> u64 {
    mark[..8].try_into().map_or(u64::MAX, u64::from_le_bytes)
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // What stays goes by its age.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(&self.marks_path);
        }
        lock(&self.used).remove(&self.digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    #[test]
    fn only_what_a_mark_vouches_for_is_taken_up() {
        let root = tempfile::tempdir().unwrap();
        let partials = Partials::open(root.path().join("partial")).unwrap();
        let every = usize::try_from(limits::PARTIAL_MARK_EVERY).unwrap();
        let bytes = content(3 * every + 1000);
        let digest = crate::stream::digest_of(&bytes);
        let size = bytes.len() as u64;
        let file = root.path().join("partial").join(digest.hex());
        let take = || partials.take(digest, size).unwrap();

        let mut partial = take();
        // The third part comes before the second.
        partial.write(&bytes[..every], 0).unwrap();
        partial
            .write(&bytes[2 * every..3 * every], 2 * every as u64)
            .unwrap();
        assert_eq!(partial.hashed(), every as u64);
        partial
            .write(&bytes[every..2 * every], every as u64)
            .unwrap();
        partial.catch_up(3 * every as u64, &mut [0; 4096]).unwrap();
        partial
            .write(&bytes[3 * every..3 * every + 500], 3 * every as u64)
            .unwrap();
        partial.keep();
        // 500 bytes have no mark.
        let partial = take();
        assert_eq!(partial.hashed(), 3 * every as u64);
        partial.keep();
        // A byte of the second part is not what came.
        std::fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .write_all_at(b"xyz", every as u64 + 9)
            .unwrap();
        let partial = take();
        assert_eq!(partial.hashed(), every as u64);
        partial.keep();
        let mut partial = take();
        assert_eq!(partial.hashed(), every as u64);
        partial.write(&bytes[every..], every as u64).unwrap();
        assert_eq!(partial.digest(), digest);
        partial.keep();
        // Shorter than its marks, as after a power cut; and longer than the content can be.
        std::fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(every as u64 + 5)
            .unwrap();
        let partial = partials.take(digest, size).unwrap();
        assert_eq!(partial.hashed(), every as u64);
        partial.keep();
        assert_eq!(partials.take(digest, 10).unwrap().hashed(), 0);
        assert!(!file.exists(), "dropped, nothing stays");
        assert_eq!(fs::list(&root.path().join("partial")).unwrap().len(), 0);
    }

    #[test]
    fn what_nobody_takes_up_goes() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("partial");
        let partials = Partials::open(directory.clone()).unwrap();
        let old = directory.join(crate::stream::digest_of(b"old").hex());
        let new = directory.join(crate::stream::digest_of(b"new").hex());
        for path in [&old, &new, &directory.join("stray")] {
            fs::write(path, b"x").unwrap();
        }
        let then = SystemTime::now() - limits::PARTIAL_AGE_MAX;
        std::fs::File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(then)
            .unwrap();
        partials.sweep().unwrap();
        assert_eq!(fs::list(&directory).unwrap(), [new.file_name().unwrap()]);
    }
}
