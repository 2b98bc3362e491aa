//! Filtering, translation and published ports: one nftables table of sets and maps.
//!
//! Owns the table `inet NAME` (and `bridge NAME` while some network keeps its members apart), published ports as
//! sockets and as translations, and the few accepts that chains of other programs need. Does not own bridges,
//! addresses, or who is on which network: callers say what shall be ([`Parts`], [`Change`]).
//!
//! Invariants:
//! - Rules and chains are fixed (`chains`); what varies is elements of sets and maps.
//! - A change is one transaction: the kernel has all of it or nothing.
//! - Connections that exist survive everything done here but the removal of what they lead to: translations are
//!   remembered by connection tracking, not by the table.

mod audit;
mod book;
mod chains;
mod conntrack;
mod error;
mod executor;
mod expression;
mod forward;
mod forwarding;
mod hold;
mod inward;
mod legacy;
mod message;
mod others;
mod parts;
mod plan;
mod ports;
mod redirect;
mod schema;
mod socket;
mod table;
mod watch;

pub use audit::{InputPolicy, Reach, reach};
pub use error::{Error, Result};
pub use executor::{Firewall, Healed};
pub use forward::{Forwarder, Route};
pub use hold::{HoldError, hold};
pub use inward::keep_clients;
pub use others::Warning;
pub use parts::{Change, Endpoint, GatewayMode, Link, Network, Parts, Policy, Protocol, Published};
pub use ports::{EPHEMERAL, PortBinding, PortBook, PortError, PortRequest, ephemeral_of_kernel};
pub use redirect::dns_redirect;
pub use socket::Socket;
pub use watch::{Seen, Watch};
