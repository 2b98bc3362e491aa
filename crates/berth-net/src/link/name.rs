//! Names of network interfaces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A name that an interface can have: 1 to 15 bytes, none of them a slash, a colon, a percent sign or white space,
/// and neither `.` nor `..` (`dev_valid_name` in the kernel; `%` would be filled in by it).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

/// A text that no interface can be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid interface name {text:?}")]
pub struct LinkNameError {
    /// What was given, cut to a line.
    pub text: String,
}

impl LinkName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
        let fits = (1..=limits::LINK_NAME).contains(&text.len());
        if fits && text != "." && text != ".." && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(LinkNameError {
            text: text.chars().take(64).collect(),
        })
    }
}

impl TryFrom<String> for LinkName {
    type Error = LinkNameError;

    fn try_from(text: String) -> Result<Self, LinkNameError> {
        text.parse()
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the host's end of an endpoint's pair is called: `veth` and the first characters of the endpoint's id.
///
/// # Errors
/// When the id has characters that no interface's name may have.
pub fn host_end_name(endpoint_id: &str) -> Result<LinkName, LinkNameError> {
    let id: String = endpoint_id.chars().take(limits::LINK_NAME - 4).collect();
    format!("veth{id}").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_refuses_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:1",
            "eth%d",
            "sixteen-bytes-xx",
            "ä",
        ] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad}");
        }
        for good in ["eth0", "eth0.10", "fifteen-bytes-x", "br-0a1b2c3d4e5f"] {
            assert_eq!(good.parse::<LinkName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn host_ends_are_named_after_their_endpoint() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(host_end_name(&id).unwrap().as_str(), "veth0123456789a");
    }
}
