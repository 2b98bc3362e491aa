//! Tracked connections that lead to what is no more.
//!
//! Owns the messages of ctnetlink for it (linux/netfilter/nfnetlink_conntrack.h). An entry of UDP lives on as long as
//! packets come, so a client that goes on sending would be led to a container that is gone, or past one that is new.

use std::net::IpAddr;

use super::error::Result;
use super::message::{Attributes, CONNTRACK, Reader};
use super::parts::Published;
use super::socket::{Listing, Socket};

/// `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u8 = 1;
const DELETE: u8 = 2;

/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_ID`, `CTA_FILTER`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;

/// Forgets all connections that one of these addresses answers.
pub(crate) fn forget_addresses(socket: &Socket, addresses: &[IpAddr]) -> Result<()> {
    for address in addresses {
        let mut request = Attributes::default();
        request.nest(REPLY, |tuple| {
            tuple.nest(1, |inner| match address {
                IpAddr::V4(address) => inner.bytes(1, &address.octets()),
                IpAddr::V6(address) => inner.bytes(3, &address.octets()),
            });
        });
        request.nest(FILTER, |filter| {
            filter.bytes(1, &0_u32.to_ne_bytes());
            // CTA_FILTER_F_CTA_IP_SRC; kernels before 5.8 list all, and we look again.
            filter.bytes(2, &1_u32.to_ne_bytes());
        });
        let attempt = format!("forget connections to {address}");
        forget(socket, &attempt, address.is_ipv4(), &request, |row| {
            let source = row.inside(REPLY).inside(1);
            match address {
                IpAddr::V4(address) => source.find(1) == Some(&address.octets()),
                IpAddr::V6(address) => source.find(3) == Some(&address.octets()),
            }
        })?;
    }
    Ok(())
}

/// Forgets all UDP connections that were opened to these ports of the host.
pub(crate) fn forget_ports(socket: &Socket, ports: &[Published]) -> Result<()> {
    for ipv4 in [true, false] {
        let ports: Vec<&Published> = ports
            .iter()
            .filter(|port| port.host.is_ipv4() == ipv4)
            .collect();
        let [first, rest @ ..] = &ports[..] else {
            continue;
        };
        let single = rest.is_empty() && first.count == 1;
        let mut request = Attributes::default();
        request.nest(ORIGINAL, |tuple| {
            tuple.nest(2, |inner| {
                inner.bytes(1, &[first.protocol.number()]);
                if single {
                    inner.bytes(3, &first.first.to_be_bytes());
                }
            });
        });
        request.nest(FILTER, |filter| {
            // CTA_FILTER_F_CTA_PROTO_NUM, and CTA_FILTER_F_CTA_PROTO_DST_PORT.
            let flags: u32 = if single { 1 << 3 | 1 << 5 } else { 1 << 3 };
            filter.bytes(1, &flags.to_ne_bytes());
            filter.bytes(2, &0_u32.to_ne_bytes());
        });
        forget(
            socket,
            "forget connections to UDP ports",
            ipv4,
            &request,
            |row| {
                let tuple = row.inside(ORIGINAL);
                ports.iter().any(|port| leads_to(tuple, port))
            },
        )?;
    }
    Ok(())
}

fn leads_to(tuple: Reader<'_>, port: &Published) -> bool {
    let transport = tuple.inside(2);
    let number = transport
        .find(3)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u16::from_be_bytes);
    let same_address = port.host.is_unspecified()
        || match port.host {
            IpAddr::V4(address) => tuple.inside(1).find(2) == Some(&address.octets()),
            IpAddr::V6(address) => tuple.inside(1).find(4) == Some(&address.octets()),
        };
    transport.find(1) == Some(&[port.protocol.number()])
        && (port.first..=port.first.saturating_add(port.count - 1)).contains(&number)
        && same_address
}

fn forget(
    socket: &Socket,
    attempt: &str,
    ipv4: bool,
    request: &Attributes,
    matches: impl Fn(Reader<'_>) -> bool,
) -> Result<()> {
    let family = if ipv4 { 2 } else { 10 };
    let mut stale: Vec<Attributes> = Vec::new();
    socket.dump(
        attempt,
        (CONNTRACK, GET, family),
        request,
        |listing| match listing {
            Listing::Begin => stale.clear(),
            Listing::Item(item) => {
                let row = item.attributes();
                if matches(row) {
                    let mut entry = Attributes::default();
                    for kind in [ORIGINAL, ID] {
                        if let Some(value) = row.find(kind) {
                            entry.bytes(if kind == ID { kind } else { kind | 0x8000 }, value);
                        }
                    }
                    stale.push(entry);
                }
            }
        },
    )?;
    for entry in &stale {
        match socket.request(attempt, CONNTRACK, DELETE, family, entry) {
            Ok(()) => {}
            // It ended by itself meanwhile.
            Err(error) if error.is(std::io::ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
