//! Pools, subnets and addresses: which are free, which clash. Pure; the kernel is asked by `link`.
//!
//! Owns the arithmetic of prefixes ([`Prefix`]), the choice of subnets from pools ([`Pools`]) and the book of
//! addresses taken in one subnet ([`SubnetAddresses`]). Knows neither networks nor containers: callers say what is
//! taken, by whom, and get an answer.

mod hardware;
mod pools;
mod prefix;
mod subnet;

pub use hardware::{HardwareAddress, HardwareAddressError};
pub use pools::{Pool, PoolError, PoolExhausted, Pools, Taken, unique_local_pool};
pub use prefix::{Prefix, PrefixError};
pub use subnet::{AddressError, SubnetAddresses};
