//! All policy of Berth: containers, exec sessions, images, events, records.
//!
//! [`Engine`] has one field per service and no behaviour. A service receives the handles it uses and
//! never `Engine` itself. Nothing here knows HTTP, terminals or environment variables; callers hand over
//! values and get values.

pub mod clock;
pub mod config;
pub mod containers;
pub mod error;
pub mod events;
pub mod execs;
pub mod filters;
pub mod host;
pub mod images;
mod instructions;
pub mod limits;
pub mod networks;
mod opening;
mod random;
pub mod records;
pub mod system;
pub mod volumes;

pub use config::Config;
pub use containers::Containers;
pub use error::EngineError;
pub use events::Events;
pub use execs::Execs;
pub use filters::Filters;
pub use images::Images;
pub use networks::Networks;
pub use opening::Closing;
pub use system::System;
pub use volumes::Volumes;

/// The services, one field each. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Containers and their lives.
    pub containers: Containers,
    /// Exec sessions.
    pub execs: Execs,
    /// Networks.
    pub networks: Networks,
    /// Volumes.
    pub volumes: Volumes,
    /// Images.
    pub images: Images,
    /// What happened.
    pub events: Events,
    /// The engine and its host.
    pub system: System,
    /// What has to be done before the process ends.
    pub closing: Closing,
}
