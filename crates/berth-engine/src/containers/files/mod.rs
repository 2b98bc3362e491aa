//! The files of a container, for who is not in it: copies in both directions, export, the list of changes,
//! and images made of it.
//!
//! Owns: the view in which a container's files are seen ([`Opened`]). Everything is done through descriptors
//! within it, so what a container does with its links and directories meanwhile never leads outside
//! (`docs/internals/files.md`). Does not own: archives ([`berth_image::files`]).

mod archive;
mod commit;
mod export;
mod path;
pub(crate) mod roots;

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
use crate::limits;
use crate::volumes::{MountAsk, MountSources, Purpose};
use roots::OpenRoot;

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

/// An open view of a container's files.
#[derive(Debug)]
struct Opened {
    view: View,
    /// Keeps the mount of a container that does not run, for a start that comes meanwhile.
    _root: Option<Arc<OpenRoot>>,
}

impl Opened {
    fn root(&self) -> &berth_sys::path::Root {
        self.view.root()
    }
}

/// The files of a container as a tree of mounts of this process' own. With `with_mounts`, what is mounted in it is
/// part of it; procfs, sysfs and devices never are. `root` is that of a container that does not run; without it, the
/// mounts are those of its process, and there is nothing to open (`None`) when that has ended.
fn open(
    images: &ImageStore,
    container: &ContainerView,
    with_mounts: bool,
    volumes: &MountSources,
    root: Option<Arc<OpenRoot>>,
) -> Result<Option<Opened>, EngineError> {
    let attempt = || format!("look at the files of container {}", container.id);
    let mut points: Vec<&MountPoint> = container.spec.mounts.iter().collect();
    points.retain(|_| with_mounts);
    // Parents before what is mounted in them.
    points.sort_by_key(|point| point.target.matches('/').count());
    let Some(shared) = root else {
        let Some((root, pieces)) = running(container, &points)? else {
            return Ok(None);
        };
        let view = View::assemble(root, pieces, false).map_err(|error| failed(attempt(), error))?;
        return Ok(Some(Opened { view, _root: None }));
    };
    let root = shared.copy(|| {
        images
            .prepare_rootfs(&container.id, &container.spec.image_id)?
            .mount_detached()
            .map_err(|error| failed(attempt(), error))
    })?;
    let read_only = |mount: &std::os::fd::OwnedFd| {
        let change = AttributeChange {
            set: attribute::READ_ONLY,
            ..AttributeChange::default()
        };
        berth_sys::mount::set_attributes(mount, true, &change)
            .map_err(|error| failed(attempt(), error))
    };
    if container.spec.host.readonly_rootfs {
        read_only(&root)?;
    }
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
            read_only(&mount)?;
        }
        pieces.push((PathBuf::from(&point.target), mount));
    }
    let create = !container.spec.host.readonly_rootfs;
    let view = View::assemble(root, pieces, create).map_err(|error| failed(attempt(), error))?;
    Ok(Some(Opened {
        view,
        _root: Some(shared),
    }))
}

impl Containers {
    /// Does something with the files of a container. Where it was removed meanwhile, that is why it failed, and what was
    /// made for it goes again.
    async fn with_files<T>(
        &self,
        container: &ContainerView,
        attempt: &str,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        check_phase(container, attempt)?;
        let done = work.await;
        let refusal = match self.find(container.id.as_str()) {
            Ok(handle) if !matches!(handle.view().phase, Phase::Removing { .. }) => return done,
            Ok(handle) => check_phase(&handle.view(), attempt).err(),
            Err(gone) => Some(gone),
        };
        let (images, id) = (self.images.clone(), container.id.clone());
        tokio::task::spawn_blocking(move || images.remove_rootfs(&id))
            .await
            .map_err(defect)??;
        match (done, refusal) {
            (Err(_), Some(refusal)) => Err(refusal),
            (done, _) => done,
        }
    }

    /// Opens the files of a container, see [`open`]. Waits while its start is under way: then it has mounts of its own.
    async fn view(
        &self,
        container: &Arc<ContainerView>,
        with_mounts: bool,
    ) -> Result<Opened, EngineError> {
        let handle = self.find(container.id.as_str())?;
        let mut views = handle.view.clone();
        let gone = || EngineError::NotFound(format!("No such container: {}", container.id));
        loop {
            let subject = Arc::clone(&views.borrow_and_update());
            check_phase(&subject, "look at the files of")?;
            if subject.phase.is_under_way() {
                views.changed().await.map_err(|_| gone())?;
                continue;
            }
            let root = self
                .roots
                .open(&subject.id, || handle.view().phase.is_still());
            let runs = root.is_none();
            if runs && subject.phase.pid().is_none() {
                // It was started between the two looks.
                continue;
            }
            if let Some(opened) = self.open_now(&subject, with_mounts, root).await? {
                return Ok(opened);
            }
            // Its process has ended, which its owner is about to know.
            let known = tokio::time::timeout(limits::END_KNOWN, views.changed()).await;
            known
                .map_err(|_| {
                    EngineError::Unavailable(format!(
                        "look at the files of container {}: its process has ended and its monitor has not said so",
                        container.id
                    ))
                })?
                .map_err(|_| gone())?;
        }
    }

    async fn open_now(
        &self,
        container: &Arc<ContainerView>,
        with_mounts: bool,
        root: Option<Arc<OpenRoot>>,
    ) -> Result<Option<Opened>, EngineError> {
        let mut asks = Vec::new();
        if with_mounts && root.is_some() {
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
        let volumes = self
            .volumes
            .mount(&container.id, asks, Purpose::Look)
            .await?;
        let (images, subject) = (self.images.clone(), Arc::clone(container));
        let opened = tokio::task::spawn_blocking(move || {
            open(&images, &subject, with_mounts, &volumes, root)
        })
        .await
        .map_err(defect);
        // The view has mounts of its own by now.
        if !names.is_empty() {
            self.volumes
                .unmount(&container.id, &names, Purpose::Look)
                .await?;
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
