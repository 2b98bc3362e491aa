//! Held ports, and what is carried where the kernel cannot translate.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use berth_net::firewall::{Forwarder, Policy, Protocol, Published, Route, hold};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::topology::{Host, Server, ask, ask_udp, published, v4, v6};
use crate::namespace::Namespace;

/// Drives a forwarder inside `namespace` while `test` runs.
fn while_forwarding(namespace: &Namespace, routes: Vec<Route>, test: impl FnOnce()) {
    while_forwarding_into(namespace, None, routes, test);
}

/// The same for one container, whose namespace is prepared.
fn while_forwarding_into(
    namespace: &Namespace,
    container: Option<OwnedFd>,
    routes: Vec<Route>,
    test: impl FnOnce(),
) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let carrier = scope.spawn(move || {
            namespace.run(|| {
                let mut forwarder = Forwarder::new(container).unwrap();
                for route in routes {
                    forwarder.add(route).unwrap();
                }
                while !stop.load(Ordering::Relaxed) {
                    let wait = Timespec {
                        tv_sec: 0,
                        tv_nsec: 10_000_000,
                    };
                    let mut descriptors = [PollFd::new(&forwarder, PollFlags::IN)];
                    let _ = poll(&mut descriptors, Some(&wait));
                    forwarder.turn(Instant::now()).unwrap();
                }
            });
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        stop.store(true, Ordering::Relaxed);
        carrier.join().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

fn routes(
    namespace: &Namespace,
    host: &str,
    port: u16,
    target: IpAddr,
    policy: Policy,
) -> Vec<Route> {
    let host: IpAddr = host.parse().unwrap();
    namespace.run(|| {
        [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| Route {
                socket: hold(protocol, host, port).unwrap().unwrap(),
                protocol,
                target: SocketAddr::new(target, 80),
                policy,
            })
            .into()
    })
}

#[test]
fn loopback_of_ipv6_and_a_container_without_ipv6_are_served() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let _server = Server::start(&web, 80);
    let mut all = Vec::new();
    for (address, container) in [("0.0.0.0", v4(11, 2)), ("::", v6(11, 2))] {
        let tcp = published(11, address, 8080, container);
        host.publish(Published {
            protocol: Protocol::Udp,
            ..tcp.clone()
        });
        host.publish(tcp);
        all.extend(routes(
            &host.namespace,
            address,
            8080,
            container,
            Policy::Compat,
        ));
    }
    // An IPv6 port of a container that is taken to have IPv4 only.
    all.extend(routes(
        &host.namespace,
        "::",
        8081,
        v4(11, 2),
        Policy::Compat,
    ));
    while_forwarding(&host.namespace, all, || {
        for asked in [ask, ask_udp] {
            assert!(asked(&host.namespace, "[::1]:8080").is_some());
            assert!(asked(&host.namespace, "127.0.0.1:8080").is_some());
            assert!(asked(&host.namespace, "[::1]:8081").is_some());
            assert_eq!(
                asked(&outside, "[2001:db8::1]:8081").as_deref(),
                Some("10.11.0.1")
            );
            // Translated, not carried: the container sees who asks.
            assert_eq!(
                asked(&outside, "192.0.2.1:8080").as_deref(),
                Some("192.0.2.2")
            );
        }
        // Also while our table is gone for a moment.
        host.namespace.command("nft flush ruleset");
        assert!(ask(&outside, "192.0.2.1:8080").is_some());
    });
}

#[test]
fn the_policy_loopback_serves_the_host_even_without_rules() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let _server = Server::start(&web, 80);
    let all = routes(
        &host.namespace,
        "0.0.0.0",
        8080,
        v4(11, 2),
        Policy::Loopback,
    );
    while_forwarding(&host.namespace, all, || {
        host.namespace.command("nft flush ruleset");
        for asked in [ask, ask_udp] {
            assert!(asked(&host.namespace, "127.0.0.1:8080").is_some());
            assert!(asked(&host.namespace, "192.0.2.1:8080").is_some());
            assert!(asked(&outside, "192.0.2.1:8080").is_none());
        }
    });
}

#[test]
fn under_firewall_the_hosts_rules_decide_and_the_client_is_seen() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let _server = Server::start(&web, 80);
    for line in [
        "nft add table inet filter",
        "nft add chain inet filter input { type filter hook input priority 0 ; policy drop ; }",
        "nft add rule inet filter input ct state established,related accept",
        "nft add rule inet filter input meta l4proto { icmp, icmpv6 } accept",
        "nft add rule inet filter input meta l4proto { tcp, udp } th dport 8080 accept",
    ] {
        host.namespace.command(line);
    }
    let mut all = Vec::new();
    for (address, container) in [("0.0.0.0", v4(11, 2)), ("::", v6(11, 2))] {
        for port in [8080, 8081] {
            let mut tcp = published(11, address, port, container);
            tcp.policy = Policy::Firewall;
            host.publish(Published {
                protocol: Protocol::Udp,
                ..tcp.clone()
            });
            host.publish(tcp);
            let policy = Policy::Firewall;
            all.extend(routes(&host.namespace, address, port, container, policy));
        }
    }
    // Preparing again changes nothing.
    for _ in 0..2 {
        berth_net::firewall::keep_clients(&web).unwrap();
    }
    let container = web.as_fd().try_clone_to_owned().unwrap();
    while_forwarding_into(&host.namespace, Some(container), all, || {
        for asked in [ask, ask_udp] {
            let from_outside = |to: &str| asked(&outside, to);
            assert_eq!(from_outside("192.0.2.1:8080").as_deref(), Some("192.0.2.2"));
            let v6 = from_outside("[2001:db8::1]:8080");
            assert_eq!(v6.as_deref(), Some("2001:db8::2"));
            for closed in ["192.0.2.1:8081", "[2001:db8::1]:8081"] {
                assert_eq!(from_outside(closed), None, "{closed}");
            }
            // The host's own programs are not asked about.
            assert!(asked(&host.namespace, "127.0.0.1:8081").is_some());
            assert!(asked(&host.namespace, "192.0.2.1:8081").is_some());
            assert!(asked(&host.namespace, "[::1]:8080").is_some());
            // What the container itself asks outside goes out as before.
            let _other = Server::start(&outside, 80);
            assert!(asked(&web, "192.0.2.2:80").is_some());
        }
    });
}

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked() {
    let (mut host, outside) = Host::new();
    host.namespace.command("ip addr add 192.0.2.9/24 dev eth0");
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let _server = Server::start(&web, 80);
    let all = routes(&host.namespace, "0.0.0.0", 8080, v4(11, 2), Policy::Compat);
    while_forwarding(&host.namespace, all, || {
        // A connected socket takes answers from that address alone.
        for own in ["192.0.2.9:8080", "192.0.2.1:8080"] {
            assert!(ask_udp(&outside, own).is_some(), "{own}");
        }
    });
}

#[test]
fn large_streams_arrive_whole_and_half_closed() {
    let (mut host, _outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let listener = web.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let all = routes(
        &host.namespace,
        "127.0.0.1",
        8080,
        v4(11, 2),
        Policy::Compat,
    );
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut whole = Vec::new();
        stream.read_to_end(&mut whole).unwrap();
        stream.write_all(&whole).unwrap();
    });
    while_forwarding(&host.namespace, all, || {
        host.namespace.run(|| {
            let sent: Vec<u8> = (0..16_000_000_u32).map(|n| (n % 251) as u8).collect();
            let begun = Instant::now();
            let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(sent == back);
            eprintln!("carried 2 × 16 MB in {:?}", begun.elapsed());
        });
    });
    echo.join().unwrap();
}

#[test]
fn a_taken_port_is_told_in_dockers_words() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let first = hold(Protocol::Tcp, "0.0.0.0".parse().unwrap(), 8080).unwrap();
        let error = hold(Protocol::Tcp, "0.0.0.0".parse().unwrap(), 8080).unwrap_err();
        assert_eq!(
            error.to_string(),
            "listen tcp4 0.0.0.0:8080: bind: address already in use"
        );
        assert!(error.is_taken());
        // Another family, protocol or address is another port.
        hold(Protocol::Tcp, "::".parse().unwrap(), 8080).unwrap();
        hold(Protocol::Udp, "0.0.0.0".parse().unwrap(), 8080).unwrap();
        drop(first);
        hold(Protocol::Tcp, "0.0.0.0".parse().unwrap(), 8080).unwrap();
        let error = hold(Protocol::Tcp, "192.0.2.77".parse().unwrap(), 80).unwrap_err();
        assert_eq!(
            error.to_string(),
            "listen tcp4 192.0.2.77:80: bind: cannot assign requested address"
        );
        // SCTP is held where the kernel has it.
        hold(Protocol::Sctp, "0.0.0.0".parse().unwrap(), 8080).unwrap();
    });
}

#[test]
fn questions_are_led_to_the_resolver() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let udp = UdpSocket::bind("127.0.0.11:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.11:0").unwrap();
        let ports = [
            udp.local_addr().unwrap().port(),
            tcp.local_addr().unwrap().port(),
        ];
        let socket = berth_net::firewall::Socket::open().unwrap();
        for _ in 0..2 {
            berth_net::firewall::dns_redirect(&socket, ports[0], ports[1]).unwrap();
        }
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.connect("127.0.0.11:53").unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send(b"?").unwrap();
        let mut buffer = [0; 8];
        let (_, from) = udp.recv_from(&mut buffer).unwrap();
        udp.send_to(b"!", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        let mut stream =
            TcpStream::connect_timeout(&"127.0.0.11:53".parse().unwrap(), Duration::from_secs(5))
                .unwrap();
        let (mut taken, _) = tcp.accept().unwrap();
        taken.write_all(b"!").unwrap();
        stream.read_exact(&mut buffer[..1]).unwrap();
    });
}
