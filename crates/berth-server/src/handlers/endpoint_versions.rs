//! What older versions of the API meant by a new container's places in networks.
//!
//! Pure: takes the body of `POST /containers/create` and changes it into what the newest version means.

use crate::failure::Failure;
use berth_api::{ApiVersion, EndpointSettings, HostConfig, NetworkingConfig};
use std::collections::BTreeMap;

type Endpoints = BTreeMap<String, Option<EndpointSettings>>;

/// Driver option that holds the kernel parameters of one interface.
const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Adapts the network part of a body. `mac` is the hardware address of the whole container, which API 1.44
/// moved to the endpoints. Answers with warnings.
pub(super) fn adapt(
    host: &mut HostConfig,
    networking: &mut Option<NetworkingConfig>,
    mac: String,
    version: ApiVersion,
) -> Result<Vec<String>, Failure> {
    let endpoints = networking
        .get_or_insert_default()
        .endpoints_config
        .get_or_insert_default();
    // "default" is whatever the platform has, which on Linux is the default bridge.
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".to_owned();
        if let Some(settings) = endpoints.remove("default") {
            endpoints.insert("bridge".to_owned(), settings);
        }
    }
    if !version.at_least(44) && endpoints.len() > 1 {
        let names: Vec<_> = endpoints.keys().map(String::as_str).collect();
        return Err(Failure::bad_request(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    if !version.at_least(48) {
        for endpoint in endpoints.values_mut().flatten() {
            endpoint.gw_priority = 0;
        }
    }
    let mut warnings = Vec::new();
    warnings.extend(move_hardware_address(host, endpoints, mac, version)?);
    warnings.extend(move_sysctls(host, endpoints, version)?);
    Ok(warnings)
}

/// Whether the container gets an interface that can have an address of its own.
fn has_interface(mode: &str) -> bool {
    !matches!(mode, "host" | "none") && !mode.starts_with("container:")
}

fn move_hardware_address(
    host: &HostConfig,
    endpoints: &mut Endpoints,
    mac: String,
    version: ApiVersion,
) -> Result<Option<String>, Failure> {
    let mode = host.network_mode.as_str();
    if !version.at_least(44) {
        if mac.is_empty() {
            // Those versions did not know of any other place for it.
            for endpoint in endpoints.values_mut().flatten() {
                endpoint.mac_address.clear();
            }
            return Ok(None);
        }
        if !has_interface(mode) {
            return Err(Failure::bad_request(
                "conflicting options: mac-address and the network mode",
            ));
        }
        main_endpoint(endpoints, mode, version)?.mac_address = mac;
        return Ok(None);
    }
    if mac.is_empty() {
        return Ok(None);
    }
    if has_interface(mode) {
        let endpoint = main_endpoint(endpoints, mode, version).map_err(|failure| Failure {
            message: format!(
                "unable to migrate container-wide MAC address to a specific network: {}",
                failure.message
            ),
            ..failure
        })?;
        if endpoint.mac_address.is_empty() {
            endpoint.mac_address = mac;
        } else if !endpoint.mac_address.eq_ignore_ascii_case(&mac) {
            return Err(Failure::bad_request(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
    }
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .to_owned(),
    ))
}

/// Kernel parameters of `eth0` belong to the endpoint since API 1.46; until 1.47 they are moved there.
fn move_sysctls(
    host: &mut HostConfig,
    endpoints: &mut Endpoints,
    version: ApiVersion,
) -> Result<Option<String>, Failure> {
    if !has_interface(&host.network_mode) {
        return Ok(None);
    }
    let mut moved = Vec::new();
    for (name, value) in &host.sysctls {
        let parts: Vec<&str> = name.splitn(5, '.').collect();
        let &["net", family, kind, interface, parameter] = parts.as_slice() else {
            continue;
        };
        if !interface.starts_with("eth") {
            continue;
        }
        if version.at_least(48) {
            return Err(Failure::bad_request(format!(
                "interface specific sysctl setting {name:?} must be supplied using driver option '{ENDPOINT_SYSCTLS}'"
            )));
        }
        if interface != "eth0" {
            return Err(Failure::bad_request(format!(
                "unable to determine network endpoint for sysctl {name}, use driver option '{ENDPOINT_SYSCTLS}' to set per-interface sysctls"
            )));
        }
        moved.push((
            name.clone(),
            format!("net.{family}.{kind}.IFNAME.{parameter}={value}"),
        ));
    }
    if moved.is_empty() {
        return Ok(None);
    }
    let endpoint =
        main_endpoint(endpoints, &host.network_mode, version).map_err(|failure| Failure {
            message: format!(
                "unable to find a network for sysctl {}: {}",
                moved[0].0, failure.message
            ),
            ..failure
        })?;
    let (names, mut settings): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
    let options = endpoint.driver_opts.get_or_insert_default();
    let warning = format!(
        "Migrated sysctl {:?} to DriverOpts{{{ENDPOINT_SYSCTLS:?}:{:?}}}.",
        names.join(","),
        settings.join(",")
    );
    // What was said of the endpoint itself comes last, and so counts.
    settings.extend(options.remove(ENDPOINT_SYSCTLS));
    options.insert(ENDPOINT_SYSCTLS.to_owned(), settings.join(","));
    for name in names {
        host.sysctls.remove(&name);
    }
    Ok(Some(warning))
}

/// The endpoint in the network that gives the container its mode; made if there is none at all.
fn main_endpoint<'a>(
    endpoints: &'a mut Endpoints,
    mode: &str,
    version: ApiVersion,
) -> Result<&'a mut EndpointSettings, Failure> {
    let key = if endpoints.is_empty() || endpoints.contains_key(mode) {
        mode.to_owned()
    } else {
        // Of old clients there is one at most, by name or id.
        match endpoints.keys().next() {
            Some(only) if !version.at_least(44) => only.clone(),
            _ => {
                return Err(Failure::bad_request(
                    "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
                ));
            }
        }
    };
    Ok(endpoints.entry(key).or_default().get_or_insert_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(minor: u32) -> ApiVersion {
        format!("1.{minor}").parse().unwrap()
    }

    fn parts(mode: &str, endpoints: &str) -> (HostConfig, Option<NetworkingConfig>) {
        let host = HostConfig {
            network_mode: mode.to_owned(),
            ..HostConfig::default()
        };
        let networking = format!("{{\"EndpointsConfig\":{endpoints}}}");
        (host, Some(serde_json::from_str(&networking).unwrap()))
    }

    fn endpoint(networking: &Option<NetworkingConfig>, name: &str) -> EndpointSettings {
        let config = networking.clone().unwrap();
        config.endpoints_config.unwrap()[name].clone().unwrap()
    }

    const MAC: &str = "02:42:ac:11:00:02";

    #[test]
    fn the_default_is_the_bridge() {
        let (mut host, mut networking) = parts("default", r#"{"default":{"Aliases":["a"]}}"#);
        adapt(&mut host, &mut networking, String::new(), version(51)).unwrap();
        assert_eq!(host.network_mode, "bridge");
        assert_eq!(
            endpoint(&networking, "bridge").aliases,
            Some(vec!["a".to_owned()])
        );
    }

    #[test]
    fn the_hardware_address_moves_to_the_main_endpoint() {
        let (mut host, mut networking) = parts("n", r#"{"n":{"GwPriority":7}}"#);
        let warnings = adapt(&mut host, &mut networking, MAC.to_owned(), version(47)).unwrap();
        assert_eq!(
            (warnings.len(), endpoint(&networking, "n").gw_priority),
            (1, 0)
        );
        assert_eq!(endpoint(&networking, "n").mac_address, MAC);
        // Before 1.44 the endpoint's own was not known, and the container's was no reason to warn.
        let (mut host, mut networking) = parts("", r#"{"id":{"MacAddress":"02:42:ac:11:00:09"}}"#);
        let warnings = adapt(&mut host, &mut networking, MAC.to_owned(), version(43)).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(endpoint(&networking, "id").mac_address, MAC);
        let (mut host, mut networking) = parts("n", r#"{"n":{"MacAddress":"02:42:ac:11:00:09"}}"#);
        adapt(&mut host, &mut networking, String::new(), version(43)).unwrap();
        assert_eq!(endpoint(&networking, "n").mac_address, "");
        for (mode, endpoints, minor) in [
            ("host", "{}", 43),
            ("n", r#"{"m":{}}"#, 44),
            ("n", r#"{"n":{"MacAddress":"02:42:ac:11:00:09"}}"#, 51),
            ("n", r#"{"n":{},"m":{}}"#, 43),
        ] {
            let (mut host, mut networking) = parts(mode, endpoints);
            let told = adapt(&mut host, &mut networking, MAC.to_owned(), version(minor));
            assert!(told.is_err(), "{mode} {endpoints} {minor}");
        }
    }

    #[test]
    fn kernel_parameters_of_the_interface_move_to_the_main_endpoint() {
        let of = |name: &str, minor| {
            let (mut host, mut networking) = parts(
                "bridge",
                r#"{"bridge":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"x=1"}}}"#,
            );
            host.sysctls.insert(name.to_owned(), "1".to_owned());
            let told = adapt(&mut host, &mut networking, String::new(), version(minor));
            (told, host, networking)
        };
        let (told, host, networking) = of("net.ipv6.conf.eth0.forwarding", 47);
        assert_eq!(told.unwrap().len(), 1);
        assert!(host.sysctls.is_empty());
        assert_eq!(
            endpoint(&networking, "bridge").driver_opts.unwrap()[ENDPOINT_SYSCTLS],
            "net.ipv6.conf.IFNAME.forwarding=1,x=1"
        );
        assert!(of("net.ipv6.conf.eth0.forwarding", 48).0.is_err());
        assert!(of("net.ipv6.conf.eth1.forwarding", 47).0.is_err());
        assert!(of("net.ipv4.ip_forward", 51).0.unwrap().is_empty());
    }
}
