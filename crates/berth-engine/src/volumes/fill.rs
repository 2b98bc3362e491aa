//! What the image has at a mount point, copied into an empty volume.
//!
//! The copy is made beside the volume's content (`fill.new`), gets its final name when it is complete (`fill`), and
//! moves into the volume entry by entry. A crash before the name leaves nothing that counts; after it, the moving is
//! taken up again before anyone uses the volume. The image's content is hostile: its mount point is looked up with
//! the image's root as root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_image::{ImageId, ImageStore, copy};
use berth_sys::path::Root;
use rustix::fs::{Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::driver::OpenVolume;
use crate::error::EngineError;

const OUTSIDE: [&[u8]; 2] = [b"fill.new", b"fill"];
const INSIDE: [&[u8]; 2] = [b".berth-fill.new", b".berth-fill"];

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The content of an image, mounted nowhere. Made when it is first looked into.
#[derive(Debug)]
pub(super) struct ImageContent<'a> {
    images: &'a ImageStore,
    image: ImageId,
    root: Option<Root>,
}

impl<'a> ImageContent<'a> {
    pub(super) fn new(images: &'a ImageStore, image: ImageId) -> Self {
        Self {
            images,
            image,
            root: None,
        }
    }

    /// The directory at `target`; `None` where the image has none.
    fn directory(&mut self, target: &str, only: bool) -> Result<Option<OwnedFd>, EngineError> {
        let root = match &mut self.root {
            Some(root) => root,
            none => {
                let overlay = self.images.image_rootfs(&self.image)?;
                let mount = overlay.mount_detached().map_err(|e| {
                    let kind = e.kind();
                    EngineError::failed("look into the image", kind, e)
                })?;
                none.insert(Root::from_descriptor(mount))
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match root.open_at(Path::new(target), flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.errno() == Some(Errno::NOTDIR) && only => {
                Err(EngineError::Invalid(format!(
                    "cannot mount volume over existing file, file exists {target}"
                )))
            }
            // Not there, behind a file, or a web of links: then there is nothing to copy.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)
                ) =>
            {
                Ok(None)
            }
            Err(error) => {
                let kind = error.kind();
                Err(EngineError::failed(
                    format!("look at {target} of the image"),
                    kind,
                    error,
                ))
            }
        }
    }

    /// Copies what is at `target` into a directory that nobody else knows yet.
    pub(super) fn copy_into(
        &mut self,
        target: &str,
        over_directory: bool,
        to: impl AsFd,
    ) -> Result<(), EngineError> {
        if let Some(from) = self.directory(target, over_directory)? {
            copy::copy_tree(from, to)?;
        }
        Ok(())
    }

    /// Whether there is a directory at `target`; with `over_directory` anything else there is refused.
    pub(super) fn has(&mut self, target: &str, over_directory: bool) -> Result<bool, EngineError> {
        Ok(self.directory(target, over_directory)?.is_some())
    }

    /// Fills a volume that is empty with what is at `target`.
    pub(super) fn fill(
        &mut self,
        target: &str,
        over_directory: bool,
        volume: &OpenVolume,
    ) -> Result<(), EngineError> {
        finish(volume)?;
        let names = names(volume);
        if !copy::is_empty(&volume.root, |name| {
            volume.staged_inside && names.contains(&name)
        })? {
            return Ok(());
        }
        let Some(from) = self.directory(target, over_directory)? else {
            return Ok(());
        };
        let attempt = || format!("copy {target} of the image into the volume");
        let io = |e: Errno| EngineError::io(attempt(), e.into());
        let [fresh, complete] = names;
        copy::remove(&volume.staging, fresh)?;
        rustix::fs::mkdirat(&volume.staging, fresh, Mode::from_raw_mode(0o700)).map_err(io)?;
        let to =
            rustix::fs::openat(&volume.staging, fresh, DIRECTORY, Mode::empty()).map_err(io)?;
        if let Err(error) = copy::copy_tree(from, to) {
            // What is left would only take room.
            let _ = copy::remove(&volume.staging, fresh);
            return Err(error.into());
        }
        rustix::fs::renameat(&volume.staging, fresh, &volume.staging, complete).map_err(io)?;
        finish(volume)
    }
}

fn names(volume: &OpenVolume) -> [&'static [u8]; 2] {
    if volume.staged_inside {
        INSIDE
    } else {
        OUTSIDE
    }
}

/// Moves a complete copy into the volume, where a crash left one. Idempotent.
pub(super) fn finish(volume: &OpenVolume) -> Result<(), EngineError> {
    let [_, complete] = names(volume);
    let io = |e: Errno| EngineError::io("move what the image has into the volume", e.into());
    let from = match rustix::fs::openat(&volume.staging, complete, DIRECTORY, Mode::empty()) {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    for entry in Dir::read_from(&from).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&from, name, &volume.root, name, flags) {
            // A container that runs with the volume made one of its own meanwhile: that one stays.
            Ok(()) | Err(Errno::EXIST) => {}
            // A file system without that flag: nobody but a container in this very moment could have made it.
            Err(Errno::INVAL) => {
                rustix::fs::renameat(&from, name, &volume.root, name).map_err(io)?;
            }
            Err(error) => return Err(io(error)),
        }
    }
    copy::copy_attributes(&from, &volume.root)?;
    copy::remove(&volume.staging, complete)?;
    Ok(())
}
