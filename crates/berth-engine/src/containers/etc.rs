//! The files that every container gets its own of: /etc/hosts, /etc/hostname, /etc/resolv.conf.
//!
//! Contents are pure; writing them is one function. They live in the container's data directory and are
//! mounted over the image's.

use std::path::{Path, PathBuf};

use berth_net::dns::{hosts, resolv_conf};
use berth_sys::fs::Durability;

use super::networking::Places;
use super::record::ContainerRecord;
use super::spec::{NetworkMode, UtsMode};
use crate::config::Config;
use crate::error::EngineError;

/// Content of /etc/hosts.
///
/// # Errors
/// When an entry asked for cannot be understood, or there is no gateway to the host.
pub fn hosts(
    record: &ContainerRecord,
    places: &Places,
    host_file: &str,
) -> Result<String, EngineError> {
    let spec = &record.spec;
    let extra = hosts::extra(&spec.host.extra_hosts, &places.gateways)
        .map_err(|e| EngineError::Invalid(crate::error::chain(&e)))?;
    if spec.host.network_mode == NetworkMode::Host {
        return Ok(hosts::with_host_network(host_file, &extra));
    }
    let addresses: Vec<std::net::IpAddr> = places
        .endpoints
        .iter()
        .flat_map(|e| e.ipv4.into_iter().chain(e.ipv6))
        .map(|p| p.address())
        .collect();
    let ipv6 = places.endpoints.is_empty() || places.endpoints.iter().any(|e| e.ipv6.is_some());
    let mut lines = extra;
    lines.extend(places.linked_lines());
    lines.extend(hosts::own(
        &addresses,
        &spec.config.hostname,
        &spec.config.domainname,
    ));
    Ok(hosts::content(&lines, ipv6))
}

/// Content of /etc/hostname.
#[must_use]
pub fn hostname(record: &ContainerRecord, host_name: &str) -> String {
    let config = &record.spec.config;
    if record.spec.host.uts == UtsMode::Host && config.hostname.is_empty() {
        return format!("{host_name}\n");
    }
    if config.domainname.is_empty() {
        format!("{}\n", config.hostname)
    } else {
        format!("{}.{}\n", config.hostname, config.domainname)
    }
}

fn overrides(record: &ContainerRecord, config: &Config) -> resolv_conf::Overrides {
    let host = &record.spec.host;
    let pick = |own: &[String], daemon: &[String]| {
        if own.is_empty() {
            daemon.to_vec()
        } else {
            own.to_vec()
        }
    };
    resolv_conf::Overrides {
        servers: pick(&host.dns, &config.dns)
            .iter()
            .filter_map(|s| s.parse().ok())
            .collect(),
        search: pick(&host.dns_search, &config.dns_search),
        options: pick(&host.dns_options, &config.dns_options),
    }
}

/// The file of a container in whose networks names are answered.
#[must_use]
pub fn resolver_file(record: &ContainerRecord, config: &Config) -> resolv_conf::WithResolver {
    resolv_conf::with_resolver(&resolv_conf::host_beyond_stub(), &overrides(record, config))
}

/// Content of /etc/resolv.conf.
#[must_use]
pub fn resolv_conf(record: &ContainerRecord, config: &Config, places: &Places) -> String {
    let overrides = overrides(record, config);
    if record.spec.host.network_mode == NetworkMode::Host {
        return resolv_conf::with_host_network(&resolv_conf::host(), &overrides);
    }
    if places.resolver {
        return resolver_file(record, config).content;
    }
    let ipv6 = places.endpoints.iter().any(|e| e.ipv6.is_some());
    resolv_conf::without_resolver(&resolv_conf::host_beyond_stub(), &overrides, ipv6)
}

fn host_file(path: &str) -> String {
    berth_sys::fs::read_bounded(Path::new(path), 64 * 1024)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Writes the three files into the container's data directory, and tells what to mount where.
///
/// # Errors
/// When they cannot be written.
pub fn ensure(
    record: &ContainerRecord,
    config: &Config,
    directory: &Path,
    places: &Places,
) -> Result<Vec<(PathBuf, &'static str)>, EngineError> {
    let write = |name: &str, content: String| -> Result<PathBuf, EngineError> {
        let path = directory.join(name);
        berth_sys::fs::replace(&path, content.as_bytes(), 0o644, Durability::Unsynced).map_err(
            |e| {
                let kind = e.kind();
                EngineError::failed(
                    format!("prepare /etc/{name} of container {}", record.id),
                    kind,
                    e,
                )
            },
        )?;
        Ok(path)
    };
    let node = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let hosts = write("hosts", hosts(record, places, &host_file("/etc/hosts"))?)?;
    let hostname = write("hostname", hostname(record, &node))?;
    let resolv = directory.join("resolv.conf");
    // A file that somebody changed by hand stays.
    resolv_conf::keep(&resolv, &resolv_conf(record, config, places)).map_err(|e| {
        let kind = e.kind();
        EngineError::failed(
            format!("prepare /etc/resolv.conf of container {}", record.id),
            kind,
            e,
        )
    })?;
    Ok(vec![
        (resolv, "/etc/resolv.conf"),
        (hostname, "/etc/hostname"),
        (hosts, "/etc/hosts"),
    ])
}

/// Whether a container has these files at all: one that shares another's network shares its files.
#[must_use]
pub fn is_private(mode: &NetworkMode) -> bool {
    !matches!(mode, NetworkMode::Container(_))
}
