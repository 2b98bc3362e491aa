//! Networks and a container's place in them.

use crate::host_config::PortMap;
use std::collections::BTreeMap;

wire! {
    /// Networks a new container joins.
    pub struct NetworkingConfig {
        /// Network name or id to the endpoint in it.
        endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>> = "EndpointsConfig";
    }

    /// A container's endpoint in one network.
    pub struct EndpointSettings {
        ipam_config: Option<EndpointIpamConfig> = "IPAMConfig";
        links: Option<Vec<String>> = "Links";
        aliases: Option<Vec<String>> = "Aliases";
        mac_address: String = "MacAddress";
        driver_opts: Option<BTreeMap<String, String>> = "DriverOpts";
        gw_priority: i64 = "GwPriority";
        network_id: String = "NetworkID";
        endpoint_id: String = "EndpointID";
        gateway: String = "Gateway";
        ip_address: String = "IPAddress";
        ip_prefix_len: i64 = "IPPrefixLen";
        ipv6_gateway: String = "IPv6Gateway";
        global_ipv6_address: String = "GlobalIPv6Address";
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen";
        dns_names: Option<Vec<String>> = "DNSNames";
    }

    /// Addresses asked for an endpoint.
    pub struct EndpointIpamConfig {
        ipv4_address: String = "IPv4Address" omitempty;
        ipv6_address: String = "IPv6Address" omitempty;
        link_local_ips: Vec<String> = "LinkLocalIPs" omitempty;
    }

    /// An address with its prefix length.
    pub struct NetworkAddress {
        addr: String = "Addr";
        prefix_len: i64 = "PrefixLen";
    }

    /// A container's network state. Everything but `Networks`, `Ports` and the sandbox is what the default
    /// bridge once had and stays for older clients.
    pub struct NetworkSettings {
        bridge: String = "Bridge";
        sandbox_id: String = "SandboxID";
        sandbox_key: String = "SandboxKey";
        ports: Option<PortMap> = "Ports";
        hairpin_mode: bool = "HairpinMode";
        link_local_ipv6_address: String = "LinkLocalIPv6Address";
        link_local_ipv6_prefix_len: i64 = "LinkLocalIPv6PrefixLen";
        secondary_ip_addresses: Option<Vec<NetworkAddress>> = "SecondaryIPAddresses";
        secondary_ipv6_addresses: Option<Vec<NetworkAddress>> = "SecondaryIPv6Addresses";
        endpoint_id: String = "EndpointID";
        gateway: String = "Gateway";
        global_ipv6_address: String = "GlobalIPv6Address";
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen";
        ip_address: String = "IPAddress";
        ip_prefix_len: i64 = "IPPrefixLen";
        ipv6_gateway: String = "IPv6Gateway";
        mac_address: String = "MacAddress";
        networks: Option<BTreeMap<String, EndpointSettings>> = "Networks";
    }

    /// A network.
    pub struct NetworkInspect {
        name: String = "Name";
        id: String = "Id";
        /// RFC 3339 with nanoseconds.
        created: String = "Created";
        scope: String = "Scope";
        driver: String = "Driver";
        enable_ipv4: bool = "EnableIPv4";
        enable_ipv6: bool = "EnableIPv6";
        ipam: Ipam = "IPAM";
        internal: bool = "Internal";
        attachable: bool = "Attachable";
        ingress: bool = "Ingress";
        config_from: ConfigReference = "ConfigFrom";
        config_only: bool = "ConfigOnly";
        /// Container id to its endpoint.
        containers: BTreeMap<String, EndpointResource> = "Containers";
        options: BTreeMap<String, String> = "Options";
        labels: BTreeMap<String, String> = "Labels";
    }

    /// A network as asked for.
    pub struct NetworkCreateRequest {
        name: String = "Name";
        /// Accepted before API 1.44 and without a meaning: a name in use is always refused.
        check_duplicate: Option<bool> = "CheckDuplicate" omitempty;
        driver: String = "Driver";
        scope: String = "Scope";
        /// Since API 1.48.
        enable_ipv4: Option<bool> = "EnableIPv4" omitempty;
        enable_ipv6: Option<bool> = "EnableIPv6" omitempty;
        ipam: Option<Ipam> = "IPAM";
        internal: bool = "Internal";
        attachable: bool = "Attachable";
        ingress: bool = "Ingress";
        config_only: bool = "ConfigOnly";
        config_from: Option<ConfigReference> = "ConfigFrom";
        options: Option<BTreeMap<String, String>> = "Options";
        labels: Option<BTreeMap<String, String>> = "Labels";
    }

    /// The network that was created.
    pub struct NetworkCreateResponse {
        id: String = "Id";
        warning: String = "Warning";
    }

    /// A container that joins a network.
    pub struct NetworkConnectRequest {
        container: String = "Container";
        endpoint_config: Option<EndpointSettings> = "EndpointConfig" omitempty;
    }

    /// A container that leaves a network.
    pub struct NetworkDisconnectRequest {
        container: String = "Container";
        force: bool = "Force";
    }

    /// Networks that were removed because nothing used them.
    pub struct NetworkPruneReport {
        /// Their names.
        networks_deleted: Option<Vec<String>> = "NetworksDeleted";
    }

    /// Who can reach one published port; this engine's own addition to the API.
    pub struct PortExposure {
        /// Id of the container.
        container: String = "Container";
        /// Name of the container.
        name: String = "Name";
        /// Name of the network it is reached through.
        network: String = "Network";
        container_port: u16 = "ContainerPort";
        protocol: String = "Protocol";
        host_ip: String = "HostIp";
        host_port: u16 = "HostPort";
        /// The policy that decides: `compat`, `firewall` or `loopback`.
        policy: String = "Policy";
        /// `host`, `network` (those who reach the host's addresses), `firewall` (as the host's own rules say), `routed`
        /// (those with a route to the container), `nobody`.
        reach: String = "Reach";
        /// Why, in a sentence.
        reason: String = "Reason";
    }

    /// Address management of a network.
    pub struct Ipam {
        driver: String = "Driver";
        options: Option<BTreeMap<String, String>> = "Options";
        config: Option<Vec<IpamConfig>> = "Config";
    }

    /// One address range of a network.
    pub struct IpamConfig {
        subnet: String = "Subnet" omitempty;
        ip_range: String = "IPRange" omitempty;
        gateway: String = "Gateway" omitempty;
        auxiliary_addresses: BTreeMap<String, String> = "AuxiliaryAddresses" omitempty;
    }

    /// The configuration-only network another one takes its settings from.
    pub struct ConfigReference {
        network: String = "Network";
    }

    /// A container's endpoint as a network lists it.
    pub struct EndpointResource {
        name: String = "Name";
        endpoint_id: String = "EndpointID";
        mac_address: String = "MacAddress";
        ipv4_address: String = "IPv4Address";
        ipv6_address: String = "IPv6Address";
    }
}
