//! Rules as the kernel's small machine runs them: what is loaded into registers, asked and decided.
//!
//! Owns the meaning of an [`Expression`] and its encoding (linux/netfilter/nf_tables.h). Knows no particular rule.
//! Keys are always put together from the first 32-bit register on.

use super::message::Attributes;
use super::schema::Set;

/// A rule: expressions run until one does not hold.
#[derive(Debug, Clone)]
pub(crate) struct Rule(pub Vec<Expression>);

/// `NFT_REG32_00`: the first register of four bytes.
const FIRST: u32 = 8;
/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;

/// `NFT_META_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Meta {
    /// The frame's protocol, in network order.
    Protocol = 1,
    /// The incoming interface's name.
    InInterface = 6,
    /// The outgoing interface's name.
    OutInterface = 7,
    /// `NFPROTO_*`.
    Family = 15,
    /// The transport protocol's number.
    L4Protocol = 16,
    /// What sort of link the incoming interface is, by the word of `ip link add type`.
    InKind = 26,
    /// The same of the outgoing interface.
    OutKind = 27,
}

/// Parts of a tracked connection: `NFT_CT_*`, and bits of their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Ct {
    /// Bits of `NF_CT_STATE_BIT`.
    State = 0,
    /// `IP_CT_DIR_ORIGINAL` or `IP_CT_DIR_REPLY`, one byte.
    Direction = 1,
    /// Bits of `enum ip_conntrack_status`.
    Status = 2,
    /// A number that rules give it.
    Mark = 3,
}

impl Ct {
    /// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`.
    pub(crate) const ESTABLISHED: u32 = 2;
    /// `NF_CT_STATE_BIT(IP_CT_RELATED)`.
    pub(crate) const RELATED: u32 = 4;
    /// `IPS_DST_NAT`.
    pub(crate) const DNAT: u32 = 1 << 5;
}

/// Something of the packet that a key is made of. The booleans tell IPv4 from IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The incoming interface's name.
    InInterface,
    /// The outgoing interface's name.
    OutInterface,
    /// The family.
    Family,
    /// The source address.
    Origin(bool),
    /// The destination address.
    Destination(bool),
    /// The transport protocol.
    Protocol,
    /// The source port.
    OriginPort,
    /// The destination port.
    DestinationPort,
}

impl Source {
    /// Registers of four bytes it fills.
    fn registers(self) -> u32 {
        match self {
            Self::InInterface
            | Self::OutInterface
            | Self::Origin(false)
            | Self::Destination(false) => 4,
            _ => 1,
        }
    }
}

/// What a rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `NF_DROP`.
    Drop,
    /// `NF_ACCEPT`.
    Accept,
    /// `NFT_RETURN`.
    Return,
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Put a key together.
    Load(Vec<Source>),
    /// The key is (or is not) in the set.
    Lookup(Set, bool),
    /// The key's value replaces it.
    Find(Set),
    /// The key's verdict counts.
    Decide(Set),
    /// The metadatum has this value.
    MetaIs(Meta, Vec<u8>),
    /// Some of these bits are set.
    CtAny(Ct, u32),
    /// A part of the connection has this value.
    CtIs(Ct, Vec<u8>),
    /// The packet's socket speaks under addresses of others; see [`super::inward`].
    SocketSpeaksForOthers,
    /// Marks the connection.
    SetConnectionMark(u32),
    /// Marks the packet.
    SetMark(u32),
    /// An IPv4 address, source or destination, in 127.0.0.0/8.
    Loopback {
        /// Which of the two.
        source: bool,
    },
    /// The destination is ::1.
    DestinationIsLoopback6,
    /// The source is in fe80::/10.
    OriginIsLinkLocal6,
    /// The destination is no address of the host.
    DestinationIsForeign,
    /// A byte of the transport header.
    TransportByteIs {
        /// Its place.
        offset: u32,
        /// What it is.
        value: u8,
    },
    /// A transport port of an IPv4 packet to or from 127.0.0.11 is this; see [`super::redirect`].
    PortIs {
        /// Source or destination.
        source: bool,
        /// The port.
        port: u16,
    },
    /// An IPv4 address is this.
    AddressIs {
        /// Source or destination.
        source: bool,
        /// The address.
        address: [u8; 4],
    },
    /// Writes a transport port and corrects the checksum.
    SetPort {
        /// Source or destination.
        source: bool,
        /// The port.
        port: u16,
        /// Where the checksum lies in the transport header.
        checksum: u32,
    },
    /// Translate to the address (and port) that was found.
    Translate {
        /// The family.
        ipv4: bool,
        /// Source or destination.
        source: bool,
        /// A port follows the address.
        port: bool,
    },
    /// The source becomes the outgoing interface's address.
    Masquerade,
    /// Count packets and bytes.
    Counter,
    /// The end.
    Verdict(Verdict),
}

impl Expression {
    /// Puts a key together.
    pub(crate) fn load(sources: &[Source]) -> Self {
        Self::Load(sources.to_vec())
    }

    /// The key is in the set.
    pub(crate) fn within(set: Set) -> Self {
        Self::Lookup(set, true)
    }

    /// The key is not in the set.
    pub(crate) fn without(set: Set) -> Self {
        Self::Lookup(set, false)
    }

    /// The key's value is fetched.
    pub(crate) fn find(set: Set) -> Self {
        Self::Find(set)
    }

    /// The key's verdict counts.
    pub(crate) fn decide(set: Set) -> Self {
        Self::Decide(set)
    }

    /// The packet is of this family.
    pub(crate) fn family(number: u8) -> Self {
        Self::MetaIs(Meta::Family, vec![number])
    }

    /// A metadatum has this value.
    pub(crate) fn meta_is(meta: Meta, value: Vec<u8>) -> Self {
        Self::MetaIs(meta, value)
    }

    /// Some of these bits are set.
    pub(crate) fn ct_any(part: Ct, bits: u32) -> Self {
        Self::CtAny(part, bits)
    }

    /// Writes it as elements of `NFTA_RULE_EXPRESSIONS`.
    pub(crate) fn encode(&self, list: &mut Attributes) {
        match self {
            Self::Load(sources) => {
                let mut register = FIRST;
                for source in sources {
                    load(list, *source, register);
                    register += source.registers();
                }
            }
            Self::Lookup(set, inside) => expression(list, "lookup", |data| {
                data.text(1, &set.name());
                data.number(2, FIRST);
                if !inside {
                    data.number(5, 1);
                }
            }),
            Self::Find(set) => find(list, *set, FIRST),
            Self::Decide(set) => find(list, *set, VERDICT),
            Self::MetaIs(meta, value) => {
                load_meta(list, *meta, FIRST);
                compare(list, true, value);
            }
            Self::CtAny(part, bits) => {
                expression(list, "ct", |data| {
                    data.number(1, FIRST);
                    data.number(2, *part as u32);
                });
                mask(list, &bits.to_ne_bytes());
                compare(list, false, &[0; 4]);
            }
            Self::CtIs(part, value) => {
                expression(list, "ct", |data| {
                    data.number(1, FIRST);
                    data.number(2, *part as u32);
                });
                compare(list, true, value);
            }
            Self::SocketSpeaksForOthers => {
                // NFTA_SOCKET_KEY: NFT_SOCKET_TRANSPARENT.
                expression(list, "socket", |data| {
                    data.number(1, 0);
                    data.number(2, FIRST);
                });
                compare(list, true, &[1]);
            }
            Self::SetConnectionMark(mark) => {
                put(list, &mark.to_ne_bytes());
                // NFTA_CT_KEY, NFTA_CT_SREG.
                expression(list, "ct", |data| {
                    data.number(2, Ct::Mark as u32);
                    data.number(4, FIRST);
                });
            }
            Self::SetMark(mark) => {
                put(list, &mark.to_ne_bytes());
                // NFTA_META_KEY: NFT_META_MARK; NFTA_META_SREG.
                expression(list, "meta", |data| {
                    data.number(2, 3);
                    data.number(3, FIRST);
                });
            }
            Self::Loopback { source } => {
                load_header(list, FIRST, NETWORK, if *source { 12 } else { 16 }, 4);
                mask(list, &[255, 0, 0, 0]);
                compare(list, true, &[127, 0, 0, 0]);
            }
            Self::DestinationIsLoopback6 => {
                load_header(list, FIRST, NETWORK, 24, 16);
                compare(list, true, &std::net::Ipv6Addr::LOCALHOST.octets());
            }
            Self::OriginIsLinkLocal6 => {
                load_header(list, FIRST, NETWORK, 8, 2);
                mask(list, &[0xff, 0xc0]);
                compare(list, true, &[0xfe, 0x80]);
            }
            Self::DestinationIsForeign => {
                // NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE; RTN_LOCAL.
                expression(list, "fib", |data| {
                    data.number(1, FIRST);
                    data.number(2, 3);
                    data.number(3, 2);
                });
                compare(list, false, &2_u32.to_ne_bytes());
            }
            Self::TransportByteIs { offset, value } => {
                load_header(list, FIRST, TRANSPORT, *offset, 1);
                compare(list, true, &[*value]);
            }
            Self::PortIs { source, port } => {
                load_header(list, FIRST, TRANSPORT, if *source { 0 } else { 2 }, 2);
                compare(list, true, &port.to_be_bytes());
            }
            Self::AddressIs { source, address } => {
                load_header(list, FIRST, NETWORK, if *source { 12 } else { 16 }, 4);
                compare(list, true, address);
            }
            Self::SetPort {
                source,
                port,
                checksum,
            } => {
                put(list, &port.to_be_bytes());
                expression(list, "payload", |data| {
                    data.number(5, FIRST);
                    data.number(2, TRANSPORT);
                    data.number(3, if *source { 0 } else { 2 });
                    data.number(4, 2);
                    // NFT_PAYLOAD_CSUM_INET
                    data.number(6, 1);
                    data.number(7, *checksum);
                });
            }
            Self::Translate { ipv4, source, port } => expression(list, "nat", |data| {
                data.number(1, u32::from(!source));
                data.number(2, if *ipv4 { 2 } else { 10 });
                data.number(3, FIRST);
                if *port {
                    data.number(5, FIRST + if *ipv4 { 1 } else { 4 });
                }
            }),
            Self::Masquerade => expression(list, "masq", |_| {}),
            Self::Counter => expression(list, "counter", |_| {}),
            Self::Verdict(verdict) => expression(list, "immediate", |data| {
                data.number(1, VERDICT);
                data.nest(2, |value| {
                    value.nest(2, |inner| {
                        let code: i32 = match verdict {
                            Verdict::Drop => 0,
                            Verdict::Accept => 1,
                            Verdict::Return => -5,
                        };
                        inner.number(1, code.cast_unsigned());
                    });
                });
            }),
        }
    }
}

/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

fn expression(list: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    list.nest(1, |element| {
        element.text(1, name);
        element.nest(2, fill);
    });
}

fn load(list: &mut Attributes, source: Source, register: u32) {
    match source {
        Source::InInterface => load_meta(list, Meta::InInterface, register),
        Source::OutInterface => load_meta(list, Meta::OutInterface, register),
        Source::Family => load_meta(list, Meta::Family, register),
        Source::Protocol => load_meta(list, Meta::L4Protocol, register),
        Source::Origin(true) => load_header(list, register, NETWORK, 12, 4),
        Source::Origin(false) => load_header(list, register, NETWORK, 8, 16),
        Source::Destination(true) => load_header(list, register, NETWORK, 16, 4),
        Source::Destination(false) => load_header(list, register, NETWORK, 24, 16),
        Source::OriginPort => load_header(list, register, TRANSPORT, 0, 2),
        Source::DestinationPort => load_header(list, register, TRANSPORT, 2, 2),
    }
}

fn load_meta(list: &mut Attributes, meta: Meta, register: u32) {
    expression(list, "meta", |data| {
        data.number(1, register);
        data.number(2, meta as u32);
    });
}

fn load_header(list: &mut Attributes, register: u32, base: u32, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.number(1, register);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, length);
    });
}

fn compare(list: &mut Attributes, equal: bool, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.number(1, FIRST);
        data.number(2, u32::from(!equal));
        data.nest(3, |inner| inner.bytes(1, value));
    });
}

/// Puts a value where keys begin.
fn put(list: &mut Attributes, value: &[u8]) {
    expression(list, "immediate", |data| {
        data.number(1, FIRST);
        data.nest(2, |inner| inner.bytes(1, value));
    });
}

fn mask(list: &mut Attributes, bits: &[u8]) {
    expression(list, "bitwise", |data| {
        data.number(1, FIRST);
        data.number(2, FIRST);
        data.number(3, u32::try_from(bits.len()).unwrap_or(0));
        data.nest(4, |inner| inner.bytes(1, bits));
        data.nest(5, |inner| inner.bytes(1, &vec![0; bits.len()]));
    });
}

fn find(list: &mut Attributes, set: Set, register: u32) {
    expression(list, "lookup", |data| {
        data.text(1, &set.name());
        data.number(2, FIRST);
        data.number(3, register);
    });
}
