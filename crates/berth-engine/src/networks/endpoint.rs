//! From what a container asks of networks to its endpoints: checks, names, interfaces, the default gateway.
//!
//! Pure but for random numbers; addresses come from the book. Sentences are Docker's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use berth_net::address::{HardwareAddress, Prefix};
use berth_net::link::EndpointSetting;
use berth_types::{ContainerId, EndpointId};

use super::book::Book;
use super::options::{DriverOptions, IpvlanMode, MacvlanMode, is_interface_name};
use super::record::{Driver, NetworkRecord};
use super::request::EndpointRequest;
use super::view::{Endpoint, Member};
use crate::error::EngineError;
use crate::limits;
use crate::random;

/// Option that names the interface.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";
/// Option with settings of the interface.
const SETTINGS: &str = "com.docker.network.endpoint.sysctls";

/// A request, read.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) ipv6: Option<Ipv6Addr>,
    pub(super) link_local: Vec<IpAddr>,
    pub(super) mac: Option<HardwareAddress>,
    pub(super) interface: Option<String>,
    pub(super) settings: Vec<EndpointSetting>,
}

/// Whether a network is one that users make: names are answered there, static addresses possible.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, "bridge" | "host" | "none" | "default")
}

/// Reads a request against the network, where there is one already.
///
/// # Errors
/// With everything that is wrong.
pub(super) fn check(
    name: &str,
    record: Option<&NetworkRecord>,
    request: &EndpointRequest,
) -> Result<Wanted, EngineError> {
    let mut wanted = Wanted::default();
    let mut errors: Vec<String> = Vec::new();
    let cut = |text: &str| text.chars().take(128).collect::<String>();
    if !is_user_defined(record.map_or(name, |r| r.name.as_str())) {
        if !request.ipv4_address.is_empty() || !request.ipv6_address.is_empty() {
            errors.push(
                "user-specified IP address is supported on user-defined networks only".to_owned(),
            );
        }
        if !request.aliases.is_empty() {
            errors.push(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
    }
    let lists = [
        request.aliases.len(),
        request.links.len(),
        request.link_local.len(),
        request.driver_options.len(),
    ];
    if lists.iter().any(|n| *n > limits::REQUEST_LIST) {
        errors.push("a list of the request has too many entries".to_owned());
    }
    if !request.ipv4_address.is_empty() {
        match request.ipv4_address.parse::<Ipv4Addr>() {
            Ok(address) if !address.is_unspecified() => wanted.ipv4 = Some(address),
            _ => errors.push(format!(
                "invalid IPv4 address: {}",
                cut(&request.ipv4_address)
            )),
        }
    }
    if !request.ipv6_address.is_empty() {
        match request.ipv6_address.parse::<Ipv6Addr>() {
            Ok(address) if !address.is_unspecified() && address.to_ipv4_mapped().is_none() => {
                wanted.ipv6 = Some(address);
            }
            _ => errors.push(format!(
                "invalid IPv6 address: {}",
                cut(&request.ipv6_address)
            )),
        }
    }
    for text in &request.link_local {
        match text.parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() => wanted.link_local.push(address),
            _ => errors.push(format!("invalid link-local IP address: {}", cut(text))),
        }
    }
    if !request.mac_address.is_empty() {
        match request.mac_address.parse::<HardwareAddress>() {
            Ok(mac) if mac.is_unicast() => wanted.mac = Some(mac),
            _ => errors.push(format!(
                "{} is not a valid mac address",
                cut(&request.mac_address)
            )),
        }
    }
    if let Some(record) = record {
        let addresses = [wanted.ipv4.map(IpAddr::V4), wanted.ipv6.map(IpAddr::V6)];
        for address in addresses.into_iter().flatten() {
            if record.subnet_of(address).is_none() {
                errors.push(format!(
                    "no configured subnet contains IP address {address}"
                ));
            }
        }
    }
    if let Some(interface) = request.driver_options.get(INTERFACE_NAME) {
        if is_interface_name(interface) && interface != "lo" {
            wanted.interface = Some(interface.clone());
        } else {
            errors.push(format!("invalid interface name: {}", cut(interface)));
        }
    }
    if let Some(settings) = request.driver_options.get(SETTINGS) {
        match EndpointSetting::parse_list(settings) {
            Ok(settings) => wanted.settings = settings,
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() {
        Ok(wanted)
    } else {
        Err(EngineError::Invalid(format!(
            "invalid endpoint settings:\n{}",
            errors.join("\n")
        )))
    }
}

/// What a container is called in a network: its name first, which reverse lookups answer.
pub(super) fn names(
    record: &NetworkRecord,
    container: &ContainerId,
    name: &str,
    hostname: &str,
    aliases: &[String],
) -> Vec<String> {
    if record.is_predefined() {
        return Vec::new();
    }
    let mut names: Vec<String> = Vec::new();
    let all = std::iter::once(name)
        .chain(aliases.iter().map(String::as_str))
        .chain([container.short(), hostname]);
    for name in all {
        if !name.is_empty() && !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// An endpoint that is reserved, with what only its making needs.
#[derive(Debug, Clone)]
pub(super) struct Reserved {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) record: Arc<NetworkRecord>,
    pub(super) options: Arc<DriverOptions>,
    pub(super) settings: Vec<EndpointSetting>,
    /// Whether others may remember another hardware address for its addresses.
    pub(super) announce: bool,
    priority: i64,
}

/// The container that joins.
pub(super) struct Joining<'a> {
    pub(super) container: &'a ContainerId,
    pub(super) name: &'a str,
    pub(super) hostname: &'a str,
}

/// Makes a container a member of a network: takes addresses and writes it into the book.
///
/// `taken` are the names of the interfaces it has.
pub(super) fn reserve(
    book: &mut Book,
    joining: &Joining<'_>,
    reference: &str,
    request: &EndpointRequest,
    taken: &[String],
) -> Result<Reserved, EngineError> {
    let asked = if request.network.is_empty() {
        reference
    } else {
        &request.network
    };
    let found = match book.find_ready(asked) {
        Err(EngineError::NotFound(_)) if asked != reference => book.find_ready(reference)?,
        other => other?,
    };
    let (record, options) = (Arc::clone(&found.record), Arc::clone(&found.options));
    let already = || {
        EngineError::Forbidden(format!(
            "endpoint with name {} already exists in network {}",
            joining.name, record.name
        ))
    };
    if record.config_only {
        return Err(EngineError::Forbidden(
            "cannot create endpoint on configuration-only network".to_owned(),
        ));
    }
    let wanted = check(&record.name, Some(&record), request)?;
    let id = record.id.clone();
    let has_links = matches!(
        record.driver,
        Driver::Bridge | Driver::Macvlan | Driver::Ipvlan
    );
    let interface = if has_links {
        interface(&wanted, options.interface_prefix(), taken)?
    } else {
        String::new()
    };
    let endpoint_id = EndpointId::from_random(random::bytes()?);
    let host_interface = if record.driver == Driver::Bridge {
        berth_net::link::host_end_name(endpoint_id.as_str())
            .map_err(|e| EngineError::Internal(e.to_string()))?
            .to_string()
    } else {
        String::new()
    };
    let Some(entry) = book.get_mut(&id) else {
        return Err(EngineError::NotFound(format!(
            "network {reference} not found"
        )));
    };
    if entry.member(joining.container).is_some() {
        return Err(already());
    }
    let addresses = entry.take(wanted.ipv4.map(IpAddr::V4), wanted.ipv6.map(IpAddr::V6))?;
    let gateway = |address: Option<Prefix>| {
        address
            .filter(|_| !record.internal)
            .and_then(|a| record.subnet_of(a.address()))
            .and_then(|s| s.gateway)
    };
    let endpoint = Arc::new(Endpoint {
        id: endpoint_id,
        network: id,
        network_name: record.name.clone(),
        driver: record.driver,
        interface,
        host_interface,
        mac_address: hardware(&wanted, &options, record.driver, addresses.ipv4)?,
        ipv4: addresses.ipv4,
        ipv4_gateway: gateway(addresses.ipv4).and_then(|g| match g {
            IpAddr::V4(g) => Some(g),
            IpAddr::V6(_) => None,
        }),
        ipv6: addresses.ipv6,
        ipv6_gateway: gateway(addresses.ipv6).and_then(|g| match g {
            IpAddr::V6(g) => Some(g),
            IpAddr::V4(_) => None,
        }),
        link_local: wanted.link_local.clone(),
        names: names(
            &record,
            joining.container,
            joining.name,
            joining.hostname,
            &request.aliases,
        ),
        links: links(&record, request),
        default_ipv4: false,
        default_ipv6: false,
    });
    entry.join(Member {
        container: joining.container.clone(),
        name: joining.name.to_owned(),
        endpoint: Arc::clone(&endpoint),
    });
    Ok(Reserved {
        endpoint,
        record,
        options,
        settings: wanted.settings,
        announce: wanted.mac.is_some() || wanted.ipv4.is_some() || wanted.ipv6.is_some(),
        priority: request.gateway_priority,
    })
}

/// Links of a network where names are answered, as `(alias, container)`.
fn links(record: &NetworkRecord, request: &EndpointRequest) -> Vec<(String, String)> {
    if record.is_predefined() {
        return Vec::new();
    }
    request
        .links
        .iter()
        .map(|link| match link.split_once(':') {
            Some((target, alias)) => (alias.to_owned(), target.to_owned()),
            None => (link.clone(), link.clone()),
        })
        .collect()
}

fn interface(wanted: &Wanted, prefix: &str, taken: &[String]) -> Result<String, EngineError> {
    if let Some(name) = &wanted.interface {
        if taken.contains(name) {
            return Err(EngineError::Conflict(format!(
                "the container has an interface {name} already"
            )));
        }
        return Ok(name.clone());
    }
    // One more number than there are interfaces: one of them is free.
    (0..=taken.len())
        .map(|n| format!("{prefix}{n}"))
        .find(|name| !taken.contains(name))
        .ok_or_else(|| EngineError::Internal("no name is left for an interface".to_owned()))
}

fn hardware(
    wanted: &Wanted,
    options: &DriverOptions,
    driver: Driver,
    ipv4: Option<Prefix>,
) -> Result<Option<HardwareAddress>, EngineError> {
    let own = match (driver, options) {
        (Driver::Bridge, _) => true,
        (Driver::Macvlan, DriverOptions::Parent(o)) => o.macvlan != MacvlanMode::Passthru,
        _ => false,
    };
    if !own {
        return match wanted.mac {
            Some(_) if driver == Driver::Ipvlan => Err(EngineError::Invalid(
                "ipvlan interfaces do not support custom mac address assignment".to_owned(),
            )),
            _ => Ok(None),
        };
    }
    if let Some(mac) = wanted.mac {
        return Ok(Some(mac));
    }
    if driver == Driver::Bridge
        && let Some(IpAddr::V4(address)) = ipv4.map(|p| p.address())
    {
        // The same address always has the same hardware address, so nobody remembers a wrong one.
        return Ok(Some(HardwareAddress::from_ipv4(address)));
    }
    let random: [u8; 32] = random::bytes()?;
    let mut six = [0; 6];
    six.copy_from_slice(&random[..6]);
    Ok(Some(HardwareAddress::from_random(six)))
}

/// Which of a container's places its default routes leave by: the highest priority, then those with both families,
/// then the first by name.
pub(super) fn choose_gateways(reserved: &mut [Reserved]) {
    for ipv4 in [true, false] {
        let leads = |r: &Reserved| {
            let l3 = matches!(&*r.options, DriverOptions::Parent(o) if o.ipvlan != IpvlanMode::L2);
            let endpoint = &r.endpoint;
            let has = if ipv4 {
                endpoint.ipv4.is_some() && (endpoint.ipv4_gateway.is_some() || l3)
            } else {
                endpoint.ipv6.is_some() && (endpoint.ipv6_gateway.is_some() || l3)
            };
            has && !r.record.internal
        };
        let best = reserved
            .iter()
            .enumerate()
            .filter(|(_, r)| leads(r))
            .min_by(|(_, a), (_, b)| {
                let both = |r: &Reserved| {
                    r.endpoint.ipv4_gateway.is_some() && r.endpoint.ipv6_gateway.is_some()
                };
                b.priority
                    .cmp(&a.priority)
                    .then(both(b).cmp(&both(a)))
                    .then(a.record.name.cmp(&b.record.name))
            })
            .map(|(i, _)| i);
        for (i, r) in reserved.iter_mut().enumerate() {
            let leaves = Some(i) == best;
            let endpoint = Arc::make_mut(&mut r.endpoint);
            if ipv4 {
                endpoint.default_ipv4 = leaves;
            } else {
                endpoint.default_ipv6 = leaves;
            }
        }
    }
}

impl Reserved {
    /// What a running container has already, as if it were reserved now.
    pub(super) fn of_running(
        endpoint: Arc<Endpoint>,
        record: Arc<NetworkRecord>,
        options: Arc<DriverOptions>,
        priority: i64,
    ) -> Self {
        Self {
            endpoint,
            record,
            options,
            settings: Vec::new(),
            announce: false,
            priority,
        }
    }
}
