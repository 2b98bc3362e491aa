//! What the daemon tells on standard error.

use std::io::{self, IsTerminal};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Starts reporting: Berth's own messages at this level, those of libraries only when they are warnings.
pub(crate) fn start(level: Level) {
    let own = "berth";
    let targets = Targets::new()
        .with_default(level.min(Level::WARN))
        .with_target(own, level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(level >= Level::DEBUG);
    tracing_subscriber::registry()
        .with(targets)
        .with(lines)
        .init();
}
