//! Drivers that need a parent. What the kernel of a machine does not have is said, and not shown.

use super::*;

/// Whether the kernel makes links of this kind.
fn has(site: &Site, kind: &str, more: &str) -> bool {
    let made = site
        .host
        .run(&format!(
            "ip link add link up0 name probe0 type {kind} {more}"
        ))
        .code()
        == 0;
    drop(site.host.run("ip link delete probe0"));
    needs::feature(kind, made)
}

#[test]
fn parents_lead_to_the_hosts_own_network() {
    let site = Site::new();
    for (kind, driver, mode) in [
        ("macvlan", "macvlan", "-o macvlan_mode=bridge"),
        ("ipvlan", "ipvlan", "-o ipvlan_mode=l2"),
    ] {
        if !has(&site, kind, "") {
            continue;
        }
        site.run(&format!(
            "network create -d {driver} -o parent=up0 {mode} --subnet 198.51.100.0/24 --gateway 198.51.100.2 --ip-range 198.51.100.64/26 lan"
        ));
        site.run("run -d --name aa --network lan busybox sleep 1000");
        site.run("run -d --name bb --network lan busybox sleep 1000");
        site.run("exec aa ping -c 1 -W 5 bb");
        site.run("exec aa ping -c 1 -W 5 198.51.100.2");
        let address = site.address("aa", "lan");
        site.outside
            .run(&format!("busybox ping -c 1 -W 5 {address}"))
            .ok();
        site.run("rm -f aa bb");
        site.run("network rm lan");
        wait::until("nothing is left", || site.things().is_empty());
    }
}

#[test]
fn a_vlan_comes_and_goes_with_its_network() {
    let site = Site::new();
    if !has(&site, "vlan", "id 9") || !has(&site, "macvlan", "") {
        return;
    }
    site.run("network create -d macvlan -o parent=up0.7 --subnet 10.72.0.0/24 vlan7");
    assert!(site.host.links().contains(&"up0.7".to_owned()));
    site.run("network rm vlan7");
    wait::until("the VLAN is gone", || {
        !site.host.links().contains(&"up0.7".to_owned())
    });
}
