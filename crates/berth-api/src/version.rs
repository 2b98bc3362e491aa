//! API versions: `major.minor`.

use std::fmt;
use std::str::FromStr;

/// A version of the Engine API. Ordered by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u32,
    /// Counts up with every change.
    pub minor: u32,
}

impl ApiVersion {
    /// The oldest version that is served. Clients pinned to it are still common.
    pub const MIN: ApiVersion = ApiVersion::new(24);
    /// The newest version that is served and asked for.
    pub const MAX: ApiVersion = ApiVersion::new(51);

    /// Version 1.`minor`.
    pub const fn new(minor: u32) -> ApiVersion {
        ApiVersion { major: 1, minor }
    }

    /// Whether this version is at least 1.`minor`.
    pub fn at_least(self, minor: u32) -> bool {
        self >= ApiVersion::new(minor)
    }
}

impl Default for ApiVersion {
    fn default() -> Self {
        ApiVersion::MAX
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Text that is not an API version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an API version (major.minor)")]
pub struct ApiVersionError(pub String);

impl FromStr for ApiVersion {
    type Err = ApiVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |part: &str| -> Option<u32> {
            if part.is_empty() || part.len() > 6 || !part.bytes().all(|byte| byte.is_ascii_digit())
            {
                return None;
            }
            part.parse().ok()
        };
        text.split_once('.')
            .and_then(|(major, minor)| {
                Some(ApiVersion {
                    major: digits(major)?,
                    minor: digits(minor)?,
                })
            })
            .ok_or_else(|| ApiVersionError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_number_not_by_text() {
        let old: ApiVersion = "1.9".parse().unwrap();
        assert!(old < ApiVersion::MIN);
        assert!(ApiVersion::MAX.at_least(51) && !ApiVersion::MAX.at_least(52));
        for bad in ["", "1", "1.", ".4", "1.2.3", "v1.2", "1.-2", "1.99999999"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
