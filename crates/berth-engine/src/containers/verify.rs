//! Checks of a request against the host: what is refused, what is dropped with a warning.
//!
//! Pure; sentences are Docker's where it has one.

use std::collections::BTreeSet;
use std::time::Duration;

use super::oci;
use super::spec::{
    ContainerConfig, HealthSettings, HostSettings, NetworkMode, Resources, RestartPolicy,
};
use crate::error::EngineError;
use crate::limits;
use crate::system::HostFeatures;

fn invalid<T>(text: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Invalid(text.into()))
}

/// Checks what runs.
///
/// # Errors
/// For what makes no sense.
pub fn config(config: &mut ContainerConfig) -> Result<(), EngineError> {
    if config.hostname.len() > limits::HOSTNAME_LENGTH_MAX {
        return invalid(format!(
            "hostname {:?} is too long (maximum {} bytes)",
            config.hostname,
            limits::HOSTNAME_LENGTH_MAX
        ));
    }
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            ));
        }
        config.working_dir = super::spec::clean_path(&config.working_dir);
    }
    if !config.stop_signal.is_empty()
        && let Err(error) = berth_types::Signal::parse(&config.stop_signal)
    {
        return invalid(error.to_string());
    }
    for entry in &config.env {
        if entry.is_empty() || entry.starts_with('=') {
            return invalid(format!("invalid environment variable: {entry}"));
        }
        if entry.contains('\0') {
            return invalid("invalid environment variable: it contains a zero byte");
        }
    }
    let lists = [
        config.env.len(),
        config.labels.len(),
        config.cmd.as_ref().map_or(0, Vec::len),
        config.entrypoint.as_ref().map_or(0, Vec::len),
        config.volumes.len(),
        config.exposed_ports.len(),
    ];
    if lists.iter().any(|n| *n > limits::REQUEST_LIST) {
        return invalid("a list of the request has too many entries");
    }
    config.healthcheck.as_ref().map_or(Ok(()), health)
}

fn health(settings: &HealthSettings) -> Result<(), EngineError> {
    let least = Duration::from_millis(1);
    for (name, value) in [
        ("Interval", settings.interval),
        ("Timeout", settings.timeout),
        ("StartPeriod", settings.start_period),
        ("StartInterval", settings.start_interval),
    ] {
        if !value.is_zero() && value < least {
            return invalid(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    Ok(())
}

/// Checks what the host grants, and drops what it cannot with a warning each.
///
/// # Errors
/// For what makes no sense.
pub fn host(host: &mut HostSettings, features: &HostFeatures) -> Result<Vec<String>, EngineError> {
    let mut warnings = Vec::new();
    if host.auto_remove && host.restart != RestartPolicy::No {
        return invalid("can't create 'AutoRemove' container with restart policy");
    }
    for extra in &host.extra_hosts {
        let (name, address) = extra.split_once([':', '=']).unwrap_or((extra, ""));
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let known = address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok();
        if name.is_empty() || !known {
            return invalid(format!("bad format for add-host: \"{extra}\""));
        }
    }
    for (what, list) in [("CapAdd", &host.cap_add), ("CapDrop", &host.cap_drop)] {
        if let Err(error) = oci::normalise_capabilities(list) {
            return invalid(format!("invalid {what}: {error}"));
        }
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return invalid(format!("invalid isolation '{}' on linux", host.isolation));
    }
    if host.annotations.contains_key("") {
        return invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        );
    }
    if host.shm_size.is_some_and(|s| s < 0) {
        return invalid("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if i64::from(features.clamp_oom_score(host.oom_score_adj)) != host.oom_score_adj
        && host.oom_score_adj != 0
    {
        warnings.push(format!(
            "The engine may not lower the OOM score adjustment below {}. It is raised to that.",
            features.oom_score_adj
        ));
    }
    for ulimit in &host.resources.ulimits {
        if !oci::is_ulimit(&ulimit.name) {
            return invalid(format!("invalid ulimit type: {}", ulimit.name));
        }
        if ulimit.hard != -1 && (ulimit.soft > ulimit.hard || ulimit.soft == -1) {
            return invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            ));
        }
    }
    for rule in &host.resources.device_cgroup_rules {
        oci::cgroup_rule(rule)?;
    }
    if let Some(request) = host.resources.device_requests.first() {
        return Err(EngineError::NotImplemented(format!(
            "could not select device driver \"{}\" with capabilities: {:?}",
            request.driver, request.capabilities
        )));
    }
    let options = oci::SecurityOptions::parse(&host.security_opt)?;
    if options
        .apparmor
        .as_deref()
        .is_some_and(|profile| profile != "unconfined")
        && !features.apparmor
    {
        warnings
            .push("AppArmor is not enabled on this host. The profile is not applied.".to_owned());
    }
    if !options.labels.is_empty() && options.labels != ["disable"] && !features.selinux {
        warnings
            .push("SELinux is not enabled on this host. The labels are not applied.".to_owned());
    }
    if features.selinux && !options.labels.is_empty() {
        warnings.push("SELinux labels are not applied by this version.".to_owned());
    }
    network(host, &mut warnings)?;
    namespaces(host)?;
    warnings.extend(resources(&mut host.resources, features, false)?);
    Ok(warnings)
}

fn network(host: &HostSettings, warnings: &mut Vec<String>) -> Result<(), EngineError> {
    match &host.network_mode {
        // Whether there is such a network is a question of the start, as in Docker: an answer "not found" to
        // a create is taken for a missing image.
        NetworkMode::Named(_) | NetworkMode::Default | NetworkMode::Bridge => {}
        NetworkMode::Host => {
            if !host.port_bindings.is_empty() {
                warnings
                    .push("Published ports are discarded when using host network mode".to_owned());
            }
            if !host.links.is_empty() {
                return invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                );
            }
            return Ok(());
        }
        NetworkMode::Container(_) => {
            if !host.links.is_empty() {
                return invalid(
                    "conflicting options: container type network can't be used with links. This would result in undefined behavior",
                );
            }
            if !host.port_bindings.is_empty() || host.publish_all_ports {
                return invalid(
                    "conflicting options: port publishing and the container type network mode",
                );
            }
            if !host.dns.is_empty() {
                return invalid("conflicting options: dns and the network mode");
            }
            if !host.extra_hosts.is_empty() {
                return invalid(
                    "conflicting options: custom host-to-IP mapping and the network mode",
                );
            }
            return Ok(());
        }
        NetworkMode::None => {}
    }
    for server in &host.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            return invalid(format!("bad format for dns: \"{server}\""));
        }
    }
    Ok(())
}

fn namespaces(host: &HostSettings) -> Result<(), EngineError> {
    use super::spec::IpcMode;
    for name in host.sysctls.keys() {
        if name.starts_with("net.") && host.network_mode == NetworkMode::Host {
            return invalid(format!(
                "sysctl '{name}' cannot be set in the host's network namespace"
            ));
        }
        let ipc = name.starts_with("fs.mqueue.")
            || name.starts_with("kernel.msg")
            || name.starts_with("kernel.sem")
            || name.starts_with("kernel.shm");
        if ipc && host.ipc == IpcMode::Host {
            return invalid(format!(
                "sysctl '{name}' cannot be set in the host's IPC namespace"
            ));
        }
    }
    Ok(())
}

/// Checks limits, and drops what the host cannot with a warning each. Docker's rules, one after the other.
///
/// # Errors
/// For what makes no sense.
pub fn resources(
    r: &mut Resources,
    features: &HostFeatures,
    update: bool,
) -> Result<Vec<String>, EngineError> {
    let mut warnings: Vec<String> = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    let positive = |v: Option<i64>| v.filter(|v| *v > 0);
    if r.memory_swappiness == Some(-1) {
        r.memory_swappiness = None;
    }
    if r.memory.is_some_and(|m| m != 0 && m < limits::MEMORY_MIN) {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if positive(r.memory).is_some() && !features.controller("memory") {
        warn(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
        r.memory = None;
        r.memory_swap = None;
    }
    if positive(r.memory).is_some() && r.memory_swap != Some(-1) && !features.swap_limit {
        warn(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        );
        r.memory_swap = Some(-1);
    }
    if let (Some(memory), Some(swap)) = (positive(r.memory), positive(r.memory_swap))
        && swap < memory
    {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if positive(r.memory).is_none() && positive(r.memory_swap).is_some() && !update {
        return invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if r.memory_swappiness.is_some() && !features.swappiness {
        warn(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        );
        r.memory_swappiness = None;
    }
    if let Some(swappiness) = r.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if let Some(reservation) = positive(r.memory_reservation) {
        if !features.controller("memory") {
            warn(
                "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
            );
            r.memory_reservation = None;
        } else if reservation < limits::MEMORY_MIN {
            return invalid("Minimum memory reservation allowed is 6MB");
        } else if positive(r.memory).is_some_and(|m| m < reservation) {
            return invalid(
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            );
        }
    }
    if r.oom_kill_disable.is_some() && !features.oom_kill_disable {
        if r.oom_kill_disable == Some(true) {
            warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
        }
        r.oom_kill_disable = None;
    }
    if r.oom_kill_disable == Some(true) && positive(r.memory).is_none() {
        warn(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.",
        );
    }
    if r.pids_limit.is_some() && !features.controller("pids") {
        if positive(r.pids_limit).is_some() {
            warn(
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
            );
        }
        r.pids_limit = None;
    }
    cpu(r, features, &mut warnings)?;
    block_io(r, features, &mut warnings)?;
    // Swap that was not asked for is as much as memory, as in Docker.
    if !update
        && let (Some(memory), None) = (positive(r.memory), r.memory_swap)
        && features.swap_limit
    {
        r.memory_swap = Some(memory.saturating_mul(2));
    }
    Ok(warnings)
}

fn cpu(
    r: &mut Resources,
    features: &HostFeatures,
    warnings: &mut Vec<String>,
) -> Result<(), EngineError> {
    let set = |v: Option<i64>| v.filter(|v| *v != 0);
    let cfs = features.controller("cpu");
    if let Some(nano) = set(r.nano_cpus) {
        if set(r.cpu_period).is_some() {
            return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if set(r.cpu_quota).is_some() {
            return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        if !cfs {
            return invalid(
                "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
            );
        }
        let n = i64::from(features.processors);
        if nano < 0 || nano > n * 1_000_000_000 {
            return invalid(format!(
                "range of CPUs is from 0.01 to {n}.00, as there are only {n} CPUs available"
            ));
        }
    }
    if let Some(shares) = set(r.cpu_shares) {
        if shares < 0 {
            return invalid(format!(
                "invalid CPU shares ({shares}): value must be a positive integer"
            ));
        }
        if !cfs {
            warnings.push(
                "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded."
                    .to_owned(),
            );
            r.cpu_shares = None;
        }
    }
    if (set(r.cpu_period).is_some() || set(r.cpu_quota).is_some()) && !cfs {
        warnings.push(
            "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
                .to_owned(),
        );
        r.cpu_period = None;
        r.cpu_quota = None;
    }
    if set(r.cpu_period).is_some_and(|p| !(1000..=1_000_000).contains(&p)) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if r.cpu_quota.is_some_and(|q| q > 0 && q < 1000) {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if (!r.cpuset_cpus.is_empty() || !r.cpuset_mems.is_empty()) && !features.controller("cpuset") {
        warnings.push(
            "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded."
                .to_owned(),
        );
        r.cpuset_cpus.clear();
        r.cpuset_mems.clear();
    }
    for (what, wanted, available) in [
        ("CPUs", &r.cpuset_cpus, &features.cpus),
        ("memory nodes", &r.cpuset_mems, &features.mems),
    ] {
        if wanted.is_empty() {
            continue;
        }
        let Some(list) = number_list(wanted) else {
            let set = if what == "CPUs" { "cpus" } else { "mems" };
            return invalid(format!("Invalid value {wanted} for cpuset {set}"));
        };
        let have = number_list(available).unwrap_or_default();
        if !have.is_empty() && !list.is_subset(&have) {
            return invalid(format!(
                "Requested {what} are not available - requested {wanted}, available: {available}"
            ));
        }
    }
    Ok(())
}

fn block_io(
    r: &mut Resources,
    features: &HostFeatures,
    warnings: &mut Vec<String>,
) -> Result<(), EngineError> {
    if r.blkio_weight.is_some_and(|w| w > 0) && !features.blkio_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                .to_owned(),
        );
        r.blkio_weight = None;
    }
    if r.blkio_weight
        .is_some_and(|w| w > 0 && !(10..=1000).contains(&w))
    {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    if !r.blkio_weight_device.is_empty() && !features.blkio_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
                .to_owned(),
        );
        r.blkio_weight_device.clear();
    }
    if r.blkio_weight_device
        .iter()
        .any(|w| !(10..=1000).contains(&w.weight))
    {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    if !features.blkio_throttle {
        for (list, name) in [
            (&mut r.blkio_read_bps, "BPS Block I/O read"),
            (&mut r.blkio_write_bps, "BPS Block I/O write"),
            (&mut r.blkio_read_iops, "IOPS Block I/O read"),
            (&mut r.blkio_write_iops, "IOPS Block I/O write"),
        ] {
            if !list.is_empty() {
                list.clear();
                warnings.push(format!(
                    "Your kernel does not support {name} limit or the cgroup is not mounted. The limit is discarded."
                ));
            }
        }
    }
    Ok(())
}

/// The numbers of a list like `0-2,7`: cpuset(7), "List format".
fn number_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => {
                let n: u32 = part.parse().ok()?;
                (n, n)
            }
        };
        if first > last || last > 8192 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Resources)) -> Result<(Resources, Vec<String>), String> {
        let mut resources_ = Resources::default();
        change(&mut resources_);
        match resources(&mut resources_, &HostFeatures::default(), false) {
            Ok(warnings) => Ok((resources_, warnings)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn limits_are_checked_with_dockers_sentences() {
        assert_eq!(
            check(|r| r.memory = Some(1024)).map(|_| ()),
            Err("Minimum memory limit allowed is 6MB".into())
        );
        assert_eq!(
            check(|r| r.nano_cpus = Some(3_000_000_000)).map(|_| ()),
            Err("range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available".into())
        );
        assert_eq!(
            check(|r| r.cpuset_cpus = "0,9".into()).map(|_| ()),
            Err("Requested CPUs are not available - requested 0,9, available: 0-1".into())
        );
        assert!(check(|r| r.cpuset_cpus = "a".into()).is_err());
        let (resources, warnings) = check(|r| r.memory = Some(64 << 20)).expect("fine");
        assert_eq!(resources.memory_swap, Some(128 << 20));
        assert!(warnings.is_empty());
    }
}
