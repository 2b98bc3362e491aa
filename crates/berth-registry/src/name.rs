//! Names of repositories and tags, by the specification's grammar. Pure.

use std::fmt;

use crate::digest::{ContentDigest, DigestError};

/// Longest name of a repository. Clients allow 255 characters for registry and name together.
pub(crate) const NAME_LENGTH_MAX: usize = 255;
/// Longest tag.
pub(crate) const TAG_LENGTH_MAX: usize = 128;

/// The name of a repository: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, such components joined by slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Repository(String);

impl Repository {
    /// Reads a name; `None` when it is not one.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() <= NAME_LENGTH_MAX && text.split('/').all(is_component))
            .then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs of lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes.split(alphanumeric).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(String);

impl Tag {
    /// Reads a tag; `None` when it is not one.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let mut bytes = text.bytes();
        let good = text.len() <= TAG_LENGTH_MAX
            && bytes.next().is_some_and(word)
            && bytes.all(|b| word(b) || matches!(b, b'.' | b'-'));
        good.then(|| Self(text.to_owned()))
    }

    /// The tag.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a client names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(ContentDigest),
}

/// Why a text names no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReferenceError {
    /// Neither a tag nor a digest.
    Form,
    /// It has a colon, as only digests have, and is not one that is taken.
    Digest(DigestError),
}

impl Reference {
    /// Reads a tag or a digest.
    ///
    /// # Errors
    /// When the text is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            return ContentDigest::parse(text)
                .map(Self::Digest)
                .map_err(ReferenceError::Digest);
        }
        Tag::parse(text).map(Self::Tag).ok_or(ReferenceError::Form)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in [
            "a",
            "a/b",
            "library/busybox",
            "a.b_c__d---e/0",
            "blobs/uploads",
        ] {
            assert!(Repository::parse(good).is_some(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "..", "a/../b", "A", "a___b", "a._b", "-a", "a-", "a b",
            "a\0", "é", &long,
        ] {
            assert!(Repository::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn references_are_tags_or_digests() {
        let hex = "ab".repeat(32);
        assert!(matches!(Reference::parse("v1.0"), Ok(Reference::Tag(_))));
        assert!(matches!(
            Reference::parse(&format!("sha256:{hex}")),
            Ok(Reference::Digest(_))
        ));
        assert_eq!(Reference::parse(".bad"), Err(ReferenceError::Form));
        assert_eq!(Reference::parse("../x"), Err(ReferenceError::Form));
        assert!(matches!(
            Reference::parse("sha256:zz"),
            Err(ReferenceError::Digest(_))
        ));
        assert!(Tag::parse(&"t".repeat(129)).is_none());
    }
}
