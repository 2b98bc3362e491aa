//! Removing directories off the path of an answer.
//!
//! A directory is renamed into `trash/`, which is one call, and deleted by a thread that lives only while
//! there is something to delete. What a crash leaves in `trash/` goes at the next open.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use berth_sys::fs;

use crate::error::Result;
use crate::layers::tree::remove_recursively;

/// Where directories wait for their deletion.
#[derive(Debug)]
pub(crate) struct Trash {
    directory: PathBuf,
    next: AtomicU64,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    working: bool,
    /// Something came in since the worker last looked.
    more: bool,
}

impl Trash {
    /// Opens the trash and begins to delete what an earlier process left.
    pub(crate) fn open(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all_mode(&directory, 0o700)?;
        // Names of an earlier process must not be met again.
        let next = fs::list(&directory)?
            .iter()
            .filter_map(|name| name.to_str()?.parse::<u64>().ok())
            .max()
            .map_or(0, |last| last.wrapping_add(1));
        let trash = Self {
            directory,
            next: AtomicU64::new(next),
            state: Arc::default(),
        };
        trash.empty();
        Ok(trash)
    }

    /// Throws away a directory of the same file system; one that is not there is fine.
    pub(crate) fn throw(&self, path: &Path) -> Result<bool> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match fs::rename(path, &self.directory.join(number.to_string())) {
            Ok(()) => {
                self.empty();
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn empty(&self) {
        {
            let mut state = lock(&self.state.0);
            state.more = true;
            if state.working {
                return;
            }
            state.working = true;
        }
        let directory = self.directory.clone();
        let shared = self.state.clone();
        let worker = std::thread::Builder::new().name("trash".into());
        let spawned = worker.spawn(move || {
            loop {
                lock(&shared.0).more = false;
                // What cannot be deleted now is tried again at the next open.
                if let Err(error) = delete_all(&directory) {
                    tracing::debug!(%error, "trash stays");
                }
                let mut state = lock(&shared.0);
                if !state.more {
                    state.working = false;
                    shared.1.notify_all();
                    return;
                }
            }
        });
        if spawned.is_err() {
            lock(&self.state.0).working = false;
        }
    }

    /// Waits until everything is deleted that was thrown away before.
    pub(crate) fn wait(&self) {
        let mut state = lock(&self.state.0);
        while state.working {
            state = self
                .state
                .1
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Containers made what is in here, as deep and as wide as they liked.
fn delete_all(directory: &Path) -> Result<()> {
    let base = fs::open_directory(directory)?;
    let mut outcome = Ok(());
    for name in fs::list(directory)? {
        if let Err(error) = remove_recursively(&base, name.as_bytes()) {
            outcome = Err(error);
        }
    }
    outcome
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
