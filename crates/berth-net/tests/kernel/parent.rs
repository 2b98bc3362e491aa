//! Containers whose interfaces lie on an interface of the host: macvlan and ipvlan.

use std::os::fd::AsFd;

use berth_net::address::HardwareAddress;
use berth_net::link::{IpvlanFlag, IpvlanMode, MacvlanMode};
use berth_net::netlink::Namespace as Network;
use berth_net::sandbox::{EndpointKind, EndpointPlan, Gateway, Sandbox};

use crate::link::{host, name, prefix};
use crate::namespace::Namespace;
use crate::sandbox::{must_reach, reaches, show};

#[test]
fn macvlan_links_reach_each_other_by_their_parent() {
    for (mode, siblings_reach) in [(MacvlanMode::Bridge, true), (MacvlanMode::Private, false)] {
        let (namespace, host) = host();
        let peer = Namespace::new();
        namespace.join("eth5", "10.7.0.1/24", &peer, "far", "10.7.0.9/24");
        let mut sandboxes = Vec::new();
        for number in [2, 3] {
            let mut plan = EndpointPlan::new(
                name("eth0"),
                EndpointKind::Macvlan {
                    parent: name("eth5"),
                    mode,
                },
            );
            plan.addresses = vec![prefix(&format!("10.7.0.{number}/24"))];
            plan.hardware_address = Some(HardwareAddress([2, 0x42, 10, 7, 0, number]));
            plan.gateway_ipv4 = Some(Gateway::Address("10.7.0.9".parse().unwrap()));
            plan.announce = true;
            let mut sandbox = Sandbox::new().unwrap();
            sandbox.attach(&host, &plan).unwrap();
            sandboxes.push(sandbox);
        }
        let [one, two] = [sandboxes[0].namespace(), sandboxes[1].namespace()];
        let far = Network::from_descriptor(peer.as_fd().try_clone_to_owned().unwrap()).unwrap();
        must_reach(one, &far, "10.7.0.9");
        assert_eq!(reaches(one, two, "10.7.0.3"), siblings_reach, "{mode:?}");
    }
}

#[test]
fn passthru_takes_the_parent_for_itself() {
    let (namespace, host) = host();
    namespace.command("ip link add eth5 type veth peer name far5");
    let plan = |interface: &str| {
        EndpointPlan::new(
            name(interface),
            EndpointKind::Macvlan {
                parent: name("eth5"),
                mode: MacvlanMode::Passthru,
            },
        )
    };
    let mut sandbox = Sandbox::new().unwrap();
    sandbox.attach(&host, &plan("eth0")).unwrap();
    assert!(sandbox.attach(&host, &plan("eth1")).is_err());
    assert_eq!(sandbox.links().unwrap().len(), 2);
}

#[test]
fn ipvlan_links_of_all_layers_reach_each_other() {
    for mode in [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s] {
        let (namespace, host) = host();
        if !namespace.offers("ipvlan") {
            return;
        }
        namespace.command("ip link add eth5 type veth peer name far5");
        namespace.command("ip link set far5 up");
        namespace.command("ip link set eth5 up");
        let mut sandboxes = Vec::new();
        for number in [2, 3] {
            let mut plan = EndpointPlan::new(
                name("eth0"),
                EndpointKind::Ipvlan {
                    parent: name("eth5"),
                    mode,
                    flag: IpvlanFlag::Bridge,
                },
            );
            plan.addresses = vec![
                prefix(&format!("10.7.0.{number}/24")),
                prefix(&format!("fd00:7::{number}/64")),
            ];
            plan.gateway_ipv4 = Some(Gateway::OnLink);
            plan.gateway_ipv6 = Some(Gateway::OnLink);
            plan.announce = true;
            let mut sandbox = Sandbox::new().unwrap();
            sandbox.attach(&host, &plan).unwrap();
            assert!(show(&sandbox, "ip -6 route").contains("default dev eth0"));
            sandboxes.push(sandbox);
        }
        assert!(
            show(&sandboxes[0], "ip route").contains("default dev eth0 proto static scope link")
        );
        let [one, two] = [sandboxes[0].namespace(), sandboxes[1].namespace()];
        must_reach(one, two, "10.7.0.3");
        must_reach(one, two, "fd00:7::3");
    }
}
