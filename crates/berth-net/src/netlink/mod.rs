//! The netlink connections everything else speaks by.
//!
//! Owns the socket ([`Socket`]), which belongs to the network namespace it was opened in for ever, whoever holds it;
//! requests sent together ([`Batch`]); what the kernel answers, its explanations included ([`Error`]); and the
//! conversation about links, addresses and routes ([`Route`]), with its notifications ([`Watch`]). Decides nothing.
//!
//! Requests are written by the typed messages of `netlink-packet-route`. Of what is read only the attributes we use
//! are looked at, so that an attribute of a newer kernel, or a kind of link nobody here has heard of, cannot make a
//! listing fail.
//!
//! Kernel documents: `Documentation/userspace-api/netlink/intro.rst`, netlink(7), rtnetlink(7).

mod batch;
mod error;
pub(crate) mod message;
mod namespace;
mod record;
mod route;
mod socket;
mod watch;

pub use batch::Batch;
pub use error::{Error, Refusal, Result};
pub use namespace::Namespace;
pub use record::{Address, DefaultRoute, Link, RouteEntry};
pub use route::Route;
pub use socket::{Protocol, Reply, Socket};
pub use watch::Watch;
