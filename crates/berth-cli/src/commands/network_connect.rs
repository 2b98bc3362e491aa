//! `network connect` and `network disconnect`: which networks a container is in.

use std::collections::BTreeMap;

use berth_api::{EndpointIpamConfig, EndpointSettings};

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::{csv, name_resolution, scalar};
use crate::session::Session;

pub(crate) const CONNECT: Spec = Spec {
    group: "network",
    names: &["connect"],
    top: &[],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Let a container join a network",
    flags: || {
        vec![
            csv::flag("alias", "Add a name of the container in the network"),
            csv::flag("driver-opt", "Set an option of the network's driver"),
            Flag::one(
                "gw-priority",
                "int",
                scalar::check_int,
                "The network with the highest one gives the default route; may be negative",
            )
            .or("0"),
            Flag::text("ip", "IPv4 address (172.30.100.104)"),
            Flag::text("ip6", "IPv6 address (2001:db8::33)"),
            Flag::many(
                "link",
                "list",
                name_resolution::check_link,
                "Link to another container",
            ),
            csv::flag("link-local-ip", "Add a link-local address"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(2),
    run: connect,
};

pub(crate) const DISCONNECT: Spec = Spec {
    names: &["disconnect"],
    about: "Let a container leave a network",
    flags: || vec![Flag::switch("force", "Also a container that is gone").short('f')],
    run: disconnect,
    ..CONNECT
};

fn connect(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let endpoint = endpoint(parsed)?;
    let (network, container) = (&parsed.operands[0], &parsed.operands[1]);
    session.block_on(async {
        session
            .client()?
            .network_connect(network, container, endpoint)
            .await
            .map_err(|error| session.failure(error))
    })
}

fn endpoint(parsed: &Parsed) -> Result<EndpointSettings, String> {
    let mut options = BTreeMap::new();
    for text in csv::all(&parsed.list("driver-opt"))? {
        let (name, value) = text
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .filter(|(name, _)| !name.is_empty())
            .ok_or("invalid key/value pair format in driver options")?;
        options.insert(name.to_owned(), value.to_owned());
    }
    Ok(EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: parsed.text("ip").to_owned(),
            ipv6_address: parsed.text("ip6").to_owned(),
            link_local_ips: csv::all(&parsed.list("link-local-ip"))?,
        }),
        links: Some(parsed.list("link")),
        aliases: Some(csv::all(&parsed.list("alias"))?),
        driver_opts: Some(options),
        gw_priority: scalar::int64(parsed.text("gw-priority"))?,
        ..EndpointSettings::default()
    })
}

fn disconnect(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let (network, container) = (&parsed.operands[0], &parsed.operands[1]);
    session.block_on(async {
        session
            .client()?
            .network_disconnect(network, container, parsed.switch("force"))
            .await
            .map_err(|error| session.failure(error))
    })
}
