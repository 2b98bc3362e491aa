//! The choice of a subnet: the first of the pools' parts that clashes with nothing.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::Prefix;
use super::prefix::{address, number};
use crate::limits;

/// A range that is cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The whole range.
    pub base: Prefix,
    /// Prefix length of a subnet.
    pub size: u8,
}

/// Why a range is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Subnets larger than the range, or than the family has bits.
    #[error("invalid address pool {base}: subnets of /{size} cannot be cut from it")]
    Size {
        /// The range.
        base: Prefix,
        /// The size asked for.
        size: u8,
    },
}

/// What may not be handed out, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The range.
    pub prefix: Prefix,
    /// In words: `network web`, `the route of eth0`, …
    pub holder: String,
}

/// Every subnet of the pools clashes with something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("all predefined address pools have been fully subnetted{}", told(.holders))]
pub struct PoolExhausted {
    /// Who holds what lies in the pools, in the order of the ranges.
    pub holders: Vec<Taken>,
}

fn told(holders: &[Taken]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let mut text = String::from(": held by ");
    let shown = holders.len().min(limits::HOLDERS_TOLD);
    for (i, taken) in holders.iter().take(shown).enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(&format!("{} ({})", taken.holder, taken.prefix));
    }
    if holders.len() > shown {
        text.push_str(&format!(" and {} more", holders.len() - shown));
    }
    text
}

impl Pool {
    /// A range cut into subnets of `size`.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn new(base: Prefix, size: u8) -> Result<Self, PoolError> {
        if size < base.length() || size > base.bits() || size == 0 {
            return Err(PoolError::Size { base, size });
        }
        Ok(Self {
            base: base.network(),
            size,
        })
    }
}

/// The pools subnets are chosen from, in the order they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools(Vec<Pool>);

impl Default for Pools {
    /// Docker's well-known ranges in small parts: a host then has room for thousands of networks, and each takes
    /// little that somebody else may want. The range of the default bridge comes last.
    fn default() -> Self {
        let v4 = |a: u8, b: u8, length: u8| Pool {
            base: Prefix::new(IpAddr::from([a, b, 0, 0]), length)
                .unwrap_or_else(|| Prefix::host(IpAddr::from([a, b, 0, 0]))),
            size: 24,
        };
        let mut pools: Vec<Pool> = (18..32).map(|b| v4(172, b, 16)).collect();
        pools.push(v4(192, 168, 16));
        pools.push(v4(172, 17, 16));
        Self(pools)
    }
}

/// The IPv6 pool of a host: a unique local prefix of 48 bits (RFC 4193) from what tells hosts apart, cut into
/// subnets of 64 bits. The same host has the same pool every time.
#[must_use]
pub fn unique_local_pool(host: &[u8]) -> Pool {
    // FNV-1a; forty bits of it are the global id.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in host {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0100_0000_01b3);
    }
    let global = u128::from((hash ^ (hash >> 40)) & 0xff_ffff_ffff);
    let base = Ipv6Addr::from((0xfd_u128 << 120) | (global << 80));
    Pool {
        base: Prefix::new(IpAddr::V6(base), 48).unwrap_or_else(|| Prefix::host(IpAddr::V6(base))),
        size: 64,
    }
}

impl Pools {
    /// These pools, tried in order.
    #[must_use]
    pub fn new(pools: Vec<Pool>) -> Self {
        Self(pools)
    }

    /// The pools.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.0.iter()
    }

    /// Whether a family has a pool.
    #[must_use]
    pub fn has_family(&self, ipv4: bool) -> bool {
        self.0.iter().any(|p| p.base.is_ipv4() == ipv4)
    }

    /// The first subnet of the family that overlaps nothing that is taken; of `size` where that is given.
    ///
    /// Takes time in what is taken, not in the size of pools: a range that is in the way is stepped over whole.
    ///
    /// # Errors
    /// When there is none, with those who hold the pools.
    pub fn choose(
        &self,
        ipv4: bool,
        size: Option<u8>,
        taken: &[Taken],
    ) -> Result<Prefix, PoolExhausted> {
        let mut sorted: Vec<&Taken> = taken
            .iter()
            .filter(|t| t.prefix.is_ipv4() == ipv4)
            .collect();
        sorted.sort_by_key(|t| (number(t.prefix.first()), t.prefix.length()));
        let mut holders: Vec<Taken> = Vec::new();
        for pool in self.0.iter().filter(|p| p.base.is_ipv4() == ipv4) {
            let size = size.unwrap_or(pool.size);
            if size < pool.base.length() || size > pool.base.bits() {
                continue;
            }
            if let Some(free) = first_free(pool.base, size, &sorted) {
                return Ok(free);
            }
            holders.extend(
                sorted
                    .iter()
                    .filter(|t| t.prefix.overlaps(&pool.base))
                    .map(|t| (*t).clone()),
            );
        }
        holders.dedup();
        Err(PoolExhausted { holders })
    }
}

/// `taken` is sorted by first address.
fn first_free(base: Prefix, size: u8, taken: &[&Taken]) -> Option<Prefix> {
    let free_bits = u32::from(base.bits() - size);
    let step = 1_u128.checked_shl(free_bits)?;
    let end = number(base.last());
    let mut at = number(base.first());
    for range in taken {
        let (first, last) = (number(range.prefix.first()), number(range.prefix.last()));
        if last < at {
            continue;
        }
        if first > end || first >= at.checked_add(step)? {
            break;
        }
        // In the way: on to the next multiple of the size behind it.
        let next = last.checked_add(1)?;
        at = next.checked_add(step - 1)? / step * step;
        if at > end {
            return None;
        }
    }
    (at.checked_add(step - 1)? <= end)
        .then(|| Prefix::new(address(at, base.address()), size))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(texts: &[&str]) -> Vec<Taken> {
        texts
            .iter()
            .map(|t| Taken {
                prefix: t.parse().unwrap(),
                holder: format!("holder of {t}"),
            })
            .collect()
    }

    #[test]
    fn the_first_free_part_is_chosen_around_what_is_taken() {
        let pools = Pools::default();
        let choose = |t: &[&str]| pools.choose(true, None, &taken(t)).unwrap().to_string();
        assert_eq!(choose(&[]), "172.18.0.0/24");
        assert_eq!(choose(&["172.18.0.0/24"]), "172.18.1.0/24");
        assert_eq!(
            choose(&["172.18.0.128/25", "172.18.1.7/32"]),
            "172.18.2.0/24"
        );
        assert_eq!(choose(&["172.16.0.0/12"]), "192.168.0.0/24");
        assert_eq!(choose(&["172.18.1.0/24"]), "172.18.0.0/24");
        assert_eq!(
            pools
                .choose(true, Some(26), &taken(&["172.18.0.0/27"]))
                .unwrap()
                .to_string(),
            "172.18.0.64/26"
        );
    }

    #[test]
    fn an_exhausted_pool_names_who_holds_it() {
        let pools = Pools::new(vec![Pool::new("10.9.0.0/23".parse().unwrap(), 24).unwrap()]);
        let error = pools
            .choose(true, None, &taken(&["10.9.0.0/24", "10.0.0.0/8"]))
            .unwrap_err();
        assert_eq!(error.holders.len(), 2);
        let text = error.to_string();
        assert!(
            text.contains("holder of 10.9.0.0/24 (10.9.0.0/24)"),
            "{text}"
        );
        assert!(pools.choose(false, None, &[]).is_err());
    }

    #[test]
    fn a_host_has_one_ipv6_pool() {
        let pool = unique_local_pool(b"one");
        assert_eq!(pool, unique_local_pool(b"one"));
        assert_ne!(pool, unique_local_pool(b"two"));
        assert!(pool.base.to_string().starts_with("fd"));
        assert_eq!((pool.base.length(), pool.size), (48, 64));
        let chosen = Pools::new(vec![pool]).choose(false, None, &[]).unwrap();
        assert!(pool.base.contains(chosen.first()));
    }

    proptest::proptest! {
        #[test]
        fn what_is_chosen_overlaps_nothing_and_lies_in_a_pool(
            ranges in proptest::collection::vec((0_u32..=0x000f_ffff, 12_u8..=32), 0..200),
            size in proptest::option::of(16_u8..=28),
        ) {
            let taken: Vec<Taken> = ranges
                .iter()
                .map(|(low, length)| Taken {
                    prefix: Prefix::new(IpAddr::V4((0xac10_0000 | low).into()), *length).unwrap(),
                    holder: String::new(),
                })
                .collect();
            let pools = Pools::default();
            match pools.choose(true, size, &taken) {
                Ok(subnet) => {
                    proptest::prop_assert!(subnet.is_network());
                    proptest::prop_assert_eq!(subnet.length(), size.unwrap_or(24));
                    proptest::prop_assert!(taken.iter().all(|t| !t.prefix.overlaps(&subnet)));
                    proptest::prop_assert!(pools.iter().any(|p| p.base.contains(subnet.first()) && p.base.contains(subnet.last())));
                }
                // 192.168.0.0/16 is never taken here.
                Err(_) => proptest::prop_assert!(false),
            }
        }
    }
}
