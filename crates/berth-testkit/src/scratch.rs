//! Directories for one test each, found again after a test runner was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::leak::Scope;

/// Short, since socket paths of 108 bytes are built beneath it (unix(7)).
const PREFIX: &str = "bt";

static NEXT: AtomicU32 = AtomicU32::new(0);

static VOLATILE: OnceLock<PathBuf> = OnceLock::new();

static PLACE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// From now on, new directories are made in `place`; `None` is where they always are. What is swept is always that.
pub fn make_in(place: Option<&Path>) {
    *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place.map(Path::to_owned);
}

/// From now on, `run` beneath each new directory leads into `place`: a tmpfs, as `/run` is where systemd runs.
///
/// The first call decides.
pub fn keep_run_in(place: &Path) {
    VOLATILE.get_or_init(|| place.to_owned());
}

/// A directory that is removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// What `run` leads to, when that is elsewhere.
    run: Option<PathBuf>,
}

impl Scratch {
    /// A new empty directory in `BERTH_TEST_DIR` or the system's directory for temporary files.
    #[track_caller]
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let path = place
            .unwrap_or_else(base)
            .join(format!("{PREFIX}{}-{number}", std::process::id()));
        if let Err(error) = fs::create_dir_all(&path) {
            panic!("create {}: {error}", path.display());
        }
        let run = VOLATILE.get().map(|place| {
            let run = place.join(path.file_name().unwrap_or_default());
            let made = fs::create_dir(&run)
                .and_then(|()| std::os::unix::fs::symlink(&run, path.join("run")));
            if let Err(error) = made {
                panic!("create {}: {error}", run.display());
            }
            run
        });
        Self { path, run }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that goes with it for control groups.
    pub fn scope(&self) -> Scope {
        scope_of(&self.path)
    }

    /// Writes a file beneath it and gives its path.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        if let Err(error) = fs::write(&path, content) {
            panic!("write {}: {error}", path.display());
        }
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
        if let Some(run) = &self.run {
            drop(fs::remove_dir_all(run));
        }
    }
}

/// Cleans up after test processes that are no longer alive; gives what was found.
pub fn sweep() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(base()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|text| text.strip_prefix(PREFIX))
            .and_then(|text| text.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<i32>().ok());
        if owner.is_some_and(|pid| !crate::process::is_alive(pid)) {
            scope_of(&entry.path()).clean();
            // A file beside a directory, which its test should have put inside.
            let _ = fs::remove_file(entry.path());
            found.push(entry.path());
        }
    }
    found
}

fn base() -> PathBuf {
    std::env::var_os("BERTH_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn scope_of(path: &Path) -> Scope {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Scope {
        root: path.to_owned(),
        cgroup_parent: format!("/berth-test-{name}"),
    }
}
