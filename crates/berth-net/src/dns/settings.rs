//! What a responder is told about its container.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The settings of one container's resolver. Part of the monitor protocol: members are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSettings {
    /// The container's full identifier: links of this member are seen.
    pub container: String,
    /// The documents of names ([`super::names`]) of the networks it is in. An earlier one wins.
    #[serde(default)]
    pub networks: Vec<PathBuf>,
    /// The servers of `--dns` (or the daemon's), asked from inside the container's network namespace. Empty: the host's
    /// servers, asked from the host's namespace and followed when they change.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// Whether any of its networks leads outside. If not, nothing is asked from the host's namespace; servers of
    /// `--dns` may still be members of an internal network.
    #[serde(default)]
    pub external: bool,
    /// Whether `ndots` was set by the host or by `--dns-option`: then names of one label are never forwarded, because the
    /// client will ask again with a search domain.
    #[serde(default)]
    pub ndots_set: bool,
    /// The host's resolver configuration.
    #[serde(default = "host_resolv_conf")]
    pub host_file: PathBuf,
}

impl DnsSettings {
    /// Settings of a container in no network.
    #[must_use]
    pub fn new(container: impl Into<String>) -> Self {
        Self {
            container: container.into(),
            networks: Vec::new(),
            servers: Vec::new(),
            external: false,
            ndots_set: false,
            host_file: host_resolv_conf(),
        }
    }
}

fn host_resolv_conf() -> PathBuf {
    PathBuf::from("/etc/resolv.conf")
}
