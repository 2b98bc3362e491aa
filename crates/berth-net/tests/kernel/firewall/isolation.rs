//! Who reaches whom without published ports.

use std::path::Path;
use std::process::Command;

use berth_net::firewall::{GatewayMode, Link, Parts, Protocol};

use super::topology::{Host, Server, ask, ask_udp, published, v4, v6};

#[test]
fn networks_are_apart_and_reach_the_outside() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    host.network(12, |_| ());
    let web = host.container(11, 2);
    let neighbour = host.container(11, 3);
    let stranger = host.container(12, 2);
    let _server = Server::start(&web, 80);
    let _other = Server::start(&outside, 80);
    for asked in [ask, ask_udp] {
        assert!(asked(&neighbour, "10.11.0.2:80").is_some());
        assert!(asked(&neighbour, "[fd00:11::2]:80").is_some());
        assert!(asked(&host.namespace, "10.11.0.2:80").is_some());
        assert!(asked(&stranger, "10.11.0.2:80").is_none());
        assert!(asked(&stranger, "[fd00:11::2]:80").is_none());
        // Members leave under the host's address.
        assert_eq!(asked(&web, "192.0.2.2:80").as_deref(), Some("192.0.2.1"));
        assert_eq!(
            asked(&web, "[2001:db8::2]:80").as_deref(),
            Some("2001:db8::1")
        );
    }
    // Whoever has a route does not get in, published or not.
    outside.command("ip route add 10.11.0.0/24 via 192.0.2.1");
    outside.command("ip -6 route add fd00:11::/64 via 2001:db8::1");
    host.publish(published(11, "0.0.0.0", 8080, v4(11, 2)));
    host.publish(published(11, "::", 8080, v6(11, 2)));
    assert!(ask(&outside, "10.11.0.2:80").is_none());
    assert!(ask(&outside, "[fd00:11::2]:80").is_none());
    assert!(ask(&stranger, "10.11.0.2:80").is_none());
    assert!(ask(&outside, "192.0.2.1:8080").is_some());
}

#[test]
fn an_internal_network_has_no_way_out_or_in() {
    let (mut host, outside) = Host::new();
    host.network(11, |network| network.internal = true);
    host.network(12, |network| network.mode4 = GatewayMode::NatUnprotected);
    let one = host.container(11, 2);
    let two = host.container(11, 3);
    let open = host.container(12, 2);
    let _servers = [
        Server::start(&one, 80),
        Server::start(&outside, 80),
        Server::start(&open, 80),
        Server::start(&host.namespace, 81),
    ];
    host.publish(published(11, "0.0.0.0", 8080, v4(11, 2)));
    host.publish(published(12, "0.0.0.0", 8081, v4(12, 2)));
    assert!(ask(&two, "10.11.0.2:80").is_some());
    assert!(ask(&two, "[fd00:11::2]:80").is_some());
    assert!(ask(&host.namespace, "10.11.0.2:80").is_some());
    assert!(ask(&two, "10.11.0.1:81").is_some(), "the host's gateway");
    for asked in [
        "192.0.2.2:80",
        "[2001:db8::2]:80",
        "10.12.0.2:80",
        "192.0.2.1:8081",
    ] {
        assert!(ask(&two, asked).is_none(), "{asked}");
    }
    outside.command("ip route add 10.11.0.0/24 via 192.0.2.1");
    assert!(ask(&outside, "10.11.0.2:80").is_none());
    assert!(ask(&outside, "192.0.2.1:8080").is_none());
    assert!(ask(&open, "10.11.0.2:80").is_none());
}

#[test]
fn members_kept_apart_meet_by_links_and_published_ports() {
    // With packets of bridges shown to the firewall of packets, and without: some kernels have that as a module.
    if !Path::new("/proc/sys/net/bridge").exists() {
        let loaded = Command::new("modprobe").arg("br_netfilter").status();
        assert!(loaded.unwrap().success(), "br_netfilter cannot be loaded");
    }
    for shown in ["1", "0"] {
        let (mut host, outside) = Host::new();
        for table in ["iptables", "ip6tables"] {
            host.namespace.command(&format!(
                "sysctl -qw net.bridge.bridge-nf-call-{table}={shown}"
            ));
        }
        host.network(11, |network| network.icc = false);
        let web = host.container(11, 2);
        let linked = host.container(11, 3);
        let other = host.container(11, 4);
        let _servers = [
            Server::start(&web, 80),
            Server::start(&web, 81),
            Server::start(&other, 80),
        ];
        host.publish(published(11, "0.0.0.0", 8080, v4(11, 2)));
        let links: Vec<Link> = [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .flat_map(|protocol| {
                [(v4(11, 3), v4(11, 2)), (v6(11, 3), v6(11, 2))].map(|(from, to)| Link {
                    from,
                    to,
                    protocol,
                    port: 80,
                })
            })
            .collect();
        host.apply(Parts {
            links: links.clone(),
            ..Parts::default()
        });
        for asked in [ask, ask_udp] {
            assert!(asked(&linked, "10.11.0.2:80").is_some());
            assert!(asked(&linked, "[fd00:11::2]:80").is_some());
            assert!(asked(&linked, "10.11.0.2:81").is_none());
            assert!(asked(&other, "10.11.0.2:81").is_none());
            assert!(asked(&other, "[fd00:11::2]:80").is_none());
            assert!(asked(&web, "10.11.0.4:80").is_none());
            assert!(asked(&host.namespace, "10.11.0.2:80").is_some());
        }
        assert!(ask(&other, "192.0.2.1:8080").is_some());
        assert!(ask(&outside, "192.0.2.1:8080").is_some());
        host.withdraw(Parts {
            links,
            ..Parts::default()
        });
        assert!(ask(&linked, "[fd00:11::2]:80").is_none());
    }
}

#[test]
fn gateway_modes() {
    let (mut host, outside) = Host::new();
    host.network(11, |network| {
        network.mode4 = GatewayMode::Routed;
        network.mode6 = GatewayMode::Routed;
    });
    host.network(12, |network| {
        network.mode4 = GatewayMode::NatUnprotected;
    });
    let routed = host.container(11, 2);
    let member = host.container(11, 3);
    let open = host.container(12, 2);
    let _servers = [
        Server::start(&routed, 80),
        Server::start(&routed, 81),
        Server::start(&open, 80),
        Server::start(&outside, 80),
    ];
    for (subnet, gateway) in [
        ("10.11.0.0/24", "192.0.2.1"),
        ("10.12.0.0/24", "192.0.2.1"),
        ("fd00:11::/64", "2001:db8::1"),
        ("fd00:12::/64", "2001:db8::1"),
    ] {
        outside.command(&format!("ip route add {subnet} via {gateway}"));
    }
    for container in [v4(11, 2), v6(11, 2)] {
        let address = if container.is_ipv4() { "0.0.0.0" } else { "::" };
        host.publish(published(11, address, 0, container));
    }
    assert!(ask(&outside, "10.11.0.2:80").is_some());
    assert!(ask(&outside, "[fd00:11::2]:80").is_some());
    assert!(ask(&outside, "10.11.0.2:81").is_none());
    assert!(ask(&member, "10.11.0.2:81").is_some());
    assert_eq!(ask(&routed, "192.0.2.2:80").as_deref(), Some("10.11.0.2"));
    assert!(ask(&outside, "10.12.0.2:80").is_some());
    assert!(ask(&outside, "[fd00:12::2]:80").is_none());
    assert_eq!(ask(&open, "192.0.2.2:80").as_deref(), Some("192.0.2.1"));
}

#[test]
fn masquerade_is_an_option_and_trusted_interfaces_reach_published_ports() {
    let (mut host, outside) = Host::new();
    host.network(11, |network| {
        network.masquerade = false;
        network.trusted = vec!["eth0".into()];
    });
    host.namespace.command("ip addr add 192.0.2.9/24 dev eth0");
    host.network(12, |network| {
        network.host_ipv4 = Some("192.0.2.9".parse().unwrap());
    });
    let web = host.container(11, 2);
    let fixed = host.container(12, 2);
    let _servers = [
        Server::start(&web, 80),
        Server::start(&web, 81),
        Server::start(&outside, 80),
    ];
    outside.command("ip route add 10.11.0.0/24 via 192.0.2.1");
    assert_eq!(ask(&web, "192.0.2.2:80").as_deref(), Some("10.11.0.2"));
    assert_eq!(ask(&fixed, "192.0.2.2:80").as_deref(), Some("192.0.2.9"));
    assert!(ask(&outside, "10.11.0.2:80").is_none());
    host.publish(published(11, "0.0.0.0", 8080, v4(11, 2)));
    assert!(ask(&outside, "10.11.0.2:80").is_some());
    assert!(ask(&outside, "10.11.0.2:81").is_none());
}

#[test]
fn what_was_not_forwarded_before_is_not_forwarded_now() {
    let bare = crate::namespace::Namespace::new();
    bare.command("ip link add lan0 type bridge");
    let (mut host, outside) = Host::on(bare);
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let far = crate::namespace::Namespace::new();
    super::topology::wire(&host.namespace, "eth1", &far);
    for (side, link, last) in [(&host.namespace, "eth1", 1), (&far, "eth0", 2)] {
        side.command(&format!("ip addr add 198.51.100.{last}/24 dev {link}"));
        side.command(&format!("ip link set {link} up"));
    }
    outside.command("ip route add 198.51.100.0/24 via 192.0.2.1");
    far.command("ip route add 192.0.2.0/24 via 198.51.100.1");
    let _server = Server::start(&far, 80);
    assert!(ask(&outside, "198.51.100.2:80").is_none());
    assert!(ask(&web, "198.51.100.2:80").is_some());

    // A network that another program makes later counts on forwarding; one that was there had none.
    for (bridge, subnet, reached) in [("lan0", "10.77.0", false), ("virt0", "10.78.0", true)] {
        if reached {
            host.namespace
                .command(&format!("ip link add {bridge} type bridge"));
        }
        let member = crate::namespace::Namespace::new();
        super::topology::wire(&host.namespace, "port0", &member);
        host.namespace
            .command(&format!("ip addr add {subnet}.1/24 dev {bridge}"));
        host.namespace
            .command(&format!("ip link set port0 master {bridge} up"));
        host.namespace.command(&format!("ip link set {bridge} up"));
        member.command(&format!("ip addr add {subnet}.2/24 dev eth0"));
        member.command("ip link set eth0 up");
        member.command(&format!("ip route add default via {subnet}.1"));
        far.command(&format!("ip route add {subnet}.0/24 via 198.51.100.1"));
        crate::namespace::wait_until("the member reaches the host", || {
            member
                .try_command(&format!("busybox ping -c 1 -W 1 {subnet}.1"))
                .status
                .success()
        });
        assert_eq!(
            ask(&member, "198.51.100.2:80").is_some(),
            reached,
            "{bridge}"
        );
        host.namespace.command("ip link del port0");
    }
}
