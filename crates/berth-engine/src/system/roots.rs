//! The engine's two directories, and the locks that keep a second engine out of them.

use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::config::Config;
use crate::error::EngineError;

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

fn lock(root: &Path, what: &str) -> Result<File, EngineError> {
    let path = root.join("lock");
    let file = berth_sys::fs::open(
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
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(EngineError::Conflict(format!(
            "the {what} {} is in use by another daemon: stop it, or choose another directory",
            root.display()
        ))),
        Err(error) => Err(EngineError::io(
            format!("lock the {what} {}", root.display()),
            error.into(),
        )),
    }
}
