//! /etc/resolv.conf: the host's, understood, and a container's, made from it.
//!
//! Owns the format (resolv.conf(5)) and Docker's rules of what a container gets. All but [`host`], [`host_beyond_stub`]
//! and [`keep`] is pure. Does not own which rule applies to a container: the engine knows its networks.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use berth_sys::Result;
use berth_sys::fs::Durability;

use crate::limits;

/// The address of a container's resolver, as programs in containers know it from Docker.
pub const RESOLVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);

/// Servers for a container without a resolver of ours, where the host's are all of the host's own loopback. Docker's.
const FALLBACK: [&str; 4] = [
    "8.8.8.8",
    "8.8.4.4",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
];

/// Where systemd-resolved keeps the servers behind its stub.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// The stub's address.
const STUB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 53));

/// The content of a resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Name servers, in order. Lines whose address cannot be understood are left out, as the C library does.
    pub servers: Vec<Server>,
    /// Search domains of the last `search` or `domain` line.
    pub search: Vec<String>,
    /// Options of all lines.
    pub options: Vec<String>,
    /// Lines with other keywords (`sortlist`), kept as they are.
    pub other: Vec<String>,
}

/// One name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// The interface of a link-local address (`fe80::1%eth0`).
    pub zone: Option<String>,
}

/// What a user or the daemon's configuration puts in place of the host's values; an empty list changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`; a single `.` means no search domain at all.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// The file of a container with our resolver, and what the resolver has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithResolver {
    /// The file's content.
    pub content: String,
    /// Whether host or user set `ndots` ([`super::DnsSettings::ndots_set`]).
    pub ndots_set: bool,
}

impl ResolvConf {
    /// Understands a file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else {
                continue;
            };
            let values: Vec<String> = words.map(str::to_owned).collect();
            match (keyword, values.first()) {
                ("nameserver", Some(address)) => parsed.servers.extend(Server::parse(address)),
                ("search" | "domain", Some(_)) => parsed.search = values,
                ("options", Some(_)) => parsed.options.extend(values),
                ("nameserver" | "search" | "domain" | "options", None) => {}
                _ => parsed.other.push(line.to_owned()),
            }
        }
        parsed
    }

    fn with(mut self, overrides: &Overrides) -> Self {
        if !overrides.servers.is_empty() {
            self.servers = overrides
                .servers
                .iter()
                .copied()
                .map(Server::from)
                .collect();
        }
        if !overrides.search.is_empty() {
            self.search = overrides.search.clone();
            self.search.retain(|domain| domain != ".");
        }
        if !overrides.options.is_empty() {
            self.options.clone_from(&overrides.options);
        }
        self
    }

    /// Whether an option (`ndots`) is set.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.options
            .iter()
            .any(|option| option.split(':').next() == Some(name))
    }

    fn content(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "nameserver {server}");
        }
        for (keyword, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{keyword} {}", values.join(" "));
            }
        }
        for line in &self.other {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        let (address, zone) = match text.split_once('%') {
            Some((address, zone)) => (address, Some(zone.to_owned())),
            None => (text, None),
        };
        Some(Self {
            address: address.parse().ok()?,
            zone,
        })
    }
}

impl From<IpAddr> for Server {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            zone: None,
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.address)?;
        match &self.zone {
            Some(zone) => write!(formatter, "%{zone}"),
            None => Ok(()),
        }
    }
}

/// The file of a container that shares the host's network, or has none: the host's own, with what was overridden.
#[must_use]
pub fn with_host_network(host: &str, overrides: &Overrides) -> String {
    if *overrides == Overrides::default() {
        return host.to_owned();
    }
    ResolvConf::parse(host).with(overrides).content()
}

/// The file of a container on a network without our resolver (the default bridge): the host's servers as far as they can be
/// reached from there. `host` is best [`host_beyond_stub`]; `ipv6` tells whether the container has IPv6.
#[must_use]
pub fn without_resolver(host: &str, overrides: &Overrides, ipv6: bool) -> String {
    let mut conf = ResolvConf::parse(host).with(overrides);
    if overrides.servers.is_empty() {
        conf.servers
            .retain(|server| !server.address.is_loopback() && (ipv6 || server.address.is_ipv4()));
        if conf.servers.is_empty() {
            let fallback = FALLBACK.iter().filter_map(|text| Server::parse(text));
            conf.servers
                .extend(fallback.filter(|server| ipv6 || server.address.is_ipv4()));
        }
    }
    conf.content()
}

/// The file of a container on a user's network: our resolver is its only server.
#[must_use]
pub fn with_resolver(host: &str, overrides: &Overrides) -> WithResolver {
    let mut conf = ResolvConf::parse(host).with(overrides);
    let ndots_set = conf.has_option("ndots");
    conf.options
        .retain(|option| match option.strip_prefix("ndots") {
            Some(rest) if rest.is_empty() || rest.starts_with(':') => {
                rest[1.min(rest.len())..].parse::<u32>().is_ok()
            }
            _ => true,
        });
    if !conf.has_option("ndots") {
        // A name without a dot is first asked for as it is: it is a container's.
        conf.options.push("ndots:0".to_owned());
    }
    conf.servers = vec![Server::from(IpAddr::V4(RESOLVER))];
    WithResolver {
        content: conf.content(),
        ndots_set,
    }
}

/// The host's file; empty when there is none.
#[must_use]
pub fn host() -> String {
    read(Path::new("/etc/resolv.conf"))
}

/// The host's file for containers that cannot reach its loopback: where it names only systemd-resolved's stub, the file
/// with the servers behind that.
#[must_use]
pub fn host_beyond_stub() -> String {
    let text = host();
    let servers = ResolvConf::parse(&text).servers;
    if servers.len() == 1 && servers[0].address == STUB {
        let behind = read(Path::new(BEHIND_STUB));
        if !behind.is_empty() {
            return behind;
        }
    }
    text
}

fn read(path: &Path) -> String {
    berth_sys::fs::read_bounded(path, limits::RESOLV_CONF)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Writes a container's file unless somebody has changed it since we wrote it last; tells whether it was written. What was
/// written is remembered in a file beside it. It is written in place, because containers have it mounted.
///
/// # Errors
/// When it cannot be read or written.
pub fn keep(path: &Path, content: &str) -> Result<bool> {
    let memory = remembered(path);
    if berth_sys::fs::exists(path) && berth_sys::fs::exists(&memory) {
        let present = berth_sys::fs::read_bounded(path, limits::RESOLV_CONF)?;
        let written = berth_sys::fs::read_bounded(&memory, limits::RESOLV_CONF)?;
        if present != written {
            return Ok(false);
        }
        if present == content.as_bytes() {
            return Ok(true);
        }
    }
    if berth_sys::fs::exists(path) {
        berth_sys::fs::write(path, content.as_bytes())?;
    } else {
        berth_sys::fs::replace(path, content.as_bytes(), 0o644, Durability::Unsynced)?;
    }
    berth_sys::fs::replace(&memory, content.as_bytes(), 0o600, Durability::Unsynced)?;
    Ok(true)
}

fn remembered(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".written");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# mine\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n\
                        nameserver nonsense\nsearch a b\nsearch example.com\noptions edns0\noptions trust-ad\nsortlist x\n";

    fn overrides(servers: &[&str], search: &[&str], options: &[&str]) -> Overrides {
        let own = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Overrides {
            servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
            search: own(search),
            options: own(options),
        }
    }

    #[test]
    fn the_resolver_stands_in_for_all_servers() {
        let made = with_resolver(HOST, &Overrides::default());
        assert_eq!(
            made.content,
            "nameserver 127.0.0.11\nsearch example.com\noptions edns0 trust-ad ndots:0\nsortlist x\n"
        );
        assert!(!made.ndots_set);
        let made = with_resolver(HOST, &overrides(&["192.0.2.9"], &["."], &["ndots:2"]));
        assert_eq!(
            made.content,
            "nameserver 127.0.0.11\noptions ndots:2\nsortlist x\n"
        );
        assert!(made.ndots_set);
        let made = with_resolver("options ndots: ndots:x ndotsy\n", &Overrides::default());
        assert_eq!(
            made.content,
            "nameserver 127.0.0.11\noptions ndotsy ndots:0\n"
        );
    }

    #[test]
    fn the_hosts_loopback_is_not_handed_to_a_container() {
        let none = Overrides::default();
        assert_eq!(
            without_resolver(HOST, &none, false),
            "nameserver 192.0.2.1\nsearch example.com\noptions edns0 trust-ad\nsortlist x\n"
        );
        assert!(without_resolver(HOST, &none, true).contains("nameserver fe80::1%eth0\n"));
        assert_eq!(
            without_resolver("nameserver 127.0.0.1\n", &none, false),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
        );
        assert_eq!(without_resolver("", &none, true).lines().count(), 4);
        // What a user asks for is what a user gets.
        assert_eq!(
            without_resolver("", &overrides(&["127.0.0.1", "::1"], &["x"], &[]), false),
            "nameserver 127.0.0.1\nnameserver ::1\nsearch x\n"
        );
        assert_eq!(with_host_network(HOST, &none), HOST);
        assert_eq!(
            with_host_network("nameserver 127.0.0.53\n", &overrides(&[], &["x"], &[])),
            "nameserver 127.0.0.53\nsearch x\n"
        );
    }

    #[test]
    fn a_file_that_somebody_changed_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        assert!(keep(&path, "a\n").unwrap());
        assert!(keep(&path, "b\n").unwrap());
        assert_eq!(berth_sys::fs::read(&path).unwrap(), b"b\n");
        berth_sys::fs::write(&path, b"mine\n").unwrap();
        assert!(!keep(&path, "c\n").unwrap());
        assert_eq!(berth_sys::fs::read(&path).unwrap(), b"mine\n");
    }
}
