//! Changing the configuration file: what is not understood stays as it is, and whoever reads meanwhile sees the
//! old file or the new one.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::read;
use crate::failure::Failure;

/// Changes the file in `directory`, which is made when it is not there.
pub(super) fn change(
    directory: &Path,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Failure::new(format!("create {}: {error}", directory.display())))?;
    let path = resolved(&directory.join("config.json"));
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "write the configuration file {}: {error}",
            path.display()
        ))
    };
    // Two clients that change it at once do so one after the other.
    let lock = File::open(directory).map_err(|error| failed(&error))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(&error))?;
    let mut config = match read(&path)? {
        None => Map::new(),
        Some(text) => serde_json::from_slice(&text).map_err(|error| failed(&error))?,
    };
    change(&mut config);
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    config
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut text, format,
        ))
        .map_err(|error| failed(&error))?;
    replace(&path, &text).map_err(|error| failed(&error))
}

/// The file behind symbolic links, as people who keep their settings elsewhere make them.
fn resolved(path: &Path) -> PathBuf {
    match path.canonicalize() {
        Ok(real) => real,
        // The link may be there and its file not yet.
        Err(_) => match std::fs::read_link(path) {
            Ok(target) => path
                .parent()
                .map_or_else(|| target.clone(), |parent| parent.join(&target)),
            Err(_) => path.to_owned(),
        },
    }
}

/// Puts a new file in the place of the old one, with the old one's owner and mode.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut number = std::process::id();
    let (temporary, mut file) = loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&name);
        match opened {
            Ok(file) => break (PathBuf::from(name), file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                number = number.wrapping_add(1);
            }
            Err(error) => return Err(error),
        }
    };
    let written = file.write_all(text).and_then(|()| {
        if let Ok(old) = std::fs::metadata(path) {
            // Only who may give files away can keep another owner; the file is more important than that.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            file.set_permissions(Permissions::from_mode(old.permissions().mode() & 0o777))?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The error that led here is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
