//! Published ports: from outside, from the host, from containers, with which source.

use berth_net::firewall::{Policy, Protocol, Published};

use super::topology::{Host, Server, ask, ask_udp, published, v4, v6};

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    host.network(12, |_| ());
    let web = host.container(11, 2);
    let neighbour = host.container(11, 3);
    let stranger = host.container(12, 2);
    let _server = Server::start(&web, 80);
    for (address, container) in [("0.0.0.0", v4(11, 2)), ("::", v6(11, 2))] {
        let tcp = published(11, address, 8080, container);
        host.publish(Published {
            protocol: Protocol::Udp,
            ..tcp.clone()
        });
        host.publish(tcp);
    }
    let here = &host.namespace;
    for asked in [ask, ask_udp] {
        // From outside, the container sees who asks.
        assert_eq!(
            asked(&outside, "192.0.2.1:8080").as_deref(),
            Some("192.0.2.2")
        );
        assert_eq!(
            asked(&outside, "[2001:db8::1]:8080").as_deref(),
            Some("2001:db8::2")
        );
        // From the host, by 127.0.0.1 and by its own addresses.
        assert_eq!(asked(here, "127.0.0.1:8080").as_deref(), Some("10.11.0.1"));
        assert!(asked(here, "192.0.2.1:8080").is_some());
        assert!(asked(here, "[2001:db8::1]:8080").is_some());
        // From a member of the same network, from itself, and from another network.
        assert_eq!(
            asked(&neighbour, "10.11.0.1:8080").as_deref(),
            Some("10.11.0.1")
        );
        assert_eq!(
            asked(&neighbour, "192.0.2.1:8080").as_deref(),
            Some("10.11.0.1")
        );
        assert!(asked(&web, "192.0.2.1:8080").is_some(), "hairpin");
        assert!(asked(&web, "[2001:db8::1]:8080").is_some(), "hairpin");
        assert!(asked(&stranger, "192.0.2.1:8080").is_some());
        assert!(asked(&stranger, "10.12.0.1:8080").is_some());
        assert!(asked(&stranger, "[2001:db8::1]:8080").is_some());
    }
}

#[test]
fn sctp_is_translated() {
    use rustix::net::{
        AddressFamily, SocketType, accept, bind, connect, ipproto, listen, recv, send,
    };
    use rustix::net::{RecvFlags, SendFlags, socket, sockopt};
    let open = |namespace: &crate::namespace::Namespace| {
        namespace.run(|| socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)))
    };
    let (mut host, outside) = Host::new();
    if !berth_testkit::needs::feature("sctp", open(&outside).is_ok()) {
        return;
    }
    host.network(11, |_| ());
    let web = host.container(11, 2);
    host.publish(Published {
        protocol: Protocol::Sctp,
        ..published(11, "0.0.0.0", 8080, v4(11, 2))
    });
    let server = open(&web).unwrap();
    bind(&server, &std::net::SocketAddr::new(v4(11, 2), 80)).unwrap();
    listen(&server, 4).unwrap();
    let served = std::thread::spawn(move || {
        let client = accept(&server).unwrap();
        send(&client, b"hello", SendFlags::empty()).unwrap();
    });
    let client = open(&outside).unwrap();
    let patience = Some(std::time::Duration::from_secs(10));
    sockopt::set_socket_timeout(&client, sockopt::Timeout::Recv, patience).unwrap();
    let port: std::net::SocketAddr = "192.0.2.1:8080".parse().unwrap();
    connect(&client, &port).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(
        recv(&client, &mut buffer[..], RecvFlags::empty())
            .unwrap()
            .0,
        5
    );
    served.join().unwrap();
}

#[test]
fn a_port_of_one_address_is_found_by_that_address_only() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let other = host.container(11, 3);
    let _server = Server::start(&web, 80);
    let _other = Server::start(&other, 80);
    host.namespace.command("ip addr add 192.0.2.7/24 dev eth0");
    host.publish(published(11, "192.0.2.7", 8080, v4(11, 2)));
    host.publish(published(11, "0.0.0.0", 8081, v4(11, 3)));
    assert!(ask(&outside, "192.0.2.7:8080").is_some());
    assert!(ask(&outside, "192.0.2.1:8080").is_none());
    assert!(ask(&host.namespace, "192.0.2.7:8080").is_some());
    assert!(ask(&host.namespace, "127.0.0.1:8080").is_none());
    assert!(ask(&outside, "192.0.2.1:8081").is_some());
}

#[test]
fn ranges_keep_their_numbers_or_move() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let _first = Server::start(&web, 7000);
    let _last = Server::start(&web, 7999);
    let range = Published {
        first: 7000,
        count: 1000,
        container_port: 7000,
        ..published(11, "0.0.0.0", 0, v4(11, 2))
    };
    host.publish(range.clone());
    host.publish(Published {
        host: "::".parse().unwrap(),
        container: v6(11, 2),
        ..range.clone()
    });
    host.publish(Published {
        first: 9000,
        container_port: 6980,
        count: 40,
        ..range.clone()
    });
    for asked in [
        "192.0.2.1:7000",
        "192.0.2.1:7999",
        "[2001:db8::1]:7999",
        "192.0.2.1:9020",
    ] {
        assert!(ask(&outside, asked).is_some(), "{asked}");
    }
    for asked in ["192.0.2.1:6999", "192.0.2.1:8000", "192.0.2.1:9021"] {
        assert!(ask(&outside, asked).is_none(), "{asked}");
    }
    host.withdraw(berth_net::firewall::Parts {
        ports: vec![range],
        ..Default::default()
    });
    assert!(ask(&outside, "192.0.2.1:7999").is_none());
    assert!(ask(&outside, "[2001:db8::1]:7999").is_some());
}

#[test]
fn a_port_of_loopback_is_for_the_host_alone() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let neighbour = host.container(11, 3);
    let _server = Server::start(&web, 80);
    // A service of the host itself, bound to loopback, which route_localnet must not open either.
    let _own = Server::start(&host.namespace, 9999);
    host.publish(published(11, "127.0.0.1", 8080, v4(11, 2)));
    assert!(ask(&host.namespace, "127.0.0.1:8080").is_some());
    assert!(ask(&host.namespace, "192.0.2.1:8080").is_none());
    outside.command("ip route add 127.0.0.1/32 via 192.0.2.1 table 100");
    for from in [&outside, &neighbour] {
        from.command("sysctl -qw net.ipv4.conf.eth0.route_localnet=1");
        from.command("ip rule add to 127.0.0.1 pref 1 table 100");
        from.command("ip rule del pref 0");
    }
    neighbour.command("ip route add 127.0.0.1/32 via 10.11.0.1 table 100");
    for asked in ["127.0.0.1:8080", "127.0.0.1:9999"] {
        for from in [&outside, &neighbour] {
            assert!(ask(from, asked).is_none(), "{asked}");
            assert!(ask_udp(from, asked).is_none(), "{asked}");
        }
    }
}

#[test]
fn policies_say_who_reaches_a_port() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let neighbour = host.container(11, 3);
    let _server = Server::start(&web, 80);
    // What listens on the host stands for the monitor that holds the port.
    let _held = Server::start(&host.namespace, 8080);
    let _more = Server::start(&host.namespace, 8081);
    host.publish(Published {
        policy: Policy::Loopback,
        ..published(11, "0.0.0.0", 8080, v4(11, 2))
    });
    host.publish(Published {
        policy: Policy::Firewall,
        ..published(11, "0.0.0.0", 8081, v4(11, 2))
    });
    // The host's programs are led to the container by both.
    for asked in ["127.0.0.1:8080", "127.0.0.1:8081"] {
        assert_eq!(ask(&host.namespace, asked).as_deref(), Some("10.11.0.1"));
    }
    assert!(ask(&outside, "192.0.2.1:8080").is_none());
    assert!(ask(&neighbour, "192.0.2.1:8080").is_none());
    // `firewall` leads others to the holder, and the host's input rules are asked before.
    assert!(ask(&outside, "192.0.2.1:8081").is_some());
    host.namespace.command("nft add table inet mine");
    host.namespace.command(
        "nft add chain inet mine input { type filter hook input priority 0 ; policy drop ; }",
    );
    assert!(ask(&outside, "192.0.2.1:8081").is_none());
}

#[test]
fn a_client_that_goes_on_sending_finds_the_new_container() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let one = host.container(11, 2);
    let two = host.container(11, 3);
    let first = Published {
        protocol: Protocol::Udp,
        ..published(11, "0.0.0.0", 5353, v4(11, 2))
    };
    let second = Published {
        container: v4(11, 3),
        ..first.clone()
    };
    host.publish(first.clone());
    let (_one, _two) = (Server::start(&one, 80), Server::start(&two, 80));
    outside.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("192.0.2.1:5353").unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(1)))
            .unwrap();
        let mut buffer = [0; 64];
        socket.send(b"?").unwrap();
        socket.recv(&mut buffer).unwrap();
        host.withdraw(berth_net::firewall::Parts {
            ports: vec![first],
            ..Default::default()
        });
        host.publish(second);
        socket.send(b"?").unwrap();
        socket.recv(&mut buffer).unwrap();
    });
    let tracked = host.namespace.command("cat /proc/net/nf_conntrack");
    let entry = tracked
        .lines()
        .find(|line| line.contains("dport=5353"))
        .unwrap();
    assert!(entry.contains("src=10.11.0.3"), "{entry}");
}
