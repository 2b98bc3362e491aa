//! One function per route: read the query and body, ask the engine, shape the answer.

pub(crate) mod archives;
pub(crate) mod containers;
pub(crate) mod create;
mod endpoint_versions;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod networks;
mod outgoing;
mod progress;
pub(crate) mod registries;
pub(crate) mod streams;
pub(crate) mod system;
pub(crate) mod volumes;
