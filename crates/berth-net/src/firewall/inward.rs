//! The way of carried connections into a container under their clients' own addresses.
//!
//! Owns the table `inet berth-ports` and one routing rule for each family, both inside the container's namespace. What
//! [`super::Forwarder`] carries it opens there, from a socket bound to the client's address (`IP_TRANSPARENT`, ip(7)): a
//! connection over the container's loopback interface. Answers to that address would leave by the default route; they
//! are known by a mark of their connection and routed back instead.
//!
//! ```text
//! output  a socket that speaks for others sends   → its connection is marked
//!         an answer of a marked connection        → the packet is marked → rule → everything is local
//! ```

use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::expression::{Ct, Expression};
use super::message::{APPEND, Batch, CREATE};
use super::socket::Socket;
use super::table::{INET, kind};
use crate::inside::inside;
use crate::netlink;

const TABLE: &str = "berth-ports";
/// The mark, and the number of the routing table; a container that uses either for itself is rare, and harms nobody else.
const MARK: u32 = 0xbe47;
const ROUTES: u32 = 0xbe47;
/// Place of the rule among others: behind the machine's own addresses (0), before everything else.
const PRIORITY: u32 = 100;
/// The loopback interface's number, in every namespace.
const LOOPBACK: u32 = 1;

/// Lets carried connections keep their clients' addresses in `namespace`, which the calling thread enters for that time.
/// Doing so again changes nothing.
///
/// # Errors
///
/// The kernel refuses, as one that cannot tell such sockets (`nft_socket`).
pub fn keep_clients(namespace: impl AsFd) -> Result<()> {
    let attempt = || "let the container see who asks for its published ports";
    inside(namespace, || {
        let socket = Socket::open()?;
        socket.commit(attempt(), &rules())?;
        socket.close_behind();
        netlink::Route::open()
            .and_then(|mut route| route.execute(routes()))
            .map_err(|cause| Error::new(attempt(), std::io::Error::other(cause)))
    })
    .map_err(|cause| Error::new(attempt(), std::io::Error::other(cause)))?
}

fn rules() -> Batch {
    let mut batch = Batch::default();
    for _ in 0..2 {
        batch.push(kind::NEW_TABLE, CREATE, INET, |row| row.text(1, TABLE));
        if batch.len() == 1 {
            batch.push(kind::DELETE_TABLE, 0, INET, |row| row.text(1, TABLE));
        }
    }
    batch.push(kind::NEW_CHAIN, CREATE, INET, |row| {
        row.text(1, TABLE);
        row.text(3, "output");
        row.nest(4, |hook| {
            // NF_INET_LOCAL_OUT, behind connection tracking; what is marked there is routed again.
            hook.number(1, 3);
            hook.number(2, (-150_i32).cast_unsigned());
        });
        row.text(7, "route");
    });
    let rules = [
        vec![
            Expression::SocketSpeaksForOthers,
            Expression::SetConnectionMark(MARK),
        ],
        vec![
            Expression::CtIs(Ct::Mark, MARK.to_ne_bytes().to_vec()),
            // IP_CT_DIR_REPLY
            Expression::CtIs(Ct::Direction, vec![1]),
            Expression::SetMark(MARK),
        ],
    ];
    for expressions in rules {
        batch.push(kind::NEW_RULE, CREATE | APPEND, INET, |row| {
            row.text(1, TABLE);
            row.text(2, "output");
            row.nest(4, |list| {
                for expression in &expressions {
                    expression.encode(list);
                }
            });
        });
    }
    batch
}

fn routes() -> netlink::Batch {
    let mut batch = netlink::Batch::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut rule = RuleMessage::default();
        rule.header.family = family;
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![
            RuleAttribute::Priority(PRIORITY),
            RuleAttribute::FwMark(MARK),
            RuleAttribute::Table(ROUTES),
        ];
        let mut route = RouteMessage::default();
        route.header.address_family = family;
        route.header.protocol = RouteProtocol::Static;
        route.header.kind = RouteType::Local;
        route.header.scope = match family {
            AddressFamily::Inet => RouteScope::Host,
            _ => RouteScope::Universe,
        };
        route.attributes = vec![RouteAttribute::Table(ROUTES), RouteAttribute::Oif(LOOPBACK)];
        // A kernel without IPv6, or with IPv6 off, has no clients that come by it.
        let fine: &'static [Errno] = if family == AddressFamily::Inet {
            &[Errno::EXIST]
        } else {
            &[
                Errno::EXIST,
                Errno::AFNOSUPPORT,
                Errno::OPNOTSUPP,
                Errno::ACCESS,
                Errno::NODEV,
            ]
        };
        batch.push_tolerant(
            "lead answers to carried clients back",
            NLM_F_CREATE | netlink_packet_core::NLM_F_EXCL,
            &RouteNetlinkMessage::NewRule(rule),
            fine,
        );
        batch.push_tolerant(
            "take answers to carried clients",
            NLM_F_CREATE | NLM_F_REPLACE,
            &RouteNetlinkMessage::NewRoute(route),
            fine,
        );
    }
    batch
}
