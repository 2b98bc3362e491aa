//! A container's places in networks: addresses, interfaces, ways out, coming and going.

use super::*;

#[test]
fn containers_speak_ipv4_ipv6_or_both() {
    let site = Site::new();
    site.run("network create --ipv6 --subnet 10.40.0.0/24 --subnet fd00:40::/64 dual");
    site.run("network create --ipv6 --ipv4=false --subnet fd00:60::/64 six");
    site.run("run -d --name aa --network dual --ip 10.40.0.9 --ip6 fd00:40::9 busybox sleep 1000");
    site.run("run -d --name bb --network six busybox sleep 1000");
    site.run("run -d --name cc --network six busybox sleep 1000");
    assert_eq!(site.address("aa", "dual"), "10.40.0.9");
    site.run("exec aa ping -c 1 -W 5 198.51.100.2");
    site.run("exec aa ping -6 -c 1 -W 5 2001:db8::2");
    site.run("exec bb ping -6 -c 1 -W 5 2001:db8::2");
    site.run("exec bb ping -6 -c 1 -W 5 cc");
    let addresses = site.run("exec bb ip -o -4 address show eth0");
    assert_eq!(addresses, "");
    site.run(&format!(
        "run -d --name web -h web --network six -p 8080:80 busybox {PAGES}"
    ));
    until_page(&site.outside, "http://[2001:db8::1]:8080", "web");
    assert_eq!(site.run("port web"), "80/tcp -> [::]:8080");
}

#[test]
fn the_way_out_follows_priorities() {
    let site = Site::new();
    for (name, subnet) in [("a", "10.41.0.0/24"), ("b", "10.42.0.0/24")] {
        site.run(&format!("network create --subnet {subnet} {name}"));
    }
    site.run("network create --internal shut");
    let out = || {
        let routes = site.run("exec box ip route");
        let default = routes.lines().find(|l| l.starts_with("default"));
        let mut words = default.unwrap_or_default().split_whitespace();
        words.nth(2).unwrap_or_default().to_owned()
    };
    site.run("run -d --name box --network a --network name=b,gw-priority=5 --network shut busybox sleep 1000");
    assert_eq!(out(), "10.42.0.1");
    site.run("network disconnect b box");
    assert_eq!(out(), "10.41.0.1");
    site.run("network connect --gw-priority=-1 b box");
    assert_eq!(out(), "10.41.0.1");
    site.run("network disconnect a box");
    assert_eq!(out(), "10.42.0.1");
    site.run("network disconnect b box");
    assert_eq!(out(), "", "an internal network leads nowhere");
    site.run("exec box ip link show eth2");
}

#[test]
fn interfaces_are_named_and_set_as_asked() {
    let site = Site::new();
    site.run("network create front");
    site.run(
        "run -d --name box --mac-address 02:00:00:00:00:17 --network \
         name=front,driver-opt=com.docker.network.endpoint.ifname=lan7,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1 \
         busybox sleep 1000",
    );
    let link = site.run("exec box ip link show lan7");
    assert!(link.contains("02:00:00:00:00:17"), "{link}");
    let set = site.run("exec box cat /proc/sys/net/ipv4/conf/lan7/log_martians");
    assert_eq!(set.trim(), "1");
    let before = site.things();
    let bad = site.daemon.berth(
        "run --rm --network name=front,driver-opt=com.docker.network.endpoint.ifname=lo busybox true",
    );
    assert_eq!(bad.code(), 125, "{}", bad.stderr);
    wait::until("nothing is left", || site.things() == before);
}

#[test]
fn a_container_comes_and_goes_many_times() {
    let site = Site::new();
    site.run("network create front");
    site.run("network create back");
    site.run("run -d --name peer --network back busybox sleep 1000");
    site.run("run -d --name box --network front busybox sleep 1000");
    let before = site.things();
    for _ in 0..10 {
        site.run("network connect back box");
        site.run("exec box ping -c 1 -W 5 peer");
        site.run("network disconnect back box");
    }
    wait::until("nothing is left", || site.things() == before);
    // Restarts give the same address to who asked for it, and names to all.
    site.run("restart -t 0 peer");
    site.run("network connect back box");
    site.run("exec box ping -c 1 -W 5 peer");
}

#[test]
fn who_is_gone_leaves_by_force() {
    let site = Site::new();
    site.run("network create front");
    site.run("run -d --name box --network front busybox sleep 1000");
    site.run("stop -t 0 box");
    site.run("network disconnect -f front box");
    site.run("rm box");
    // Neither the container nor its place is there any more.
    let gone = site.daemon.berth("network disconnect -f front box");
    assert!(gone.stderr.contains("No such container"), "{}", gone.stderr);
    site.run("network rm front");
}

#[test]
fn links_of_the_default_bridge() {
    let site = Site::with(&["--icc=false"]);
    site.run(&format!(
        "run -d --name db -h db --expose 80 -e MODE=fast busybox {PAGES}"
    ));
    site.run("run -d --name web --link db:store busybox sleep 1000");
    site.run("run -d --name other busybox sleep 1000");
    let address = site.address("db", "bridge");
    let get = |from: &str, host: &str| {
        site.daemon.berth(&format!(
            "exec {from} timeout 3 wget -q -O - http://{host}/"
        ))
    };
    wait::until("the link leads there", || {
        get("web", "store").text().trim() == "db"
    });
    assert_ne!(get("other", &address).code(), 0, "members are kept apart");
    let variables = site.run("run --rm --link db:store busybox env");
    for expected in [
        format!("STORE_PORT=tcp://{address}:80"),
        format!("STORE_PORT_80_TCP_ADDR={address}"),
        "STORE_ENV_MODE=fast".to_owned(),
    ] {
        assert!(variables.lines().any(|v| v == expected), "{variables}");
    }
    // After a restart of the daemon, and of the one that is linked to.
    let mut site = site;
    site.daemon.crash_and_restart();
    let get = |from: &str, host: &str| {
        site.daemon.berth(&format!(
            "exec {from} timeout 3 wget -q -O - http://{host}/"
        ))
    };
    assert_eq!(get("web", "store").text().trim(), "db");
    // It comes back under another address, which the linked one is told.
    site.run("exec web sh -c 'echo 192.0.2.7 mine >>/etc/hosts'");
    site.run("stop -t 0 db");
    site.run("run -d --name taker busybox sleep 1000");
    site.run("start db");
    assert_ne!(site.address("db", "bridge"), address);
    let address = site.address("db", "bridge");
    wait::until("the link leads there again", || {
        get("web", "store").text().trim() == "db"
    });
    let hosts = site.run("exec web cat /etc/hosts");
    assert_eq!(hosts.matches("store db").count(), 1, "{hosts}");
    assert!(hosts.contains("192.0.2.7 mine"), "{hosts}");
    assert_ne!(get("other", &address).code(), 0);
    site.run("rm -f web");
    site.run("run -d --name web busybox sleep 1000");
    assert_ne!(get("web", &address).code(), 0, "without a link");
}

#[test]
fn bridges_follow_the_hosts_way_out() {
    let site = Site::new();
    site.run("network create front");
    site.run("network create -o com.docker.network.driver.mtu=1300 own");
    site.run("run --rm busybox true");
    site.host.run("ip link set up0 mtu 1400").ok();
    let mtu = |network: &str| {
        let asked = format!("run --rm --network {network} busybox cat /sys/class/net/eth0/mtu");
        site.run(&asked).trim().to_owned()
    };
    for network in ["bridge", "front"] {
        wait::until(&format!("{network} follows"), || mtu(network) == "1400");
    }
    let bridges = site.host.run("ip -o link show type bridge").ok();
    let with = |mtu: &str| bridges.text().matches(&format!(" mtu {mtu} ")).count();
    assert_eq!((with("1400"), with("1300")), (2, 1), "{}", bridges.text());
    assert_eq!(mtu("own"), "1300");
    // What the host has a way to, a new network does not take.
    site.host
        .run("ip route add 172.18.0.0/16 via 198.51.100.2")
        .ok();
    site.host
        .run("ip route add 172.19.0.0/16 via 198.51.100.2")
        .ok();
    site.run("network create late");
    let late = site.run("network inspect -f '{{(index .IPAM.Config 0).Subnet}}' late");
    assert!(
        !late.starts_with("172.18.") && !late.starts_with("172.19."),
        "{late}"
    );
}

#[test]
fn who_has_no_bridge_makes_nothing_on_the_host() {
    let site = Site::new();
    site.run("run --rm --network none busybox true");
    site.run("run --rm --network host busybox true");
    let links = site.host.links();
    assert_eq!(links, ["lo", "up0"], "nothing is made ahead");
    site.run("run --rm busybox true");
    wait::until("pairs are ready", || {
        site.host.links().iter().any(|l| l.starts_with("vethp"))
    });
}
