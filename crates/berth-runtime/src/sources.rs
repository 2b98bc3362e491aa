//! What the creator opens on the host for a container before its process exists: the root, the sources of bind
//! mounts, user namespaces for mapped mounts.
//!
//! Each source is taken as a mount attached nowhere, with its attributes already set. So the first process never
//! looks up a path of the host, and needs no right to (its user namespace may not reach the source at all).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::mount::{self, AttributeChange, Propagation};
use berth_sys::{fs, namespace, path, process};
use rustix::fs::FileType;

use crate::error::RuntimeError;
use crate::plan::mount::{MountIdMap, MountKind, MountStep};
use crate::plan::{IdMap, SetupPlan, id_map_text};

/// Where the container's root file system comes from.
#[derive(Debug)]
pub enum RootSource {
    /// From `root.path` of the configuration, relative to the bundle.
    Bundle,
    /// A mount attached nowhere, as `Overlay::mount_detached` makes it.
    Detached(OwnedFd),
}

/// What was opened for one mount of the plan.
#[derive(Debug)]
pub(crate) struct Source {
    /// The mount; `None` for one the first process makes itself.
    pub(crate) mount: Option<OwnedFd>,
    /// Whether it is a directory.
    pub(crate) is_directory: bool,
    /// The user namespace with its id map.
    pub(crate) user_namespace: Option<OwnedFd>,
}

/// All that was opened.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The root, as a mount attached nowhere.
    pub(crate) root: OwnedFd,
    /// One per mount of the plan.
    pub(crate) mounts: Vec<Source>,
    /// The root's directory, for lists.
    pub(crate) root_path: PathBuf,
}

impl Sources {
    /// Opens everything the plan names.
    pub(crate) fn open(
        plan: &SetupPlan,
        bundle: &Path,
        root: RootSource,
    ) -> Result<Self, RuntimeError> {
        let inherited = plan
            .root_propagation
            .unwrap_or((Propagation::Slave, true))
            .0;
        let (root, root_path) = match root {
            RootSource::Detached(mount) => (mount, PathBuf::new()),
            RootSource::Bundle => open_root(&bundle.join(&plan.root), inherited)?,
        };
        let mounts = plan
            .mounts
            .iter()
            .enumerate()
            .map(|(index, step)| open_source(step, index, plan, bundle, inherited))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            root,
            mounts,
            root_path,
        })
    }
}

fn open_root(directory: &Path, inherited: Propagation) -> Result<(OwnedFd, PathBuf), RuntimeError> {
    let real = fs::canonicalize(directory).map_err(|error| {
        error.with_attempt(format!("open the root directory {}", directory.display()))
    })?;
    if !fs::metadata(&real)?.is_dir() {
        return Err(RuntimeError::invalid(
            "root.path",
            format!("{} is not a directory", real.display()),
        ));
    }
    if real == Path::new("/") {
        return Err(RuntimeError::invalid(
            "root.path",
            "the host's own root cannot be a container's",
        ));
    }
    let mount = mount::clone_tree(&real, true)?;
    set_inherited(&mount, inherited)?;
    Ok((mount, real))
}

/// A copy is in the same group as its original. Cut it down to what the whole tree shall have.
fn set_inherited(mount: &OwnedFd, inherited: Propagation) -> Result<(), RuntimeError> {
    if inherited == Propagation::Shared {
        return Ok(());
    }
    let kind = match inherited {
        Propagation::Slave => Propagation::Slave,
        _ => Propagation::Private,
    };
    Ok(mount::set_attributes(
        mount,
        true,
        &AttributeChange {
            propagation: Some(kind),
            ..AttributeChange::default()
        },
    )?)
}

fn open_source(
    step: &MountStep,
    index: usize,
    plan: &SetupPlan,
    bundle: &Path,
    inherited: Propagation,
) -> Result<Source, RuntimeError> {
    let user_namespace = step
        .id_map
        .as_ref()
        .map(|map| user_namespace(map, index, plan))
        .transpose()?;
    let MountKind::Bind { source, recursive } = &step.what else {
        return Ok(Source {
            mount: None,
            is_directory: true,
            user_namespace,
        });
    };
    // A relative source is relative to the bundle (config.md, "mounts").
    let source = bundle.join(source);
    let mount = mount::clone_tree(&source, *recursive).map_err(|error| {
        error.with_attempt(format!(
            "mount {} on {} in the container",
            source.display(),
            step.destination.display()
        ))
    })?;
    let is_directory = path::file_type(&mount)? == FileType::Directory;
    set_inherited(&mount, inherited)?;
    finish_mount(&mount, step, user_namespace.as_ref())?;
    Ok(Source {
        mount: Some(mount),
        is_directory,
        user_namespace: None,
    })
}

/// Sets ids, attributes and propagation of a mount that is attached nowhere yet.
pub(crate) fn finish_mount(
    mount: &OwnedFd,
    step: &MountStep,
    user_namespace: Option<&OwnedFd>,
) -> Result<(), RuntimeError> {
    let change = |recursive: bool, change: &AttributeChange<'_>| {
        mount::set_attributes(mount, recursive, change).map_err(|error| {
            error.with_attempt(format!(
                "set the attributes of the mount on {} in the container",
                step.destination.display()
            ))
        })
    };
    if let (Some(map), Some(namespace)) = (&step.id_map, user_namespace) {
        let mapped = AttributeChange {
            user_namespace: Some(namespace.as_fd()),
            ..AttributeChange::default()
        };
        // mount_setattr(2), EINVAL: the file system does not do this, or the mount is mapped already.
        mount::set_attributes(mount, map.recursive, &mapped).map_err(|error| {
            error.with_attempt(format!(
                "map the owners of files on the mount on {} in the container (its file system has to allow that)",
                step.destination.display()
            ))
        })?;
    }
    let own = step.attributes;
    let (first, rest) = match step.propagation.split_first() {
        Some((first, rest)) => (Some(*first), rest),
        None => (None, &[][..]),
    };
    // One call for the common case of attributes and one propagation of the same reach.
    let joined = first.filter(|(_, recursive)| !recursive || own.is_empty());
    if !own.is_empty() || joined.is_some() {
        change(
            joined.is_some_and(|(_, recursive)| recursive),
            &AttributeChange {
                set: own.set,
                clear: own.clear,
                propagation: joined.map(|(kind, _)| kind),
                user_namespace: None,
            },
        )?;
    }
    let later = first.filter(|_| joined.is_none());
    for (kind, recursive) in later.iter().chain(rest) {
        change(
            *recursive,
            &AttributeChange {
                propagation: Some(*kind),
                ..AttributeChange::default()
            },
        )?;
    }
    if !step.recursive_attributes.is_empty() {
        change(
            true,
            &AttributeChange {
                set: step.recursive_attributes.set,
                clear: step.recursive_attributes.clear,
                ..AttributeChange::default()
            },
        )?;
    }
    Ok(())
}

/// A user namespace with the maps of a mount, held by nothing but its descriptor.
fn user_namespace(
    map: &MountIdMap,
    index: usize,
    plan: &SetupPlan,
) -> Result<OwnedFd, RuntimeError> {
    let (users, groups): (&[IdMap], &[IdMap]) = if map.users.is_empty() {
        (&plan.user_map, &plan.group_map)
    } else {
        (&map.users, &map.groups)
    };
    if users.is_empty() {
        return Err(RuntimeError::invalid(
            format!("mounts[{index}].options"),
            "idmap needs id maps, of the mount or of the container",
        ));
    }
    let request = process::CloneRequest {
        flags: process::CLONE_NEWUSER,
        cgroup: None,
    };
    let (ours, theirs) = berth_sys::socket::seqpacket_pair()?;
    let holder = process::clone_process(&request, || {
        // Lives until the creator has taken its namespace.
        let _ = berth_sys::socket::receive(&theirs, 1, 0);
        0
    })?;
    drop(theirs);
    let taken = write_maps(holder.pid, users, groups).and_then(|()| {
        Ok(namespace::open(&PathBuf::from(format!(
            "/proc/{}/ns/user",
            holder.pid
        )))?)
    });
    let _ = holder.signal(9);
    drop(ours);
    holder.wait()?;
    taken
}

/// Writes the id maps of a process in a new user namespace.
pub(crate) fn write_maps(pid: i32, users: &[IdMap], groups: &[IdMap]) -> Result<(), RuntimeError> {
    let write = |file: &str, maps: &[IdMap]| {
        fs::write_existing(
            &PathBuf::from(format!("/proc/{pid}/{file}")),
            id_map_text(maps).as_bytes(),
        )
    };
    write("uid_map", users)?;
    write("gid_map", groups)?;
    Ok(())
}
