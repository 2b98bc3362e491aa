//! The engine itself and the host it runs on.

mod facts;

pub use facts::{DiskUsage, SecurityFacts, SystemInfo, VersionFacts};

use crate::error::EngineError;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct System {}

impl System {
    /// Facts of the engine and its host.
    pub async fn info(&self) -> Result<SystemInfo, EngineError> {
        Err(EngineError::NotImplemented("info".to_owned()))
    }
    /// Versions.
    #[must_use]
    pub fn version(&self) -> VersionFacts {
        VersionFacts::default()
    }
    /// What occupies the disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        Err(EngineError::NotImplemented("disk usage".to_owned()))
    }
}
