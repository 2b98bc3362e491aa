//! Networks as the kernel has them: links, namespaces, addresses, filtering, published ports, and answers to names.
//!
//! Everything here is synchronous. What is wanted is decided by pure functions over plain data ([`address`],
//! the plans of [`firewall`]); what carries it out speaks netlink and nothing else, without any program on the path.
//! It knows no records, no containers and no daemon: the engine says which networks and endpoints there shall be.
//! The monitor uses only [`dns`] and the forwarding of [`firewall`].

pub mod address;
pub mod dns;
pub mod firewall;
mod inside;
pub mod limits;
pub mod link;
pub mod netlink;
pub mod sandbox;

#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    //! Ways in for fuzzing, for the crate `berth-fuzz`.

    /// Reads a query of a container and a server's answer to it: two bytes say how long the query is.
    pub fn packets(bytes: &[u8]) {
        crate::dns::fuzz_packets(bytes);
    }
}
