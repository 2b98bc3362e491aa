//! `network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_api::{ConfigReference, Ipam, IpamConfig, NetworkCreateRequest};

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::{csv, environment, subnet::Subnet};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "network",
    names: &["create"],
    top: &[],
    usage: "[OPTIONS] NETWORK",
    about: "Make a new network",
    flags: || {
        vec![
            Flag::switch(
                "attachable",
                "Let single containers join a cluster's network",
            ),
            Flag::map(
                "aux-address",
                "Keep an address from being given away (name=address)",
            ),
            Flag::text("config-from", "Take the settings of this network"),
            Flag::switch("config-only", "Make settings for other networks only"),
            Flag::text("driver", "Driver: bridge, macvlan or ipvlan")
                .short('d')
                .or("bridge"),
            csv::flag("gateway", "Address of the gateway in a subnet"),
            Flag::switch("ingress", "Make the network a cluster is entered by"),
            Flag::switch("internal", "Let nobody in and out of the network"),
            csv::flag("ip-range", "Part of a subnet that addresses are given from"),
            Flag::text("ipam-driver", "Driver that manages addresses").or("default"),
            Flag::map("ipam-opt", "Set an option of that driver"),
            Flag::switch("ipv4", "Give containers IPv4 addresses").on(),
            Flag::switch("ipv6", "Give containers IPv6 addresses"),
            Flag::many("label", "list", environment::check_label, "Set a label"),
            Flag::map("opt", "Set an option of the driver").short('o'),
            Flag::text("scope", "Where the network reaches: local"),
            csv::flag("subnet", "Address range of the network (CIDR)"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let request = request(parsed)?;
    session.block_on(async {
        let client = session.client()?;
        let created = client
            .network_create(&request)
            .await
            .map_err(|error| session.failure(error))?;
        if !created.warning.is_empty() {
            session.warning(&created.warning);
        }
        session::print(&format!("{}\n", created.id))
    })
}

fn request(parsed: &Parsed) -> Result<NetworkCreateRequest, String> {
    let map = |flag: &str| environment::to_map(&parsed.list(flag));
    let from = parsed.text("config-from");
    let ipam = Ipam {
        driver: parsed.text("ipam-driver").to_owned(),
        options: Some(map("ipam-opt")),
        config: Some(ranges(
            &csv::all(&parsed.list("subnet"))?,
            &csv::all(&parsed.list("ip-range"))?,
            &csv::all(&parsed.list("gateway"))?,
            &map("aux-address"),
        )?),
    };
    Ok(NetworkCreateRequest {
        name: parsed.operands[0].clone(),
        check_duplicate: None,
        driver: parsed.text("driver").to_owned(),
        scope: parsed.text("scope").to_owned(),
        enable_ipv4: parsed.given("ipv4").then(|| parsed.switch("ipv4")),
        enable_ipv6: parsed.given("ipv6").then(|| parsed.switch("ipv6")),
        ipam: Some(ipam),
        internal: parsed.switch("internal"),
        attachable: parsed.switch("attachable"),
        ingress: parsed.switch("ingress"),
        config_only: parsed.switch("config-only"),
        config_from: (!from.is_empty()).then(|| ConfigReference {
            network: from.to_owned(),
        }),
        options: Some(map("opt")),
        labels: Some(map("label")),
    })
}

/// Sorts ranges, gateways and reserved addresses by the subnet they lie in. A subnet that cannot be
/// read is left to the engine, unless something has to be found in it.
fn ranges(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    reserved: &BTreeMap<String, String>,
) -> Result<Vec<IpamConfig>, String> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut configs: Vec<IpamConfig> = Vec::new();
    for subnet in subnets {
        for other in &configs {
            if overlap(subnet, &other.subnet)? {
                return Err("multiple overlapping subnet configuration is not supported".to_owned());
            }
        }
        configs.push(IpamConfig {
            subnet: subnet.clone(),
            ..IpamConfig::default()
        });
    }
    for range in ranges {
        let first = range.parse::<Subnet>()?.first();
        let nowhere = || format!("no matching subnet for range {range}");
        let config = holder(&mut configs, first)?.ok_or_else(nowhere)?;
        if !config.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                config.ip_range, config.subnet
            ));
        }
        config.ip_range.clone_from(range);
    }
    for gateway in gateways {
        let nowhere = || format!("no matching subnet for gateway {gateway}");
        let address = gateway.parse().map_err(|_| nowhere())?;
        let config = holder(&mut configs, address)?.ok_or_else(nowhere)?;
        if !config.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                config.gateway, config.subnet
            ));
        }
        config.gateway.clone_from(gateway);
    }
    for (name, text) in reserved {
        let nowhere = || format!("no matching subnet for aux-address {text}");
        let address = text.parse().map_err(|_| nowhere())?;
        let config = holder(&mut configs, address)?.ok_or_else(nowhere)?;
        config
            .auxiliary_addresses
            .insert(name.clone(), text.clone());
    }
    Ok(configs)
}

fn overlap(left: &str, right: &str) -> Result<bool, String> {
    let read = |text: &str| {
        text.parse::<Subnet>()
            .map_err(|reason| format!("invalid subnet: {reason}"))
    };
    let (left, right) = (read(left)?, read(right)?);
    Ok(left.contains(right.first()) || right.contains(left.first()))
}

/// The subnet an address lies in.
fn holder(configs: &mut [IpamConfig], address: IpAddr) -> Result<Option<&mut IpamConfig>, String> {
    for config in configs {
        let subnet: Subnet = config
            .subnet
            .parse()
            .map_err(|reason| format!("invalid subnet: {reason}"))?;
        if subnet.contains(address) {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_gateways_and_reserved_addresses_find_their_subnet() {
        let found = ranges(
            &texts(&["10.1.0.0/16", "fd00::/64"]),
            &texts(&["10.1.2.0/24"]),
            &texts(&["fd00::1", "10.1.0.9"]),
            &BTreeMap::from([("router".to_owned(), "10.1.0.3".to_owned())]),
        )
        .expect("fits");
        assert_eq!(found[0].ip_range, "10.1.2.0/24");
        assert_eq!(
            (found[0].gateway.as_str(), found[1].gateway.as_str()),
            ("10.1.0.9", "fd00::1")
        );
        assert_eq!(found[0].auxiliary_addresses["router"], "10.1.0.3");
        assert!(found[1].auxiliary_addresses.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let none = BTreeMap::new();
        for (subnets, range, gateway, wanted) in [
            (
                &["10.0.0.0/8", "10.1.0.0/16"][..],
                &[][..],
                &[][..],
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                &["10.0.0.0/8", "x"],
                &[],
                &[],
                "invalid subnet: invalid CIDR address: x",
            ),
            (
                &["10.0.0.0/8", "11.0.0.0/8"],
                &["10.1.0.0/16", "10.2.0.0/16"],
                &[],
                "cannot configure multiple ranges (10.2.0.0/16, 10.1.0.0/16) on the same subnet (10.0.0.0/8)",
            ),
            (
                &["10.0.0.0/8", "11.0.0.0/8"],
                &[],
                &["10.1.0.1", "10.2.0.1"],
                "cannot configure multiple gateways (10.2.0.1, 10.1.0.1) for the same subnet (10.0.0.0/8)",
            ),
            (
                &[],
                &[],
                &["10.1.0.1"],
                "every ip-range or gateway must have a corresponding subnet",
            ),
        ] {
            let error = ranges(&texts(subnets), &texts(range), &texts(gateway), &none);
            assert_eq!(error.expect_err("does not fit"), wanted);
        }
    }
}
