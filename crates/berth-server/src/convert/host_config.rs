//! What a container asks of its host, both ways.

use super::{mounts, none_if_empty, resources, sorted};
use berth_api::{HostConfig, LogConfig, PortBinding, StrSlice};
use berth_engine::containers::spec::{
    self, CgroupnsMode, HostSettings, IpcMode, LogSettings, NetworkMode, PidMode, UsernsMode,
    UtsMode,
};
use berth_engine::containers::view::ContainerView;

/// Wire to engine.
///
/// # Errors
/// With a sentence for the client.
pub(crate) fn to_engine(host: HostConfig) -> Result<HostSettings, String> {
    if !host.cgroup.is_empty() {
        return Err(format!("invalid cgroup to join: {:?}", short(&host.cgroup)));
    }
    let mode = |error: spec::ModeError| error.to_string();
    let words = |list: Option<StrSlice>| list.map(|words| words.0).unwrap_or_default();
    let [height, width] = host.console_size;
    Ok(HostSettings {
        binds: host.binds.unwrap_or_default(),
        mounts: host
            .mounts
            .into_iter()
            .map(mounts::to_engine)
            .collect::<Result<_, _>>()?,
        tmpfs: host.tmpfs.into_iter().collect(),
        volumes_from: host.volumes_from.unwrap_or_default(),
        volume_driver: host.volume_driver,
        container_id_file: host.container_id_file,
        log: LogSettings {
            driver: host.log_config.kind,
            options: host
                .log_config
                .config
                .unwrap_or_default()
                .into_iter()
                .collect(),
        },
        network_mode: NetworkMode::parse(&host.network_mode),
        port_bindings: host
            .port_bindings
            .unwrap_or_default()
            .into_iter()
            .map(|(port, bindings)| {
                // No place at all means any, as ever.
                let bindings = bindings
                    .filter(|bindings| !bindings.is_empty())
                    .unwrap_or_else(|| vec![PortBinding::default()]);
                let bindings = bindings.into_iter().map(|binding| spec::PortBinding {
                    host_ip: binding.host_ip,
                    host_port: binding.host_port,
                });
                (port, bindings.collect())
            })
            .collect(),
        publish_all_ports: host.publish_all_ports,
        restart: resources::restart_policy(&host.restart_policy)?,
        auto_remove: host.auto_remove,
        console_size: (height > 0 && width > 0).then_some((height, width)),
        annotations: host.annotations.into_iter().collect(),
        cap_add: words(host.cap_add),
        cap_drop: words(host.cap_drop),
        cgroupns: CgroupnsMode::parse(&host.cgroupns_mode).map_err(mode)?,
        dns: host.dns.unwrap_or_default(),
        dns_options: host.dns_options.unwrap_or_default(),
        dns_search: host.dns_search.unwrap_or_default(),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        group_add: host.group_add.unwrap_or_default(),
        ipc: IpcMode::parse(&host.ipc_mode).map_err(mode)?,
        links: host.links.unwrap_or_default(),
        oom_score_adj: host.oom_score_adj,
        pid: PidMode::parse(&host.pid_mode).map_err(mode)?,
        privileged: host.privileged,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: host.security_opt.unwrap_or_default(),
        storage_opt: host.storage_opt.into_iter().collect(),
        uts: UtsMode::parse(&host.uts_mode).map_err(mode)?,
        userns: UsernsMode::parse(&host.userns_mode).map_err(mode)?,
        shm_size: (host.shm_size != 0).then_some(host.shm_size),
        sysctls: host.sysctls.into_iter().collect(),
        runtime: host.runtime,
        isolation: host.isolation,
        masked_paths: host.masked_paths,
        readonly_paths: host.readonly_paths,
        init: host.init,
        resources: resources::to_engine(host.resources)?,
    })
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Engine to wire, with what was updated since the create. Where the engine does not keep whether a list
/// was empty or absent, it is what Docker's own client sends.
pub(crate) fn from_engine(view: &ContainerView) -> HostConfig {
    let host = &view.spec.host;
    let words = |list: &[String]| none_if_empty(list).map(StrSlice);
    let port_bindings = host.port_bindings.iter().map(|(port, bindings)| {
        let bindings = bindings.iter().map(|binding| PortBinding {
            host_ip: binding.host_ip.clone(),
            host_port: binding.host_port.clone(),
        });
        (port.clone(), Some(bindings.collect()))
    });
    let (height, width) = host.console_size.unwrap_or_default();
    HostConfig {
        binds: none_if_empty(&host.binds),
        container_id_file: host.container_id_file.clone(),
        log_config: LogConfig {
            kind: host.log.driver.clone(),
            config: Some(sorted(&host.log.options)),
        },
        network_mode: host.network_mode.to_string(),
        port_bindings: Some(port_bindings.collect()),
        restart_policy: resources::restart_policy_from_engine(view.restart),
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver.clone(),
        volumes_from: none_if_empty(&host.volumes_from),
        console_size: [height, width],
        annotations: sorted(&host.annotations),
        cap_add: words(&host.cap_add),
        cap_drop: words(&host.cap_drop),
        cgroupns_mode: host.cgroupns.to_string(),
        dns: Some(host.dns.clone()),
        dns_options: Some(host.dns_options.clone()),
        dns_search: Some(host.dns_search.clone()),
        extra_hosts: none_if_empty(&host.extra_hosts),
        group_add: none_if_empty(&host.group_add),
        ipc_mode: host.ipc.to_string(),
        cgroup: String::new(),
        links: none_if_empty(&host.links),
        oom_score_adj: host.oom_score_adj,
        pid_mode: host.pid.to_string(),
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: none_if_empty(&host.security_opt),
        storage_opt: sorted(&host.storage_opt),
        tmpfs: sorted(&host.tmpfs),
        uts_mode: host.uts.to_string(),
        userns_mode: host.userns.to_string(),
        shm_size: host.shm_size.unwrap_or_default(),
        sysctls: sorted(&host.sysctls),
        runtime: host.runtime.clone(),
        isolation: host.isolation.clone(),
        resources: resources::from_engine(&view.resources),
        mounts: host.mounts.iter().map(mounts::from_engine).collect(),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        init: host.init,
    }
}
