//! Subnets that are asked for: from texts to values, with everything that is wrong told at once. Pure.

use std::net::IpAddr;

use berth_net::address::Prefix;

use super::{cut, invalid};
use crate::error::EngineError;
use crate::limits;
use crate::networks::record::SubnetRecord;
use crate::networks::request::SubnetRequest;

/// Reads the subnets of a request. All that is wrong is told at once, as Docker does.
pub(super) fn checked_subnets(
    asked: &[SubnetRequest],
    ipv6: bool,
) -> Result<Vec<SubnetRecord>, EngineError> {
    if asked.len() > limits::NETWORK_SUBNETS_MAX {
        return Err(invalid("too many subnets"));
    }
    let mut errors = Vec::new();
    let mut subnets = Vec::new();
    for request in asked {
        match checked_subnet(request, ipv6) {
            Ok(Some(subnet)) => subnets.push(subnet),
            Ok(None) => {}
            Err(mut found) => errors.append(&mut found),
        }
    }
    if errors.is_empty() {
        Ok(subnets)
    } else {
        Err(invalid(format!(
            "invalid network config:\n{}",
            errors.join("\n")
        )))
    }
}

fn checked_subnet(
    request: &SubnetRequest,
    ipv6: bool,
) -> Result<Option<SubnetRecord>, Vec<String>> {
    if request.subnet.is_empty() {
        let told = !request.ip_range.is_empty()
            || !request.gateway.is_empty()
            || !request.auxiliary.is_empty();
        return if told {
            Err(vec![
                "invalid subnet : subnet is required with ip-range, gateway or auxiliary addresses"
                    .to_owned(),
            ])
        } else {
            Ok(None)
        };
    }
    let Ok(subnet) = request.subnet.parse::<Prefix>() else {
        return Err(vec![format!(
            "invalid subnet {}: invalid CIDR block notation",
            cut(&request.subnet)
        )]);
    };
    if !subnet.is_ipv4() && !ipv6 {
        return Ok(None);
    }
    let mut errors = Vec::new();
    let family = if subnet.is_ipv4() { 4 } else { 6 };
    if !subnet.is_network() {
        errors.push(format!(
            "invalid subnet {subnet}: it should be {}",
            subnet.network()
        ));
    }
    let multicast = subnet.address().is_multicast();
    if multicast {
        errors.push(format!("multicast subnet '{subnet}' is not allowed"));
    }
    if let Some(link_local) = Prefix::new(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 64)
        && subnet.network() != link_local
        && subnet.overlaps(&link_local)
    {
        errors.push(format!(
            "'{subnet}' clashes with the Link-Local prefix 'fe80::/64'"
        ));
    }
    let mut ip_range = None;
    if !request.ip_range.is_empty() {
        match request.ip_range.parse::<Prefix>() {
            Err(_) => errors.push(format!(
                "invalid ip-range {}: invalid CIDR block notation",
                cut(&request.ip_range)
            )),
            Ok(range) if range.is_ipv4() != subnet.is_ipv4() => errors.push(format!(
                "invalid ip-range {range}: parent subnet is an IPv{family} block"
            )),
            Ok(range) => {
                let before = errors.len();
                if range.length() < subnet.length() {
                    errors.push(format!(
                        "invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"
                    ));
                }
                if !range.is_network() {
                    errors.push(format!(
                        "invalid ip-range {range}: it should be {}",
                        range.network()
                    ));
                }
                if !range.overlaps(&subnet) {
                    errors.push(format!(
                        "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
                    ));
                }
                if errors.len() == before {
                    ip_range = Some(range);
                }
            }
        }
    }
    let mut inside = |text: &str, what: &str| -> Option<IpAddr> {
        let error = match text.parse::<IpAddr>() {
            Err(_) => "invalid address".to_owned(),
            Ok(address) if address.is_ipv4() != subnet.is_ipv4() => {
                format!("parent subnet is an IPv{family} block")
            }
            Ok(address) if !subnet.contains(address) => {
                format!("parent subnet {subnet} doesn't contain this address")
            }
            Ok(address) => return Some(address),
        };
        errors.push(format!("invalid {what}: {error}"));
        None
    };
    let gateway = (!request.gateway.is_empty())
        .then(|| {
            let text = cut(&request.gateway);
            inside(&request.gateway, &format!("gateway {text}"))
        })
        .flatten();
    let auxiliary = request
        .auxiliary
        .iter()
        .filter_map(|(name, text)| {
            let what = format!("auxiliary address {}", cut(name));
            Some((name.clone(), inside(text, &what)?))
        })
        .collect();
    if errors.is_empty() {
        Ok(Some(SubnetRecord {
            subnet,
            ip_range,
            gateway,
            auxiliary,
            asked: true,
        }))
    } else {
        Err(errors)
    }
}
