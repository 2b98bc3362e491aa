//! Images: thin over `berth-image`, with what the engine knows (which container holds which image).

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images {}
