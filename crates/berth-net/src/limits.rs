//! Bounds on sizes, counts and times.

use std::time::Duration;

/// Holders of ranges that the error of an exhausted pool names.
pub const HOLDERS_TOLD: usize = 32;

/// Largest document of a network's names, in bytes: 65,536 members with a few names each.
pub const DNS_DOCUMENT: u64 = 16 << 20;
/// Largest resolver configuration of the host that is read, in bytes.
pub const RESOLV_CONF: u64 = 64 << 10;
/// Name servers of a resolver configuration that are asked. Docker's bound, and that of the C library (`MAXNS`).
pub const DNS_SERVERS: usize = 3;
/// Longest query by UDP, in bytes; also the payload size we announce. A longer one is refused.
pub const DNS_UDP_QUERY: usize = 4096;
/// Longest message of DNS, in bytes (RFC 1035, 4.2.2: a length of two bytes).
pub const DNS_MESSAGE: usize = 65_535;
/// Queries of one container that wait for outside servers at once, each with a socket of its own.
pub const DNS_IN_FLIGHT: usize = 256;
/// Queries that wait for one of those places.
pub const DNS_WAITING: usize = 1024;
/// Packets taken from a socket before others get their turn.
pub const DNS_BATCH: usize = 64;
/// Connections of a container's programs to its resolver at once; one more closes the one that was idle for longest.
pub const DNS_CONNECTIONS: usize = 32;
/// Queries of one connection that wait for their answers; it is not read further until there are fewer.
pub const DNS_PIPELINE: usize = 32;
/// Bytes of answers that wait for one connection; it is not read further until there are fewer.
pub const DNS_BACKLOG: usize = 128 << 10;
/// How long a connection may be idle, or sit on a half query or an unread answer (RFC 7766, 6.2.3: a few seconds).
pub const DNS_IDLE: Duration = Duration::from_secs(10);
/// How long one server is waited for. Clients ask again after 5 seconds; a second server must have had its turn by then.
pub const DNS_ATTEMPT: Duration = Duration::from_millis(1500);
/// How often the list of servers is gone through.
pub const DNS_ROUNDS: usize = 2;
/// How long a server that did not answer is asked after all others.
pub const DNS_SILENT: Duration = Duration::from_secs(30);
/// Packets of one outside server that answer something else before it is given up.
pub const DNS_STRAY: usize = 16;
/// Seconds that our own answers may be kept. Docker says 600, and clients that believe it lose a container that was
/// made anew for ten minutes.
pub const DNS_TTL: u32 = 5;

/// Time the kernel has to answer what was asked over netlink; it answers before the send returns, so this only
/// ends a wait for an answer that got lost.
pub const NETLINK_ANSWER: std::time::Duration = std::time::Duration::from_secs(10);

/// Bytes of one netlink datagram; the kernel fills listings up to 32 KiB at a time.
pub const NETLINK_DATAGRAM: usize = 64 << 10;

/// Entries of one netlink listing that are taken.
pub const DUMP_ENTRIES: usize = 1 << 20;

/// How often a listing is made again that changed while it was read.
pub const DUMP_ATTEMPTS: usize = 16;

/// Notifications read at once before they are told of.
pub const NOTIFICATIONS_AT_ONCE: usize = 256;

/// Bytes of a link's name, without the terminating zero (`IFNAMSIZ`).
pub const LINK_NAME: usize = 15;

/// Sandboxes held ready when nobody asks for any.
pub const POOL_LEAST: usize = 4;

/// Sandboxes held ready at most, however many are asked for.
pub const POOL_MOST: usize = 32;

/// Time without demand after which the pool halves what it holds ready.
pub const POOL_IDLE: std::time::Duration = std::time::Duration::from_secs(30);

/// Network namespaces made at the same time: more only wait for each other in the kernel.
pub const NAMESPACES_AT_ONCE: usize = 2;

/// Time a bridge has to notice that a new port is up, before an endpoint counts as attached all the same.
pub const PORT_FORWARDS: std::time::Duration = std::time::Duration::from_millis(200);

/// Time between looks at whether it has.
pub const PORT_LOOKS: std::time::Duration = std::time::Duration::from_micros(100);

/// Settings (`sysctl`) of one endpoint.
pub const ENDPOINT_SETTINGS: usize = 64;

/// Bytes of the name or the value of one setting.
pub const SETTING_LENGTH: usize = 256;

/// Bytes of the largest packet on a host that has no default route: Ethernet's.
pub const MTU_WITHOUT_ROUTE: u32 = 1500;

/// Bytes of the largest packet, at least: what IPv4 needs (RFC 791).
pub const MTU_LEAST: u32 = 68;

/// Bytes of the largest packet, at most: what a length in an IP header holds.
pub const MTU_MOST: u32 = 65535;

/// Bytes of a mark kept with a link (`IFALIASZ`, less the terminating zero).
pub const LINK_ALIAS: usize = 255;
/// Ranges of published ports with at least so many ports that keep their numbers are one interval in the kernel.
pub const RANGE_AS_INTERVAL: u16 = 16;
/// How long the kernel may take to answer about filtering; it answers at once, unless others change a lot.
pub const FIREWALL_ANSWER: Duration = Duration::from_secs(10);
/// Bytes that a change of the firewall may take: a whole table with 100,000 ports.
pub const FIREWALL_BUFFER: usize = 32 << 20;
/// Bytes of one datagram from netfilter; the kernel makes them at most half as long.
pub const FIREWALL_DATAGRAM: usize = 64 << 10;
/// How often a list is begun again that changed while it was read.
pub const FIREWALL_DUMPS: u32 = 16;
/// Elements of one message; its length is a number of 16 bits.
pub const FIREWALL_ELEMENTS: usize = 256;
/// Bytes of notices about changed rules that may wait to be read; losing some costs one comparison.
pub const FIREWALL_WATCH_BUFFER: usize = 1 << 20;
/// Connections to a held port that wait to be taken; the kernel caps it at `somaxconn`.
pub const HELD_BACKLOG: i32 = 4096;
/// Connections and flows of datagrams that one container's forwarder carries at once.
pub const FORWARD_SESSIONS: usize = 400;
/// Events or clients of one turn of the forwarder; the monitor's other work comes between.
pub const FORWARD_BATCH: usize = 64;
/// Bytes read at once from one end of a forwarded connection, and held at most for each direction.
pub const FORWARD_BUFFER: usize = 64 << 10;
/// Largest datagram, in bytes (RFC 768: a length of 16 bits).
pub const FORWARD_DATAGRAM: usize = 65_535;
/// How long a flow of datagrams is kept without any. Docker's value.
pub const FORWARD_FLOW_IDLE: Duration = Duration::from_secs(90);
