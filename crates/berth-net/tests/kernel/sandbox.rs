//! Namespaces of containers: what is in a fresh one, joining networks, leaving them, and nothing left behind.

use std::io::ErrorKind as Io;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use berth_net::address::HardwareAddress;
use berth_net::link::{BridgePort, EndpointSetting, Host, MacvlanMode};
use berth_net::netlink::Namespace as Network;
use berth_net::sandbox::{
    DefaultGateway, EndpointKind, EndpointPlan, Error, Gateway, RoutePlan, Sandbox, SandboxPool,
};

use crate::link::{bridge, host, name, prefix};
use crate::namespace::{Namespace, wait_until};

const BRIDGE: &str = "br0";
const GATEWAY: &str = "172.20.0.1";

/// An endpoint on the bridge, with these addresses and the default route by the bridge.
pub(crate) fn endpoint(number: u8, host_end: &str) -> EndpointPlan {
    let mut plan = EndpointPlan::new(
        name("eth0"),
        EndpointKind::Bridge {
            bridge: name(BRIDGE),
            host_end: name(host_end),
            owner: format!("berth endpoint {host_end}"),
            port: BridgePort::default(),
        },
    );
    let address = format!("172.20.0.{number}");
    plan.hardware_address = Some(HardwareAddress::from_ipv4(address.parse().unwrap()));
    plan.addresses = vec![prefix(&format!("{address}/16"))];
    plan.gateway_ipv4 = Some(Gateway::Address(GATEWAY.parse().unwrap()));
    plan
}

fn with_ipv6(mut plan: EndpointPlan, number: u8) -> EndpointPlan {
    plan.addresses
        .push(prefix(&format!("fd00:20::{number:x}/64")));
    plan.gateway_ipv6 = Some(Gateway::Address("fd00:20::1".parse().unwrap()));
    plan
}

fn bridged_host() -> (Namespace, Host) {
    let (namespace, host) = host();
    host.ensure_bridge(&bridge(BRIDGE, &["172.20.0.1/16", "fd00:20::1/64"]))
        .unwrap();
    (namespace, host)
}

fn inside<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    sandbox.namespace().run(work).unwrap()
}

pub(crate) fn show(sandbox: &Sandbox, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let output = inside(sandbox, || {
        std::process::Command::new(words[0])
            .args(&words[1..])
            .output()
    })
    .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a connection comes about: a bridge that gets its first port is a moment later up itself.
pub(crate) fn must_reach(from: &Network, to: &Network, address: &str) {
    wait_until("it is reached", || reaches(from, to, address));
}

/// Whether a connection from one namespace to an address in another comes about.
pub(crate) fn reaches(from: &Network, to: &Network, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    let listener = to.run(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    from.run(|| TcpStream::connect_timeout(&target, Duration::from_millis(400)).is_ok())
        .unwrap()
}

#[test]
fn a_fresh_namespace_is_as_docker_s() {
    let sandbox = Sandbox::new().unwrap();
    assert!(show(&sandbox, "ip link show lo").contains("LOOPBACK,UP"));
    let setting = |name: &str| show(&sandbox, &format!("cat /proc/sys/net/ipv4/{name}"));
    assert_eq!(setting("ip_unprivileged_port_start").trim(), "0");
    assert_eq!(
        setting("ping_group_range")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["0", "2147483647"]
    );
    inside(&sandbox, || TcpListener::bind("[::1]:0").unwrap());
}

#[test]
fn prepared_containers_on_a_bridge_reach_each_other_at_once() {
    let (_namespace, host) = bridged_host();
    let mut one = Sandbox::with_pair(&host, 1400).unwrap();
    let mut two = Sandbox::with_pair(&host, 1500).unwrap();
    let attached = one
        .attach(&host, &with_ipv6(endpoint(2, "vethone"), 2))
        .unwrap();
    assert_eq!(
        attached.hardware_address.unwrap().to_string(),
        "02:42:ac:14:00:02"
    );
    let mut plan = with_ipv6(endpoint(3, "vethtwo"), 3);
    plan.mtu = Some(1400);
    two.attach(&host, &plan).unwrap();
    assert!(!one.has_pair());
    for (number, sandbox) in [(2, &one), (3, &two)] {
        let shown = show(sandbox, "ip addr show eth0");
        assert!(
            shown.contains(&format!("02:42:ac:14:00:0{number}")),
            "{shown}"
        );
        assert!(shown.contains("mtu 1400"), "{shown}");
        assert!(shown.contains("fe80::42:acff:fe14:"), "{shown}");
        let detection = show(sandbox, "cat /proc/sys/net/ipv6/conf/eth0/accept_dad");
        assert_eq!(detection.trim(), "0");
        assert!(shown.contains(&format!("fd00:20::{number}/64")), "{shown}");
        let routes = show(sandbox, "ip route");
        assert!(
            routes.contains("default via 172.20.0.1 dev eth0"),
            "{routes}"
        );
    }
    must_reach(one.namespace(), two.namespace(), "172.20.0.3");
    must_reach(two.namespace(), one.namespace(), "fd00:20::2");
    must_reach(one.namespace(), host.namespace(), "172.20.0.1");
    must_reach(host.namespace(), one.namespace(), "172.20.0.2");
    let outside = host.find_link(&name("vethone")).unwrap().unwrap();
    assert_eq!(outside.index, attached.host_end.unwrap());
    assert_eq!(outside.alias.as_deref(), Some("berth endpoint vethone"));
}

#[test]
fn without_an_address_of_ipv6_it_is_off() {
    let (_namespace, host) = bridged_host();
    let mut sandbox = Sandbox::with_pair(&host, 1500).unwrap();
    sandbox.attach(&host, &endpoint(2, "vetha")).unwrap();
    let mut other = Sandbox::new().unwrap();
    other.attach(&host, &endpoint(3, "vethb")).unwrap();
    for sandbox in [&sandbox, &other] {
        assert!(!show(sandbox, "ip addr show eth0").contains("inet6"));
        let setting = show(sandbox, "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
        assert_eq!(setting.trim(), "1");
    }
}

#[test]
fn the_host_s_end_makes_no_addresses_of_its_own() {
    let (namespace, host) = bridged_host();
    let mut sandbox = Sandbox::with_pair(&host, 1500).unwrap();
    sandbox
        .attach(&host, &with_ipv6(endpoint(2, "vetha"), 2))
        .unwrap();
    let shown = namespace.command("ip addr show vetha");
    assert!(!shown.contains("inet6"), "{shown}");
}

#[test]
fn interfaces_are_called_as_asked() {
    let (_namespace, host) = bridged_host();
    for prepared in [true, false] {
        let mut sandbox = if prepared {
            Sandbox::with_pair(&host, 1500).unwrap()
        } else {
            Sandbox::new().unwrap()
        };
        let mut plan = with_ipv6(endpoint(2, "vetha"), 2);
        plan.interface = name("mine.5");
        sandbox.attach(&host, &plan).unwrap();
        assert!(show(&sandbox, "ip addr show mine.5").contains("fd00:20::2/64"));
        sandbox.detach(&plan.interface).unwrap();
        assert_eq!(host.find_link(&name("vetha")).unwrap(), None);
    }
}

#[test]
fn a_running_container_joins_and_leaves_further_networks() {
    let (_namespace, host) = bridged_host();
    let mut other = bridge("br1", &["10.5.0.1/24"]);
    other.hardware_address = HardwareAddress([2, 9, 9, 9, 9, 9]);
    host.ensure_bridge(&other).unwrap();
    let mut first = Sandbox::with_pair(&host, 1500).unwrap();
    first.attach(&host, &endpoint(2, "vetha")).unwrap();
    let descriptor = first.as_fd().try_clone_to_owned().unwrap();
    drop(first);

    let mut sandbox = Sandbox::open(descriptor).unwrap();
    let mut plan = EndpointPlan::new(
        name("eth1"),
        EndpointKind::Bridge {
            bridge: name("br1"),
            host_end: name("vethb"),
            owner: "berth endpoint b".to_owned(),
            port: BridgePort::default(),
        },
    );
    plan.addresses = vec![prefix("10.5.0.2/24")];
    plan.link_local = vec![prefix("169.254.7.7/16")];
    plan.routes = vec![RoutePlan {
        destination: prefix("10.6.0.0/16"),
        gateway: Some("10.5.0.9".parse().unwrap()),
    }];
    let attached = sandbox.attach(&host, &plan).unwrap();
    assert!(attached.hardware_address.is_some());
    let shown = show(&sandbox, "ip addr show eth1");
    assert!(shown.contains("169.254.7.7/16"), "{shown}");
    assert!(show(&sandbox, "ip route").contains("10.6.0.0/16 via 10.5.0.9 dev eth1"));
    must_reach(host.namespace(), sandbox.namespace(), "10.5.0.2");

    let by_second = DefaultGateway {
        interface: name("eth1"),
        gateway: Gateway::Address("10.5.0.1".parse().unwrap()),
    };
    sandbox.set_default_gateway(true, Some(&by_second)).unwrap();
    let routes = show(&sandbox, "ip route show default");
    assert_eq!(
        routes.trim(),
        "default via 10.5.0.1 dev eth1 proto static",
        "{routes}"
    );
    sandbox.set_default_gateway(true, Some(&by_second)).unwrap();
    sandbox.set_default_gateway(true, None).unwrap();
    assert_eq!(show(&sandbox, "ip route show default").trim(), "");

    sandbox.detach(&name("eth1")).unwrap();
    sandbox.detach(&name("eth1")).unwrap();
    assert_eq!(host.find_link(&name("vethb")).unwrap(), None);
    assert!(host.find_link(&name("vetha")).unwrap().is_some());
}

#[test]
fn the_default_gateway_of_ipv6_moves_between_interfaces() {
    let (_namespace, host) = bridged_host();
    host.ensure_bridge(&bridge("br1", &["fd00:21::1/64"]))
        .unwrap();
    let mut sandbox = Sandbox::with_pair(&host, 1500).unwrap();
    sandbox
        .attach(&host, &with_ipv6(endpoint(2, "vetha"), 2))
        .unwrap();
    let mut plan = endpoint(2, "vethb");
    plan.interface = name("eth1");
    if let EndpointKind::Bridge { bridge, .. } = &mut plan.kind {
        *bridge = name("br1");
    }
    plan.hardware_address = None;
    plan.addresses = vec![prefix("fd00:21::2/64")];
    plan.gateway_ipv4 = None;
    sandbox.attach(&host, &plan).unwrap();
    for (interface, router) in [
        ("eth1", "fd00:21::1"),
        ("eth0", "fd00:20::1"),
        ("eth1", "fd00:21::1"),
    ] {
        let gateway = DefaultGateway {
            interface: name(interface),
            gateway: Gateway::Address(router.parse().unwrap()),
        };
        sandbox.set_default_gateway(false, Some(&gateway)).unwrap();
        let routes = show(&sandbox, "ip -6 route show default");
        assert_eq!(routes.lines().count(), 1, "{routes}");
        assert!(
            routes.contains(&format!("via {router} dev {interface}")),
            "{routes}"
        );
    }
    assert!(show(&sandbox, "ip route").contains("default via 172.20.0.1"));
}

#[test]
fn isolated_ports_reach_the_bridge_alone() {
    let (_namespace, host) = bridged_host();
    let mut sandboxes = Vec::new();
    for (number, end) in [(2, "vetha"), (3, "vethb")] {
        let mut plan = endpoint(number, end);
        if let EndpointKind::Bridge { port, .. } = &mut plan.kind {
            port.isolated = true;
            port.hairpin = true;
        }
        let mut sandbox = Sandbox::with_pair(&host, 1500).unwrap();
        sandbox.attach(&host, &plan).unwrap();
        sandboxes.push(sandbox);
    }
    let [one, two] = [sandboxes[0].namespace(), sandboxes[1].namespace()];
    must_reach(one, host.namespace(), GATEWAY);
    assert!(!reaches(one, two, "172.20.0.3"));
}

#[test]
fn settings_are_written_behind_the_addresses() {
    let (_namespace, host) = bridged_host();
    let mut sandbox = Sandbox::with_pair(&host, 1500).unwrap();
    let mut plan = with_ipv6(endpoint(2, "vetha"), 2);
    plan.settings = EndpointSetting::parse_list(
        "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.disable_ipv6=1",
    )
    .unwrap();
    sandbox.attach(&host, &plan).unwrap();
    assert_eq!(
        show(&sandbox, "cat /proc/sys/net/ipv4/conf/eth0/log_martians").trim(),
        "1"
    );
    assert!(!show(&sandbox, "ip addr show eth0").contains("inet6"));
    assert!(show(&sandbox, "ip route").contains("default via"));

    let mut plan = endpoint(3, "vethb");
    plan.settings = EndpointSetting::parse_list("net.ipv4.conf.IFNAME.no_such=1").unwrap();
    let mut other = Sandbox::with_pair(&host, 1500).unwrap();
    let error = other.attach(&host, &plan).unwrap_err();
    assert!(error.to_string().contains("no_such"), "{error}");
    assert_eq!(host.find_link(&name("vethb")).unwrap(), None);
}

#[test]
fn what_fails_leaves_nothing() {
    let (namespace, host) = bridged_host();
    let before = namespace.command("ip -o link").lines().count();
    let mut outside = endpoint(2, "vetha");
    outside.gateway_ipv4 = Some(Gateway::Address("192.0.2.1".parse().unwrap()));
    let mut nowhere = endpoint(2, "vetha");
    if let EndpointKind::Bridge { bridge, .. } = &mut nowhere.kind {
        *bridge = name("gone");
    }
    let mut group = endpoint(2, "vetha");
    group.hardware_address = Some(HardwareAddress([1, 0, 0, 0, 0, 1]));
    let lost = EndpointPlan::new(
        name("eth0"),
        EndpointKind::Macvlan {
            parent: name("gone"),
            mode: MacvlanMode::Bridge,
        },
    );
    for plan in [outside, nowhere, group, lost] {
        for prepared in [true, false] {
            let mut sandbox = if prepared {
                Sandbox::with_pair(&host, 1500).unwrap()
            } else {
                Sandbox::new().unwrap()
            };
            sandbox.attach(&host, &plan).unwrap_err();
            sandbox.release_pair().unwrap();
            assert_eq!(sandbox.links().unwrap().len(), 1, "{plan:?}");
            assert_eq!(namespace.command("ip -o link").lines().count(), before);
        }
    }
    let mut sandbox = Sandbox::new().unwrap();
    let error = sandbox.attach(&host, &nowhere_plan()).unwrap_err();
    assert!(matches!(error, Error::BridgeMissing(_)));
}

fn nowhere_plan() -> EndpointPlan {
    let mut plan = endpoint(2, "vetha");
    if let EndpointKind::Bridge { bridge, .. } = &mut plan.kind {
        *bridge = name("gone");
    }
    plan
}

#[test]
fn a_bridge_without_a_free_port_is_named() {
    let (namespace, host) = bridged_host();
    // Both ends of each pair are ports; the last finds none.
    let ports: String = (0..512)
        .map(|pair| {
            format!(
                "link add va{pair} type veth peer name vb{pair}\nlink set va{pair} master {BRIDGE}\nlink set vb{pair} master {BRIDGE}\n"
            )
        })
        .collect();
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&script, ports).unwrap();
    let filled = namespace.try_command(&format!("ip -force -batch {}", script.path().display()));
    let answer = String::from_utf8_lossy(&filled.stderr);
    assert!(answer.contains("Exchange full"), "{answer}");
    let before = namespace.command("ip -o link").lines().count();
    for pool in [true, false] {
        let mut sandbox = if pool {
            Sandbox::with_pair(&host, 1500).unwrap()
        } else {
            Sandbox::new().unwrap()
        };
        let error = sandbox.attach(&host, &endpoint(2, "vetha")).unwrap_err();
        assert!(matches!(error, Error::BridgeFull(_)), "{error}");
        assert_eq!(error.kind(), berth_types::ErrorKind::ResourceExhausted);
        sandbox.release_pair().unwrap();
        assert_eq!(namespace.command("ip -o link").lines().count(), before);
    }
}

#[test]
fn an_interface_s_name_is_taken_once() {
    let (_namespace, host) = bridged_host();
    let mut sandbox = Sandbox::with_pair(&host, 1500).unwrap();
    sandbox.attach(&host, &endpoint(2, "vetha")).unwrap();
    let error = sandbox.attach(&host, &endpoint(3, "vethb")).unwrap_err();
    assert_eq!(error.kind(), berth_types::ErrorKind::Conflict);
    assert_eq!(host.find_link(&name("vethb")).unwrap(), None);
    assert!(show(&sandbox, "ip addr show eth0").contains("172.20.0.2/16"));
}

#[test]
fn an_endpoint_takes_its_name_over_from_an_earlier_run() {
    let (_namespace, host) = bridged_host();
    for prepared in [true, false] {
        let mut before = Sandbox::with_pair(&host, 1500).unwrap();
        before.attach(&host, &endpoint(2, "vetha")).unwrap();
        let mut after = if prepared {
            Sandbox::with_pair(&host, 1500).unwrap()
        } else {
            Sandbox::new().unwrap()
        };
        after.attach(&host, &endpoint(2, "vetha")).unwrap();
        assert_eq!(before.links().unwrap().len(), 1);
        assert_eq!(after.links().unwrap().len(), 2);
    }
    let mut stranger = endpoint(3, "vetha");
    if let EndpointKind::Bridge { owner, .. } = &mut stranger.kind {
        "berth endpoint of another".clone_into(owner);
    }
    let mut first = Sandbox::new().unwrap();
    first.attach(&host, &endpoint(2, "vetha")).unwrap();
    Sandbox::with_pair(&host, 1500)
        .unwrap()
        .attach(&host, &stranger)
        .unwrap_err();
}

#[test]
fn pairs_go_with_their_namespace() {
    let (namespace, host) = bridged_host();
    let before = namespace.command("ip -o link").lines().count();
    let mut sandbox = Sandbox::with_pair(&host, 1500).unwrap();
    sandbox.attach(&host, &endpoint(2, "vetha")).unwrap();
    let unused = Sandbox::with_pair(&host, 1500).unwrap();
    let kept = sandbox.into_namespace();
    drop(unused);
    assert!(host.find_link(&name("vetha")).unwrap().is_some());
    drop(kept);
    wait_until("the pairs are gone", || {
        namespace.command("ip -o link").lines().count() == before
    });
}

#[test]
fn neighbours_hear_of_an_address_that_moved() {
    let (namespace, host) = bridged_host();
    // A bridge that loses its last port forgets its neighbours.
    let mut other = Sandbox::with_pair(&host, 1500).unwrap();
    other.attach(&host, &endpoint(9, "vethz")).unwrap();
    let mut before = Sandbox::with_pair(&host, 1500).unwrap();
    before
        .attach(&host, &with_ipv6(endpoint(2, "vetha"), 2))
        .unwrap();
    for address in ["172.20.0.2", "fd00:20::2"] {
        must_reach(host.namespace(), before.namespace(), address);
    }
    before.detach(&name("eth0")).unwrap();
    let mut plan = with_ipv6(endpoint(2, "vethb"), 2);
    plan.hardware_address = Some(HardwareAddress([2, 7, 7, 7, 7, 7]));
    plan.announce = true;
    let mut after = Sandbox::with_pair(&host, 1500).unwrap();
    after.attach(&host, &plan).unwrap();
    wait_until("the host remembers the new Ethernet address", || {
        let neighbours = namespace.command("ip neigh show dev br0");
        ["172.20.0.2 ", "fd00:20::2 "].iter().all(|address| {
            neighbours
                .lines()
                .any(|line| line.starts_with(address) && line.contains("02:07:07:07:07:07"))
        })
    });
    after.announce(&name("eth0"), &plan.addresses).unwrap();
}

#[test]
fn the_pool_keeps_its_stock_and_grows_with_demand() {
    let (namespace, host) = bridged_host();
    let host = Arc::new(host);
    let pool = SandboxPool::new(Arc::clone(&host), 1400).unwrap();
    let stocked = || {
        let figures = pool.figures();
        figures.ready == figures.wanted
    };
    wait_until("the pool is stocked", stocked);
    let least = pool.figures().wanted;
    let mut taken: Vec<Sandbox> = (0..least + 1).map(|_| pool.take().unwrap()).collect();
    assert!(taken.iter().all(Sandbox::has_pair));
    let figures = pool.figures();
    assert_eq!(figures.given + figures.made_at_once, taken.len() as u64);
    wait_until("the pool is stocked again", stocked);
    pool.set_mtu(1300);
    wait_until("the stock is new", stocked);
    let mut sandbox = pool.take().unwrap();
    sandbox.attach(&host, &endpoint(2, "vetha")).unwrap();
    assert!(show(&sandbox, "ip link show eth0").contains("mtu 1300"));
    taken[0].attach(&host, &endpoint(3, "vethb")).unwrap();
    must_reach(sandbox.namespace(), taken[0].namespace(), "172.20.0.3");
    drop(pool);
    drop((taken, sandbox));
    wait_until("nothing is left", || {
        !namespace.command("ip -o link").contains("veth")
    });
}

#[test]
fn many_threads_attach_at_once() {
    let (_namespace, host) = bridged_host();
    let host = Arc::new(host);
    let pool = SandboxPool::new(Arc::clone(&host), 1500).unwrap();
    let sandboxes: Vec<Sandbox> = std::thread::scope(|scope| {
        let threads: Vec<_> = (2..26_u8)
            .map(|number| {
                let (pool, host) = (&pool, &host);
                scope.spawn(move || {
                    let mut sandbox = pool.take().unwrap();
                    sandbox
                        .attach(host, &endpoint(number, &format!("veth{number}")))
                        .unwrap();
                    sandbox
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let socket = inside(&sandboxes[0], || UdpSocket::bind("172.20.0.2:0").unwrap());
    socket
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    assert!(matches!(
        socket.recv(&mut [0]).unwrap_err().kind(),
        Io::WouldBlock | Io::TimedOut
    ));
    must_reach(
        sandboxes[0].namespace(),
        sandboxes[23].namespace(),
        "172.20.0.25",
    );
}
