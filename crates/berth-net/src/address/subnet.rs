//! The addresses of one subnet that are taken.
//!
//! Kept as ranges, so that a subnet of 2^64 addresses costs as much as one of 256, and a full /16 a single entry.
//! Addresses are given in order, going on behind the latest one, so that one that was released is not used again
//! while others are free: whoever still remembers it does not reach a stranger.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Prefix;
use super::prefix::{address, number};

/// Why an address cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Somebody has it.
    #[error("Address already in use")]
    InUse,
    /// It is of another network.
    #[error("no configured subnet contains IP address {0}")]
    OutOfRange(IpAddr),
    /// All are taken.
    #[error("no available addresses on this pool")]
    Exhausted,
}

/// Which addresses of a subnet are taken.
#[derive(Debug, Clone)]
pub struct SubnetAddresses {
    subnet: Prefix,
    /// Where addresses are chosen from: the whole subnet, or a part of it.
    range: Prefix,
    /// First to last address of each run of taken ones; no two runs touch.
    taken: BTreeMap<u128, u128>,
    /// Where the search goes on.
    cursor: u128,
}

impl SubnetAddresses {
    /// A subnet whose addresses come from `range` when none is asked for. Its first address, and the last one of an
    /// IPv4 subnet, name the network and everyone in it: they are taken, except where there are only two (RFC 3021)
    /// or one.
    #[must_use]
    pub fn new(subnet: Prefix, range: Option<Prefix>) -> Self {
        let subnet = subnet.network();
        let range = range.map_or(subnet, |r| r.network());
        let mut addresses = Self {
            subnet,
            range,
            taken: BTreeMap::new(),
            cursor: number(range.first()),
        };
        let host_bits = subnet.bits() - subnet.length();
        if host_bits > 1 {
            addresses.mark(number(subnet.first()));
            if subnet.is_ipv4() {
                addresses.mark(number(subnet.last()));
            }
        }
        addresses
    }

    /// The subnet.
    #[must_use]
    pub fn subnet(&self) -> Prefix {
        self.subnet
    }

    /// The run that has `n`, if one has.
    fn run_of(&self, n: u128) -> Option<(u128, u128)> {
        self.taken
            .range(..=n)
            .next_back()
            .map(|(first, last)| (*first, *last))
            .filter(|(_, last)| *last >= n)
    }

    fn mark(&mut self, n: u128) {
        let (mut first, mut last) = (n, n);
        if let Some(before) = n.checked_sub(1)
            && let Some((start, _)) = self.run_of(before)
        {
            self.taken.remove(&start);
            first = start;
        }
        if let Some(after) = n.checked_add(1)
            && let Some(end) = self.taken.remove(&after)
        {
            last = end;
        }
        self.taken.insert(first, last);
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_taken(&self, wanted: IpAddr) -> bool {
        self.subnet.contains(wanted) && self.run_of(number(wanted)).is_some()
    }

    /// Takes this address.
    ///
    /// # Errors
    /// When it is of another network, or somebody has it.
    pub fn take(&mut self, wanted: IpAddr) -> Result<(), AddressError> {
        if !self.subnet.contains(wanted) {
            return Err(AddressError::OutOfRange(wanted));
        }
        if self.is_taken(wanted) {
            return Err(AddressError::InUse);
        }
        self.mark(number(wanted));
        Ok(())
    }

    /// Takes the next free address of the range.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_next(&mut self) -> Result<IpAddr, AddressError> {
        let (start, end) = (number(self.range.first()), number(self.range.last()));
        let from = self.cursor.clamp(start, end);
        let free = self
            .free_in(from, end)
            .or_else(|| self.free_in(start, end))
            .ok_or(AddressError::Exhausted)?;
        self.mark(free);
        self.cursor = if free == end { start } else { free + 1 };
        Ok(address(free, self.subnet.address()))
    }

    fn free_in(&self, from: u128, end: u128) -> Option<u128> {
        let mut at = from;
        // Runs do not touch: at most one is in the way.
        if let Some((_, last)) = self.run_of(at) {
            at = last.checked_add(1)?;
        }
        (at <= end).then_some(at)
    }

    /// Gives an address back. One that nobody has is fine.
    pub fn release(&mut self, address: IpAddr) {
        let n = number(address);
        if !self.subnet.contains(address) {
            return;
        }
        if let Some((first, last)) = self.run_of(n) {
            self.taken.remove(&first);
            if first < n {
                self.taken.insert(first, n - 1);
            }
            if n < last {
                self.taken.insert(n + 1, last);
            }
        }
    }

    /// How many are taken, those that name the network included.
    #[must_use]
    pub fn taken_count(&self) -> u128 {
        self.taken
            .iter()
            .map(|(first, last)| (last - first).saturating_add(1))
            .fold(0, u128::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn subnet(text: &str) -> SubnetAddresses {
        SubnetAddresses::new(text.parse().unwrap(), None)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_come_in_order_and_a_released_one_rests() {
        let mut addresses = subnet("172.17.0.0/16");
        addresses.take(ip("172.17.0.1")).unwrap();
        assert_eq!(addresses.take_next(), Ok(ip("172.17.0.2")));
        assert_eq!(addresses.take_next(), Ok(ip("172.17.0.3")));
        addresses.release(ip("172.17.0.2"));
        assert_eq!(addresses.take_next(), Ok(ip("172.17.0.4")));
        assert_eq!(addresses.take(ip("172.17.0.3")), Err(AddressError::InUse));
        assert_eq!(
            addresses.take(ip("172.17.255.255")),
            Err(AddressError::InUse)
        );
        assert_eq!(
            addresses.take(ip("10.0.0.1")),
            Err(AddressError::OutOfRange(ip("10.0.0.1")))
        );
    }

    #[test]
    fn a_small_subnet_runs_out_and_comes_back() {
        let mut addresses = subnet("10.0.0.0/30");
        assert_eq!(addresses.take_next(), Ok(ip("10.0.0.1")));
        assert_eq!(addresses.take_next(), Ok(ip("10.0.0.2")));
        assert_eq!(addresses.take_next(), Err(AddressError::Exhausted));
        addresses.release(ip("10.0.0.1"));
        assert_eq!(addresses.take_next(), Ok(ip("10.0.0.1")));
        let mut pair = subnet("10.0.0.0/31");
        assert_eq!(pair.take_next(), Ok(ip("10.0.0.0")));
        assert_eq!(pair.take_next(), Ok(ip("10.0.0.1")));
        let mut all = subnet("::/0");
        assert_eq!(all.take_next(), Ok(ip("::1")));
    }

    #[test]
    fn a_range_bounds_what_is_chosen_but_not_what_is_asked() {
        let mut addresses = SubnetAddresses::new(
            "10.0.0.0/24".parse().unwrap(),
            Some("10.0.0.128/30".parse().unwrap()),
        );
        let chosen: Vec<_> = (0..4)
            .map(|_| addresses.take_next().unwrap().to_string())
            .collect();
        assert_eq!(
            chosen,
            ["10.0.0.128", "10.0.0.129", "10.0.0.130", "10.0.0.131"]
        );
        assert_eq!(addresses.take_next(), Err(AddressError::Exhausted));
        assert_eq!(addresses.take(ip("10.0.0.7")), Ok(()));
    }

    #[test]
    fn a_full_subnet_of_thousands_is_one_run() {
        let mut addresses = subnet("172.17.0.0/16");
        let mut seen = BTreeSet::new();
        while let Ok(address) = addresses.take_next() {
            assert!(seen.insert(address));
        }
        assert_eq!(seen.len(), 65_534);
        assert_eq!(addresses.taken.len(), 1);
        assert_eq!(addresses.taken_count(), 65_536);
    }

    proptest::proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(steps in proptest::collection::vec((0_u8..3, 0_u32..64), 0..300)) {
            let mut addresses = subnet("10.0.0.0/26");
            let mut model: BTreeSet<u32> = [0, 63].into();
            for (what, n) in steps {
                let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
                match what {
                    0 => proptest::prop_assert_eq!(addresses.take(address).is_ok(), model.insert(n)),
                    1 => {
                        addresses.release(address);
                        model.remove(&n);
                    }
                    _ => match addresses.take_next() {
                        Ok(IpAddr::V4(given)) => {
                            proptest::prop_assert!(model.insert(u32::from(given) - 0x0a00_0000));
                        }
                        _ => proptest::prop_assert_eq!(model.len(), 64),
                    },
                }
                proptest::prop_assert_eq!(addresses.taken_count(), model.len() as u128);
            }
        }
    }
}
