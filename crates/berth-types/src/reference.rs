//! Image references: `[registry/]repository[:tag][@digest]`, in Docker's normalised form.
//!
//! `busybox` means `docker.io/library/busybox:latest`. The grammar is that of the distribution
//! specification's reference package, which every client uses.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Longest name (registry and repository) that registries take.
pub const NAME_LENGTH_MAX: usize = 255;
/// Longest tag.
pub const TAG_LENGTH_MAX: usize = 128;
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// A text that is not a reference. The texts are the ones that scripts know from Docker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not of the form of a reference.
    #[error("invalid reference format")]
    Format,
    /// A tag that is not one.
    #[error("invalid tag format")]
    Tag,
    /// A repository in upper case.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// More than 255 characters of name.
    #[error("repository name must not be more than {NAME_LENGTH_MAX} characters")]
    NameTooLong,
    /// 64 hexadecimal digits, which could not be told from an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
}

/// A normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as a user writes it. Neither tag nor digest is added: see [`Self::with_default_tag`].
    ///
    /// # Errors
    /// When the text is not a reference.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if looks_like_id(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(Digest::parse(digest).map_err(|_| ReferenceError::Format)?),
            ),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to the registry's port.
        let (name, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains('/') => {
                (&rest[..colon], Some(&rest[colon + 1..]))
            }
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Format);
        }
        let (registry, path) = split_registry(name);
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            let lowered = path.to_ascii_lowercase();
            return Err(if is_path(&lowered) {
                let official = registry == DEFAULT_REGISTRY && !path.contains('/');
                let whole = format!("{}{path}", if official { "library/" } else { "" });
                ReferenceError::UpperCase(whole.chars().take(128).collect())
            } else {
                ReferenceError::Format
            });
        }
        if !is_path(path) || !is_registry(registry) {
            return Err(ReferenceError::Format);
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > NAME_LENGTH_MAX {
            return Err(ReferenceError::NameTooLong);
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The registry, with its port: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository on the registry: `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, when given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same reference with tag `latest` when it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// When `tag` is not one.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository by digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// `registry/repository`, whole: `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people write it: `busybox`, `someone/app`, `localhost:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        let repository = self.repository.as_str();
        // One that begins like a registry would be taken for another image.
        if self.registry != DEFAULT_REGISTRY || split_registry(repository).1 != repository {
            return self.name();
        }
        repository
            .strip_prefix("library/")
            // Nor is what is left an image's id.
            .filter(|rest| !rest.contains('/') && !looks_like_id(rest))
            .unwrap_or(repository)
            .to_owned()
    }

    /// The whole reference as people write it: `busybox:latest`, `busybox@sha256:…`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    /// The canonical form, with registry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// Whether a name alone would be taken for an image id.
fn looks_like_id(name: &str) -> bool {
    name.len() == 64 && crate::id::is_id_prefix(name)
}

/// The first component is a registry when it could not be one of a repository: it has a dot, a port
/// or an upper-case letter, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= TAG_LENGTH_MAX
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// `component ("/" component)*`, a component being runs of `[a-z0-9]` joined by `.`, `_`, `__` or dashes.
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let bytes = component.as_bytes();
        let alphanumeric = |b: &u8| b.is_ascii_digit() || b.is_ascii_lowercase();
        if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
            return false;
        }
        bytes.split(alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
    })
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = if registry.starts_with('[') {
        let Some(end) = registry.find(']') else {
            return false;
        };
        let inside = &registry[1..end];
        if inside.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match &registry[end + 1..] {
            "" => return true,
            rest => match rest.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None => return false,
            },
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        }
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.is_none_or(|host| host.split('.').all(label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalised() {
        let hex = "ab".repeat(32);
        for (text, canonical, familiar) in [
            (
                "busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "docker.io/busybox:1",
                "docker.io/library/busybox:1",
                "busybox:1",
            ),
            (
                "index.docker.io/library/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "someone/app",
                "docker.io/someone/app:latest",
                "someone/app:latest",
            ),
            (
                "docker.io/example.com/app",
                "docker.io/example.com/app:latest",
                "docker.io/example.com/app:latest",
            ),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "localhost:5000/a/b__c-d.e:v1.0",
                "localhost:5000/a/b__c-d.e:v1.0",
                "localhost:5000/a/b__c-d.e:v1.0",
            ),
            (
                "[::1]:5000/app",
                "[::1]:5000/app:latest",
                "[::1]:5000/app:latest",
            ),
            ("Ghcr/app", "Ghcr/app:latest", "Ghcr/app:latest"),
            (
                &format!("library/{hex}"),
                &format!("docker.io/library/{hex}:latest"),
                &format!("library/{hex}:latest"),
            ),
            (
                &format!("a@sha256:{hex}"),
                &format!("docker.io/library/a@sha256:{hex}"),
                &format!("a@sha256:{hex}"),
            ),
            (
                &format!("a:t@sha256:{hex}"),
                &format!("docker.io/library/a:t@sha256:{hex}"),
                &format!("a:t@sha256:{hex}"),
            ),
        ] {
            let reference = Reference::parse(text).expect(text).with_default_tag();
            assert_eq!(reference.to_string(), canonical, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(canonical), Ok(reference), "{text}");
        }
    }

    #[test]
    fn bad_references_are_refused() {
        let long = format!("a/{}", "b".repeat(255));
        let id = "ab".repeat(32);
        for bad in [
            "",
            ":",
            "a:",
            "a:-x",
            "a@",
            "a@sha256:00",
            "/a",
            "a/",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "A",
            "a b",
            "a:b:c",
            "http://x/y",
            "../x",
            "a/../b",
            "x.y:port/z",
            "[::1/x",
            "é",
            &long,
            &id,
            &format!("a:{}", "t".repeat(129)),
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(
            Reference::parse("Abc"),
            Err(ReferenceError::UpperCase("library/Abc".into()))
        );
    }
}
