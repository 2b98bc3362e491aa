//! Signals as users write them: `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
//!
//! Numbers are those of signal(7) for every architecture that Berth supports (x86, ARM, RISC-V).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {text}")]
pub struct SignalError {
    /// What was given, cut to a bounded length.
    pub text: String,
}

/// A Linux signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(u8);

const NAMES: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// First real-time signal that programs may use: glibc keeps 32 and 33 for itself.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);
    /// `SIGINT`.
    pub const INT: Self = Self(2);
    /// `SIGWINCH`.
    pub const WINCH: Self = Self(28);

    /// The signal with this number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        u8::try_from(number)
            .ok()
            .filter(|n| (1..=RTMAX).contains(n))
            .map(Self)
    }

    /// The number, 1 to 64.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Reads a name (with or without `SIG`, in any case) or a number.
    ///
    /// # Errors
    /// When there is no such signal.
    pub fn parse(text: &str) -> Result<Self, SignalError> {
        let error = || SignalError {
            text: text.chars().take(64).collect(),
        };
        if let Ok(number) = text.parse::<i64>() {
            return Self::from_number(number).ok_or_else(error);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let offset = |rest: &str, sign: char| -> Option<u8> {
            if rest.is_empty() {
                return Some(0);
            }
            rest.strip_prefix(sign)?.parse().ok()
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').and_then(|n| RTMIN.checked_add(n))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').and_then(|n| RTMAX.checked_sub(n))
        } else {
            None
        };
        number
            .filter(|n| (RTMIN..=RTMAX).contains(n))
            .map(Self)
            .ok_or_else(error)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            None if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX", 64),
            ("rtmax-1", 63),
            ("64", 64),
        ] {
            assert_eq!(
                Signal::parse(text).map(Signal::number),
                Ok(number),
                "{text}"
            );
        }
        for bad in [
            "", "0", "65", "-1", "SIGFOO", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMAX-31", "SIG",
        ] {
            assert!(Signal::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
