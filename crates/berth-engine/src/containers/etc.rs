//! The files that every container gets its own of: /etc/hosts, /etc/hostname, /etc/resolv.conf.
//!
//! Contents are pure; writing them is one function. They live in the container's data directory and are
//! mounted over the image's.

use std::path::{Path, PathBuf};

use berth_sys::fs::Durability;

use super::record::ContainerRecord;
use super::spec::{NetworkMode, UtsMode};
use crate::config::Config;
use crate::error::EngineError;

/// Name servers for a container where the host's are all of the host's own loopback.
const FALLBACK_SERVERS: &[&str] = &[
    "8.8.8.8",
    "8.8.4.4",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
];

/// Content of /etc/hosts.
#[must_use]
pub fn hosts(record: &ContainerRecord, host_file: &str) -> String {
    let host = &record.spec.host;
    let mut text = if host.network_mode == NetworkMode::Host {
        let mut text = host_file.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    } else {
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n"
            .to_owned()
    };
    for extra in &host.extra_hosts {
        let (name, address) = extra.split_once([':', '=']).unwrap_or((extra, ""));
        let address = address.trim_start_matches('[').trim_end_matches(']');
        // Without a bridge there is no gateway to speak of.
        if address != "host-gateway" {
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    text
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

/// Content of /etc/resolv.conf.
#[must_use]
pub fn resolv_conf(record: &ContainerRecord, config: &Config, host_file: &str) -> String {
    let host = &record.spec.host;
    let pick = |own: &[String], daemon: &[String]| {
        if own.is_empty() {
            daemon.to_vec()
        } else {
            own.to_vec()
        }
    };
    let mut servers = pick(&host.dns, &config.dns);
    let mut search = pick(&host.dns_search, &config.dns_search);
    let mut options = pick(&host.dns_options, &config.dns_options);
    if servers.is_empty() && search.is_empty() && options.is_empty() {
        let shares_host = host.network_mode == NetworkMode::Host;
        if shares_host || !names_loopback_only(host_file) {
            return host_file.to_owned();
        }
    }
    for line in host_file.lines() {
        let mut words = line.split_whitespace();
        let (keyword, rest) = (words.next(), words.map(str::to_owned));
        match keyword {
            Some("nameserver") if host.dns.is_empty() && config.dns.is_empty() => {
                servers.extend(
                    rest.filter(|s| host.network_mode == NetworkMode::Host || !is_loopback(s)),
                );
            }
            Some("search" | "domain")
                if host.dns_search.is_empty() && config.dns_search.is_empty() =>
            {
                search = rest.collect();
            }
            Some("options") if host.dns_options.is_empty() && config.dns_options.is_empty() => {
                options = rest.collect();
            }
            _ => {}
        }
    }
    if servers.is_empty() {
        servers = FALLBACK_SERVERS.iter().map(|s| (*s).to_owned()).collect();
    }
    let mut text: String = servers
        .iter()
        .map(|s| format!("nameserver {s}\n"))
        .collect();
    // "." means: no search at all.
    search.retain(|s| s != ".");
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn is_loopback(server: &str) -> bool {
    server
        .parse::<std::net::IpAddr>()
        .is_ok_and(|a| a.is_loopback())
}

fn names_loopback_only(resolv_conf: &str) -> bool {
    let mut servers = resolv_conf
        .lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .peekable();
    servers.peek().is_none() || servers.all(is_loopback)
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
) -> Result<Vec<(PathBuf, &'static str)>, EngineError> {
    let write = |name: &str, content: String| -> Result<PathBuf, EngineError> {
        let path = directory.join(name);
        // The container may have changed it through its mount: a file that is there stays as it is, except
        // that Docker too writes hosts and hostname anew at every start.
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
    let hosts = write("hosts", hosts(record, &host_file("/etc/hosts")))?;
    let hostname = write("hostname", hostname(record, &node))?;
    let resolv = write(
        "resolv.conf",
        resolv_conf(record, config, &host_file("/etc/resolv.conf")),
    )?;
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
