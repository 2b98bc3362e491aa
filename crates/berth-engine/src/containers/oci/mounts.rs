//! Everything that is mounted in a container, in order.

use oci_spec::runtime::{Mount, MountBuilder};

use super::{INIT_PATH, SecurityOptions, Surroundings, invalid};
use crate::containers::record::ContainerRecord;
use crate::containers::spec::{IpcMode, MountKind, MountPoint, Propagation};
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
        list.push(of_point(point, features)?);
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

fn of_point(point: &MountPoint, features: &HostFeatures) -> Result<Mount, EngineError> {
    if point.kind == MountKind::Tmpfs {
        return mount(&point.target, "tmpfs", "tmpfs", point.tmpfs_options.clone());
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
    mount(&point.target, "bind", &point.source, options)
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
