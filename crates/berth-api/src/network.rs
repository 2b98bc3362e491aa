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
