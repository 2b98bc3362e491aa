//! Everything that is mounted in a container, in order.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount, MountBuilder};

use super::{INIT_PATH, SecurityOptions, Surroundings, invalid};
use crate::containers::record::ContainerRecord;
use crate::containers::spec::{IpcMode, MountKind, MountPoint, Owner, Propagation};
use crate::error::EngineError;
use crate::limits;
use crate::system::HostFeatures;

fn mount(
    target: &str,
    kind: &str,
    source: &str,
    options: Vec<String>,
) -> Result<Mount, EngineError> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options)
        .build()
        .map_err(invalid)
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|w| (*w).to_owned()).collect()
}

pub(super) fn all(
    record: &ContainerRecord,
    features: &HostFeatures,
    surroundings: &Surroundings,
    options: &SecurityOptions,
) -> Result<Vec<Mount>, EngineError> {
    let own = &record.spec.mounts;
    let has = |target: &str| own.iter().any(|m| m.target == target);
    let mut list = Vec::new();
    for default in defaults(record, surroundings, options)? {
        let target = default.destination().to_string_lossy().into_owned();
        let hidden = has(&target) || (has("/dev") && target.starts_with("/dev/"));
        if !hidden {
            list.push(default);
        }
    }
    for (source, target) in &surroundings.etc {
        if !has(target) {
            let mut bind = words(&["rbind", "rprivate"]);
            if record.spec.host.readonly_rootfs {
                bind.push("ro".to_owned());
            }
            list.push(mount(target, "bind", &source.to_string_lossy(), bind)?);
        }
    }
    // Parents before what is mounted in them.
    let mut sorted: Vec<&MountPoint> = own.iter().collect();
    sorted.sort_by_key(|m| m.target.matches('/').count());
    for point in sorted {
        list.push(of_point(point, features, surroundings)?);
    }
    if let Some(init) = &surroundings.init {
        list.push(mount(
            INIT_PATH,
            "bind",
            &init.to_string_lossy(),
            words(&["bind", "ro"]),
        )?);
    }
    Ok(list)
}

fn defaults(
    record: &ContainerRecord,
    surroundings: &Surroundings,
    options: &SecurityOptions,
) -> Result<Vec<Mount>, EngineError> {
    let host = &record.spec.host;
    let sys = if host.privileged {
        words(&["nosuid", "noexec", "nodev"])
    } else {
        words(&["nosuid", "noexec", "nodev", "ro"])
    };
    let writable_cgroups = options.writable_cgroups.unwrap_or(host.privileged);
    let cgroup = if writable_cgroups {
        words(&["nosuid", "noexec", "nodev"])
    } else {
        words(&["ro", "nosuid", "noexec", "nodev"])
    };
    let size = format!("size={}", limits::DEV_SIZE);
    let mut list = vec![
        mount(
            "/proc",
            "proc",
            "proc",
            words(&["nosuid", "noexec", "nodev"]),
        )?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            words(&["nosuid", "strictatime", "mode=755", &size]),
        )?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            words(&[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ]),
        )?,
        mount("/sys", "sysfs", "sysfs", sys)?,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup)?,
    ];
    // In the host's IPC namespace a fresh mount shows the host's queues: mq_overview(7).
    list.push(mount(
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        words(&["nosuid", "noexec", "nodev"]),
    )?);
    match (&host.ipc, &surroundings.shm) {
        (IpcMode::None, _) => {}
        (_, Some(shared)) => list.push(mount(
            "/dev/shm",
            "bind",
            &shared.to_string_lossy(),
            words(&["rbind", "rprivate", "nosuid", "noexec", "nodev"]),
        )?),
        (_, None) => {
            let size = host.shm_size.unwrap_or(limits::SHM_SIZE_DEFAULT);
            let size = format!("size={size}");
            list.push(mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                words(&["nosuid", "noexec", "nodev", "mode=1777", &size]),
            )?);
        }
    }
    Ok(list)
}

fn of_point(
    point: &MountPoint,
    features: &HostFeatures,
    surroundings: &Surroundings,
) -> Result<Mount, EngineError> {
    if point.kind == MountKind::Tmpfs {
        return mount(&point.target, "tmpfs", "tmpfs", point.tmpfs_options.clone());
    }
    if point.kind == MountKind::Volume {
        return of_volume(point, surroundings);
    }
    let mut options = words(&[if point.non_recursive { "bind" } else { "rbind" }]);
    if !point.writable {
        let recursive = point.recursive_read_only && features.recursive_read_only;
        if point.force_recursive_read_only && !features.recursive_read_only {
            return Err(EngineError::Invalid(format!(
                "mount {}: this kernel cannot make sub-mounts read-only (Linux 5.12 or newer can)",
                point.target
            )));
        }
        options.push(if recursive { "rro" } else { "ro" }.to_owned());
    }
    options.push(
        point
            .propagation
            .unwrap_or(Propagation::RPrivate)
            .as_str()
            .to_owned(),
    );
    match point.owner {
        None => mount(&point.target, "bind", &point.source, options),
        Some(owner) => owned(point, owner, options, features, surroundings),
    }
}

/// A mount on which the container's user is the owner that was asked for: what that user writes belongs to the owner
/// on the host, and the owner's files are the user's in the container.
fn owned(
    point: &MountPoint,
    owner: Owner,
    mut options: Vec<String>,
    features: &HostFeatures,
    surroundings: &Surroundings,
) -> Result<Mount, EngineError> {
    if features.kernel < (5, 12) {
        return Err(EngineError::Invalid(format!(
            "mount {}: this kernel cannot map owners of files on a mount (Linux 5.12 or newer can)",
            point.target
        )));
    }
    let account = &surroundings.account;
    if (account.uid, account.gid) == (owner.uid, owner.gid) {
        return mount(&point.target, "bind", &point.source, options);
    }
    options.push(
        if point.non_recursive {
            "idmap"
        } else {
            "ridmap"
        }
        .to_owned(),
    );
    let mut made = mount(&point.target, "bind", &point.source, options)?;
    made.set_uid_mappings(Some(exchange(owner.uid, account.uid)?));
    made.set_gid_mappings(Some(exchange(owner.gid, account.gid)?));
    Ok(made)
}

/// Maps the id `on_disk` to `seen`, and every other id to itself. What `seen` is on the disk and `on_disk` in the
/// container has no counterpart: such files are nobody's, and none can be made. So the host's root owns nothing that a
/// container's root writes, and its files cannot be changed.
fn exchange(on_disk: u32, seen: u32) -> Result<Vec<LinuxIdMapping>, EngineError> {
    /// One more than the largest id: the id of all ones stands for none.
    const END: u32 = u32::MAX;
    let line = |first: u32, as_seen: u32, size: u32| {
        LinuxIdMappingBuilder::default()
            .container_id(first)
            .host_id(as_seen)
            .size(size)
            .build()
            .map_err(invalid)
    };
    if on_disk == seen {
        return Ok(vec![line(0, 0, END)?]);
    }
    let (low, high) = (on_disk.min(seen), on_disk.max(seen));
    let mut lines = vec![line(on_disk, seen, 1)?];
    for (first, end) in [(0, low), (low + 1, high), (high + 1, END)] {
        if first < end {
            lines.push(line(first, first, end - first)?);
        }
    }
    Ok(lines)
}

fn of_volume(point: &MountPoint, surroundings: &Surroundings) -> Result<Mount, EngineError> {
    let Some(source) = surroundings.volumes.get(&point.target) else {
        return Err(EngineError::Internal(format!(
            "the volume at {} is not mounted",
            point.target
        )));
    };
    let mut options = words(&[if source.recursive { "rbind" } else { "bind" }]);
    options.push(Propagation::RPrivate.as_str().to_owned());
    options.extend(source.options.iter().cloned());
    if !point.writable {
        options.push("ro".to_owned());
    }
    mount(
        &point.target,
        "bind",
        &source.path.to_string_lossy(),
        options,
    )
}

/// What the root must be for mounts to travel as asked.
pub(super) fn root_propagation(points: &[MountPoint]) -> Option<String> {
    let any = |wanted: &[Propagation]| {
        points
            .iter()
            .any(|p| p.propagation.is_some_and(|p| wanted.contains(&p)))
    };
    if any(&[Propagation::Shared, Propagation::RShared]) {
        Some("shared".to_owned())
    } else if any(&[Propagation::Slave, Propagation::RSlave]) {
        Some("rslave".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_is_another_and_the_rest_is_itself() {
        let shown = |on_disk, seen| -> Vec<(u32, u32, u32)> {
            exchange(on_disk, seen)
                .expect("mapped")
                .iter()
                .map(|m| (m.container_id(), m.host_id(), m.size()))
                .collect()
        };
        assert_eq!(
            shown(1000, 0),
            [(1000, 0, 1), (1, 1, 999), (1001, 1001, u32::MAX - 1001)]
        );
        assert_eq!(
            shown(5, 7),
            [(5, 7, 1), (0, 0, 5), (6, 6, 1), (8, 8, u32::MAX - 8)]
        );
        assert_eq!(shown(7, 7), [(0, 0, u32::MAX)]);
    }
}
