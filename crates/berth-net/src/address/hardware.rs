//! Hardware addresses of Ethernet: 48 bits (IEEE 802).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HardwareAddress(pub [u8; 6]);

/// A text that is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {text}")]
pub struct HardwareAddressError {
    /// What was given, cut to a line.
    pub text: String,
}

impl HardwareAddress {
    /// The locally administered unicast address of these random bits.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 6]) -> Self {
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self(bytes)
    }

    /// The address Docker long derived from an IPv4 address: `02:42` and its four bytes.
    #[must_use]
    pub fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// Whether an interface may have it: neither a group's address nor all zero.
    #[must_use]
    pub fn is_unicast(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for HardwareAddress {
    type Err = HardwareAddressError;

    fn from_str(text: &str) -> Result<Self, HardwareAddressError> {
        let wrong = || HardwareAddressError {
            text: text.chars().take(64).collect(),
        };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for HardwareAddress {
    type Error = HardwareAddressError;
    fn try_from(text: String) -> Result<Self, HardwareAddressError> {
        text.parse()
    }
}

impl From<HardwareAddress> for String {
    fn from(address: HardwareAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_round_trips_and_random_ones_are_local_unicast() {
        let address: HardwareAddress = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(address.to_string(), "02:42:ac:11:00:02");
        assert_eq!(
            address,
            HardwareAddress::from_ipv4(Ipv4Addr::new(172, 17, 0, 2))
        );
        let random = HardwareAddress::from_random([0xff; 6]);
        assert!(random.is_unicast() && random.0[0] & 2 == 2);
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:0",
            "02:42:ac:11:00:02:03",
            "0242.ac11.0002",
            "zz:42:ac:11:00:02",
        ] {
            assert!(bad.parse::<HardwareAddress>().is_err(), "{bad:?} was taken");
        }
    }
}
