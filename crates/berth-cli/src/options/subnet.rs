//! Address ranges in CIDR form, as far as the client has to sort addresses by them.

use std::net::IpAddr;
use std::str::FromStr;

/// `10.1.0.0/16`; bits after the prefix do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Subnet, String> {
        let bad = || format!("invalid CIDR address: {text}");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u32 = prefix.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(bad());
        }
        Ok(Subnet { address, prefix })
    }
}

impl Subnet {
    /// The address as written before the slash.
    pub(crate) fn first(self) -> IpAddr {
        self.address
    }

    /// Whether an address lies in it.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u32::from(own) ^ u32::from(other);
                differing.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = u128::from(own) ^ u128::from(other);
                differing.leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_their_range() {
        let holds = |subnet: &str, address: &str| {
            let subnet: Subnet = subnet.parse().expect(subnet);
            subnet.contains(address.parse().expect(address))
        };
        assert!(holds("10.1.0.0/16", "10.1.255.255") && !holds("10.1.0.0/16", "10.2.0.0"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/64", "fd00::1") && !holds("fd00::/64", "fd00:0:0:1::1"));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "::/x"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
