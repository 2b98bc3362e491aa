//! Content digests, `algorithm:hex` (OCI image specification, descriptor.md, "Digests").
//!
//! Only sha256 is accepted: it is what every registry serves, and one algorithm means one path to verify.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not a sha256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {text:?}: expected \"sha256:\" and 64 lower-case hexadecimal digits")]
pub struct DigestError {
    /// What was given, cut to a bounded length.
    pub text: String,
}

/// A sha256 content digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes, as a hash function gave them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads `sha256:<64 hex digits>`.
    ///
    /// # Errors
    /// When the algorithm is another one or the digits are not exactly 64 lower-case ones.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix("sha256:")
            .and_then(Self::from_hex)
            .ok_or_else(|| DigestError {
                text: text.chars().take(128).collect(),
            })
    }

    /// Reads the 64 digits alone.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The 64 digits without the algorithm, as used for file names.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// The first twelve digits, as tables and progress lines show them.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.hex();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest(sha256:{})", self.short())
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl std::str::FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_round_trips_and_rejects_everything_else() {
        let digest = Digest::from_bytes([0x1f; 32]);
        let text = format!("sha256:{}", "1f".repeat(32));
        assert_eq!(digest.to_string(), text);
        assert_eq!(Digest::parse(&text), Ok(digest));
        assert_eq!(digest.short(), "1f1f1f1f1f1f");
        let upper = format!("sha256:{}", "1F".repeat(32));
        let long = format!("{text}0");
        for bad in [
            "",
            "sha256:",
            "sha512:00",
            &upper,
            &long,
            &"1f".repeat(32),
            "sha256:é",
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
