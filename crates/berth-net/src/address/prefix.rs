//! An address with a prefix length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address and how many of its leading bits name the network. The bits behind may be set: `10.1.2.3/16` is an
/// interface's address, its [`network`](Self::network) is `10.1.0.0/16`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// A text that is no address with a prefix length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {text}")]
pub struct PrefixError {
    /// What was given, cut to a line.
    pub text: String,
}

/// An address as a number; IPv4 in the low 32 bits.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// The address of a number, in the family of `like`.
pub(super) fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

impl Prefix {
    /// An address with a length; `None` when the family has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let prefix = Self { address, length };
        (length <= prefix.bits()).then_some(prefix)
    }

    /// The single address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let mut prefix = Self { address, length: 0 };
        prefix.length = prefix.bits();
        prefix
    }

    /// Bits of an address of this family: 32 or 128.
    #[must_use]
    pub fn bits(&self) -> u8 {
        match self.address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// The address, with all its bits.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits name the network.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is of IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    fn host_mask(&self) -> u128 {
        let free = u32::from(self.bits() - self.length);
        if free == 128 {
            u128::MAX
        } else {
            (1_u128 << free) - 1
        }
    }

    /// The network: all bits behind the prefix zero.
    #[must_use]
    pub fn network(&self) -> Self {
        let first = number(self.address) & !self.host_mask();
        Self {
            address: address(first, self.address),
            length: self.length,
        }
    }

    /// The first address of the network.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.network().address
    }

    /// The last address of the network; the broadcast address where IPv4 has one.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        address(number(self.address) | self.host_mask(), self.address)
    }

    /// Whether no bit behind the prefix is set.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.network() == *self
    }

    /// Whether the address is of this network.
    #[must_use]
    pub fn contains(&self, other: IpAddr) -> bool {
        self.is_ipv4() == other.is_ipv4()
            && number(self.first()) <= number(other)
            && number(other) <= number(self.last())
    }

    /// Whether the two networks have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let wrong = || PrefixError {
            text: text.chars().take(64).collect(),
        };
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        // Digits alone: the standard parser also takes a leading plus sign.
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let address = address.parse().map_err(|_| wrong())?;
        let length = length.parse().map_err(|_| wrong())?;
        Self::new(address, length).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;
    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_knows_its_ends() {
        let p = prefix("172.17.3.4/16");
        assert_eq!(p.network(), prefix("172.17.0.0/16"));
        assert_eq!(p.last().to_string(), "172.17.255.255");
        assert!(!p.is_network());
        assert!(p.contains("172.17.255.1".parse().unwrap()));
        assert!(!p.contains("172.18.0.0".parse().unwrap()));
        assert!(!p.contains("::1".parse().unwrap()));
        let all = prefix("::/0");
        assert_eq!(all.last(), IpAddr::V6(Ipv6Addr::from(u128::MAX)));
        assert_eq!(prefix("0.0.0.0/0").last().to_string(), "255.255.255.255");
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "x/8",
            "10.0.0.0/",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?} was taken");
        }
    }

    proptest::proptest! {
        #[test]
        fn overlap_is_symmetric_and_means_a_common_address(
            a in 0_u32.., al in 0_u8..=32, b in 0_u32.., bl in 0_u8..=32
        ) {
            let a = Prefix::new(IpAddr::V4(a.into()), al).unwrap();
            let b = Prefix::new(IpAddr::V4(b.into()), bl).unwrap();
            proptest::prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            let common = number(a.first()).max(number(b.first())) <= number(a.last()).min(number(b.last()));
            proptest::prop_assert_eq!(a.overlaps(&b), common);
            proptest::prop_assert_eq!(a.to_string().parse::<Prefix>().unwrap(), a);
        }
    }
}
