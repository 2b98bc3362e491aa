//! Options of drivers: from the texts of a request to values.
//!
//! Options that no driver knows are kept and shown, as Docker does, and mean nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use indexmap::IndexMap;

use super::record::Driver;
use crate::error::EngineError;
use crate::limits;

/// How packets leave a bridge network by its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GatewayMode {
    /// Translated to the host's address; only published ports are reached from outside.
    #[default]
    Nat,
    /// Translated, and every port is reached by whoever routes to the container.
    NatUnprotected,
    /// Not translated; published ports are those that are reached.
    Routed,
    /// The bridge has no address: not even the host is reached.
    Isolated,
}

/// What the options of a bridge network say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOptions {
    /// The bridge's interface; empty for one named after the network.
    pub name: String,
    /// Whether its containers reach each other.
    pub icc: bool,
    /// Whether what leaves it gets the host's address.
    pub masquerade: bool,
    /// IPv4 gateway mode.
    pub mode_ipv4: GatewayMode,
    /// IPv6 gateway mode.
    pub mode_ipv6: GatewayMode,
    /// Whether the bridge is left without an IPv4 address.
    pub inhibit_ipv4: bool,
    /// Address ports are published on when none is asked for.
    pub host_binding: Option<IpAddr>,
    /// Source address of what leaves it by IPv4.
    pub host_ipv4: Option<Ipv4Addr>,
    /// Source address of what leaves it by IPv6.
    pub host_ipv6: Option<Ipv6Addr>,
    /// Interfaces of the host that reach its containers' addresses as they are.
    pub trusted_interfaces: Vec<String>,
    /// Bytes of a packet; zero for those of the default route.
    pub mtu: u32,
    /// What interfaces in containers are called, before their number.
    pub interface_prefix: String,
}

/// Modes of macvlan links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum MacvlanMode {
    #[default]
    Bridge,
    Private,
    Vepa,
    Passthru,
}

/// Modes of ipvlan links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum IpvlanMode {
    #[default]
    L2,
    L3,
    L3s,
}

/// Flags of ipvlan links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum IpvlanFlag {
    #[default]
    Bridge,
    Private,
    Vepa,
}

/// What the options of a macvlan or ipvlan network say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParentOptions {
    /// The interface of the host they are made on; empty for a dummy of their own.
    pub parent: String,
    /// Mode of macvlan links.
    pub macvlan: MacvlanMode,
    /// Mode of ipvlan links.
    pub ipvlan: IpvlanMode,
    /// Flag of ipvlan links.
    pub flag: IpvlanFlag,
    /// Bytes of a packet; zero for the parent's.
    pub mtu: u32,
    /// What interfaces in containers are called, before their number.
    pub interface_prefix: String,
}

/// Options, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverOptions {
    /// Of a bridge.
    Bridge(BridgeOptions),
    /// Of macvlan or ipvlan.
    Parent(ParentOptions),
    /// Of drivers that have none.
    None,
}

/// Prefix of Docker's own options.
pub const OPTION_MTU: &str = "com.docker.network.driver.mtu";
/// Name of the bridge.
pub const OPTION_BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";

/// Longest name of an interface (`IFNAMSIZ` less its end, `linux/if.h`).
const INTERFACE_NAME_MAX: usize = 15;

fn wrong(option: &str, value: &str, why: &str) -> EngineError {
    EngineError::Invalid(format!(
        "failed to parse {option} value: {} ({why})",
        value.chars().take(128).collect::<String>()
    ))
}

fn truth(option: &str, value: &str) -> Result<bool, EngineError> {
    parse_truth(value).ok_or_else(|| wrong(option, value, "invalid syntax"))
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether the kernel takes it as the name of an interface (`dev_valid_name`).
#[must_use]
pub fn is_interface_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= INTERFACE_NAME_MAX
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0)
}

fn mtu(option: &str, value: &str) -> Result<u32, EngineError> {
    let n: i64 = value
        .parse()
        .map_err(|_| wrong(option, value, "invalid syntax"))?;
    if n < 0 {
        return Err(EngineError::Invalid(format!("invalid MTU number: {n}")));
    }
    // 68 bytes are the least IPv4 may have (RFC 791), 65535 the most Ethernet-like links take.
    if n != 0 && !(68..=65_535).contains(&n) {
        return Err(EngineError::Invalid(format!("invalid MTU number: {n}")));
    }
    Ok(u32::try_from(n).unwrap_or(0))
}

fn interface_prefix(value: &str) -> Result<String, EngineError> {
    // Room for the number.
    if is_interface_name(value) && value.len() + 4 <= INTERFACE_NAME_MAX {
        Ok(value.to_owned())
    } else {
        Err(wrong(
            INTERFACE_PREFIX,
            value,
            "not the beginning of an interface's name",
        ))
    }
}

fn gateway_mode(option: &str, value: &str) -> Result<GatewayMode, EngineError> {
    Ok(match value {
        "nat" => GatewayMode::Nat,
        "nat-unprotected" => GatewayMode::NatUnprotected,
        "routed" => GatewayMode::Routed,
        "isolated" => GatewayMode::Isolated,
        other => {
            return Err(wrong(
                option,
                other,
                &format!("unknown gateway mode {other}"),
            ));
        }
    })
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            icc: true,
            masquerade: true,
            mode_ipv4: GatewayMode::Nat,
            mode_ipv6: GatewayMode::Nat,
            inhibit_ipv4: false,
            host_binding: None,
            host_ipv4: None,
            host_ipv6: None,
            trusted_interfaces: Vec::new(),
            mtu: 0,
            interface_prefix: "eth".to_owned(),
        }
    }
}

impl DriverOptions {
    /// Reads the options of a network.
    ///
    /// # Errors
    /// For a value that makes no sense.
    pub fn parse(
        driver: Driver,
        internal: bool,
        options: &IndexMap<String, String>,
    ) -> Result<Self, EngineError> {
        if options.len() > limits::REQUEST_LIST {
            return Err(EngineError::Invalid(
                "a list of the request has too many entries".to_owned(),
            ));
        }
        match driver {
            Driver::Bridge => bridge(internal, options).map(Self::Bridge),
            Driver::Macvlan | Driver::Ipvlan => parent(driver, options).map(Self::Parent),
            Driver::Host | Driver::Null => Ok(Self::None),
        }
    }

    /// What interfaces in containers are called, before their number.
    #[must_use]
    pub fn interface_prefix(&self) -> &str {
        match self {
            Self::Bridge(o) => &o.interface_prefix,
            Self::Parent(o) => &o.interface_prefix,
            Self::None => "eth",
        }
    }
}

fn bridge(
    internal: bool,
    options: &IndexMap<String, String>,
) -> Result<BridgeOptions, EngineError> {
    let mut read = BridgeOptions::default();
    for (option, value) in options {
        match option.as_str() {
            OPTION_BRIDGE_NAME => {
                if !value.is_empty() && !is_interface_name(value) {
                    return Err(wrong(option, value, "not the name of an interface"));
                }
                read.name.clone_from(value);
            }
            OPTION_MTU => read.mtu = mtu(option, value)?,
            "com.docker.network.bridge.enable_icc" => read.icc = truth(option, value)?,
            "com.docker.network.bridge.enable_ip_masquerade" => {
                read.masquerade = truth(option, value)?;
            }
            "com.docker.network.bridge.gateway_mode_ipv4" => {
                read.mode_ipv4 = gateway_mode(option, value)?;
            }
            "com.docker.network.bridge.gateway_mode_ipv6" => {
                read.mode_ipv6 = gateway_mode(option, value)?;
            }
            "com.docker.network.bridge.inhibit_ipv4" => read.inhibit_ipv4 = truth(option, value)?,
            "com.docker.network.bridge.host_binding_ipv4" => {
                read.host_binding =
                    Some(value.parse().map_err(|_| wrong(option, value, "nil ip"))?);
            }
            "com.docker.network.host_ipv4" => {
                read.host_ipv4 = Some(value.parse().map_err(|_| wrong(option, value, "nil ip"))?);
            }
            "com.docker.network.host_ipv6" => {
                read.host_ipv6 = Some(value.parse().map_err(|_| wrong(option, value, "nil ip"))?);
            }
            "com.docker.network.bridge.trusted_host_interfaces" => {
                read.trusted_interfaces = value
                    .split(':')
                    .filter(|n| !n.is_empty())
                    .map(str::to_owned)
                    .collect();
                if let Some(name) = read
                    .trusted_interfaces
                    .iter()
                    .find(|n| !is_interface_name(n))
                {
                    return Err(wrong(option, name, "not the name of an interface"));
                }
            }
            INTERFACE_PREFIX => read.interface_prefix = interface_prefix(value)?,
            "com.docker.network.bridge.default_bridge" => {
                truth(option, value)?;
            }
            _ => {}
        }
    }
    let isolated = [read.mode_ipv4, read.mode_ipv6].contains(&GatewayMode::Isolated);
    if isolated && !internal {
        return Err(EngineError::Invalid(
            "gateway mode 'isolated' can only be used for an internal network".to_owned(),
        ));
    }
    Ok(read)
}

fn parent(
    driver: Driver,
    options: &IndexMap<String, String>,
) -> Result<ParentOptions, EngineError> {
    let mut read = ParentOptions {
        interface_prefix: "eth".to_owned(),
        ..ParentOptions::default()
    };
    for (option, value) in options {
        match (option.as_str(), driver) {
            ("parent", _) => {
                if !value.is_empty() && !is_interface_name(value) {
                    return Err(wrong(option, value, "not the name of an interface"));
                }
                if value == "lo" {
                    return Err(EngineError::Invalid(format!(
                        "loopback interface is not a valid {} parent link",
                        driver.as_str()
                    )));
                }
                read.parent.clone_from(value);
            }
            (OPTION_MTU, _) => read.mtu = mtu(option, value)?,
            (INTERFACE_PREFIX, _) => read.interface_prefix = interface_prefix(value)?,
            ("macvlan_mode", Driver::Macvlan) => {
                read.macvlan = match value.as_str() {
                    "" | "bridge" => MacvlanMode::Bridge,
                    "private" => MacvlanMode::Private,
                    "vepa" => MacvlanMode::Vepa,
                    "passthru" => MacvlanMode::Passthru,
                    other => {
                        return Err(EngineError::Invalid(format!(
                            "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
                        )));
                    }
                };
            }
            ("ipvlan_mode", Driver::Ipvlan) => {
                read.ipvlan = match value.as_str() {
                    "" | "l2" => IpvlanMode::L2,
                    "l3" => IpvlanMode::L3,
                    "l3s" => IpvlanMode::L3s,
                    other => {
                        return Err(EngineError::Invalid(format!(
                            "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
                        )));
                    }
                };
            }
            ("ipvlan_flag", Driver::Ipvlan) => {
                read.flag = match value.as_str() {
                    "" | "bridge" => IpvlanFlag::Bridge,
                    "private" => IpvlanFlag::Private,
                    "vepa" => IpvlanFlag::Vepa,
                    other => {
                        return Err(EngineError::Invalid(format!(
                            "requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"
                        )));
                    }
                };
            }
            _ => {}
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn options_of_bridges_are_read_and_unknown_ones_kept_quiet() {
        let read = DriverOptions::parse(
            Driver::Bridge,
            false,
            &options(&[
                (OPTION_BRIDGE_NAME, "br0"),
                (OPTION_MTU, "1400"),
                ("com.docker.network.bridge.enable_icc", "false"),
                ("something.else", "x"),
            ]),
        )
        .unwrap();
        let DriverOptions::Bridge(read) = read else {
            panic!("not a bridge's");
        };
        assert_eq!(
            (read.name.as_str(), read.mtu, read.icc),
            ("br0", 1400, false)
        );
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (driver, option, value) in [
            (Driver::Bridge, OPTION_BRIDGE_NAME, "a-name-of-an-interface"),
            (Driver::Bridge, OPTION_MTU, "-1"),
            (Driver::Bridge, OPTION_MTU, "many"),
            (
                Driver::Bridge,
                "com.docker.network.bridge.enable_icc",
                "maybe",
            ),
            (
                Driver::Bridge,
                "com.docker.network.bridge.gateway_mode_ipv4",
                "isolated",
            ),
            (
                Driver::Bridge,
                "com.docker.network.bridge.gateway_mode_ipv6",
                "open",
            ),
            (Driver::Macvlan, "macvlan_mode", "open"),
            (Driver::Macvlan, "parent", "lo"),
            (Driver::Ipvlan, "ipvlan_mode", "l4"),
            (Driver::Ipvlan, "ipvlan_flag", "none"),
        ] {
            let read = DriverOptions::parse(driver, false, &options(&[(option, value)]));
            assert!(
                matches!(read, Err(EngineError::Invalid(_))),
                "{option}={value} was taken"
            );
        }
    }
}
