//! Identifiers of containers, exec sessions, networks and endpoints: 32 random bytes as 64 lower-case hexadecimal digits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Length of a full identifier, in hexadecimal digits.
pub const ID_LENGTH: usize = 64;
/// Length of the short form that people see, in hexadecimal digits.
pub const SHORT_ID_LENGTH: usize = 12;

/// A text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {text:?}: expected {ID_LENGTH} lower-case hexadecimal digits")]
pub struct IdError {
    /// What was given.
    pub text: String,
}

/// Whether `text` could be the beginning of an identifier.
#[must_use]
pub fn is_id_prefix(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= ID_LENGTH
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Makes the identifier from 32 bytes, which the caller takes from the kernel's generator.
            #[must_use]
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(hex(&bytes).into_boxed_str())
            }

            /// Reads a full identifier.
            ///
            /// # Errors
            /// When `text` is not 64 lower-case hexadecimal digits.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if text.len() == ID_LENGTH && is_id_prefix(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { text: text.chars().take(80).collect() })
                }
            }

            /// The full identifier.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, as tables show them.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..SHORT_ID_LENGTH]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

identifier! {
    /// Identifies a container for its whole life.
    ContainerId
}
identifier! {
    /// Identifies one exec session of a container.
    ExecId
}
identifier! {
    /// Identifies a network for its whole life.
    NetworkId
}
identifier! {
    /// Identifies a container's place in one network, for one run.
    EndpointId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_round_trips_and_rejects_everything_else() {
        let id = ContainerId::from_random([0xab; 32]);
        assert_eq!(id.as_str(), "ab".repeat(32));
        assert_eq!(id.short(), "abababababab");
        assert_eq!(ContainerId::parse(id.as_str()), Ok(id));
        for bad in [
            "",
            "abc",
            &"AB".repeat(32),
            &"zz".repeat(32),
            &"ab".repeat(33),
        ] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
