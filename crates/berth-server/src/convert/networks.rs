//! Networks and a container's places in them, both ways.

use super::sorted;
use berth_api::{
    ApiVersion, ConfigReference, EndpointIpamConfig, EndpointResource, EndpointSettings, Ipam,
    IpamConfig, NetworkCreateRequest, NetworkInspect, NetworkSettings, PortBinding, PortExposure,
    PortMap, PortSummary,
};
use berth_engine::containers::networking::Attachment;
use berth_engine::containers::spec::EndpointRequest;
use berth_engine::containers::view::ContainerView;
use berth_engine::networks::{
    self, Endpoint, Exposure, IpamRequest, Member, NetworkRecord, NetworkView, PublishPolicy,
    SubnetRecord, SubnetRequest,
};
use std::collections::BTreeMap;

/// What `POST /networks/create` asks for.
pub(crate) fn create(body: NetworkCreateRequest) -> networks::NetworkCreateRequest {
    let map = |map: Option<BTreeMap<String, String>>| map.unwrap_or_default().into_iter().collect();
    let ipam = body.ipam.unwrap_or_default();
    let subnets = ipam.config.unwrap_or_default().into_iter();
    networks::NetworkCreateRequest {
        name: body.name,
        driver: body.driver,
        scope: body.scope,
        enable_ipv4: body.enable_ipv4,
        enable_ipv6: body.enable_ipv6,
        ipam: IpamRequest {
            driver: ipam.driver,
            options: map(ipam.options),
            subnets: subnets
                .map(|config| SubnetRequest {
                    subnet: config.subnet,
                    ip_range: config.ip_range,
                    gateway: config.gateway,
                    auxiliary: config.auxiliary_addresses.into_iter().collect(),
                })
                .collect(),
        },
        internal: body.internal,
        attachable: body.attachable,
        ingress: body.ingress,
        config_only: body.config_only,
        config_from: body.config_from.unwrap_or_default().network,
        options: map(body.options),
        labels: map(body.labels),
    }
}

/// A network, with the containers in it if asked.
pub(crate) fn network(view: &NetworkView, members: bool) -> NetworkInspect {
    let record = &view.record;
    NetworkInspect {
        name: record.name.clone(),
        id: record.id.to_string(),
        created: record.created.to_string(),
        scope: "local".to_owned(),
        driver: record.driver.as_str().to_owned(),
        enable_ipv4: record.ipv4,
        enable_ipv6: record.ipv6,
        ipam: ipam(record),
        internal: record.internal,
        attachable: record.attachable,
        ingress: false,
        config_from: ConfigReference {
            network: record.config_from.clone(),
        },
        config_only: record.config_only,
        containers: view
            .members
            .iter()
            .filter(|_| members)
            .map(|member| (member.container.to_string(), resource(member)))
            .collect(),
        options: sorted(&record.options),
        labels: sorted(&record.labels),
    }
}

fn ipam(record: &NetworkRecord) -> Ipam {
    // Docker has null for what nobody could have said.
    let unsaid = record.is_predefined() && record.ipam_options.is_empty();
    let nowhere = record.is_predefined() && record.subnets.is_empty();
    Ipam {
        driver: record.ipam_driver.clone(),
        options: (!unsaid).then(|| sorted(&record.ipam_options)),
        config: (!nowhere).then(|| record.subnets.iter().map(subnet).collect()),
    }
}

fn subnet(record: &SubnetRecord) -> IpamConfig {
    IpamConfig {
        subnet: record.subnet.to_string(),
        ip_range: text(record.ip_range),
        gateway: text(record.gateway),
        auxiliary_addresses: record
            .auxiliary
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    }
}

/// A value as text; empty for none.
fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A container's endpoint as a network lists it.
fn resource(member: &Member) -> EndpointResource {
    let endpoint = &member.endpoint;
    EndpointResource {
        name: member.name.clone(),
        endpoint_id: endpoint.id.to_string(),
        mac_address: text(endpoint.mac_address),
        ipv4_address: text(endpoint.ipv4),
        ipv6_address: text(endpoint.ipv6),
    }
}

/// What is asked of a container's place in a network: wire to engine.
pub(crate) fn endpoint_request(settings: EndpointSettings) -> EndpointRequest {
    let addresses = settings.ipam_config.unwrap_or_default();
    EndpointRequest {
        aliases: settings.aliases.unwrap_or_default(),
        links: settings.links.unwrap_or_default(),
        ipv4_address: addresses.ipv4_address,
        ipv6_address: addresses.ipv6_address,
        link_local: addresses.link_local_ips,
        mac_address: settings.mac_address,
        driver_options: settings
            .driver_opts
            .unwrap_or_default()
            .into_iter()
            .collect(),
        gateway_priority: settings.gw_priority,
        network: settings.network_id,
    }
}

/// The networks of a container by name.
pub(crate) fn endpoints(
    view: &ContainerView,
    version: ApiVersion,
) -> BTreeMap<String, EndpointSettings> {
    let run = view.network.as_ref();
    view.networks
        .iter()
        .map(|(name, attachment)| {
            let endpoint = run.and_then(|run| run.endpoint(name));
            let mut settings = settings_of(attachment, endpoint.map(|endpoint| &**endpoint));
            // The names that are always there stood among the aliases before API 1.45.
            if !version.at_least(45) && is_user_defined(name) {
                let aliases = settings.aliases.get_or_insert_default();
                for own in [view.id.short(), &view.spec.config.hostname] {
                    if !aliases.iter().any(|alias| alias == own) {
                        aliases.push(own.to_owned());
                    }
                }
            }
            (name.clone(), settings)
        })
        .collect()
}

fn is_user_defined(name: &str) -> bool {
    !networks::record::PREDEFINED.contains(&name)
}

fn settings_of(attachment: &Attachment, endpoint: Option<&Endpoint>) -> EndpointSettings {
    let request = &attachment.request;
    let asks_addresses = !request.ipv4_address.is_empty()
        || !request.ipv6_address.is_empty()
        || !request.link_local.is_empty();
    let configured = EndpointSettings {
        ipam_config: asks_addresses.then(|| EndpointIpamConfig {
            ipv4_address: request.ipv4_address.clone(),
            ipv6_address: request.ipv6_address.clone(),
            link_local_ips: request.link_local.clone(),
        }),
        links: super::none_if_empty(&request.links),
        aliases: super::none_if_empty(&request.aliases),
        mac_address: request.mac_address.clone(),
        driver_opts: (!request.driver_options.is_empty()).then(|| sorted(&request.driver_options)),
        gw_priority: request.gateway_priority,
        network_id: text(attachment.network_id.as_ref()),
        ..EndpointSettings::default()
    };
    let Some(endpoint) = endpoint else {
        return configured;
    };
    EndpointSettings {
        mac_address: text(endpoint.mac_address),
        network_id: endpoint.network.to_string(),
        endpoint_id: endpoint.id.to_string(),
        gateway: text(endpoint.ipv4_gateway),
        ip_address: text(endpoint.ipv4.map(|prefix| prefix.address())),
        ip_prefix_len: endpoint.ipv4.map_or(0, |prefix| i64::from(prefix.length())),
        ipv6_gateway: text(endpoint.ipv6_gateway),
        global_ipv6_address: text(endpoint.ipv6.map(|prefix| prefix.address())),
        global_ipv6_prefix_len: endpoint.ipv6.map_or(0, |prefix| i64::from(prefix.length())),
        dns_names: super::none_if_empty(&endpoint.names),
        ..configured
    }
}

/// A container's network state.
pub(crate) fn settings(view: &ContainerView, version: ApiVersion) -> NetworkSettings {
    let networks = endpoints(view, version);
    // Of the default bridge everything stands here once more.
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: text(view.network.as_ref().map(|run| &run.sandbox)),
        sandbox_key: match (&view.network, view.pid()) {
            (Some(_), pid) if pid > 0 => format!("/proc/{pid}/ns/net"),
            _ => String::new(),
        },
        ports: Some(port_map(view)),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        networks: Some(networks),
        ..NetworkSettings::default()
    }
}

/// Ports of a running container: where they are published, or `null`.
fn port_map(view: &ContainerView) -> PortMap {
    let mut ports = PortMap::new();
    let Some(run) = &view.network else {
        return ports;
    };
    for (port, protocol) in &run.exposed {
        ports.insert(format!("{port}/{}", protocol.name()), None);
    }
    for port in &run.ports {
        ports
            .entry(format!("{}/{}", port.container_port, port.protocol.name()))
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: port.host_address.to_string(),
                host_port: port.host_port.to_string(),
            });
    }
    ports
}

/// Ports of a running container as a list has them.
pub(crate) fn port_list(view: &ContainerView) -> Vec<PortSummary> {
    let Some(run) = &view.network else {
        return Vec::new();
    };
    let exposed = run.exposed.iter().map(|(port, protocol)| PortSummary {
        private_port: *port,
        kind: protocol.name().to_owned(),
        ..PortSummary::default()
    });
    let published = run.ports.iter().map(|port| PortSummary {
        ip: port.host_address.to_string(),
        private_port: port.container_port,
        public_port: port.host_port,
        kind: port.protocol.name().to_owned(),
    });
    exposed.chain(published).collect()
}

/// Who reaches the published ports of a running container.
pub(crate) fn exposures<'a>(
    view: &'a ContainerView,
    policy: PublishPolicy,
    found: Vec<Exposure>,
) -> impl Iterator<Item = PortExposure> + 'a {
    found.into_iter().map(move |exposure| PortExposure {
        container: view.id.to_string(),
        name: view.name.clone(),
        network: exposure.network,
        container_port: exposure.port.container_port,
        protocol: exposure.port.protocol.name().to_owned(),
        host_ip: exposure.port.host_address.to_string(),
        host_port: exposure.port.host_port,
        policy: policy.as_str().to_owned(),
        reach: exposure.reach.word().to_owned(),
        reason: exposure.reach.reason(),
    })
}
