//! The pid file: there as long as the daemon runs.

use anyhow::{Result, bail};
use berth_sys::fs;
use std::path::{Path, PathBuf};

/// A pid file of ours; removed when dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes our pid, unless the daemon of the file's pid still runs.
    pub(super) fn create(path: &Path) -> Result<PidFile> {
        if let Ok(text) = fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && is_daemon(pid)
        {
            bail!(
                "process with PID {pid} of {} is still running",
                path.display()
            );
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::replace(
            path,
            std::process::id().to_string().as_bytes(),
            0o644,
            fs::Durability::Unsynced,
        )?;
        Ok(PidFile {
            path: path.to_owned(),
        })
    }
}

/// Whether this process is a daemon like us, and not a stranger that got the number since.
fn is_daemon(pid: u32) -> bool {
    let command =
        fs::read_bounded(Path::new(&format!("/proc/{pid}/cmdline")), 4096).unwrap_or_default();
    command.split(|byte| *byte == 0).nth(1) == Some(b"daemon")
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that is gone already is what is wanted.
        let _ = fs::remove_file(&self.path);
    }
}
