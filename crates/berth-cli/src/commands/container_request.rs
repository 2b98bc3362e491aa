//! From flags to the request that creates a container. Pure but for files that flags name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use berth_api::{
    BindOptions, ContainerConfig, ContainerCreateBody, DeviceRequest, EmptyObject,
    EndpointSettings, HealthConfig, HostConfig, LogConfig, Mount, NetworkingConfig, Resources,
    StrSlice,
};

use crate::flags::Parsed;
use crate::options::environment::{self, LookUp};
use crate::options::network::{self, Attachment};
use crate::options::{
    device, gpus, mount, name_resolution, port, restart, scalar, security, ulimit, volume,
};

/// What a request takes from around the client.
pub(crate) struct Surroundings<'a> {
    /// Looks the client's environment up.
    pub(crate) look_up: LookUp<'a>,
    /// The client's directory.
    pub(crate) directory: &'a Path,
    /// The engine's socket.
    pub(crate) socket: &'a str,
    /// User and group of whoever calls the client, as `uid:gid`.
    pub(crate) caller: String,
    /// Proxy variables new containers get.
    pub(crate) proxies: Vec<(&'a str, &'a str)>,
}

/// A number that a flag's check has let through; 0 when the flag was not given.
fn number(parsed: &Parsed, flag: &str) -> i64 {
    scalar::int64(parsed.text(flag)).unwrap_or_default()
}

fn bytes(parsed: &Parsed, flag: &str) -> i64 {
    scalar::bytes_or_unlimited(parsed.text(flag)).unwrap_or_default()
}

fn listed<T>(texts: &[String], parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    texts.iter().map(|text| parse(text)).collect()
}

/// The list, or `null` when there is nothing in it.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Builds the request for `IMAGE [COMMAND…]`.
///
/// # Errors
/// The sentence on the first value that does not fit.
pub(crate) fn build(
    parsed: &Parsed,
    surroundings: &Surroundings<'_>,
) -> Result<ContainerCreateBody, String> {
    let mac_address = parsed.text("mac-address");
    if !mac_address.is_empty() && !network::is_mac_address(mac_address) {
        return Err(format!("{mac_address} is not a valid mac address"));
    }
    let swappiness = number(parsed, "memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let Volumes {
        binds,
        owned,
        volumes,
    } = volumes(parsed, surroundings.directory)?;
    let ports = port::all(&parsed.list("publish"), &parsed.list("expose"))?;
    let (devices, cdi) = devices(parsed)?;
    let (env, labels) = variables_and_labels(parsed, surroundings)?;
    let restart_policy = restart::parse(parsed.text("restart"))?;
    check_modes(parsed)?;
    let log_config = log_config(parsed)?;
    let security = security::all(&parsed.list("security-opt"))?;
    let storage_opt = storage_options(parsed)?;
    let healthcheck = health(parsed)?;
    let resources = resources(parsed, devices, cdi, swappiness)?;
    let networks = listed(&parsed.list("network"), network::parse)?;

    let config = ContainerConfig {
        exposed_ports: ports.exposed,
        env: some(env),
        labels: Some(labels),
        volumes: Some(volumes),
        healthcheck,
        ..identity(parsed)
    };
    let (masked_paths, readonly_paths) = if security.unmask_system_paths {
        (Some(Vec::new()), Some(Vec::new()))
    } else {
        (None, None)
    };
    let auto_remove = parsed.switch("rm");
    if auto_remove && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    let mut mounts = parsed
        .list("mount")
        .iter()
        .map(|text| mount::parse(text, surroundings.directory))
        .collect::<Result<Vec<Mount>, _>>()?;
    mounts.extend(owned);
    for bind in mounts.iter_mut().filter_map(|m| m.bind_options.as_mut()) {
        if bind.owner == mount::CALLER {
            bind.owner.clone_from(&surroundings.caller);
        }
    }
    if parsed.switch("use-api-socket") {
        mounts.push(api_socket(surroundings.socket));
    }
    let host_config = HostConfig {
        binds: some(binds),
        container_id_file: parsed.text("cidfile").to_owned(),
        log_config,
        network_mode: networks
            .first()
            .map_or("default", |first| first.target.as_str())
            .to_owned(),
        port_bindings: Some(ports.bindings),
        restart_policy,
        auto_remove,
        volume_driver: parsed.text("volume-driver").to_owned(),
        volumes_from: some(parsed.list("volumes-from")),
        annotations: environment::to_map(&parsed.list("annotation")),
        cap_add: capabilities(parsed.list("cap-add")),
        cap_drop: capabilities(parsed.list("cap-drop")),
        cgroupns_mode: parsed.text("cgroupns").to_owned(),
        dns: Some(listed(&parsed.list("dns"), name_resolution::address)?),
        dns_options: Some(parsed.list("dns-option")),
        dns_search: Some(parsed.list("dns-search")),
        extra_hosts: some(listed(
            &parsed.list("add-host"),
            name_resolution::extra_host,
        )?),
        group_add: some(parsed.list("group-add")),
        ipc_mode: parsed.text("ipc").to_owned(),
        links: some(parsed.list("link")),
        oom_score_adj: number(parsed, "oom-score-adj"),
        pid_mode: parsed.text("pid").to_owned(),
        privileged: parsed.switch("privileged"),
        publish_all_ports: parsed.switch("publish-all"),
        readonly_rootfs: parsed.switch("read-only"),
        security_opt: some(security.options),
        storage_opt,
        tmpfs: tmpfs(parsed),
        uts_mode: parsed.text("uts").to_owned(),
        userns_mode: parsed.text("userns").to_owned(),
        shm_size: bytes(parsed, "shm-size"),
        sysctls: environment::to_map(&parsed.list("sysctl")),
        runtime: parsed.text("runtime").to_owned(),
        isolation: parsed.text("isolation").to_owned(),
        resources,
        mounts,
        masked_paths,
        readonly_paths,
        init: parsed.given("init").then(|| parsed.switch("init")),
        ..HostConfig::default()
    };
    Ok(ContainerCreateBody {
        config,
        host_config: Some(host_config),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(endpoints(parsed, networks)?),
        }),
    })
}

/// Capabilities by their full names, each once.
fn capabilities(names: Vec<String>) -> Option<StrSlice> {
    let full: BTreeSet<String> = names
        .iter()
        .map(|name| name.trim().to_ascii_uppercase())
        .map(|name| {
            if name == "ALL" || name.starts_with("CAP_") {
                name
            } else {
                format!("CAP_{name}")
            }
        })
        .collect();
    some(full.into_iter().collect()).map(StrSlice)
}

/// What the container runs and as whom; streams as they are for a client that attaches.
fn identity(parsed: &Parsed) -> ContainerConfig {
    let attached = parsed.list("attach");
    let named = |stream: &str| {
        attached
            .iter()
            .any(|name| name.eq_ignore_ascii_case(stream))
    };
    let stdin = parsed.switch("interactive");
    let attach_stdin = stdin || named("stdin");
    let (image, command) = match parsed.operands.split_first() {
        Some((image, command)) => (image.clone(), command.to_vec()),
        None => (String::new(), Vec::new()),
    };
    ContainerConfig {
        hostname: parsed.text("hostname").to_owned(),
        domainname: parsed.text("domainname").to_owned(),
        user: parsed.text("user").to_owned(),
        attach_stdin,
        attach_stdout: attached.is_empty() || named("stdout"),
        attach_stderr: attached.is_empty() || named("stderr"),
        tty: parsed.switch("tty"),
        open_stdin: stdin,
        // Input ends with the client that gives it.
        stdin_once: stdin && attach_stdin,
        cmd: some(command).map(StrSlice),
        image,
        working_dir: parsed.text("workdir").to_owned(),
        // An empty one takes the image's entrypoint away.
        entrypoint: parsed
            .given("entrypoint")
            .then(|| StrSlice(vec![parsed.text("entrypoint").to_owned()])),
        stop_signal: parsed.text("stop-signal").to_owned(),
        stop_timeout: parsed
            .given("stop-timeout")
            .then(|| number(parsed, "stop-timeout")),
        ..ContainerConfig::default()
    }
}

/// What all `-v` mean together.
#[derive(Default)]
struct Volumes {
    binds: Vec<String>,
    owned: Vec<Mount>,
    volumes: BTreeMap<String, EmptyObject>,
}

fn volumes(parsed: &Parsed, directory: &Path) -> Result<Volumes, String> {
    let mut found = Volumes::default();
    for text in parsed.list("volume") {
        match volume::parse(&text, directory)? {
            volume::Volume::Bind(bind) if found.binds.contains(&bind) => {}
            volume::Volume::Bind(bind) => found.binds.push(bind),
            volume::Volume::Owned(mount) => found.owned.push(*mount),
            volume::Volume::Anonymous(target) => {
                found.volumes.insert(target, EmptyObject);
            }
        }
    }
    Ok(found)
}

fn tmpfs(parsed: &Parsed) -> BTreeMap<String, String> {
    parsed
        .list("tmpfs")
        .iter()
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .map(|(path, options)| (path.to_owned(), options.to_owned()))
        .collect()
}

fn devices(parsed: &Parsed) -> Result<(Vec<berth_api::DeviceMapping>, Vec<String>), String> {
    let (mut nodes, mut cdi) = (Vec::new(), Vec::new());
    for text in parsed.list("device") {
        match device::parse(&text)? {
            device::Device::Node(node) => nodes.push(node),
            device::Device::Cdi(name) => cdi.push(name),
        }
    }
    Ok((nodes, cdi))
}

fn variables_and_labels(
    parsed: &Parsed,
    surroundings: &Surroundings<'_>,
) -> Result<(Vec<String>, BTreeMap<String, String>), String> {
    let mut env = Vec::new();
    for file in parsed.list("env-file") {
        env.extend(environment::read_file(&file, Some(surroundings.look_up))?);
    }
    // Of a variable given more than once the last value counts, and those of the command line win
    // over the configured proxies.
    let mut given: Vec<String> = Vec::new();
    for text in parsed.list("env") {
        let name = text.split('=').next().unwrap_or_default();
        given.retain(|other| other.split('=').next() != Some(name));
        given.push(environment::variable(&text, surroundings.look_up));
    }
    for (name, value) in &surroundings.proxies {
        if !given
            .iter()
            .any(|other| other.split('=').next() == Some(*name))
        {
            given.push(format!("{name}={value}"));
        }
    }
    env.extend(given);
    let mut labels = Vec::new();
    for file in parsed.list("label-file") {
        labels.extend(environment::read_file(&file, None)?);
    }
    labels.extend(parsed.list("label"));
    Ok((env, environment::to_map(&labels)))
}

fn check_modes(parsed: &Parsed) -> Result<(), String> {
    let pid = parsed.text("pid");
    let shared = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|id| !id.is_empty())
    };
    if !(matches!(pid, "" | "host") || shared(pid)) {
        return Err("--pid: invalid PID mode".to_owned());
    }
    for (flag, words, message) in [
        ("uts", &["", "host"][..], "--uts: invalid UTS mode"),
        ("userns", &["", "host"][..], "--userns: invalid USER mode"),
        (
            "cgroupns",
            &["", "host", "private"][..],
            "--cgroupns: invalid CGROUP mode",
        ),
    ] {
        if !words.contains(&parsed.text(flag)) {
            return Err(message.to_owned());
        }
    }
    Ok(())
}

fn log_config(parsed: &Parsed) -> Result<LogConfig, String> {
    let (driver, options) = (parsed.text("log-driver"), parsed.list("log-opt"));
    if driver == "none" && !options.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(LogConfig {
        kind: driver.to_owned(),
        config: Some(environment::to_map(&options)),
    })
}

fn storage_options(parsed: &Parsed) -> Result<BTreeMap<String, String>, String> {
    let options = parsed.list("storage-opt");
    if options.iter().any(|option| !option.contains('=')) {
        return Err("invalid storage option".to_owned());
    }
    Ok(environment::to_map(&options))
}

fn health(parsed: &Parsed) -> Result<Option<HealthConfig>, String> {
    let duration = |flag: &str| -> Result<i64, String> {
        let nanoseconds = match parsed.text(flag) {
            "" => 0,
            text => scalar::nanoseconds(text)?,
        };
        if nanoseconds < 0 {
            Err(format!("--{flag} cannot be negative"))
        } else {
            Ok(nanoseconds)
        }
    };
    let command = parsed.text("health-cmd");
    let retries = number(parsed, "health-retries");
    let config = HealthConfig {
        test: if command.is_empty() {
            Vec::new()
        } else {
            vec!["CMD-SHELL".to_owned(), command.to_owned()]
        },
        interval: duration("health-interval")?,
        timeout: duration("health-timeout")?,
        start_period: duration("health-start-period")?,
        start_interval: duration("health-start-interval")?,
        retries,
    };
    let settings = config != HealthConfig::default();
    if parsed.switch("no-healthcheck") {
        if settings {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..HealthConfig::default()
        }));
    }
    if retries < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    Ok(settings.then_some(config))
}

fn resources(
    parsed: &Parsed,
    devices: Vec<berth_api::DeviceMapping>,
    cdi: Vec<String>,
    swappiness: i64,
) -> Result<Resources, String> {
    let mut requests = listed(&parsed.list("gpus"), gpus::parse)?;
    if !cdi.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(cdi),
            ..DeviceRequest::default()
        });
    }
    Ok(Resources {
        cgroup_parent: parsed.text("cgroup-parent").to_owned(),
        blkio_weight_device: Some(listed(&parsed.list("blkio-weight-device"), device::weight)?),
        blkio_device_read_bps: Some(listed(&parsed.list("device-read-bps"), device::byte_rate)?),
        blkio_device_write_bps: Some(listed(&parsed.list("device-write-bps"), device::byte_rate)?),
        blkio_device_read_iops: Some(listed(
            &parsed.list("device-read-iops"),
            device::operation_rate,
        )?),
        blkio_device_write_iops: Some(listed(
            &parsed.list("device-write-iops"),
            device::operation_rate,
        )?),
        devices: Some(devices),
        device_cgroup_rules: some(parsed.list("device-cgroup-rule")),
        device_requests: some(requests),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(parsed.switch("oom-kill-disable")),
        pids_limit: Some(number(parsed, "pids-limit")),
        ulimits: Some(ulimit::all(&parsed.list("ulimit"))?),
        cpu_count: number(parsed, "cpu-count"),
        cpu_percent: number(parsed, "cpu-percent"),
        io_maximum_iops: scalar::uint64(parsed.text("io-maxiops")).unwrap_or_default(),
        io_maximum_bandwidth: u64::try_from(bytes(parsed, "io-maxbandwidth")).unwrap_or_default(),
        ..limits(parsed)
    })
}

/// The limits that can also be changed later (`update`).
pub(crate) fn limits(parsed: &Parsed) -> Resources {
    Resources {
        cpu_shares: number(parsed, "cpu-shares"),
        memory: bytes(parsed, "memory"),
        nano_cpus: scalar::nano_cpus(parsed.text("cpus")).unwrap_or_default(),
        blkio_weight: scalar::uint16(parsed.text("blkio-weight")).unwrap_or_default(),
        cpu_period: number(parsed, "cpu-period"),
        cpu_quota: number(parsed, "cpu-quota"),
        cpu_realtime_period: number(parsed, "cpu-rt-period"),
        cpu_realtime_runtime: number(parsed, "cpu-rt-runtime"),
        cpuset_cpus: parsed.text("cpuset-cpus").to_owned(),
        cpuset_mems: parsed.text("cpuset-mems").to_owned(),
        memory_reservation: bytes(parsed, "memory-reservation"),
        memory_swap: bytes(parsed, "memory-swap"),
        ..Resources::default()
    }
}

/// The mount of the engine's socket, where clients inside the container look for it.
fn api_socket(path: &str) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source: path.to_owned(),
        target: "/var/run/docker.sock".to_owned(),
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    }
}

/// Endpoints by network. The flags outside `--network` belong to the first one.
fn endpoints(
    parsed: &Parsed,
    mut networks: Vec<Attachment>,
) -> Result<BTreeMap<String, Option<EndpointSettings>>, String> {
    let implied = networks.is_empty();
    if implied {
        networks.push(Attachment {
            target: "default".to_owned(),
            ..Attachment::default()
        });
    }
    let count = networks.len();
    let mut endpoints = BTreeMap::new();
    let (mut user_defined, mut predefined) = (false, false);
    for (at, mut attachment) in networks.into_iter().enumerate() {
        match network::is_user_defined(&attachment.target) {
            true => user_defined = true,
            false => predefined = !implied,
        }
        if at == 0 {
            apply_container_flags(&mut attachment, parsed)?;
        }
        let endpoint = network::endpoint(&attachment)?;
        if endpoints.contains_key(&attachment.target) {
            return Err(format!(
                "network \"{}\" is specified multiple times",
                attachment.target
            ));
        }
        // A single network without settings is told by the network mode alone.
        if at == 0 && count == 1 && !implied && endpoint == EndpointSettings::default() {
            continue;
        }
        endpoints.insert(attachment.target, Some(endpoint));
    }
    if user_defined && predefined {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned());
    }
    Ok(endpoints)
}

fn apply_container_flags(attachment: &mut Attachment, parsed: &Parsed) -> Result<(), String> {
    let conflict = |flag: &str, what: &str| {
        Err(format!(
            "conflicting options: cannot specify both --{flag} and per-network {what}"
        ))
    };
    let (aliases, links, link_local) = (
        parsed.list("network-alias"),
        parsed.list("link"),
        parsed.list("link-local-ip"),
    );
    let (ipv4, ipv6, mac) = (
        parsed.text("ip"),
        parsed.text("ip6"),
        parsed.text("mac-address"),
    );
    if !aliases.is_empty() {
        if !attachment.aliases.is_empty() {
            return conflict("network-alias", "alias");
        }
        attachment.aliases = aliases;
    }
    // In the default network a link is the container's, not the endpoint's.
    if !links.is_empty() && network::is_user_defined(&attachment.target) {
        attachment.links = links;
    }
    if !ipv4.is_empty() {
        if !attachment.ipv4.is_empty() {
            return conflict("ip", "IPv4 address");
        }
        attachment.ipv4 = ipv4.to_owned();
    }
    if !ipv6.is_empty() {
        if !attachment.ipv6.is_empty() {
            return conflict("ip6", "IPv6 address");
        }
        attachment.ipv6 = ipv6.to_owned();
    }
    if !mac.is_empty() {
        if !attachment.mac_address.is_empty() {
            return conflict("mac-address", "MAC address");
        }
        attachment.mac_address = mac.to_owned();
    }
    if !link_local.is_empty() {
        if !attachment.link_local.is_empty() {
            return conflict("link-local-ip", "link-local IP addresses");
        }
        attachment.link_local = link_local;
    }
    Ok(())
}
