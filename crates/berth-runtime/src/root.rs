//! The container's file system, made by its first process in its mount namespace before the root is changed.
//!
//! Owns the order: root, mounts, devices, console, masked and read-only paths, read-only root. Invariant: every
//! path of the container is resolved beneath the root's descriptor, and every mount is attached to a descriptor; no
//! path of the host is looked up but /dev/null, /dev and /proc of our own namespace.

mod copy_up;
mod devices;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::cgroup::Location;
use berth_sys::mount::{self, AttributeChange, Propagation, attribute};
use berth_sys::namespace::Kind;
use berth_sys::path::Root;
use berth_sys::{path, terminal};
use rustix::fs::{FileType, Mode, OFlags};

use crate::credentials::has_selinux;
use crate::error::RuntimeError;
use crate::plan::SetupPlan;
use crate::plan::mount::{MountKind, MountStep};
use crate::sources::{Source, finish_mount};

/// Mode of directories made as mount points.
pub(crate) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// Mode of files made as mount points.
const FILE_MODE: Mode = Mode::from_raw_mode(0o755);

/// The root under construction.
#[derive(Debug)]
pub(crate) struct RootBuilder<'a> {
    plan: &'a SetupPlan,
    root: Root,
    /// Mounts that become read-only when all is in them.
    late_read_only: Vec<OwnedFd>,
    /// What is worth telling, one sentence each.
    pub(crate) notes: Vec<String>,
}

impl<'a> RootBuilder<'a> {
    /// Attaches the root over `/` of this mount namespace, where nobody sees it.
    ///
    /// A container in the runtime's mount namespace has its mounts in a tree of their own that is attached nowhere, so
    /// that nothing of it is mounted on the host and all of it ends with its last process.
    pub(crate) fn attach(plan: &'a SetupPlan, root: OwnedFd) -> Result<Self, RuntimeError> {
        if !plan.has(Kind::Mount) {
            return Self::stay_detached(plan, root);
        }
        let slash = Path::new("/");
        match plan.root_propagation.unwrap_or((Propagation::Slave, true)) {
            (Propagation::Shared, _) => {}
            (Propagation::Slave, _) => mount::set_propagation(slash, Propagation::Slave, true)?,
            _ => mount::set_propagation(slash, Propagation::Private, true)?,
        }
        // What is attached to a shared mount would appear on the host, and pivot_root(2) refuses one.
        mount::set_propagation(slash, Propagation::Private, false)?;
        let target = berth_sys::fs::open_directory(slash)?;
        mount::set_attributes(
            &root,
            false,
            &AttributeChange {
                propagation: Some(Propagation::Private),
                ..AttributeChange::default()
            },
        )?;
        mount::attach(&root, &target)
            .map_err(|error| error.with_attempt("attach the root file system"))?;
        Ok(Self {
            plan,
            root: Root::from_descriptor(root),
            late_read_only: Vec::new(),
            notes: Vec::new(),
        })
    }

    fn stay_detached(plan: &'a SetupPlan, root: OwnedFd) -> Result<Self, RuntimeError> {
        // A kernel that copies a mount attached nowhere also mounts on one.
        if mount::clone_tree_of(&root, false).is_err() {
            return Err(RuntimeError::invalid(
                "linux.namespaces",
                "without a mount namespace the container's mounts would land on the host (Linux 6.15 and later can \
                 keep them apart)",
            ));
        }
        mount::set_attributes(
            &root,
            true,
            &AttributeChange {
                propagation: Some(Propagation::Private),
                ..AttributeChange::default()
            },
        )?;
        Ok(Self {
            plan,
            root: Root::from_descriptor(root),
            late_read_only: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// The root's descriptor.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Makes every mount of the plan, in order.
    pub(crate) fn mount_all(
        &mut self,
        sources: &mut [Source],
        cgroup: Option<&Location>,
    ) -> Result<(), RuntimeError> {
        let plan = self.plan;
        for (step, source) in plan.mounts.iter().zip(sources) {
            self.mount(step, source, cgroup)
                .map_err(|error| name_mount(error, step))?;
        }
        Ok(())
    }

    fn mount(
        &mut self,
        step: &MountStep,
        source: &mut Source,
        cgroup: Option<&Location>,
    ) -> Result<(), RuntimeError> {
        match &step.what {
            MountKind::Bind { .. } => {
                let Some(mount) = source.mount.take() else {
                    return Ok(());
                };
                let target = if source.is_directory {
                    self.root
                        .create_directories(&step.destination, DIRECTORY_MODE)?
                } else {
                    self.root
                        .create_file(&step.destination, FILE_MODE, DIRECTORY_MODE)?
                };
                if source.is_directory != (path::file_type(&target)? == FileType::Directory) {
                    return Err(berth_sys::Error::new(
                        "compare source and destination: one is a directory and the other is not",
                        rustix::io::Errno::NOTDIR,
                    )
                    .into());
                }
                Ok(mount::attach(&mount, &target)?)
            }
            MountKind::FileSystem {
                kind,
                source: name,
                parameters,
            } => {
                // A tmpfs over a directory of the image looks as that did; on a new mount point it is as tmpfs(5)
                // makes it, writable for all and sticky.
                let covers = kind == "tmpfs" && self.root.resolve(&step.destination).is_ok();
                let target = self.file_system_target(step, kind)?;
                let mut parameters = parameters.clone();
                if parameters.iter().any(|(key, _)| key == "context") && !has_selinux() {
                    parameters.retain(|(key, _)| key != "context");
                    self.notes.push(format!(
                        "The SELinux label of the mount on {} is not applied, since this host has no SELinux.",
                        step.destination.display()
                    ));
                }
                let has_mode = parameters.iter().any(|(key, _)| key == "mode");
                if covers && !has_mode {
                    let stat = rustix::fs::fstat(&target)
                        .map_err(|errno| berth_sys::Error::new("look at the destination", errno))?;
                    parameters.push(("mode".into(), Some(format!("{:o}", stat.st_mode & 0o7777))));
                }
                let too_long = parameters
                    .iter()
                    .any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > 255));
                if too_long {
                    return self.mount_classic(step, kind, name, &parameters, &target);
                }
                let mount = mount::new_file_system(kind, Some(name), &parameters, 0)?;
                if step.copy_up {
                    copy_up::copy(&target, &mount)?;
                }
                let late = kind == "tmpfs" && step.attributes.set & attribute::READ_ONLY != 0;
                let mut now = step.clone();
                if late {
                    now.attributes.set &= !attribute::READ_ONLY;
                }
                finish_mount(&mount, &now, source.user_namespace.as_ref())?;
                mount::attach(&mount, &target)?;
                if late {
                    self.late_read_only.push(mount);
                }
                Ok(())
            }
            MountKind::Cgroup => self.mount_cgroup(step, cgroup),
            MountKind::Remount => {
                let target = self.root.resolve(&step.destination)?;
                finish_mount(&target, step, None)
            }
        }
    }

    /// proc and sysfs decide on what is trusted later, so no link may lead to where they go.
    fn file_system_target(&self, step: &MountStep, kind: &str) -> Result<OwnedFd, RuntimeError> {
        let target = self
            .root
            .create_directories(&step.destination, DIRECTORY_MODE)?;
        if matches!(kind, "proc" | "sysfs") {
            let relative = step
                .destination
                .strip_prefix("/")
                .unwrap_or(&step.destination);
            if path::open_beneath(
                self.root.descriptor(),
                relative,
                OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .is_err()
            {
                return Err(RuntimeError::invalid(
                    "mounts",
                    format!(
                        "{kind} must be mounted on ordinary directory, and {} leads elsewhere",
                        step.destination.display()
                    ),
                ));
            }
        }
        Ok(target)
    }

    /// mount(2) for parameters longer than fsconfig(2) takes (an overlay with many layers).
    fn mount_classic(
        &self,
        step: &MountStep,
        kind: &str,
        name: &str,
        parameters: &[mount::Parameter],
        target: &OwnedFd,
    ) -> Result<(), RuntimeError> {
        let data: Vec<String> = parameters
            .iter()
            .map(|(key, value)| match value {
                Some(value) => format!("{key}={value}"),
                None => key.clone(),
            })
            .collect();
        let data = std::ffi::CString::new(data.join(","))
            .map_err(|_| RuntimeError::invalid("mounts", "an option holds a zero byte"))?;
        mount::mount_classic(
            Path::new(name),
            &path::descriptor_path(target),
            kind,
            rustix::mount::MountFlags::empty(),
            Some(&data),
        )?;
        let mounted = self.root.resolve(&step.destination)?;
        finish_mount(&mounted, step, None)
    }

    /// Binds the container's own groups; on version 1 one directory per hierarchy, on version 2 the only one.
    fn mount_cgroup(
        &mut self,
        step: &MountStep,
        location: Option<&Location>,
    ) -> Result<(), RuntimeError> {
        let target = self
            .root
            .create_directories(&step.destination, DIRECTORY_MODE)?;
        let own_namespace = self.plan.makes(Kind::Cgroup);
        let bind = |directory: &Path| -> Result<OwnedFd, RuntimeError> {
            let mount = mount::clone_tree(directory, false)?;
            finish_mount(&mount, step, None)?;
            mount::set_attributes(
                &mount,
                false,
                &AttributeChange {
                    propagation: Some(Propagation::Private),
                    ..AttributeChange::default()
                },
            )?;
            Ok(mount)
        };
        let Some(location) = location else {
            self.notes.push(
                "The container has no control group of its own, so none is shown in it.".to_owned(),
            );
            return Ok(());
        };
        if location.v1.is_empty() {
            let directory = match &location.unified {
                Some(own) if own_namespace => own.as_path(),
                _ => Path::new("/sys/fs/cgroup"),
            };
            return Ok(mount::attach(bind(directory)?, &target)?);
        }
        let tmpfs = mount::new_file_system(
            "tmpfs",
            Some("cgroup"),
            &[("mode".into(), Some("755".into()))],
            attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC,
        )?;
        mount::attach(&tmpfs, &target)?;
        let hierarchies = location
            .v1
            .iter()
            .map(|(name, directory)| (name.strip_prefix("name=").unwrap_or(name), directory))
            .chain(location.unified.iter().map(|own| ("unified", own)));
        for (name, directory) in hierarchies {
            let attempt = |errno| berth_sys::Error::new(format!("make hierarchy {name}"), errno);
            rustix::fs::mkdirat(&tmpfs, name, DIRECTORY_MODE).map_err(attempt)?;
            let inside = path::open_beneath(
                &tmpfs,
                Path::new(name),
                OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )?;
            mount::attach(bind(directory)?, &inside)?;
            if name.contains(',') {
                for controller in name.split(',') {
                    rustix::fs::symlinkat(name, &tmpfs, controller).map_err(attempt)?;
                }
            }
        }
        if step.attributes.set & attribute::READ_ONLY != 0 {
            self.late_read_only.push(tmpfs);
        }
        Ok(())
    }

    /// Makes devices and links in /dev.
    pub(crate) fn make_devices(&mut self) -> Result<(), RuntimeError> {
        devices::make(self.plan, &self.root)
    }

    /// Makes a terminal, of the container's own devpts where it has one, and binds it on /dev/console.
    pub(crate) fn make_console(&self) -> Result<terminal::Pair, RuntimeError> {
        let pair = match self.root.open_at(
            Path::new("/dev/pts"),
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            Ok(devpts)
                if path::check_magic(&devpts, path::DEVPTS_SUPER_MAGIC, "/dev/pts").is_ok() =>
            {
                terminal::open_pair_in(&devpts)?
            }
            _ => terminal::open_pair()?,
        };
        let target = self.root.create_file(
            Path::new("/dev/console"),
            Mode::from_raw_mode(0o600),
            DIRECTORY_MODE,
        )?;
        let console = mount::clone_tree_of(&pair.slave, false)?;
        mount::attach(&console, &target)
            .map_err(|error| error.with_attempt("attach the terminal on /dev/console"))?;
        Ok(pair)
    }

    /// Hides and write-protects what the plan names; what is not there is left out.
    pub(crate) fn protect(&mut self) -> Result<(), RuntimeError> {
        self.make_read_only()?;
        self.mask()
    }

    fn make_read_only(&self) -> Result<(), RuntimeError> {
        for path in &self.plan.read_only_paths {
            let Some(target) = self.existing(path)? else {
                continue;
            };
            let attempt = |error: berth_sys::Error| {
                error.with_attempt(format!("make {} read-only", path.display()))
            };
            let copy = mount::clone_tree_of(&target, true).map_err(attempt)?;
            mount::set_attributes(
                &copy,
                true,
                &AttributeChange {
                    set: attribute::READ_ONLY,
                    ..AttributeChange::default()
                },
            )
            .map_err(attempt)?;
            mount::attach(&copy, &target).map_err(attempt)?;
        }
        Ok(())
    }

    fn mask(&self) -> Result<(), RuntimeError> {
        let mut null: Option<OwnedFd> = None;
        let mut empty: Option<OwnedFd> = None;
        for path in &self.plan.masked_paths {
            let Some(target) = self.existing(path)? else {
                continue;
            };
            let attempt =
                |error: berth_sys::Error| error.with_attempt(format!("mask {}", path.display()));
            if path::file_type(&target)? == FileType::Directory {
                let cover = match &empty {
                    // The first one is attached, so copies of it can be made.
                    Some(first) => mount::clone_tree_of(first, false).map_err(attempt)?,
                    None => mount::new_file_system(
                        "tmpfs",
                        Some("tmpfs"),
                        &[
                            ("nr_blocks".into(), Some("1".into())),
                            ("nr_inodes".into(), Some("1".into())),
                        ],
                        attribute::READ_ONLY
                            | attribute::NO_SUID
                            | attribute::NO_DEV
                            | attribute::NO_EXEC,
                    )
                    .map_err(attempt)?,
                };
                mount::attach(&cover, &target).map_err(attempt)?;
                empty.get_or_insert(cover);
            } else {
                let device = match &null {
                    Some(device) => device,
                    None => null.insert(devices::host_null()?),
                };
                let cover = mount::clone_tree_of(device, false).map_err(attempt)?;
                mount::attach(&cover, &target).map_err(attempt)?;
            }
        }
        Ok(())
    }

    /// A path of the container that may be missing (or lie where nothing can be).
    fn existing(&self, path: &Path) -> Result<Option<OwnedFd>, RuntimeError> {
        use rustix::io::Errno;
        match self.root.resolve(path) {
            Ok(found) => Ok(Some(found)),
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes read-only what had to be written until now.
    pub(crate) fn seal(&mut self) -> Result<(), RuntimeError> {
        let read_only = AttributeChange {
            set: attribute::READ_ONLY,
            ..AttributeChange::default()
        };
        let detached = !self.plan.has(Kind::Mount);
        for mount in self.late_read_only.drain(..) {
            if detached {
                // mount_setattr(2) takes what is attached in our namespace or nowhere, not what lies on such a tree.
                let copy = mount::clone_tree_of(&mount, true)?;
                mount::set_attributes(&copy, false, &read_only)?;
                mount::attach(&copy, &mount)?;
            } else {
                mount::set_attributes(&mount, false, &read_only)?;
            }
        }
        if self.plan.root_read_only {
            mount::set_attributes(self.root.descriptor(), false, &read_only)
                .map_err(|error| error.with_attempt("make the root read-only"))?;
        }
        Ok(())
    }

    /// Makes the new root the root.
    pub(crate) fn enter(&self, no_pivot: bool) -> Result<(), RuntimeError> {
        if !self.plan.has(Kind::Mount) {
            return enter_root(self.root.descriptor());
        }
        if no_pivot {
            // It lies over "/" already: what is left is to make it this process' root.
            enter_root(self.root.descriptor())?;
        } else {
            mount::pivot_to(self.root.descriptor())?;
        }
        if let Some((kind, recursive)) = self.plan.root_propagation {
            mount::set_propagation(Path::new("/"), kind, recursive)?;
        }
        Ok(())
    }
}

/// Makes a directory this process' root, in whatever mount namespace it is.
pub(crate) fn enter_root(directory: impl AsFd) -> Result<(), RuntimeError> {
    rustix::process::fchdir(directory)
        .and_then(|()| rustix::process::chroot("."))
        .and_then(|()| rustix::process::chdir("/"))
        .map_err(|errno| berth_sys::Error::new("change the root", errno).into())
}

/// Says on which mount a step failed, unless it says so already.
fn name_mount(error: RuntimeError, step: &MountStep) -> RuntimeError {
    match error {
        RuntimeError::System(error) => {
            let (what, source): (&str, PathBuf) = match &step.what {
                MountKind::Bind { source, .. } => ("bind", source.clone()),
                MountKind::FileSystem { kind, source, .. } => (kind, PathBuf::from(source)),
                MountKind::Cgroup => ("cgroup", PathBuf::from("cgroup")),
                MountKind::Remount => ("remount", PathBuf::new()),
            };
            let attempt = format!(
                "mount {} ({what}) on {} in the container: {}",
                source.display(),
                step.destination.display(),
                error.attempt()
            );
            error.with_attempt(attempt).into()
        }
        other => other,
    }
}

/// A trusted /proc: opened in our own namespaces and checked to be the root of a procfs.
pub(crate) fn open_proc() -> Result<OwnedFd, RuntimeError> {
    let proc = rustix::fs::open(
        "/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| berth_sys::Error::new("open /proc", errno))?;
    path::check_proc_root(proc.as_fd())?;
    Ok(proc)
}

/// Writes a file of a trusted /proc; nothing on the way may be a link or another mount.
pub(crate) fn write_proc(proc: &OwnedFd, file: &Path, content: &str) -> Result<(), RuntimeError> {
    let attempt = || format!("write {content:?} to /proc/{}", file.display());
    let target = match file.strip_prefix("self") {
        // "self" is a link of procfs itself.
        Ok(rest) => {
            let own = rustix::fs::openat(
                proc,
                "self",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|errno| berth_sys::Error::new(attempt(), errno))?;
            path::open_beneath(&own, rest, OFlags::WRONLY, Mode::empty())
        }
        Err(_) => path::open_beneath(proc, file, OFlags::WRONLY, Mode::empty()),
    }
    .map_err(|error| error.with_attempt(attempt()))?;
    path::check_magic(&target, path::PROC_SUPER_MAGIC, "a file of /proc")?;
    rustix::io::write(&target, content.as_bytes())
        .map_err(|errno| berth_sys::Error::new(attempt(), errno))?;
    Ok(())
}
