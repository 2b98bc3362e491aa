//! Digests as clients name content: sha256 or sha512.
//!
//! Content is stored once, under its sha256. A sha512 is a further name for it, kept by the records.

use std::fmt;

use berth_types::Digest;
use sha2::{Digest as _, Sha512};

/// A text that is no digest, or one of an algorithm that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DigestError {
    /// Not `algorithm:hex` with the right number of digits.
    #[error("invalid digest {0:?}")]
    Invalid(String),
    /// Well-formed, of another algorithm.
    #[error("unsupported digest algorithm {0:?}: sha256 and sha512 are taken")]
    Algorithm(String),
}

/// What hashes content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// `sha256`.
    Sha256,
    /// `sha512`.
    Sha512,
}

impl Algorithm {
    /// Reads the name of an algorithm.
    ///
    /// # Errors
    /// When it is another one.
    pub(crate) fn parse(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::Algorithm(cut(text))),
        }
    }
}

/// A digest as a client names content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ContentDigest {
    /// A sha256, under which content is stored as well.
    Sha256(Digest),
    /// A sha512.
    Sha512([u8; 64]),
}

impl ContentDigest {
    /// Reads `sha256:…` or `sha512:…`.
    ///
    /// # Errors
    /// When the text is none, or of another algorithm.
    pub(crate) fn parse(text: &str) -> Result<Self, DigestError> {
        let invalid = || DigestError::Invalid(cut(text));
        let (algorithm, digits) = text.split_once(':').ok_or_else(invalid)?;
        let known_form = !algorithm.is_empty()
            && algorithm
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+._-".contains(&b));
        if !known_form || digits.is_empty() {
            return Err(invalid());
        }
        match Algorithm::parse(algorithm)? {
            Algorithm::Sha256 => Digest::from_hex(digits)
                .map(Self::Sha256)
                .ok_or_else(invalid),
            Algorithm::Sha512 => {
                // Two halves of 64 digits, each read like a sha256.
                let halves = (digits.len() == 128 && digits.is_ascii())
                    .then(|| digits.split_at(64))
                    .and_then(|(high, low)| Some((Digest::from_hex(high)?, Digest::from_hex(low)?)))
                    .ok_or_else(invalid)?;
                let mut bytes = [0; 64];
                bytes[..32].copy_from_slice(halves.0.as_bytes());
                bytes[32..].copy_from_slice(halves.1.as_bytes());
                Ok(Self::Sha512(bytes))
            }
        }
    }

    /// Its algorithm.
    #[must_use]
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The digest of bytes at hand, by this digest's algorithm.
    #[must_use]
    pub(crate) fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(berth_image::digest_of(bytes)),
            Algorithm::Sha512 => Self::Sha512(Sha512::digest(bytes).into()),
        }
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Sha512(bytes) => {
                f.write_str("sha512:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_round_trip_and_nothing_else_is_taken() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = ContentDigest::of(algorithm, b"content");
            assert_eq!(ContentDigest::parse(&digest.to_string()), Ok(digest));
            assert_eq!(digest.algorithm(), algorithm);
        }
        let md5 = format!("md5:{}", "a".repeat(32));
        assert!(matches!(
            ContentDigest::parse(&md5),
            Err(DigestError::Algorithm(_))
        ));
        let upper = format!("sha256:{}", "A".repeat(64));
        let short = format!("sha512:{}", "a".repeat(127));
        let wide = format!("sha512:{}", "é".repeat(64));
        for bad in [
            "", ":", "sha256", "sha256:", "../x:00", &upper, &short, &wide,
        ] {
            assert!(
                matches!(ContentDigest::parse(bad), Err(DigestError::Invalid(_))),
                "{bad:?}"
            );
        }
    }
}
