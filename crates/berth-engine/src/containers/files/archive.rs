//! Copies between a container and its user.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use berth_image::archive::ArchiveWriter;
use berth_image::files::walk::{Item, open_in_root, open_root};
use berth_image::files::{ExtractOptions, Extracted, PackOptions, extract, pack, pack::pack_one};
use berth_types::Timestamp;
use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::path::{Asked, followed};
use super::{Opened, failed, path_error, read_only};
use crate::containers::accounts::AccountFiles;
use crate::containers::view::ContainerView;
use crate::containers::{Containers, announce, defect};
use crate::error::EngineError;
use crate::limits;

/// What stands at a path of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveStat {
    /// Its last name.
    pub name: String,
    /// Its size in bytes.
    pub size: i64,
    /// Type and permissions as the kernel has them.
    pub mode: u32,
    /// When it was changed.
    pub modified: Timestamp,
    /// Where a symbolic link leads in the container; empty for everything else.
    pub link_target: String,
}

/// How an archive is put into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// A directory does not take the place of anything else, nor the reverse.
    pub keep_kinds: bool,
    /// Everything belongs to the user that the container runs as.
    pub own: bool,
}

/// A path of a container, ready to be written as an archive.
#[derive(Debug)]
pub struct ArchiveOut {
    /// What it is.
    pub stat: ArchiveStat,
    parent: OwnedFd,
    last: String,
    directory: Option<OwnedFd>,
    held: Stat,
    /// Keeps the mounts.
    _view: Opened,
}

impl ArchiveOut {
    /// Writes it as an archive. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read, or the target takes no more.
    pub fn write_to<W: Write>(&self, target: W) -> Result<W, EngineError> {
        let mut archive = ArchiveWriter::new(target);
        let name = self.stat.name.as_bytes();
        match &self.directory {
            Some(directory) => {
                let prefix = match name {
                    b"/" => b"/".to_vec(),
                    name => [name, b"/"].concat(),
                };
                let options = PackOptions {
                    prefix,
                    with_root: true,
                };
                pack(directory, &mut archive, &options)?;
            }
            None => {
                let item = Item {
                    parent: self.parent.as_fd(),
                    name: self.last.as_bytes(),
                    path: name,
                    stat: self.held,
                };
                pack_one(&item, &mut archive, name)?;
            }
        }
        archive
            .finish()
            .map_err(|error| EngineError::io("write the archive", error))
    }
}

/// Looks a path up in a view.
fn look(view: Opened, text: &str, container: &str) -> Result<ArchiveOut, EngineError> {
    let asked = Asked::parse(text);
    let root = view.root();
    let refused = |error| path_error(error, text, container);
    let (parent_path, last) = asked.split();
    let parent = root.resolve(parent_path).map_err(refused)?;
    let held = match asked.is_directory {
        true => root.open_at(
            Path::new(&asked.path),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        ),
        false => root.resolve_no_follow(Path::new(&asked.path)),
    }
    .map_err(refused)?;
    let stat = rustix::fs::fstat(&held)
        .map_err(|error| EngineError::io(format!("look at {text}"), error.into()))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let link_target = match kind {
        FileType::Symlink => followed(root, &asked.path),
        _ => String::new(),
    };
    let directory = match kind {
        FileType::Directory => Some(open_root(&held)?),
        _ => None,
    };
    let nanoseconds = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Ok(ArchiveOut {
        stat: ArchiveStat {
            name: asked.name.clone(),
            size: stat.st_size,
            mode: stat.st_mode,
            modified: Timestamp::from_unix_nanoseconds(nanoseconds),
            link_target,
        },
        parent,
        last: last.to_owned(),
        directory,
        held: stat,
        _view: view,
    })
}

/// Writes an archive into a directory of a container.
fn put(
    view: &Opened,
    container: &ContainerView,
    shown: &str,
    text: &str,
    options: &PutOptions,
    archive: impl Read + Send,
) -> Result<Extracted, EngineError> {
    let asked = Asked::parse(text);
    let root = view.root();
    let target = root
        .resolve(Path::new(&asked.path))
        .map_err(|error| path_error(error, text, shown))?;
    if !berth_sys::path::file_type(&target).is_ok_and(|kind| kind == FileType::Directory) {
        return Err(EngineError::Invalid(
            "extraction point is not a directory".to_owned(),
        ));
    }
    let resolved = followed(root, &asked.path);
    let on = container
        .spec
        .mounts
        .iter()
        .filter(|point| Path::new(&resolved).starts_with(&point.target))
        .max_by_key(|point| point.target.len());
    match on {
        Some(point) if !point.writable => {
            return Err(EngineError::Forbidden(
                "mounted volume is marked read-only".to_owned(),
            ));
        }
        None if container.spec.host.readonly_rootfs => {
            return Err(EngineError::Forbidden(
                "container rootfs is marked read-only".to_owned(),
            ));
        }
        _ => {}
    }
    let user = &container.spec.config.user;
    let owner = match options.own && !user.is_empty() {
        true => {
            let read = |path: &str| read_file(view, path);
            let files = AccountFiles {
                passwd: read("/etc/passwd")?,
                group: read("/etc/group")?,
            };
            let account = files
                .resolve(user, &[])
                .map_err(|error| EngineError::Invalid(error.to_string()))?;
            Some((account.uid, account.gid))
        }
        false => None,
    };
    let options = ExtractOptions {
        keep_kinds: options.keep_kinds,
        owner,
        with_root: false,
    };
    extract(root, Path::new(&resolved), archive, options)
        .map_err(|error| read_only(error.into(), on.is_some()))
}

/// A small file of a container; empty when there is none.
fn read_file(view: &Opened, path: &str) -> Result<Vec<u8>, EngineError> {
    let Ok(Some(file)) = open_in_root(view.root(), Path::new(path)) else {
        return Ok(Vec::new());
    };
    berth_sys::fs::read_bounded_from(&file, limits::ACCOUNT_FILE, path)
        .map_err(|error| failed(format!("read {path} of the container"), error))
}

impl Containers {
    /// Opens a path of a container for a copy out of it.
    ///
    /// # Errors
    /// `NotFound` when there is no such path.
    pub async fn archive(&self, reference: &str, path: &str) -> Result<ArchiveOut, EngineError> {
        let container = self.find(reference)?.view();
        let out = self.look(reference, path, Arc::clone(&container)).await?;
        announce::of_view(
            &self.environment.events,
            &container,
            "archive-path",
            &[("path", path.to_owned())],
        );
        Ok(out)
    }

    /// What stands at a path of a container.
    ///
    /// # Errors
    /// `NotFound` when there is no such path.
    pub async fn archive_stat(
        &self,
        reference: &str,
        path: &str,
    ) -> Result<ArchiveStat, EngineError> {
        let container = self.find(reference)?.view();
        Ok(self.look(reference, path, container).await?.stat)
    }

    async fn look(
        &self,
        reference: &str,
        path: &str,
        container: Arc<ContainerView>,
    ) -> Result<ArchiveOut, EngineError> {
        let (path, shown) = (path.to_owned(), reference.to_owned());
        self.with_files(&container, "copy from", async {
            let view = self.view(&container, true).await?;
            tokio::task::spawn_blocking(move || look(view, &path, &shown))
                .await
                .map_err(defect)?
        })
        .await
    }

    /// Extracts an archive, compressed or not, into a directory of a container.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory, `Forbidden` when nothing may be written there, `Invalid` when
    /// the archive cannot be understood.
    pub async fn put_archive(
        &self,
        reference: &str,
        path: &str,
        options: PutOptions,
        archive: impl Read + Send + 'static,
    ) -> Result<Extracted, EngineError> {
        let container = self.find(reference)?.view();
        let (text, shown) = (path.to_owned(), reference.to_owned());
        let subject = Arc::clone(&container);
        let done = self
            .with_files(&container, "copy to", async {
                let view = self.view(&container, true).await?;
                tokio::task::spawn_blocking(move || {
                    put(&view, &subject, &shown, &text, &options, archive)
                })
                .await
                .map_err(defect)?
            })
            .await?;
        announce::of_view(
            &self.environment.events,
            &container,
            "extract-to-dir",
            &[("path", path.to_owned())],
        );
        Ok(done)
    }
}
