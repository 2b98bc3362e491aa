//! The files of a container, for who is not in it: copies in both directions, export, the list of changes,
//! and images made of it.
//!
//! Owns: the view in which a container's files are seen ([`Place`]). Everything is done through descriptors
//! within it, so what a container does with its links and directories meanwhile never leads outside
//! (`docs/internals/files.md`). Does not own: archives ([`berth_image::files`]).

mod archive;
mod commit;
mod export;
mod path;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use berth_image::ImageStore;
use berth_sys::mount::view::{Piece, View, copy_of_process};
use berth_sys::mount::{AttributeChange, attribute};
use berth_types::ContainerId;

use super::phase::Phase;
use super::spec::{MountKind, MountPoint};
use super::view::ContainerView;
use super::{Containers, defect};
use crate::error::EngineError;
use crate::volumes::{MountAsk, MountSources};

pub use archive::{ArchiveOut, ArchiveStat, PutOptions};
pub use commit::CommitRequest;
pub use export::Export;

/// Paths that every container has something mounted at: files and directories made there are no change of the
/// container's.
const MOUNT_POINTS: [&str; 10] = [
    "dev",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
];

/// [`MOUNT_POINTS`], and where the init program is shown.
fn mount_points() -> BTreeSet<Vec<u8>> {
    MOUNT_POINTS
        .iter()
        .copied()
        .chain([super::oci::INIT_PATH.trim_start_matches('/')])
        .map(|path| path.as_bytes().to_vec())
        .collect()
}

fn failed(attempt: impl Into<String>, error: berth_sys::Error) -> EngineError {
    let kind = error.kind();
    EngineError::failed(attempt, kind, error)
}

/// Refuses what has no files any more.
fn check_phase(container: &ContainerView, attempt: &str) -> Result<(), EngineError> {
    match container.phase {
        Phase::Removing { .. } => Err(EngineError::Conflict(format!(
            "cannot {attempt} container {}: it is being removed",
            container.id
        ))),
        Phase::Dead { .. } => Err(EngineError::Conflict(format!(
            "cannot {attempt} container {}: it is dead",
            container.id
        ))),
        _ => Ok(()),
    }
}

/// The files of a container as a tree of mounts of this process' own. With `with_mounts`, what is mounted in it is
/// part of it; procfs, sysfs and devices never are.
fn open(
    images: &ImageStore,
    container: &ContainerView,
    with_mounts: bool,
    volumes: &MountSources,
) -> Result<View, EngineError> {
    let attempt = || format!("look at the files of container {}", container.id);
    let mut points: Vec<&MountPoint> = container.spec.mounts.iter().collect();
    points.retain(|_| with_mounts);
    // Parents before what is mounted in them.
    points.sort_by_key(|point| point.target.matches('/').count());
    if let Some((root, pieces)) = running(container, &points)? {
        return View::assemble(root, pieces, false).map_err(|error| failed(attempt(), error));
    }
    let mut rootfs = images.prepare_rootfs(&container.id, &container.spec.image_id)?;
    rootfs.read_only = container.spec.host.readonly_rootfs;
    let root = rootfs
        .mount_detached()
        .map_err(|error| failed(attempt(), error))?;
    let mut pieces = Vec::new();
    for point in points {
        let is_of_host = matches!(point.kind, MountKind::Bind | MountKind::Volume);
        if !is_of_host || point.source.is_empty() {
            continue;
        }
        let volume = volumes.iter().find(|(target, _)| *target == point.target);
        let source = match volume {
            Some((_, source)) => source.path.clone(),
            None => PathBuf::from(&point.source),
        };
        // A source that is not there yet has nothing to show.
        if !berth_sys::fs::exists(&source) {
            continue;
        }
        let mount = berth_sys::mount::clone_tree(&source, !point.non_recursive)
            .map_err(|error| failed(attempt(), error))?;
        let is_read_only =
            volume.is_some_and(|(_, source)| source.options.iter().any(|option| option == "ro"));
        if !point.writable || is_read_only {
            let change = AttributeChange {
                set: attribute::READ_ONLY,
                ..AttributeChange::default()
            };
            berth_sys::mount::set_attributes(&mount, true, &change)
                .map_err(|error| failed(attempt(), error))?;
        }
        pieces.push((PathBuf::from(&point.target), mount));
    }
    let create = !container.spec.host.readonly_rootfs;
    View::assemble(root, pieces, create).map_err(|error| failed(attempt(), error))
}

impl Containers {
    /// Opens the files of a container, see [`open`].
    async fn view(
        &self,
        container: &Arc<ContainerView>,
        with_mounts: bool,
    ) -> Result<View, EngineError> {
        let is_still = |container: &ContainerView| container.phase.pid().is_none();
        let mut asks = Vec::new();
        if with_mounts && is_still(container) {
            asks.extend(container.spec.mounts.iter().filter_map(|point| {
                let volume = point.volume.as_ref()?;
                Some(MountAsk {
                    volume: volume.name.clone(),
                    target: point.target.clone(),
                    subpath: volume.subpath.clone(),
                    writable: point.writable,
                })
            }));
        }
        let names: Vec<String> = asks.iter().map(|ask| ask.volume.clone()).collect();
        let volumes = self.volumes.mount(&container.id, asks).await?;
        let (images, subject) = (self.images.clone(), Arc::clone(container));
        let opened =
            tokio::task::spawn_blocking(move || open(&images, &subject, with_mounts, &volumes))
                .await
                .map_err(defect);
        // The view has mounts of its own by now. One that was started meanwhile gives the volumes back at its end.
        let is_idle = self
            .find(container.id.as_str())
            .is_ok_and(|handle| is_still(&handle.view()));
        if is_idle && !names.is_empty() {
            self.volumes.unmount(&container.id, &names).await?;
        }
        opened?
    }
}

/// Copies of a running container's own mounts; `None` when it does not run.
fn running(
    container: &ContainerView,
    points: &[&MountPoint],
) -> Result<Option<(std::os::fd::OwnedFd, Vec<Piece>)>, EngineError> {
    let Some(pid) = container
        .phase
        .pid()
        .and_then(|pid| i32::try_from(pid).ok())
    else {
        return Ok(None);
    };
    let targets = points
        .iter()
        .map(|point| PathBuf::from(&point.target))
        .collect();
    let is_right = || is_of_container(pid, &container.id);
    match copy_of_process(pid, targets, is_right) {
        Ok(copy) => Ok(Some(copy)),
        // Ended meanwhile: its files are those of a container that does not run.
        Err(error) if error.is_not_found() || error.errno() == Some(rustix::io::Errno::SRCH) => {
            Ok(None)
        }
        Err(error) => Err(failed(
            format!("look at the files of container {}", container.id),
            error,
        )),
    }
}

/// Whether a process is in the control groups of a container.
fn is_of_container(pid: i32, id: &ContainerId) -> Result<bool, berth_sys::Error> {
    let groups = berth_sys::fs::read_kernel_file(&PathBuf::from(format!("/proc/{pid}/cgroup")))?;
    Ok(String::from_utf8_lossy(&groups).contains(id.as_str()))
}

/// Says of a refused write what Docker says.
fn read_only(error: EngineError, on_mount: bool) -> EngineError {
    let is_read_only = {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut found = false;
        while let Some(error) = cause {
            found |= error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem);
            cause = error.source();
        }
        found
    };
    match (is_read_only, on_mount) {
        (false, _) => error,
        (true, true) => EngineError::Forbidden("mounted volume is marked read-only".to_owned()),
        (true, false) => EngineError::Forbidden("container rootfs is marked read-only".to_owned()),
    }
}

/// The error of a path that is not there, with Docker's sentence.
fn no_such_file(path: &str, container: &str) -> EngineError {
    EngineError::NotFound(format!(
        "Could not find the file {path} in container {container}"
    ))
}

/// The error of looking at a path.
fn path_error(error: berth_sys::Error, path: &str, container: &str) -> EngineError {
    use rustix::io::Errno;
    match error.errno() {
        Some(Errno::NOENT) => no_such_file(path, container),
        Some(Errno::NOTDIR) => EngineError::Invalid(format!("{path}: not a directory")),
        Some(Errno::LOOP) => EngineError::Invalid(format!("{path}: too many links")),
        Some(Errno::NAMETOOLONG) => EngineError::Invalid(format!("{path}: file name too long")),
        _ => {
            let kind = error.kind();
            EngineError::failed(
                format!("look at {path} in container {container}"),
                kind,
                error,
            )
        }
    }
}
