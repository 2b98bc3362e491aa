//! From a request to a record: names, drivers and addresses checked, subnets chosen. Pure; sentences are Docker's.

mod asked;

use std::net::IpAddr;

use berth_net::address::{Pool, Pools, Prefix, SubnetAddresses, Taken};
use berth_types::{NetworkId, Timestamp};
use indexmap::IndexMap;

use super::options::{DriverOptions, GatewayMode, IpvlanMode, parse_truth};
use super::record::{Driver, NetworkRecord, PREDEFINED, SubnetRecord};
use super::request::NetworkCreateRequest;
use super::settings::NetworkSettings;
use crate::error::EngineError;
use crate::limits;

/// What a plan is made against.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    /// Every network there is.
    pub(super) networks: Vec<&'a NetworkRecord>,
    /// Ranges that routes and addresses of the host use.
    pub(super) host: &'a [Taken],
    /// Pools subnets are chosen from, IPv6 ones included.
    pub(super) pools: &'a Pools,
    /// Settings of the daemon.
    pub(super) settings: &'a NetworkSettings,
}

fn invalid(text: impl Into<String>) -> EngineError {
    EngineError::Invalid(text.into())
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}

/// The pools of these settings, with the host's own IPv6 pool where none is set.
#[must_use]
pub(super) fn pools(settings: &NetworkSettings, own_ipv6: Pool) -> Pools {
    let mut pools: Vec<Pool> = if settings.default_address_pools.is_empty() {
        Pools::default().iter().copied().collect()
    } else {
        settings.default_address_pools.clone()
    };
    if !pools.iter().any(|p| !p.base.is_ipv4()) {
        pools.push(own_ipv6);
    }
    Pools::new(pools)
}

/// The record of a new network.
///
/// # Errors
/// When the request makes no sense, or clashes with what there is.
pub(super) fn network(
    request: &NetworkCreateRequest,
    id: NetworkId,
    now: Timestamp,
    situation: &Situation<'_>,
) -> Result<NetworkRecord, EngineError> {
    check_name(request, situation)?;
    if request.ingress {
        return Err(EngineError::Forbidden(
            "Ingress network can only be global scope network".to_owned(),
        ));
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(EngineError::Forbidden(
            "cannot create a swarm scoped network when swarm is not active".to_owned(),
        ));
    }
    let source = source(request, situation)?;
    let driver = driver(&request.driver)?;
    let mut options = source.map_or_else(|| request.options.clone(), |s| s.options.clone());
    if source.is_none()
        && let Some(defaults) = situation
            .settings
            .default_network_options
            .get(driver.as_str())
    {
        for (option, value) in defaults {
            options
                .entry(option.clone())
                .or_insert_with(|| value.clone());
        }
    }
    let ipv4 = family(
        request.enable_ipv4,
        "com.docker.network.enable_ipv4",
        &mut options,
        true,
    )?;
    let ipv6 = family(
        request.enable_ipv6,
        "com.docker.network.enable_ipv6",
        &mut options,
        false,
    )?;
    let (ipv4, ipv6) = source.map_or((ipv4, ipv6), |s| (s.ipv4, s.ipv6));
    let mut record = NetworkRecord {
        id,
        name: request.name.clone(),
        created: now,
        driver,
        ipv4,
        ipv6,
        internal: request.internal,
        attachable: request.attachable,
        config_only: request.config_only,
        config_from: request.config_from.clone(),
        ipam_driver: match request.ipam.driver.as_str() {
            "" | "default" => "default".to_owned(),
            "null" => "null".to_owned(),
            other => {
                return Err(invalid(format!("invalid ipam driver: \"{}\"", cut(other))));
            }
        },
        ipam_options: request.ipam.options.clone(),
        subnets: Vec::new(),
        options,
        labels: request.labels.clone(),
    };
    if let Some(source) = source {
        record.ipam_driver.clone_from(&source.ipam_driver);
        record.ipam_options.clone_from(&source.ipam_options);
        for (label, value) in &source.labels {
            record
                .labels
                .entry(label.clone())
                .or_insert_with(|| value.clone());
        }
    }
    let read = DriverOptions::parse(driver, record.internal, &record.options)?;
    if driver == Driver::Bridge && !ipv4 && !ipv6 {
        return Err(invalid("IPv4 or IPv6 must be enabled"));
    }
    let mut asked = match source {
        Some(source) => source.subnets.clone(),
        None => asked::checked_subnets(&request.ipam.subnets, ipv6)?,
    };
    if record.config_only {
        record.subnets = asked;
        return Ok(record);
    }
    asked.retain(|s| if s.subnet.is_ipv4() { ipv4 } else { ipv6 });
    if record.ipam_driver == "null" {
        if !asked.is_empty() {
            return Err(invalid("null ipam driver does not take a subnet"));
        }
        if driver == Driver::Bridge {
            return Err(invalid(if ipv4 {
                "ipv4 pool is empty"
            } else {
                "ipv6 pool is empty"
            }));
        }
        return Ok(record);
    }
    check_bridge(&record, &read, situation)?;
    check_parent(&record, &read, situation)?;
    record.subnets = subnets(&record, asked, &read, situation)?;
    Ok(record)
}

fn check_name(
    request: &NetworkCreateRequest,
    situation: &Situation<'_>,
) -> Result<(), EngineError> {
    let name = request.name.as_str();
    if name.trim().is_empty() {
        return Err(invalid("invalid name: name is empty"));
    }
    if PREDEFINED.contains(&name) || name == "default" || name.starts_with("container:") {
        return Err(EngineError::Forbidden(format!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    // The name becomes part of paths and of names that are answered.
    let good = name.len() <= limits::NETWORK_NAME_MAX
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !good {
        return Err(invalid(format!(
            "invalid network name \"{}\": only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed",
            cut(name)
        )));
    }
    if situation.networks.iter().any(|n| n.name == name) {
        return Err(EngineError::Conflict(format!(
            "network with name {name} already exists"
        )));
    }
    if request.labels.len() > limits::REQUEST_LIST {
        return Err(invalid("a list of the request has too many entries"));
    }
    Ok(())
}

fn driver(name: &str) -> Result<Driver, EngineError> {
    match name {
        "" | "bridge" | "default" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "host" => Err(EngineError::Forbidden(
            "only one instance of \"host\" network is allowed".to_owned(),
        )),
        "null" => Err(EngineError::Forbidden(
            "only one instance of \"null\" network is allowed".to_owned(),
        )),
        "overlay" => Err(EngineError::Forbidden(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
                .to_owned(),
        )),
        other => Err(EngineError::NotFound(format!(
            "could not find plugin {} in v1 plugin registry: plugin not found",
            cut(other)
        ))),
    }
}

fn source<'a>(
    request: &NetworkCreateRequest,
    situation: &Situation<'a>,
) -> Result<Option<&'a NetworkRecord>, EngineError> {
    let forbidden = |text: &str| EngineError::Forbidden(text.to_owned());
    if request.config_only {
        if request.internal || request.attachable {
            return Err(forbidden(
                "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
            ));
        }
        if !request.config_from.is_empty() {
            return Err(forbidden(
                "a configuration network cannot depend on another configuration network",
            ));
        }
    }
    if request.config_from.is_empty() {
        return Ok(None);
    }
    if !request.ipam.subnets.is_empty() || !request.ipam.options.is_empty() {
        return Err(forbidden(
            "user-specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if !request.options.is_empty() {
        return Err(forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        ));
    }
    situation
        .networks
        .iter()
        .find(|n| n.name == request.config_from && n.config_only)
        .map(|n| Some(*n))
        .ok_or_else(|| {
            EngineError::NotFound(format!(
                "configuration network \"{}\" does not exist",
                cut(&request.config_from)
            ))
        })
}

fn family(
    asked: Option<bool>,
    option: &str,
    options: &mut IndexMap<String, String>,
    default: bool,
) -> Result<bool, EngineError> {
    if let Some(asked) = asked {
        options.shift_remove(option);
        return Ok(asked);
    }
    match options.get(option) {
        None => Ok(default),
        Some(value) => parse_truth(value)
            .ok_or_else(|| invalid(format!("driver-opt \"{option}\" is not a valid bool"))),
    }
}

fn check_bridge(
    record: &NetworkRecord,
    read: &DriverOptions,
    situation: &Situation<'_>,
) -> Result<(), EngineError> {
    let DriverOptions::Bridge(read) = read else {
        return Ok(());
    };
    let name = bridge_name(&record.id, &read.name);
    for other in &situation.networks {
        if other.driver == Driver::Bridge
            && !other.config_only
            && bridge_of(other).is_some_and(|n| n == name)
        {
            return Err(EngineError::Forbidden(format!(
                "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge name",
                record.id, other.id
            )));
        }
    }
    Ok(())
}

fn check_parent(
    record: &NetworkRecord,
    read: &DriverOptions,
    situation: &Situation<'_>,
) -> Result<(), EngineError> {
    use super::options::MacvlanMode::Passthru;
    let DriverOptions::Parent(read) = read else {
        return Ok(());
    };
    if read.parent.is_empty() {
        return Ok(());
    }
    for other in &situation.networks {
        if other.config_only || !matches!(other.driver, Driver::Macvlan | Driver::Ipvlan) {
            continue;
        }
        let Ok(DriverOptions::Parent(theirs)) =
            DriverOptions::parse(other.driver, other.internal, &other.options)
        else {
            continue;
        };
        if theirs.parent != read.parent {
            continue;
        }
        let parent = &read.parent;
        let text = match (record.driver, other.driver) {
            (Driver::Macvlan, Driver::Macvlan) if read.macvlan == Passthru => format!(
                "cannot use mode passthru, macvlan network {} is already using parent interface {parent}",
                other.id
            ),
            (Driver::Macvlan, Driver::Macvlan) if theirs.macvlan == Passthru => format!(
                "macvlan network {} is already using parent interface {parent} in mode passthru",
                other.id
            ),
            (Driver::Macvlan, Driver::Macvlan) => continue,
            _ => format!(
                "network {} is already using parent interface {parent}",
                other.id
            ),
        };
        return Err(EngineError::Forbidden(text));
    }
    Ok(())
}

/// The interface of a bridge network: as asked, or named after the network.
#[must_use]
pub(super) fn bridge_name(id: &NetworkId, asked: &str) -> String {
    if asked.is_empty() {
        format!("br-{}", id.short())
    } else {
        asked.to_owned()
    }
}

/// The interface of a network that is a bridge.
#[must_use]
pub(super) fn bridge_of(record: &NetworkRecord) -> Option<String> {
    match DriverOptions::parse(record.driver, record.internal, &record.options) {
        Ok(DriverOptions::Bridge(read)) => Some(bridge_name(&record.id, &read.name)),
        _ => None,
    }
}

fn overlap() -> EngineError {
    EngineError::Forbidden(
        "invalid pool request: Pool overlaps with other one on this address space".to_owned(),
    )
}

/// Every subnet of a network: those asked for, and those from the pools.
fn subnets(
    record: &NetworkRecord,
    asked: Vec<SubnetRecord>,
    read: &DriverOptions,
    situation: &Situation<'_>,
) -> Result<Vec<SubnetRecord>, EngineError> {
    let mut taken: Vec<Taken> = situation
        .networks
        .iter()
        .filter(|n| !n.config_only)
        .flat_map(|n| {
            n.subnets.iter().map(|s| Taken {
                prefix: s.subnet,
                holder: format!("network {}", n.name),
            })
        })
        .collect();
    let own_networks = taken.len();
    taken.extend_from_slice(situation.host);
    let mut chosen: Vec<SubnetRecord> = Vec::new();
    for ipv4 in [true, false] {
        if !(if ipv4 { record.ipv4 } else { record.ipv6 }) {
            continue;
        }
        let mut of_family: Vec<SubnetRecord> = asked
            .iter()
            .filter(|s| s.subnet.is_ipv4() == ipv4)
            .cloned()
            .collect();
        if record.driver == Driver::Bridge && of_family.len() > 1 {
            return Err(EngineError::Forbidden(
                "bridge driver doesn't support multiple subnets".to_owned(),
            ));
        }
        if of_family.is_empty() {
            of_family.push(SubnetRecord {
                subnet: Prefix::host(if ipv4 {
                    IpAddr::from([0, 0, 0, 0])
                } else {
                    IpAddr::from([0_u16; 8])
                }),
                ip_range: None,
                gateway: None,
                auxiliary: IndexMap::new(),
                asked: false,
            });
        }
        for mut subnet in of_family {
            if subnet.subnet.address().is_unspecified() {
                let size = Some(subnet.subnet.length()).filter(|l| subnet.asked && *l > 0);
                subnet.subnet = situation
                    .pools
                    .choose(ipv4, size, &taken)
                    .map_err(|e| invalid(e.to_string()))?;
                subnet.asked = false;
            } else {
                let shares = |other: &SubnetRecord| {
                    // Docker lets networks share a subnet when each says which part of it is its own.
                    record.driver != Driver::Bridge
                        && other.subnet == subnet.subnet
                        && subnet.ip_range.is_some()
                        && other.ip_range != subnet.ip_range
                };
                let clash = situation
                    .networks
                    .iter()
                    .filter(|n| !n.config_only)
                    .flat_map(|n| &n.subnets)
                    .chain(&chosen)
                    .any(|other| other.subnet.overlaps(&subnet.subnet) && !shares(other));
                if clash {
                    return Err(overlap());
                }
            }
            taken.insert(
                own_networks,
                Taken {
                    prefix: subnet.subnet,
                    holder: format!("network {}", record.name),
                },
            );
            gateway(record, &mut subnet, read)?;
            chosen.push(subnet);
        }
    }
    Ok(chosen)
}

/// Fills in the gateway where one is needed, and checks that nothing is named twice.
fn gateway(
    record: &NetworkRecord,
    subnet: &mut SubnetRecord,
    read: &DriverOptions,
) -> Result<(), EngineError> {
    let wanted = match read {
        DriverOptions::Bridge(read) => {
            let mode = if subnet.subnet.is_ipv4() {
                read.mode_ipv4
            } else {
                read.mode_ipv6
            };
            mode != GatewayMode::Isolated
        }
        // The gateway is somebody else's there: only the user knows it.
        DriverOptions::Parent(_) | DriverOptions::None => false,
    };
    let mut addresses = SubnetAddresses::new(subnet.subnet, subnet.ip_range);
    let failed = |what: &str, error: berth_net::address::AddressError| {
        EngineError::Invalid(format!("failed to allocate {what}: {error}"))
    };
    match subnet.gateway {
        Some(gateway) => addresses
            .take(gateway)
            .map_err(|e| failed(&format!("gateway ({gateway})"), e))?,
        None if wanted => {
            let first = addresses.take_next().map_err(|e| failed("gateway ()", e))?;
            subnet.gateway = Some(first);
        }
        None => {}
    }
    for (name, address) in &subnet.auxiliary {
        addresses
            .take(*address)
            .map_err(|e| failed(&format!("secondary ip address ({name}:{address})"), e))?;
    }
    let l3 = matches!(read, DriverOptions::Parent(p) if p.ipvlan != IpvlanMode::L2);
    if record.driver == Driver::Ipvlan && l3 {
        // Packets leave by the interface itself.
        subnet.gateway = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
