//! Facts about the engine and its host: engine to wire.

use berth_api::{
    ApiVersion, CheckFinding, CheckReport, Commit, ComponentVersion, IndexInfo, PlatformName,
    PluginsInfo, RegistryServiceConfig, RuntimeWithStatus, SwarmInfo, SystemInfo, SystemVersion,
};
use berth_engine::system;
use std::collections::BTreeMap;

/// `version`.
pub(crate) fn version(facts: &system::VersionFacts) -> SystemVersion {
    let api_version = ApiVersion::MAX.to_string();
    let min_api_version = ApiVersion::MIN.to_string();
    let details = [
        ("ApiVersion", api_version.as_str()),
        ("Arch", &facts.architecture),
        ("Experimental", "false"),
        ("KernelVersion", &facts.kernel_version),
        ("MinAPIVersion", &min_api_version),
        ("Os", &facts.os),
    ];
    SystemVersion {
        platform: PlatformName {
            name: "Berth".to_owned(),
        },
        components: vec![ComponentVersion {
            name: "Engine".to_owned(),
            version: facts.version.clone(),
            details: details
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }],
        version: facts.version.clone(),
        api_version,
        min_api_version,
        os: facts.os.clone(),
        arch: facts.architecture.clone(),
        kernel_version: facts.kernel_version.clone(),
        ..SystemVersion::default()
    }
}

/// `info`, with the fields that the client's version of the API still had.
pub(crate) fn info(facts: system::SystemInfo, version: ApiVersion) -> SystemInfo {
    let security = security_options(&facts.security, version);
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let commit = |id: &str| Commit {
        id: id.to_owned(),
        // The expected commit was dropped in API 1.49.
        expected: if version.at_least(49) {
            String::new()
        } else {
            id.to_owned()
        },
    };
    let before_1_50 = (!version.at_least(50)).then_some(false);
    let mut warnings = facts.warnings;
    if facts.security.seccomp && facts.security.seccomp_profile != "builtin" {
        warnings.push("WARNING: daemon is not using the default seccomp profile".to_owned());
    }
    let [http_proxy, https_proxy, no_proxy] = facts.proxies;
    SystemInfo {
        id: facts.id,
        containers: count(facts.containers),
        containers_running: count(facts.running),
        containers_paused: count(facts.paused),
        containers_stopped: count(facts.stopped),
        images: count(facts.images),
        driver: facts.storage_driver,
        driver_status: facts
            .storage_status
            .into_iter()
            .map(|(name, value)| [name, value])
            .collect(),
        plugins: PluginsInfo {
            volume: Some(facts.volume_drivers),
            network: Some(facts.network_drivers),
            authorization: None,
            log: Some(facts.log_drivers),
        },
        memory_limit: facts.memory_limit,
        swap_limit: facts.swap_limit,
        cpu_cfs_period: facts.cpu_cfs,
        cpu_cfs_quota: facts.cpu_cfs,
        cpu_shares: facts.cpu_shares,
        cpu_set: facts.cpu_set,
        pids_limit: facts.pids_limit,
        ipv4_forwarding: facts.ipv4_forwarding,
        debug: facts.debug,
        n_fd: count(facts.open_files),
        oom_kill_disable: facts.oom_kill_disable,
        system_time: facts.now.to_string(),
        logging_driver: facts.default_log_driver,
        cgroup_driver: facts.cgroup_driver,
        cgroup_version: facts.cgroup_version,
        n_events_listener: count(facts.listeners),
        kernel_version: facts.kernel_version,
        operating_system: facts.operating_system,
        os_version: facts.os_version,
        os_type: "linux".to_owned(),
        architecture: facts.architecture,
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registry_config(
            facts.registry_mirrors,
            facts.insecure_registries,
        )),
        ncpu: i64::from(facts.processors),
        mem_total: super::signed(facts.memory),
        docker_root_dir: facts.data_root,
        name: facts.hostname,
        labels: facts.labels,
        server_version: facts.server_version,
        runtimes: facts
            .runtimes
            .into_iter()
            .map(|(name, path)| {
                let runtime = RuntimeWithStatus {
                    path,
                    ..RuntimeWithStatus::default()
                };
                (name, runtime)
            })
            .collect(),
        default_runtime: facts.default_runtime,
        swarm: SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..SwarmInfo::default()
        },
        live_restore_enabled: true,
        http_proxy: without_password(&http_proxy),
        https_proxy: without_password(&https_proxy),
        no_proxy,
        init_binary: facts.init_binary,
        containerd_commit: commit(""),
        runc_commit: commit(""),
        init_commit: commit(""),
        security_options: security,
        bridge_nf_iptables: before_1_50,
        bridge_nf_ip6tables: before_1_50,
        warnings: (!warnings.is_empty()).then_some(warnings),
        ..SystemInfo::default()
    }
}

/// What a check found.
pub(crate) fn check(report: system::CheckReport) -> CheckReport {
    CheckReport {
        sound: report.is_sound(),
        contents: report.contents,
        content_bytes: report.bytes,
        layers: report.layers,
        layers_compared: report.compared,
        images: report.images,
        names: report.names,
        containers: report.containers,
        volumes: report.volumes,
        findings: report.findings.into_iter().map(finding).collect(),
    }
}

fn finding(finding: system::Finding) -> CheckFinding {
    let (outcome, detail) = match finding.outcome {
        system::Outcome::Found => ("found", String::new()),
        system::Outcome::Repaired(how) => ("repaired", how),
        system::Outcome::Unrepaired(why) => ("unrepaired", why),
        system::Outcome::Removed => ("removed", String::new()),
    };
    CheckFinding {
        kind: finding.part.as_str().to_owned(),
        object: finding.object,
        problem: finding.problem,
        images: finding.images,
        outcome: outcome.to_owned(),
        detail,
    }
}

/// A proxy's URL for everybody who may ask: credentials masked as Docker masks them.
fn without_password(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}xxxxx:xxxxx@{host}"),
        None => url.to_owned(),
    }
}

fn security_options(facts: &system::SecurityFacts, version: ApiVersion) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |holds: bool, option: String| {
        if holds {
            options.push(option);
        }
    };
    add(facts.apparmor, "name=apparmor".to_owned());
    add(
        facts.seccomp,
        format!("name=seccomp,profile={}", facts.seccomp_profile),
    );
    add(facts.cgroup_namespaces, "name=cgroupns".to_owned());
    add(facts.no_new_privileges, "name=no-new-privileges".to_owned());
    if !version.at_least(25) {
        for option in &mut options {
            let name = option
                .trim_start_matches("name=")
                .split(',')
                .next()
                .unwrap_or_default();
            *option = name.to_owned();
        }
    }
    options
}

fn registry_config(mirrors: Vec<String>, insecure: Vec<String>) -> RegistryServiceConfig {
    let (networks, hosts): (Vec<_>, Vec<_>) =
        insecure.into_iter().partition(|entry| entry.contains('/'));
    let mut index_configs = BTreeMap::from([(
        "docker.io".to_owned(),
        IndexInfo {
            name: "docker.io".to_owned(),
            mirrors: mirrors.clone(),
            secure: true,
            official: true,
        },
    )]);
    for host in hosts {
        let index = IndexInfo {
            name: host.clone(),
            ..IndexInfo::default()
        };
        index_configs.insert(host, index);
    }
    RegistryServiceConfig {
        insecure_registry_cidrs: ["::1/128".to_owned(), "127.0.0.0/8".to_owned()]
            .into_iter()
            .chain(networks)
            .collect(),
        index_configs,
        mirrors: (!mirrors.is_empty()).then_some(mirrors),
    }
}
