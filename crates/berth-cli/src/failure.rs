//! How a command ends badly: the text for standard error and the exit status.
//!
//! This is the one place where an API error becomes an exit status and gets its hint; commands hand
//! their errors up untouched. A failure with an empty message only carries a status (a container
//! that exited with 3 makes the client exit with 3, silently).

use std::fmt;

use crate::program::Program;

/// Exit status of an error of the command line or of the engine where a container's own status
/// could be expected (`run`, `create`, `exec`, bad flags anywhere).
pub(crate) const STATUS_REFUSED: u8 = 125;
/// Exit status when the command was found and could not be invoked.
pub(crate) const STATUS_NOT_INVOKED: u8 = 126;
/// Exit status when the command was not found.
pub(crate) const STATUS_NOT_FOUND: u8 = 127;

/// A command's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit status of the process.
    pub(crate) status: u8,
    /// What standard error shows; nothing is printed when it is empty.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            status: 1,
            message: message.into(),
        }
    }

    /// A failure with exit status 125.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            status: STATUS_REFUSED,
            message: message.into(),
        }
    }

    /// Adds what to try when a registry did not let someone in who may not have said who they are.
    pub(crate) fn with_login_hint(mut self, program: Program, registry: &str) -> Self {
        const SIGNS: [&str; 3] = [
            "access denied for",
            "unauthorized",
            "no basic auth credentials",
        ];
        let lower = self.message.to_ascii_lowercase();
        if SIGNS.iter().any(|sign| lower.contains(sign)) {
            let name = program.name();
            let server = match registry {
                "docker.io" => String::new(),
                other => format!(" {other}"),
            };
            self.message
                .push_str(&format!("\nTry '{name} login{server}'."));
        }
        self
    }

    /// Only a status: the container's or the exec's own exit code.
    pub(crate) fn status(status: u8) -> Self {
        Self {
            status,
            message: String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Maps an error of `run`, `start` and `exec` to the status users of shells expect, from the
/// engine's words: 127 for a command that is not there, 126 for one that cannot be executed.
pub(crate) fn status_of_start_error(text: &str) -> u8 {
    const NOT_FOUND: [&str; 2] = ["executable file not found", "no such file or directory"];
    const NOT_INVOKED: [&str; 2] = ["permission denied", "is a directory"];
    let lower = text.to_ascii_lowercase();
    if NOT_FOUND.iter().any(|words| lower.contains(words)) {
        STATUS_NOT_FOUND
    } else if NOT_INVOKED.iter().any(|words| lower.contains(words)) {
        STATUS_NOT_INVOKED
    } else {
        STATUS_REFUSED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_s_words_decide_the_status() {
        for (text, status) in [
            (
                "exec: \"nosuch\": executable file not found in $PATH: unknown",
                127,
            ),
            ("stat /x: no such file or directory", 127),
            ("exec: \"/etc/passwd\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("Conflict. The container name \"/a\" is already in use", 125),
        ] {
            assert_eq!(status_of_start_error(text), status, "{text}");
        }
    }
}
