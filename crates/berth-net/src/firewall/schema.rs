//! The fixed form of our tables: sets, maps, chains and rules. Pure.
//!
//! ```text
//!            nat-prerouting   local address? → maps "public"            (from outside and from containers)
//!            nat-output       local address? → maps "public", "local"   (from the host)
//!            forward          iif → from4/6 (internal networks), oif → to4/6 → into-nat, into-routed, …
//!            input            ports for the host alone; 127.0.0.0/8 from a bridge
//!            nat-postrouting  loopback source, hairpin, then snat4/6 and masquerade4/6
//! ```
//!
//! Invariants: everything that varies is an element; each rule asks one set once. Sets of intervals are copied
//! by the kernel when they change (`nft_set_pipapo`), so only what is rare lies in them: subnets, and long ranges.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::expression::{Ct, Expression, Meta, Rule, Source, Verdict};
use super::plan::Protocol;

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
    fn all() -> impl Iterator<Item = Self> {
        // The most exact is asked first.
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

    fn sources(self) -> Vec<Source> {
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
            Self::Bridges | Self::From4 | Self::From6 | Self::To4 | Self::To6 | Self::Apart => {
                vec![Interface]
            }
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

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*` or `NF_BR_*`.
    pub(crate) number: u32,
    /// The lower, the earlier.
    pub(crate) priority: i32,
}

/// A chain with its rules.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// Its name.
    pub(crate) name: &'static str,
    /// Where it hangs, if it is not only jumped to.
    pub(crate) hook: Option<Hook>,
    /// Its rules, in order.
    pub(crate) rules: Vec<Rule>,
}

/// `NF_INET_PRE_ROUTING` and its siblings (linux/netfilter.h).
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (linux/netfilter.h).
pub(crate) const FAMILIES: [(bool, u8); 2] = [(true, 2), (false, 10)];

fn base(name: &'static str, kind: &'static str, number: u32, priority: i32) -> Chain {
    Chain {
        name,
        hook: Some(Hook {
            kind,
            number,
            priority,
        }),
        rules: Vec::new(),
    }
}

fn plain(name: &'static str, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        hook: None,
        rules,
    }
}

fn rule(expressions: impl IntoIterator<Item = Expression>) -> Rule {
    Rule(expressions.into_iter().collect())
}

/// The chains of the table of family `inet`; those that are jumped to come first.
pub(crate) fn inet_chains() -> Vec<Chain> {
    let mut chains = into_chains();
    chains.push(forward());
    chains.push(input());
    chains.extend(translation());
    chains
}

fn into_chains() -> Vec<Chain> {
    let pair = || Expression::load(&[Source::InInterface, Source::OutInterface]);
    let settled = || {
        rule([
            Expression::ct_any(Ct::State, Ct::ESTABLISHED | Ct::RELATED),
            Expression::Verdict(Verdict::Accept),
        ])
    };
    let open = || {
        rule([
            pair(),
            Expression::within(Set::Open),
            Expression::Verdict(Verdict::Accept),
        ])
    };
    let drop = || rule([Expression::Verdict(Verdict::Drop)]);
    let links = || {
        FAMILIES.map(|(ipv4, family)| {
            rule([
                Expression::family(family),
                Expression::load(&[
                    Source::Origin(ipv4),
                    Source::Destination(ipv4),
                    Source::Protocol,
                    Source::DestinationPort,
                ]),
                Expression::within(if ipv4 { Set::Links4 } else { Set::Links6 }),
                Expression::Verdict(Verdict::Accept),
            ])
        })
    };
    let exposed = |guard: Vec<Expression>| {
        FAMILIES.map(|(ipv4, family)| {
            let mut expressions = vec![Expression::family(family)];
            expressions.extend(guard.clone());
            expressions.extend([
                Expression::load(&[
                    Source::Destination(ipv4),
                    Source::Protocol,
                    Source::DestinationPort,
                ]),
                Expression::within(if ipv4 { Set::Exposed4 } else { Set::Exposed6 }),
                Expression::Verdict(Verdict::Accept),
            ]);
            Rule(expressions)
        })
    };
    let translated = || {
        rule([
            Expression::ct_any(Ct::Status, Ct::DNAT),
            Expression::Verdict(Verdict::Accept),
        ])
    };
    // Neighbours have to be found (RFC 4861), where bridges show their frames to this table.
    let neighbours = || {
        [135, 136].map(|message| {
            rule([
                Expression::family(FAMILIES[1].1),
                Expression::meta_is(Meta::L4Protocol, vec![58]),
                Expression::TransportByteIs {
                    offset: 0,
                    value: message,
                },
                pair(),
                Expression::within(Set::Within),
                Expression::Verdict(Verdict::Accept),
            ])
        })
    };
    let ping = FAMILIES.map(|(ipv4, family)| {
        rule([
            Expression::family(family),
            Expression::meta_is(Meta::L4Protocol, vec![if ipv4 { 1 } else { 58 }]),
            Expression::Verdict(Verdict::Accept),
        ])
    });

    let mut nat = vec![settled(), translated(), open()];
    nat.extend(neighbours());
    nat.extend(links());
    nat.extend(exposed(vec![pair(), Expression::within(Set::Trusted)]));
    nat.push(drop());
    let mut routed = vec![settled(), translated(), open()];
    routed.extend(neighbours());
    routed.extend(links());
    routed.extend(ping);
    routed.extend(exposed(Vec::new()));
    routed.push(drop());
    let mut unprotected = vec![settled(), open()];
    unprotected.extend(neighbours());
    unprotected.extend(links());
    // Members that are kept apart stay so; everybody else may come in.
    unprotected.push(rule([
        pair(),
        Expression::without(Set::Within),
        Expression::Verdict(Verdict::Accept),
    ]));
    unprotected.push(translated());
    unprotected.push(drop());
    let mut internal = vec![settled(), open()];
    internal.extend(neighbours());
    internal.extend(links());
    internal.push(drop());
    let from = vec![rule([
        pair(),
        Expression::without(Set::Within),
        Expression::Verdict(Verdict::Drop),
    ])];
    vec![
        plain("into-nat", nat),
        plain("into-routed", routed),
        plain("into-unprotected", unprotected),
        plain("into-internal", internal),
        plain("from-internal", from),
    ]
}

fn forward() -> Chain {
    let mut chain = base("forward", "filter", FORWARD, 0);
    for (source, sets) in [
        (Source::InInterface, [Set::From4, Set::From6]),
        (Source::OutInterface, [Set::To4, Set::To6]),
    ] {
        for ((_, family), set) in FAMILIES.into_iter().zip(sets) {
            chain.rules.push(rule([
                Expression::family(family),
                Expression::load(&[source]),
                Expression::decide(set),
            ]));
        }
    }
    chain.rules.push(rule([
        Expression::load(&[Source::InInterface]),
        Expression::within(Set::Bridges),
        Expression::Verdict(Verdict::Accept),
    ]));
    chain.rules.push(rule([
        Expression::load(&[Source::Family]),
        Expression::within(Set::Strict),
        Expression::Verdict(Verdict::Drop),
    ]));
    chain
}

fn input() -> Chain {
    let mut chain = base("input", "filter", INPUT, 0);
    chain.rules.push(rule([
        Expression::meta_is(Meta::InInterface, interface_key("lo").to_vec()),
        Expression::Verdict(Verdict::Accept),
    ]));
    chain.rules.push(rule([
        Expression::ct_any(Ct::State, Ct::ESTABLISHED | Ct::RELATED),
        Expression::Verdict(Verdict::Accept),
    ]));
    for keyed in Keyed::all() {
        chain.rules.push(rule([
            family_of(keyed),
            Expression::load(&keyed.sources()),
            Expression::within(Set::Sealed(keyed)),
            Expression::Verdict(Verdict::Drop),
        ]));
    }
    chain
}

fn family_of(keyed: Keyed) -> Expression {
    Expression::family(if keyed.ipv4 {
        FAMILIES[0].1
    } else {
        FAMILIES[1].1
    })
}

fn translation() -> Vec<Chain> {
    // route_localnet makes the kernel take 127.0.0.0/8 from a bridge (ip-sysctl.rst); nobody there may use that.
    let mut guard = base("raw-prerouting", "filter", PREROUTING, -300);
    guard.rules.push(rule([
        Expression::family(FAMILIES[0].1),
        Expression::load(&[Source::InInterface]),
        Expression::within(Set::Bridges),
        Expression::Loopback { source: false },
        Expression::Verdict(Verdict::Drop),
    ]));
    let mut prerouting = base("nat-prerouting", "nat", PREROUTING, -100);
    prerouting.rules.push(rule([
        Expression::family(FAMILIES[0].1),
        Expression::Loopback { source: false },
        Expression::Verdict(Verdict::Return),
    ]));
    let mut output = base("nat-output", "nat", OUTPUT, -100);
    // The kernel sends a translated packet from ::1, but takes no answer to ::1 from another interface.
    output.rules.push(rule([
        Expression::family(FAMILIES[1].1),
        Expression::DestinationIsLoopback6,
        Expression::Verdict(Verdict::Return),
    ]));
    for chain in [&mut prerouting, &mut output] {
        // What comes from a link-local address cannot be forwarded (RFC 4291, 2.5.6).
        chain.rules.push(rule([
            Expression::family(FAMILIES[1].1),
            Expression::OriginIsLinkLocal6,
            Expression::Verdict(Verdict::Return),
        ]));
        chain.rules.push(rule([
            Expression::DestinationIsForeign,
            Expression::Verdict(Verdict::Return),
        ]));
    }
    let scopes: [(&mut Chain, &[Scope]); 2] = [
        (&mut prerouting, &[Scope::Public]),
        (&mut output, &[Scope::Public, Scope::Local]),
    ];
    for (chain, scopes) in scopes {
        for keyed in Keyed::all() {
            for scope in scopes {
                chain.rules.push(rule([
                    family_of(keyed),
                    Expression::load(&keyed.sources()),
                    Expression::find(Set::Translate(*scope, keyed)),
                    Expression::Translate {
                        ipv4: keyed.ipv4,
                        source: false,
                        port: !keyed.range,
                    },
                ]));
            }
        }
    }
    vec![guard, prerouting, output, postrouting()]
}

fn postrouting() -> Chain {
    let mut chain = base("nat-postrouting", "nat", POSTROUTING, 100);
    chain.rules.push(rule([
        Expression::family(FAMILIES[0].1),
        Expression::Loopback { source: true },
        Expression::load(&[Source::OutInterface]),
        Expression::within(Set::Bridges),
        Expression::Masquerade,
    ]));
    // A member that reaches a published port of its own network: the answer has to come back this way. The incoming
    // interface is no help here, since bridges that show their frames to this table do not tell it.
    for ((ipv4, family), members) in FAMILIES.into_iter().zip([Set::Members4, Set::Members6]) {
        let member = || {
            [
                Expression::family(family),
                Expression::load(&[Source::OutInterface, Source::Origin(ipv4)]),
                Expression::within(members),
            ]
        };
        let hairpin = [
            Expression::ct_any(Ct::Status, Ct::DNAT),
            Expression::Masquerade,
        ];
        chain.rules.push(rule(member().into_iter().chain(hairpin)));
        let rest = [Expression::Verdict(Verdict::Return)];
        chain.rules.push(rule(member().into_iter().chain(rest)));
    }
    for ((ipv4, family), (fixed, own)) in FAMILIES.into_iter().zip([
        (Set::Snat4, Set::Masquerade4),
        (Set::Snat6, Set::Masquerade6),
    ]) {
        let subnet = || Expression::load(&[Source::InInterface, Source::Origin(ipv4)]);
        chain.rules.push(rule([
            Expression::family(family),
            subnet(),
            Expression::find(fixed),
            Expression::Translate {
                ipv4,
                source: true,
                port: false,
            },
        ]));
        chain.rules.push(rule([
            Expression::family(family),
            subnet(),
            Expression::within(own),
            Expression::Masquerade,
        ]));
    }
    chain
}

/// The chain of the table of family `bridge`: frames between ports whose members are kept apart.
///
/// Connection tracking is not needed (and the module for bridges is rare): as in Docker, a link lets packets pass to
/// a port, and packets from that port back.
pub(crate) fn bridge_chains() -> Vec<Chain> {
    let mut chain = base("bridged", "filter", FORWARD, -200);
    for source in [Source::InInterface, Source::OutInterface] {
        chain.rules.push(rule([
            Expression::load(&[source]),
            Expression::without(Set::Apart),
            Expression::Verdict(Verdict::Accept),
        ]));
    }
    let protocol = |number: u16| Expression::meta_is(Meta::Protocol, number.to_be_bytes().to_vec());
    // Neighbours have to be found: ARP, and neighbour solicitation and advertisement (RFC 4861).
    chain.rules.push(rule([
        protocol(0x0806),
        Expression::Verdict(Verdict::Accept),
    ]));
    for message in [135, 136] {
        chain.rules.push(rule([
            protocol(0x86dd),
            Expression::meta_is(Meta::L4Protocol, vec![58]),
            Expression::TransportByteIs {
                offset: 0,
                value: message,
            },
            Expression::Verdict(Verdict::Accept),
        ]));
    }
    for (ipv4, number, links, answers, published) in [
        (
            true,
            0x0800,
            Set::BridgeLinks4,
            Set::BridgeAnswers4,
            Set::BridgePublished4,
        ),
        (
            false,
            0x86dd,
            Set::BridgeLinks6,
            Set::BridgeAnswers6,
            Set::BridgePublished6,
        ),
    ] {
        let both = [Source::Origin(ipv4), Source::Destination(ipv4)];
        for (set, addresses, port) in [
            (links, &both[..], Source::DestinationPort),
            (answers, &both[..], Source::OriginPort),
            // With br_netfilter, what is translated between members stays on the bridge.
            (published, &both[1..], Source::DestinationPort),
            (published, &both[..1], Source::OriginPort),
        ] {
            let mut sources = addresses.to_vec();
            sources.extend([Source::Protocol, port]);
            chain.rules.push(rule([
                protocol(number),
                Expression::load(&sources),
                Expression::within(set),
                Expression::Verdict(Verdict::Accept),
            ]));
        }
    }
    chain.rules.push(rule([Expression::Verdict(Verdict::Drop)]));
    vec![chain]
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
