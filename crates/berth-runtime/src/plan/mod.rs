//! The setup plan: everything the runtime will do for a container, decided before anything is done. Pure.
//!
//! Making the plan is also the check of the configuration: what cannot be is refused here, with the path of the
//! field. Which side does what is told at each field: *creator* (in the caller's namespaces) or *first process*
//! (in the container's).

pub mod intel_rdt;
pub mod mount;
mod net_devices;
pub mod process;
mod sysctl;

use std::path::{Component, Path, PathBuf};

use berth_sys::mount::Propagation;
use berth_sys::namespace::{self, Kind};
use oci_spec::runtime::{
    LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxPersonalityDomain,
    MemoryPolicyFlagType, MemoryPolicyModeType, Spec,
};

use crate::error::RuntimeError;
use crate::net_devices::NetDevice;
use intel_rdt::IntelRdtPlan;
use mount::{MountKind, MountStep};
use process::ProcessPlan;

/// What will be done to make a container.
#[derive(Debug, Clone, PartialEq)]
pub struct SetupPlan {
    /// Namespaces to make (both sides).
    pub new_namespaces: Vec<Kind>,
    /// Namespaces to join (opened by the creator), in the order of joining.
    pub joined_namespaces: Vec<(Kind, PathBuf)>,
    /// User id map of a new user namespace (creator).
    pub user_map: Vec<IdMap>,
    /// Group id map of a new user namespace (creator).
    pub group_map: Vec<IdMap>,
    /// Lines of timens_offsets for a new time namespace.
    pub time_offsets: Vec<(String, i64, u32)>,
    /// Network devices of the host to move into the container (creator).
    pub net_devices: Vec<NetDevice>,
    /// The root directory as configured, relative ones to the bundle (creator).
    pub root: PathBuf,
    /// The root is read-only in the end (first process).
    pub root_read_only: bool,
    /// Propagation of the root in the end; the flag tells "recursively" (first process).
    pub root_propagation: Option<(Propagation, bool)>,
    /// Mounts, in order: sources are opened by the creator, file systems made by the first process.
    pub mounts: Vec<MountStep>,
    /// Whether /dev is ours to fill (it is not when something of the host is bound there).
    pub fill_dev: bool,
    /// Devices to make (first process).
    pub devices: Vec<DeviceStep>,
    /// Symbolic links in /dev: link and what it says (first process).
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Paths to hide (first process).
    pub masked_paths: Vec<PathBuf>,
    /// Paths to make read-only (first process).
    pub read_only_paths: Vec<PathBuf>,
    /// Kernel parameters: path below /proc/sys and value (first process).
    pub sysctls: Vec<(PathBuf, String)>,
    /// Host name (first process).
    pub hostname: Option<String>,
    /// NIS domain name (first process).
    pub domainname: Option<String>,
    /// Execution domain (first process).
    pub personality: Option<u64>,
    /// NUMA memory policy: mode with flags, nodes (first process).
    pub memory_policy: Option<(u32, Vec<usize>)>,
    /// Class of service of resctrl (creator; the first process joins it).
    pub intel_rdt: Option<IntelRdtPlan>,
    /// What the process becomes (first process); `None` is allowed to create, and then start fails.
    pub process: Option<ProcessPlan>,
}

/// One line of an id map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl From<&LinuxIdMapping> for IdMap {
    fn from(map: &LinuxIdMapping) -> Self {
        Self {
            inside: map.container_id(),
            outside: map.host_id(),
            count: map.size(),
        }
    }
}

/// The text of an id map as the kernel takes it.
pub fn id_map_text(maps: &[IdMap]) -> String {
    maps.iter()
        .map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count))
        .collect()
}

/// One device file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStep {
    /// Where, inside the root.
    pub path: PathBuf,
    /// Character, block or FIFO.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
}

/// Kind of a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
    /// FIFO.
    Fifo,
}

/// Devices every container gets (config-linux.md, "Default Devices").
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links every container gets (runtime-linux.md, "Dev symbolic links", and "/dev/ptmx" of the default devices).
const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

impl SetupPlan {
    /// Checks a configuration and plans its container.
    pub fn of(spec: &Spec) -> Result<Self, RuntimeError> {
        check_version(spec.version())?;
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| RuntimeError::invalid("root", "is missing"))?;
        let linux = spec
            .linux()
            .as_ref()
            .ok_or_else(|| RuntimeError::invalid("linux", "is missing"))?;
        let (new_namespaces, joined_namespaces) = namespaces(spec)?;
        let user_map: Vec<IdMap> = maps(linux.uid_mappings());
        let group_map: Vec<IdMap> = maps(linux.gid_mappings());
        check_maps(&new_namespaces, &joined_namespaces, &user_map, &group_map)?;
        let has = |kind: Kind| {
            new_namespaces.contains(&kind) || joined_namespaces.iter().any(|(k, _)| *k == kind)
        };
        if (spec.hostname().is_some() || spec.domainname().is_some()) && !has(Kind::Uts) {
            return Err(RuntimeError::invalid(
                "hostname",
                "needs a UTS namespace of the container's own",
            ));
        }
        let time_offsets = time_offsets(spec, new_namespaces.contains(&Kind::Time))?;
        let mounts: Vec<MountStep> = spec
            .mounts()
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, one)| {
                mount::plan(
                    one,
                    index,
                    linux
                        .mount_label()
                        .as_deref()
                        .filter(|label| !label.is_empty()),
                )
            })
            .collect::<Result<_, _>>()?;
        let fill_dev = !mounts.iter().any(|step| {
            step.destination == Path::new("/dev") && matches!(step.what, MountKind::Bind { .. })
        });
        let process = spec
            .process()
            .as_ref()
            .map(|process| process::plan(process, "process"))
            .transpose()?;
        if let Some(process) = &process
            && !user_map.is_empty()
            && !user_map
                .iter()
                .any(|map| process.user >= map.inside && process.user - map.inside < map.count)
        {
            return Err(RuntimeError::invalid(
                "process.user.uid",
                format!("{} is not mapped by linux.uidMappings", process.user),
            ));
        }
        Ok(Self {
            sysctls: sysctl::plan(spec, &has)?,
            net_devices: net_devices::plan(linux, &has)?,
            new_namespaces: new_namespaces.clone(),
            joined_namespaces: joined_namespaces.clone(),
            user_map,
            group_map,
            time_offsets,
            root: root.path().clone(),
            root_read_only: root.readonly().unwrap_or(false),
            root_propagation: root_propagation(linux.rootfs_propagation().as_deref())?,
            mounts,
            fill_dev,
            devices: if fill_dev { devices(spec)? } else { Vec::new() },
            links: if fill_dev {
                DEFAULT_LINKS
                    .iter()
                    .map(|(link, target)| (PathBuf::from(link), PathBuf::from(target)))
                    .collect()
            } else {
                Vec::new()
            },
            masked_paths: paths(linux.masked_paths(), "linux.maskedPaths")?,
            read_only_paths: paths(linux.readonly_paths(), "linux.readonlyPaths")?,
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
            personality: personality(spec)?,
            memory_policy: memory_policy(spec)?,
            intel_rdt: intel_rdt::plan(linux)?,
            process,
        })
    }

    /// Whether the container has a namespace of this kind, made or joined, and not the runtime's.
    pub fn has(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joins(kind).is_some()
    }

    /// Whether a namespace of this kind is made.
    pub fn makes(&self, kind: Kind) -> bool {
        self.new_namespaces.contains(&kind)
    }

    /// The path of the namespace of this kind that is joined.
    pub fn joins(&self, kind: Kind) -> Option<&Path> {
        self.joined_namespaces
            .iter()
            .find(|(joined, _)| *joined == kind)
            .map(|(_, path)| path.as_path())
    }
}

/// Any version 1; fields that are not known are none of ours (config.md, "Extensibility").
fn check_version(version: &str) -> Result<(), RuntimeError> {
    if version.split('.').next() == Some("1") {
        return Ok(());
    }
    Err(RuntimeError::invalid(
        "ociVersion",
        format!("{version:?} is not a version 1 of the specification"),
    ))
}

fn maps(maps: &Option<Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    maps.iter().flatten().map(IdMap::from).collect()
}

type JoinedNamespaces = Vec<(Kind, PathBuf)>;

fn namespaces(spec: &Spec) -> Result<(Vec<Kind>, JoinedNamespaces), RuntimeError> {
    let mut new = Vec::new();
    let mut joined: JoinedNamespaces = Vec::new();
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    for namespace in listed.into_iter().flatten() {
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => Kind::Mount,
            LinuxNamespaceType::Cgroup => Kind::Cgroup,
            LinuxNamespaceType::Uts => Kind::Uts,
            LinuxNamespaceType::Ipc => Kind::Ipc,
            LinuxNamespaceType::User => Kind::User,
            LinuxNamespaceType::Pid => Kind::Pid,
            LinuxNamespaceType::Network => Kind::Network,
            LinuxNamespaceType::Time => Kind::Time,
        };
        if new.contains(&kind) || joined.iter().any(|(known, _)| *known == kind) {
            return Err(RuntimeError::invalid(
                "linux.namespaces",
                format!("{} is there twice", kind.file()),
            ));
        }
        match namespace
            .path()
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
        {
            Some(path) if !path.is_absolute() => {
                return Err(RuntimeError::invalid(
                    "linux.namespaces",
                    format!("{} must be an absolute path", path.display()),
                ));
            }
            Some(path) => joined.push((kind, path)),
            None => new.push(kind),
        }
    }
    let order = |kind: &Kind| namespace::ALL.iter().position(|known| known == kind);
    new.sort_by_key(order);
    joined.sort_by_key(|(kind, _)| order(kind));
    Ok((new, joined))
}

fn check_maps(
    new: &[Kind],
    joined: &JoinedNamespaces,
    users: &[IdMap],
    groups: &[IdMap],
) -> Result<(), RuntimeError> {
    if new.contains(&Kind::User) {
        if users.is_empty() || groups.is_empty() {
            return Err(RuntimeError::invalid(
                "linux.uidMappings",
                "a new user namespace needs uidMappings and gidMappings",
            ));
        }
        return Ok(());
    }
    let joins = joined.iter().any(|(kind, _)| *kind == Kind::User);
    let mapped = !users.is_empty() || !groups.is_empty();
    if mapped && !joins {
        return Err(RuntimeError::invalid(
            "linux.uidMappings",
            "id maps need a user namespace",
        ));
    }
    Ok(())
}

fn time_offsets(spec: &Spec, new: bool) -> Result<Vec<(String, i64, u32)>, RuntimeError> {
    let offsets = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.time_offsets().as_ref());
    let mut lines = Vec::new();
    for (clock, offset) in offsets.into_iter().flatten() {
        if !new {
            return Err(RuntimeError::invalid(
                "linux.timeOffsets",
                "need a new time namespace",
            ));
        }
        if clock != "monotonic" && clock != "boottime" {
            return Err(RuntimeError::invalid(
                "linux.timeOffsets",
                format!("{clock:?} is neither monotonic nor boottime"),
            ));
        }
        lines.push((
            clock.clone(),
            offset.secs().unwrap_or(0),
            offset.nanosecs().unwrap_or(0),
        ));
    }
    lines.sort();
    Ok(lines)
}

fn root_propagation(word: Option<&str>) -> Result<Option<(Propagation, bool)>, RuntimeError> {
    Ok(match word {
        None | Some("") => None,
        Some("shared") => Some((Propagation::Shared, false)),
        Some("rshared") => Some((Propagation::Shared, true)),
        Some("slave") => Some((Propagation::Slave, false)),
        Some("rslave") => Some((Propagation::Slave, true)),
        Some("private") => Some((Propagation::Private, false)),
        Some("rprivate") => Some((Propagation::Private, true)),
        Some("unbindable") => Some((Propagation::Unbindable, false)),
        Some("runbindable") => Some((Propagation::Unbindable, true)),
        Some(other) => {
            return Err(RuntimeError::invalid(
                "linux.rootfsPropagation",
                format!("{other:?} is not a propagation type"),
            ));
        }
    })
}

fn devices(spec: &Spec) -> Result<Vec<DeviceStep>, RuntimeError> {
    let mut steps: Vec<DeviceStep> = DEFAULT_DEVICES
        .iter()
        .map(|(path, major, minor)| DeviceStep {
            path: PathBuf::from(path),
            kind: DeviceKind::Character,
            major: *major,
            minor: *minor,
            mode: 0o666,
            user: 0,
            group: 0,
        })
        .collect();
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.devices().as_ref());
    for device in listed.into_iter().flatten() {
        let wrong = |reason: String| RuntimeError::invalid("linux.devices", reason);
        let path = device.path();
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(wrong(format!(
                "{} must be an absolute path without ..",
                path.display()
            )));
        }
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => {
                return Err(wrong(format!("{} needs a type", path.display())));
            }
        };
        let number = |value: i64| {
            u32::try_from(value).map_err(|_| {
                wrong(format!(
                    "{}: {value} is not a device number",
                    path.display()
                ))
            })
        };
        let step = DeviceStep {
            path: path.clone(),
            kind,
            major: number(device.major())?,
            minor: number(device.minor())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            user: device.uid().unwrap_or(0),
            group: device.gid().unwrap_or(0),
        };
        match steps.iter_mut().find(|known| known.path == step.path) {
            Some(known) => *known = step,
            None => steps.push(step),
        }
    }
    Ok(steps)
}

fn paths(list: &Option<Vec<String>>, field: &str) -> Result<Vec<PathBuf>, RuntimeError> {
    list.iter()
        .flatten()
        .map(|text| {
            let path = PathBuf::from(text);
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(RuntimeError::invalid(
                    field,
                    format!("{text:?} must be an absolute path"),
                ))
            }
        })
        .collect()
}

fn personality(spec: &Spec) -> Result<Option<u64>, RuntimeError> {
    let Some(personality) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.personality().as_ref())
    else {
        return Ok(None);
    };
    // No flags are defined (config-linux.md, "Personality").
    if personality
        .flags()
        .as_ref()
        .is_some_and(|flags| !flags.is_empty())
    {
        return Err(RuntimeError::invalid(
            "linux.personality.flags",
            "the specification defines none",
        ));
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

fn memory_policy(spec: &Spec) -> Result<Option<(u32, Vec<usize>)>, RuntimeError> {
    let Some(policy) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.memory_policy().as_ref())
    else {
        return Ok(None);
    };
    let mut mode: u32 = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    for flag in policy.flags().iter().flatten() {
        mode |= match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        };
    }
    let nodes = process::cpu_list(policy.nodes(), "linux.memoryPolicy.nodes")?.unwrap_or_default();
    Ok(Some((mode, nodes)))
}

#[cfg(test)]
mod tests;
