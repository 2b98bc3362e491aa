//! A host, containers and neighbours, each a network namespace, and servers and clients in them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use berth_net::firewall::{
    Change, Endpoint, Firewall, Network, Parts, Policy, Protocol, Published,
};

use crate::namespace::{Namespace, wait_until};

/// How long a client waits before it calls a port unreachable.
const PATIENCE: Duration = Duration::from_millis(700);

/// The host with its firewall.
pub(super) struct Host {
    pub(super) namespace: Namespace,
    pub(super) firewall: Firewall,
}

impl Host {
    /// A host with an outside interface `eth0` (192.0.2.1, 2001:db8::1) and the neighbour behind it (….2).
    pub(super) fn new() -> (Self, Namespace) {
        Self::on(Namespace::new())
    }

    /// As [`Host::new`], with what is there already.
    pub(super) fn on(namespace: Namespace) -> (Self, Namespace) {
        let outside = Namespace::new();
        quick(&namespace);
        quick(&outside);
        // Namespaces inherit this from the machine.
        namespace.command("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
        wire(&namespace, "eth0", &outside);
        for (side, last) in [(&namespace, 1), (&outside, 2)] {
            side.command(&format!("ip addr add 192.0.2.{last}/24 dev eth0"));
            side.command(&format!("ip addr add 2001:db8::{last}/64 dev eth0 nodad"));
            side.command("ip link set eth0 up");
        }
        for side in [&namespace, &outside] {
            wait_until("the outside link is up", || {
                side.command("ip -o link show eth0").contains("state UP")
            });
        }
        let mut firewall = namespace.run(|| Firewall::open("berth-test").unwrap());
        namespace.run(|| firewall.enable_forwarding(true, true).unwrap());
        let host = Self {
            namespace,
            firewall,
        };
        (host, outside)
    }

    /// A bridge with the subnets 10.NUMBER.0.0/24 and fd00:NUMBER::/64, and the network on it after `change`.
    pub(super) fn network(&mut self, number: u8, change: impl FnOnce(&mut Network)) -> Network {
        let bridge = format!("br{number}");
        let namespace = &self.namespace;
        namespace.command(&format!("ip link add {bridge} type bridge"));
        namespace.command(&format!("ip addr add 10.{number}.0.1/24 dev {bridge}"));
        namespace.command(&format!(
            "ip addr add fd00:{number}::1/64 dev {bridge} nodad"
        ));
        namespace.command(&format!("ip link set {bridge} up"));
        namespace.command(&format!(
            "sysctl -qw net.ipv4.conf.{bridge}.route_localnet=1"
        ));
        let subnets = vec![
            format!("10.{number}.0.0/24").parse().unwrap(),
            format!("fd00:{number}::/64").parse().unwrap(),
        ];
        let mut network = Network::new(bridge, subnets);
        change(&mut network);
        self.apply(Parts {
            networks: vec![network.clone()],
            ..Parts::default()
        });
        network
    }

    /// A container on the bridge with the addresses 10.N.0.LAST and fd00:N::LAST.
    pub(super) fn container(&mut self, number: u8, last: u8) -> Namespace {
        let container = Namespace::new();
        let port = format!("v{number}-{last}");
        quick(&container);
        wire(&self.namespace, &port, &container);
        self.namespace
            .command(&format!("ip link set {port} master br{number} up"));
        container.command(&format!("ip addr add 10.{number}.0.{last}/24 dev eth0"));
        container.command(&format!(
            "ip addr add fd00:{number}::{last}/64 dev eth0 nodad"
        ));
        container.command("ip link set eth0 up");
        container.command(&format!("ip route add default via 10.{number}.0.1"));
        container.command(&format!("ip -6 route add default via fd00:{number}::1"));
        // With br_netfilter, a packet to the container's own published port comes back on the port it came from.
        self.namespace
            .command(&format!("bridge link set dev {port} hairpin on"));
        wait_until("the bridge port forwards", || {
            self.namespace
                .command(&format!("bridge -o link show dev {port}"))
                .contains("state forwarding")
        });
        self.apply(Parts {
            endpoints: vec![Endpoint {
                bridge: format!("br{number}"),
                port,
                addresses: vec![v4(number, last), v6(number, last)],
            }],
            ..Parts::default()
        });
        container
    }

    /// Adds parts.
    pub(super) fn apply(&mut self, added: Parts) {
        let firewall = &mut self.firewall;
        self.namespace.run(|| {
            firewall
                .apply(&Change {
                    added,
                    ..Change::default()
                })
                .unwrap_or_else(|error| {
                    panic!("{error}: {}", std::error::Error::source(&error).unwrap())
                });
        });
    }

    /// Removes parts.
    pub(super) fn withdraw(&mut self, removed: Parts) {
        let firewall = &mut self.firewall;
        self.namespace.run(|| {
            firewall
                .apply(&Change {
                    removed,
                    ..Change::default()
                })
                .unwrap();
        });
    }

    /// Publishes a port.
    pub(super) fn publish(&mut self, port: Published) {
        self.apply(Parts {
            ports: vec![port],
            ..Parts::default()
        });
    }
}

/// Lets addresses be used at once, without looking for others that have them (RFC 4862, 5.4).
fn quick(namespace: &Namespace) {
    namespace
        .command("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
}

/// Joins two namespaces by a veth pair: `link` here, `eth0` there.
pub(super) fn wire(here: &Namespace, link: &str, there: &Namespace) {
    let descriptor = there.as_fd().as_raw_fd();
    here.command(&format!(
        "ip link add {link} type veth peer name eth0 netns /proc/{}/fd/{descriptor}",
        std::process::id()
    ));
}

/// The IPv4 address of a container.
pub(super) fn v4(number: u8, last: u8) -> IpAddr {
    format!("10.{number}.0.{last}").parse().unwrap()
}

/// The IPv6 address of a container.
pub(super) fn v6(number: u8, last: u8) -> IpAddr {
    format!("fd00:{number}::{last}").parse().unwrap()
}

/// TCP `host`:`first` → `container`:80.
pub(super) fn published(number: u8, host: &str, first: u16, container: IpAddr) -> Published {
    Published {
        bridge: format!("br{number}"),
        protocol: Protocol::Tcp,
        host: host.parse().unwrap(),
        first,
        count: 1,
        container,
        container_port: 80,
        policy: Policy::Compat,
    }
}

/// A server that tells each client, by TCP and UDP, the address it came from, until it is dropped.
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens on a port of all addresses inside `namespace`.
    pub(super) fn start(namespace: &Namespace, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tcp, udp) = namespace.run(|| {
            (
                TcpListener::bind(("::", port)).unwrap(),
                UdpSocket::bind(("::", port)).unwrap(),
            )
        });
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let flag = Arc::clone(&stop);
        let streams = std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut stream, peer)) => {
                        let _ = stream.write_all(plain(peer.ip()).as_bytes());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let flag = Arc::clone(&stop);
        let packets = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !flag.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(plain(peer.ip()).as_bytes(), peer);
                }
            }
        });
        Self {
            stop,
            threads: vec![streams, packets],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn plain(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// What a server at `to` says to a TCP client in `from`: the address it saw; nothing when it is not reached.
pub(super) fn ask(from: &Namespace, to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    })
}

/// The same by UDP.
pub(super) fn ask_udp(from: &Namespace, to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(|| {
        let any: IpAddr = if to.is_ipv4() {
            "0.0.0.0".parse().unwrap()
        } else {
            "::".parse().unwrap()
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"?").ok()?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    })
}
