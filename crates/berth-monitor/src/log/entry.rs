//! One entry of a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_types::Timestamp;
use serde::{Deserialize, Serialize};

/// Which of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Standard output; everything, when there is a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl StreamKind {
    /// The number in the header of a multiplexed stream frame.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The name in a log file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// A line, or a piece of a line that is longer than 16 KiB or has no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it came from.
    pub stream: StreamKind,
    /// When it was read from the container.
    pub time: Timestamp,
    /// The bytes, with the newline when the line is complete. Written to a client as they are.
    pub bytes: Vec<u8>,
    /// True when the line does not end here.
    pub partial: bool,
    /// Labels, environment and tag as the log options asked. Shared by all entries of a log in practice.
    pub attributes: Arc<BTreeMap<String, String>>,
}
