//! Network namespaces of containers, prepared ahead.
//!
//! Owns the namespace as a descriptor ([`Sandbox`]), the conversation inside it, the ends of endpoints inside
//! ([`EndpointPlan`]) with their counterpart on the host, and the stock of prepared ones ([`SandboxPool`]).
//!
//! ```text
//!   host's namespace                     container's namespace (a descriptor, no name)
//!   br-1a2b ─ veth0123456789a ═══════════ eth0   addresses, routes, settings
//! ```
//!
//! Invariants: nothing here has a name in the file system; when the last descriptor of a namespace and the last
//! process in it are gone, the kernel takes namespace and pairs away. [`Sandbox::attach`] leaves nothing behind when
//! it fails.

mod announce;
mod attach;
mod namespace;
mod plan;
mod pool;

pub use attach::{Attached, DefaultGateway};
pub use namespace::Sandbox;
pub use plan::{EndpointKind, EndpointPlan, Gateway, RoutePlan};
pub use pool::{PoolFigures, SandboxPool};

pub use crate::link::{Error, Result};
