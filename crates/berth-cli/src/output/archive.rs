//! Archives on their way out: to a file that is whole or not there, or to standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_api::ByteStream;

use crate::failure::Failure;
use crate::options::environment::reason;
use crate::session::{Session, output_failure};
use crate::terminal;

/// Refuses output that no archive can go to, in docker's words. `what` is said of it: `save image`.
///
/// # Errors
/// When it is a terminal, its directory is not there, or something stands there that is no file.
pub(crate) fn check(output: &str, what: &str) -> Result<(), Failure> {
    if output.is_empty() {
        if terminal::output_is_terminal() {
            let verb = what.split(' ').next().unwrap_or_default();
            return Err(Failure::new(format!(
                "cowardly refusing to {verb} to a terminal. Use the -o flag or redirect"
            )));
        }
        return Ok(());
    }
    let refused = |reason: String| Err(Failure::new(format!("failed to {what}: {reason}")));
    let path = Path::new(output);
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        return refused(format!(
            "invalid output path: stat {}: no such file or directory",
            parent.display()
        ));
    }
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(());
    };
    let kind = metadata.file_type();
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "directory",
        _ if kind.is_char_device() => "character device file",
        _ if kind.is_block_device() => "block device file",
        _ if kind.is_fifo() => "named pipe (FIFO)",
        _ => "socket",
    };
    refused(format!("cannot write to a {what}"))
}

/// Writes a stream to its end: to the file `output`, which appears only when it is whole, or to standard output.
///
/// # Errors
/// When the engine cuts it off, or it cannot be written. The file is then as it was.
pub(crate) async fn write(
    session: &Session,
    stream: &mut ByteStream,
    output: &str,
) -> Result<(), Failure> {
    if output.is_empty() {
        let mut out = io::stdout().lock();
        while let Some(chunk) = stream
            .next()
            .await
            .map_err(|error| session.failure(error))?
        {
            out.write_all(&chunk).map_err(output_failure)?;
        }
        return out.flush().map_err(output_failure);
    }
    let path = Path::new(output);
    let failed = |error: io::Error| Failure::new(format!("write {output}: {}", reason(&error)));
    let mut fresh = Fresh::beside(path).map_err(failed)?;
    while let Some(chunk) = stream
        .next()
        .await
        .map_err(|error| session.failure(error))?
    {
        fresh.file.write_all(&chunk).map_err(failed)?;
    }
    fresh.keep(path).map_err(failed)
}

/// A file that goes away again unless it is kept.
struct Fresh {
    file: File,
    path: Option<PathBuf>,
}

impl Fresh {
    fn beside(target: &Path) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default();
        let mut number = 0_u32;
        loop {
            let mut fresh = std::ffi::OsString::from(".");
            fresh.push(name);
            fresh.push(format!(".{}.{number}.new", std::process::id()));
            let path = target.with_file_name(fresh);
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path: Some(path),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn keep(mut self, target: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            std::fs::rename(path, target)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // Nothing more can be done about a file that cannot be removed.
            let _ = std::fs::remove_file(path);
        }
    }
}
