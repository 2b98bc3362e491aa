//! The name the client goes by.

use std::ffi::OsStr;
use std::path::Path;

/// How messages call the program: as it was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `berth`
    Berth,
    /// `docker`, a link to `berth`
    Docker,
}

impl Program {
    /// From the first word of the command line.
    pub(crate) fn called(word: &OsStr) -> Self {
        match Path::new(word).file_name() {
            Some(name) if name == "docker" => Self::Docker,
            _ => Self::Berth,
        }
    }

    /// The word typed for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Docker => "docker",
        }
    }

    /// The product, as sentences name it.
    pub(crate) fn product(self) -> &'static str {
        match self {
            Self::Berth => "Berth",
            Self::Docker => "Docker",
        }
    }
}
