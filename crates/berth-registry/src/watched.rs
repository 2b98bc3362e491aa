//! Files that may be replaced while the registry runs: read again when they have changed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use berth_sys::fs;

use crate::error::Result;

type Stamp = Vec<Option<(i64, i64, u64, u64)>>;
type Reader<T> = dyn Fn() -> Result<T> + Send + Sync;

/// A value read from files.
pub(crate) struct Watched<T> {
    files: Vec<PathBuf>,
    read: Box<Reader<T>>,
    known: Mutex<(Stamp, Arc<T>)>,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Watched<T> {
    /// Reads the files for the first time.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let stamp = stamp(&files);
        let value = Arc::new(read()?);
        Ok(Self {
            files,
            read: Box::new(read),
            known: Mutex::new((stamp, value)),
        })
    }

    /// The value of the files as they are. What cannot be read is reported, and the value before stays.
    pub(crate) fn get(&self) -> Arc<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.files);
        if known.0 != now {
            match (self.read)() {
                Ok(value) => known.1 = Arc::new(value),
                Err(error) => {
                    tracing::warn!("{}; what was read before stays in use", error.full_text())
                }
            }
            known.0 = now;
        }
        Arc::clone(&known.1)
    }
}

fn stamp(files: &[PathBuf]) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    files
        .iter()
        .map(|file| {
            let found = fs::metadata(file).ok()?;
            Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
        })
        .collect()
}
