//! Pure vocabulary of Berth: ids, digests, references, platforms, error kinds, units.
//!
//! Everything here parses and prints; nothing performs I/O. Each noun is parsed once, at the edge
//! where it arrives, and carried as its own type from there on.

pub mod digest;
pub mod duration;
pub mod error_kind;
pub mod id;
pub mod image_config;
pub mod platform;
pub mod reference;
pub mod signal;
pub mod size;
pub mod timestamp;

pub use digest::{Digest, DigestError};
pub use error_kind::ErrorKind;
pub use id::{ContainerId, EndpointId, ExecId, IdError, NetworkId};
pub use image_config::{HealthConfig, ImageConfig, ImageDocument};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use signal::{Signal, SignalError};
pub use timestamp::Timestamp;
