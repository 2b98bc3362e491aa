//! Device files and links in a container's /dev.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_sys::path::Root;
use berth_sys::{Error, mount, path};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::DIRECTORY_MODE;
use crate::error::RuntimeError;
use crate::plan::{DeviceKind, DeviceStep, SetupPlan};

/// Makes the devices and links of the plan.
pub(super) fn make(plan: &SetupPlan, root: &Root) -> Result<(), RuntimeError> {
    // In a user namespace no device can be made, so those of the host are bound.
    let bind = !plan.user_map.is_empty() || plan.joins(berth_sys::namespace::Kind::User).is_some();
    for device in &plan.devices {
        make_one(device, root, bind)?;
    }
    for (link, target) in &plan.links {
        make_link(link, target, root)?;
    }
    make_core_link(root)
}

fn make_one(device: &DeviceStep, root: &Root, bind: bool) -> Result<(), RuntimeError> {
    let attempt = || format!("make device {} in the container", device.path.display());
    if bind && device.kind != DeviceKind::Fifo {
        return bind_from_host(device, root);
    }
    let (parent, name) = root.parent_of(&device.path, DIRECTORY_MODE)?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(
        &parent,
        name,
        kind,
        Mode::from_raw_mode(device.mode),
        number,
    ) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            // There already, perhaps from the image: fine if it is the same device.
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| Error::new(attempt(), errno))?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind
                && (kind == FileType::Fifo || stat.st_rdev == number);
            if !same {
                return Err(Error::new(attempt(), Errno::EXIST).into());
            }
        }
        // Without the right to make devices (CAP_MKNOD), as in a user namespace.
        Err(Errno::PERM) => return bind_from_host(device, root),
        Err(errno) => return Err(Error::new(attempt(), errno).into()),
    }
    if device.user != 0 || device.group != 0 {
        rustix::fs::chownat(
            &parent,
            name,
            Some(rustix::fs::Uid::from_raw(device.user)),
            Some(rustix::fs::Gid::from_raw(device.group)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|errno| Error::new(attempt(), errno))?;
    }
    Ok(())
}

fn bind_from_host(device: &DeviceStep, root: &Root) -> Result<(), RuntimeError> {
    let attempt = || format!("bind device {} of the host", device.path.display());
    let source = open_host_device(&device.path, device.major, device.minor)?;
    let copy =
        mount::clone_tree_of(&source, false).map_err(|error| error.with_attempt(attempt()))?;
    let target = root.create_file(&device.path, Mode::from_raw_mode(0o600), DIRECTORY_MODE)?;
    Ok(mount::attach(&copy, &target).map_err(|error| error.with_attempt(attempt()))?)
}

/// A device of the host by path, checked to have the numbers asked for.
fn open_host_device(device: &Path, major: u32, minor: u32) -> Result<OwnedFd, RuntimeError> {
    let attempt = || format!("open device {} of the host", device.display());
    let found = rustix::fs::open(
        device,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::new(attempt(), errno))?;
    let stat = rustix::fs::fstat(&found).map_err(|errno| Error::new(attempt(), errno))?;
    if !matches!(
        FileType::from_raw_mode(stat.st_mode),
        FileType::CharacterDevice | FileType::BlockDevice
    ) || stat.st_rdev != rustix::fs::makedev(major, minor)
    {
        return Err(
            Error::invalid(attempt(), format!("it is not the device {major}:{minor}")).into(),
        );
    }
    Ok(found)
}

/// The host's /dev/null, checked to be it (CVE-2025-31133).
pub(super) fn host_null() -> Result<OwnedFd, RuntimeError> {
    open_host_device(Path::new("/dev/null"), 1, 3)
}

fn make_link(link: &Path, target: &Path, root: &Root) -> Result<(), RuntimeError> {
    let (parent, name) = root.parent_of(link, DIRECTORY_MODE)?;
    // A device of the same name, as the host's /dev/ptmx in old configurations, gives way to the link.
    match rustix::fs::symlinkat(target, &parent, name) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(link_error(link, errno)),
    }
    let there = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| link_error(link, errno))?;
    if FileType::from_raw_mode(there.st_mode) == FileType::Symlink {
        let says = rustix::fs::readlinkat(&parent, name, Vec::new())
            .map_err(|errno| link_error(link, errno))?;
        if says.to_bytes() == target.as_os_str().as_encoded_bytes() {
            return Ok(());
        }
    }
    rustix::fs::unlinkat(&parent, name, AtFlags::empty())
        .and_then(|()| rustix::fs::symlinkat(target, &parent, name))
        .map_err(|errno| link_error(link, errno))
}

fn link_error(link: &Path, errno: Errno) -> RuntimeError {
    Error::new(
        format!("make link {} in the container", link.display()),
        errno,
    )
    .into()
}

/// /dev/core, where the kernel offers its memory.
fn make_core_link(root: &Root) -> Result<(), RuntimeError> {
    if !Path::new("/proc/kcore").exists() || root.resolve_no_follow(Path::new("/dev")).is_err() {
        return Ok(());
    }
    let is_tmpfs = root
        .resolve(Path::new("/dev"))
        .and_then(|dev| path::check_magic(dev.as_fd(), TMPFS_MAGIC, "/dev"))
        .is_ok();
    if is_tmpfs {
        return make_link(Path::new("/dev/core"), Path::new("/proc/kcore"), root);
    }
    Ok(())
}

/// The magic number of tmpfs.
const TMPFS_MAGIC: i64 = 0x0102_1994;
