//! Answers to names inside a container: the responder that the monitor runs.
//!
//! - [`names`] is the document of a network's members: the engine writes it, every monitor reads it;
//!   [`table`] looks names and addresses up over all networks of one container.
//! - [`sockets`] opens the resolver's sockets on 127.0.0.11 inside a network namespace.
//! - [`Responder`] answers on them and forwards the rest. It has no thread: the monitor's loop turns it.
//! - [`resolv_conf`] and [`hosts`] make the container's files. They are pure but for reading the host's.
//!
//! Owns no decision about which networks there are, who is called what, or whether a container may ask outside.
//! Everything that arrives from a container, and every packet of an outside server, is hostile: the codec is
//! hickory-proto's, and every count, size and time is in [`crate::limits`].

pub mod hosts;
mod message;
pub mod names;
pub mod resolv_conf;
mod responder;
pub mod settings;
pub mod sockets;
pub mod table;
mod upstream;

pub use responder::Responder;
pub use settings::DnsSettings;
pub use sockets::DnsSockets;

/// Reads a query of a container and a server's answer to it, one after the other in the same bytes: two bytes say how
/// long the query is.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_packets(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(bytes.len());
    let (query, answer) = bytes.split_at(length);
    let message::Received::Query(query) = message::Query::parse(query) else {
        return;
    };
    let _ = (
        query.name(),
        query.reversed(),
        query.labels(),
        query.wanted(),
    );
    let limit = query.limit();
    let addresses = [std::net::IpAddr::from([10, 0, 0, 1]); 64];
    assert!(query.with_addresses(&addresses, limit).len() <= limit);
    let _ = query.with_name("name");
    let _ = query.judge(answer, query.id);
}
