//! Platforms: `os/architecture[/variant]`, as images declare them and users ask for them.
//!
//! Normalisation and matching follow what containerd's platforms package does, since that is what
//! decides elsewhere which manifest of an index is taken.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid platform {text:?}: expected os/architecture or os/architecture/variant, such as linux/arm64/v8"
)]
pub struct PlatformError {
    /// What was given, cut to a bounded length.
    pub text: String,
}

/// An operating system, a processor architecture and, for some architectures, its variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system in Go's spelling: `linux`.
    pub os: String,
    /// Architecture in Go's spelling: `amd64`, `arm64`, `arm`, …
    #[serde(rename = "architecture")]
    pub architecture: String,
    /// Variant such as `v7`; empty when the architecture has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform this program was compiled for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
        }
    }

    /// Builds a normalised platform from the fields of an image or index document.
    #[must_use]
    pub fn normalised(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386".to_owned(), String::new()),
            ("x86_64" | "x86-64" | "amd64", v) => (
                "amd64".to_owned(),
                if v == "v1" {
                    String::new()
                } else {
                    v.to_owned()
                },
            ),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64".to_owned(), "v8".to_owned()),
            ("aarch64", v) => ("arm64".to_owned(), v.to_owned()),
            ("armhf", _) => ("arm".to_owned(), "v7".to_owned()),
            ("armel", _) => ("arm".to_owned(), "v6".to_owned()),
            ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
            ("arm", "5" | "6" | "8") => ("arm".to_owned(), format!("v{variant}")),
            _ => (architecture, variant),
        };
        Self {
            os,
            architecture,
            variant,
        }
    }

    /// Reads `os`, `architecture` (os then is linux), `os/architecture` or `os/architecture/variant`.
    ///
    /// # Errors
    /// When there are more than three parts, or a part is not of `[A-Za-z0-9][A-Za-z0-9_.-]*`.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError {
            text: text.chars().take(128).collect(),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let good = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if parts.len() > 3 || !parts.iter().all(good) {
            return Err(error());
        }
        match parts.as_slice() {
            [one] => {
                let known_os = matches!(
                    one.to_ascii_lowercase().as_str(),
                    "linux" | "windows" | "darwin" | "macos" | "freebsd"
                );
                let host = Self::host();
                Ok(if known_os {
                    Self::normalised(one, &host.architecture, &host.variant)
                } else {
                    Self::normalised("linux", one, "")
                })
            }
            [os, architecture] => Ok(Self::normalised(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::normalised(os, architecture, variant)),
            _ => Err(error()),
        }
    }

    /// How well content for `self` runs on a machine of platform `wanted`: `None` when not at all,
    /// else smaller is better. An older variant of the same architecture runs on a newer one.
    #[must_use]
    pub fn suitability(&self, wanted: &Self) -> Option<u8> {
        let have = Self::normalised(&self.os, &self.architecture, &self.variant);
        let want = Self::normalised(&wanted.os, &wanted.architecture, &wanted.variant);
        if have.os != want.os {
            return None;
        }
        let level = |variant: &str| -> u8 {
            variant
                .strip_prefix('v')
                .unwrap_or(variant)
                .parse::<u8>()
                .unwrap_or(1)
        };
        if have.architecture == want.architecture {
            if have.variant == want.variant {
                return Some(0);
            }
            let (have, want) = (level(&have.variant), level(&want.variant));
            return (have <= want).then(|| want - have);
        }
        // A 64-bit ARM processor runs 32-bit ARM programs, the newest variant first.
        if want.architecture == "arm64" && have.architecture == "arm" {
            return Some(20_u8.saturating_sub(level(&have.variant)));
        }
        None
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64/v1", "linux/amd64"),
            ("aarch64", "linux/arm64/v8"),
            ("linux/arm", "linux/arm/v7"),
            ("Linux/ARMHF", "linux/arm/v7"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(
                Platform::parse(text).map(|p| p.to_string()),
                Ok(want.into()),
                "{text}"
            );
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64", "linux/../x"] {
            assert!(Platform::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_nearest_variant_wins() {
        let p = |text: &str| Platform::parse(text).expect("a platform");
        let v7 = p("linux/arm/v7");
        assert_eq!(p("linux/arm/v7").suitability(&v7), Some(0));
        assert!(p("linux/arm/v6").suitability(&v7) < p("linux/arm/v5").suitability(&v7));
        assert_eq!(p("linux/arm/v8").suitability(&v7), None);
        assert_eq!(p("linux/arm64").suitability(&v7), None);
        assert_eq!(p("windows/amd64").suitability(&p("linux/amd64")), None);
        assert!(p("linux/arm/v7").suitability(&p("linux/arm64")).is_some());
    }
}
