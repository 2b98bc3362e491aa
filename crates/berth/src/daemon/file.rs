//! The settings file: dockerd's daemon.json, as far as Berth has the same settings.

use super::limits::SETTINGS_FILE;
use anyhow::{Context, Result};
use berth_sys::fs;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What stands in the file. An unknown key is an error: it would be a wish that is not granted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) bip: Option<String>,
    pub(super) bip6: Option<String>,
    pub(super) bridge: Option<String>,
    pub(super) cgroup_parent: Option<String>,
    pub(super) data_root: Option<String>,
    pub(super) debug: Option<bool>,
    pub(super) default_address_pools: Vec<AddressPool>,
    pub(super) default_gateway: Option<String>,
    pub(super) default_gateway_v6: Option<String>,
    pub(super) default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) default_runtime: Option<String>,
    pub(super) default_shm_size: Option<Size>,
    pub(super) default_ulimits: BTreeMap<String, Limit>,
    /// What images, build cache and logs may occupy. Berth's own key.
    pub(super) disk_budget: Option<Budget>,
    pub(super) dns: Vec<String>,
    pub(super) dns_opts: Vec<String>,
    pub(super) dns_search: Vec<String>,
    pub(super) exec_root: Option<String>,
    /// Only `nftables` can be granted.
    pub(super) firewall_backend: Option<String>,
    pub(super) fixed_cidr: Option<String>,
    pub(super) fixed_cidr_v6: Option<String>,
    pub(super) host_gateway_ips: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) icc: Option<bool>,
    pub(super) init: Option<bool>,
    pub(super) insecure_registries: Vec<String>,
    pub(super) ip: Option<String>,
    pub(super) ip6tables: Option<bool>,
    pub(super) ip_forward: Option<bool>,
    pub(super) ip_masq: Option<bool>,
    pub(super) iptables: Option<bool>,
    pub(super) ipv6: Option<bool>,
    pub(super) labels: Vec<String>,
    /// Containers always outlive the daemon; `false` cannot be granted.
    pub(super) live_restore: Option<bool>,
    pub(super) log_driver: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) log_opts: BTreeMap<String, String>,
    pub(super) max_concurrent_downloads: Option<u32>,
    pub(super) max_concurrent_uploads: Option<u32>,
    pub(super) max_download_attempts: Option<u32>,
    pub(super) mtu: Option<u32>,
    pub(super) no_new_privileges: Option<bool>,
    pub(super) pidfile: Option<String>,
    pub(super) proxies: Proxies,
    /// Who decides whether a published port is reached. Berth's own key.
    pub(super) publish_policy: Option<String>,
    /// Authorities that registries are verified by, beside the host's. Berth's own key.
    pub(super) registry_ca_certs: Vec<String>,
    /// Where certificates of single registries are. Berth's own key: in Docker the place is fixed.
    pub(super) registry_certs_dirs: Vec<String>,
    /// Mirrors of Docker Hub.
    pub(super) registry_mirrors: Vec<String>,
    /// Mirrors of any registry, by its host. Berth's own key.
    pub(super) registry_mirrors_by_host: BTreeMap<String, Vec<String>>,
    pub(super) runtimes: BTreeMap<String, RuntimeEntry>,
    pub(super) seccomp_profile: Option<String>,
    /// There is no proxy; `true` cannot be granted.
    pub(super) userland_proxy: Option<bool>,
}

/// A size as a number of bytes or with a unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Bytes(i64),
    Text(String),
}

/// `disk-budget`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) limit: Size,
    pub(super) unused_for: Option<String>,
}

/// How registries are reached through proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Proxies {
    pub(super) http_proxy: Option<String>,
    pub(super) https_proxy: Option<String>,
    pub(super) no_proxy: Option<String>,
}

/// One of `default-address-pools`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressPool {
    pub(super) base: String,
    pub(super) size: u8,
}

/// One of `default-ulimits`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Limit {
    pub(super) name: String,
    pub(super) soft: i64,
    pub(super) hard: i64,
}

/// One of `runtimes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuntimeEntry {
    pub(super) path: String,
    #[serde(default)]
    pub(super) runtime_args: Vec<String>,
}

/// Reads the file. One that was not asked for by name may be missing.
pub(super) fn read(path: &Path, must_exist: bool) -> Result<File> {
    if !must_exist && !fs::exists(path) {
        return Ok(File::default());
    }
    let bytes = fs::read_bounded(path, SETTINGS_FILE)?;
    parse(&bytes).with_context(|| {
        format!(
            "unable to configure the daemon with file {}",
            path.display()
        )
    })
}

fn parse(bytes: &[u8]) -> Result<File> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(File::default());
    }
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_keys_are_read_and_unknown_ones_are_refused() {
        let file = parse(
            br#"{"data-root":"/d","hosts":["unix:///x"],"registry-mirrors":["http://m"],"default-shm-size":"64M",
            "default-ulimits":{"nofile":{"Name":"nofile","Hard":2,"Soft":1}},"log-opts":{"max-size":"1m"},
            "runtimes":{"crun":{"path":"/usr/bin/crun","runtimeArgs":["--debug"]}}}"#,
        )
        .unwrap();
        assert_eq!(file.hosts, ["unix:///x"]);
        assert_eq!(file.runtimes["crun"].runtime_args, ["--debug"]);
        assert_eq!(parse(b" ").unwrap(), File::default());
        let error = parse(br#"{"data-rot":"/d"}"#).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `data-rot`"), "{error}");
        assert!(parse(br#"{"debug":"yes"}"#).is_err());
    }
}
