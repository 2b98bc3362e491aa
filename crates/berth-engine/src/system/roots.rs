//! The engine's two directories, and the locks that keep a second engine out of them.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::config::Config;
use crate::error::EngineError;
use crate::limits;

/// Both roots, locked. The locks end with the process, however it ends.
#[derive(Debug)]
pub(crate) struct Roots {
    _data: File,
    _exec: File,
}

impl Roots {
    /// Makes the directories and locks them.
    ///
    /// # Errors
    /// `Conflict` when another engine uses one of them.
    pub(crate) fn take(config: &Config) -> Result<Self, EngineError> {
        let prepare = |path: &Path, mode: u32| {
            berth_sys::fs::create_dir_all_mode(path, mode).map_err(|e| {
                let kind = e.kind();
                EngineError::failed(format!("make the directory {}", path.display()), kind, e)
            })
        };
        prepare(&config.data_root, 0o711)?;
        prepare(&config.exec_root, 0o711)?;
        let data = lock(&config.data_root, "data root")?;
        let exec = lock(&config.exec_root, "exec root")?;
        for (root, name, mode) in [
            (&config.data_root, "containers", 0o710),
            (&config.exec_root, "containers", 0o711),
            (&config.exec_root, "runtime", 0o700),
            (&config.exec_root, "seccomp", 0o700),
        ] {
            prepare(&root.join(name), mode)?;
        }
        Ok(Self {
            _data: data,
            _exec: exec,
        })
    }
}

/// Locks a root. The lock of a daemon that was killed lives on for a moment where a program was just about to be executed
/// for it: that is waited for.
fn lock(root: &Path, what: &str) -> Result<File, EngineError> {
    let path = root.join("lock");
    let mut file = berth_sys::fs::open(
        &path,
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false),
    )
    .map_err(|e| {
        let kind = e.kind();
        EngineError::failed(format!("open the lock of the {what}"), kind, e)
    })?;
    let failed = |error: std::io::Error| {
        EngineError::io(format!("lock the {what} {}", root.display()), error)
    };
    let deadline = Instant::now() + limits::LOCK_LEFT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline && is_left_over(&file) => {
                std::thread::sleep(limits::LOCK_LOOK);
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(EngineError::Conflict(format!(
                    "the {what} {} is in use by another daemon: stop it, or choose another directory",
                    root.display()
                )));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    // Only for whoever comes after a death of ours; a full disk is no reason not to start.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

/// Whether the daemon that took a lock has ended.
fn is_left_over(lock: &File) -> bool {
    let mut text = [0; 16];
    let length = lock.read_at(&mut text, 0).unwrap_or(0);
    let pid = std::str::from_utf8(&text[..length]).map(str::parse::<i32>);
    let Ok(Ok(pid)) = pid else {
        return false;
    };
    match berth_sys::process::open_pidfd(pid) {
        Ok(pidfd) => berth_sys::process::has_ended(pidfd).unwrap_or(false),
        Err(error) => error.errno() == Some(Errno::SRCH),
    }
}
