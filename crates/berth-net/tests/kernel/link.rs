//! The host's side: bridges, parents, routes, settings; and what the kernel's refusals read like.

use berth_net::address::{HardwareAddress, Prefix};
use berth_net::link::{BridgePlan, Error, Host, LinkName, ParentPlan};
use berth_net::netlink::{Batch, Route};
use berth_types::ErrorKind;

use crate::namespace::{Namespace, wait_until};

const OWNER: &str = "berth network 1a2b";

pub(crate) fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// A namespace that plays the host, and the host's side of it.
pub(crate) fn host() -> (Namespace, Host) {
    let namespace = Namespace::new();
    let host = namespace.run(|| Host::open().unwrap());
    (namespace, host)
}

pub(crate) fn bridge(bridge: &str, addresses: &[&str]) -> BridgePlan {
    BridgePlan {
        name: name(bridge),
        owner: OWNER.to_owned(),
        mtu: Some(1400),
        hardware_address: HardwareAddress([2, 1, 2, 3, 4, 5]),
        addresses: addresses.iter().map(|address| prefix(address)).collect(),
        ipv6: addresses.iter().any(|address| address.contains(':')),
        route_localnet: true,
    }
}

fn parent(text: &str) -> ParentPlan {
    ParentPlan::Interface {
        name: name(text),
        owner: OWNER.to_owned(),
    }
}

#[test]
fn a_bridge_is_made_once_and_kept_as_planned() {
    let (namespace, host) = host();
    let mut plan = bridge("br-1a2b", &["172.20.0.1/16", "fd00:1::1/64"]);
    let made = host.ensure_bridge(&plan).unwrap();
    assert!(made.created && made.ours);
    let shown = namespace.command("ip -d link show br-1a2b");
    for part in [
        "mtu 1400",
        "02:01:02:03:04:05",
        "stp_state 0",
        "mcast_snooping 0",
        "alias berth network 1a2b",
        ",UP",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let addresses = namespace.command("ip addr show br-1a2b");
    assert!(
        addresses.contains("172.20.0.1/16 brd 172.20.255.255"),
        "{addresses}"
    );
    assert!(addresses.contains("fd00:1::1/64"), "{addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
    let setting = |name: &str| namespace.command(&format!("cat /proc/sys/net/{name}"));
    assert_eq!(setting("ipv4/conf/br-1a2b/route_localnet").trim(), "1");
    for refused in [
        "ipv6/conf/br-1a2b/accept_ra",
        "ipv6/conf/br-1a2b/accept_dad",
        "ipv4/conf/br-1a2b/send_redirects",
    ] {
        assert_eq!(setting(refused).trim(), "0", "{refused}");
    }

    let again = host.ensure_bridge(&plan).unwrap();
    assert!(!again.created && again.ours);
    assert_eq!(again.index, made.index);

    plan.addresses = vec![prefix("172.21.0.1/24")];
    plan.ipv6 = false;
    plan.mtu = Some(1300);
    host.ensure_bridge(&plan).unwrap();
    let addresses = namespace.command("ip addr show br-1a2b");
    assert!(addresses.contains("172.21.0.1/24"), "{addresses}");
    assert!(addresses.contains("mtu 1300"), "{addresses}");
    assert!(!addresses.contains("172.20.0.1"), "{addresses}");
    assert!(!addresses.contains("inet6"), "{addresses}");

    assert!(host.release_bridge(&plan.name, OWNER).unwrap());
    assert!(!host.release_bridge(&plan.name, OWNER).unwrap());
    assert_eq!(host.find_link(&plan.name).unwrap(), None);
}

#[test]
fn a_bridge_of_somebody_else_is_used_and_stays() {
    let (namespace, host) = host();
    namespace.command("ip link add mine type bridge");
    let bridge = host
        .ensure_bridge(&bridge("mine", &["10.9.0.1/24"]))
        .unwrap();
    assert!(!bridge.created && !bridge.ours);
    assert!(
        namespace
            .command("ip addr show mine")
            .contains("10.9.0.1/24")
    );
    assert!(!host.release_bridge(&name("mine"), OWNER).unwrap());
    assert!(host.find_link(&name("mine")).unwrap().is_some());
}

#[test]
fn what_is_no_bridge_is_not_taken_for_one() {
    let (namespace, host) = host();
    namespace.command("ip link add mine type ifb");
    let error = host.ensure_bridge(&bridge("mine", &[])).unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        "interface mine exists and is not a bridge"
    );
}

#[test]
fn a_bridge_that_cannot_be_completed_is_gone() {
    let (_namespace, host) = host();
    let mut plan = bridge("br-bad", &["10.1.0.1/24"]);
    plan.mtu = Some(10);
    let error = host.ensure_bridge(&plan).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert_eq!(host.find_link(&plan.name).unwrap(), None);
    plan.mtu = None;
    plan.addresses = vec![prefix("10.1.0.1/24"), prefix("fd00::1/64")];
    // An IPv6 address on a link without IPv6.
    plan.ipv6 = false;
    let error = host.ensure_bridge(&plan).unwrap_err();
    assert_eq!(error.to_string(), "give br-bad the address fd00::1/64");
    assert_eq!(host.find_link(&plan.name).unwrap(), None);
}

#[test]
fn refusals_carry_the_kernel_s_own_words() {
    let namespace = Namespace::new();
    let error = namespace.run(|| {
        let mut route = Route::open().unwrap();
        let mut batch = Batch::new();
        batch.replace_route(
            prefix("10.0.0.0/8"),
            1,
            "lo",
            Some("192.0.2.1".parse().unwrap()),
        );
        route.execute(batch).unwrap_err()
    });
    assert_eq!(error.to_string(), "route 10.0.0.0/8 by 192.0.2.1 on lo");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("Nexthop has invalid gateway"), "{cause}");
}

#[test]
fn requests_behind_a_refused_one_are_carried_out() {
    let (_namespace, host) = host();
    let made = host.ensure_bridge(&bridge("br0", &[])).unwrap();
    let namespace = host.namespace();
    let mut route = Route::open_in(namespace).unwrap();
    let mut batch = Batch::new();
    batch.add_address(9999, "nothing", prefix("10.0.0.1/24"));
    batch.add_address(made.index, "br0", prefix("10.0.0.2/24"));
    let error = route.execute(batch).unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let addresses = route.addresses().unwrap();
    assert!(
        addresses
            .iter()
            .any(|address| address.prefix == prefix("10.0.0.2/24"))
    );
    // The conversation goes on.
    assert_eq!(route.find_link("nothing").unwrap(), None);
    assert_eq!(route.link("br0").unwrap().index, made.index);
}

#[test]
fn parents_are_found_made_and_removed() {
    let (namespace, host) = host();
    let error = host.ensure_parent(&parent("eth7")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "the parent interface eth7 was not found on this host"
    );
    assert!(matches!(
        host.ensure_parent(&parent("eth7.5")),
        Err(Error::ParentMissing(_))
    ));
    assert!(matches!(
        host.ensure_parent(&parent("lo")),
        Err(Error::ParentLoopback)
    ));

    namespace.command("ip link add eth7 type veth peer name far7");
    namespace.command("ip link set eth7 up mtu 1450");
    let found = host.ensure_parent(&parent("eth7")).unwrap();
    assert!(!found.created);
    assert_eq!(found.mtu, 1450);
    assert!(!host.release_parent(&name("eth7"), OWNER).unwrap());
    assert!(matches!(
        host.ensure_parent(&parent("eth7.4095")),
        Err(Error::ParentName(_))
    ));
}

#[test]
fn vlans_are_made_on_their_interface_and_removed() {
    let (namespace, host) = host();
    if !namespace.offers("vlan") {
        return;
    }
    namespace.command("ip link add eth7 type veth peer name far7");
    assert!(matches!(
        host.ensure_parent(&parent("eth7.10")),
        Err(Error::ParentDown { .. })
    ));
    assert_eq!(host.find_link(&name("eth7.10")).unwrap(), None);
    namespace.command("ip link set eth7 up");
    assert!(host.ensure_parent(&parent("eth7.10")).unwrap().created);
    assert!(!host.ensure_parent(&parent("eth7.10")).unwrap().created);
    let shown = namespace.command("ip -d link show eth7.10");
    assert!(shown.contains("vlan protocol 802.1Q id 10"), "{shown}");
    assert!(shown.contains(",UP"), "{shown}");
    assert!(host.release_parent(&name("eth7.10"), OWNER).unwrap());
    assert_eq!(host.find_link(&name("eth7.10")).unwrap(), None);
}

#[test]
fn a_network_without_a_parent_lies_on_a_dummy_or_is_refused_in_words() {
    let (namespace, host) = host();
    let dummy = ParentPlan::Dummy {
        name: name("dm-0123456789ab"),
        owner: OWNER.to_owned(),
    };
    if !namespace.offers("dummy") {
        let error = host.ensure_parent(&dummy).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("Unknown device type"), "{cause}");
        return;
    }
    assert!(host.ensure_parent(&dummy).unwrap().created);
    assert!(!host.ensure_parent(&dummy).unwrap().created);
    let shown = namespace.command("ip -d link show dm-0123456789ab");
    assert!(shown.contains("dummy"), "{shown}");
    assert!(host.release_parent(dummy.name(), OWNER).unwrap());
    assert!(!host.release_parent(dummy.name(), OWNER).unwrap());
}

#[test]
fn routes_and_sizes_of_the_host_are_told() {
    let (namespace, host) = host();
    assert_eq!(host.routes(&[]).unwrap(), []);
    assert_eq!(host.default_mtu().unwrap(), 1500);
    assert_eq!(host.default_route(true).unwrap(), None);
    let watch = host.watch().unwrap();
    assert!(!watch.drain().unwrap());

    namespace.command("ip link add eth0 type veth peer name far");
    namespace.command("ip link set far up");
    namespace.command("ip link set eth0 up mtu 1380");
    namespace.command("ip addr add 192.0.2.5/24 dev eth0");
    namespace.command("ip addr add 2001:db8::5/64 dev eth0 nodad");
    namespace.command("ip route add 10.8.0.0/13 via 192.0.2.9");
    namespace.command("ip route add 10.77.0.0/16 via 192.0.2.9 table 100");
    namespace.command("ip route add default via 192.0.2.1 metric 100");
    namespace.command("ip route add default via 192.0.2.2 metric 50");
    wait_until("changes are told", || watch.drain().unwrap());
    let routes = host.routes(&[]).unwrap();
    for wanted in [
        "192.0.2.0/24",
        "10.8.0.0/13",
        "10.77.0.0/16",
        "2001:db8::/64",
    ] {
        assert!(routes.contains(&prefix(wanted)), "{wanted} in {routes:?}");
    }
    assert!(routes.iter().all(|route| route.length() > 0), "{routes:?}");
    assert_eq!(host.routes(&[name("eth0")]).unwrap(), []);
    let route = host.default_route(true).unwrap().unwrap();
    assert_eq!(route.gateway, Some("192.0.2.2".parse().unwrap()));
    assert_eq!(route.name, "eth0");
    assert_eq!(host.default_mtu().unwrap(), 1380);
    let addresses = host.addresses().unwrap();
    assert!(
        addresses.contains(&("eth0".to_owned(), prefix("192.0.2.5/24"))),
        "{addresses:?}"
    );
}

#[test]
fn strays_are_told_by_their_mark() {
    let (namespace, host) = host();
    host.ensure_bridge(&bridge("br-1", &[])).unwrap();
    namespace.command("ip link add other type bridge");
    let strays = host.strays("berth network ").unwrap();
    assert_eq!(strays.len(), 1);
    assert_eq!(strays[0].name, name("br-1"));
    assert_eq!(strays[0].kind.as_deref(), Some("bridge"));
    assert_eq!(strays[0].owner, OWNER);
}

#[test]
fn forwarding_is_switched_on_where_it_is_off() {
    let (_namespace, host) = host();
    let changed = host.ensure_forwarding(true, true).unwrap();
    // A fresh namespace may inherit what its maker has.
    let again = host.ensure_forwarding(true, true).unwrap();
    assert!(!again.ipv4 && !again.ipv6, "{changed:?}");
    assert_eq!(host.forwarding().unwrap(), (true, true));
}
