//! Where a repository can be reached: mirrors first, then the registry itself. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_types::Reference;
use http::Uri;

use crate::error::{ImageError, Result};
use crate::settings::RegistrySettings;

/// The host that serves docker.io.
const DOCKER_HOST: &str = "registry-1.docker.io";
/// What that registry is called in names.
const DOCKER_REGISTRY: &str = "docker.io";

/// How a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// TLS with a certificate that verifies.
    Verified,
    /// TLS with whatever certificate, and plain HTTP when there is no TLS.
    Any,
    /// Plain HTTP, because the mirror's URL says so.
    Plain,
}

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port.
    pub(crate) authority: String,
    /// Repository at this place.
    pub(crate) repository: String,
    pub(crate) security: Security,
    /// A mirror's failures are passed over, and it never sees credentials.
    pub(crate) mirror: bool,
}

/// Registries that need not prove who they are.
#[derive(Debug, Clone)]
pub(crate) struct Insecure {
    hosts: Vec<String>,
    ranges: Vec<(IpAddr, u8)>,
}

impl Insecure {
    pub(crate) fn parse(list: &[String]) -> Result<Self> {
        let mut parsed = Self {
            hosts: Vec::new(),
            ranges: Vec::new(),
        };
        for text in list {
            if let Some((address, bits)) = text.split_once('/') {
                let range = address
                    .parse::<IpAddr>()
                    .ok()
                    .zip(bits.parse::<u8>().ok())
                    .filter(|(address, bits)| *bits <= if address.is_ipv4() { 32 } else { 128 });
                parsed.ranges.push(range.ok_or_else(|| ImageError::Setting {
                    setting: format!("insecure registry {text:?}"),
                    reason: "expected host, host:port or a CIDR range, without a scheme".into(),
                })?);
            } else {
                parsed.hosts.push(text.to_ascii_lowercase());
            }
        }
        Ok(parsed)
    }

    /// Whether this host (with its port) is one of them. Names are not looked up: what an address resolver
    /// answers must not decide about security.
    pub(crate) fn contains(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        let host = host_of(&authority);
        if self
            .hosts
            .iter()
            .any(|insecure| *insecure == authority || insecure == host)
        {
            return true;
        }
        let Ok(address) = host.parse::<IpAddr>() else {
            return host == "localhost";
        };
        address.is_loopback()
            || self
                .ranges
                .iter()
                .any(|(network, bits)| in_range(address, *network, *bits))
    }
}

/// The host of `host:port`, brackets of IPv6 removed.
pub(crate) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match authority.rsplit_once(':') {
        Some((host, _)) => host,
        None => authority,
    }
}

fn in_range(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::to_bits(address) & mask == Ipv4Addr::to_bits(network) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::to_bits(address) & mask == Ipv6Addr::to_bits(network) & mask
        }
        _ => false,
    }
}

/// A mirror's URL taken apart: security, authority, path in front of the repository.
pub(crate) fn parse_mirror(text: &str, insecure: &Insecure) -> Result<(Security, String, String)> {
    let bad = |reason: &str| ImageError::Setting {
        setting: format!("registry mirror {text:?}"),
        reason: reason.to_owned(),
    };
    let uri: Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
    let authority = uri
        .authority()
        .ok_or_else(|| bad("it has no host"))?
        .as_str();
    if authority.contains('@') {
        return Err(bad("credentials in the URL are not taken"));
    }
    if uri.query().is_some() {
        return Err(bad("a query in the URL is not taken"));
    }
    let security = match uri.scheme_str() {
        Some("http") => Security::Plain,
        Some("https") if insecure.contains(authority) => Security::Any,
        Some("https") => Security::Verified,
        _ => return Err(bad("it must begin with http:// or https://")),
    };
    let path = uri.path().trim_matches('/').to_owned();
    Ok((security, authority.to_owned(), path))
}

/// The places for a reference, in the order in which they are asked.
pub(crate) fn endpoints(
    reference: &Reference,
    settings: &RegistrySettings,
    insecure: &Insecure,
) -> Result<Vec<Endpoint>> {
    let registry = reference.registry();
    let mut mirrors: Vec<&String> = settings
        .mirrors_of
        .iter()
        .filter(|(of, _)| of == registry)
        .flat_map(|(_, mirrors)| mirrors)
        .collect();
    let is_docker = registry == DOCKER_REGISTRY;
    if is_docker {
        mirrors.extend(&settings.mirrors);
    }
    let mut endpoints = Vec::with_capacity(mirrors.len() + 1);
    for mirror in mirrors {
        let (security, authority, path) = parse_mirror(mirror, insecure)?;
        let repository = if path.is_empty() {
            reference.repository().to_owned()
        } else {
            format!("{path}/{}", reference.repository())
        };
        endpoints.push(Endpoint {
            authority,
            repository,
            security,
            mirror: true,
        });
    }
    endpoints.push(registry_itself(registry, reference.repository(), insecure));
    Ok(endpoints)
}

/// A registry itself, by its host and port or as `docker.io`.
pub(crate) fn registry_itself(registry: &str, repository: &str, insecure: &Insecure) -> Endpoint {
    let authority = if registry == DOCKER_REGISTRY {
        DOCKER_HOST
    } else {
        registry
    };
    Endpoint {
        authority: authority.to_owned(),
        repository: repository.to_owned(),
        security: if insecure.contains(authority) {
            Security::Any
        } else {
            Security::Verified
        },
        mirror: false,
    }
}

/// The registry that an address means, as configuration files and people write it: a host with a port or
/// without, perhaps with a scheme and a path.
pub(crate) fn registry_of(address: &str) -> Result<String> {
    let bad = |reason: &str| ImageError::Setting {
        setting: format!(
            "registry {:?}",
            address.chars().take(256).collect::<String>()
        ),
        reason: reason.to_owned(),
    };
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(bad("credentials in the address are not taken"));
    }
    if matches!(host, "" | DOCKER_REGISTRY | "index.docker.io" | DOCKER_HOST) {
        return Ok(DOCKER_REGISTRY.to_owned());
    }
    host.parse::<http::uri::Authority>()
        .map_err(|_| bad("it is not a host with a port or without"))?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_registries_are_known_by_host_port_range_and_loopback() {
        let insecure = Insecure::parse(&[
            "registry.lan:5000".into(),
            "plain.lan".into(),
            "10.1.0.0/16".into(),
            "fd00::/8".into(),
        ])
        .unwrap();
        for (authority, expected) in [
            ("registry.lan:5000", true),
            ("registry.lan", false),
            ("plain.lan:1234", true),
            ("10.1.2.3:5000", true),
            ("10.2.2.3:5000", false),
            ("[fd00::1]:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.0.1", true),
            ("[::1]:5000", true),
            ("localhost:5000", true),
            ("localhost.example", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(insecure.contains(authority), expected, "{authority}");
        }
        assert!(Insecure::parse(&["http://x/y".into()]).is_err());
        assert!(Insecure::parse(&["10.0.0.0/33".into()]).is_err());
    }

    #[test]
    fn addresses_of_registries_are_read_as_people_write_them() {
        for (address, expected) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("", "docker.io"),
            ("registry.lan", "registry.lan"),
            ("http://registry.lan:5000/v2/", "registry.lan:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(registry_of(address).unwrap(), expected, "{address}");
        }
        assert!(registry_of("me:secret@registry.lan").is_err());
        assert!(registry_of("a b").is_err());
    }

    #[test]
    fn mirrors_come_before_the_registry() {
        let settings = RegistrySettings {
            mirrors: vec!["http://127.0.0.1:5000".into()],
            mirrors_of: vec![("ghcr.io".into(), vec!["https://cache.lan/ghcr/".into()])],
            ..RegistrySettings::default()
        };
        let insecure = Insecure::parse(&[]).unwrap();
        let places = |text: &str| -> Vec<(String, String, Security, bool)> {
            endpoints(&Reference::parse(text).unwrap(), &settings, &insecure)
                .unwrap()
                .into_iter()
                .map(|e| (e.authority, e.repository, e.security, e.mirror))
                .collect()
        };
        assert_eq!(
            places("busybox"),
            [
                (
                    "127.0.0.1:5000".into(),
                    "library/busybox".into(),
                    Security::Plain,
                    true
                ),
                (
                    DOCKER_HOST.into(),
                    "library/busybox".into(),
                    Security::Verified,
                    false
                ),
            ]
        );
        assert_eq!(
            places("ghcr.io/a/b"),
            [
                (
                    "cache.lan".into(),
                    "ghcr/a/b".into(),
                    Security::Verified,
                    true
                ),
                ("ghcr.io".into(), "a/b".into(), Security::Verified, false),
            ]
        );
        assert_eq!(places("127.0.0.1:5001/x")[0].2, Security::Any);
    }
}
