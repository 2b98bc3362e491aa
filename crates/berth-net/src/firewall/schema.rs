//! The fixed form of our tables: sets and maps, and what their elements are made of. Pure.
//!
//! Owns keys and their encoding. The rules that ask these sets are in [`super::chains`].
//!
//! Invariant: sets of intervals are copied by the kernel when they change (`nft_set_pipapo`), so only what is rare lies
//! in them: subnets, and long ranges.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::chains::Chain;
use super::expression::Source;
use super::parts::Protocol;

/// Which connections a translation serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// All that come to an address of the host.
    Public,
    /// Only those that programs of the host open.
    Local,
}

/// By what a published port is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keyed {
    /// IPv4 or IPv6.
    pub(crate) ipv4: bool,
    /// By address, protocol and port, or by protocol and port.
    pub(crate) exact: bool,
    /// A range that keeps its numbers, as one interval.
    pub(crate) range: bool,
}

impl Keyed {
    /// All of them, the most exact first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [true, false].into_iter().flat_map(|ipv4| {
            [(true, false), (true, true), (false, false), (false, true)]
                .map(|(exact, range)| Self { ipv4, exact, range })
        })
    }

    fn suffix(self) -> String {
        let mut suffix = String::from(if self.exact { "exact" } else { "any" });
        suffix.push(if self.ipv4 { '4' } else { '6' });
        if self.range {
            suffix.push_str("-ranges");
        }
        suffix
    }

    fn fields(self) -> Vec<Field> {
        let mut fields = Vec::new();
        if self.exact {
            fields.push(Field::address(self.ipv4));
        }
        fields.extend([Field::Protocol, Field::Port]);
        fields
    }

    /// Where a packet's key is taken from.
    pub(crate) fn sources(self) -> Vec<Source> {
        let mut sources = Vec::new();
        if self.exact {
            sources.push(Source::Destination(self.ipv4));
        }
        sources.extend([Source::Protocol, Source::DestinationPort]);
        sources
    }
}

/// The sets and maps, those of the table `bridge` last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    /// Our bridges.
    Bridges,
    /// Pairs of a bridge with itself.
    Within,
    /// Such pairs whose members may talk.
    Open,
    /// Pairs of a trusted interface and a bridge.
    Trusted,
    /// Bridges of internal networks → chain.
    From4,
    /// The same for IPv6.
    From6,
    /// Bridges → the chain that decides what goes in.
    To4,
    /// The same for IPv6.
    To6,
    /// Container ports that are reached by the container's own address.
    Exposed4,
    /// The same for IPv6.
    Exposed6,
    /// Who may reach which port of whom although members are kept apart.
    Links4,
    /// The same for IPv6.
    Links6,
    /// Bridge and subnet: members, whatever way a packet of theirs is leaving.
    Members4,
    /// The same for IPv6.
    Members6,
    /// Bridge and subnet that leave under the outgoing interface's address.
    Masquerade4,
    /// The same for IPv6.
    Masquerade6,
    /// Bridge and subnet → the address they leave under.
    Snat4,
    /// The same for IPv6.
    Snat6,
    /// Families in which what is not ours is not forwarded.
    Strict,
    /// Bridges of others that were there when that began; those that come later belong to networks of containers or
    /// virtual machines, which count on forwarding.
    Earlier,
    /// Published port → address and port of the container.
    Translate(Scope, Keyed),
    /// Ports that only the host itself reaches.
    Sealed(Keyed),
    /// Bridge ports whose members are kept apart.
    Apart,
    /// As `Links4`, for frames.
    BridgeLinks4,
    /// As `Links6`, for frames.
    BridgeLinks6,
    /// Who may answer from which port to whom.
    BridgeAnswers4,
    /// The same for IPv6.
    BridgeAnswers6,
    /// Published ports of members that are kept apart.
    BridgePublished4,
    /// The same for IPv6.
    BridgePublished6,
}

impl Set {
    /// All of them, in the order of their tables.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Bridges,
            Self::Within,
            Self::Open,
            Self::Trusted,
            Self::From4,
            Self::From6,
            Self::To4,
            Self::To6,
            Self::Exposed4,
            Self::Exposed6,
            Self::Links4,
            Self::Links6,
            Self::Members4,
            Self::Members6,
            Self::Masquerade4,
            Self::Masquerade6,
            Self::Snat4,
            Self::Snat6,
            Self::Strict,
            Self::Earlier,
        ];
        for scope in [Scope::Public, Scope::Local] {
            all.extend(Keyed::all().map(|keyed| Self::Translate(scope, keyed)));
        }
        all.extend(Keyed::all().map(Self::Sealed));
        all.extend([
            Self::Apart,
            Self::BridgeLinks4,
            Self::BridgeLinks6,
            Self::BridgeAnswers4,
            Self::BridgeAnswers6,
            Self::BridgePublished4,
            Self::BridgePublished6,
        ]);
        all
    }

    /// Whether it lies in the table of the family `bridge`.
    pub(crate) fn is_bridge(self) -> bool {
        self >= Self::Apart
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Bridges => "bridges".into(),
            Self::Within => "within".into(),
            Self::Open => "open".into(),
            Self::Trusted => "trusted".into(),
            Self::From4 => "from4".into(),
            Self::From6 => "from6".into(),
            Self::To4 => "to4".into(),
            Self::To6 => "to6".into(),
            Self::Exposed4 => "exposed4".into(),
            Self::Exposed6 => "exposed6".into(),
            Self::Links4 | Self::BridgeLinks4 => "links4".into(),
            Self::Links6 | Self::BridgeLinks6 => "links6".into(),
            Self::Members4 => "members4".into(),
            Self::Members6 => "members6".into(),
            Self::Masquerade4 => "masquerade4".into(),
            Self::Masquerade6 => "masquerade6".into(),
            Self::Snat4 => "snat4".into(),
            Self::Snat6 => "snat6".into(),
            Self::Strict => "strict".into(),
            Self::Earlier => "earlier".into(),
            Self::Translate(Scope::Public, keyed) => format!("public-{}", keyed.suffix()),
            Self::Translate(Scope::Local, keyed) => format!("local-{}", keyed.suffix()),
            Self::Sealed(keyed) => format!("sealed-{}", keyed.suffix()),
            Self::Apart => "apart".into(),
            Self::BridgeAnswers4 => "answers4".into(),
            Self::BridgeAnswers6 => "answers6".into(),
            Self::BridgePublished4 => "published4".into(),
            Self::BridgePublished6 => "published6".into(),
        }
    }

    /// The fields of its key.
    pub(crate) fn fields(self) -> Vec<Field> {
        use Field::{Interface, Port, Protocol};
        match self {
            Self::Bridges
            | Self::From4
            | Self::From6
            | Self::To4
            | Self::To6
            | Self::Earlier
            | Self::Apart => vec![Interface],
            Self::Within | Self::Open | Self::Trusted => vec![Interface, Interface],
            Self::Exposed4 | Self::BridgePublished4 => vec![Field::Ipv4, Protocol, Port],
            Self::Exposed6 | Self::BridgePublished6 => vec![Field::Ipv6, Protocol, Port],
            Self::Links4 | Self::BridgeLinks4 | Self::BridgeAnswers4 => {
                vec![Field::Ipv4, Field::Ipv4, Protocol, Port]
            }
            Self::Links6 | Self::BridgeLinks6 | Self::BridgeAnswers6 => {
                vec![Field::Ipv6, Field::Ipv6, Protocol, Port]
            }
            Self::Members4 | Self::Masquerade4 | Self::Snat4 => vec![Interface, Field::Ipv4],
            Self::Members6 | Self::Masquerade6 | Self::Snat6 => vec![Interface, Field::Ipv6],
            Self::Strict => vec![Field::Family],
            Self::Translate(_, keyed) | Self::Sealed(keyed) => keyed.fields(),
        }
    }

    /// Whether its keys are intervals.
    pub(crate) fn is_interval(self) -> bool {
        match self {
            Self::Members4
            | Self::Members6
            | Self::Masquerade4
            | Self::Masquerade6
            | Self::Snat4
            | Self::Snat6 => true,
            Self::Translate(_, keyed) | Self::Sealed(keyed) => keyed.range,
            _ => false,
        }
    }

    /// What its elements hold beside their key.
    pub(crate) fn holds(self) -> Holds {
        match self {
            Self::From4 | Self::From6 | Self::To4 | Self::To6 => Holds::Verdict,
            Self::Snat4 => Holds::Fields(vec![Field::Ipv4]),
            Self::Snat6 => Holds::Fields(vec![Field::Ipv6]),
            Self::Translate(_, keyed) if keyed.range => {
                Holds::Fields(vec![Field::address(keyed.ipv4)])
            }
            Self::Translate(_, keyed) => {
                Holds::Fields(vec![Field::address(keyed.ipv4), Field::Port])
            }
            _ => Holds::Nothing,
        }
    }
}

/// What the elements of a set hold beside their key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holds {
    /// A plain set.
    Nothing,
    /// A map to these fields.
    Fields(Vec<Field>),
    /// A map to verdicts.
    Verdict,
}

/// One part of a key. In a key each takes a multiple of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// An interface's name, padded with zeros.
    Interface,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A transport protocol's number.
    Protocol,
    /// A port, in network order.
    Port,
    /// A family (`NFPROTO_*`).
    Family,
}

impl Field {
    fn address(ipv4: bool) -> Self {
        if ipv4 { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// Its bytes without padding.
    pub(crate) fn length(self) -> u32 {
        match self {
            Self::Interface | Self::Ipv6 => 16,
            Self::Ipv4 => 4,
            Self::Port => 2,
            Self::Protocol | Self::Family => 1,
        }
    }

    /// The number `nft` knows its type by, for those who list the table.
    pub(crate) fn datatype(self) -> u32 {
        match self {
            Self::Family => 2,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }
}

/// What an element holds beside its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    /// Nothing: an element of a plain set.
    None,
    /// Bytes, each field padded to four.
    Value(Vec<u8>),
    /// A jump to this chain.
    Jump(String),
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// Where it lies.
    pub(crate) set: Set,
    /// Its key, or the first of an interval; each field padded to four bytes.
    pub(crate) key: Vec<u8>,
    /// The last key of an interval.
    pub(crate) last: Option<Vec<u8>>,
    /// What it holds.
    pub(crate) data: Data,
}

impl Element {
    /// An element of a plain set.
    pub(crate) fn of(set: Set, key: Vec<u8>) -> Self {
        let last = set.is_interval().then(|| key.clone());
        Self {
            set,
            key,
            last,
            data: Data::None,
        }
    }

    /// An element of a verdict map.
    pub(crate) fn jump(set: Set, key: Vec<u8>, chain: &str) -> Self {
        Self {
            data: Data::Jump(chain.to_owned()),
            ..Self::of(set, key)
        }
    }
}

/// One value of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// An address.
    Address(IpAddr),
    /// A protocol's number.
    Protocol(u8),
    /// A port.
    Port(u16),
}

impl From<IpAddr> for Part {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<u16> for Part {
    fn from(port: u16) -> Self {
        Self::Port(port)
    }
}

/// The protocol as a part of a key.
pub(crate) fn protocol_field(protocol: Protocol) -> Part {
    Part::Protocol(protocol.number())
}

/// A key of these parts.
pub(crate) fn key(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Address(IpAddr::V4(address)) => bytes.extend(address.octets()),
            Part::Address(IpAddr::V6(address)) => bytes.extend(address.octets()),
            Part::Protocol(number) => bytes.extend([*number, 0, 0, 0]),
            Part::Port(port) => {
                bytes.extend(port.to_be_bytes());
                bytes.extend([0, 0]);
            }
        }
    }
    bytes
}

/// An interface's name as a key. Longer names than the kernel's 15 bytes are cut, as no interface can have them.
pub(crate) fn interface_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    key
}

/// A text that changes whenever the fixed form does; kept in the table, so that the next daemon knows whether it
/// finds its own form.
pub(crate) fn fingerprint(chains: &[Chain], sets: &[Set]) -> String {
    let mut text = String::new();
    for chain in chains {
        let _ = write!(text, "{chain:?}");
    }
    for set in sets {
        let _ = write!(text, "{set:?}{:?}{:?}", set.fields(), set.holds());
    }
    // FNV-1a; only accidents have to be told apart, nobody attacks with a table of his own.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("berth {hash:016x}")
}
