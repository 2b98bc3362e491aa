//! Blobs on their way in, kept on disk so that they outlive the process.
//!
//! ```text
//! uploads/<uuid>/repository   the name of the repository it was begun in
//! uploads/<uuid>/data         what has come so far
//! ```
//!
//! Owns: this directory. Invariants: at most one request writes to an upload at a time; the running hash is that of
//! the bytes in the file, or is not there and is made anew from them. What has come survives the end of the process;
//! a power cut may lose it, which the digest at the end tells.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_sys::fs;
use berth_types::Digest;
use bytes::Bytes;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::OwnedMutexGuard;

use crate::digest::ContentDigest;
use crate::error::{RegistryError, Result};
use crate::limits;
use crate::name::{NAME_LENGTH_MAX, Repository};
use crate::records::now;

/// All uploads that are open.
#[derive(Debug)]
pub(crate) struct Uploads {
    directory: PathBuf,
    open: Mutex<HashMap<String, Arc<Upload>>>,
}

/// One upload.
#[derive(Debug)]
pub(crate) struct Upload {
    id: String,
    repository: Repository,
    directory: PathBuf,
    size: AtomicU64,
    touched: AtomicI64,
    ended: AtomicBool,
    /// Whoever has it writes. The hash of what has come, when it is known.
    turn: Arc<tokio::sync::Mutex<Option<Sha256>>>,
}

impl Upload {
    /// Its id: a UUID.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Bytes that have come.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

/// Why an upload cannot be written to.
#[derive(Debug)]
pub(crate) enum Busy {
    /// It has ended meanwhile.
    Ended,
    /// Another request is writing to it.
    Taken,
}

impl Uploads {
    /// Opens the directory beneath `root`, taking up what an earlier process left.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let directory = root.join("uploads");
        fs::create_dir_all_mode(&directory, 0o700)?;
        let mut open = HashMap::new();
        for name in fs::list(&directory)? {
            let path = directory.join(&name);
            match take_up(&path, &name) {
                Some(upload) if open.len() < limits::UPLOADS_OPEN_MAX => {
                    open.insert(upload.id.clone(), Arc::new(upload));
                }
                // Begun and not even described, or no upload at all.
                _ => fs::remove_dir_all(&path)?,
            }
        }
        Ok(Self {
            directory,
            open: Mutex::new(open),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Upload>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload; `None` when too many are open.
    pub(crate) fn begin(&self, repository: &Repository) -> Result<Option<Arc<Upload>>> {
        if self.lock().len() >= limits::UPLOADS_OPEN_MAX {
            return Ok(None);
        }
        let id = uuid()?;
        let directory = self.directory.join(&id);
        fs::create_dir(&directory, 0o700)?;
        fs::write(&directory.join("data"), b"")?;
        fs::write(
            &directory.join("repository"),
            repository.as_str().as_bytes(),
        )?;
        let upload = Arc::new(Upload {
            id: id.clone(),
            repository: repository.clone(),
            directory,
            size: AtomicU64::new(0),
            touched: AtomicI64::new(now()),
            ended: AtomicBool::new(false),
            turn: Arc::new(tokio::sync::Mutex::new(Some(Sha256::new()))),
        });
        self.lock().insert(id, Arc::clone(&upload));
        Ok(Some(upload))
    }

    /// Finds an upload of this repository.
    pub(crate) fn find(&self, repository: &Repository, id: &str) -> Option<Arc<Upload>> {
        let found = self.lock().get(id).cloned()?;
        (found.repository == *repository && !found.ended.load(Ordering::Acquire)).then_some(found)
    }

    /// Ends an upload; what has come goes unless it was taken before.
    pub(crate) fn end(&self, upload: &Upload) -> Result<()> {
        upload.ended.store(true, Ordering::Release);
        self.lock().remove(&upload.id);
        fs::remove_dir_all(&upload.directory)?;
        Ok(())
    }

    /// Ends the uploads that nobody wrote to since `before`. Gives how many.
    pub(crate) fn expire(&self, before: i64) -> Result<usize> {
        let old: Vec<Arc<Upload>> = self
            .lock()
            .values()
            .filter(|upload| upload.touched.load(Ordering::Relaxed) < before)
            .cloned()
            .collect();
        let mut ended = 0;
        for upload in old {
            // Somebody may be writing just now.
            if let Ok(_turn) = upload.turn.try_lock() {
                self.end(&upload)?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}

fn take_up(path: &Path, name: &std::ffi::OsStr) -> Option<Upload> {
    let id = name.to_str().filter(|name| is_uuid(name))?;
    let repository = fs::read_bounded(&path.join("repository"), NAME_LENGTH_MAX as u64).ok()?;
    let repository = Repository::parse(std::str::from_utf8(&repository).ok()?)?;
    let data = fs::symlink_metadata(&path.join("data")).ok()?;
    let touched = data
        .modified()
        .ok()?
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    data.is_file().then(|| Upload {
        id: id.to_owned(),
        repository,
        directory: path.to_owned(),
        size: AtomicU64::new(data.len()),
        touched: AtomicI64::new(i64::try_from(touched.as_secs()).unwrap_or(0)),
        ended: AtomicBool::new(false),
        turn: Arc::default(),
    })
}

/// Takes the turn to write to an upload.
///
/// # Errors
/// When it has ended, or somebody else keeps writing.
pub(crate) async fn turn(upload: &Arc<Upload>) -> std::result::Result<Turn, Busy> {
    let waiting = Arc::clone(&upload.turn).lock_owned();
    let Ok(guard) = tokio::time::timeout(limits::UPLOAD_TURN, waiting).await else {
        return Err(Busy::Taken);
    };
    if upload.ended.load(Ordering::Acquire) {
        return Err(Busy::Ended);
    }
    Ok(Turn {
        guard,
        upload: Arc::clone(upload),
    })
}

/// The right to write to an upload.
#[derive(Debug)]
pub(crate) struct Turn {
    guard: OwnedMutexGuard<Option<Sha256>>,
    upload: Arc<Upload>,
}

impl Turn {
    /// Bytes that have come.
    pub(crate) fn size(&self) -> u64 {
        self.upload.size()
    }

    /// Opens the file at its end. What came before is hashed again when an earlier request ended badly. Blocks.
    pub(crate) fn open(mut self) -> Result<Sink> {
        let path = self.upload.data();
        let mut file = fs::open(&path, File::options().read(true).write(true))?;
        let attempt = |error| RegistryError::io(format!("take up {}", path.display()), error);
        let (hasher, size) = match self.guard.take() {
            Some(hasher) => (hasher, self.upload.size()),
            None => hash::<Sha256>(&mut file).map_err(attempt)?,
        };
        file.seek(SeekFrom::Start(size)).map_err(attempt)?;
        Ok(Sink {
            turn: self,
            file,
            hasher: Some(hasher),
            size,
        })
    }
}

/// An upload being written to. However it is dropped, the upload can be taken up again.
#[derive(Debug)]
pub(crate) struct Sink {
    turn: Turn,
    file: File,
    /// None once a write failed.
    hasher: Option<Sha256>,
    size: u64,
}

impl Sink {
    /// Bytes that have come.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The upload.
    pub(crate) fn upload(&self) -> &Arc<Upload> {
        &self.turn.upload
    }

    /// Appends. Blocks.
    pub(crate) fn write(&mut self, chunks: &[Bytes]) -> Result<()> {
        for chunk in chunks {
            if let Err(error) = self.file.write_all(chunk) {
                self.hasher = None;
                let path = self.turn.upload.data();
                return Err(RegistryError::io(
                    format!("write {}", path.display()),
                    error,
                ));
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(chunk);
            }
            self.size += chunk.len() as u64;
        }
        self.turn.upload.size.store(self.size, Ordering::Release);
        self.turn.upload.touched.store(now(), Ordering::Relaxed);
        Ok(())
    }

    /// Whether what has come is what `expected` names; then its sha256 and the file, else what it is. Blocks.
    pub(crate) fn verify(
        &mut self,
        expected: &ContentDigest,
    ) -> Result<std::result::Result<(Digest, PathBuf), ContentDigest>> {
        let path = self.turn.upload.data();
        let attempt = |error| RegistryError::io(format!("read {}", path.display()), error);
        let hasher = match self.hasher.take() {
            Some(hasher) => hasher,
            None => hash::<Sha256>(&mut self.file).map_err(attempt)?.0,
        };
        let content = Digest::from_bytes(hasher.finalize().into());
        let actual = match expected {
            ContentDigest::Sha256(_) => ContentDigest::Sha256(content),
            // Rare, so that nobody else pays for it.
            ContentDigest::Sha512(_) => {
                let (hasher, _) = hash::<Sha512>(&mut self.file).map_err(attempt)?;
                ContentDigest::Sha512(hasher.finalize().into())
            }
        };
        Ok(if actual == *expected {
            Ok((content, path))
        } else {
            Err(actual)
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let size = match &self.hasher {
            Some(_) => self.size,
            None => self.file.metadata().map_or(self.size, |data| data.len()),
        };
        self.turn.upload.size.store(size, Ordering::Release);
        *self.turn.guard = self.hasher.take();
    }
}

/// The hash of a whole file, and its size.
fn hash<H: sha2::Digest>(file: &mut File) -> std::io::Result<(H, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = H::new();
    let mut size = 0;
    let mut buffer = vec![0; limits::CHUNK_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hasher, size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn uuid() -> Result<String> {
    let mut bytes = random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-"))
}

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let count = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| RegistryError::io("get random bytes", error))?;
    // Up to 256 bytes come whole.
    debug_assert_eq!(count, N);
    Ok(bytes)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| {
            if matches!(place, 8 | 13 | 18 | 23) {
                byte == b'-'
            } else {
                byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sink(upload: &Arc<Upload>) -> Sink {
        turn(upload).await.unwrap().open().unwrap()
    }

    #[tokio::test]
    async fn an_upload_goes_on_after_a_restart_and_ends_verified() {
        let root = tempfile::tempdir().unwrap();
        let repository = Repository::parse("a/b").unwrap();
        let id = {
            let uploads = Uploads::open(root.path()).unwrap();
            let upload = uploads.begin(&repository).unwrap().unwrap();
            assert!(is_uuid(upload.id()));
            sink(&upload)
                .await
                .write(&[Bytes::from_static(b"one "), Bytes::from_static(b"two ")])
                .unwrap();
            sink(&upload)
                .await
                .write(&[Bytes::from_static(b"three")])
                .unwrap();
            upload.id().to_owned()
        };
        fs::create_dir(&root.path().join("uploads/strange"), 0o700).unwrap();
        let uploads = Uploads::open(root.path()).unwrap();
        assert!(!fs::exists(&root.path().join("uploads/strange")));
        assert!(
            uploads
                .find(&Repository::parse("a/c").unwrap(), &id)
                .is_none()
        );
        let upload = uploads.find(&repository, &id).unwrap();
        assert_eq!(upload.size(), 13);
        for algorithm in [
            crate::digest::Algorithm::Sha512,
            crate::digest::Algorithm::Sha256,
        ] {
            let good = ContentDigest::of(algorithm, b"one two three");
            let bad = ContentDigest::of(algorithm, b"one two");
            assert_eq!(sink(&upload).await.verify(&bad).unwrap(), Err(good));
            assert!(sink(&upload).await.verify(&good).unwrap().is_ok());
        }
        assert_eq!(uploads.expire(now() + 5).unwrap(), 1);
        assert!(uploads.find(&repository, &id).is_none());
        assert!(matches!(turn(&upload).await, Err(Busy::Ended)));
        assert!(fs::list(&root.path().join("uploads")).unwrap().is_empty());
    }
}
