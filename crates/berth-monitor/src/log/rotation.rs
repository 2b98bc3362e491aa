//! Rotation of a log's files: by size, with the older ones compressed by a child process.
//!
//! ```text
//! log ─▶ log.1 ─▶ log.2 ─▶ … ─▶ gone      a plain log.1 becomes log.1.gz when its compression is done
//! ```

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use super::compress;
use super::files::rotated;
use super::writer::LogWriter;

/// A compression in progress.
pub(super) struct Running {
    pub(super) pid: u32,
    /// The number of the file that is being compressed; grows when files are rotated meanwhile.
    index: u32,
}

impl LogWriter {
    /// Gives up a compression that is running: the next writer of this log starts it anew.
    pub(super) fn stop_compression(&mut self) {
        if let Some(running) = self.running.take() {
            // Not reaped yet, so the number is still its own.
            let _ = berth_sys::process::send_signal_to(running.pid.cast_signed(), 9);
            let _ = berth_sys::fs::remove_file(&self.compressed_name());
        }
    }

    /// Tells that a child process has ended. True when it was ours.
    pub(crate) fn child_ended(&mut self, pid: u32, success: bool) -> bool {
        match self.running.take_if(|running| running.pid == pid) {
            Some(running) => {
                self.finish_compression(running.index, success);
                true
            }
            None => false,
        }
    }

    /// Moves every file one number up and begins a new current one. When that fails the old one is written on.
    pub(super) fn rotate(&mut self) {
        let path = &self.settings.path;
        let oldest = self.settings.max_files - 1;
        let shift = || -> berth_sys::Result<()> {
            if oldest == 0 {
                return berth_sys::fs::remove_file(path);
            }
            for compressed in [false, true] {
                berth_sys::fs::remove_file(&rotated(path, oldest, compressed))?;
            }
            for index in (1..oldest).rev() {
                for compressed in [false, true] {
                    match berth_sys::fs::rename(
                        &rotated(path, index, compressed),
                        &rotated(path, index + 1, compressed),
                    ) {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
            }
            berth_sys::fs::rename(path, &rotated(path, 1, false))
        };
        if shift().is_err() {
            return;
        }
        if let Ok(file) = self.open_file() {
            self.file = Some(file);
            self.size = 0;
        }
        if let Some(running) = &mut self.running {
            running.index += 1;
        }
        self.compress_next();
    }

    fn compressed_name(&self) -> std::path::PathBuf {
        let mut name = self.settings.path.as_os_str().to_owned();
        name.push(".compressing");
        name.into()
    }

    /// Starts on the first file that is not compressed, when nothing is running.
    pub(super) fn compress_next(&mut self) {
        if !self.settings.compress || self.running.is_some() {
            return;
        }
        for index in 1..self.settings.max_files {
            let plain = rotated(&self.settings.path, index, false);
            if !berth_sys::fs::exists(&plain) {
                if berth_sys::fs::exists(&rotated(&self.settings.path, index, true)) {
                    continue;
                }
                return;
            }
            let Ok(source) = berth_sys::fs::open(&plain, OpenOptions::new().read(true)) else {
                return;
            };
            // A child of a monitor that was killed may still be writing to a file of this name: not to ours.
            let _ = berth_sys::fs::remove_file(&self.compressed_name());
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o640);
            let Ok(target) = berth_sys::fs::open(&self.compressed_name(), &options) else {
                return;
            };
            match compress::start(self.how, source, target) {
                Ok(Some(pid)) => self.running = Some(Running { pid, index }),
                Ok(None) => self.finish_compression(index, true),
                // The plain file stays; the next rotation tries again.
                Err(_) => drop(berth_sys::fs::remove_file(&self.compressed_name())),
            }
            return;
        }
    }

    fn finish_compression(&mut self, index: u32, success: bool) {
        let temporary = self.compressed_name();
        let plain = rotated(&self.settings.path, index, false);
        let placed = success
            && index < self.settings.max_files
            && berth_sys::fs::rename(&temporary, &rotated(&self.settings.path, index, true))
                .is_ok();
        if placed {
            let _ = berth_sys::fs::remove_file(&plain);
            self.compress_next();
        } else {
            let _ = berth_sys::fs::remove_file(&temporary);
        }
    }
}
