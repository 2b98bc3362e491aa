//! From a container's spec and the facts of its host to the `config.json` of the OCI runtime specification.
//!
//! Pure: everything that has to be looked up first is in [`Surroundings`]. Docker's defaults are here.

mod capabilities;
mod devices;
mod mounts;
mod process;
mod resources;
mod security;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxSeccomp,
    RootBuilder, Spec, SpecBuilder,
};

use super::accounts::Account;
use super::record::ContainerRecord;
use super::spec::{CgroupnsMode, IpcMode, NetworkMode, PidMode, UtsMode};
use crate::error::EngineError;
use crate::system::HostFeatures;

pub use capabilities::{
    CapabilityError, normalise as normalise_capabilities, resolve as resolve_capabilities,
};
pub use devices::{DeviceNode, cgroup_rule};
pub(super) use process::is_ulimit;
pub use process::{environment, exec_process};
pub use resources::{limits, needed_devices};
pub use security::{SeccompChoice, SecurityOptions};

/// The version of the runtime specification that is written.
const VERSION: &str = "1.2.1";
/// Where the init program is shown.
pub const INIT_PATH: &str = "/sbin/docker-init";

/// What has been looked up for one start.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Who the program runs as.
    pub account: Account,
    /// Variables that tell of linked containers; those of the container win.
    pub variables: Vec<String>,
    /// Devices to show, beside the default ones.
    pub devices: Vec<DeviceNode>,
    /// Numbers of block devices named in limits, by path.
    pub block_devices: HashMap<String, (i64, i64)>,
    /// Network namespace to join.
    pub network: Option<PathBuf>,
    /// IPC namespace to join.
    pub ipc: Option<PathBuf>,
    /// PID namespace to join.
    pub pid: Option<PathBuf>,
    /// Directory mounted on /dev/shm, where it is shared.
    pub shm: Option<PathBuf>,
    /// Files mounted on /etc/hosts, /etc/hostname and /etc/resolv.conf.
    pub etc: Vec<(PathBuf, &'static str)>,
    /// Control group.
    pub cgroup: PathBuf,
    /// System call filter.
    pub seccomp: Option<LinuxSeccomp>,
    /// Program shown as [`INIT_PATH`], where an init process is wanted.
    pub init: Option<PathBuf>,
    /// Where volumes are mounted from, by target.
    pub volumes: HashMap<String, VolumeSource>,
}

/// Where a volume is mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSource {
    /// Path on the host.
    pub path: PathBuf,
    /// Mount options of the volume itself.
    pub options: Vec<String>,
    /// With what is mounted below it.
    pub recursive: bool,
}

/// The configuration of a container's run.
///
/// # Errors
/// When something asked for cannot be expressed or contradicts the host.
pub fn specification(
    record: &ContainerRecord,
    features: &HostFeatures,
    surroundings: &Surroundings,
) -> Result<Spec, EngineError> {
    let host = &record.spec.host;
    let options = SecurityOptions::parse(&host.security_opt)?;
    let process = process::main_process(record, features, surroundings, &options)?;
    let mounts = mounts::all(record, features, surroundings, &options)?;
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(host.readonly_rootfs)
        .build()
        .map_err(invalid)?;
    let mut spec = SpecBuilder::default()
        .version(VERSION)
        .root(root)
        .process(process)
        .mounts(mounts)
        .linux(linux(record, features, surroundings, &options)?)
        .build()
        .map_err(invalid)?;
    // The builder starts from the crate's own defaults for what is not named.
    let private_uts = host.uts == UtsMode::Default;
    let config = &record.spec.config;
    spec.set_hostname(private_uts.then(|| config.hostname.clone()));
    spec.set_domainname(Some(config.domainname.clone()).filter(|d| private_uts && !d.is_empty()));
    let annotations: HashMap<String, String> = host
        .annotations
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    spec.set_annotations((!annotations.is_empty()).then_some(annotations));
    Ok(spec)
}

/// An error of the builders: a defect or a value that the document cannot hold.
pub(super) fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::failed(
        "write the container's configuration",
        berth_types::ErrorKind::InvalidArgument,
        error,
    )
}

fn namespace(
    kind: LinuxNamespaceType,
    path: Option<PathBuf>,
) -> Result<LinuxNamespace, EngineError> {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    match path {
        Some(path) => builder.path(path),
        None => builder,
    }
    .build()
    .map_err(invalid)
}

fn namespaces(
    record: &ContainerRecord,
    features: &HostFeatures,
    surroundings: &Surroundings,
) -> Result<Vec<LinuxNamespace>, EngineError> {
    let host = &record.spec.host;
    let mut list = vec![namespace(LinuxNamespaceType::Mount, None)?];
    let network_disabled = record.spec.config.network_disabled;
    match &host.network_mode {
        NetworkMode::Host if !network_disabled => {}
        NetworkMode::Container(_) if !network_disabled => list.push(namespace(
            LinuxNamespaceType::Network,
            surroundings.network.clone(),
        )?),
        _ => list.push(namespace(LinuxNamespaceType::Network, None)?),
    }
    if host.uts == UtsMode::Default {
        list.push(namespace(LinuxNamespaceType::Uts, None)?);
    }
    match &host.pid {
        PidMode::Host => {}
        PidMode::Container(_) => list.push(namespace(
            LinuxNamespaceType::Pid,
            surroundings.pid.clone(),
        )?),
        PidMode::Private => list.push(namespace(LinuxNamespaceType::Pid, None)?),
    }
    match &host.ipc {
        IpcMode::Host => {}
        IpcMode::Container(_) => list.push(namespace(
            LinuxNamespaceType::Ipc,
            surroundings.ipc.clone(),
        )?),
        _ => list.push(namespace(LinuxNamespaceType::Ipc, None)?),
    }
    if private_cgroup_namespace(host.cgroupns, features) {
        list.push(namespace(LinuxNamespaceType::Cgroup, None)?);
    }
    Ok(list)
}

fn private_cgroup_namespace(mode: CgroupnsMode, features: &HostFeatures) -> bool {
    features.cgroup_namespaces
        && match mode {
            CgroupnsMode::Private => true,
            CgroupnsMode::Host => false,
            CgroupnsMode::Default => features.cgroup_v2,
        }
}

fn linux(
    record: &ContainerRecord,
    features: &HostFeatures,
    surroundings: &Surroundings,
    options: &SecurityOptions,
) -> Result<Linux, EngineError> {
    let host = &record.spec.host;
    let unmasked = host.privileged || options.system_paths_unconfined;
    let masked = match &host.masked_paths {
        _ if unmasked => Vec::new(),
        Some(paths) => paths.clone(),
        None => security::masked_paths(features),
    };
    let read_only = match &host.readonly_paths {
        _ if unmasked => Vec::new(),
        Some(paths) => paths.clone(),
        None => security::READ_ONLY_PATHS
            .iter()
            .map(|p| (*p).to_owned())
            .collect(),
    };
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(record, features, surroundings)?)
        .resources(resources::of_start(record, features, surroundings)?)
        .cgroups_path(surroundings.cgroup.clone())
        .devices(devices::shown(&surroundings.devices)?)
        .masked_paths(masked)
        .readonly_paths(read_only)
        .build()
        .map_err(invalid)?;
    let sysctls = sysctls(record, features);
    linux.set_sysctl((!sysctls.is_empty()).then_some(sysctls));
    linux.set_seccomp(surroundings.seccomp.clone());
    linux.set_rootfs_propagation(mounts::root_propagation(&record.spec.mounts));
    Ok(linux)
}

/// Docker's own two, in a private network namespace, under those asked for.
fn sysctls(record: &ContainerRecord, features: &HostFeatures) -> HashMap<String, String> {
    let host = &record.spec.host;
    let mut all = HashMap::new();
    if host.network_mode.is_private() {
        if features.sysctl_ping_group_range {
            all.insert(
                "net.ipv4.ping_group_range".to_owned(),
                "0 2147483647".to_owned(),
            );
        }
        if features.sysctl_unprivileged_port_start {
            all.insert(
                "net.ipv4.ip_unprivileged_port_start".to_owned(),
                "0".to_owned(),
            );
        }
    }
    all.extend(host.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())));
    all
}

#[cfg(test)]
mod tests;
