//! Telling neighbours whose an address is now: gratuitous ARP (RFC 5227, section 3) and unsolicited neighbour
//! advertisements (RFC 4861, section 7.2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::HardwareAddress;

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The frame that says "`address` is at `owner`" to everybody on the link.
pub(super) fn frame(owner: HardwareAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(owner, address),
        IpAddr::V6(address) => advertisement(owner, address),
    }
}

/// An ARP request for the own address, as RFC 5227 has announcements.
fn arp(owner: HardwareAddress, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend_from_slice(&[0xff; 6]);
    frame.extend_from_slice(&owner.0);
    frame.extend_from_slice(&ETHERTYPE_ARP);
    // Ethernet, IPv4, lengths of their addresses, request.
    frame.extend_from_slice(&[0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&owner.0);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&address.octets());
    frame
}

/// A neighbour advertisement to all nodes, overriding what they remember.
fn advertisement(owner: HardwareAddress, address: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0];
    // The flag "override".
    message.extend_from_slice(&[0x20, 0, 0, 0]);
    message.extend_from_slice(&address.octets());
    // Option: target's link-layer address, one unit of eight bytes.
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&owner.0);
    let sum = checksum(address, all_nodes, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(86);
    frame.extend_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame.extend_from_slice(&owner.0);
    frame.extend_from_slice(&ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    frame.extend_from_slice(&length.to_be_bytes());
    // Hop limit 255: proof that it comes from the same link.
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&all_nodes.octets());
    frame.extend_from_slice(&message);
    frame
}

/// The internet checksum over the pseudo-header and the message (RFC 8200, section 8.1).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut sum = u32::from(ICMPV6);
    for part in [
        &source.octets()[..],
        &destination.octets(),
        &length,
        message,
    ] {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: HardwareAddress = HardwareAddress([2, 0x42, 0xac, 0x11, 0, 2]);

    #[test]
    fn an_announcement_asks_for_its_own_address() {
        let frame = frame(OWNER, "172.17.0.2".parse().unwrap());
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[28..32], [172, 17, 0, 2]);
        assert_eq!(frame[28..32], frame[38..42]);
    }

    #[test]
    fn the_checksum_of_an_advertisement_holds() {
        let address: Ipv6Addr = "fd00::2".parse().unwrap();
        let frame = frame(OWNER, address.into());
        assert_eq!(frame.len(), 86);
        let all_nodes = "ff02::1".parse().unwrap();
        // With the checksum in its place the sum over all is zero.
        assert_eq!(checksum(address, all_nodes, &frame[54..]), 0);
    }
}
