//! The way of a container's questions to 127.0.0.11: to the ports where its resolver really listens.
//!
//! Owns the table `ip berth-dns` inside the container's namespace. It rewrites ports without connection tracking, so a
//! container's packets are not tracked in its own namespace because of us.

use super::error::Result;
use super::expression::{Expression, Meta};
use super::message::{APPEND, Batch, CREATE};
use super::socket::Socket;
use super::table::kind;

const TABLE: &str = "berth-dns";
const RESOLVER: [u8; 4] = [127, 0, 0, 11];
/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;

/// Leads port 53 of 127.0.0.11 to these ports and their answers back, in the namespace that `socket` was opened in.
///
/// # Errors
///
/// The kernel refuses; nothing is changed then.
pub fn dns_redirect(socket: &Socket, udp_port: u16, tcp_port: u16) -> Result<()> {
    let mut batch = Batch::default();
    for _ in 0..2 {
        batch.push(kind::NEW_TABLE, CREATE, IPV4, |row| row.text(1, TABLE));
        if batch.len() == 1 {
            batch.push(kind::DELETE_TABLE, 0, IPV4, |row| row.text(1, TABLE));
        }
    }
    batch.push(kind::NEW_CHAIN, CREATE, IPV4, |row| {
        row.text(1, TABLE);
        row.text(3, "output");
        row.nest(4, |hook| {
            // NF_INET_LOCAL_OUT, before connection tracking.
            hook.number(1, 3);
            hook.number(2, (-300_i32).cast_unsigned());
        });
        row.text(7, "filter");
    });
    for (protocol, port, checksum) in [(17, udp_port, 6), (6, tcp_port, 16)] {
        for (source, from, to) in [(false, 53, port), (true, port, 53)] {
            batch.push(kind::NEW_RULE, CREATE | APPEND, IPV4, |row| {
                row.text(1, TABLE);
                row.text(2, "output");
                row.nest(4, |list| {
                    for expression in [
                        Expression::AddressIs {
                            source,
                            address: RESOLVER,
                        },
                        Expression::meta_is(Meta::L4Protocol, vec![protocol]),
                        Expression::PortIs { source, port: from },
                        Expression::SetPort {
                            source,
                            port: to,
                            checksum,
                        },
                    ] {
                        expression.encode(list);
                    }
                });
            });
        }
    }
    socket.commit("lead questions to the container's resolver", &batch)
}
