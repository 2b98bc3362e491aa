//! Bridges, parents of macvlan and ipvlan links, addresses, routes and settings of the host.
//!
//! Owns what a network needs on the host's side ([`BridgePlan`], [`ParentPlan`]) and the questions about the host
//! that choosing subnets and sizes asks ([`Host::routes`], [`Host::default_mtu`]). Not the ends inside containers:
//! these are [`crate::sandbox`]'s; not who may reach whom: that is [`crate::firewall`]'s.
//!
//! Invariants: every `ensure_*` may be repeated, and changes only what differs; a link is removed only when its alias
//! says that it is the asking owner's, so a bridge that a person made and named in `bridge.name` is never removed.

mod bridge;
mod error;
mod forwarding;
mod host;
mod name;
mod parent;
pub(crate) mod setting;

pub(crate) use bridge::alias;
pub use bridge::{Bridge, BridgePlan, BridgePort};
pub use error::{Error, Result};
pub use forwarding::Forwarding;
pub use host::{Host, Stray};
pub use name::{LinkName, LinkNameError, host_end_name};
pub use parent::{IpvlanFlag, IpvlanMode, MacvlanMode, Parent, ParentPlan};
pub use setting::{EndpointSetting, SettingError};
