//! Root file systems of containers: directories prepared for an overlay mount, and looking into them.
//!
//! ```text
//! layers/overlay/containers/<container id>/
//! ├── upper/    what the container changed
//! └── work/     overlayfs' own
//! ```
//!
//! Owns: these directories. Does not own: the mount, which exists only in the container's mount namespace,
//! so that there is nothing to undo after a crash.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use berth_sys::fs;
use berth_sys::mount::overlay::Overlay;
use berth_types::ContainerId;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::documents::chain_ids;
use crate::error::{Attempt, ImageError, Result};
use crate::layers::changes::changes;
use crate::layers::view::Merged;
use crate::layers::{Change, copy_attributes};
use crate::store::{ImageId, ImageStore};

impl ImageStore {
    fn container_directory(&self, container: &ContainerId) -> PathBuf {
        self.inner
            .layers
            .directory()
            .join("containers")
            .join(container.as_str())
    }

    /// The layers of an image, topmost first; an empty one where it has none.
    fn layer_directories(&self, image: &ImageId) -> Result<Vec<PathBuf>> {
        let record = self
            .inner
            .records
            .image(image)?
            .ok_or_else(|| ImageError::NoSuchImage {
                reference: image.to_string(),
            })?;
        let mut directories = self
            .inner
            .layers
            .directories(&chain_ids(&record.diff_ids))?;
        if directories.is_empty() {
            directories.push(self.inner.layers.directory().join("empty"));
        }
        Ok(directories)
    }

    /// Prepares the root file system of a container, or gives the one that was prepared before.
    ///
    /// # Errors
    /// When the image is not there or the file system refuses.
    pub fn prepare_rootfs(&self, container: &ContainerId, image: &ImageId) -> Result<Overlay> {
        let mut lower = self.layer_directories(image)?;
        lower.push(self.inner.layers.base());
        let directory = self.container_directory(container);
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        if !fs::exists(&upper) {
            // Two at once would each take what the other makes, and a directory that is mounted already would be put
            // out of its place.
            let _one = self
                .inner
                .making
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if fs::exists(&upper) {
                return Ok(overlay(lower, upper, work));
            }
            fs::create_dir_all_mode(&work, 0o700)?;
            // Complete before it has its name: the root's attributes are the image's.
            let fresh = directory.join("upper.new");
            fs::remove_dir_all(&fresh)?;
            fs::create_dir(&fresh, 0o755)?;
            let (from, to) = (fs::open_directory(&lower[0])?, fs::open_directory(&fresh)?);
            copy_attributes(&from, &to, b"/")?;
            fs::rename(&fresh, &upper)?;
        }
        Ok(overlay(lower, upper, work))
    }

    /// The image alone, for reading.
    ///
    /// # Errors
    /// When the image is not there.
    pub fn image_rootfs(&self, image: &ImageId) -> Result<Overlay> {
        Ok(Overlay {
            lower: self.layer_directories(image)?,
            read_only: true,
            ..Overlay::default()
        })
    }

    /// In what a container differs from its image, in the order of the paths. `mount_points` are paths, without
    /// a slash in front, that are made only so that something can be mounted there.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn rootfs_changes(
        &self,
        container: &ContainerId,
        image: &ImageId,
        mount_points: &BTreeSet<Vec<u8>>,
    ) -> Result<Vec<Change>> {
        let rootfs = self.prepare_rootfs(container, image)?;
        let upper = rootfs_upper(&rootfs)?;
        let layers = self.layer_directories(image)?;
        let view = Merged::root(layers.iter().map(PathBuf::as_path))?;
        changes(&upper, Some(view), mount_points)
    }

    /// Removes what a container changed; nothing to remove is fine. Returns at once, the space follows.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_rootfs(&self, container: &ContainerId) -> Result<()> {
        self.inner
            .layers
            .trash
            .throw(&self.container_directory(container))?;
        Ok(())
    }

    /// Containers that have a root file system here, so that the engine can remove what it does not know.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn prepared_rootfs(&self) -> Result<Vec<ContainerId>> {
        let directory = self.inner.layers.directory().join("containers");
        Ok(fs::list(&directory)?
            .iter()
            .filter_map(|name| ContainerId::parse(name.to_str()?).ok())
            .collect())
    }

    /// Whether the directories of a container's root file system are whole.
    #[must_use]
    pub fn has_rootfs(&self, container: &ContainerId) -> bool {
        let directory = self.container_directory(container);
        ["upper", "work"].iter().all(|name| {
            fs::symlink_metadata(&directory.join(name)).is_ok_and(|metadata| metadata.is_dir())
        })
    }

    /// Bytes of the files that a container changed or added (`SizeRw`).
    ///
    /// # Errors
    /// When there is no such container, or its files cannot be read.
    pub fn rootfs_usage(&self, container: &ContainerId) -> Result<u64> {
        tree_size(&self.container_directory(container).join("upper"))
    }

    /// Bytes of an image's files; with [`Self::rootfs_usage`] it makes `SizeRootFs`.
    ///
    /// # Errors
    /// When the image is not there.
    pub fn image_size(&self, image: &ImageId) -> Result<u64> {
        self.inner
            .records
            .image(image)?
            .map(|record| record.size)
            .ok_or_else(|| ImageError::NoSuchImage {
                reference: image.to_string(),
            })
    }

    /// Removes a directory of the data root off the path of an answer; one that is not there is fine.
    ///
    /// # Errors
    /// When it cannot be renamed into the trash.
    pub fn discard(&self, directory: &Path) -> Result<()> {
        self.inner.layers.trash.throw(directory).map(drop)
    }

    /// Waits until everything that was removed is off the disk.
    pub fn wait_for_trash(&self) {
        self.inner.layers.trash.wait();
    }
}

fn overlay(lower: Vec<PathBuf>, upper: PathBuf, work: PathBuf) -> Overlay {
    Overlay {
        lower,
        upper: Some(upper),
        work: Some(work),
        read_only: false,
        // What a container changes must stay readable without overlayfs (diff, copy, commit), whatever the kernel's
        // defaults are.
        options: [
            ("index", "off"),
            ("redirect_dir", "off"),
            ("metacopy", "off"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec(),
    }
}

/// The upper directory of a root file system, for reading while its container may go on writing.
///
/// # Errors
/// When it has none, or it cannot be opened.
pub fn rootfs_upper(rootfs: &Overlay) -> Result<OwnedFd> {
    let upper = rootfs
        .upper
        .as_deref()
        .ok_or_else(|| ImageError::NoSuchImage {
            reference: "upper directory of a read-only root".into(),
        })?;
    crate::assemble::open_upper(upper)
}

/// The content of a regular file in a root file system, links followed with it as root; `None` when there
/// is no such regular file. For `/etc/passwd` and the like: content and path are hostile.
///
/// # Errors
/// When it is larger than `limit` bytes, or cannot be read.
pub fn rootfs_file(rootfs: &Overlay, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let layers = rootfs
        .upper
        .iter()
        .chain(&rootfs.lower)
        .map(PathBuf::as_path);
    Merged::root(layers)?.read(path.as_bytes(), limit)
}

/// Bytes of all files beneath a directory, each once however many names it has, without directories.
///
/// # Errors
/// When the directory itself cannot be read; what goes while this runs is left out.
pub fn tree_size(path: &Path) -> Result<u64> {
    let attempt = || format!("measure {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut seen = HashSet::new();
    let mut total = 0;
    // Paths, not descriptors: a container decides how deep and wide this is.
    let mut pending: Vec<PathBuf> = vec![PathBuf::from(".")];
    let root: OwnedFd = fs::open_directory(path)?;
    while let Some(relative) = pending.pop() {
        let directory = match rustix::fs::openat2(
            &root,
            &relative,
            flags,
            Mode::empty(),
            rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS,
        ) {
            Ok(directory) => directory,
            // A running container removes and replaces things meanwhile.
            Err(_) => continue,
        };
        for entry in rustix::fs::Dir::read_from(&directory).attempt(attempt)? {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                use std::os::unix::ffi::OsStrExt;
                pending.push(relative.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            } else if stat.st_nlink == 1 || seen.insert(stat.st_ino) {
                total += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
    }
    Ok(total)
}
