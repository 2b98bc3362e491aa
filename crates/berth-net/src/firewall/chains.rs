//! The fixed form of our tables: chains and rules. Pure.
//!
//! ```text
//!            raw-prerouting   127.0.0.0/8 from a bridge is dropped
//!            nat-prerouting   local address? → maps "public"            (from outside and from containers)
//!            nat-output       local address? → maps "public", "local"   (from the host)
//!            forward          what is established, iif → from4/6 (internal networks), oif → to4/6 → into-nat, …
//!            input            ports for the host alone
//!            nat-postrouting  loopback source, hairpin, then snat4/6 and masquerade4/6
//! ```
//!
//! Invariants: everything that varies is an element; each rule asks one set once. What passes with every packet comes
//! first and asks no set: the state of its connection, or whether it is for 127.0.0.0/8.

use super::expression::{Ct, Expression, Meta, Rule, Source, Verdict};
use super::schema::{Keyed, Scope, Set, interface_key};

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

    let mut nat = vec![translated(), open()];
    nat.extend(neighbours());
    nat.extend(links());
    nat.extend(exposed(vec![pair(), Expression::within(Set::Trusted)]));
    nat.push(drop());
    let mut routed = vec![translated(), open()];
    routed.extend(neighbours());
    routed.extend(links());
    routed.extend(ping);
    routed.extend(exposed(Vec::new()));
    routed.push(drop());
    let mut unprotected = vec![open()];
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
    let mut internal = vec![open()];
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
    // Only what the rules below let pass once becomes established.
    chain.rules.push(settled());
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
    for (kind, source) in [
        (Meta::InKind, Source::InInterface),
        (Meta::OutKind, Source::OutInterface),
    ] {
        chain.rules.push(rule([
            Expression::meta_is(kind, interface_key("bridge").to_vec()),
            Expression::load(&[source]),
            Expression::without(Set::Earlier),
            Expression::Verdict(Verdict::Return),
        ]));
    }
    chain.rules.push(rule([
        Expression::load(&[Source::Family]),
        Expression::within(Set::Strict),
        Expression::Verdict(Verdict::Drop),
    ]));
    chain
}

fn input() -> Chain {
    let mut chain = base("input", "filter", INPUT, 0);
    chain.rules.push(settled());
    chain.rules.push(rule([
        Expression::meta_is(Meta::InInterface, interface_key("lo").to_vec()),
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

fn settled() -> Rule {
    rule([
        Expression::ct_any(Ct::State, Ct::ESTABLISHED | Ct::RELATED),
        Expression::Verdict(Verdict::Accept),
    ])
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
        Expression::Loopback { source: false },
        Expression::load(&[Source::InInterface]),
        Expression::within(Set::Bridges),
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
